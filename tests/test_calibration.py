"""Candidates are judged, and the volume gets an interval: hand-made scans and regressions."""

import math
from dataclasses import replace

import numpy as np
import pytest

from infarct.calibration import (
    FEATURES,
    Calibration,
    Evidence,
    Interval,
    Judge,
    Logistic,
    OperatingPoint,
    Scale,
    features,
    find_judge,
    judge,
    load_calibration,
    terms,
    volume_interval,
)
from infarct.errors import AssetError
from infarct.grid import Grid
from infarct.quantify import Scan, measure
from infarct.segmenters import BRIEF, DEFAULT, lesion_networks


def calibration(**weights: float) -> Calibration:
    """Make one that looks at the named features only, as they are, and at no products."""
    row = [weights.get(name, 0.0) for name in FEATURES]
    as_it_is = Scale(0.0, 1.0, -100.0, 100.0)
    products = len(terms(row, [as_it_is] * len(row))) - len(row)
    return Calibration(
        model="hand",
        scales=(as_it_is,) * len(row),
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
    )


@pytest.fixture
def evidence() -> Evidence:
    """A firm spot, of which a second reader sees half, and a faint one on both sides."""
    shape = (20, 20, 6)
    dwi, adc = np.full(shape, 100.0, np.float32), np.full(shape, 0.8e-3, np.float32)
    probability = np.zeros(shape, np.float32)
    probability[2:6, 2:6, 1:3], probability[12:14, 12:14, 4] = 0.95, 0.55
    opposite_dwi, opposite_adc = dwi.copy(), adc.copy()
    dwi[probability > 0] = 200.0
    opposite_dwi[12:14, 12:14, 4] = 200.0
    adc[probability > 0.9] = 0.4e-3
    second = np.zeros(shape, bool)
    second[2:6, 2:6, 1] = True
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    scan = Scan(dwi, adc, probability, np.ones(shape, bool), Grid(shape, affine), np.eye(4))
    return Evidence(scan, probability > 0.5, second, opposite_dwi, opposite_adc, 2)


def test_features_are_what_their_names_say(evidence) -> None:
    measured = measure(evidence.candidates, evidence.scan, 2)
    firm, faint = (dict(zip(FEATURES, f, strict=True)) for f in features(evidence, measured))
    assert math.exp(firm["log_volume_ml"]) == pytest.approx(32 * 0.02)
    assert firm["mean_logit"] == pytest.approx(math.log(0.95 / 0.05), rel=1e-4)
    assert firm["kappa_dwi"] == pytest.approx(2.0)
    assert firm["kappa_adc"] == pytest.approx(0.5)
    assert firm["confirmed_share"] == pytest.approx(0.5)
    assert firm["opposite_dwi"] == pytest.approx(math.log(2))
    assert firm["opposite_adc"] == pytest.approx(math.log(0.5))
    assert faint["confirmed_share"] == faint["opposite_dwi"] == faint["opposite_adc"] == 0
    # Each is the other's company; who is alone has next to none.
    assert math.exp(firm["log_beside_ml"]) == pytest.approx(4 * 0.02 + 0.02)
    assert math.exp(faint["log_beside_ml"]) == pytest.approx(32 * 0.02 + 0.02)
    single = replace(evidence, candidates=evidence.scan.probability > 0.9)
    (alone,) = features(single, measure(single.candidates, single.scan, 2))
    assert math.exp(dict(zip(FEATURES, alone, strict=True))["log_beside_ml"]) == pytest.approx(0.02)


def test_depth_is_measured_from_the_surface_of_the_brain(evidence) -> None:
    brain = evidence.scan.brain.copy()
    brain[:2] = False
    nearer = replace(evidence, scan=replace(evidence.scan, brain=brain))
    depth = FEATURES.index("log_depth_mm")
    far, near = (
        features(e, measure(e.candidates, e.scan, 2))[0][depth] for e in (evidence, nearer)
    )
    # Columns at 2, 4, 6 and 8 mm; a box that fills its image has no surface at all.
    assert math.expm1(near) == pytest.approx(5.0)
    assert far > near


def test_terms_are_scaled_features_and_all_products_of_two() -> None:
    scales = [Scale(1.0, 2.0, -9.0, 9.0), Scale(0.0, 1.0, -0.5, 0.5)]
    assert terms([5.0, 0.2], scales) == pytest.approx([2.0, 0.2, 4.0, 0.4, 0.04])
    # Of what lies beyond all that was seen, nothing was learned.
    assert terms([99.0, -7.0], scales) == terms([9.0, -0.5], scales)
    assert np.isnan(terms([math.nan, 0.2], scales)[0])


def test_improbable_candidates_are_left_out_and_counted(evidence) -> None:
    doubtful = calibration(mean_logit=1.0, kappa_adc=-1.0)
    found = judge(evidence, Judge(doubtful))
    assert found.measurements.lesion_count == 1
    assert np.array_equal(found.lesion, evidence.scan.probability > 0.9)
    assert found.left_out == 1
    assert found.left_out_ml == pytest.approx(4 * 0.02)
    expected = 1 / (1 + math.exp(-(math.log(19) - 0.5)))
    assert found.measurements.lesions[0].probability == pytest.approx(expected, rel=1e-4)
    everything = judge(evidence, Judge(doubtful, "sensitive"))
    assert everything.left_out == 0
    assert np.array_equal(everything.lesion, evidence.candidates)
    assert everything.lesion_visible == found.lesion_visible


def test_a_contrast_that_cannot_be_measured_leaves_nothing_out(evidence) -> None:
    scan = replace(evidence.scan, adc=np.full_like(evidence.scan.adc, 3e-3))
    found = judge(replace(evidence, scan=scan), Judge(calibration(kappa_adc=-9.0)))
    assert np.array_equal(found.lesion, evidence.candidates)


def test_nothing_outlined_is_judged_too(evidence) -> None:
    empty = replace(evidence, candidates=np.zeros_like(evidence.candidates))
    found = judge(empty, Judge(calibration()))
    assert found.left_out == 0
    assert found.lesion_visible < 0.01
    assert found.volume_interval_ml == (0.0, 2.5)


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


@pytest.mark.parametrize(
    "name", [DEFAULT, *(name for name in lesion_networks() if not name.endswith(BRIEF))]
)
def test_what_ships_to_be_used_is_calibrated_and_has_its_points_in_order(name: str) -> None:
    shipped = load_calibration(name)
    assert shipped.model == name
    assert len(shipped.scales) == len(FEATURES)
    assert math.isfinite(shipped.lesion_logit([scale.mean for scale in shipped.scales]))
    assert list(shipped.points) == ["sensitive", "balanced", "specific"]
    least = [point.least_probability for point in shipped.points.values()]
    alarms = [point.false_alarm_rate for point in shipped.points.values()]
    assert least == sorted(least)
    assert alarms == sorted(alarms, reverse=True)
    assert shipped.outlined.low < shipped.outlined.high
    assert 0 < shipped.missed_ml < 100


def test_only_calibrated_methods_have_a_judge() -> None:
    assert find_judge("cfuzzy") is None
    assert find_judge(DEFAULT).point == "balanced"
    with pytest.raises(AssetError, match="never calibrated"):
        find_judge("cfuzzy", "specific")
