"""The interval of the growth: coverage in a simulation with known correlation."""

import numpy as np
import pytest

from infarct.followup.paired_interval import growth_interval, load_paired_errors


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_coverage_is_that_of_the_volume_intervals(correlation):
    rng = np.random.default_rng(0)
    covariance = [[1, correlation], [correlation, 1]]
    errors = rng.multivariate_normal((0, 0), covariance, 4000) * (3.0, 5.0) + (20.0, 32.0)
    half = 1.645 * np.array((3.0, 5.0))
    hits = 0
    for first, second in errors:
        low, high = growth_interval(
            first,
            (first - half[0], first + half[0]),
            second,
            (second - half[1], second + half[1]),
            correlation,
        )
        hits += low <= 12 <= high
    assert hits / 4000 == pytest.approx(0.9, abs=0.015)


def test_a_higher_correlation_narrows_the_interval_around_the_same_growth():
    widths = []
    for correlation in (0.0, 0.5, 0.9):
        low, high = growth_interval(10, (7, 14), 20, (15, 28), correlation)
        assert low <= 10 <= high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)


def test_exchanging_the_scans_changes_the_sign():
    low, high = growth_interval(10, (7, 14), 20, (15, 28), 0.4)
    assert growth_interval(20, (15, 28), 10, (7, 14), 0.4) == pytest.approx((-high, -low))


def test_the_bundled_values_are_valid():
    errors = load_paired_errors()
    assert 0 <= errors.correlation < 1
    assert errors.pairs >= 0
