"""Findings about a scan and its result: stable codes and their consequences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Level = Literal["note", "warning"]

_NOTE: tuple[Level, ...] = ("note",)
_WARNING: tuple[Level, ...] = ("warning",)
_EITHER: tuple[Level, ...] = ("note", "warning")

_DAMAGED = (
    "Voxels inside the brain are missing or damaged, so no confidence is reported: export the "
    "images again."
)
_HEAD = (
    "The head could not be aligned well with the template, so no confidence is reported and part "
    "of the brain may not have been examined: review every slice, and provide a brain mask with "
    "--brain."
)
_IMAGES = "The images are misaligned, so no confidence is reported: align them first."
_TYPE = (
    "An image may be of another type than stated, so no confidence is reported: check the input "
    "images."
)
_ADC = (
    "The ADC is implausible, so no confidence is reported: check the b-value, and that DWI, b0 and "
    "ADC come from the same scan and DWI and b0 were not scaled separately."
)
_OFFSET = (
    "A constant may have been added to an image, so no confidence is reported: give the original "
    "magnitude images."
)


class FindingCode(StrEnum):
    """Stable code of a finding; the value is what `summary.json` holds.

    Every rule that depends on the kind of a finding is a property here, so that no other module
    keeps a list of codes.

    Attributes:
        levels: Levels that a finding of this kind may have.
        void_reason: Sentence that tells the reader why no calibrated confidence applies under a
            warning of this kind; empty if it still does.
        about_mask: Whether it describes the lesion mask, so that correcting the mask makes it
            obsolete.
    """

    levels: tuple[Level, ...]
    void_reason: str
    about_mask: bool

    def __new__(
        cls,
        value: str,
        levels: tuple[Level, ...] = _WARNING,
        void_reason: str = "",
        about_mask: bool = False,
    ) -> FindingCode:
        """Attach the properties to the string."""
        code = str.__new__(cls, value)
        code._value_ = value
        code.levels, code.void_reason, code.about_mask = levels, void_reason, about_mask
        return code

    @property
    def severity(self) -> Level:
        """The most severe level that a finding of this kind may have."""
        return self.levels[-1]

    @property
    def voids_confidence(self) -> bool:
        """Whether no calibrated confidence applies under a warning of this kind."""
        return bool(self.void_reason)

    # Files and headers
    ORIENTATION_UNKNOWN = "orientation-unknown", _WARNING
    SFORM_QFORM_MISMATCH = "sform-qform-mismatch", _EITHER
    RESAMPLED = "resampled", _NOTE
    PARTIAL_COVERAGE = "partial-coverage", _WARNING
    SERIES_SPLIT = "series-split", _NOTE
    SERIES_WITHOUT_B0 = "series-without-b0", _NOTE
    FORM_CODE_INVALID = "form-code-invalid", _WARNING
    OFFSET_REPAIRED = "offset-repaired", _WARNING
    TRAILING_BYTES = "trailing-bytes", _WARNING
    BITPIX_MISMATCH = "bitpix-mismatch", _WARNING
    VOXEL_SIZE_MISMATCH = "voxel-size-mismatch", _WARNING
    UNIT_IMPLAUSIBLE = "unit-implausible", _WARNING
    UNIT_UNKNOWN = "unit-unknown", _WARNING
    UNIT_CONVERTED = "unit-converted", _NOTE
    EMPTY_VOLUMES = "empty-volumes", _WARNING
    BVALUE_ASSUMED = "bvalue-assumed", _NOTE
    BVALUE_FROM_FILE = "bvalue-from-file", _NOTE
    BVALUE_OVERRIDDEN = "bvalue-overridden", _WARNING
    BVALUE_MISMATCH = "bvalue-mismatch", _WARNING
    BVALUE_UNUSUAL = "bvalue-unusual", _WARNING
    BVALUE_INCONSISTENT = "bvalue-inconsistent", _WARNING
    # Voxel values
    NON_FINITE_VOXELS = "non-finite-voxels", _WARNING
    NEGATIVE_VOXELS = "negative-voxels", _EITHER
    INVALID_VOXELS = "invalid-voxels", _WARNING, _DAMAGED
    EMPTY_SLICES = "empty-slices", _WARNING, _DAMAGED
    REPEATED_SLICES = "repeated-slices", _WARNING, _DAMAGED
    OVERFLOW = "overflow", _WARNING, _DAMAGED
    SATURATED = "saturated", _EITHER, _DAMAGED
    ADC_MISSING = "adc-missing", _EITHER, _DAMAGED
    BACKGROUND_BRIGHT = "background-bright", _WARNING, _OFFSET
    # Image types and consistency
    IMAGE_TYPE = "image-type", _WARNING, _TYPE
    ADC_UNIT_CONVERTED = "adc-unit-converted", _NOTE
    ADC_UNUSUAL = "adc-unusual", _WARNING, _ADC
    ADC_INCONSISTENT = "adc-inconsistent", _WARNING
    B0_COMPUTED = "b0-computed", _NOTE
    MISALIGNED = "misaligned", _WARNING, _IMAGES
    # Brain and registration
    BRAIN_VOLUME_UNUSUAL = "brain-volume-unusual", _WARNING
    BRAIN_CROPPED = "brain-cropped", _WARNING
    BRAIN_BY_THRESHOLD = "brain-by-threshold", _WARNING
    REGISTRATION_UNUSUAL = "registration-unusual", _WARNING
    REGISTRATION_POOR = "registration-poor", _WARNING, _HEAD
    DWI_PEAK_FIT_FAILED = "dwi-peak-fit-failed", _WARNING
    ADC_PEAK_FIT_FAILED = "adc-peak-fit-failed", _WARNING
    NO_AFFINE_REFINEMENT = "no-affine-refinement", _NOTE
    # The lesion mask
    ADC_NOT_LOW = "adc-not-low", _WARNING, "", True
    LESION_VERY_LARGE = "lesion-very-large", _WARNING, "", True
    SECOND_METHOD_DISAGREES = "second-method-disagrees", _EITHER, "", True
    MASK_CONTRADICTS_PROBABILITY = "mask-contradicts-probability", _WARNING, "", True
    MASK_UNRELIABLE = "mask-unreliable", _WARNING, "", True
    CANDIDATES_REJECTED = "candidates-rejected", _NOTE, "", True
    FILTER_NOT_APPLIED = "filter-not-applied", _WARNING, "", True
    ASYMMETRY = "asymmetry", _WARNING, "", True
    ASPECTS_COVERAGE = "aspects-coverage", _NOTE, "", True
    MASK_OUTSIDE_BRAIN = "mask-outside-brain", _WARNING, "", True
    # The method
    METHOD = "method", _NOTE
    ENGINE = "engine", _NOTE
    # DICOM
    DICOM_SERIES = "dicom-series", _NOTE
    DICOM_ADC = "dicom-adc", _WARNING
    DICOM_BVALUES = "dicom-bvalues", _NOTE
    DICOM_CANDIDATES = "dicom-candidates", _NOTE
    DICOM_STUDIES = "dicom-studies", _WARNING
    DICOM_UNUSABLE = "dicom-unusable", _WARNING
    DICOM_SPACING = "dicom-spacing", _WARNING
    DICOM_B0_BY_SIGNAL = "dicom-b0-by-signal", _WARNING
    DICOM_UNREADABLE = "dicom-unreadable", _WARNING
    DICOM_OTHER_FILES = "dicom-other-files", _NOTE


@dataclass(frozen=True)
class Finding:
    """A remark about a scan or its result.

    Attributes:
        code: Stable code, for programs.
        level: `note` for a decision that was made, `warning` for a reason to doubt the result.
        message: One or two sentences for the user.

    Raises:
        ValueError: If the code is unknown or does not allow this level.
    """

    code: FindingCode
    level: Level
    message: str

    def __post_init__(self) -> None:
        code = FindingCode(self.code)
        if self.level not in code.levels:
            raise ValueError(f"a finding with code {code} is never a {self.level}")
        object.__setattr__(self, "code", code)


def void_reason(findings: Iterable[Finding]) -> str:
    """Return why no calibrated confidence applies to a scan, or an empty string if it does.

    Args:
        findings: Findings of the scan.
    """
    warnings = (finding for finding in findings if finding.level == "warning")
    return next((each.code.void_reason for each in warnings if each.code.void_reason), "")


def stored_code(text: str) -> FindingCode | None:
    """Return the code of a stored finding, or None if another version wrote it.

    Args:
        text: The `code` in `summary.json`.
    """
    try:
        return FindingCode(text)
    except ValueError:
        return None
