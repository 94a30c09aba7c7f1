"""Draws a table as a figure, for slides and manuscripts."""

from __future__ import annotations

import textwrap
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from infarct.evaluation.plot_style import STYLE
from infarct.evaluation.tables import Table

_CHARACTER_IN = 0.065
_LINE_IN = 0.145
_GAP_IN = 0.16
_EDGE_IN = 0.15
_HEADER_CHARACTERS = 18


def draw_table(table: Table) -> Figure:
    """Draw a table as text with horizontal rules; the figure size fits the content."""
    header = tuple(textwrap.fill(name, _HEADER_CHARACTERS) for name in table.header)
    rows = [header, *table.rows]
    headings = [False, *(bool(row[0]) and not any(row[1:]) for row in table.rows)]
    widths = [
        _GAP_IN + _CHARACTER_IN * _longest(column, headings) for column in zip(*rows, strict=True)
    ]
    heights = [0.06 + _LINE_IN * max(cell.count("\n") + 1 for cell in row) for row in rows]
    width = max(sum(widths), _CHARACTER_IN * len(table.title)) + 2 * _EDGE_IN
    notes = [line for note in table.notes for line in textwrap.wrap(note, int(width / 0.058))]
    height = sum(heights) + _LINE_IN * (len(notes) + 2) + 3 * _EDGE_IN
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height))

        def write(text: str, x: float, y: float, **style: Any) -> None:
            figure.text(x / width, y / height, text, va="top", **style)

        def rule(y: float) -> None:
            across = [_EDGE_IN / width, 1 - _EDGE_IN / width]
            figure.add_artist(Line2D(across, [y / height] * 2, color="black", linewidth=0.8))

        y = height - _EDGE_IN
        write(table.title, _EDGE_IN, y, weight="bold", fontsize=9)
        y -= 2 * _LINE_IN
        rule(y + 0.05)
        for number, (row, heading) in enumerate(zip(rows, headings, strict=True)):
            weight = "bold" if heading or number == 0 else "normal"
            x = _EDGE_IN
            for cell, column_width in zip(row, widths, strict=True):
                write(cell, x, y, weight=weight, fontsize=7.5, linespacing=1.3)
                x += column_width
            y -= heights[number]
            if number in (0, len(rows) - 1):
                rule(y + 0.05)
        write("\n".join(notes), _EDGE_IN, y - 0.02, fontsize=6.5, linespacing=1.3)
    return figure


def _longest(column: tuple[str, ...], headings: list[bool]) -> int:
    """Return the length of the longest line. Subheadings are ignored; they may span columns."""
    cells = (cell for cell, heading in zip(column, headings, strict=True) if not heading)
    return max(len(line) for cell in cells for line in cell.split("\n"))
