"""Table 2 of the paper and those beyond, as text; made for TSV, HTML and pictures alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from infarct.evaluation import statistics as st
from infarct.evaluation.analysis import CORRELATIONS, Analysis, PairTest
from infarct.evaluation.costs import Cost
from infarct.evaluation.score_table import BY_KEY, METRICS

UNKNOWN = "-"


@dataclass(frozen=True)
class Table:
    """A table as text.

    Attributes:
        name: Stem of its files.
        title: Above it.
        header: Names of the columns.
        rows: Cells; a row with text in its first cell only is a heading.
        notes: Below it.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def number(value: float, decimals: int = 2) -> str:
    """Write a number, or a dash where it is undefined."""
    return UNKNOWN if math.isnan(value) else f"{value:,.{decimals}f}"


def p_value(p: float) -> str:
    """Write a p value to a precision that can be believed."""
    if math.isnan(p):
        return UNKNOWN
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _interval(interval: st.Interval, decimals: int = 2) -> str:
    if math.isnan(interval.low):
        return UNKNOWN
    return f"[{number(interval.low, decimals)}, {number(interval.high, decimals)}]"


def _mean_sd(summary: st.Summary, decimals: int = 2) -> str:
    return f"{number(summary.mean, decimals)} ({number(summary.sd, decimals)})"


def median_iqr(summary: st.Summary, decimals: int = 2) -> str:
    """Write median [quartiles]."""
    if summary.n == 0:
        return UNKNOWN
    quartiles = f"[{number(summary.q1, decimals)}, {number(summary.q3, decimals)}]"
    return f"{number(summary.median, decimals)} {quartiles}"


def _rate(rate: st.Rate) -> str:
    return f"{number(rate.rate)} {_interval(rate.interval)}" if rate.n else UNKNOWN


def share(count: int, n: int) -> str:
    """Write a count and its share in percent."""
    return f"{count} ({100 * count / n:.1f}%)" if n else UNKNOWN


def performance_table(analysis: Analysis, costs: Mapping[str, Cost]) -> Table:
    """Show how well each tool did on subjects with a lesion, and what it needs.

    References:
        Liu et al. 2021, Table 2.
    """
    header = ["Tool", "n", "Mean Dice 95% CI", *(metric.label for metric in METRICS)]
    header += ["SDR [95% CI]", "Lesion touched [95% CI]"]
    header += ["Parameters", "Seconds", "Memory, GB"] if costs else []
    rows: list[tuple[str, ...]] = []
    heading = ""
    for each in analysis.performance:
        if each.group != heading:
            heading = each.group
            rows.append((heading, *("" for _ in header[1:])))
        row = [each.tool, f"{each.n}" + (f"\n({each.missing} missing)" if each.missing else "")]
        row.append(_interval(each.summaries["dice"].interval))
        for metric in METRICS:
            summary = each.summaries[metric.key]
            mean, median = _mean_sd(summary, metric.decimals), median_iqr(summary, metric.decimals)
            row.append(f"{mean}\n{median}")
        row += [_rate(each.detection), _rate(each.touch)]
        row += _needs(costs.get(each.tool, Cost())) if costs else []
        rows.append(tuple(row))
    notes = [
        "First line mean (SD), second line median [IQR]. SDR: share of subjects in whom anything "
        "was outlined; touched: in whom the outline shares a voxel with the lesion.",
        "A missing prediction counts as a failure: Dice 0, lesion not detected.",
    ]
    if not costs:
        notes.append("Parameters, seconds and memory were not given.")
    title = "Table 2. Performance on subjects with a lesion"
    return Table("table2_performance", title, tuple(header), tuple(rows), tuple(notes))


def _needs(cost: Cost) -> list[str]:
    return [number(cost.parameters, 0), number(cost.seconds, 1), number(cost.memory_gb, 1)]


def false_alarm_table(analysis: Analysis) -> Table:
    """Show what each tool outlined where there is nothing."""
    header = ["Group", "Tool", "n", "Missing", "False-positive SDR [95% CI]"]
    header += ["Voxels, mean (SD)", "ml, mean (SD)", "ml, median [IQR]"]
    rows = []
    for each in analysis.false_alarms:
        row = [each.group, each.tool, str(each.n), str(each.missing), _rate(each.flagged)]
        row += [_mean_sd(each.fp_voxels, 0), _mean_sd(each.fp_ml), median_iqr(each.fp_ml)]
        rows.append(tuple(row))
    note = "A missing prediction counts as a subject falsely flagged."
    title = "False alarms on subjects without a lesion"
    return Table("false_alarms", title, tuple(header), tuple(rows), (note,))


def relation_table(analysis: Analysis) -> Table:
    """Show correlations and the agreement of volumes."""
    header = ["Tool", "n", *(f"rho {name} [95% CI]" for name in CORRELATIONS)]
    header += ["Volume bias, ml [95% CI]", "Limits of agreement, ml", "Volume ICC [95% CI]"]
    rows = []
    for each in analysis.relations:
        if each.volume.n == 0:
            continue
        row = [each.tool, str(each.volume.n), *(_rho(c) for c in each.correlations.values())]
        row += [
            f"{number(each.volume.bias)} {_interval(each.volume.bias_interval)}",
            f"{number(each.volume.lower)} to {number(each.volume.upper)}",
            f"{number(each.volume_icc.icc)} {_interval(each.volume_icc.interval)}",
        ]
        rows.append(tuple(row))
    group = analysis.relations[0].group if analysis.relations else ""
    note = (
        "rho: Spearman, interval by Fisher's transformation (z = 1.96). Bias: predicted minus "
        "reference volume. ICC: two-way random, absolute agreement, single rating."
    )
    title = f"Correlation and agreement: {group}"
    return Table("relations", title, tuple(header), tuple(rows), (note,))


def _rho(correlation: st.Correlation) -> str:
    if math.isnan(correlation.rho):
        return UNKNOWN
    return f"{number(correlation.rho)} {_interval(correlation.interval)} (n = {correlation.n})"


def comparison_table(analysis: Analysis) -> Table:
    """Show the paired tests between tools."""
    shares = {"touched": "Lesion touched", "detected": "Falsely flagged"}
    rows = tuple(
        (
            each.group,
            shares.get(each.metric) or BY_KEY[each.metric].label,
            each.first,
            each.second,
            f"{number(each.difference, 3)} {_interval(each.interval, 3)}",
            p_value(each.test.p),
            p_value(each.p_holm),
        )
        for each in analysis.comparisons
    )
    header = ("Group", "Metric", "Tool A", "Tool B", "A - B, mean [95% CI]", "p", "p corrected")
    note = (
        "Wilcoxon's signed ranks on the same subjects, McNemar's exact test for shares; corrected "
        "after Holm for the pairs of tools compared on one metric in one group."
    )
    return Table("comparisons", "Tools compared, subject by subject", header, rows, (note,))


def tools_test_table(analysis: Analysis) -> Table:
    """Show the paper's ANOVA across tools."""
    rows = tuple(
        (each.group, BY_KEY[each.metric].label, number(each.test.statistic), p_value(each.test.p))
        for each in analysis.tools_tests
    )
    title = "Do the tools differ at all? ANOVA, as in the paper"
    return Table("tools_anova", title, ("Group", "Metric", "F", "p"), rows)


def tool_pairs_table(analysis: Analysis) -> Table:
    """Show the paper's ANOVA of every pair of tools."""
    rows = tuple(
        (
            each.group,
            str(each.n),
            BY_KEY[each.metric].label,
            pair.first,
            pair.second,
            *_pair_cells(pair),
        )
        for each in analysis.tool_pairs
        for pair in each.pairs
    )
    header = ("Group", "n", "Metric", "Tool A", "Tool B", *_PAIR_HEADER)
    note = f"{_PAIR_NOTE} for the pairs of tools on one metric in one group."
    title = "Pairs of tools: ANOVA, as in the paper"
    return Table("tools_anova_pairs", title, header, rows, (note,))


def level_pairs_table(analysis: Analysis) -> Table:
    """Show the paper's ANOVA of every pair of levels of a stratum."""
    rows = tuple(
        (
            each.stratum,
            BY_KEY[each.metric].label,
            each.tool,
            pair.first,
            pair.second,
            *_pair_cells(pair),
        )
        for each in analysis.level_pairs
        for pair in each.pairs
    )
    header = ("Stratum", "Metric", "Tool", "Level A", "Level B", *_PAIR_HEADER)
    note = f"{_PAIR_NOTE} for the pairs of levels of one tool, metric and stratum."
    title = "Pairs of levels: ANOVA, as in the paper"
    return Table("strata_anova_pairs", title, header, rows, (note,))


_PAIR_HEADER = ("A - B, mean", "F", "p", "p Holm", "p Bonferroni")
_PAIR_NOTE = "One-way ANOVA of two samples, taken as independent; corrected"


def _pair_cells(pair: PairTest) -> tuple[str, ...]:
    p = (p_value(value) for value in (pair.test.p, pair.p_holm, pair.p_bonferroni))
    return number(pair.difference, 3), number(pair.test.statistic), *p


def rater_table(analysis: Analysis) -> Table:
    """Show how far human raters agree."""
    rows = []
    for each in analysis.raters:
        row = [each.kind, each.first, each.second, str(each.scans), str(each.both_empty)]
        row += [_mean_sd(each.dice), _interval(each.dice.interval), median_iqr(each.dice)]
        volume, icc = each.volume, each.volume_icc
        row.append(f"{number(volume.bias)} {_interval(volume.bias_interval)}" if volume else "")
        row.append(f"{number(icc.icc)} {_interval(icc.interval)}" if icc else "")
        rows.append(tuple(row))
    header = (
        *("Agreement", "Reading A", "Reading B", "Scans", "Both empty", "Dice, mean (SD)"),
        *("Mean Dice 95% CI", "Dice, median [IQR]", "Volume B - A, ml [95% CI]"),
        "Volume ICC [95% CI]",
    )
    note = (
        "Scans that both readings outlined nothing on are counted and left out of Dice and volume. "
        "All pairs: over all pairs of readings of all scans."
    )
    title = "Agreement of human raters"
    return Table("rater_agreement", title, header, tuple(rows), (note,))


def stratum_table(analysis: Analysis) -> Table:
    """Show each tool across the levels of each stratum, with the paper's ANOVA."""
    rows: list[tuple[str, ...]] = []
    for each in analysis.stratum_tests:
        metric = BY_KEY[each.metric]
        levels = "\n".join(
            f"{level} (n = {summary.n}): {_mean_sd(summary, metric.decimals)}"
            for level, summary in each.levels.items()
        )
        rows.append((each.stratum, metric.label, each.tool, levels, p_value(each.test.p)))
    header = ("Stratum", "Metric", "Tool", "Mean (SD) by level", "p")
    return Table("strata", "Consistency across strata", header, tuple(rows), ("p: ANOVA.",))
