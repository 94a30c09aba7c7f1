"""Figures of the paper: box plots, densities, scatter plots and histograms, for 2 to 8 tools.

The figure width grows with the number of boxes. Small samples are drawn as points. Large numbers of
points are rasterised, so a figure of 3,000 subjects opens as fast as a figure of 3.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, StrMethodFormatter
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.stats import gaussian_kde

from infarct.evaluation.analysis import CORRELATIONS, Analysis
from infarct.evaluation.plot_style import STYLE, colours, legend, looks
from infarct.evaluation.score_table import BY_KEY, Group, Metric, Results
from infarct.evaluation.statistics import Correlation
from infarct.evaluation.subject_scores import Histogram
from infarct.evaluation.subjects import Stratum

BOX_METRICS = ("dice", "precision", "sensitivity", "fp_voxels", "fn_voxels")
_BOX = 3
"""Minimum number of values for a box."""

_FEW = 15
"""Up to this number of subjects, each is drawn as a point."""

_BOX_INCHES, _LETTER_INCHES = 0.26, 0.07
"""Width of a box and of a character of the tick labels, inches."""

_LABEL_LETTERS = 16

_CLOUD = -2
"""z-order of outliers; artists at this level are rasterised, so file size stays small."""

_DENSITY = 5
"""Minimum number of values for a density estimate."""

_ALL_ALIKE = 1e-6
"""Range of Dice below which all values count as equal and no density can be estimated."""

_MOST_LINES = 40
_SMOOTH_BINS = 2.0
_DYNAMIC_RANGE = 50.0
"""Ratio of the brightest signal in the brain to the darkest signal shown."""

_FEATURES = {
    "reference_ml": ("Reference volume (ml)", "log"),
    "prediction_ml": ("Predicted volume (ml)", "log"),
    "dwi_ratio_reference": ("Reference contrast, DWI", "linear"),
    "dwi_ratio_prediction": ("Predicted contrast, DWI", "linear"),
    "adc_ratio_reference": ("Reference contrast, ADC", "linear"),
    "adc_ratio_prediction": ("Predicted contrast, ADC", "linear"),
    "dice": ("Dice", "linear"),
}
_LEAST_ML = 0.01


def box_plots(
    results: Results, stratum: Stratum, names: Sequence[str], cohort: str | None = None
) -> Figure:
    """Draw the scores of each tool in each level of a stratum.

    White square: mean; black line: median; whiskers: 1.5 times the interquartile range. Voxel
    counts are on a logarithmic scale that includes zero.

    Args:
        results: All scores.
        stratum: Stratum that defines the levels.
        names: Subjects with a lesion.
        cohort: Cohort of the subjects, for the title.

    References:
        Liu et al. 2021, Fig. 3 and 5.
    """
    members = {level: stratum.members(level, names) for level in stratum.levels}
    members = {level: found for level, found in members.items() if found}
    ticks = [f"{_wrapped(level)}\nn = {len(found)}" for level, found in members.items()]
    words = max(len(line) for tick in ticks for line in tick.splitlines())
    each = max(_BOX_INCHES * (len(results.tools) + 1), _LETTER_INCHES * (words + 2))
    size = (max(3.8, 0.9 + each * len(members)), 8.6)
    with rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(BOX_METRICS), sharex=True)
        for axes, key in zip(panels, BOX_METRICS, strict=True):
            _boxes(axes, results, members, BY_KEY[key])
        panels[-1].set_xticks(range(len(members)), ticks)
        panels[-1].set_xlim(-0.5, len(members) - 0.5)
        figure.suptitle(stratum.title if cohort is None else f"{stratum.title}: {cohort}")
        legend(figure, results.tools)
    return figure


def _wrapped(level: str) -> str:
    return textwrap.fill(level, _LABEL_LETTERS, break_on_hyphens=False)


def _boxes(
    axes: Axes, results: Results, members: Mapping[str, Sequence[str]], metric: Metric
) -> None:
    tools = results.tools
    width = 0.8 / len(tools)
    for index, (tool, look) in enumerate(looks(tools).items()):
        samples = [results.values(tool, metric.key, found) for found in members.values()]
        at = np.arange(len(members)) + (index - (len(tools) - 1) / 2) * width
        thin = {"linewidth": 0.6}
        axes.boxplot(
            [sample if len(sample) >= _BOX else [] for sample in samples],
            positions=at,
            widths=0.8 * width,
            patch_artist=True,
            showmeans=True,
            manage_ticks=False,
            boxprops={"facecolor": look.colour, "hatch": look.hatch, **thin},
            medianprops={"color": "black", "linewidth": 1.4},
            whiskerprops=thin,
            capprops=thin,
            meanprops={
                **{"marker": "s", "markersize": 3, "markeredgewidth": 0.5},
                **{"markerfacecolor": "white", "markeredgecolor": "black", "zorder": 5},
            },
            flierprops={
                **{"marker": ".", "markersize": 3, "zorder": _CLOUD},
                **{"markerfacecolor": look.colour, "markeredgecolor": "none"},
            },
        )
        for x, sample in zip(at, samples, strict=True):
            if len(sample) <= _FEW:  # too few values for a box alone
                at_x = np.full(len(sample), x)
                spots = axes.plot(at_x, sample, "o", color=look.colour, markersize=3)
                spots[0].set(markeredgecolor="black", markeredgewidth=0.4, zorder=4)
    axes.set_rasterization_zorder(_CLOUD + 1)
    axes.set_ylabel(metric.label.replace(" (", "\n("))
    axes.grid(axis="y", linewidth=0.3)
    axes.set_axisbelow(True)
    if metric.unit == "voxels":
        axes.set_yscale("symlog", linthresh=10)
        _in_figures(axes.yaxis)
        axes.set_ylim(-1, max(1.5 * axes.dataLim.y1, 12))
    else:
        axes.set_ylim(-0.03, 1.03)


def _in_figures(axis: Axis) -> None:
    """Write 100 instead of a power of ten, which matplotlib would typeset as mathematical text."""
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(LogFormatter(labelOnlyBase=False))


def dice_densities(results: Results, groups: Sequence[Group]) -> Figure:
    """Draw the distribution of Dice of each tool, for all subjects and by lesion volume.

    Densities are reflected at 0 and 1, the limits of Dice, so that the area under each is 1. In
    groups that are too small for a density, each subject is drawn as a point, one row per tool.

    Args:
        results: All scores.
        groups: Groups of subjects, one panel each.

    References:
        Liu et al. 2021, Fig. 4.
    """
    with rc_context(STYLE):
        rows = -(-len(groups) // 2)
        figure = Figure(figsize=(7.2, 0.8 + 2.4 * rows), layout="constrained")
        panels = figure.subplots(rows, 2, squeeze=False).ravel()
        for axes, group in zip(panels, groups, strict=False):
            axes.set(title=f"{group.name}, n = {len(group.subjects)}", xlabel="Dice", xlim=(0, 1))
            if len(group.subjects) < _DENSITY:
                _rows_of_points(axes, results, group)
                continue
            for tool, look in looks(results.tools).items():
                dice = results.values(tool, "dice", group.subjects)
                line = {"color": look.colour, "linestyle": look.dash, "linewidth": 1.3}
                if np.ptp(dice) < _ALL_ALIKE:
                    axes.axvline(dice.mean(), clip_on=False, **line)
                else:
                    axes.plot(*_density(dice), **line)
                if dice.size <= _FEW:
                    marks = {"color": look.colour, "markersize": 8, "clip_on": False}
                    axes.plot(dice, np.zeros_like(dice), "|", **marks)
            axes.set_ylim(bottom=0)
            axes.set_ylabel("Probability density")
        for axes in panels[len(groups) :]:
            axes.set_visible(False)
        if any(len(group.subjects) >= _DENSITY for group in groups):
            legend(figure, results.tools, lines=True)
    return figure


def _rows_of_points(axes: Axes, results: Results, group: Group) -> None:
    tools = results.tools
    for row, (tool, look) in enumerate(looks(tools).items()):
        dice = results.values(tool, "dice", group.subjects)
        spots = axes.plot(dice, np.full_like(dice, row), "o", color=look.colour, markersize=4)
        spots[0].set(markeredgecolor="black", markeredgewidth=0.4, clip_on=False)
    axes.set_yticks(range(len(tools)), tools, fontsize=float(np.clip(110 / len(tools), 3, 8)))
    axes.set_ylim(len(tools) - 0.5, -0.5)  # first tool at the top
    axes.grid(axis="x", linewidth=0.3)


def _density(dice: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x = np.linspace(0, 1, 201)
    kernel = gaussian_kde(dice)
    density: NDArray[np.float64] = kernel(x) + kernel(-x) + kernel(2 - x)
    return x, density


def scatter(results: Results, analysis: Analysis) -> Figure:
    """Draw lesion features against Dice, and predicted against reference features.

    One row per tool. Volumes of zero are drawn at the left or lower edge.

    References:
        Liu et al. 2021, Fig. 6.
    """
    known = [
        (name, keys)
        for name, keys in CORRELATIONS.items()
        if any(each.correlations[name].n for each in analysis.relations)
    ]
    rows = len(results.tools)
    with rc_context(STYLE):
        figure = Figure(figsize=(0.6 + 2.1 * len(known), 0.5 + 1.9 * rows), layout="constrained")
        panels = figure.subplots(rows, len(known), squeeze=False)
        for row, relations in zip(panels, analysis.relations, strict=True):
            colour = colours(results.tools)[relations.tool]
            for axes, (name, (across, up)) in zip(row, known, strict=True):
                x, y = (
                    results.values(relations.tool, key, results.focused.subjects)
                    for key in (across, up)
                )
                _cloud(axes, (across, up), (x, y), colour)
                axes.set_title(_rho(relations.correlations[name]), fontsize=7)
            row[0].annotate(
                relations.tool,
                (-0.48, 0.5),
                xycoords="axes fraction",
                rotation=90,
                va="center",
                weight="bold",
            )
        for axes, (_, (across, _)) in zip(panels[-1], known, strict=True):
            axes.set_xlabel(_FEATURES[across][0], fontsize=7)
    return figure


def _rho(correlation: Correlation) -> str:
    if np.isnan(correlation.rho):
        return "rho undefined"
    interval = correlation.interval
    between = "" if np.isnan(interval.low) else f" [{interval.low:.2f}, {interval.high:.2f}]"
    return f"rho {correlation.rho:.2f}{between}"


def _cloud(
    axes: Axes, keys: tuple[str, str], values: Sequence[NDArray[np.float64]], colour: str
) -> None:
    size = float(np.clip(300 / max(len(values[0]), 1), 3, 12))
    x, y = (
        np.maximum(each, _LEAST_ML) if _FEATURES[key][1] == "log" else each
        for key, each in zip(keys, values, strict=True)
    )
    axes.scatter(x, y, s=size, color=colour, alpha=0.6, linewidths=0, rasterized=True)
    (_, x_scale), (y_label, y_scale) = (_FEATURES[key] for key in keys)
    axes.set(xscale=x_scale, yscale=y_scale)
    for axis, scale in ((axes.xaxis, x_scale), (axes.yaxis, y_scale)):
        if scale == "log":
            _in_figures(axis)
    axes.set_ylabel(y_label, fontsize=7)
    if keys[1] == "dice":
        axes.set_ylim(-0.03, 1.03)
    else:
        ends = np.array([*axes.get_xlim(), *axes.get_ylim()])
        line = [ends.min(), ends.max()]
        axes.plot(line, line, color="black", linewidth=0.5, zorder=0)
        axes.set(xlim=line, ylim=line)


def volume_agreement(results: Results, analysis: Analysis) -> Figure:
    """Draw a Bland-Altman plot of lesion volumes with bias and limits of agreement.

    References:
        Bland and Altman 1986.
    """
    tools = results.tools
    columns = min(4, len(tools))
    rows = -(-len(tools) // columns)
    with rc_context(STYLE):
        size = (0.6 + 2.6 * columns, 0.4 + 2.3 * rows)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes, each in zip(panels.flat, analysis.relations, strict=False):
            reference, predicted = (
                results.values(each.tool, key, results.focused.subjects)
                for key in ("reference_ml", "prediction_ml")
            )
            mean = np.maximum((reference + predicted) / 2, _LEAST_ML)
            colour = colours(tools)[each.tool]
            axes.scatter(
                mean, predicted - reference, s=6, color=colour, linewidths=0, rasterized=True
            )
            axes.set_xscale("log")
            _in_figures(axes.xaxis)
            agreement = each.volume
            for value, dash in zip(
                (agreement.bias, agreement.lower, agreement.upper), ("-", "--", "--"), strict=True
            ):
                axes.axhline(value, color="black", linestyle=dash, linewidth=0.7)
            axes.set_title(each.tool)
        for axes in panels.flat[len(tools) :]:
            axes.set_visible(False)
        for axes in panels.flat[max(len(tools) - columns, 0) : len(tools)]:
            axes.tick_params(labelbottom=True)  # lowest panel of each column
        figure.supxlabel("Mean of both volumes (ml)")
        figure.supylabel("Predicted - reference (ml)")
    return figure


def normalisation(histograms: Mapping[str, Histogram], strata: Sequence[Stratum]) -> Figure:
    """Draw DWI histograms inside the brain before and after normalisation, one row per stratum.

    Thin lines: individual subjects, at most 40 per group. Thick lines: median of all subjects in
    the group. The measured signal is on a logarithmic scale because units differ widely between
    scanners.

    Args:
        histograms: Histograms by subject.
        strata: Strata that define the groups, one row each.

    References:
        Liu et al. 2021, Supplementary Fig. 1.
    """
    tops = [each.edges[-1] for each in histograms.values()]
    signals = np.geomspace(min(tops) / _DYNAMIC_RANGE, max(tops), 401)
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.4 + 2.1 * len(strata)), layout="constrained")
        panels = figure.subplots(len(strata), 2, squeeze=False)
        for (before, after), stratum in zip(panels, strata, strict=True):
            for level, colour in colours(stratum.levels).items():
                group = [h for s, h in histograms.items() if stratum.level_of.get(s) == level]
                if not group:
                    continue
                for axes, x, normalised in (
                    (before, signals, False),
                    (after, np.linspace(-6, 10, 201), True),
                ):
                    densities = np.array([_signal_density(h, x, normalised) for h in group])
                    some = densities[:: -(-len(group) // _MOST_LINES)]
                    axes.plot(x, some.T, color=colour, linewidth=0.4, alpha=0.5, rasterized=True)
                    if normalised:
                        label = f"{level} (n = {len(group)})"
                        middle = np.median(densities, axis=0)
                        axes.plot(x, middle, color=colour, linewidth=1.8, label=label)
            before.set(ylabel="Density", xlabel="DWI signal as measured", yticks=[])
            before.set_xscale("log")
            _in_figures(before.xaxis)
            after.set(xlabel="Normalised DWI (tissue peak: mean 0, SD 1)", yticks=[])
            before.set_title(stratum.title, loc="left")
            after.legend(frameon=False, fontsize=7)
    return figure


def _signal_density(
    histogram: Histogram, x: NDArray[np.float64], normalised: bool
) -> NDArray[np.float64]:
    edges = histogram.edges
    if normalised:
        edges = (edges - histogram.peak.mean) / histogram.peak.sd
    centres = (edges[:-1] + edges[1:]) / 2
    # Integer signals fill some bins twice as often as others; smoothing removes the comb pattern.
    counts = gaussian_filter1d(histogram.counts.astype(float), _SMOOTH_BINS)
    density = counts / (counts.sum() * (edges[1] - edges[0]))
    found: NDArray[np.float64] = np.interp(x, centres, density, left=0.0, right=0.0)
    return found if normalised else found * x  # change of variable: density over log(signal)
