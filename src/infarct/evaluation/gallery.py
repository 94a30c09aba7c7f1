"""Gallery of example slices: best, median and worst Dice, missed lesion, false positive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from infarct.core.diffusion import Image, Mask
from infarct.core.geometry import Affine
from infarct.core.nifti import closest_axes
from infarct.evaluation.plot_style import STYLE, colours
from infarct.evaluation.score_table import Results
from infarct.evaluation.subject_scores import Case, read_image, read_mask

_REFERENCE_COLOUR = "#F0E442"
_BACKGROUND = 0.1
_MARGIN = 4


@dataclass(frozen=True)
class Pick:
    """A subject selected for the gallery.

    Attributes:
        why: Reason for the selection.
        subject: Subject name.
    """

    why: str
    subject: str


def pick(results: Results) -> tuple[Pick, ...]:
    """Select the subjects to show, by the scores of the first tool.

    Best, median and worst refer to Dice among lesions that the tool overlapped. Missed is the
    largest lesion that it did not overlap. False positive is the lesion-free subject with the most
    predicted voxels. Categories without a subject are omitted.

    References:
        Liu et al. 2021, Fig. 7.
    """
    tool = results.tools[0]
    scores = {name: case.scores[tool] for name, case in results.measured.items()}
    lesioned = results.focused.subjects
    touched = sorted((s for s in lesioned if scores[s].touched), key=lambda s: -scores[s].dice)
    missed = [s for s in lesioned if not scores[s].touched]
    flagged = [s for s in results.lesion_free if scores[s].fp_voxels > 0]
    picks: list[Pick] = []
    for why, at in (("best", 0), ("worst", -1), ("median", len(touched) // 2)):
        if touched and touched[at] not in (chosen.subject for chosen in picks):
            picks.append(Pick(why, touched[at]))
    picks.sort(key=lambda chosen: touched.index(chosen.subject))
    if missed:
        picks.append(Pick("missed", max(missed, key=lambda s: scores[s].reference_ml)))
    if flagged:
        picks.append(Pick("false positive", max(flagged, key=lambda s: scores[s].fp_voxels)))
    return tuple(picks)


def gallery(results: Results, picks: Sequence[Pick], cases: Mapping[str, Case]) -> Figure:
    """Draw one row per selected subject: the image alone, then the contour of every tool.

    Yellow: reference. Other colours: prediction. The slice is the one with the largest area of the
    reference or, if it is empty, of the first non-empty prediction. Radiological convention: the
    patient's left is on the right.

    Args:
        results: All scores.
        picks: Selected subjects, at least one.
        cases: Files by subject.
    """
    columns = 1 + len(results.tools)
    with rc_context(STYLE):
        size = (0.3 + 1.75 * columns, 0.3 + 2.15 * len(picks))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(picks), columns, squeeze=False)
        for row, chosen in zip(panels, picks, strict=True):
            view = _view(cases[chosen.subject], results.tools)
            for axes in row:
                _backdrop(axes, view)
            row[0].set_title(f"{chosen.why}\n{chosen.subject}", loc="left", fontsize=7)
            for axes, (tool, colour) in zip(row[1:], colours(results.tools).items(), strict=True):
                _contour(axes, view.reference, _REFERENCE_COLOUR, edge="black")
                prediction = view.predictions[tool]
                if prediction is not None:
                    _contour(axes, prediction, colour, edge="white")
                dice = results.measured[chosen.subject].scores[tool].dice
                label = "no prediction" if prediction is None else f"Dice {dice:.2f}"
                axes.set_title(f"{tool}\n{label}", fontsize=7)
    return figure


@dataclass(frozen=True, eq=False)
class _View:
    """One slice of a subject; rows from anterior to posterior, the patient's left on the right.

    Attributes:
        image: (A, R) DWI scaled to 0 - 1; 0.3 everywhere without a DWI.
        reference: (A, R) reference mask.
        predictions: (A, R) predicted mask by tool; None if missing.
        aspect: Pixel height divided by width.
    """

    image: Image
    reference: Mask
    predictions: Mapping[str, Mask | None]
    aspect: float


def _view(case: Case, tools: Sequence[str]) -> _View:
    reference, grid, _ = read_mask(case.reference)
    masks: dict[str, Mask | None] = {}
    for tool in tools:
        path = case.predictions[tool]
        masks[tool] = None if path is None else read_mask(path).mask
    if case.dwi is None:
        image = np.full(grid.shape, 0.3, np.float32)
    else:
        image, _ = read_image(case.dwi, grid)
        image = np.clip(image / max(float(np.percentile(image, 99.8)), 1e-12), 0, 1)
    everything = [reference, *(mask for mask in masks.values() if mask is not None)]
    upright = [_upright(mask, grid.affine) for mask in everything]
    shown = next((mask for mask in upright if mask.any()), upright[0])
    z = int(np.argmax(shown.sum(axis=(0, 1))))
    upright_image = _upright(image, grid.affine)
    box = _head(upright_image if case.dwi else np.any(upright, axis=0))
    right, anterior = _spacing_upright(grid.affine)

    def slice_of(volume: NDArray[Any]) -> NDArray[Any]:
        return _upright(volume, grid.affine)[:, :, z][box][::-1, ::-1].T

    return _View(
        image=slice_of(image),
        reference=slice_of(reference),
        predictions={
            tool: None if mask is None else slice_of(mask) for tool, mask in masks.items()
        },
        aspect=anterior / right,
    )


def _upright(volume: NDArray[Any], affine: Affine) -> NDArray[Any]:
    """Reorder the axes of a volume to RAS+, as closely as its orientation permits."""
    axes = closest_axes(affine)
    order = np.argmax(np.abs(axes), axis=1)
    turned = volume.transpose(order)
    backwards = tuple(world for world in range(3) if axes[world, order[world]] < 0)
    return np.flip(turned, backwards)


def _spacing_upright(affine: Affine) -> tuple[float, float]:
    order = np.argmax(np.abs(closest_axes(affine)), axis=1)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return float(spacing[order[0]]), float(spacing[order[1]])


def _head(volume: NDArray[Any]) -> tuple[slice, slice]:
    """Return the bounding box of the foreground along the first two axes."""
    seen: Mask = np.any(volume > _BACKGROUND, axis=2)
    if not seen.any():
        return slice(None), slice(None)
    across, along = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    return (
        slice(max(0, across[0] - _MARGIN), across[-1] + _MARGIN + 1),
        slice(max(0, along[0] - _MARGIN), along[-1] + _MARGIN + 1),
    )


def _backdrop(axes: Axes, view: _View) -> None:
    axes.imshow(view.image, cmap="gray", vmin=0, vmax=1, aspect=view.aspect)
    axes.set_xticks([])
    axes.set_yticks([])
    for side, word, align in ((0.02, "R", "left"), (0.98, "L", "right")):
        axes.text(side, 0.02, word, transform=axes.transAxes, color="white", fontsize=6, ha=align)


def _contour(axes: Axes, mask: Mask, colour: str, edge: str) -> None:
    """Draw a contour; the edge keeps it visible on dark and bright tissue."""
    if mask.any():
        drawn = axes.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=0.9)
        drawn.set_path_effects([withStroke(linewidth=1.7, foreground=edge)])
