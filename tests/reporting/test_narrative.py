import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infarct.reporting.narrative import artery, certainty, impression, verdict

LESION = {
    "label": 1,
    "volume_ml": 14.27,
    "slices": 7,
    "side": "right",
    "kappa_dwi": 2.01,
    "kappa_adc": 0.4,
    "mean_adc": 3.2e-4,
}
PLAIN: dict[str, Any] = {
    "lesion_volume_ml": 16.593,
    "lesion_count": 8,
    "left_ml": 0.622,
    "right_ml": 15.971,
    "lesions": [LESION],
    "warnings": [],
}
FULL: dict[str, Any] = {
    **PLAIN,
    "certainty": {
        "lesion_visible": 0.97,
        "volume_interval_ml": [10.2, 24.8],
        "volume_interval_probability": 0.9,
        "left_out": {"candidates": 2, "ml": 0.131},
        "calibration": {"scans": 232, "with_infarct": 99, "learned_from": "synthetic scans"},
        "second_reader": {"model": "cfuzzy", "volume_ml": 9.14, "agrees": False},
    },
    "territories": [
        {"name": "PCA", "side": "right", "ml": 0.2, "share_of_lesion": 0.01},
        {"name": "ACA", "side": "right", "ml": 3.3, "share_of_lesion": 0.21},
        {"name": "MCA", "side": "right", "ml": 12.8, "share_of_lesion": 0.78},
    ],
    "aspects": {"score": 7, "side": "right", "affected": ["M1", "insula"], "rule": "any"},
    "pc_aspects": None,
    "warnings": [{"code": "brain-cut", "message": "the brain goes on"}],
}


def numbers_said(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?", text.replace("10⁻³", "")))


def numbers_known(content: Any) -> Iterator[str]:
    """Give every number of a summary as a text may round it: itself, in per cent, times 1000."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for item in content:
            yield from numbers_known(item)
    elif isinstance(content, str):
        yield from numbers_said(content)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        for scale in (1, 100, 1000):
            yield from (f"{content * scale:.{digits}f}" for digits in range(5))


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in FULL.items() if name != key}


def test_every_number_of_the_impression_stands_in_the_summary() -> None:
    for summary in (PLAIN, FULL, *(without(key) for key in ("territories", "aspects"))):
        said = numbers_said(impression(summary))
        assert {"8", "7", "2.01", "0.40", "0.32"} <= said
        assert said <= set(numbers_known(summary))


@given(
    volumes=st.lists(st.floats(0.002, 300), min_size=1, max_size=30),
    share=st.floats(0, 1),
    kappa=st.none() | st.floats(0.2, 3),
    slices=st.integers(1, 60),
)
def test_no_summary_makes_it_say_another_number(
    volumes: list[float], share: float, kappa: float | None, slices: int
) -> None:
    volumes.sort(reverse=True)
    total = sum(volumes)
    first = {**LESION, "volume_ml": volumes[0], "slices": slices, "kappa_dwi": kappa}
    summary = {
        **FULL,
        "lesion_volume_ml": total,
        "lesion_count": len(volumes),
        "left_ml": share * total,
        "right_ml": (1 - share) * total,
        "lesions": [first, *({**LESION, "volume_ml": v} for v in volumes[1:])],
    }
    for text in (impression(summary), verdict(summary), certainty(summary)):
        assert numbers_said(text) <= set(numbers_known(summary))


def test_the_verdict_names_volume_number_and_side() -> None:
    assert verdict(PLAIN) == "16.6 ml of acute lesion outlined, 8 lesions, on the right."
    both = {**PLAIN, "lesion_volume_ml": 10.0, "lesion_count": 1, "left_ml": 4.0, "right_ml": 6.0}
    assert verdict(both) == "10.0 ml of acute lesion outlined, 1 lesion, on both sides."
    assert verdict({**PLAIN, "lesion_count": 0}) == "No acute lesion was outlined."


def test_certainty_is_said_or_plainly_missing() -> None:
    assert "no calibrated certainty" in certainty(PLAIN)
    said = certainty(FULL)
    assert "97%" in said
    assert "between 10.2 ml and 24.8 ml" in said
    assert "2 candidates (0.13 ml) were too improbable" in said
    assert "cfuzzy: 9.14 ml) disagrees" in said
    assert "no calibrated certainty" not in said
    assert "Calibrated on 232 synthetic scans, 99 of them with an infarct" in said
    assert "treat as indicative for patients" in said
    second = {"second_reader": FULL["certainty"]["second_reader"]}
    said = certainty({**PLAIN, "certainty": second})
    assert "cfuzzy: 9.14 ml) disagrees" in said
    assert "no calibrated certainty" in said
    poor = {**FULL, "warnings": [{"code": "registration-poor"}]}
    assert "review every slice" in certainty(poor)
    assert "indicative" not in certainty(poor)
    apart = {**FULL, "warnings": [{"code": "out-of-place"}]}
    assert "align them" in certainty(apart)
    assert "indicative" not in certainty(apart)
    corrected = {**FULL, "corrections": [{"ml_before": 3.0, "by": "AB"}]}
    assert "97%" not in certainty(corrected)
    assert "by hand" in certainty(corrected)


@pytest.mark.parametrize(
    ("learned_from", "said"),
    [
        ("real scans", "Calibrated on 232 real scans, 99 of them with an infarct."),
        ("", "scans of unrecorded origin, 99 of them with an infarct: treat as indicative"),
    ],
)
def test_what_it_was_calibrated_on_is_what_the_calibration_says(
    learned_from: str, said: str
) -> None:
    sure = FULL["certainty"]
    told = {**sure, "calibration": {**sure["calibration"], "learned_from": learned_from}}
    text = certainty({**FULL, "certainty": told, "warnings": []})
    assert said in text
    assert "synthetic" not in text


def test_the_impression_leads_with_the_larger_territory_and_leaves_traces_out() -> None:
    text = impression(FULL)
    assert text.index("right middle cerebral artery (MCA)") < text.index("anterior cerebral")
    assert "posterior" not in text
    assert "DWI-ASPECTS (right), computed from the outline, is 7; affected: M1, insula." in text
    assert "warnings" in text


def test_the_posterior_score_is_told_of_a_posterior_infarct() -> None:
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


def test_a_lesion_without_low_adc_is_doubted() -> None:
    doubtful = {**PLAIN, "lesions": [{**LESION, "kappa_adc": 1.01}]}
    assert "speaks against acute ischemia" in impression(doubtful)
    assert "speaks against" not in impression(PLAIN)


def test_nothing_found_is_not_called_healthy() -> None:
    nothing = {**PLAIN, "lesion_count": 0, "lesion_volume_ml": 0.0, "lesions": []}
    assert "may still have been missed" in impression(nothing)


def test_a_correction_is_told_with_the_automatic_volume() -> None:
    rows = [{"ml_before": 3.25, "by": ""}, {"ml_before": 9.0, "by": "AB"}]
    text = impression({**PLAIN, "corrections": rows})
    assert "by hand by AB; the automatic one held 3.25 ml." in text


def test_unknown_territories_keep_their_name() -> None:
    own = [{"name": "front", "side": "", "share_of_lesion": 1.0}]
    said = impression({**FULL, "territories": own})
    assert "the lesion lies 100% in that of the front." in said
    assert artery("MCA") == "middle cerebral artery (MCA)"
    assert artery("PICA") == "PICA"


def test_no_probability_is_said_to_be_certainty() -> None:
    sure = {"lesion_visible": 0.9974}
    assert "a probability of over 99%." in certainty({**PLAIN, "certainty": sure})


@pytest.mark.parametrize(
    ("low", "said"),
    [(0.31, "lies between 0.31 ml and 2.40 ml, with"), (0.0001, "is no larger than 2.40 ml, with")],
)
def test_an_interval_names_no_bound_that_is_nothing(low: float, said: str) -> None:
    sure = {"volume_interval_ml": [low, 2.4], "volume_interval_probability": 0.9}
    assert f"its volume {said} 90% probability" in certainty({**PLAIN, "certainty": sure})


def test_a_clean_scan_says_what_may_have_been_missed() -> None:
    sure = {
        "lesion_visible": 0.04,
        "volume_interval_ml": [0.0, 0.31],
        "volume_interval_probability": 0.9,
    }
    said = certainty({**PLAIN, "lesion_count": 0, "lesions": [], "certainty": sure})
    assert "visible with a probability of 4%" in said
    assert "Of infarcts that this method misses, 90% are no larger than 0.31 ml." in said
    assert "is not recorded" in said
