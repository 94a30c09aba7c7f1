"""Checks of the result that produce findings for the user to review."""

from __future__ import annotations

from infarct.core.findings import Finding, FindingCode
from infarct.core.units import format_probability, format_volume
from infarct.inference import backends
from infarct.measurement.anatomy import Anatomy
from infarct.measurement.volumetry import Measurements
from infarct.preprocessing.registration import Refinement
from infarct.uncertainty.candidate_filter import FilteredLesions


def engine_findings(engine: str) -> list[Finding]:
    """Report a non-default inference engine, because its rounding differs."""
    if engine == backends.USUAL:
        return []
    text = f"the networks were computed with {engine}; some voxels may differ from {backends.USUAL}"
    return [Finding(FindingCode.ENGINE, "note", text)]


def lesion_findings(measurements: Measurements) -> list[Finding]:
    """Warn if the segmented lesion does not look like acute ischemia."""
    found = []
    if measurements.lesion_count:
        # The ratio is NaN if no normal tissue is left; the share of the brain then gives a warning.
        if measurements.adc_ratio > 0.95:
            text = (
                f"the ADC of the lesion is {measurements.adc_ratio:.2f} times that of normal "
                "tissue, but 0.4 to 0.9 times in acute infarcts; the lesion may be old, subacute "
                "or an artefact"
            )
            found.append(Finding(FindingCode.ADC_NOT_LOW, "warning", text))
        share = measurements.lesion_volume_ml / measurements.intracranial_volume_ml
        if share > 0.35:
            text = (
                f"{share:.0%} of the brain is segmented as lesion; review the images before using "
                "any number"
            )
            found.append(Finding(FindingCode.LESION_VERY_LARGE, "warning", text))
    return found


def filter_findings(filtered: FilteredLesions, *, void: bool = False) -> list[Finding]:
    """Report a contradiction between mask and probability, and what the candidate filter did.

    Args:
        filtered: Output of the candidate filter.
        void: Whether the calibration does not hold for this scan; the probability is then ignored.
    """
    found = []
    visible, segmented = filtered.infarct_probability, filtered.measurements.lesion_count > 0
    if (visible >= 0.5) != segmented and not void:
        verdict = "a lesion was segmented" if segmented else "no lesion was segmented"
        text = (
            f"{verdict}, but the probability that the scan shows an infarct is "
            f"{format_probability(visible)}; "
            "review the images and try another operating point"
        )
        found.append(Finding(FindingCode.MASK_CONTRADICTS_PROBABILITY, "warning", text))
    failure = filtered.failure_probability
    if failure is not None and failure >= filtered.failure_limit and not void:
        text = (
            "the mask may share less than half with what a reader would outline (probability "
            f"{format_probability(failure)}): the network is uncertain about its extent; review "
            "every slice before using any number"
        )
        found.append(Finding(FindingCode.MASK_UNRELIABLE, "warning", text))
    if void and filtered.measurements.lesion_count:
        text = (
            "the candidate filter was not applied, because its calibration does not hold for this "
            "scan: the lesion mask contains all candidates, including false positives"
        )
        found.append(Finding(FindingCode.FILTER_NOT_APPLIED, "warning", text))
    if filtered.rejected:
        one = filtered.rejected == 1
        candidates = "1 candidate" if one else f"{filtered.rejected} candidates"
        text = (
            f"{candidates} ({format_volume(filtered.rejected_ml)}) {'was' if one else 'were'} "
            f"rejected as too improbable at the operating point {filtered.point}; see the "
            "probability map"
        )
        found.append(Finding(FindingCode.CANDIDATES_REJECTED, "note", text))
    return found


def score_findings(anatomy: Anatomy) -> list[Finding]:
    """Report the scores that cannot be computed because the scan does not cover their regions."""
    if not anatomy.unscored:
        return []
    scores = {"ASPECTS": anatomy.aspects, "PC-ASPECTS": anatomy.pc_aspects}
    missing = [name for name, score in scores.items() if score is None]
    verb = "score is" if len(missing) == 1 else "scores are"
    text = (
        f"the scan does not cover every region of {' and '.join(missing)}; the {verb} not reported"
    )
    return [Finding(FindingCode.ASPECTS_COVERAGE, "note", text)]


def localization_findings(refinement: Refinement) -> list[Finding]:
    """Report if territories and regions were looked up without the affine refinement."""
    if refinement.affine:
        return []
    text = (
        "territories and regions were looked up with the in-plane transform only, because "
        f"{refinement.reason}; borders may be off by several mm"
    )
    return [Finding(FindingCode.NO_AFFINE_REFINEMENT, "note", text)]
