"""Style of the figures: matplotlib settings, colours of the tools, legend and output files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.textpath import TextPath

_PALETTE = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7"),
    *("#56B4E9", "#D55E00", "#4D4D4D", "#332288"),
)
"""Colour-blind safe palette: Okabe and Ito 2008, with yellow and black replaced."""

_DASHES: tuple[Literal["-", "--", "-.", ":"], ...] = ("-", "--", "-.", ":")
_HATCHES = ("", "/////", ".....", "xxxxx")
"""Hatches of the boxes, one for each repetition of the palette."""

_LEGEND_EMS = 5.5
"""Width of a legend column excluding its longest label: the handle and the gaps, em."""

STYLE: dict[Any, Any] = {
    "font.size": 8,
    # Print dollar signs in tool names literally.
    "text.parse_math": False,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "infarct",
    "svg.fonttype": "path",
    "savefig.dpi": 150,
}
"""Matplotlib settings. A fixed salt and no date make the output files reproducible byte by byte."""


@dataclass(frozen=True)
class Look:
    """Appearance of a tool in figures; up to 32 tools are distinguishable.

    Attributes:
        colour: Colour; repeats from the ninth tool on.
        hatch: Hatch of boxes; differs between tools of the same colour.
        dash: Line style; differs between tools of the same colour.
    """

    colour: str
    hatch: str
    dash: Literal["-", "--", "-.", ":"]


def looks(tools: Sequence[str]) -> dict[str, Look]:
    """Assign an appearance to each tool."""
    given = {}
    for index, tool in enumerate(tools):
        turn, place = divmod(index, len(_PALETTE))
        dash = _DASHES[(place + turn) % len(_DASHES)]
        given[tool] = Look(_PALETTE[place], _HATCHES[turn % len(_HATCHES)], dash)
    return given


def colours(tools: Sequence[str]) -> dict[str, str]:
    """Assign a colour to each tool."""
    return {tool: look.colour for tool, look in looks(tools).items()}


def save(figure: Figure, stem: Path) -> None:
    """Write a figure as SVG and PNG."""
    with rc_context(STYLE):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # apply the layout once so that both files look the same
        figure.savefig(f"{stem}.svg", metadata={"Date": None})
        figure.savefig(f"{stem}.png")


def legend(figure: Figure, tools: Sequence[str], *, lines: bool = False) -> None:
    """Add a legend of the tools below a figure, with as many columns as fit.

    Args:
        figure: Figure to add the legend to.
        tools: Names of the tools in the figure.
        lines: Show lines instead of boxes.
    """
    handles: list[Artist] = [
        Line2D([], [], color=look.colour, linestyle=look.dash, linewidth=1.5, label=tool)
        if lines
        else Patch(facecolor=look.colour, hatch=look.hatch, edgecolor="black", lw=0.6, label=tool)
        for tool, look in looks(tools).items()
    ]
    size = float(STYLE["font.size"])
    longest = max(TextPath((0, 0), tool, size=size).get_extents().width for tool in tools)
    points = _LEGEND_EMS * size + longest
    columns = max(1, min(len(tools), int(72 * figure.get_figwidth() / points)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
