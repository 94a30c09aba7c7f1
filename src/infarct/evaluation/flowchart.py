"""Study flowchart: scans listed, scans evaluated, and predictions available from each tool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from infarct.evaluation.plot_style import STYLE
from infarct.evaluation.score_table import Results

_LINE, _LETTER, _PAD = 0.17, 0.075, 0.14
_GAP = 0.45


@dataclass(frozen=True)
class Flow:
    """Numbers of scans at each stage of a study.

    Attributes:
        elsewhere: Listed in the table of subjects but without a reference mask, by cohort.
        with_lesion: Evaluated, with a lesion in the reference, by cohort.
        lesion_free: Evaluated, with an empty reference, by cohort.
        missing: Scans without a prediction by tool: with a lesion, and lesion-free.
    """

    elsewhere: Mapping[str, int]
    with_lesion: Mapping[str, int]
    lesion_free: Mapping[str, int]
    missing: Mapping[str, tuple[int, int]]

    @property
    def evaluated(self) -> int:
        """Scans with a reference mask."""
        return sum(self.with_lesion.values()) + sum(self.lesion_free.values())

    @property
    def listed(self) -> int:
        """All scans, evaluated or only listed."""
        return self.evaluated + sum(self.elsewhere.values())


def flow_of(results: Results) -> Flow:
    """Count the scans at each stage."""
    cohort_of = results.cohorts.level_of

    def by_cohort(names: Sequence[str]) -> dict[str, int]:
        counts = Counter(cohort_of.get(name, "") for name in names)
        order = [level for level in (*results.cohorts.levels, "") if level in counts]
        return {level: counts[level] for level in order}

    parts = (results.with_lesion, results.lesion_free)
    missing = {
        tool: (
            int(results.values(tool, "missing", parts[0]).sum()),
            int(results.values(tool, "missing", parts[1]).sum()),
        )
        for tool in results.tools
    }
    with_lesion, lesion_free = map(by_cohort, parts)
    return Flow(results.table.elsewhere, with_lesion, lesion_free, missing)


def flowchart(flow: Flow) -> Figure:
    """Draw the flowchart. The dashed frame contains the evaluated scans.

    References:
        Liu et al. 2021, Fig. 1.
    """
    top = f"Scans\nn = {flow.listed:,}"
    parts = [
        _box("With a lesion", flow.with_lesion),
        _box("Lesion-free", flow.lesion_free),
    ]
    parts = [part for part in parts if part]
    delivered = "\n".join(
        ["Predictions", *(_delivered(tool, flow, lost) for tool, lost in flow.missing.items())]
    )
    aside = _box("Not evaluated", flow.elsewhere)
    evaluated = f"Evaluated against a reference\nn = {flow.evaluated:,}"
    widths = [_width(part) for part in parts]
    inside = max(sum(widths) + _GAP * (len(parts) - 1), _width(evaluated), _width(delivered))
    rows = (_height(top), max(_height(evaluated), _height(aside)), max(map(_height, parts)))
    height = sum(rows) + _height(delivered) + 3 * _GAP + 2 * _PAD + 0.1
    left = _width(aside) + _GAP if aside else 0.0
    width = left + inside + 4 * _PAD
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(0, height))
        axes.axis("off")
        middle = left + 2 * _PAD + inside / 2
        y = height - _PAD
        start = _draw(axes, middle, y, top)
        y = start - _GAP
        _frame(axes, left + _PAD / 2, 0.1, inside + 3 * _PAD, y + 0.12 - 0.1)
        bottom = _draw(axes, middle, y, evaluated)
        _arrow(axes, (middle, start), (middle, y))
        if aside:
            at = _PAD / 2 + _width(aside) / 2
            _draw(axes, at, y, aside)
            _arrow(axes, (middle, start), (at, y))
        y -= rows[1] + _GAP
        x = middle - (sum(widths) + _GAP * (len(parts) - 1)) / 2
        ends = []
        for part, wide in zip(parts, widths, strict=True):
            centre = x + wide / 2
            _arrow(axes, (middle, bottom), (centre, y))
            ends.append((centre, _draw(axes, centre, y, part)))
            x += wide + _GAP
        y -= rows[2] + _GAP
        for end in ends:
            _arrow(axes, end, (middle, y))
        _draw(axes, middle, y, delivered)
    return figure


def _box(title: str, counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    lines = [title, f"n = {sum(counts.values()):,}"]
    if set(counts) != {""}:
        lines += [f"{cohort or 'unknown cohort'}: {n:,}" for cohort, n in counts.items()]
    return "\n".join(lines)


def _delivered(tool: str, flow: Flow, missing: tuple[int, int]) -> str:
    total = sum(missing)
    available = f"{tool}: {flow.evaluated - total:,}"
    if not total:
        return available
    return f"{available} (missing: {missing[0]:,} with a lesion, {missing[1]:,} lesion-free)"


def _width(text: str) -> float:
    return 2 * _PAD + _LETTER * max((len(line) for line in text.split("\n")), default=0)


def _height(text: str) -> float:
    return 2 * _PAD + _LINE * (text.count("\n") + 1)


def _draw(axes: Axes, x: float, y: float, text: str) -> float:
    """Draw a box below (x, y) and return the y coordinate of its lower edge."""
    wide, high = _width(text), _height(text)
    box = FancyBboxPatch(
        (x - wide / 2, y - high), wide, high, boxstyle="round,pad=0,rounding_size=0.06"
    )
    box.set(facecolor="white", edgecolor="black", linewidth=0.9, zorder=2)
    axes.add_patch(box)
    axes.text(x, y - high / 2, text, ha="center", va="center", zorder=3, linespacing=1.35)
    return y - high


def _frame(axes: Axes, x: float, y: float, wide: float, high: float) -> None:
    frame = FancyBboxPatch((x, y), wide, high, boxstyle="round,pad=0,rounding_size=0.1")
    frame.set(facecolor="none", edgecolor="0.35", linestyle="--", linewidth=1.0, zorder=1)
    axes.add_patch(frame)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "color": "black", "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=style, zorder=1.5)
