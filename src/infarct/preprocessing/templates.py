"""The template brain to register to."""

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
"""2 mm; each voxel covers a block of 2 x 2 x 2 voxels of the MNI grid."""


@dataclass(frozen=True, eq=False)
class Template:
    """What the registration aims at.

    Attributes:
        b0: Average b0, (96, 112, 96), white matter about 1.
        brain: (96, 112, 96) bool.
    """

    b0: Volume
    brain: Mask

    @cached_property
    def brain_at_1mm(self) -> Mask:
        """The brain on the MNI grid."""
        share = Volume(self.brain.astype(np.float32), self.b0.affine)
        brain: Mask = resample(share, MNI_GRID) >= 0.5
        brain.setflags(write=False)  # every scan is compared with this one
        return brain


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Load the b0 template and its brain."""
    brain = read(assets.path("templates/brain")).data > 0.5
    return Template(read(assets.path("templates/b0")), brain)
