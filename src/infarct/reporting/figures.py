"""Static figure of a result: slices with the lesion contour in radiological orientation.

Drawn with Pillow: with matplotlib, the figure took a tenth of the time of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from infarct.core.diffusion import Image, Mask
from infarct.reporting.radiological_view import (
    ADC_WINDOW,
    CONTOUR,
    box_around,
    contour_lines,
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
_PANEL_WIDTH, _GAP = 176, 4
"""Width of a panel and space between panels, pixels."""

_HEADER = 56
"""Height of the lines with the case and the names of the columns, pixels."""

_FINE = 3
"""Contours are drawn at this multiple of the resolution and reduced, for smooth lines."""

_LABEL = "#9ecbff"


def slice_figure(stored: Stored) -> Picture.Image:
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
    right, anterior, _ = radiological_spacing(affine)
    columns, rows = (side.stop - side.start for side in box)
    size = _PANEL_WIDTH, max(1, round(_PANEL_WIDTH * rows * anterior / (columns * right)))
    per_row = min(2, len(shown))
    across, down = per_row * len(_COLUMNS), -(-len(shown) // per_row)
    step_x, step_y = size[0] + _GAP, size[1] + _GAP
    figure = Picture.new("RGB", (across * step_x - _GAP, _HEADER + down * step_y - _GAP))
    pen = ImageDraw.Draw(figure)
    pen.text((6, 5), figure_title(stored), fill="white", font=_font(14))
    for column in range(across):
        middle = column * step_x + size[0] // 2, _HEADER - 6
        pen.text(
            middle, _COLUMNS[column % len(_COLUMNS)], fill="white", font=_font(14), anchor="ms"
        )
    for i, z in enumerate(shown):
        left, top = (i % per_row) * len(_COLUMNS) * step_x, _HEADER + (i // per_row) * step_y
        panels = [
            _panel(image[(*box, z)], window, size)
            for image, window in zip(images, windows, strict=True)
        ]
        panels.append(_outlined(panels[0], lesion[(*box, z)]))
        for k, panel in enumerate(panels):
            figure.paste(panel, (left + k * step_x, top))
        _label(pen, (left, top), size, z)
    return figure


def figure_title(stored: Stored) -> str:
    """Return the line that identifies the case, and says if its mask was corrected."""
    corrected = ", mask corrected manually" if stored.summary.get("corrections") else ""
    return stored.identity + corrected


def _panel(image: Image, window: tuple[float, float], size: tuple[int, int]) -> Picture.Image:
    """Return one slice with its window applied; the patient's right is on the left."""
    low, high = window
    grey = np.clip((image - low) / max(high - low, 1e-12), 0, 1) * 255
    pixels = np.ascontiguousarray(np.round(grey).astype(np.uint8).T[::-1])
    smooth = Picture.fromarray(pixels, "L").resize(size, Picture.Resampling.BICUBIC)
    return smooth.convert("RGB")


def _outlined(panel: Picture.Image, lesion: Mask) -> Picture.Image:
    """Return a panel with the contour of the lesion: a coloured line with a dark rim."""
    if not lesion.any():
        return panel
    large = panel.resize((panel.width * _FINE, panel.height * _FINE), Picture.Resampling.BICUBIC)
    pen = ImageDraw.Draw(large)
    lines = _contours(lesion, large.size)
    for colour, width in (("#1a1a1a", 3.0), (CONTOUR, 1.5)):
        for line in lines:
            pen.line(line, fill=colour, width=round(width * _FINE), joint="curve")
    return large.resize(panel.size, Picture.Resampling.BOX)


def _contours(lesion: Mask, size: tuple[int, int]) -> Sequence[list[tuple[float, float]]]:
    """Return the contours of a mask (X, Y) in pixels of a picture of the given size."""
    width, height = (pixels / voxels for pixels, voxels in zip(size, lesion.shape, strict=True))
    return [
        [((x + 0.5) * width, size[1] - (y + 0.5) * height) for x, y in line]
        for line in contour_lines(lesion)
    ]


def _label(
    pen: ImageDraw.ImageDraw, corner: tuple[int, int], size: tuple[int, int], z: int
) -> None:
    """Write the number of the slice and the sides into the first panel of a slice."""
    (left, top), (width, height) = corner, size
    pen.text((left + 4, top + 3), f"slice {z + 1}", fill=_LABEL, font=_font(11))
    pen.text((left + 4, top + height // 2), "R", fill=_LABEL, font=_font(11), anchor="lm")
    right = left + width - 4, top + height // 2
    pen.text(right, "L", fill=_LABEL, font=_font(11), anchor="rm")


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return a font with Latin, Greek and Cyrillic letters: names of cases may contain any.

    It comes with matplotlib, which is not imported, because that takes half a second.
    """
    package = find_spec("matplotlib")
    for folder in (package.submodule_search_locations or ()) if package else ():
        file = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            return ImageFont.truetype(str(file), size)
    return ImageFont.load_default(size)
