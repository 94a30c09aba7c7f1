"""Tissue classes of the head models. The simulator depends on nothing else about an anatomy."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

ClassMap = NDArray[np.uint8]


class Tissue(IntEnum):
    """Tissue class of a voxel."""

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
"""First and last class of brain parenchyma (inclusive range)."""

RIM_SHIFT = 32
"""The code of an anatomy is tissue + 32 x rim. Rims let the simulator add or remove atrophy.

Rim 1 of cortex is within 1 mm of outer CSF. Rims 2 - 4 of parenchyma are within 1, 2 and 3 mm of a
ventricle. Rims 1 - 2 of CSF are within 1 and 2 mm of cortex. Rims 1 - 3 of a ventricle are within
1, 2 and 3 mm of parenchyma.
"""
