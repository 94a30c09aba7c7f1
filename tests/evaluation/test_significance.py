"""P values of pairs, flowchart and rater agreement, each against an independent computation."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from blobs import SHAPE, blobs, imperfect
from disk import save
from matplotlib.text import Text
from scipy import stats
from test_report_contents import invented
from typer.testing import CliRunner

from infarct.cli.main import app
from infarct.evaluation.analysis import PAPER_METRICS, PairTest, analyse, pair_tests
from infarct.evaluation.flowchart import flow_of, flowchart
from infarct.evaluation.score_table import Results
from infarct.evaluation.significance import cell_text, shade, strata_figure, tools_figure
from infarct.evaluation.statistics import Test as Outcome
from infarct.evaluation.subjects import Subjects, read_subjects

RNG = np.random.default_rng(5)


def pair(metric: str, difference: float, p: float, holm: float = 1.0) -> PairTest:
    return PairTest(metric, "A", "B", difference, Outcome("ANOVA", 1.0, p), holm, 1.0)


def with_cohorts(results: Results) -> Results:
    values = {
        name: {"cohort": ("testing", "STIR")[k % 2], "sex": "MF"[k // 2 % 2]}
        for k, name in enumerate(results.measured)
    }
    return replace(results, table=Subjects(values, ()))


def test_anova_of_a_pair_equals_the_t_test_and_corrections_are_exact() -> None:
    """For two groups F is the square of Student's t with pooled variance, and P is equal."""
    samples = {
        name: RNG.normal(shift, 1, 20) for name, shift in zip("ABC", (0, 0.7, 1), strict=True)
    }
    found = pair_tests("dice", samples)
    assert [(each.first, each.second) for each in found] == list(combinations("ABC", 2))
    for each in found:
        student = stats.ttest_ind(samples[each.first], samples[each.second])
        assert each.test.statistic == pytest.approx(student.statistic**2)
        assert each.test.p == pytest.approx(student.pvalue)
        assert each.difference == pytest.approx(
            samples[each.first].mean() - samples[each.second].mean()
        )
        assert each.p_bonferroni == pytest.approx(min(3 * each.test.p, 1))
        assert each.test.p <= each.p_holm <= each.p_bonferroni
    least = min(found, key=lambda each: each.test.p)
    assert least.p_holm == pytest.approx(3 * least.test.p)


def test_pairs_that_cannot_be_tested_do_not_affect_the_correction() -> None:
    flat, same, free = np.ones(5), np.ones(5), RNG.normal(0, 1, 5)
    found = {(e.first, e.second): e for e in pair_tests("dice", {"A": flat, "B": same, "C": free})}
    assert np.isnan(found["A", "B"].test.p)
    assert found["A", "C"].p_bonferroni == pytest.approx(min(2 * found["A", "C"].test.p, 1))


def test_each_pair_of_tools_and_levels_occurs_once() -> None:
    results = with_cohorts(invented(40, ("A", "B", "C"), healthy=8))
    analysis = analyse(results, np.random.default_rng(0), resamples=20)
    groups = {group.name for group in results.lesion_groups}
    free = {group.name for group in results.lesion_free_groups}
    seen = Counter((each.group, each.metric) for each in analysis.tool_pairs)
    assert seen == Counter(
        [(name, key) for name in groups for key in PAPER_METRICS]
        + [(name, "fp_voxels") for name in free]
    )
    assert all(len(each.pairs) == 3 for each in analysis.tool_pairs)
    sex = [e for e in analysis.level_pairs if e.stratum == "Sex"]
    assert len(sex) == len(PAPER_METRICS) * 3
    men, women = (
        [n for n in results.with_lesion if results.table.value(n, "sex") == s] for s in "MF"
    )
    (dice_of_b,) = (e for e in sex if (e.tool, e.metric) == ("B", "dice"))
    expected = stats.ttest_ind(*(results.values("B", "dice", who) for who in (men, women)))
    assert dice_of_b.pairs[0].test.p == pytest.approx(expected.pvalue)


def test_colour_shows_the_better_side_for_metrics_of_either_direction() -> None:
    better, worse = shade(pair("dice", 0.1, 0.0001)), shade(pair("dice", -0.1, 0.0001))
    assert better[2] > better[0]  # blue
    assert worse[0] > worse[2]  # orange
    assert shade(pair("fp_voxels", 10, 0.0001)) == worse
    assert shade(pair("fp_voxels", -10, 0.0001)) == better
    depths = [sum(shade(pair("dice", 0.1, p))) for p in (0.0005, 0.005, 0.03)]
    assert depths == sorted(depths)
    assert len({round(d, 3) for d in depths}) == 3
    for p in (0.05, 0.8, np.nan):
        assert len(set(shade(pair("dice", 0.1, p)))) == 1  # grey


def test_a_star_marks_significance_after_correction() -> None:
    assert cell_text(pair("dice", 0.1, 0.02, holm=0.06)) == ".020"
    assert cell_text(pair("dice", 0.1, 0.02, holm=0.04)) == ".020*"
    assert cell_text(pair("dice", 0.1, 0.0002, holm=0.0004)) == "<.001*"
    assert cell_text(pair("dice", 0.1, 0.99999)) == "1"
    assert cell_text(pair("dice", 0.1, np.nan, holm=np.nan)) == "-"


def test_supplementary_figures_show_every_p_value() -> None:
    results = with_cohorts(invented(40, ("A", "B", "C"), healthy=8))
    analysis = analyse(results, np.random.default_rng(0), resamples=20)
    for figure, families in (
        (tools_figure(analysis, results.tools), analysis.tool_pairs),
        (strata_figure(analysis, results.tools), analysis.level_pairs),
    ):
        shown = Counter(
            text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()
        )
        assert shown == Counter(cell_text(p) for each in families for p in each.pairs)
    # Position: panel of all subjects with a lesion and Dice, row A, column C.
    cell = tools_figure(analysis, results.tools).axes[0].texts
    where = {tuple(map(int, text.get_position())): text.get_text() for text in cell}
    (ac,) = (p for p in analysis.tool_pairs[0].pairs if (p.first, p.second) == ("A", "C"))
    assert where[1, 0] == cell_text(ac)


def test_the_flowchart_adds_up(tmp_path: Path) -> None:
    names = [f"s{number:04d}" for number in range(12)]
    rows = ["participant_id\tcohort"]
    rows += [f"{name}\t{'not visible' if k >= 9 else 'testing'}" for k, name in enumerate(names)]
    rows += [f"t{k}\ttraining" for k in range(7)] + ["x\tn/a"]
    (tmp_path / "subjects.tsv").write_text("\n".join(rows))
    results = replace(
        invented(12, ("A", "B"), healthy=3), table=read_subjects(tmp_path / "subjects.tsv", names)
    )
    for name in ("s0001", "s0010", "s0011"):
        scores = results.measured[name].scores
        scores["B"] = replace(scores["B"], missing=True)
    flow = flow_of(results)
    assert flow.elsewhere == {"training": 7, "": 1}
    assert (flow.with_lesion, flow.lesion_free) == ({"testing": 9}, {"not visible": 3})
    assert flow.missing == {"A": (0, 0), "B": (1, 2)}
    assert (flow.listed, flow.evaluated) == (20, 12)
    texts = [text.get_text() for text in flowchart(flow).findobj(Text)]
    assert "Scans\nn = 20" in texts
    assert "Not evaluated\nn = 8\ntraining: 7\nunknown cohort: 1" in texts
    assert "Predictions\nA: 12\nB: 9 (missing: 1 with a lesion, 2 lesion-free)" in texts
    boxes = [patch.get_bbox() for patch in flowchart(flow).axes[0].patches]
    frame = max(boxes, key=lambda box: box.width * box.height)
    inside = [b for b in boxes if b is not frame and b.x0 > frame.x0 and b.y1 < frame.y1]
    assert len(inside) == 4  # all boxes except "Scans" and "Not evaluated"
    assert all(frame.x0 < b.x0 and b.x1 < frame.x1 and frame.y0 < b.y0 for b in inside)


def test_the_command_reports_rater_agreement(tmp_path: Path) -> None:
    """Anna read six scans twice and Ben read four once; Dice is recomputed here."""
    masks: dict[str, dict[int, np.ndarray]] = {"first": {}, "second": {}, "ben": {}}
    for number in range(7):
        rng = np.random.default_rng(number)
        lesion = blobs(rng, 0.02) if number != 5 else np.zeros(SHAPE, bool)
        for folder, until in (
            ("reference", 7),
            ("tool", 7),
            ("first", 6),
            ("second", 6),
            ("ben", 4),
        ):
            if number < until:
                drawn = imperfect(lesion, rng, 0.15) if lesion.any() else lesion
                save(tmp_path / folder / f"s{number}.nii.gz", drawn)
                masks.get(folder, {})[number] = drawn
    where = {name: str(tmp_path / name) for name in ("reference", "tool", *masks)}
    command = ["evaluate", "--reference", where["reference"], "--out", str(tmp_path / "out")]
    command += ["--prediction", f"tool={where['tool']}", "--workers", "1"]
    command += ["--rater", f"anna={where['first']}", "--rater", f"anna={where['second']}"]
    done = CliRunner().invoke(app, [*command, "--rater", f"ben={where['ben']}"])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out/evaluation.json").read_text())["raters"]
    kinds = [(row["kind"], row["first"], row["second"], row["scans"]) for row in found]
    assert kinds == [
        ("inter-rater", "anna, reading 1", "ben", 4),
        ("inter-rater", "anna, reading 2", "ben", 4),
        ("inter-rater", "all pairs", "", 8),
        ("intra-rater", "anna, reading 1", "anna, reading 2", 6),
    ]

    def dice(a: str, b: str) -> list[float]:
        both = [(masks[a][n], masks[b][n]) for n in masks[a] if n in masks[b]]
        return [2 * (x & y).sum() / (x.sum() + y.sum()) for x, y in both if (x | y).any()]

    expected = [dice("first", "ben"), dice("second", "ben")]
    expected += [expected[0] + expected[1], dice("first", "second")]
    for row, values in zip(found, expected, strict=True):
        assert row["dice"]["n"] == len(values)
        assert row["dice"]["mean"] == pytest.approx(np.mean(values))
        assert row["dice"]["sd"] == pytest.approx(np.std(values, ddof=1))
    assert [row["both_empty"] for row in found] == [0, 0, 0, 1]
    table = (tmp_path / "out/rater_agreement.tsv").read_text()
    assert f"{np.mean(expected[3]):.2f} ({np.std(expected[3], ddof=1):.2f})" in table
    for name in ("fig1_flowchart", "rater_agreement"):
        assert (tmp_path / f"out/{name}.png").stat().st_size > 1000
    bad = CliRunner().invoke(app, [*command, "--rater", "ben"])
    assert bad.exit_code == 2
