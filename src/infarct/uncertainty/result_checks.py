"""Checks of the finished result: findings that the user should review."""

from __future__ import annotations

from infarct.core.findings import Finding, FindingCode
from infarct.core.units import format_probability, format_volume
from infarct.inference import backends
from infarct.measurement.anatomy import Anatomy
from infarct.measurement.volumetry import Measurements
from infarct.preprocessing.registration import Refinement
from infarct.uncertainty.candidate_filter import FilteredLesions


def engine_findings(engine: str) -> list[Finding]:
    """Say so when another engine than the usual one computed the networks: it rounds otherwise."""
    if engine == backends.USUAL:
        return []
    text = f"the networks were computed by {engine}; with {backends.USUAL} some voxels may differ"
    return [Finding(FindingCode.ENGINE, "note", text)]


def lesion_findings(measurements: Measurements) -> list[Finding]:
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


def filter_findings(filtered: FilteredLesions, *, void: bool = False) -> list[Finding]:
    """Say when the verdict hangs on a doubtful candidate, and what the filter did.

    A probability that is void is not used.
    """
    found = []
    visible, outlined = filtered.lesion_visible, filtered.measurements.lesion_count > 0
    if (visible >= 0.5) != outlined and not void:
        verdict = "something is outlined" if outlined else "nothing is outlined"
        text = (
            f"{verdict}, yet the probability that the scan shows an infarct is "
            f"{format_probability(visible)}; "
            "look at the images, and at another operating point"
        )
        found.append(Finding(FindingCode.VERDICT_UNSURE, "warning", text))
    if void and filtered.measurements.lesion_count:
        text = (
            "the candidate filter was not applied, because its calibration does not hold for this "
            "scan: every candidate is in the mask, false positives included"
        )
        found.append(Finding(FindingCode.NOT_FILTERED, "warning", text))
    if filtered.left_out:
        one = filtered.left_out == 1
        seen = "1 candidate" if one else f"{filtered.left_out} candidates"
        text = (
            f"{seen} ({format_volume(filtered.left_out_ml)}) {'was' if one else 'were'} too "
            "improbable to be "
            f"outlined at the operating point {filtered.point}; "
            "the probability map shows them"
        )
        found.append(Finding(FindingCode.LEFT_OUT, "note", text))
    return found


def score_findings(anatomy: Anatomy) -> list[Finding]:
    """Say which scores the scan is too short for."""
    if not anatomy.unscored:
        return []
    scores = {"ASPECTS": anatomy.aspects, "PC-ASPECTS": anatomy.pc_aspects}
    missing = " and ".join(name for name, score in scores.items() if score is None)
    text = f"the scan does not cover every region of {missing}: no such score is given"
    return [Finding(FindingCode.ASPECTS_COVERAGE, "note", text)]


def localization_findings(refinement: Refinement) -> list[Finding]:
    """Say what the tables of territories and regions rest on, where it is less than usual."""
    if refinement.affine:
        return []
    text = (
        "territories and regions were looked up by the in-plane transform alone, because "
        f"{refinement.reason}; borders may lie several mm off"
    )
    return [Finding(FindingCode.ATLAS_IN_PLANE, "note", text)]
