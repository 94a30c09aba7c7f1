"""The whole story on one page: from files to an outlined, measured lesion."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from infarct.case import Case
from infarct.classical import is_map
from infarct.intensity import Image
from infarct.journal import Journal
from infarct.postprocess import outline
from infarct.prepare import Prepared, prepare, restore
from infarct.quality import Finding
from infarct.quantify import Measurements, Scan, measure
from infarct.segmenters import DEFAULT, Segmenter, get_segmenter
from infarct.templates import load_healthy, load_template
from infarct.volume import Volume


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The result for one scan.

    Attributes:
        case: What came in.
        prepared: The scan on the MNI grid.
        segmenter: The method that outlined the lesions.
        lesion: bool mask on exactly the grid of the DWI.
        probability: 0 - 1, same grid.
        brain: bool, same grid.
        probability_mni: (192, 224, 192).
        is_map_mni: (192, 224, 192) the modified c-fuzzy map, whatever the method.
        measurements: Volumes, contrast, each lesion.
        findings: Notes and warnings, in the order they arose.
        seconds: Wall-clock seconds of each step.
    """

    case: Case
    prepared: Prepared
    segmenter: Segmenter
    lesion: Volume
    probability: Volume
    brain: Volume
    probability_mni: Image
    is_map_mni: Image
    measurements: Measurements
    findings: tuple[Finding, ...]
    seconds: dict[str, float]


def segment_case(case: Case, model: str = DEFAULT, journal: Journal | None = None) -> Segmentation:
    """Outline and measure the acute ischemic lesions of one scan.

    Args:
        case: From `open_case`.
        model: Name of a method, see `infarct.segmenters.SEGMENTERS`.
        journal: Told of the steps.

    Returns:
        Masks and numbers in the scan's own space.

    Raises:
        InfarctError: Its subclasses say what went wrong and what to do.
    """
    journal = journal or Journal()
    segmenter = get_segmenter(model)
    prepared = prepare(case, load_template(), journal)
    with journal.step("is map"):
        scan = (prepared.dwi_normalised, prepared.adc_normalised, prepared.brain)
        is_map_mni = is_map(*scan, load_healthy())
    with journal.step("outline"):
        probability_mni = segmenter.lesion_probability(prepared, is_map_mni)
        probability = restore(probability_mni, case, prepared.registration)
        brain = prepared.brain_native
        lesion = outline(probability, segmenter.threshold, brain, case.slice_axis)
    with journal.step("measure"):
        mni_from_native = prepared.registration.mni_from_native
        native = Scan(
            case.dwi.data, case.adc.data, probability, brain, case.dwi.grid, mni_from_native
        )
        measurements = measure(lesion, native, case.slice_axis)
    return Segmentation(
        case=case,
        prepared=prepared,
        segmenter=segmenter,
        lesion=case.dwi.like(lesion),
        probability=case.dwi.like(probability.astype(np.float32)),
        brain=case.dwi.like(brain),
        probability_mni=probability_mni,
        is_map_mni=is_map_mni,
        measurements=measurements,
        findings=(
            *case.findings,
            *prepared.findings,
            *doubts(measurements),
            *([Finding("method", "note", segmenter.caution)] if segmenter.caution else []),
        ),
        seconds=dict(journal.seconds),
    )


def doubts(measurements: Measurements) -> list[Finding]:
    """Say when the lesion outlined does not look like acute ischemia."""
    found = []
    if measurements.lesion_count and not math.isnan(measurements.kappa_adc):
        if measurements.kappa_adc > 0.95:
            text = (
                f"the outlined tissue has {measurements.kappa_adc:.2f} times the ADC of normal "
                "tissue; acute infarcts have .4 to .9: it may be old, subacute or an artefact"
            )
            found.append(Finding("adc-not-low", "warning", text))
        share = measurements.lesion_volume_ml / measurements.intracranial_volume_ml
        if share > 0.35:
            text = f"{share:.0%} of the brain is outlined; look at the images before using a number"
            found.append(Finding("lesion-huge", "warning", text))
    return found
