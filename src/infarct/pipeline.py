"""The whole story on one page: from files to an outlined, measured lesion."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from infarct.anatomy import Anatomy, find_anatomy
from infarct.atlas import Atlas
from infarct.case import Case
from infarct.certainty import SecondReading, compare_readers, doubt_of
from infarct.classical import is_map
from infarct.inference import load_network
from infarct.intensity import Image, Mask
from infarct.journal import Journal
from infarct.postprocess import outline
from infarct.prepare import Prepared, prepare, restore
from infarct.quality import Finding
from infarct.quantify import Measurements, Scan, measure
from infarct.register import Refinement, refine
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
        anatomy: Territories, regions, scores.
        second_reading: What the c-fuzzy map outlines beside a network; None beside itself.
        refinement: Where the scan lies for looking up anatomy.
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
    anatomy: Anatomy
    second_reading: SecondReading | None
    refinement: Refinement
    findings: tuple[Finding, ...]
    seconds: dict[str, float]


def segment_case(
    case: Case,
    model: str = DEFAULT,
    journal: Journal | None = None,
    territories: Atlas | None = None,
) -> Segmentation:
    """Outline and measure the acute ischemic lesions of one scan.

    Args:
        case: From `open_case`.
        model: Name of a method, see `infarct.segmenters.SEGMENTERS`.
        journal: Told of the steps.
        territories: Atlas for the table of territories, instead of the one that ships.

    Returns:
        Masks and numbers in the scan's own space.

    Raises:
        InfarctError: Its subclasses say what went wrong and what to do.
    """
    journal = journal or Journal()
    segmenter = get_segmenter(model)
    template = load_template()
    prepared = prepare(case, template, load_network("BrainMask"), journal)
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
    with journal.step("locate"):
        refinement = refine(case.b0, brain, template.b0, prepared.registration)
        place = refinement.mni_from_native
        anatomy = find_anatomy(lesion, case.dwi.grid, place, territories)
    second = None
    if segmenter.trained:
        with journal.step("second reader"):
            second = _second_reading(lesion, is_map_mni, case, prepared)
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
        anatomy=anatomy,
        second_reading=second,
        refinement=refinement,
        findings=(
            *case.findings,
            *prepared.findings,
            *doubts(measurements),
            *(doubt_of(second, measurements.lesion_volume_ml) if second else []),
            *_limits(refinement, anatomy),
            *([Finding("method", "note", segmenter.caution)] if segmenter.caution else []),
        ),
        seconds=dict(journal.seconds),
    )


def _second_reading(
    lesion: Mask, is_map_mni: Image, case: Case, prepared: Prepared
) -> SecondReading:
    """Outline the scan by the c-fuzzy map too, and compare."""
    other = get_segmenter("cfuzzy")
    probability = restore(is_map_mni, case, prepared.registration)
    theirs = outline(probability, other.threshold, prepared.brain_native, case.slice_axis)
    return compare_readers(lesion, theirs, case.dwi.grid.voxel_ml, other.name)


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


def _limits(refinement: Refinement, anatomy: Anatomy) -> list[Finding]:
    """Say what the tables of territories and regions rest on, where it is less than usual."""
    limits = []
    if not refinement.affine:
        text = (
            "territories and regions were looked up by the in-plane transform alone, because "
            f"{refinement.reason}; borders may lie several mm off"
        )
        limits.append(Finding("atlas-in-plane", "note", text))
    if anatomy.unscored:
        text = "the scan does not cover every region of ASPECTS or PC-ASPECTS: no score is given"
        limits.append(Finding("aspects-coverage", "note", text))
    return limits
