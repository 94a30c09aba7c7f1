"""The classes a head is made of; all that the scanner needs to know of how anatomies were made."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

ClassMap = NDArray[np.uint8]


class Tissue(IntEnum):
    """What a voxel of a head is made of."""

    AIR = 0
    CSF = 1
    CORTEX = 2
    WHITE = 3
    DEEP_GREY = 4
    BRAINSTEM = 5
    CEREBELLAR_WHITE = 6
    CEREBELLAR_CORTEX = 7
    VENTRICLE = 8
    CHOROID_PLEXUS = 9
    VESSEL = 10
    MUSCLE = 11
    SKIN = 12
    BONE = 13
    MARROW = 14
    EYE = 15
    MUCOSA = 16
    CORD = 17


PARENCHYMA = (Tissue.CORTEX, Tissue.CEREBELLAR_CORTEX)
"""First and last class of brain parenchyma; all between belong to it."""

RIM_SHIFT = 32
"""An anatomy's code is tissue + 32 x rim; rims let brains age, and grow young again.

Rim 1 of cortex lies within 1 mm of outer CSF; rims 2 - 4 of parenchyma lie within 1, 2, 3 mm of a
ventricle; rims 1 - 2 of CSF lie within 1, 2 mm of cortex; rims 1 - 3 of a ventricle lie within
1, 2, 3 mm of parenchyma.
"""
