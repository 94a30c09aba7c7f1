"""Generate the sentences of the report; every number in them comes from `summary.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from infarct.core.findings import stored_code
from infarct.core.units import format_probability, format_volume
from infarct.measurement.volumetry import is_doubtful

Summary = Mapping[str, Any]

_ARTERIES = {
    "ACA": "anterior cerebral artery",
    "MCA": "middle cerebral artery",
    "PCA": "posterior cerebral artery",
    "VB": "vertebro-basilar arteries",
}
_SMALLEST_SHARE_NAMED = 0.05
"""Territories with a smaller share of the lesion appear only in the table."""

_POSTERIOR_SHARE = 0.25
"""Smallest share of the lesion in the PCA and VB territories for which PC-ASPECTS is reported."""

_ADC_NOT_REDUCED = 0.95
"""ADC ratio (lesion / normal tissue) above which diffusion is not restricted."""

_DOMINANT = 0.9
"""Share of the total volume from which one of several lesions is named on its own."""

_LARGE_ML = 10.0
"""Volume from which a lesion is called large, and is located by territory instead of region."""


def verdict(summary: Summary) -> str:
    """Summarise the result: number of lesions, side or region, and volume.

    Doubtful lesions (see `volumetry.is_doubtful`) are counted separately, and the volume is given
    with and without them.

    Args:
        summary: Content of `summary.json`.
    """
    corrected = " (mask corrected manually)" if summary.get("corrections") else ""
    lesions = summary["lesions"]
    if not lesions:
        return f"No acute infarct was segmented{corrected}."
    doubtful = sum(map(doubtful_lesion, lesions))
    total = summary["lesion_volume_ml"]
    if len(lesions) == 1:
        kind = "doubtful lesion" if doubtful else "acute lesion"
        return f"1 {kind} {location(lesions[0])}, {format_volume(total)}{corrected}."
    text = _composition(summary) + corrected + "."
    if 0 < doubtful < len(lesions):
        certain = math.fsum(row["volume_ml"] for row in lesions if not doubtful_lesion(row))
        text += (
            f" Total volume {format_volume(total)}, {format_volume(certain)} without the doubtful "
            f"{'component' if doubtful == 1 else 'components'}."
        )
    return text


def doubtful_lesion(row: Mapping[str, Any]) -> bool:
    """Return whether a lesion of a summary is doubtful, see `volumetry.is_doubtful`."""
    return is_doubtful(row.get("probability"), row["adc_ratio"])


def location(row: Mapping[str, Any]) -> str:
    """Return where a lesion of a summary lies: `in the left pons`, `in the left MCA territory`."""
    region, territory = row.get("region"), row.get("territory")
    if row["volume_ml"] >= _LARGE_ML and territory and territory.split()[0] in _ARTERIES:
        return f"in the {side_first(territory)} territory"
    if row["volume_ml"] < _LARGE_ML and region and region != "unknown":
        return f"in the {side_first(region)}"
    return {"bilateral": "on both sides"}.get(row["side"], f"on the {row['side']}")


def side_first(name: str) -> str:
    """Put the side of a region or territory before its name: `pons left` becomes `left pons`."""
    words = name.split()
    return " ".join([words[-1], *words[:-1]]) if words[-1] in {"left", "right"} else name


def _composition(summary: Summary) -> str:
    """Describe several lesions: one that dominates and the rest, or their number and side."""
    lesions, total = summary["lesions"], summary["lesion_volume_ml"]
    first, *others = lesions
    doubtful = sum(map(doubtful_lesion, lesions))
    if first["volume_ml"] < _DOMINANT * total or doubtful_lesion(first):
        kind = "doubtful lesions" if doubtful == len(lesions) else "acute lesions"
        some = f", {doubtful} of them doubtful" if 0 < doubtful < len(lesions) else ""
        volume = "" if some else f", total volume {format_volume(total)}"
        return f"{len(lesions)} {kind} {_sides(summary)}{some}{volume}"
    size = "large lesion" if first["volume_ml"] >= _LARGE_ML else "lesion"
    rest = "1 small component" if len(others) == 1 else f"{len(others)} small components"
    some = f", {doubtful} of them doubtful" if doubtful else ""
    if doubtful == len(others):
        some = ", which is doubtful" if doubtful == 1 else ", all of them doubtful"
    volume = "" if doubtful else f", total volume {format_volume(total)}"
    return (
        f"One {size} ({format_volume(first['volume_ml'])}) {location(first)} and {rest}"
        f"{some}{volume}"
    )


def describe_confidence(summary: Summary) -> str:
    """Describe the calibrated confidence of the result, or state that none is available.

    Args:
        summary: Content of `summary.json`. Its optional entry `confidence` has
            `infarct_probability` (0 - 1), `volume_interval_ml` (low, high) with its coverage
            `volume_interval_probability` (0 - 1), `rejected` (`candidates`, `ml`) and
            `second_method` (`model`, `volume_ml`, `agrees`).
    """
    if summary.get("corrections"):
        return (
            "The lesion mask was corrected manually; the confidence of the automatic method does "
            "not apply to it."
        )
    confidence = summary.get("confidence") or {}
    sentences = []
    if confidence.get("infarct_probability") is not None:
        probability = format_probability(confidence["infarct_probability"])
        sentences.append(f"Probability that an acute infarct is visible: {probability}.")
    if confidence.get("volume_interval_ml"):
        low, high = confidence["volume_interval_ml"]
        coverage = f"{confidence['volume_interval_probability']:.0%}"
        # A lower bound that would be printed as zero is omitted.
        bounds = f"between {format_volume(low)} and" if low >= 0.0005 else "no larger than"
        sentences.append(
            f"If an infarct is present, its volume is {bounds} {format_volume(high)} with "
            f"{coverage} probability."
            if summary["lesion_count"]
            else (
                f"{coverage} of the infarcts that this method misses are no larger than "
                f"{format_volume(high)}."
            )
        )
    rejected = confidence.get("rejected")
    if rejected and rejected["candidates"]:
        count = rejected["candidates"]
        candidates = "1 candidate" if count == 1 else f"{count} candidates"
        sentences.append(
            f"The candidate filter rejected {candidates} ({format_volume(rejected['ml'])}) as too "
            "improbable."
        )
    second = confidence.get("second_method")
    # Small lesions are not compared.
    if second and second["agrees"] is not None:
        verb = "agrees" if second["agrees"] else "disagrees"
        sentences.append(
            f"A second method ({second['model']}: {format_volume(second['volume_ml'])}) {verb}."
        )
    codes = [stored_code(warning["code"]) for warning in summary.get("warnings", ())]
    if reasons := dict.fromkeys(code.void_reason for code in codes if code and code.void_reason):
        sentences.extend(reasons)
    elif confidence.get("infarct_probability") is None:
        sentences.append(
            "This method reports no calibrated confidence: review the images before using any "
            "number."
        )
    else:
        sentences.append(_calibration_data(confidence.get("calibration")))
    return " ".join(sentences)


def _calibration_data(calibration: Mapping[str, Any] | None) -> str:
    """Name the scans that the confidence was calibrated on."""
    if not calibration:
        return "The calibration data are not recorded: treat the confidence as indicative."
    kind = calibration["learned_from"] or "scans of unrecorded origin"
    count, infarcts = calibration["scans"], calibration["with_infarct"]
    text = f"Calibrated on {count} {kind}, {infarcts} of them with an infarct"
    # Only a calibration on patients can be valid for patients.
    synthetic = "synthetic" in kind or not calibration["learned_from"]
    return f"{text}: treat as indicative for patients." if synthetic else f"{text}."


def impression(summary: Summary) -> str:
    """Describe the findings in the style of a radiology report.

    Args:
        summary: Content of `summary.json`.

    Returns:
        A paragraph. Every number in it is a rounded number of the summary; ADC is given in
        10^-3 mm^2/s, shares in per cent.
    """
    if summary["lesion_count"] == 0:
        sentences = [
            "No suspected acute ischemia was segmented.",
            "A small or faint infarct may still have been missed.",
        ]
    else:
        sentences = [
            _extent(summary),
            _largest(summary["lesions"][0], alone=summary["lesion_count"] == 1),
            _territories(summary.get("territories") or []),
            aspects("DWI-ASPECTS", summary.get("aspects")) if _anterior(summary) else "",
            aspects("PC-ASPECTS", summary.get("pc_aspects")) if _posterior(summary) else "",
        ]
    sentences.append(_correction(summary))
    if summary["warnings"]:
        sentences.append("The warnings above limit the interpretation of these findings.")
    return " ".join(sentence for sentence in sentences if sentence)


def _sides(summary: Summary) -> str:
    left, right = summary["left_ml"], summary["right_ml"]
    if min(left, right) > 0.1 * summary["lesion_volume_ml"]:
        return "on both sides"
    side = "left" if left > right else "right"
    # A small lesion on the other side must not be hidden by the sum.
    elsewhere = any(row["side"] != side for row in summary["lesions"])
    return f"mainly on the {side}" if elsewhere else f"on the {side}"


def _extent(summary: Summary) -> str:
    lesions = summary["lesions"]
    sides = [
        f"{format_volume(summary[f'{s}_ml'])} {s}"
        for s in ("left", "right")
        if summary[f"{s}_ml"] > 0
    ]
    split = f" ({', '.join(sides)})" if len(sides) > 1 else ""
    where = location(lesions[0]) if len(lesions) == 1 else _sides(summary)
    count = "1 lesion" if len(lesions) == 1 else f"{len(lesions)} lesions"
    doubtful = sum(map(doubtful_lesion, lesions))
    some = f", {doubtful} of them doubtful," if 0 < doubtful < len(lesions) else ""
    if doubtful == len(lesions):
        count = count.replace("lesion", "doubtful lesion")
    return (
        f"Suspected acute ischemia {where}: {count}{some} with a total volume of "
        f"{format_volume(summary['lesion_volume_ml'])}{split}."
    )


def _largest(lesion: Mapping[str, Any], *, alone: bool) -> str:
    subject = (
        "The lesion" if alone else f"The largest lesion ({format_volume(lesion['volume_ml'])})"
    )
    side = {
        "left": "lies left of the midline",
        "right": "lies right of the midline",
        "bilateral": "crosses the midline",
    }[lesion["side"]]
    slices = "a single slice" if lesion["slices"] == 1 else f"{lesion['slices']} slices"
    region = "" if alone else f", {location(lesion)},"
    extent = f"{subject} {side}{region} and is visible on {slices}"
    if lesion["dwi_ratio"] is None or lesion["adc_ratio"] is None:
        return f"{extent}."
    doubt = (
        " An ADC that is not reduced argues against acute ischemia."
        if lesion["adc_ratio"] > _ADC_NOT_REDUCED
        else ""
    )
    return (
        f"{extent}; its DWI signal is {lesion['dwi_ratio']:.2f} times and its ADC "
        f"{lesion['adc_ratio']:.2f} times that of normal tissue (mean ADC "
        f"{lesion['mean_adc'] * 1e3:.2f} × 10⁻³ mm²/s).{doubt}"
    )


def _territories(territories: list[Mapping[str, Any]]) -> str:
    affected = [t for t in territories if t["share_of_lesion"] >= _SMALLEST_SHARE_NAMED]
    if not affected:
        return ""
    affected.sort(key=lambda t: -t["share_of_lesion"])
    parts = [
        " ".join((*t["side"].split(), artery(t["name"]), f"{t['share_of_lesion']:.0%}"))
        for t in affected
    ]
    return f"Arterial territories (share of lesion volume): {', '.join(parts)}."


def aspects(name: str, score: Mapping[str, Any] | None) -> str:
    """Describe ASPECTS or PC-ASPECTS; a score of 10 would read as a normal scan and is not given.

    Args:
        name: Name of the score.
        score: Its entry in `summary.json`, or None.
    """
    if not score:
        return ""
    if not score["affected"]:
        return f"{name}: no region reaches the required size ({score['rule']})."
    side = f" ({score['side']})" if score.get("side") else ""
    return (
        f"{name}{side}, computed from the lesion mask, is {score['score']}; affected regions: "
        f"{', '.join(score['affected'])}."
    )


def _posterior(summary: Summary) -> bool:
    """Return whether enough of the lesion lies in the posterior circulation for PC-ASPECTS."""
    shares = _shares(summary)
    # A custom atlas may use other names; both scores are then always reported.
    return not shares or shares.get("PCA", 0) + shares.get("VB", 0) >= _POSTERIOR_SHARE


def _anterior(summary: Summary) -> bool:
    """Return whether enough of the lesion lies in the anterior circulation for ASPECTS."""
    shares = _shares(summary)
    return not shares or shares.get("ACA", 0) + shares.get("MCA", 0) >= _SMALLEST_SHARE_NAMED


def _shares(summary: Summary) -> dict[str, float]:
    """Return the share of the lesion in each arterial territory, both sides together."""
    shares: dict[str, float] = {}
    for part in summary.get("territories") or []:
        if part["name"] in _ARTERIES:
            shares[part["name"]] = shares.get(part["name"], 0.0) + part["share_of_lesion"]
    return shares


def _correction(summary: Summary) -> str:
    corrections = summary.get("corrections")
    if not corrections:
        return ""
    first, last = corrections[0], corrections[-1]
    by = f" by {last['by']}" if last["by"] else ""
    return (
        f"The lesion mask was corrected manually{by}; the volume of the automatic mask was "
        f"{format_volume(first['ml_before'])}."
    )


def artery(name: str) -> str:
    """Return the full name of a territory with its abbreviation; unknown names are unchanged."""
    return f"{_ARTERIES[name]} ({name})" if name in _ARTERIES else name
