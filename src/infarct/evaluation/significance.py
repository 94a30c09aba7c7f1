"""Figures of P values for all pairs of tools and for all pairs of levels of each stratum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from infarct.evaluation.analysis import PAPER_METRICS, Analysis, PairTest
from infarct.evaluation.plot_style import STYLE
from infarct.evaluation.score_table import BY_KEY

LIMITS = (0.001, 0.01, 0.05)
"""P value thresholds for the colour of a cell, darkest first."""

_DEPTHS = (0.75, 0.45, 0.2)
_BETTER, _WORSE = to_rgb("#0072B2"), to_rgb("#D55E00")
_NO_DIFFERENCE = (0.95, 0.95, 0.95)
_CELL_INCHES = (0.44, 0.23)
_LETTER_INCHES = 0.068

Cells = Mapping[tuple[int, int], PairTest]
"""Pairs by row and column of a panel; the row shows the first element of the pair."""


def shade(pair: PairTest, *, first: bool = True) -> tuple[float, float, float]:
    """Return the colour of a cell: blue if one side is significantly better, orange if worse.

    Args:
        pair: Comparison of two samples.
        first: Whether the colour refers to the first side of the pair, or to the second.

    Returns:
        (red, green, blue), 0 - 1.
    """
    p = pair.test.p
    depth = next((d for limit, d in zip(LIMITS, _DEPTHS, strict=True) if p < limit), None)
    if depth is None:
        return _NO_DIFFERENCE
    better = (pair.difference > 0) == BY_KEY[pair.metric].higher_is_better
    return _mixed(_BETTER if better == first else _WORSE, depth)


def cell_text(pair: PairTest) -> str:
    """Format a P value; a star marks P < 0.05 after Holm's correction."""
    p = pair.test.p
    if np.isnan(p):
        return "-"
    text = "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0") if p < 0.9995 else "1"
    return text + ("*" if pair.p_holm < LIMITS[-1] else "")


def tools_figure(analysis: Analysis, tools: Sequence[str]) -> Figure:
    """Draw the P value of every pair of tools: a row of panels per group, a column per metric.

    Each panel is an upper triangle. A cell compares the tool in its row with the tool in its
    column.

    Args:
        analysis: Statistics; only `tool_pairs` is used.
        tools: At least two tools, in the order of rows and columns.

    References:
        Liu et al. 2021, Supplementary Fig. 3.
    """
    place = {tool: index for index, tool in enumerate(tools)}
    groups = dict.fromkeys((each.group, each.n) for each in analysis.tool_pairs)
    panels: dict[tuple[int, int], Cells] = {}
    for each in analysis.tool_pairs:
        row = list(groups).index((each.group, each.n))
        cells = {(place[p.first], place[p.second] - 1): p for p in each.pairs}
        panels[row, PAPER_METRICS.index(each.metric)] = cells
    titles = [f"{name}\nn = {n}" for name, n in groups]
    labels = [(tools[:-1], tools[1:])] * len(titles)
    return _panels(panels, titles, labels, "tool in row")


def strata_figure(analysis: Analysis, tools: Sequence[str]) -> Figure:
    """Draw the P value of every pair of levels: a row of panels per stratum, a column per metric.

    A cell compares the two levels in its row for the tool in its column.

    Args:
        analysis: Statistics; only `level_pairs` is used.
        tools: Tools in the order of the columns.

    References:
        Liu et al. 2021, Supplementary Fig. 4.
    """
    strata = list(dict.fromkeys(each.stratum for each in analysis.level_pairs))
    place = {tool: index for index, tool in enumerate(tools)}
    panels: dict[tuple[int, int], dict[tuple[int, int], PairTest]] = {}
    levels: dict[str, list[str]] = {}
    for each in analysis.level_pairs:
        levels[each.stratum] = [f"{pair.first} vs {pair.second}" for pair in each.pairs]
        panel = panels.setdefault(
            (strata.index(each.stratum), PAPER_METRICS.index(each.metric)), {}
        )
        for row, pair in enumerate(each.pairs):
            panel[row, place[each.tool]] = pair
    labels = [(levels[stratum], tools) for stratum in strata]
    return _panels(panels, [t.replace(" ", "\n", 1) for t in strata], labels, "first level")


def _panels(
    panels: Mapping[tuple[int, int], Cells],
    titles: Sequence[str],
    labels: Sequence[tuple[Sequence[str], Sequence[str]]],
    subject: str,
) -> Figure:
    """Draw a grid of panels.

    Args:
        panels: Cells by row and column of the grid.
        titles: Titles of the rows of the grid.
        labels: Row and column labels of the cells, for each row of the grid.
        subject: Legend text for the side that is better in a blue cell.
    """
    wide, high = _CELL_INCHES
    most = max(len(columns) for _, columns in labels)
    left = _LETTER_INCHES * max(len(name) for rows, _ in labels for name in rows)
    below = [0.15 + _LETTER_INCHES * max(len(name) for name in columns) for _, columns in labels]
    heights = [high * len(rows) + space for (rows, _), space in zip(labels, below, strict=True)]
    each_wide = max(wide * most, 1.0) + 0.15
    size = (0.6 + left + each_wide * len(PAPER_METRICS), 1.0 + sum(heights) + 0.25 * len(titles))
    with rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(
            len(titles),
            len(PAPER_METRICS),
            squeeze=False,
            gridspec_kw={"height_ratios": [len(rows) for rows, _ in labels]},
        )
        for row, (title, (rows, columns)) in enumerate(zip(titles, labels, strict=True)):
            shown = [c for c in range(len(PAPER_METRICS)) if (row, c) in panels]
            for column, key in enumerate(PAPER_METRICS):
                axes = grid[row, column]
                _panel(axes, panels.get((row, column), {}), len(rows), columns)
                if column in shown and (row == 0 or shown[0] > 0):
                    axes.set_title(BY_KEY[key].title)
                if column not in shown:
                    axes.set_xticks([])
            grid[row, 0].set_yticks(range(len(rows)), rows)
            grid[row, 0].set_ylabel(title, weight="bold")
        handles = [
            Patch(
                facecolor=_mixed(colour, depth),
                edgecolor="0.6",
                label=f"{subject} {word}, P < {limit:g}",
            )
            for colour, word in ((_BETTER, "better"), (_WORSE, "worse"))
            for limit, depth in zip(LIMITS[::-1], _DEPTHS[::-1], strict=True)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _mixed(colour: tuple[float, float, float], depth: float) -> tuple[float, float, float]:
    red, green, blue = (1 - depth * (1 - part) for part in colour)
    return red, green, blue


def _panel(axes: Axes, cells: Cells, rows: int, columns: Sequence[str]) -> None:
    image = np.ones((rows, len(columns), 3))
    for (row, column), pair in cells.items():
        image[row, column] = shade(pair)
        axes.text(column, row, cell_text(pair), ha="center", va="center", fontsize=6.5)
    axes.imshow(image, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=90)
    axes.set_yticks([])
    axes.set_xticks(np.arange(-0.5, len(columns)), minor=True)
    axes.set_yticks(np.arange(-0.5, rows), minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
