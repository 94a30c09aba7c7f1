"""Every slice of a scan as small pictures that a page can carry."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from infarct.core.diffusion import Image
from infarct.reporting.radiological_view import (
    ADC_WINDOW,
    box_around,
    contour_path,
    head_of,
    key_slices,
    radiological_spacing,
    signal_window,
    to_radiological,
)
from infarct.reporting.reader import Stored

_BLOCK = 8
"""JPEG works in blocks of 8 x 8 pixels; slices that fill whole blocks do not bleed into another."""

_MOST_PIXELS = 2_000_000
"""Of all slices of one image together; more, and every slice is shown smaller."""

_LONGEST_SIDE = 280
_QUALITY = 80
_PRINTED = 12


@dataclass(frozen=True)
class Sheet:
    """All slices of one image, side by side in one picture.

    Attributes:
        key: For the page's code: `dwi`, ...
        title: For people.
        uri: The picture, as a data URI.
    """

    key: str
    title: str
    uri: str


@dataclass(frozen=True)
class Viewer:
    """What the slice viewer shows; lengths in pixels of the sheets.

    Attributes:
        width: Of one slice.
        height: Of one slice.
        columns: Slices side by side on a sheet.
        sheets: DWI, b0, ADC, probability.
        outlines: SVG path of the lesion on each slice, from the feet up; empty where there is none.
        areas_ml: Lesion on each slice, ml.
        start: Slice with most lesion, else the middle one.
        printed: Slices worth printing.
    """

    width: int
    height: int
    columns: int
    sheets: tuple[Sheet, ...]
    outlines: tuple[str, ...]
    areas_ml: tuple[float, ...]
    start: int
    printed: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Rows of slices on a sheet."""
        return -(-len(self.outlines) // self.columns)

    def corner(self, z: int) -> tuple[int, int]:
        """Return where the slice lies on a sheet: its left and upper edge."""
        return z % self.columns * self.width, z // self.columns * self.height


@dataclass(frozen=True)
class _Tiling:
    """How the voxels of a slice fill its place on a sheet.

    Attributes:
        box: Columns and rows of the hung image that are shown.
        size: Width and height of the picture of a slice, pixels.
        margin: Empty pixels left of it and above it, up to the next whole block.
        scale: Pixels per voxel, along both axes.
    """

    box: tuple[slice, slice]
    size: tuple[int, int]
    margin: tuple[int, int]
    scale: tuple[float, float]

    @property
    def tile(self) -> tuple[int, int]:
        """Width and height of the place, whole blocks."""
        width, height = (-(-n // _BLOCK) * _BLOCK for n in self.size)
        return width, height

    def place(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Map centres of voxels of the box to pixels of the place; y grows downwards there."""
        return (
            self.margin[0] + (x + 0.5) * self.scale[0],
            self.margin[1] + self.size[1] - (y + 0.5) * self.scale[1],
        )


def view(stored: Stored) -> Viewer:
    """Prepare the slices of a scan for its page.

    Args:
        stored: The result.
    """
    affine = stored.dwi.affine
    dwi, b0, adc, probability = (
        to_radiological(volume.data, affine)
        for volume in (stored.dwi, stored.b0, stored.adc, stored.probability)
    )
    lesion, brain = (
        to_radiological(volume.data, affine) for volume in (stored.lesion, stored.brain)
    )
    head = head_of(b0, brain)
    tiling = _tile(box_around(head | lesion, 3), head.shape, radiological_spacing(affine))
    n = head.shape[2]
    columns = math.ceil(math.sqrt(n))

    grey = _grey(dwi, signal_window(dwi, brain))
    # The ADC of air is noise that outshines the brain; only tissue is shown.
    images = {
        ("dwi", "DWI"): grey,
        ("b0", "b0"): _grey(b0, signal_window(b0, brain)),
        ("adc", "ADC"): _grey(np.where(head, adc, 0.0), ADC_WINDOW),
        ("probability", "Probability"): _over(grey, probability),
    }
    sheets = tuple(
        Sheet(key, title, _sheet(image, tiling, columns)) for (key, title), image in images.items()
    )
    areas = lesion.sum(axis=(0, 1))
    width, height = tiling.tile
    return Viewer(
        width=width,
        height=height,
        columns=columns,
        sheets=sheets,
        outlines=tuple(contour_path(lesion[(*tiling.box, z)], tiling.place) for z in range(n)),
        areas_ml=tuple(float(a) * stored.dwi.grid.voxel_ml for a in areas),
        start=int(np.argmax(areas)) if areas.any() else n // 2,
        printed=tuple(key_slices(lesion, brain, _PRINTED)),
    )


def slice_of(stored: Stored, point_mm: tuple[float, float, float]) -> int:
    """Return the slice, counted from 0 at the feet, that a point of the scanner's world lies on."""
    at = np.linalg.inv(stored.dwi.affine) @ [*point_mm, 1.0]
    shape = stored.dwi.data.shape
    marked = np.zeros(shape, bool)
    marked[tuple(int(np.clip(round(c), 0, n - 1)) for c, n in zip(at[:3], shape, strict=True))] = 1
    return int(np.argwhere(to_radiological(marked, stored.dwi.affine))[0][2])


def _tile(
    box: tuple[slice, slice], shape: tuple[int, ...], spacing: NDArray[np.float64]
) -> _Tiling:
    voxels = np.array([part.stop - part.start for part in box])
    mm = voxels * spacing[:2]
    finest = float(spacing[:2].min())
    pixel = max(
        finest,
        float(mm.max()) / _LONGEST_SIDE,
        math.sqrt(float(mm.prod()) * shape[2] / _MOST_PIXELS),
    )
    width, height = (max(1, round(float(length) / pixel)) for length in mm)
    margin = tuple((-n % _BLOCK) // 2 for n in (width, height))
    return _Tiling(
        box,
        (width, height),
        (margin[0], margin[1]),
        (width / float(voxels[0]), height / float(voxels[1])),
    )


def _grey(image: Image, window: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = window
    share = np.clip((image - low) / max(high - low, 1e-12), 0, 1)
    return np.asarray(share * 255, np.uint8)


def _over(grey: NDArray[np.uint8], probability: Image) -> NDArray[np.uint8]:
    """Lay a probability over a dimmed image: blue where low, through orange to white where high."""
    stops = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    colours = np.array([[0, 0, 60], [60, 60, 190], [200, 90, 110], [255, 170, 50], [255, 250, 200]])
    colour = np.stack([np.interp(probability, stops, colours[:, c]) for c in range(3)], axis=-1)
    share = np.clip(probability * 4, 0, 1)[..., None]
    return np.asarray(grey[..., None] * 0.6 * (1 - share) + colour * share, np.uint8)


def _sheet(image: NDArray[np.uint8], tiling: _Tiling, columns: int) -> str:
    """Draw all slices side by side and return the picture as a data URI."""
    width, height = tiling.tile
    n = image.shape[2]
    mode = "RGB" if image.ndim == 4 else "L"
    sheet = Picture.new(mode, (columns * width, -(-n // columns) * height))
    for z in range(n):
        pixels = np.ascontiguousarray(np.swapaxes(image[(*tiling.box, z)], 0, 1)[::-1])
        picture = Picture.fromarray(pixels, mode)
        if picture.size != tiling.size:
            picture = picture.resize(tiling.size, Picture.Resampling.BICUBIC)
        left, top = z % columns * width, z // columns * height
        sheet.paste(picture, (left + tiling.margin[0], top + tiling.margin[1]))
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=_QUALITY, optimize=True, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
