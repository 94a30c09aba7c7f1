"""Candidate filter and volume interval, on constructed scans and regressions."""

import math
from dataclasses import replace
from itertools import combinations_with_replacement

import numpy as np
import pytest

from infarct.core.errors import AssetError
from infarct.segmentation.models import BRIEF, DEFAULT, get_model, lesion_networks
from infarct.uncertainty.calibration import (
    Calibration,
    FailureGate,
    Interval,
    Logistic,
    OperatingPoint,
    Scale,
    load_calibration,
    terms,
    volume_interval,
)
from infarct.uncertainty.candidate_features import FEATURES
from infarct.uncertainty.candidate_filter import CandidateFilter, filter_candidates, find_filter


def calibration(**weights: float) -> Calibration:
    """Return a calibration that uses only the named features, unscaled and without products."""
    row = [weights.get(name, 0.0) for name in FEATURES]
    identity = Scale(0.0, 1.0, -100.0, 100.0)
    products = len(terms(row, [identity] * len(row))) - len(row)
    return Calibration(
        model="hand",
        scales=(identity,) * len(row),
        lesion=Logistic((*row, *[0.0] * products), 0.0),
        scan=Logistic((1.0, 0.0), 0.0),
        outlined=Interval(-1.0, 1.0, 0.1, 0.2),
        missed_ml=2.5,
        points={
            "sensitive": OperatingPoint(0.0, 1.0, 0.0),
            "balanced": OperatingPoint(0.5, 0.1, 0.1),
        },
        scans=10,
        lesion_free=5,
        networks=("1f", "2e"),
    )


def test_terms_are_standardised_features_and_pairwise_products() -> None:
    scales = [Scale(1.0, 2.0, -9.0, 9.0), Scale(0.0, 1.0, -0.5, 0.5)]
    assert terms([5.0, 0.2], scales) == pytest.approx([2.0, 0.2, 4.0, 0.4, 0.04])
    # Values outside the calibration range are clipped.
    assert terms([99.0, -7.0], scales) == terms([9.0, -0.5], scales)
    assert np.isnan(terms([math.nan, 0.2], scales)[0])


def test_improbable_candidates_are_rejected_and_counted(evidence) -> None:
    doubtful = calibration(mean_logit=1.0, adc_ratio=-1.0)
    found = filter_candidates(evidence, CandidateFilter(doubtful))
    assert found.measurements.lesion_count == 1
    assert np.array_equal(found.lesion, evidence.scan.probability > 0.9)
    assert found.rejected == 1
    assert found.rejected_ml == pytest.approx(4 * 0.02)
    expected = 1 / (1 + math.exp(-(math.log(19) - 0.5)))
    assert found.measurements.lesions[0].probability == pytest.approx(expected, rel=1e-4)
    everything = filter_candidates(evidence, CandidateFilter(doubtful, "sensitive"))
    assert everything.rejected == 0
    assert np.array_equal(everything.lesion, evidence.candidates)
    assert everything.infarct_probability == found.infarct_probability


def test_candidates_without_measurable_contrast_are_kept(evidence) -> None:
    scan = replace(evidence.scan, adc=np.full_like(evidence.scan.adc, 3e-3))
    found = filter_candidates(
        replace(evidence, scan=scan), CandidateFilter(calibration(adc_ratio=-9.0))
    )
    assert np.array_equal(found.lesion, evidence.candidates)


def test_scan_without_candidates_has_a_confidence(evidence) -> None:
    empty = replace(evidence, candidates=np.zeros_like(evidence.candidates))
    found = filter_candidates(empty, CandidateFilter(calibration()))
    assert found.rejected == 0
    assert found.infarct_probability < 0.01
    assert found.volume_interval_ml == (0.0, 2.5)


def test_interval_contains_the_segmented_volume_and_widens_with_uncertainty() -> None:
    rule = Interval(-1.0, 1.0, 0.1, 0.2)
    for ml in (0.0, 0.5, 50.0):
        low, high = volume_interval(ml, (ml, ml), rule)
        assert 0 <= low <= ml <= high
    confident, unsure = (volume_interval(10.0, s, rule) for s in ((11.0, 9.0), (20.0, 2.0)))
    assert unsure[0] < confident[0]
    assert unsure[1] > confident[1]
    biased = Interval(0.3, 1.0, 0.1, 0.2)
    assert volume_interval(10.0, (11.0, 9.0), biased)[0] == 10.0


def test_calibration_fitted_to_fewer_features_uses_the_first_ones() -> None:
    one = calibration(mean_logit=0.5)
    count = len(one.scales) - 3
    squares = len(list(combinations_with_replacement(range(count), 2)))
    weights = tuple(range(1, 1 + count + squares))
    old = replace(one, scales=one.scales[:count], lesion=Logistic(weights, 0.0))
    row = [0.1 * k for k in range(len(one.scales))]
    assert old.lesion_logit(row) == old.lesion_logit([*row[:count], 9.0, 9.0, 9.0])
    assert old.lesion_logit(row) != old.lesion_logit([*row[: count - 1], 9.0, 9.0, 9.0, 9.0])


def test_json_round_trip() -> None:
    one = calibration(mean_logit=0.5)
    assert Calibration.from_json(one.to_json()) == one
    gated = replace(one, failure=FailureGate(Logistic((1.0, -1.0, -0.5), 0.2), 0.3, 0.9, 0.1))
    assert Calibration.from_json(gated.to_json()) == gated


def test_a_mask_of_uncertain_extent_will_probably_fail(evidence) -> None:
    gate = FailureGate(Logistic((2.0, 0.0, 0.0), -3.0), 0.4, 0.9, 0.1)
    rule = CandidateFilter(replace(calibration(), failure=gate))
    clear = filter_candidates(evidence, rule, keep_all=True)
    # Between the thresholds of a wide and a narrow mask.
    undecided = np.where(evidence.candidates, 0.5, evidence.scan.probability)
    scan = replace(evidence.scan, probability=undecided.astype(np.float32))
    unclear = filter_candidates(replace(evidence, scan=scan), rule, keep_all=True)
    assert unclear.failure_probability > clear.failure_probability
    assert unclear.failure_limit == 0.4
    without = filter_candidates(evidence, CandidateFilter(calibration()), keep_all=True)
    assert without.failure_probability is None


@pytest.mark.parametrize(
    "name", [DEFAULT, *(name for name in lesion_networks() if not name.endswith(BRIEF))]
)
def test_bundled_methods_are_calibrated_with_ordered_operating_points(name: str) -> None:
    shipped = load_calibration(name)
    assert shipped.model == name
    assert 10 <= len(shipped.scales) <= len(FEATURES)
    assert math.isfinite(shipped.lesion_logit([scale.mean for scale in shipped.scales]))
    assert list(shipped.points) == ["sensitive", "balanced", "specific"]
    least = [point.least_probability for point in shipped.points.values()]
    alarms = [point.false_alarm_rate for point in shipped.points.values()]
    assert least == sorted(least)
    assert alarms == sorted(alarms, reverse=True)
    assert shipped.outlined.low < shipped.outlined.high
    # FCN_CH2_slices alone misses one calibration infarct of 311 ml.
    assert 0 < shipped.missed_ml < (312 if name == "fcn-ch2-slices" else 100)
    assert get_model(name).candidate_filter.calibration == shipped


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"lesion": 1}'])
def test_error_names_the_damaged_calibration(tmp_path, text: str) -> None:
    (tmp_path / "mine.calibration.json").write_text(text)
    with pytest.raises(AssetError, match=r"mine\.calibration\.json is not a valid calib"):
        load_calibration("mine", tmp_path)


def test_only_calibrated_methods_have_a_candidate_filter() -> None:
    assert find_filter("cfuzzy") is None
    assert find_filter(DEFAULT).point == "balanced"
    with pytest.raises(AssetError, match="the method is not calibrated"):
        find_filter("cfuzzy", "specific")
