"""Numbers in plain words: every number said here is one of `summary.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infarct.core.findings import stored_code
from infarct.core.units import format_probability, format_volume

Summary = Mapping[str, Any]

_ARTERIES = {
    "ACA": "anterior cerebral artery",
    "MCA": "middle cerebral artery",
    "PCA": "posterior cerebral artery",
    "VB": "vertebro-basilar arteries",
}
_WORTH_NAMING = 0.05
"""Share of the lesion below which a territory is left to the table."""

_POSTERIOR = 0.25
"""Share of the lesion in the territories of PCA and VB from which PC-ASPECTS says something."""

_NOT_LOW = 0.95
"""ADC of the lesion over that of normal tissue; above, water moves freely: no acute infarct."""


def verdict(summary: Summary) -> str:
    """Say in one sentence what was found.

    Args:
        summary: Content of `summary.json`.
    """
    if summary["lesion_count"] == 0:
        return "No acute lesion was outlined."
    volume = format_volume(summary["lesion_volume_ml"])
    return f"{volume} of acute lesion outlined, {_lesions(summary)}, {_where(summary)}."


def certainty(summary: Summary) -> str:
    """Say how sure the verdict is, or plainly that the method cannot tell.

    Args:
        summary: Content of `summary.json`; its `certainty`, if there, has `lesion_visible` (0 - 1),
            `volume_interval_ml` (low, high) that holds it with `volume_interval_probability`,
            `left_out` (`candidates`, `ml`) and `second_reader` (`model`, `volume_ml`, `agrees`).
    """
    if summary.get("corrections"):
        return "The outline was corrected by hand; no certainty of the method applies to it."
    sure = summary.get("certainty") or {}
    said = []
    if sure.get("lesion_visible") is not None:
        likely = format_probability(sure["lesion_visible"])
        said.append(f"An acute lesion is visible with a probability of {likely}.")
    if sure.get("volume_interval_ml"):
        low, high = sure["volume_interval_ml"]
        share = f"{sure['volume_interval_probability']:.0%}"
        # What rounds to nothing is no bound to name.
        span = f"lies between {format_volume(low)} and" if low >= 0.0005 else "is no larger than"
        said.append(
            f"If so, its volume {span} {format_volume(high)}, with {share} probability."
            if summary["lesion_count"]
            else (
                f"Of infarcts that this method misses, {share} are no larger than "
                f"{format_volume(high)}."
            )
        )
    left_out = sure.get("left_out")
    if left_out and left_out["candidates"]:
        count = left_out["candidates"]
        noun = "1 candidate" if count == 1 else f"{count} candidates"
        verb = "was" if count == 1 else "were"
        said.append(
            f"{noun} ({format_volume(left_out['ml'])}) {verb} too improbable to be outlined."
        )
    second = sure.get("second_reader")
    if second:
        verb = "agrees" if second["agrees"] else "disagrees"
        said.append(
            f"A second method ({second['model']}: {format_volume(second['volume_ml'])}) {verb}."
        )
    codes = [stored_code(warning["code"]) for warning in summary.get("warnings", ())]
    if reasons := dict.fromkeys(code.void_reason for code in codes if code and code.void_reason):
        said.extend(reasons)
    elif sure.get("lesion_visible") is None:
        said.append(
            "This method gives no calibrated certainty: look at the images before using a number."
        )
    else:
        said.append(_basis(sure.get("calibration")))
    return " ".join(said)


def _basis(calibration: Mapping[str, Any] | None) -> str:
    """Say what scans the confidence was calibrated on."""
    if not calibration:
        return "What scans this was calibrated on is not recorded: treat it as indicative."
    kind = calibration["learned_from"] or "scans of unrecorded origin"
    count, infarcts = calibration["scans"], calibration["with_infarct"]
    text = f"Calibrated on {count} {kind}, {infarcts} of them with an infarct"
    # Only what was learned from patients may hold for them.
    synthetic = "synthetic" in kind or not calibration["learned_from"]
    return f"{text}: treat as indicative for patients." if synthetic else f"{text}."


def impression(summary: Summary) -> str:
    """Describe the findings as a radiologist would dictate them.

    Args:
        summary: Content of `summary.json`.

    Returns:
        A paragraph. Every number in it stands in the summary, rounded; ADC is said in
        10^-3 mm^2/s, shares in per cent.
    """
    if summary["lesion_count"] == 0:
        said = [
            "No tissue was outlined as suspected acute ischemia.",
            "A small or faint infarct may still have been missed.",
        ]
    else:
        said = [
            _extent(summary),
            _largest(summary["lesions"][0], alone=summary["lesion_count"] == 1),
            _territories(summary.get("territories") or []),
            _score("DWI-ASPECTS", summary.get("aspects")),
            _score("PC-ASPECTS", summary.get("pc_aspects")) if _posterior(summary) else "",
        ]
    said.append(_correction(summary))
    if summary["warnings"]:
        said.append("The warnings above limit what can be concluded.")
    return " ".join(sentence for sentence in said if sentence)


def _lesions(summary: Summary) -> str:
    count = summary["lesion_count"]
    return "1 lesion" if count == 1 else f"{count} lesions"


def _where(summary: Summary) -> str:
    left, right = summary["left_ml"], summary["right_ml"]
    if min(left, right) > 0.1 * summary["lesion_volume_ml"]:
        return "on both sides"
    return "on the left" if left > right else "on the right"


def _extent(summary: Summary) -> str:
    sides = [
        f"{format_volume(summary[f'{s}_ml'])} {s}"
        for s in ("left", "right")
        if summary[f"{s}_ml"] > 0
    ]
    split = f" ({', '.join(sides)})" if len(sides) > 1 else ""
    return (
        f"Suspected acute ischemia is outlined {_where(summary)}: {_lesions(summary)} with a total "
        f"volume of {format_volume(summary['lesion_volume_ml'])}{split}."
    )


def _largest(lesion: Mapping[str, Any], *, alone: bool) -> str:
    subject = "The lesion" if alone else f"The largest ({format_volume(lesion['volume_ml'])})"
    side = {
        "left": "lies left of the midline",
        "right": "lies right of the midline",
        "bilateral": "crosses the midline",
    }[lesion["side"]]
    slices = "a single slice" if lesion["slices"] == 1 else f"{lesion['slices']} slices"
    said = f"{subject} {side} and is seen on {slices}"
    if lesion["kappa_dwi"] is None or lesion["kappa_adc"] is None:
        return f"{said}."
    doubt = (
        " An ADC that is not low speaks against acute ischemia."
        if lesion["kappa_adc"] > _NOT_LOW
        else ""
    )
    return (
        f"{said}; its DWI signal is {lesion['kappa_dwi']:.2f} times and its ADC "
        f"{lesion['kappa_adc']:.2f} times that of normal tissue (mean ADC "
        f"{lesion['mean_adc'] * 1e3:.2f} × 10⁻³ mm²/s).{doubt}"
    )


def _territories(territories: list[Mapping[str, Any]]) -> str:
    touched = [t for t in territories if t["share_of_lesion"] >= _WORTH_NAMING]
    if not touched:
        return ""
    touched.sort(key=lambda t: -t["share_of_lesion"])
    parts = [
        " ".join(
            (f"{t['share_of_lesion']:.0%} in that of the", *t["side"].split(), artery(t["name"]))
        )
        for t in touched
    ]
    return f"By arterial territory, the lesion lies {_listed(parts)}."


def _score(name: str, score: Mapping[str, Any] | None) -> str:
    if not score:
        return ""
    side = f" ({score['side']})" if score.get("side") else ""
    affected = score["affected"]
    touched = f"; affected: {', '.join(affected)}" if affected else ""
    return f"{name}{side}, computed from the outline, is {score['score']}{touched}."


def _posterior(summary: Summary) -> bool:
    """Tell whether enough of the lesion is the posterior circulation's to speak of its score."""
    # Of another atlas, whose names say nothing to us, it cannot be told: then it is spoken of.
    known = [t for t in summary.get("territories") or [] if t["name"] in _ARTERIES]
    shares = [t["share_of_lesion"] for t in known if t["name"] in {"PCA", "VB"}]
    return not known or sum(shares) >= _POSTERIOR


def _correction(summary: Summary) -> str:
    corrections = summary.get("corrections")
    if not corrections:
        return ""
    first, last = corrections[0], corrections[-1]
    by = f" by {last['by']}" if last["by"] else ""
    return (
        f"The outline was corrected by hand{by}; the automatic one held "
        f"{format_volume(first['ml_before'])}."
    )


def artery(name: str) -> str:
    """Spell out the short name of a territory, if it has one."""
    return f"{_ARTERIES[name]} ({name})" if name in _ARTERIES else name


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
