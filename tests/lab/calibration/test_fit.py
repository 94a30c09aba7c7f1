"""A calibration is valid on scans not used for fitting."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit

from infarct.core import assets
from infarct.core.errors import InputFileError
from infarct.lab.calibration.collect import Row
from infarct.lab.calibration.fit import FALSE_ALARMS, check, fit, ship
from infarct.uncertainty.calibration import load_calibration


def made(count: int, seed: int) -> list[Row]:
    """Draw scans whose second feature identifies infarcts; small infarcts have no candidate."""
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(count):
        true_ml = float(np.exp(rng.normal(1, 1.5))) if k % 2 else 0.0
        found = true_ml * float(np.exp(rng.normal(0, 0.3)))
        seen = bool(rng.random() > 0.8 * np.exp(-true_ml))
        infarct = [True] * (true_ml > 0 and seen) + [False] * int(rng.poisson(0.5))
        volumes = [found if real else float(np.exp(rng.normal(-2, 1))) for real in infarct]
        candidates = [
            (
                np.log(ml),
                rng.normal(2.0 if real else -2.0, 1.5),
                0.0,
                1.5,
                0.6,
                rng.random(),
                0.0,
                0.0,
                2.0,
                -4.0,
            )
            for real, ml in zip(infarct, volumes, strict=True)
        ]
        rows.append(
            Row(
                case=f"{k:04d}",
                true_ml=true_ml,
                candidates=tuple(tuple(map(float, row)) for row in candidates),
                candidate_ml=tuple(volumes),
                is_infarct=tuple(infarct),
                overlap_ml=tuple(
                    0.8 * min(ml, true_ml) if real else 0.0
                    for real, ml in zip(infarct, volumes, strict=True)
                ),
                peak_logit=float(rng.normal(3.0 if true_ml else -1.0, 2.0)),
                spread_ml=(1.2 * sum(volumes) + 0.05, 0.7 * sum(volumes)),
            )
        )
    return rows


@pytest.fixture(scope="module")
def found():
    """Fit on some scans and evaluate on others."""
    calibration = fit(made(800, 1), "made")
    return calibration, check(made(1000, 2), calibration)


def test_the_interval_has_the_stated_coverage(found) -> None:
    assert found[1].coverage == pytest.approx(0.9, abs=0.04)
    assert found[1].coverage_empty > 0.87


def test_the_calibration_of_a_user_network_is_written_next_to_it(found, tmp_path) -> None:
    before = assets.index()
    kept = ship(found[0], tmp_path)
    assert load_calibration("made", tmp_path) == found[0]
    assert kept.parent == tmp_path
    assert assets.index() == before


def test_operating_points_have_the_stated_false_positive_and_miss_rates(found) -> None:
    calibration, tried = found
    for name, rate in FALSE_ALARMS.items():
        said = calibration.points[name]
        assert said.false_alarm_rate <= rate
        assert tried.points[name][0] == pytest.approx(said.false_alarm_rate, abs=0.06)
        assert tried.points[name][1] == pytest.approx(said.miss_rate, abs=0.08)


def test_too_few_scans_are_an_error() -> None:
    with pytest.raises(InputFileError, match=r"of 6 scans; at least 10 .* Increase --cases"):
        fit(made(6, 1), "made")


def test_interactions_of_two_features_are_learned() -> None:
    """Infarcts are bright if large and dark if small, so neither feature alone identifies them."""
    rng = np.random.default_rng(3)

    def told(row: Row) -> Row:
        candidates = []
        for real, one in zip(row.is_infarct, row.candidates, strict=True):
            large, bright = rng.normal(size=2)
            bright = abs(bright) * np.sign(large) * (1 if real else -1)
            candidates.append((large, 0.0, 0.0, bright, *one[4:]))
        return replace(row, candidates=tuple(candidates))

    rows, others = ([told(row) for row in made(400, seed)] for seed in (4, 5))
    said = check(others, fit(rows, "made")).curve
    assert said[0][1] < 0.1
    assert said[-1][1] > 0.9


def test_probabilities_are_frequencies(found) -> None:
    for said, true, count in found[1].curve:
        assert said == pytest.approx(true, abs=0.08), count
    assert found[1].brier_visible < 0.15


def vague(rows: list[Row], seed: int) -> list[Row]:
    """Make every third mask miss its infarct where the network is uncertain of its extent."""
    rng = np.random.default_rng(seed)
    made = []
    for row in rows:
        bad = bool(rng.random() < 1 / 3)
        spread = (sum(row.candidate_ml) * (9 if bad else 1.3) + 0.05, 0.7 * sum(row.candidate_ml))
        shared = tuple(ml * (0.1 if bad else 1.0) for ml in row.overlap_ml)
        made.append(replace(row, spread_ml=spread, overlap_ml=shared))
    return made


def test_masks_that_fail_are_predicted_on_other_scans() -> None:
    calibration = fit(vague(made(400, 6), 7), "made")
    gate = calibration.failure
    assert gate is not None
    assert gate.detected > 0.7
    assert gate.false_alarms == pytest.approx(0.1, abs=0.02)
    unclear, clear = (calibration.failure_logit(5.0, (ml, 4.0), 3.0) for ml in (50.0, 6.0))
    assert unclear > logit(gate.limit) > clear
    assert calibration.failure_logit(0.0, (1.0, 0.1), 3.0) is None


def test_without_failures_nothing_is_predicted() -> None:
    def perfect(row: Row) -> Row:
        if not row.true_ml:
            return replace(row, candidates=(), candidate_ml=(), is_infarct=(), overlap_ml=())
        true_ml = sum(row.candidate_ml) or row.true_ml
        return replace(row, overlap_ml=row.candidate_ml, true_ml=true_ml)

    assert fit([perfect(row) for row in made(200, 8)], "made").failure is None
