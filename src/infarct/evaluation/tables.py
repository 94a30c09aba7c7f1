"""Tables of the evaluation as text cells, shared by the TSV, HTML and figure outputs."""

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
    """A table of text cells.

    Attributes:
        name: Stem of the output file names.
        title: Title shown above the table.
        header: Column names.
        rows: Cells. A row with text in its first cell only is a subheading.
        notes: Notes shown below the table.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def number(value: float, decimals: int = 2) -> str:
    """Format a number; a dash if it is undefined."""
    return UNKNOWN if math.isnan(value) else f"{value:,.{decimals}f}"


def p_value(p: float) -> str:
    """Format a p value to three decimals; a dash if it is undefined."""
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
    """Format a sample as median [quartiles]."""
    if summary.n == 0:
        return UNKNOWN
    quartiles = f"[{number(summary.q1, decimals)}, {number(summary.q3, decimals)}]"
    return f"{number(summary.median, decimals)} {quartiles}"


def _rate(rate: st.Rate) -> str:
    return f"{number(rate.rate)} {_interval(rate.interval)}" if rate.n else UNKNOWN


def share(count: int, n: int) -> str:
    """Format a count and its percentage of `n`."""
    return f"{count} ({100 * count / n:.1f}%)" if n else UNKNOWN


def performance_table(analysis: Analysis, costs: Mapping[str, Cost]) -> Table:
    """Tabulate the performance of each tool on subjects with a lesion, and its costs.

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
        "First line: mean (SD). Second line: median [IQR]. SDR: subject detection rate, the "
        "proportion of subjects with a non-empty prediction. Lesion touched: proportion of "
        "subjects whose prediction shares at least one voxel with the reference.",
        "A missing prediction counts as a failure (Dice 0, lesion not detected).",
    ]
    if not costs:
        notes.append("Parameters, run time and memory were not provided.")
    title = "Table 2. Performance on subjects with a lesion"
    return Table("table2_performance", title, tuple(header), tuple(rows), tuple(notes))


def _needs(cost: Cost) -> list[str]:
    return [number(cost.parameters, 0), number(cost.seconds, 1), number(cost.memory_gb, 1)]


def false_alarm_table(analysis: Analysis) -> Table:
    """Tabulate the false positives of each tool in lesion-free subjects."""
    header = ["Group", "Tool", "n", "Missing", "False-positive SDR [95% CI]"]
    header += ["Voxels, mean (SD)", "ml, mean (SD)", "ml, median [IQR]"]
    rows = []
    for each in analysis.false_alarms:
        row = [each.group, each.tool, str(each.n), str(each.missing), _rate(each.flagged)]
        row += [_mean_sd(each.fp_voxels, 0), _mean_sd(each.fp_ml), median_iqr(each.fp_ml)]
        rows.append(tuple(row))
    note = (
        "False-positive SDR: proportion of lesion-free subjects with a non-empty prediction. A "
        "missing prediction counts as a false positive. Voxels and ml are averaged over all "
        "subjects in the group."
    )
    title = "False positives in lesion-free subjects"
    return Table("false_alarms", title, tuple(header), tuple(rows), (note,))


def relation_table(analysis: Analysis) -> Table:
    """Tabulate correlations and the agreement of volumes."""
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
        "rho: Spearman's rank correlation; confidence interval by Fisher's transformation "
        "(z = 1.96). Bias: mean of predicted minus reference volume. ICC: intraclass correlation, "
        "two-way random effects, absolute agreement, single rating, ICC(2,1). κ: mean intensity of "
        "the lesion divided by that of normal tissue."
    )
    title = f"Correlation and agreement: {group}"
    return Table("relations", title, tuple(header), tuple(rows), (note,))


def _rho(correlation: st.Correlation) -> str:
    if math.isnan(correlation.rho):
        return UNKNOWN
    return f"{number(correlation.rho)} {_interval(correlation.interval)} (n = {correlation.n})"


def comparison_table(analysis: Analysis) -> Table:
    """Tabulate the paired tests between tools."""
    shares = {"touched": "Lesion touched", "detected": "False-positive SDR"}
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
        "Wilcoxon signed-rank test on the same subjects; McNemar's exact test for proportions. "
        "p corrected: Holm's correction for all pairs of tools on one metric in one group."
    )
    return Table("comparisons", "Paired comparison of tools", header, rows, (note,))


def tools_test_table(analysis: Analysis) -> Table:
    """Tabulate the ANOVA across tools, as in the paper."""
    rows = tuple(
        (each.group, BY_KEY[each.metric].label, number(each.test.statistic), p_value(each.test.p))
        for each in analysis.tools_tests
    )
    title = "Overall difference between tools: one-way ANOVA, as in the paper"
    return Table("tools_anova", title, ("Group", "Metric", "F", "p"), rows)


def tool_pairs_table(analysis: Analysis) -> Table:
    """Tabulate the ANOVA of every pair of tools, as in the paper."""
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
    note = f"{_PAIR_NOTE} all pairs of tools on one metric in one group."
    title = "Pairwise comparison of tools: one-way ANOVA, as in the paper"
    return Table("tools_anova_pairs", title, header, rows, (note,))


def level_pairs_table(analysis: Analysis) -> Table:
    """Tabulate the ANOVA of every pair of levels of a stratum, as in the paper."""
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
    note = f"{_PAIR_NOTE} all pairs of levels of one stratum, for one tool and metric."
    title = "Pairwise comparison of levels: one-way ANOVA, as in the paper"
    return Table("strata_anova_pairs", title, header, rows, (note,))


_PAIR_HEADER = ("A - B, mean", "F", "p", "p Holm", "p Bonferroni")
_PAIR_NOTE = (
    "One-way ANOVA of two samples, treated as independent. p Holm, p Bonferroni: corrected for"
)


def _pair_cells(pair: PairTest) -> tuple[str, ...]:
    p = (p_value(value) for value in (pair.test.p, pair.p_holm, pair.p_bonferroni))
    return number(pair.difference, 3), number(pair.test.statistic), *p


def rater_table(analysis: Analysis) -> Table:
    """Tabulate the agreement of human raters."""
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
        "Both empty: scans in which both readings are empty; they are excluded from Dice and "
        "volume. All pairs: pooled over all pairs of readings."
    )
    title = "Agreement of human raters"
    return Table("rater_agreement", title, header, tuple(rows), (note,))


def stratum_table(analysis: Analysis) -> Table:
    """Tabulate each tool by level of each stratum, with the ANOVA of the paper."""
    rows: list[tuple[str, ...]] = []
    for each in analysis.stratum_tests:
        metric = BY_KEY[each.metric]
        levels = "\n".join(
            f"{level} (n = {summary.n}): {_mean_sd(summary, metric.decimals)}"
            for level, summary in each.levels.items()
        )
        rows.append((each.stratum, metric.label, each.tool, levels, p_value(each.test.p)))
    header = ("Stratum", "Metric", "Tool", "Mean (SD) by level", "p")
    return Table(
        "strata",
        "Consistency across strata",
        header,
        tuple(rows),
        ("p: one-way ANOVA across levels.",),
    )
