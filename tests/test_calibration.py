"""Candidates are judged, and the volume gets an interval: hand-made scans and regressions."""

import math
from dataclasses import replace

import numpy as np
import pytest

from infarct.calibration import (
    FEATURES,
    Calibration,
    Interval,
    Judge,
    Logistic,
    OperatingPoint,
    features,
    find_judge,
    judge,
    load_calibration,
    volume_interval,
)
from infarct.errors import AssetError
from infarct.grid import Grid
from infarct.quantify import Scan, measure
from infarct.segmenters import DEFAULT


def calibration(**weights: float) -> Calibration:
    """Make one that looks at the named features only."""
    row = tuple(weights.get(name, 0.0) for name in FEATURES)
    return Calibration(
        model="hand",
        lesion=Logistic(row, 0.0),
        scan=Logistic((1.0, 0.0), 0.0),
        interval=Interval(-1.0, 1.0, 0.1, 0.2),
        points={
            "sensitive": OperatingPoint(0.0, 1.0, 0.0),
            "balanced": OperatingPoint(0.5, 0.1, 0.1),
        },
        scans=10,
        lesion_free=5,
    )


@pytest.fixture
def scan() -> Scan:
    """A box of tissue with two bright spots: one firm, one faint."""
    shape = (20, 20, 6)
    dwi, adc = np.full(shape, 100.0, np.float32), np.full(shape, 0.8e-3, np.float32)
    probability = np.zeros(shape, np.float32)
    probability[2:6, 2:6, 1:3], probability[12:14, 12:14, 4] = 0.95, 0.55
    dwi[probability > 0] = 200.0
    adc[probability > 0.9] = 0.4e-3
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    return Scan(dwi, adc, probability, np.ones(shape, bool), Grid(shape, affine), np.eye(4))


@pytest.fixture
def second(scan: Scan) -> np.ndarray:
    """What a second reader sees: half of the firm spot."""
    outline = np.zeros(scan.dwi.shape, bool)
    outline[2:6, 2:6, 1] = True
    return outline


def test_features_are_what_their_names_say(scan, second) -> None:
    candidates = scan.probability > 0.5
    firm, faint = features(candidates, second, scan, measure(candidates, scan, 2))
    named = dict(zip(FEATURES, firm, strict=True))
    assert math.exp(named["log_volume_ml"]) == pytest.approx(32 * 0.02)
    assert named["mean_logit"] == pytest.approx(math.log(0.95 / 0.05), rel=1e-4)
    assert named["kappa_dwi"] == pytest.approx(2.0)
    assert named["kappa_adc"] == pytest.approx(0.5)
    assert named["confirmed_share"] == pytest.approx(0.5)
    assert dict(zip(FEATURES, faint, strict=True))["confirmed_share"] == 0


def test_improbable_candidates_are_left_out_and_counted(scan, second) -> None:
    candidates = scan.probability > 0.5
    doubtful = calibration(mean_logit=1.0, log_volume_ml=0.0, kappa_adc=-1.0)
    found = judge(candidates, second, scan, 2, Judge(doubtful))
    assert found.measurements.lesion_count == 1
    assert np.array_equal(found.lesion, scan.probability > 0.9)
    assert found.left_out == 1
    assert found.left_out_ml == pytest.approx(4 * 0.02)
    expected = 1 / (1 + math.exp(-(math.log(19) - 0.5)))
    assert found.measurements.lesions[0].probability == pytest.approx(expected, rel=1e-4)
    everything = judge(candidates, second, scan, 2, Judge(doubtful, "sensitive"))
    assert everything.left_out == 0
    assert np.array_equal(everything.lesion, candidates)
    assert everything.lesion_visible == found.lesion_visible


def test_a_contrast_that_cannot_be_measured_leaves_nothing_out(scan, second) -> None:
    strange = replace(scan, adc=np.full_like(scan.adc, 3e-3))
    candidates = scan.probability > 0.5
    found = judge(candidates, second, strange, 2, Judge(calibration(kappa_adc=-9.0)))
    assert np.array_equal(found.lesion, candidates)


def test_nothing_outlined_is_judged_too(scan, second) -> None:
    nothing = np.zeros_like(second)
    found = judge(nothing, second, scan, 2, Judge(calibration()))
    assert found.left_out == 0
    assert found.lesion_visible < 0.01
    assert found.volume_interval_ml[0] == 0


def test_the_interval_holds_the_outline_and_widens_with_doubt() -> None:
    rule = Interval(-1.0, 1.0, 0.1, 0.2)
    for ml in (0.0, 0.5, 50.0):
        low, high = volume_interval(ml, (ml, ml), rule)
        assert 0 <= low <= ml <= high
    sure, unsure = (volume_interval(10.0, s, rule) for s in ((11.0, 9.0), (20.0, 2.0)))
    assert unsure[0] < sure[0]
    assert unsure[1] > sure[1]
    biased = Interval(0.3, 1.0, 0.1, 0.2)
    assert volume_interval(10.0, (11.0, 9.0), biased)[0] == 10.0


def test_it_travels_as_text() -> None:
    one = calibration(mean_logit=0.5)
    assert Calibration.from_json(one.to_json()) == one


def test_what_ships_has_its_points_in_order() -> None:
    shipped = load_calibration(DEFAULT)
    assert len(shipped.lesion.weights) == len(FEATURES)
    assert list(shipped.points) == ["sensitive", "balanced", "specific"]
    least = [point.least_probability for point in shipped.points.values()]
    alarms = [point.false_alarm_rate for point in shipped.points.values()]
    assert least == sorted(least)
    assert alarms == sorted(alarms, reverse=True)
    assert shipped.interval.low < shipped.interval.high


def test_only_calibrated_methods_have_a_judge() -> None:
    assert find_judge("cfuzzy") is None
    assert find_judge(DEFAULT).point == "balanced"
    with pytest.raises(AssetError, match="never calibrated"):
        find_judge("cfuzzy", "specific")
