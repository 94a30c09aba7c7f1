"""The whole story on one page: from files to an outlined, measured lesion."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from infarct import engines
from infarct.anatomy import Anatomy, find_anatomy
from infarct.asymmetry import asymmetry_beyond, doubt_of_asymmetry
from infarct.atlas import Atlas
from infarct.calibration import Judgement, judge
from infarct.case import Case
from infarct.certainty import SecondReading, compare_readers, doubt_of
from infarct.findings import Finding, FindingCode, void_reason
from infarct.inference import load_network
from infarct.intensity import Image, scanned_slices
from infarct.journal import Journal
from infarct.prepare import Prepared, prepare, to_mni
from infarct.quantify import Measurements, measure
from infarct.reading import SECOND_READER, evidence_of, native_scan, read_scan
from infarct.register import Refinement, refine
from infarct.segmenters import BRAIN_NETWORK, DEFAULT, Segmenter, get_segmenter
from infarct.spoken import chance, ml
from infarct.templates import load_template
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
        disagreement: SD of the probabilities over the networks of an ensemble, same grid; None of
            one method.
        brain: bool, same grid.
        probability_mni: (192, 224, 192).
        is_map_mni: (192, 224, 192) the modified c-fuzzy map, whatever the method.
        measurements: Volumes, contrast, each lesion.
        judgement: How sure it is; None of a method that was never calibrated.
        anatomy: Territories, regions, scores.
        second_reading: What the c-fuzzy map outlines beside a network; None beside a classical
            method.
        refinement: Where the scan lies for looking up anatomy.
        findings: Notes and warnings, in the order they arose.
        seconds: Wall-clock seconds of each step.
        engine: What computed the networks: `name`, `version`, `precision`.
    """

    case: Case
    prepared: Prepared
    segmenter: Segmenter
    lesion: Volume
    probability: Volume
    disagreement: Volume | None
    brain: Volume
    probability_mni: Image
    is_map_mni: Image
    measurements: Measurements
    judgement: Judgement | None
    anatomy: Anatomy
    second_reading: SecondReading | None
    refinement: Refinement
    findings: tuple[Finding, ...]
    seconds: dict[str, float]
    engine: dict[str, str]


def segment_case(
    case: Case,
    model: str = DEFAULT,
    journal: Journal | None = None,
    territories: Atlas | None = None,
) -> Segmentation:
    """Outline and measure the acute ischemic lesions of one scan.

    Args:
        case: From `open_case`.
        model: Name of a method, maybe with an operating point: see
            `infarct.segmenters.get_segmenter`.
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
    brain_network = load_network(BRAIN_NETWORK)
    prepared = prepare(case, template, brain_network, journal)
    reading = read_scan(case, prepared, segmenter, journal)
    with journal.step("place"):
        brain = prepared.brain_native
        refinement = refine(case.b0, brain, template.b0, prepared.registration)
        place = refinement.mni_from_native
    with journal.step("measure"):
        native = native_scan(case, prepared, reading, place)
        evidence = evidence_of(case, prepared, reading, place) if segmenter.judge else None
        void = bool(void_reason((*case.findings, *prepared.findings)))
        judgement = None
        if evidence and segmenter.judge:
            judgement = judge(evidence, segmenter.judge, keep_all=void)
        lesion = judgement.lesion if judgement else reading.candidates
        measurements = (
            judgement.measurements if judgement else measure(lesion, native, case.slice_axis)
        )
        if void:
            unsaid = tuple(replace(one, probability=None) for one in measurements.lesions)
            measurements = replace(measurements, lesions=unsaid)
    with journal.step("locate"):
        scanned = scanned_slices(case.dwi.data, case.slice_axis)
        anatomy = find_anatomy(lesion, case.dwi.grid, place, territories, scanned)
    with journal.step("compare sides"):
        outline_mni = to_mni(lesion.astype(np.float32), case, prepared.registration) >= 0.5
        asymmetry = asymmetry_beyond(prepared.dwi, prepared.adc, prepared.brain, outline_mni)
    second = None
    if reading.second is not None:
        second = compare_readers(lesion, reading.second, native.grid.voxel_ml, SECOND_READER)
    return Segmentation(
        case=case,
        prepared=prepared,
        segmenter=segmenter,
        lesion=case.dwi.like(lesion),
        probability=case.dwi.like(reading.probability.astype(np.float32)),
        disagreement=(
            None if reading.disagreement is None else case.dwi.like(reading.disagreement)
        ),
        brain=case.dwi.like(native.brain),
        probability_mni=reading.probability_mni,
        is_map_mni=reading.is_map_mni,
        measurements=measurements,
        judgement=judgement,
        anatomy=anatomy,
        second_reading=second,
        refinement=refinement,
        findings=(
            *case.findings,
            *prepared.findings,
            *doubts(measurements),
            *(doubt_of(second, measurements.lesion_volume_ml) if second else []),
            *(_judged(judgement, void=void) if judgement else []),
            *doubt_of_asymmetry(asymmetry),
            *_limits(refinement),
            *missing_scores(anatomy),
            *_computed_by(brain_network.engine.name),
            Finding(FindingCode.METHOD, "note", segmenter.caution),
        ),
        seconds=dict(journal.seconds),
        engine=brain_network.engine.record(),
    )


def _computed_by(engine: str) -> list[Finding]:
    """Say so when another engine than the usual one computed the networks: it rounds otherwise."""
    if engine == engines.USUAL:
        return []
    text = f"the networks were computed by {engine}; with {engines.USUAL} some voxels may differ"
    return [Finding(FindingCode.ENGINE, "note", text)]


def doubts(measurements: Measurements) -> list[Finding]:
    """Say when the lesion outlined does not look like acute ischemia."""
    found = []
    if measurements.lesion_count:
        # Not a number where no normal tissue is left; then the share of the brain says so.
        if measurements.kappa_adc > 0.95:
            text = (
                f"the outlined tissue has {measurements.kappa_adc:.2f} times the ADC of normal "
                "tissue; acute infarcts have .4 to .9: it may be old, subacute or an artefact"
            )
            found.append(Finding(FindingCode.ADC_NOT_LOW, "warning", text))
        share = measurements.lesion_volume_ml / measurements.intracranial_volume_ml
        if share > 0.35:
            text = f"{share:.0%} of the brain is outlined; look at the images before using a number"
            found.append(Finding(FindingCode.LESION_HUGE, "warning", text))
    return found


def _judged(judgement: Judgement, *, void: bool = False) -> list[Finding]:
    """Say when the verdict hangs on a doubtful candidate, and what the filter did.

    A probability that is void is not used.
    """
    found = []
    visible, outlined = judgement.lesion_visible, judgement.measurements.lesion_count > 0
    if (visible >= 0.5) != outlined and not void:
        verdict = "something is outlined" if outlined else "nothing is outlined"
        text = (
            f"{verdict}, yet the probability that the scan shows an infarct is {chance(visible)}; "
            "look at the images, and at another operating point"
        )
        found.append(Finding(FindingCode.VERDICT_UNSURE, "warning", text))
    if void and judgement.measurements.lesion_count:
        text = (
            "the candidate filter was not applied, because its calibration does not hold for this "
            "scan: every candidate is in the mask, false positives included"
        )
        found.append(Finding(FindingCode.NOT_FILTERED, "warning", text))
    if judgement.left_out:
        one = judgement.left_out == 1
        seen = "1 candidate" if one else f"{judgement.left_out} candidates"
        text = (
            f"{seen} ({ml(judgement.left_out_ml)}) {'was' if one else 'were'} too improbable to be "
            f"outlined at the operating point {judgement.point}; "
            "the probability map shows them"
        )
        found.append(Finding(FindingCode.LEFT_OUT, "note", text))
    return found


def missing_scores(anatomy: Anatomy) -> list[Finding]:
    """Say which scores the scan is too short for."""
    if not anatomy.unscored:
        return []
    scores = {"ASPECTS": anatomy.aspects, "PC-ASPECTS": anatomy.pc_aspects}
    missing = " and ".join(name for name, score in scores.items() if score is None)
    text = f"the scan does not cover every region of {missing}: no such score is given"
    return [Finding(FindingCode.ASPECTS_COVERAGE, "note", text)]


def _limits(refinement: Refinement) -> list[Finding]:
    """Say what the tables of territories and regions rest on, where it is less than usual."""
    if refinement.affine:
        return []
    text = (
        "territories and regions were looked up by the in-plane transform alone, because "
        f"{refinement.reason}; borders may lie several mm off"
    )
    return [Finding(FindingCode.ATLAS_IN_PLANE, "note", text)]
