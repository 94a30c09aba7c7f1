"""Prepare all slices of a scan as small embedded images for the slice viewer."""

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
"""JPEG block size in pixels; slices aligned to blocks do not bleed into each other."""

_MOST_PIXELS = 2_000_000
"""Maximum pixels of all slices of one image; larger scans are downsampled."""

_LONGEST_SIDE = 280
_QUALITY = 80
_PRINTED = 12


@dataclass(frozen=True)
class Sheet:
    """All slices of one image, tiled into one picture.

    Attributes:
        key: Identifier in the HTML, such as `dwi`.
        title: Displayed name.
        uri: The picture as a data URI.
    """

    key: str
    title: str
    uri: str


@dataclass(frozen=True)
class Viewer:
    """Content of the slice viewer; lengths are in sheet pixels.

    Attributes:
        width: Width of one slice.
        height: Height of one slice.
        columns: Number of slices per row of a sheet.
        sheets: DWI, b0, ADC and probability.
        outlines: SVG path of the lesion contour on each slice, inferior to superior; empty for
            slices without lesion.
        areas_ml: Lesion volume on each slice, ml.
        start: Slice with the largest lesion area; the middle slice if there is no lesion.
        printed: Slices shown in the printed report.
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
        """Number of rows of slices on a sheet."""
        return -(-len(self.outlines) // self.columns)

    def corner(self, z: int) -> tuple[int, int]:
        """Return the left and upper edge of a slice on a sheet, pixels."""
        return z % self.columns * self.width, z // self.columns * self.height


@dataclass(frozen=True)
class _Tiling:
    """Layout of a slice in its tile on a sheet.

    Attributes:
        box: Columns and rows of the reordered image that are shown.
        size: Width and height of the slice, pixels.
        margin: Padding left of and above the slice, pixels.
        scale: Pixels per voxel along both axes.
    """

    box: tuple[slice, slice]
    size: tuple[int, int]
    margin: tuple[int, int]
    scale: tuple[float, float]

    @property
    def tile(self) -> tuple[int, int]:
        """Width and height of the tile, pixels; multiples of the JPEG block size."""
        width, height = (-(-n // _BLOCK) * _BLOCK for n in self.size)
        return width, height

    def place(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Map voxel centres of the box to pixels of the tile, where y points down."""
        return (
            self.margin[0] + (x + 0.5) * self.scale[0],
            self.margin[1] + self.size[1] - (y + 0.5) * self.scale[1],
        )


def view(stored: Stored) -> Viewer:
    """Prepare the slices of a scan for the slice viewer.

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
    # ADC is hidden in air, where its noise is brighter than the brain.
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
    """Return the slice that contains a point in scanner coordinates; 0 is the most inferior."""
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
    """Overlay a probability on a dimmed image, from blue (low) through orange to white (high)."""
    stops = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    colours = np.array([[0, 0, 60], [60, 60, 190], [200, 90, 110], [255, 170, 50], [255, 250, 200]])
    colour = np.stack([np.interp(probability, stops, colours[:, c]) for c in range(3)], axis=-1)
    share = np.clip(probability * 4, 0, 1)[..., None]
    return np.asarray(grey[..., None] * 0.6 * (1 - share) + colour * share, np.uint8)


def _sheet(image: NDArray[np.uint8], tiling: _Tiling, columns: int) -> str:
    """Tile all slices into one JPEG and return it as a data URI."""
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
