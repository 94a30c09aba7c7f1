"""Static figures: slices with lesion contours in radiological orientation."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from infarct.reporting.radiological_view import (
    ADC_WINDOW,
    CONTOUR,
    box_around,
    head_of,
    key_slices,
    radiological_spacing,
    signal_window,
    to_radiological,
)
from infarct.reporting.reader import Stored

_MOST_SLICES = 24
_MARGIN = 6
_COLUMNS = ("DWI", "b0", "ADC", "lesion")


def slice_figure(stored: Stored) -> Figure:
    """Draw DWI, b0, ADC, and DWI with the lesion contour on selected slices.

    If there is a lesion, only slices with lesion are shown, evenly thinned to at most 24;
    otherwise slices of the whole brain.

    Args:
        stored: The result.

    Returns:
        The figure, with the patient's right on the viewer's left.
    """
    affine = stored.dwi.affine
    brain, lesion = (
        to_radiological(stored.brain.data, affine),
        to_radiological(stored.lesion.data, affine),
    )
    dwi, b0, adc = (to_radiological(v.data, affine) for v in (stored.dwi, stored.b0, stored.adc))
    # ADC is hidden in air, where its noise is brighter than the brain.
    images = [dwi, b0, np.where(head_of(b0, brain), adc, 0.0)]
    windows = [signal_window(image, brain) for image in images[:2]] + [ADC_WINDOW]
    shown = key_slices(lesion, brain, _MOST_SLICES)
    box = box_around(brain | lesion, _MARGIN)
    spacing = radiological_spacing(affine)
    width, height = (box[0].stop - box[0].start), (box[1].stop - box[1].start)
    aspect = spacing[1] / spacing[0]
    per_row = 2 if len(shown) > 1 else 1
    rows = -(-len(shown) // per_row)
    across = per_row * len(_COLUMNS)
    cell = 1.6
    tall = cell * height * aspect / width
    figure = Figure(figsize=(across * cell, rows * tall + 0.6), facecolor="black")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, across, squeeze=False)
    figure.subplots_adjust(0, 0, 1, 1 - 0.55 / (rows * tall + 0.6), wspace=0.02, hspace=0.02)
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
            outline = lesion[(*box, z)].T
            panel.contour(outline, levels=[0.5], colors="black", linewidths=1.8, alpha=0.6)
            panel.contour(outline, levels=[0.5], colors=CONTOUR, linewidths=0.9)
        _label(grid[row, first], z)
    corrected = ", mask corrected manually" if stored.summary.get("corrections") else ""
    style: dict[str, Any] = {"color": "white", "fontsize": 9, "va": "top"}
    figure.text(0.005, 1 - 0.04 / (rows * tall + 0.6), stored.identity + corrected, **style)
    return figure


def to_png(figure: Figure, dpi: int = 110) -> bytes:
    """Render a figure as PNG, without metadata that would change between runs."""
    stream = io.BytesIO()
    figure.savefig(stream, dpi=dpi, facecolor=figure.get_facecolor(), metadata={"Software": None})
    return stream.getvalue()


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
