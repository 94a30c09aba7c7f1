"""Every statistic against R (tests/oracles/statistics.R) or a published worked example."""

import json
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infarct.evaluation.statistics import (
    anova,
    bland_altman,
    bootstrap_mean,
    chi_square,
    holm,
    icc,
    mcnemar,
    rate,
    spearman,
    summarise,
    wilcoxon,
)

ORACLES = Path(__file__).parent.parent / "oracles"
R = json.loads((ORACLES / "statistics.json").read_text())
scores = st.lists(st.floats(0, 1) | st.just(math.nan), max_size=12)


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="R is not installed")
def test_the_committed_values_are_reproduced_by_r(tmp_path: Path) -> None:
    again = tmp_path / "statistics.json"
    run = subprocess.run(
        ["Rscript", ORACLES / "statistics.R", again], check=False, capture_output=True, text=True
    )
    if "there is no package called" in run.stderr:
        pytest.skip("R has no package boot")
    assert run.returncode == 0, run.stderr
    today = json.loads(again.read_text())
    assert {**today, "made_with": ""} == {**R, "made_with": ""}


def test_summary_agrees_with_r() -> None:
    known = R["summary"]
    seen = summarise([*known["x"], math.nan])
    assert seen.n == len(known["x"])
    assert (seen.mean, seen.sd) == pytest.approx((known["mean"], known["sd"]))
    assert [seen.q1, seen.median, seen.q3] == pytest.approx(known["quartiles"])


def test_bootstrap_interval_agrees_with_r_boot() -> None:
    known = R["summary"]
    seen = bootstrap_mean(known["x"], np.random.default_rng(0), resamples=20000)
    assert [seen.low, seen.high] == pytest.approx(known["bca"], abs=0.0015)


def test_bootstrap_depends_only_on_its_generator() -> None:
    x = R["summary"]["x"]
    one, same, other = (bootstrap_mean(x, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one == same
    assert one != other


@pytest.mark.parametrize("row", range(5))
def test_rate_and_wilson_interval_agree_with_r(row: int) -> None:
    hits, n = R["rate"]["counts"][row]
    seen = rate(np.arange(n) < hits)
    assert (seen.hits, seen.n, seen.rate) == (hits, n, hits / n)
    assert [seen.interval.low, seen.interval.high] == pytest.approx(R["rate"]["wilson"][row])


def test_spearman_and_fisher_interval_agree_with_r() -> None:
    known = R["spearman"]
    seen = spearman(known["x"], known["y"])
    assert (seen.rho, seen.p) == pytest.approx((known["rho"], known["p"]))
    assert [seen.interval.low, seen.interval.high] == pytest.approx(known["interval"])


def test_anova_agrees_with_r_on_its_plant_growth_data() -> None:
    known = R["anova"]
    seen = anova([known["control"], known["first"], known["second"]])
    assert (seen.statistic, seen.p) == pytest.approx((known["statistic"], known["p"]))
    assert (round(seen.statistic, 3), round(seen.p, 4)) == (
        4.846,
        0.0159,
    )  # as printed in the R manual


@pytest.mark.parametrize("table", ["hair", "two"])
def test_chi_square_agrees_with_r(table: str) -> None:
    known = R["chi_square"]
    seen = chi_square(known[table])
    expected = known[f"{table}_statistic"], known[f"{table}_p"]
    assert (seen.statistic, seen.p) == pytest.approx(expected)


@pytest.mark.parametrize("sample", ["few", "many"])
def test_wilcoxon_agrees_with_r_with_and_without_ties(sample: str) -> None:
    known = R["wilcoxon"]
    assert wilcoxon(known[sample], known[f"{sample}_other"]).p == pytest.approx(
        known[f"{sample}_p"]
    )


def test_perfect_rank_agreement_has_an_exact_p_and_no_interval() -> None:
    """As in cor.test(exact = TRUE) of R: 1/3 for three pairs, 1/12 for four."""
    for n, p in ((3, 1 / 3), (4, 1 / 12)):
        for sign in (1, -1):
            seen = spearman(np.arange(n), sign * np.arange(n) ** 2)
            assert (seen.rho, seen.p) == pytest.approx((sign, p))
            assert math.isnan(seen.interval.low)
    assert spearman([1, 1, 2, 2], [3, 3, 5, 5]).p == pytest.approx(1 / 3)  # 8 of 24 orders


def test_wilcoxon_treats_differences_equal_up_to_rounding_as_ties() -> None:
    """Multiples of 1/3 differ in their last bits; the result must equal that of integers."""
    x, y = np.array([3, 2, 3, 2, 3, 2, 0, 1]), np.array([2, 1, 2, 1, 2, 1, 1, 2])
    assert wilcoxon(x / 3, y / 3) == wilcoxon(x, y)
    assert wilcoxon([0.5, 0.6, 0.7, 0.1], [0.4, 0.5, 0.6, 0.2]).p == pytest.approx(0.625)


def test_mcnemar_agrees_with_r() -> None:
    known = R["mcnemar"]
    first = [True] * known["only_first"] + [False] * known["only_second"] + [True] * 20
    second = [False] * known["only_first"] + [True] * known["only_second"] + [True] * 20
    assert mcnemar(first, second).p == pytest.approx(known["p"])


def test_holm_agrees_with_r() -> None:
    known = R["holm"]
    assert holm(known["p"]) == pytest.approx(known["holm"])
    assert holm([*known["p"], math.nan])[:-1] == pytest.approx(known["holm"])


def test_bland_altman_agrees_with_r_and_the_1986_paper() -> None:
    known = R["bland_altman"]
    seen = bland_altman(known["reference"], known["measured"])
    for centre, interval, expected in (
        (seen.bias, seen.bias_interval, known["bias"]),
        (seen.lower, seen.lower_interval, known["lower"]),
        (seen.upper, seen.upper_interval, known["upper"]),
    ):
        assert [centre, interval.low, interval.high] == pytest.approx(expected)
    # Lancet 327, 307-310: mean difference -2.1 (-22.0 to 17.8), SD 38.8 l/min.
    interval = seen.bias_interval
    assert [round(v, 1) for v in (seen.bias, interval.low, interval.high, seen.sd)] == [
        *(-2.1, -22.0, 17.8, 38.8)
    ]


@pytest.mark.parametrize("ratings", ["judges", "pair"])
def test_icc_agrees_with_r(ratings: str) -> None:
    known = R["icc"]
    seen = icc(known[ratings])
    assert [seen.icc, seen.interval.low, seen.interval.high] == pytest.approx(
        known[f"{ratings}_icc"]
    )


def test_icc_agrees_with_shrout_and_fleiss_1979() -> None:
    seen = icc(R["icc"]["judges"])  # Table 4: ICC(2,1) = .29
    assert round(seen.icc, 2) == 0.29


def test_a_constant_shift_lowers_absolute_agreement() -> None:
    ml = np.geomspace(0.5, 100, 20)
    assert icc(np.column_stack([ml, ml])).icc == 1.0
    assert icc(np.column_stack([ml, ml + 30])).icc < 0.9


@settings(max_examples=50)
@given(scores, scores)
@example([0.0, 0.0, 4.849817487564607e-235], [])
def test_small_samples_never_raise(x: list[float], y: list[float]) -> None:
    n = min(len(x), len(y))
    pairs = x[:n], y[:n]
    middle = summarise(x, np.random.default_rng(0), resamples=50)
    assert middle.n == sum(not math.isnan(value) for value in x)
    if not math.isnan(middle.interval.low):
        assert middle.interval.low <= middle.interval.high
    correlation = spearman(*pairs)
    assert math.isnan(correlation.rho) or -1 <= correlation.rho <= 1 + 1e-12
    for test in (anova([x, y]), wilcoxon(*pairs), mcnemar(np.array(x[:n]) > 0.5, [True] * n)):
        assert math.isnan(test.p) or 0 <= test.p <= 1
    bland_altman(*pairs)
    icc(np.column_stack(pairs))
    chi_square([[len(x), len(y)], [n, 0]])
    rate(np.array(x) > 0.5)
