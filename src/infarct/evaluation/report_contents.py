"""Selects the tables and figures of an evaluation report and orders them as in the paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from infarct.evaluation import figures, tables
from infarct.evaluation.analysis import Analysis
from infarct.evaluation.cohort_table import cohort_table
from infarct.evaluation.costs import Cost
from infarct.evaluation.flowchart import flow_of, flowchart
from infarct.evaluation.gallery import gallery, pick
from infarct.evaluation.plot_style import save
from infarct.evaluation.report import Section
from infarct.evaluation.score_table import Results
from infarct.evaluation.significance import strata_figure, tools_figure
from infarct.evaluation.subject_scores import Case
from infarct.evaluation.subjects import Stratum
from infarct.evaluation.table_figure import draw_table
from infarct.evaluation.tables import Table

Drawing = Callable[[], Figure]
"""Draws one figure when called; all its data are bound."""


def all_tables(results: Results, analysis: Analysis, costs: Mapping[str, Cost]) -> dict[str, Table]:
    """Build all tables that have at least one row, by name."""
    made = (
        cohort_table(results),
        tables.performance_table(analysis, costs),
        tables.false_alarm_table(analysis),
        tables.relation_table(analysis),
        tables.comparison_table(analysis),
        tables.tools_test_table(analysis),
        tables.tool_pairs_table(analysis),
        tables.stratum_table(analysis),
        tables.level_pairs_table(analysis),
        tables.rater_table(analysis),
    )
    return {table.name: table for table in made if table.rows}


def all_drawings(
    results: Results, analysis: Analysis, cases: Mapping[str, Case], shown: Mapping[str, Table]
) -> dict[str, Drawing]:
    """Return a drawing function for every figure, by name."""
    focused = results.focused.subjects
    drawings: dict[str, Drawing] = {"fig1_flowchart": partial(flowchart, flow_of(results))}
    if results.with_lesion:
        if len(results.cohorts.levels) > 1:
            drawings["fig3_cohort"] = partial(
                figures.box_plots, results, results.cohorts, results.with_lesion
            )
        by_key = {stratum.key: stratum for stratum in results.strata}
        by_key.setdefault("volume", results.stratum("volume", focused))
        for key, stratum in by_key.items():
            number = "fig3" if key in ("territory", "volume") else "fig5"
            drawings[f"{number}_{key}"] = partial(
                figures.box_plots, results, stratum, focused, results.focus
            )
        drawings["fig4_dice_density"] = partial(
            figures.dice_densities, results, [results.focused, *results.sizes]
        )
        drawings["fig6_correlation"] = partial(figures.scatter, results, analysis)
        drawings["volume_agreement"] = partial(figures.volume_agreement, results, analysis)
    if picks := pick(results):
        chosen = {each.subject: cases[each.subject] for each in picks}
        drawings["fig7_gallery"] = partial(gallery, results, picks, chosen)
    histograms = {s: m.histogram for s, m in results.measured.items() if m.histogram is not None}
    if histograms:
        strata = _histogram_strata(results)
        drawings["figS1_normalisation"] = partial(figures.normalisation, histograms, strata)
    if analysis.tool_pairs:
        drawings["figS3_tools"] = partial(tools_figure, analysis, results.tools)
    if analysis.level_pairs:
        drawings["figS4_strata"] = partial(strata_figure, analysis, results.tools)
    pictured = ("table1_cohort", "table2_performance", "false_alarms", "relations")
    for name in (*pictured, "rater_agreement"):
        if name in shown:
            drawings[name] = partial(draw_table, shown[name])
    return drawings


def _histogram_strata(results: Results) -> list[Stratum]:
    lesion = {
        name: "with a lesion" if ml > 0 else "lesion-free"
        for name, ml in results.reference_ml.items()
    }
    levels = tuple(dict.fromkeys(lesion.values()))
    everyone = tuple(results.measured)
    scanners = (results.stratum(key, everyone) for key in ("field_strength", "manufacturer"))
    known = [stratum for stratum in (results.cohorts, *scanners) if len(stratum.levels) > 1]
    return [Stratum("lesion", "Lesion", levels, lesion), *known]


def draw(directory: Path, named: tuple[str, Drawing]) -> None:
    """Draw one figure and write it. A process pool passes name and drawing as one argument."""
    name, drawing = named
    save(drawing(), directory / name)


def all_sections(
    results: Results, shown: Mapping[str, Table], drawings: Mapping[str, Drawing]
) -> list[Section]:
    """Group tables and figures into sections, in the order of the paper."""

    def part(
        title: str,
        names: tuple[str, ...],
        prefix: str = "",
        caption: str = "",
        folded: bool = False,
    ) -> Section:
        chosen = tuple(shown[name] for name in names if name in shown)
        pictures = tuple(name for name in drawings if prefix and name.startswith(prefix))
        return Section(title, chosen, pictures, caption if pictures else "", folded)

    tool, group = results.tools[0], results.focused.name
    boxes = (
        "White square: mean. Black line: median. Box: quartiles. Whiskers: 1.5 times the "
        "interquartile range. Voxel counts are on a logarithmic scale."
    )
    pairs = "P values of pairwise ANOVA. Star: P < 0.05 after Holm's correction."
    sections = [
        part(
            "Study population (Fig. 1, Table 1)",
            ("table1_cohort",),
            "fig1",
            "Dashed frame: scans included in the evaluation.",
        ),
        part("Performance", ("table2_performance", "false_alarms")),
        part("By cohort, territory and volume (Fig. 3)", (), "fig3", boxes),
        part("Distribution of Dice (Fig. 4)", (), "fig4", f"{group}, and by lesion volume."),
        part("By hemisphere, scanner and demographics (Fig. 5)", (), "fig5", boxes),
        part("Correlation (Fig. 6)", ("relations",), "fig6", f"Spearman's rho. Subjects: {group}."),
        part(
            "Volume agreement (Bland-Altman)",
            (),
            "volume",
            "Solid line: bias. Dashed lines: 95% limits of agreement.",
        ),
        part(
            "Example cases (Fig. 7)",
            (),
            "fig7",
            f"Selected by the scores of {tool}: best, median and worst Dice among lesions that it "
            "overlapped, the largest lesion it missed, and the largest false positive. Yellow: "
            "reference. Other colours: predictions.",
        ),
        part(
            "DWI before and after normalisation (Supplementary Fig. 1)",
            (),
            "figS1",
            "Voxels inside the brain. Thin lines: individual subjects, at most 40 per group. Thick "
            "lines: median of all subjects in the group.",
        ),
        part(
            "Comparison of tools (Supplementary Fig. 3)",
            (),
            "figS3",
            f"{pairs} Blue: the tool in the row is better than that in the column. Orange: worse.",
        ),
        part(
            "Comparison of levels within each stratum (Supplementary Fig. 4)",
            (),
            "figS4",
            f"{pairs} Blue: better in the first level of the pair. Orange: worse.",
        ),
        part("Agreement of human raters", ("rater_agreement",)),
        part(
            "Statistical tests",
            (
                *("comparisons", "tools_anova", "tools_anova_pairs"),
                *("strata", "strata_anova_pairs"),
            ),
            folded=True,
        ),
    ]
    return [section for section in sections if section.tables or section.figures]
