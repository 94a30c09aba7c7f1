"""Preprocessing of a scan on the MNI grid, and the way back to the native grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from infarct.core.diffusion import Image, Mask
from infarct.core.findings import Finding
from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume
from infarct.core.normalisation import TissuePeak, fit_tissue_peak, normalise
from infarct.core.resampling import resample
from infarct.core.step_timer import StepTimer
from infarct.inference.network import Network
from infarct.preprocessing import checks
from infarct.preprocessing.brain_network import brain_mask
from infarct.preprocessing.case import Case
from infarct.preprocessing.registration import Registration, register
from infarct.preprocessing.skull_strip import BrainMethod
from infarct.preprocessing.templates import Template

_REACH_MM = 14
"""Largest distance of the brain from that of the template; farther voxels of a threshold mask are
leakage."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A preprocessed scan on the MNI grid, all images (192, 224, 192).

    Attributes:
        dwi: Diffusion-weighted signal.
        b0: Signal without diffusion weighting.
        adc: mm^2/s.
        brain: Brain mask, bool.
        brain_native: (X, Y, Z) brain mask on the grid of the scan, bool.
        brain_method: How the brain mask was obtained.
        dwi_peak: Tissue peak of the DWI, in signal units.
        adc_peak: Tissue peak of the ADC, mm^2/s.
        registration: Registration of the scan to the template.
        findings: Findings of the preprocessing.
    """

    dwi: Image
    b0: Image
    adc: Image
    brain: Mask
    brain_native: Mask
    brain_method: BrainMethod
    dwi_peak: TissuePeak
    adc_peak: TissuePeak
    registration: Registration
    findings: tuple[Finding, ...]

    @cached_property
    def dwi_normalised(self) -> Image:
        """DWI scaled so that the tissue peak has mean 0 and SD 1."""
        return normalise(self.dwi, self.dwi_peak)

    @cached_property
    def adc_normalised(self) -> Image:
        """ADC scaled so that the tissue peak has mean 0 and SD 1."""
        return normalise(self.adc, self.adc_peak)


def preprocess(
    case: Case,
    template: Template,
    brain_network: Network | None = None,
    timer: StepTimer | None = None,
) -> Prepared:
    """Register a scan to MNI space, find its brain, and normalise its intensities.

    Args:
        case: The scan.
        template: Template to register to.
        brain_network: Skull-stripping network; if None, the threshold mask is used. A brain mask
            that came with the scan is never replaced.
        timer: Records the duration of each step.

    Returns:
        The preprocessed scan.

    Raises:
        RegistrationError: If the registration fails.
        ContentError: If almost no brain is left on the template.
    """
    timer = timer or StepTimer()
    with timer.step("register"):
        registration = register(case.b0, case.brain, template.b0, template.brain)
    with timer.step("resample"):
        images = (case.dwi.data, case.b0.data, case.adc.data)
        dwi, b0, adc = (to_mni(image, case, registration) for image in images)
    findings = []
    with timer.step("brain mask"):
        brain_native, brain_method = case.brain, case.brain_method
        if brain_method == "threshold":
            brain_native = brain_native & _within_reach(template, case, registration)
        brain: Mask = to_mni(brain_native.astype(np.float32), case, registration) >= 0.5
        if brain_method == "threshold" and brain_network is not None:
            candidate = brain_mask(brain_network, {"DWI": dwi, "b0": b0})
            problems = checks.check_network_brain(candidate, brain, template.brain_at_1mm)
            findings += problems
            if not problems:
                share = Volume(candidate.astype(np.float32), MNI_GRID.affine)
                brain_native = restore(share, case, registration) >= 0.5
                brain = to_mni(brain_native.astype(np.float32), case, registration) >= 0.5
                brain_method = "network"
        checks.check_brain_is_left(brain)
    with timer.step("normalise"):
        dwi_peak, adc_peak = fit_tissue_peak(dwi, brain), fit_tissue_peak(adc, brain)
    findings += [
        *checks.check_brain(
            brain_native, case.dwi.grid, case.slice_axis, scanned=case.dwi.data > 0
        ),
        *checks.check_registration(registration, brain, template.brain_at_1mm),
        *checks.check_peaks(dwi_peak, adc_peak),
    ]
    return Prepared(
        dwi=dwi,
        b0=b0,
        adc=adc,
        brain=brain,
        brain_native=brain_native,
        brain_method=brain_method,
        dwi_peak=dwi_peak,
        adc_peak=adc_peak,
        registration=registration,
        findings=tuple(findings),
    )


def to_mni(image: Image, case: Case, registration: Registration) -> Image:
    """Resample an image from the native grid to the MNI grid.

    Args:
        image: (X, Y, Z) on the grid of the DWI, float.
        case: The scan.
        registration: Registration of the scan, from `preprocess`.

    Returns:
        (192, 224, 192), linearly interpolated.
    """
    native_from_mni = np.linalg.inv(registration.mni_from_native)
    return resample(case.dwi.like(image), MNI_GRID, native_from_mni)


def restore(image_mni: Volume, case: Case, registration: Registration) -> Image:
    """Resample an image from MNI space back to the native grid.

    Args:
        image_mni: Probability or fraction on any grid in MNI space, float.
        case: The scan.
        registration: Registration of the scan, from `preprocess`.

    Returns:
        (X, Y, Z) on the grid of the DWI, linearly interpolated.
    """
    return resample(image_mni, case.dwi.grid, registration.mni_from_native)


def _within_reach(template: Template, case: Case, registration: Registration) -> Mask:
    """Return the voxels of the scan that lie near the brain of the template."""
    step = float(template.b0.grid.spacing[0])
    wide = ndimage.binary_dilation(template.brain, iterations=round(_REACH_MM / step))
    volume = Volume(wide.astype(np.float32), template.b0.affine)
    near: Mask = resample(volume, case.dwi.grid, registration.mni_from_native) >= 0.5
    return near
