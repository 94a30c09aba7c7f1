"""The run of one scan: check the destination, open the scan, segment, measure, and write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

import numpy as np

from infarct.core.diffusion import Mask, scanned_slices
from infarct.core.findings import Finding, FindingCode, void_reason
from infarct.core.step_timer import Listener, StepTimer
from infarct.inference.network import load_network
from infarct.measurement.anatomy import find_anatomy
from infarct.measurement.atlas import Atlas
from infarct.measurement.volumetry import Measurements, measure
from infarct.preprocessing.case import Case, CaseFiles
from infarct.preprocessing.load import open_case
from infarct.preprocessing.preprocess import Prepared, preprocess
from infarct.preprocessing.registration import refine
from infarct.preprocessing.templates import load_template
from infarct.reporting.case_label import CaseLabel
from infarct.reporting.writer import destination, write_results
from infarct.segmentation.measured_slices import onto_slices
from infarct.segmentation.models import BRAIN_NETWORK, DEFAULT, Model, get_model
from infarct.segmentation.predict import (
    SECOND_METHOD,
    Prediction,
    candidate_evidence,
    measurement_images,
    predict,
)
from infarct.segmentation.result import Segmentation
from infarct.uncertainty.asymmetry import Asymmetry, asymmetry_beyond, asymmetry_findings
from infarct.uncertainty.candidate_filter import filter_candidates
from infarct.uncertainty.result_checks import (
    engine_findings,
    filter_findings,
    lesion_findings,
    localization_findings,
    score_findings,
)
from infarct.uncertainty.second_method import compare_methods, second_method_findings

File = str | PathLike[str]

_STEPS = (
    "read and check",
    "register",
    "resample",
    "brain mask",
    "normalise",
    "cfuzzy map",
    "segment",
    "second method",
    "refine registration",
    "measure",
    "locate",
    "compare hemispheres",
    "write",
)
"""All steps of a run, in order."""


@dataclass(frozen=True)
class RunRequest:
    """One scan to segment, and where to write the result.

    Attributes:
        files: Input files.
        out: Output folder; nothing is written if None.
        model: Name of the method, optionally with an operating point.
        territories: Atlas for the territory table; the bundled atlas if None.
        overwrite: Replace an unchanged earlier result in `out`.
        overwrite_corrected: Replace it even if it was corrected manually or contains other files.
        command: Command-line arguments, for the manifest.
        label: Identifies the case in the report; the name of the output folder if None.
        keep_mni: Write the scan and the maps in MNI space.
        findings: Findings about the origin of the files, reported before all others.
        seconds: Seconds of the steps that were done before, such as the conversion from DICOM.
        add: Called with the result and the output folder before it is published, to add files.
    """

    files: CaseFiles
    out: Path | None = None
    model: str = DEFAULT
    territories: Atlas | None = None
    overwrite: bool = False
    overwrite_corrected: bool = False
    command: Sequence[str] = ()
    label: CaseLabel | None = None
    keep_mni: bool = True
    findings: tuple[Finding, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    add: Callable[[Segmentation, Path], object] = lambda *_: None


def run(request: RunRequest, listener: Listener = lambda _: None) -> Segmentation:
    """Check the destination, open the scan, segment it, and write the result.

    Args:
        request: The scan and where to write the result.
        listener: Called with the name and number of each step as it starts.

    Returns:
        Masks, maps and measurements in the native space of the scan.

    Raises:
        InfarctError: A subclass that describes the problem and its remedy. Nothing was written.
    """
    out = request.out
    planned = planned_steps(get_model(request.model), written=out is not None)
    timer = StepTimer(listener, (*request.seconds, *planned), dict(request.seconds))
    if out is None:
        return _open_and_segment(request, timer)
    may = {"overwrite": request.overwrite, "overwrite_corrected": request.overwrite_corrected}
    with destination(out, request.files.paths().values(), **may):
        result = _open_and_segment(request, timer)
        with timer.step("write"):
            write_results(
                result,
                out,
                command=request.command,
                label=request.label,
                keep_mni=request.keep_mni,
                add=lambda folder: request.add(result, folder),
                **may,
            )
    return result


def planned_steps(model: Model, *, written: bool = True) -> tuple[str, ...]:
    """Return the names of the steps of a run, in order.

    Args:
        model: The method; only networks are compared with a second method.
        written: Whether the result is written.
    """
    left_out = {
        *(() if model.networks else ("second method",)),
        *(() if written else ("write",)),
    }
    return tuple(step for step in _STEPS if step not in left_out)


def _open_and_segment(request: RunRequest, timer: StepTimer) -> Segmentation:
    with timer.step("read and check"):
        case = open_case(request.files)
    case = replace(case, findings=(*request.findings, *case.findings))
    return segment_case(case, request.model, timer, request.territories)


def segment_case(
    case: Case,
    model: str = DEFAULT,
    timer: StepTimer | None = None,
    territories: Atlas | None = None,
) -> Segmentation:
    """Segment and measure the acute ischemic lesions of one scan.

    Args:
        case: Input images from `open_case`.
        model: Name of the method, optionally with an operating point; see
            `infarct.segmentation.models.get_model`.
        timer: Records the duration of each step.
        territories: Atlas for the territory table; the bundled atlas if None.

    Returns:
        Masks and measurements in the native space of the scan.

    Raises:
        InfarctError: A subclass that describes the problem and its remedy.
    """
    timer = timer or StepTimer()
    method = get_model(model)
    template = load_template()
    brain_network = load_network(BRAIN_NETWORK)
    prepared = preprocess(case, template, brain_network, timer)
    # ITK releases the interpreter lock, so that the networks can run at the same time.
    with ThreadPoolExecutor(1) as pool:
        brain = prepared.brain_native
        refining = pool.submit(refine, case.b0, brain, template.b0, prepared.registration)
        prediction = predict(case, prepared, method, timer)
        with timer.step("refine registration"):
            refinement = refining.result()
            place = refinement.mni_from_native
    with timer.step("measure"):
        native = measurement_images(case, prepared, prediction, place)
        void = bool(void_reason((*case.findings, *prepared.findings)))
        filtered = None
        if method.candidate_filter:
            evidence = candidate_evidence(case, prepared, prediction, place)
            if evidence:
                filtered = filter_candidates(evidence, method.candidate_filter, keep_all=void)
        lesion = filtered.lesion if filtered else prediction.candidates
        measurements = (
            filtered.measurements if filtered else measure(lesion, native, case.slice_axis)
        )
        if void:
            measurements = _without_probabilities(measurements)
    with timer.step("locate"):
        scanned = scanned_slices(case.dwi.data, case.slice_axis)
        anatomy = find_anatomy(lesion, case.dwi.grid, place, territories, scanned)
    with timer.step("compare hemispheres"):
        asymmetry = _asymmetry(case, prepared, prediction, lesion)
    second = None
    if prediction.second is not None:
        second = compare_methods(
            lesion, prediction.second, native.grid, case.slice_axis, SECOND_METHOD
        )
    return Segmentation(
        case=case,
        prepared=prepared,
        model=method,
        lesion=case.dwi.like(lesion),
        probability=case.dwi.like(prediction.probability.astype(np.float32)),
        disagreement=(
            None if prediction.disagreement is None else case.dwi.like(prediction.disagreement)
        ),
        brain=case.dwi.like(native.brain),
        probability_mni=prediction.probability_mni,
        is_map_mni=prediction.is_map_mni,
        measurements=measurements,
        filtered=filtered,
        anatomy=anatomy,
        second_method=second,
        second_mask=None if prediction.second is None else case.dwi.like(prediction.second),
        refinement=refinement,
        findings=(
            *case.findings,
            *prepared.findings,
            *lesion_findings(measurements),
            *(second_method_findings(second, measurements.lesion_volume_ml) if second else []),
            *(filter_findings(filtered, void=void) if filtered else []),
            *asymmetry_findings(asymmetry),
            *localization_findings(refinement),
            *score_findings(anatomy),
            *engine_findings(brain_network.engine.name),
            Finding(FindingCode.METHOD, "note", method.caution),
        ),
        seconds=dict(timer.seconds),
        engine=brain_network.engine.record(),
    )


def _without_probabilities(measurements: Measurements) -> Measurements:
    """Withhold the probability of each lesion, where a finding makes the calibration invalid."""
    lesions = tuple(replace(lesion, probability=None) for lesion in measurements.lesions)
    return replace(measurements, lesions=lesions)


def _asymmetry(case: Case, prepared: Prepared, prediction: Prediction, lesion: Mask) -> Asymmetry:
    """Compare the hemispheres outside the lesion mask, on the measured slices."""
    slices = prediction.slices
    outline = onto_slices(lesion.astype(np.float32), case, prepared.registration, slices.grid)
    spacing_mm = float(slices.grid.spacing[2])
    return asymmetry_beyond(slices.dwi, slices.adc, slices.brain, outline >= 0.5, spacing_mm)


def segment(
    dwi: File,
    b0: File | None = None,
    adc: File | None = None,
    *,
    bvalue: float | None = None,
    brain: File | None = None,
    model: str = DEFAULT,
    territories: Atlas | None = None,
    out: File | None = None,
) -> Segmentation:
    """Segment and measure the acute ischemic lesions of one scan.

    Args:
        dwi: Diffusion-weighted NIfTI image, or a 4D series with a `.bval` file of the same name.
        b0: Image without diffusion weighting; optional if `adc` or a series is given.
        adc: ADC map in any common unit; computed from `b0` if None.
        bvalue: b-value in s/mm^2; 1000 if None. For a series, the nearest shell is used.
        brain: Brain mask; computed (skull-stripping) if None.
        model: Name of the method.
        territories: Atlas for the territory table, from `infarct.measurement.atlas.read_atlas`;
            the bundled atlas if None.
        out: Output folder for the result; nothing is written if None.

    Returns:
        Masks, maps and measurements in the native space of the scan.

    Raises:
        InfarctError: A subclass that describes the problem and its remedy.
    """

    def path(file: File | None) -> Path | None:
        return None if file is None else Path(file)

    files = CaseFiles(Path(dwi), path(b0), path(adc), bvalue, path(brain))
    return run(RunRequest(files, path(out), model, territories))
