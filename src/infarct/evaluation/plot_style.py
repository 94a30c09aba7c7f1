"""How figures of scores look: the style, the colours of the tools, their legend, the files."""

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
"""Colours told apart with any colour vision: Okabe and Ito 2008, its yellow and black replaced."""

_DASHES: tuple[Literal["-", "--", "-.", ":"], ...] = ("-", "--", "-.", ":")
_HATCHES = ("", "/////", ".....", "xxxxx")
"""Of the boxes each time the colours begin anew."""

_LEGEND_EMS = 5.5
"""Width of a column of a legend beside its longest word: the swatch and the gaps around it."""

STYLE: dict[Any, Any] = {
    "font.size": 8,
    # A dollar in the name of a tool is a dollar.
    "text.parse_math": False,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "infarct",
    "svg.fonttype": "path",
    "savefig.dpi": 150,
}
"""Settings of matplotlib; a fixed salt and no date make the same figure the same bytes."""


@dataclass(frozen=True)
class Look:
    """How a tool is drawn; up to 32 are told apart.

    Attributes:
        colour: Of all it is drawn with; shared from the ninth tool on.
        hatch: Of its boxes, other than that of those who share the colour.
        dash: Of its lines, likewise.
    """

    colour: str
    hatch: str
    dash: Literal["-", "--", "-.", ":"]


def looks(tools: Sequence[str]) -> dict[str, Look]:
    """Give each tool its look."""
    given = {}
    for index, tool in enumerate(tools):
        turn, place = divmod(index, len(_PALETTE))
        dash = _DASHES[(place + turn) % len(_DASHES)]
        given[tool] = Look(_PALETTE[place], _HATCHES[turn % len(_HATCHES)], dash)
    return given


def colours(tools: Sequence[str]) -> dict[str, str]:
    """Give each tool its colour."""
    return {tool: look.colour for tool, look in looks(tools).items()}


def save(figure: Figure, stem: Path) -> None:
    """Write a figure as SVG and PNG."""
    with rc_context(STYLE):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once; both files look the same
        figure.savefig(f"{stem}.svg", metadata={"Date": None})
        figure.savefig(f"{stem}.png")


def legend(figure: Figure, tools: Sequence[str], *, lines: bool = False) -> None:
    """Name the tools below a figure, in as many columns as it has room for.

    Args:
        figure: To add to.
        tools: All that are drawn.
        lines: Drawn as lines, not boxes.
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
