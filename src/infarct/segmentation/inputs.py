"""What segmentation methods read, each computed when the first method needs it."""

from __future__ import annotations

from functools import cached_property

from infarct.core.diffusion import Image
from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume
from infarct.preprocessing.case import Case
from infarct.preprocessing.preprocess import Prepared
from infarct.segmentation.classical import is_map
from infarct.segmentation.controls import load_healthy
from infarct.segmentation.measured_slices import MeasuredSlices, measured_slices


class MethodInputs:
    """The inputs of all methods for one scan.

    Args:
        case: Input images.
        prepared: The preprocessed scan.
    """

    def __init__(self, case: Case, prepared: Prepared) -> None:
        self.case = case
        self.prepared = prepared

    @cached_property
    def is_map_mni(self) -> Image:
        """(192, 224, 192) modified c-fuzzy map on the MNI grid, for the methods of the paper."""
        scan = (self.prepared.dwi_normalised, self.prepared.adc_normalised, self.prepared.brain)
        return is_map(*scan, load_healthy())

    @cached_property
    def slices(self) -> MeasuredSlices:
        """The scan on its measured slices."""
        return measured_slices(self.case, self.prepared)

    def is_map(self, *, on_slices: bool) -> Volume:
        """Return the modified c-fuzzy map on the measured slices or on the MNI grid."""
        return self.slices.is_map if on_slices else Volume(self.is_map_mni, MNI_GRID.affine)
