"""Tables 1 and 2 of the paper and those beyond, as text; made for TSV, HTML and pictures alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from infarct.evaluation import statistics as st
from infarct.evaluation.analysis import CORRELATIONS, Analysis
from infarct.evaluation.results import BY_KEY, METRICS, Results
from infarct.evaluation.subjects import TITLES

UNKNOWN = "-"
_MAJOR_SHARE = 0.05
_EARLY = ("<2 h", "2-6 h")


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


@dataclass(frozen=True)
class Cost:
    """What a tool needs.

    Attributes:
        parameters: Trainable parameters; NaN if unknown.
        seconds: To segment one subject; NaN if unknown.
        memory_gb: Peak memory; NaN if unknown.
    """

    parameters: float = math.nan
    seconds: float = math.nan
    memory_gb: float = math.nan


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


def _median_iqr(summary: st.Summary, decimals: int = 2) -> str:
    if summary.n == 0:
        return UNKNOWN
    quartiles = f"[{number(summary.q1, decimals)}, {number(summary.q3, decimals)}]"
    return f"{number(summary.median, decimals)} {quartiles}"


def _rate(rate: st.Rate) -> str:
    return f"{number(rate.rate)} {_interval(rate.interval)}" if rate.n else UNKNOWN


def _share(count: int, n: int) -> str:
    return f"{count} ({100 * count / n:.1f}%)" if n else UNKNOWN


def cohort_table(results: Results) -> Table:
    """Describe the cohorts and test whether they are balanced.

    References:
        Liu et al. 2021, Table 1 and Supplementary Table 1: ANOVA for numbers, chi-square for
        categories; of race and manufacturer the major groups (here those of at least 5% of all),
        of onset below 6 h against from 6 h on.
    """
    everyone = tuple(results.measured)
    cohorts = {
        level: tuple(results.cohorts.members(level, everyone)) for level in results.cohorts.levels
    } or {"All subjects": everyone}
    many = len(cohorts) > 1
    lesioned = {
        name: tuple(s for s in members if results.reference_ml[s] > 0)
        for name, members in cohorts.items()
    }
    rows: list[tuple[str, ...]] = [("Subjects", *(str(len(m)) for m in cohorts.values()), "")]
    rows.append(
        ("With a lesion", *(_share(len(lesioned[c]), len(cohorts[c])) for c in cohorts), "")
    )

    def add_numbers(
        title: str,
        value: Callable[[str], float],
        members: Mapping[str, Sequence[str]],
        decimals: int = 2,
    ) -> None:
        samples = [[value(subject) for subject in names] for names in members.values()]
        summaries = [st.summarise(sample) for sample in samples]
        if any(summary.n for summary in summaries):
            test = p_value(st.anova(samples).p) if many else ""
            rows.append((title, *(_median_iqr(each, decimals) for each in summaries), test))

    def add_categories(key: str, members: Mapping[str, Sequence[str]]) -> None:
        names = [subject for each in members.values() for subject in each]
        stratum = results.stratum(key, names)
        counts = np.array(
            [
                [len(stratum.members(level, each)) for each in members.values()]
                for level in stratum.levels
            ]
        ).reshape(len(stratum.levels), len(members))
        if not counts.any():
            return
        test = p_value(st.chi_square(_compared(key, stratum.levels, counts)).p) if many else ""
        rows.append((stratum.title, *("" for _ in members), test))
        sizes = [len(each) for each in members.values()]
        unknown = np.array(sizes) - counts.sum(axis=0)
        for level, row in zip((*stratum.levels, "missing"), (*counts, unknown), strict=True):
            if row.any():
                shares = (_share(int(c), n) for c, n in zip(row, sizes, strict=True))
                rows.append((f"   {level}", *shares, ""))

    add_numbers(f"{TITLES['age']}, median [IQR]", _of(results, "age"), cohorts, 1)
    for key in ("sex", "race"):
        add_categories(key, cohorts)
    add_numbers(f"{TITLES['nihss']}, median [IQR]", _of(results, "nihss"), cohorts, 1)
    add_categories("onset", cohorts)
    for key in ("hemisphere", "territory"):
        add_categories(key, lesioned)
    territories = results.stratum("territory", results.with_lesion)
    for title, key in (
        ("Lesion volume, ml", "reference_ml"),
        ("Lesion contrast in DWI", "kappa_dwi_reference"),
        ("Lesion contrast in ADC", "kappa_adc_reference"),
    ):
        value = _score_of(results, key)
        add_numbers(f"{title}, median [IQR]", value, lesioned)
        for level in territories.levels:
            of_level = {name: territories.members(level, each) for name, each in lesioned.items()}
            add_numbers(f"   {title}, {level}", value, of_level)
    for key in ("manufacturer", "field_strength"):
        add_categories(key, cohorts)
    for title, largest in (("Voxel height/width, mm", False), ("Voxel thickness, mm", True)):
        add_numbers(f"{title}, median [IQR]", _voxel_mm(results, largest), cohorts)
    notes = [
        "p: ANOVA for numbers, chi-square for categories, between the cohorts (of race and "
        "manufacturer: groups of at least 5% of all; of onset: below against from 6 h on).",
    ] * many
    if results.table.missing:
        unknown = ", ".join(TITLES[column].lower() for column in results.table.missing)
        notes.append(f"Not in the subjects' table, so not shown: {unknown}.")
    header = ("", *cohorts, *(("p",) if many else ()))
    kept = tuple(row if many else row[:-1] for row in rows)
    return Table("table1_cohort", "Table 1. Who was measured", header, kept, tuple(notes))


def _of(results: Results, column: str) -> Callable[[str], float]:
    return lambda subject: results.table.number(subject, column)


def _score_of(results: Results, key: str) -> Callable[[str], float]:
    tool = results.tools[0]
    return lambda subject: float(getattr(results.measured[subject].scores[tool], key))


def _voxel_mm(results: Results, largest: bool) -> Callable[[str], float]:
    def value(subject: str) -> float:
        steps = sorted(results.measured[subject].spacing)
        return steps[2] if largest else (steps[0] + steps[1]) / 2

    return value


def _compared(key: str, levels: Sequence[str], counts: np.ndarray) -> np.ndarray:
    """Return the rows that the paper's Supplementary Table 1 tests."""
    if key == "onset":
        early = np.isin(levels, _EARLY)
        return np.stack([counts[early].sum(axis=0), counts[~early].sum(axis=0)])
    if key in ("race", "manufacturer"):
        major: np.ndarray = counts[counts.sum(axis=1) >= _MAJOR_SHARE * counts.sum()]
        return major
    return counts


def performance_table(analysis: Analysis, costs: Mapping[str, Cost]) -> Table:
    """Show how well each tool did on subjects with a lesion, and what it needs.

    References:
        Liu et al. 2021, Table 2.
    """
    cost_columns = ("Parameters", "Seconds", "Memory, GB") if costs else ()
    header = (
        *("Tool", "n", "Dice 95% CI"),
        *(metric.label for metric in METRICS),
        *("SDR [95% CI]", "Lesion touched [95% CI]", *cost_columns),
    )
    rows: list[tuple[str, ...]] = []
    heading = ""
    for each in analysis.performance:
        if each.group != heading:
            heading = each.group
            rows.append((heading, *("" for _ in header[1:])))
        n = f"{each.n}" + (f"\n({each.missing} missing)" if each.missing else "")
        summaries = (
            f"{_mean_sd(each.summaries[m.key], m.decimals)}\n"
            f"{_median_iqr(each.summaries[m.key], m.decimals)}"
            for m in METRICS
        )
        cost = costs.get(each.tool, Cost())
        needs = (number(cost.parameters, 0), number(cost.seconds, 1), number(cost.memory_gb, 1))
        rows.append(
            (
                *(each.tool, n, _interval(each.summaries["dice"].interval)),
                *(*summaries, _rate(each.detection), _rate(each.touch)),
                *needs[: len(cost_columns)],
            )
        )
    notes = [
        "First line mean (SD), second line median [IQR]. SDR: share of subjects in whom anything "
        "was outlined; touched: in whom the outline shares a voxel with the lesion.",
        "A missing prediction counts as a failure: Dice 0, lesion not detected.",
    ]
    if not costs:
        notes.append("Parameters, seconds and memory were not given.")
    title = "Table 2. Performance on subjects with a lesion"
    return Table("table2_performance", title, header, tuple(rows), tuple(notes))


def false_alarm_table(analysis: Analysis) -> Table:
    """Show what each tool outlined where there is nothing."""
    rows = tuple(
        (
            *(each.group, each.tool, str(each.n), str(each.missing), _rate(each.flagged)),
            *(_mean_sd(each.fp_voxels, 0), _mean_sd(each.fp_ml), _median_iqr(each.fp_ml)),
        )
        for each in analysis.false_alarms
    )
    header = (
        *("Group", "Tool", "n", "Missing", "False-positive SDR [95% CI]"),
        *("Voxels, mean (SD)", "ml, mean (SD)", "ml, median [IQR]"),
    )
    note = "A missing prediction counts as a subject falsely flagged."
    return Table("false_alarms", "False alarms on subjects without a lesion", header, rows, (note,))


def relation_table(analysis: Analysis) -> Table:
    """Show correlations and the agreement of volumes."""
    header = (
        *("Tool", "n", *(f"rho {name} [95% CI]" for name in CORRELATIONS)),
        *("Volume bias, ml [95% CI]", "Limits of agreement, ml", "Volume ICC [95% CI]"),
    )
    rows = tuple(
        (
            *(each.tool, str(each.volume.n)),
            *(f"{number(c.rho)} {_interval(c.interval)}" for c in each.correlations.values()),
            f"{number(each.volume.bias)} {_interval(each.volume.bias_interval)}",
            f"{number(each.volume.lower)} to {number(each.volume.upper)}",
            f"{number(each.volume_icc.icc)} {_interval(each.volume_icc.interval)}",
        )
        for each in analysis.relations
    )
    group = analysis.relations[0].group if analysis.relations else ""
    note = (
        "rho: Spearman, interval by Fisher's transformation (z = 1.96). Bias: predicted minus "
        "reference volume. ICC: two-way random, absolute agreement, single rating."
    )
    return Table("relations", f"Correlation and agreement: {group}", header, rows, (note,))


def comparison_table(analysis: Analysis) -> Table:
    """Show the paired tests between tools."""
    titles = {"touched": "Lesion touched", "detected": "Falsely flagged"}
    rows = tuple(
        (
            *(each.group, titles.get(each.metric) or BY_KEY[each.metric].label),
            *(each.first, each.second),
            f"{number(each.difference, 3)} {_interval(each.interval, 3)}",
            *(p_value(each.test.p), p_value(each.p_holm)),
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
