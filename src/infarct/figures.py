"""Pictures: slices and contours, as a radiologist hangs them (the patient's right on the left)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from infarct.pipeline import Segmentation
from infarct.volume import closest_axes

CONTOUR = "#ff3b30"
_MOST_SLICES = 24
_COLUMNS = ("DWI", "b0", "ADC", "lesion")


def slice_figure(result: Segmentation) -> Figure:
    """Draw the slices that matter: DWI, b0, ADC, and DWI with the outline.

    With a lesion, the slices it lies on (evenly thinned to twenty-four); without, the whole brain.

    Args:
        result: What to show.
    """
    case = result.case
    axes = closest_axes(case.dwi.affine)
    brain = _hang(result.brain.data, axes)
    lesion = _hang(result.lesion.data, axes)
    # The ADC of air is noise that outshines the brain; only the brain is shown.
    adc = np.where(result.brain.data, case.adc.data, 0.0)
    images = [_hang(data, axes) for data in (case.dwi.data, case.b0.data, adc)]
    windows = [_window(image, brain) for image in images[:2]] + [(0.0, 2.5e-3)]
    shown = _slices_that_matter(lesion, brain)
    box = _box(brain)
    spacing = np.abs(axes) @ case.dwi.grid.spacing
    width, height = (box[0].stop - box[0].start), (box[1].stop - box[1].start)
    aspect = spacing[1] / spacing[0]
    per_row = 2 if len(shown) > 1 else 1
    rows = -(-len(shown) // per_row)
    across = per_row * len(_COLUMNS)
    cell = 1.6
    tall = cell * height * aspect / width
    figure = Figure(figsize=(across * cell, rows * tall + 0.35), facecolor="black")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, across, squeeze=False)
    figure.subplots_adjust(0, 0, 1, 1 - 0.3 / (rows * tall + 0.35), wspace=0.02, hspace=0.02)
    for panel in grid.flat:
        panel.set_axis_off()
    for i, z in enumerate(shown):
        row, first = i // per_row, (i % per_row) * len(_COLUMNS)
        for k, title in enumerate(_COLUMNS):
            panel = grid[row, first + k]
            image, window = (images[k], windows[k]) if k < 3 else (images[0], windows[0])
            _show(panel, image[(*box, z)], window, aspect)
            if row == 0:
                panel.set_title(title, color="white", fontsize=9, pad=3)
        panel = grid[row, first + 3]
        if lesion[:, :, z].any():
            panel.contour(lesion[(*box, z)].T, levels=[0.5], colors=CONTOUR, linewidths=0.9)
        _label(grid[row, first], z)
    return figure


def to_png(figure: Figure, dpi: int = 110) -> bytes:
    """Render a figure, without the date that would make each rendering differ."""
    stream = io.BytesIO()
    figure.savefig(stream, dpi=dpi, facecolor=figure.get_facecolor(), metadata={"Software": None})
    return stream.getvalue()


def write_png(figure: Figure, path: Path) -> None:
    """Render a figure to a file."""
    path.write_bytes(to_png(figure))


def _hang(data: NDArray[np.generic], axes: NDArray[np.float64]) -> NDArray[np.generic]:
    """Order voxels as radiologists look at them: x from right to left, y back to front, z up."""
    source = np.argmax(np.abs(axes), axis=1)
    hung = np.transpose(data, source)
    flips = [axes[world, voxel] < 0 for world, voxel in enumerate(source)]
    flips[0] = not flips[0]
    return hung[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def _slices_that_matter(lesion: NDArray[np.generic], brain: NDArray[np.generic]) -> list[int]:
    with_lesion = np.flatnonzero(lesion.any(axis=(0, 1)))
    if with_lesion.size:
        candidates = with_lesion
    else:
        area = brain.sum(axis=(0, 1))
        candidates = np.flatnonzero(area > 0.15 * area.max())
    picks = np.linspace(0, candidates.size - 1, min(_MOST_SLICES, candidates.size))
    # Feet first, as the slices of a scan are counted; every pick once.
    return sorted({int(candidates[round(float(i))]) for i in picks})


def _window(image: NDArray[np.generic], brain: NDArray[np.generic]) -> tuple[float, float]:
    inside = image[brain.astype(bool)]
    return 0.0, float(np.percentile(inside, 99.5))


def _box(brain: NDArray[np.generic], margin: int = 6) -> tuple[slice, slice]:
    def span(axis: int) -> slice:
        seen = np.flatnonzero(brain.any(axis=(1 - axis, 2)))
        return slice(max(0, int(seen[0]) - margin), int(seen[-1]) + 1 + margin)

    return span(0), span(1)


def _show(
    panel: Axes, image: NDArray[np.generic], window: tuple[float, float], aspect: float
) -> None:
    low, high = window
    panel.imshow(image.T, cmap="gray", origin="lower", vmin=low, vmax=high, aspect=aspect)


def _label(panel: Axes, z: int) -> None:
    style: dict[str, Any] = {"color": "#9ecbff", "fontsize": 7, "transform": panel.transAxes}
    panel.text(0.02, 0.5, "R", va="center", **style)
    panel.text(0.98, 0.5, "L", va="center", ha="right", **style)
    panel.text(0.02, 0.97, f"slice {z + 1}", va="top", **style)
