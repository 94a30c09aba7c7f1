import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infarct.reporting.narrative import artery, aspects, describe_confidence, impression, verdict

LESION = {
    "label": 1,
    "volume_ml": 14.27,
    "slices": 7,
    "side": "right",
    "dwi_ratio": 2.01,
    "adc_ratio": 0.4,
    "mean_adc": 3.2e-4,
}
PLAIN: dict[str, Any] = {
    "lesion_volume_ml": 16.593,
    "lesion_count": 8,
    "left_ml": 0.622,
    "right_ml": 15.971,
    "lesions": [LESION, *({**LESION, "label": n, "volume_ml": 2.323 / 7} for n in range(2, 9))],
    "warnings": [],
}
FULL: dict[str, Any] = {
    **PLAIN,
    "confidence": {
        "infarct_probability": 0.97,
        "volume_interval_ml": [10.2, 24.8],
        "volume_interval_probability": 0.9,
        "rejected": {"candidates": 2, "ml": 0.131},
        "calibration": {"scans": 232, "with_infarct": 99, "learned_from": "synthetic scans"},
        "second_method": {"model": "cfuzzy", "volume_ml": 9.14, "agrees": False},
    },
    "territories": [
        {"name": "PCA", "side": "right", "ml": 0.2, "share_of_lesion": 0.01},
        {"name": "ACA", "side": "right", "ml": 3.3, "share_of_lesion": 0.21},
        {"name": "MCA", "side": "right", "ml": 12.8, "share_of_lesion": 0.78},
    ],
    "aspects": {"score": 7, "side": "right", "affected": ["M1", "insula"], "rule": "any"},
    "pc_aspects": None,
    "warnings": [{"code": "brain-cropped", "message": "the brain goes on"}],
}


def numbers_in(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?", text.replace("10⁻³", "")))


def numbers_known(content: Any) -> Iterator[str]:
    """Yield every number of a summary in each rounding and scale (1, per cent, times 1000)."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for item in content:
            yield from numbers_known(item)
    elif isinstance(content, str):
        yield from numbers_in(content)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        for scale in (1, 100, 1000):
            yield from (f"{content * scale:.{digits}f}" for digits in range(5))


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in FULL.items() if name != key}


def test_every_number_in_the_impression_comes_from_the_summary() -> None:
    for summary in (PLAIN, FULL, *(without(key) for key in ("territories", "aspects"))):
        found = numbers_in(impression(summary))
        assert {"8", "7", "17", "2.01", "0.40", "0.32"} <= found
        assert found <= set(numbers_known(summary))


@given(
    volumes=st.lists(st.floats(0.002, 300), min_size=1, max_size=30),
    share=st.floats(0, 1),
    kappa=st.none() | st.floats(0.2, 3),
    slices=st.integers(1, 60),
)
def test_no_sentence_contains_a_number_missing_from_the_summary(
    volumes: list[float], share: float, kappa: float | None, slices: int
) -> None:
    volumes.sort(reverse=True)
    total = sum(volumes)
    first = {**LESION, "volume_ml": volumes[0], "slices": slices, "dwi_ratio": kappa}
    summary = {
        **FULL,
        "lesion_volume_ml": total,
        "lesion_count": len(volumes),
        "left_ml": share * total,
        "right_ml": (1 - share) * total,
        "lesions": [first, *({**LESION, "volume_ml": v} for v in volumes[1:])],
        "others": len(volumes) - 1,
        "volume_without_doubtful_ml": total - volumes[0],
    }
    for text in (impression(summary), verdict(summary), describe_confidence(summary)):
        assert numbers_in(text) <= set(numbers_known(summary))


def summary_of(*lesions: tuple[float, float | None, float], **changes: Any) -> dict[str, Any]:
    """Return a summary of lesions on the left, each with volume, probability and ADC ratio."""
    rows = [
        {**LESION, "volume_ml": ml, "probability": p, "adc_ratio": adc, "side": "left"}
        for ml, p, adc in lesions
    ]
    total = sum(row["volume_ml"] for row in rows)
    volumes = {"lesion_volume_ml": total, "left_ml": total, "right_ml": 0.0}
    return {**PLAIN, **volumes, "lesion_count": len(rows), "lesions": rows, **changes}


def test_verdict_gives_lesion_count_side_and_volume() -> None:
    assert verdict(PLAIN) == "8 acute lesions on the right, total volume 17 ml."
    both = {**PLAIN, "left_ml": 8.0, "right_ml": 8.6}
    assert verdict(both) == "8 acute lesions on both sides, total volume 17 ml."
    nothing = {**PLAIN, "lesion_count": 0, "lesions": []}
    assert verdict(nothing) == "No acute infarct was segmented."


def test_a_small_lesion_on_the_other_side_is_not_hidden_by_the_sum() -> None:
    """As in a real embolic shower: 17 lesions on the left, and one of 0.05 ml on the right."""
    summary = summary_of((1.5, 0.9, 0.7), (0.7, 0.9, 0.7), (0.05, 0.9, 0.7))
    assert verdict(summary).startswith("3 acute lesions on the left")
    summary["lesions"][2]["side"] = "right"
    summary |= {"left_ml": 2.2, "right_ml": 0.05}
    assert verdict(summary).startswith("3 acute lesions mainly on the left")


def test_verdict_names_a_large_lesion_and_counts_doubtful_components() -> None:
    summary = summary_of(
        (117.0, 0.99, 0.7), (1.4, 0.4, 0.8), (1.0, 0.7, 1.1), (0.6, 0.3, 1.2), (0.4, 0.6, 0.9)
    )
    assert verdict(summary) == (
        "One large lesion (117 ml) on the left and 4 small components, 3 of them doubtful. "
        "Total volume 120 ml, 117 ml without the doubtful components."
    )
    assert verdict(summary_of((5.0, 0.9, 0.6), (0.2, 0.4, 0.6))) == (
        "One lesion (5.0 ml) on the left and 1 small component, which is doubtful. "
        "Total volume 5.2 ml, 5.0 ml without the doubtful component."
    )
    assert verdict(summary_of((20.0, 0.9, 0.6), (0.2, 0.6, 0.6))) == (
        "One large lesion (20 ml) on the left and 1 small component, total volume 20 ml."
    )


@pytest.mark.parametrize(
    ("lesions", "expected"),
    [
        (((0.2, 0.4, 0.7),), "1 doubtful lesion on the left, 0.20 ml."),
        (((0.2, None, 1.01),), "1 doubtful lesion on the left, 0.20 ml."),
        (((0.2, 0.5, 1.0),), "1 acute lesion on the left, 0.20 ml."),
        (((0.2, None, 1.0),), "1 acute lesion on the left, 0.20 ml."),
        (((0.2, 0.4, 0.7), (0.1, 0.1, 0.7)), "2 doubtful lesions on the left, total volume 0.30"),
        (
            ((0.2, 0.8, 0.7), (0.1, 0.1, 0.7)),
            "2 acute lesions on the left, 1 of them doubtful. "
            "Total volume 0.30 ml, 0.20 ml without the doubtful component.",
        ),
    ],
)
def test_lesions_below_half_or_with_a_high_adc_are_doubtful(lesions, expected) -> None:
    assert verdict(summary_of(*lesions)).startswith(expected)


def test_region_of_a_lesion_is_named() -> None:
    pons = summary_of((0.22, 0.7, 0.7))
    pons["lesions"][0]["region"] = "pons left"
    assert verdict(pons) == "1 acute lesion in the left pons, 0.22 ml."
    assert impression(pons).startswith("Suspected acute ischemia in the left pons: 1 lesion")
    large = summary_of((40.0, 0.9, 0.7))
    large["lesions"][0]["region"] = "insula left"
    large["lesions"][0]["territory"] = "MCA left"
    assert verdict(large) == "1 acute lesion in the left MCA territory, 40 ml."
    large["lesions"][0]["territory"] = "unknown"
    assert verdict(large) == "1 acute lesion on the left, 40 ml."


def test_a_corrected_mask_is_marked_in_the_verdict() -> None:
    rows = [{"ml_before": 3.0, "by": "AB"}]
    for summary in (PLAIN, summary_of((1.0, None, 0.7)), {**PLAIN, "lesions": []}):
        assert "(mask corrected manually)" in verdict({**summary, "corrections": rows})


def test_confidence_is_described_or_stated_to_be_missing() -> None:
    assert "no calibrated confidence" in describe_confidence(PLAIN)
    text = describe_confidence(FULL)
    assert "97%" in text
    assert "between 10 ml and 25 ml" in text
    assert "rejected 2 candidates (0.13 ml) as too improbable" in text
    assert "cfuzzy: 9.1 ml) disagrees" in text
    assert "no calibrated confidence" not in text
    assert "Calibrated on 232 synthetic scans, 99 of them with an infarct" in text
    assert "treat as indicative for patients" in text
    second = {"second_method": FULL["confidence"]["second_method"]}
    text = describe_confidence({**PLAIN, "confidence": second})
    assert "cfuzzy: 9.1 ml) disagrees" in text
    assert "no calibrated confidence" in text
    poor = {**FULL, "warnings": [{"code": "registration-poor"}]}
    assert "review every slice" in describe_confidence(poor)
    assert "indicative" not in describe_confidence(poor)
    misaligned = {**FULL, "warnings": [{"code": "misaligned"}]}
    assert "align them" in describe_confidence(misaligned)
    assert "indicative" not in describe_confidence(misaligned)
    corrected = {**FULL, "corrections": [{"ml_before": 3.0, "by": "AB"}]}
    assert "97%" not in describe_confidence(corrected)
    assert "corrected manually" in describe_confidence(corrected)


@pytest.mark.parametrize(
    ("learned_from", "expected"),
    [
        ("real scans", "Calibrated on 232 real scans, 99 of them with an infarct."),
        ("", "scans of unrecorded origin, 99 of them with an infarct: treat as indicative"),
    ],
)
def test_calibration_data_are_named_as_recorded(learned_from: str, expected: str) -> None:
    confidence = FULL["confidence"]
    calibration = {**confidence["calibration"], "learned_from": learned_from}
    changed = {**confidence, "calibration": calibration}
    text = describe_confidence({**FULL, "confidence": changed, "warnings": []})
    assert expected in text
    assert "synthetic" not in text


def test_impression_sorts_territories_by_share_and_omits_small_ones() -> None:
    text = impression(FULL)
    assert text.index("right middle cerebral artery (MCA)") < text.index("anterior cerebral")
    assert "posterior" not in text
    assert "right middle cerebral artery (MCA) 78%, right anterior" in text
    score = (
        "DWI-ASPECTS (right), computed from the lesion mask, is 7; affected regions: M1, insula."
    )
    assert score in text
    assert "warnings" in text


def test_pc_aspects_is_reported_for_posterior_infarcts_only() -> None:
    score = {"score": 8, "side": "left", "affected": ["thalamus"], "rule": "any"}
    scored = {**FULL, "pc_aspects": score}
    assert "PC-ASPECTS" not in impression(scored)
    for names in (("PCA", "MCA"), ("VB", "MCA")):
        territories = [
            {"name": name, "side": "left", "ml": 5.0, "share_of_lesion": share}
            for name, share in zip(names, (0.3, 0.7), strict=True)
        ]
        assert "PC-ASPECTS (left)" in impression({**scored, "territories": territories})
    own = [{"name": "back", "side": "", "share_of_lesion": 1.0}]
    assert "PC-ASPECTS (left)" in impression({**scored, "territories": own})
    assert "PC-ASPECTS (left)" in impression({**without("territories"), "pc_aspects": score})


def test_a_score_of_ten_is_not_given_next_to_a_lesion() -> None:
    rule = "a region is affected if at least 5% or 0.5 ml of it is lesion"
    text = aspects("PC-ASPECTS", {"score": 10, "side": "", "affected": [], "rule": rule})
    assert text == f"PC-ASPECTS: no region reaches the required size ({rule})."
    assert aspects("PC-ASPECTS", None) == ""


def test_aspects_is_reported_for_anterior_infarcts_only() -> None:
    for share, reported in ((0.06, True), (0.04, False)):
        territories = [
            {"name": "VB", "side": "left", "ml": 5.0, "share_of_lesion": 1 - share},
            {"name": "MCA", "side": "left", "ml": 5.0, "share_of_lesion": share},
        ]
        assert ("DWI-ASPECTS" in impression({**FULL, "territories": territories})) is reported


def test_small_lesions_are_not_compared_with_the_second_method() -> None:
    second = {"model": "cfuzzy", "volume_ml": 7.0, "agrees": None}
    text = describe_confidence(
        {**FULL, "confidence": {**FULL["confidence"], "second_method": second}}
    )
    assert "second method" not in text


def test_impression_questions_a_lesion_without_reduced_adc() -> None:
    doubtful = {**PLAIN, "lesions": [{**LESION, "adc_ratio": 1.01}, *PLAIN["lesions"][1:]]}
    assert "not reduced argues against acute ischemia" in impression(doubtful)
    assert "argues against" not in impression(PLAIN)


def test_impression_without_lesion_mentions_missed_infarcts() -> None:
    nothing = {**PLAIN, "lesion_count": 0, "lesion_volume_ml": 0.0, "lesions": []}
    assert "may still have been missed" in impression(nothing)


def test_impression_of_a_corrected_mask_gives_the_automatic_volume() -> None:
    rows = [{"ml_before": 3.25, "by": ""}, {"ml_before": 9.0, "by": "AB"}]
    text = impression({**PLAIN, "corrections": rows})
    assert "manually by AB; the volume of the automatic mask was 3.2 ml." in text


def test_unknown_territories_keep_their_name() -> None:
    custom = [{"name": "front", "side": "", "share_of_lesion": 1.0}]
    text = impression({**FULL, "territories": custom})
    assert "Arterial territories (share of lesion volume): front 100%." in text
    assert artery("MCA") == "middle cerebral artery (MCA)"
    assert artery("PICA") == "PICA"


def test_probability_is_never_rounded_to_100_per_cent() -> None:
    confidence = {"infarct_probability": 0.9974}
    text = describe_confidence({**PLAIN, "confidence": confidence})
    assert "Probability that an acute infarct is visible: over 99%." in text


@pytest.mark.parametrize(
    ("low", "expected"),
    [(0.31, "is between 0.31 ml and 2.4 ml with"), (0.0001, "is no larger than 2.4 ml with")],
)
def test_interval_omits_a_lower_bound_of_zero(low: float, expected: str) -> None:
    confidence = {"volume_interval_ml": [low, 2.4], "volume_interval_probability": 0.9}
    text = describe_confidence({**PLAIN, "confidence": confidence})
    assert f"its volume {expected} 90% probability" in text


def test_confidence_without_lesion_bounds_the_missed_infarcts() -> None:
    confidence = {
        "infarct_probability": 0.04,
        "volume_interval_ml": [0.0, 0.31],
        "volume_interval_probability": 0.9,
    }
    text = describe_confidence(
        {**PLAIN, "lesion_count": 0, "lesions": [], "confidence": confidence}
    )
    assert "acute infarct is visible: 4%" in text
    assert "90% of the infarcts that this method misses are no larger than 0.31 ml." in text
    assert "are not recorded" in text
