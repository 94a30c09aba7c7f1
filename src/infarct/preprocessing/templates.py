"""The b0 template for registration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from infarct.core import assets
from infarct.core.diffusion import Mask
from infarct.core.geometry import MNI_GRID, Grid
from infarct.core.nifti import Volume, read
from infarct.core.resampling import resample

_AFFINE = MNI_GRID.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
_AFFINE[:3, 3] += 0.5
TEMPLATE_GRID = Grid((96, 112, 96), _AFFINE)
"""Grid of the template, 2 mm; each voxel covers 2 x 2 x 2 voxels of the MNI grid."""


@dataclass(frozen=True, eq=False)
class Template:
    """The template for registration.

    Attributes:
        b0: Average b0, (96, 112, 96), white matter about 1.
        brain: (96, 112, 96) brain mask, bool.
    """

    b0: Volume
    brain: Mask

    @cached_property
    def brain_at_1mm(self) -> Mask:
        """Brain mask on the MNI grid, (192, 224, 192) bool."""
        share = Volume(self.brain.astype(np.float32), self.b0.affine)
        brain: Mask = resample(share, MNI_GRID) >= 0.5
        brain.setflags(write=False)  # shared by all scans
        return brain


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Load the b0 template and its brain mask."""
    brain = read(assets.path("templates/brain")).data > 0.5
    return Template(read(assets.path("templates/b0")), brain)
