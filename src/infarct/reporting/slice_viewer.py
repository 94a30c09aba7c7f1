"""Prepare all slices of a scan as small embedded images for the slice viewer."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from infarct.core.diffusion import Image, Mask
from infarct.core.nifti import Volume
from infarct.reporting.radiological_view import (
    ADC_WINDOW,
    box_around,
    contour_path,
    head_of,
    key_slices,
    radiological_affine,
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
_ADC_UNIT = (
    "\N{MULTIPLICATION SIGN} 10\N{SUPERSCRIPT MINUS}\N{SUPERSCRIPT THREE} mm\N{SUPERSCRIPT TWO}/s"
)
_QUALITY = 85
_MONTAGE = 10
"""Maximum number of slices in the montage."""

_HEADROOM = 1.6
"""Brightest stored signal relative to the brightest displayed one, for windowing."""

_HIGHEST_ADC = 3.2e-3
"""Highest stored ADC, mm^2/s: that of free water at body temperature."""


@dataclass(frozen=True)
class Sheet:
    """All slices of one image, tiled into one picture of 8 bits.

    Attributes:
        key: Identifier in the HTML, such as `dwi`.
        title: Displayed name.
        uri: The picture as a data URI.
        top: Value stored as 255; 0 is stored as 0.
        white: Value displayed as white at first.
        scale: Factor for displayed values, such as 1000 for ADC.
        unit: Unit of displayed values.
    """

    key: str
    title: str
    uri: str
    top: float = 1.0
    white: float = 1.0
    scale: float = 1.0
    unit: str = ""


@dataclass(frozen=True)
class Viewer:
    """Content of the slice viewer; lengths are in sheet pixels.

    Attributes:
        width: Width of one slice.
        height: Height of one slice.
        columns: Number of slices per row of a sheet.
        sheets: DWI, ADC, b0, probability and, for an ensemble, uncertainty.
        outlines: SVG path of the lesion contour on each slice, inferior to superior; empty for
            slices without lesion.
        second_outlines: The same for the second method; empty if there is none.
        areas_ml: Lesion volume on each slice, ml.
        start: Slice with the largest lesion area; the middle slice if there is no lesion.
        montage: Slices of the montage.
        montage_sheets: DWI and ADC of these slices side by side, windowed for display.
        mirror: (2, 4) maps a point of a slice (x, y, slice, 1) to the same place in the other
            hemisphere, on the same slice.
    """

    width: int
    height: int
    columns: int
    sheets: tuple[Sheet, ...]
    outlines: tuple[str, ...]
    second_outlines: tuple[str, ...]
    areas_ml: tuple[float, ...]
    start: int
    montage: tuple[int, ...]
    montage_sheets: tuple[Sheet, ...]
    mirror: tuple[tuple[float, ...], ...]

    @property
    def rows(self) -> int:
        """Number of rows of slices on a sheet."""
        return -(-len(self.outlines) // self.columns)

    def corner(self, z: int) -> tuple[int, int]:
        """Return the left and upper edge of a slice on a sheet, pixels."""
        return z % self.columns * self.width, z // self.columns * self.height


@dataclass(frozen=True)
class Tiling:
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

    def shown(volume: Volume) -> NDArray[Any]:
        return to_radiological(volume.data, affine)

    dwi, b0, adc, probability = map(shown, (stored.dwi, stored.b0, stored.adc, stored.probability))
    lesion, brain = shown(stored.lesion), shown(stored.brain)
    second = None if stored.second is None else shown(stored.second)
    head = head_of(b0, brain)
    tiling = make_tiling(box_around(head | lesion, 3), head.shape, radiological_spacing(affine))
    n = head.shape[2]
    columns = math.ceil(math.sqrt(n))
    # ADC is hidden in air, where its noise is brighter than the brain.
    adc = np.where(head, adc, 0.0)
    whites = {"dwi": signal_window(dwi, brain)[1], "b0": signal_window(b0, brain)[1]}
    whites["adc"] = ADC_WINDOW[1]

    def sheet(image: Image, told: Sheet) -> Sheet:
        return replace(told, uri=make_sheet(grey(image, told.top), tiling, columns))

    sheets = [
        sheet(dwi, Sheet("dwi", "DWI", "", whites["dwi"] * _HEADROOM, whites["dwi"])),
        sheet(adc, Sheet("adc", "ADC", "", _HIGHEST_ADC, whites["adc"], 1e3, _ADC_UNIT)),
        sheet(b0, Sheet("b0", "b0", "", whites["b0"] * _HEADROOM, whites["b0"])),
        sheet(probability, Sheet("probability", "Probability", "")),
    ]
    if stored.uncertainty is not None:
        told = Sheet("uncertainty", "Uncertainty (SD)", "", 0.5, 0.5)
        sheets.append(sheet(shown(stored.uncertainty), told))
    montage = tuple(key_slices(lesion, brain, _MONTAGE))
    chosen = list(montage)
    montage_sheets = tuple(
        Sheet(key, title, make_sheet(grey(image[..., chosen], whites[key]), tiling, len(chosen)))
        for key, title, image in (("dwi", "DWI", dwi), ("adc", "ADC", adc))
    )

    def outlines(mask: Mask) -> tuple[str, ...]:
        return tuple(contour_path(mask[(*tiling.box, z)], tiling.place) for z in range(n))

    areas = lesion.sum(axis=(0, 1))
    width, height = tiling.tile
    return Viewer(
        width=width,
        height=height,
        columns=columns,
        sheets=tuple(sheets),
        outlines=outlines(lesion),
        second_outlines=() if second is None else outlines(second),
        areas_ml=tuple(float(a) * stored.dwi.grid.voxel_ml for a in areas),
        start=int(np.argmax(areas)) if areas.any() else n // 2,
        montage=montage,
        montage_sheets=montage_sheets,
        mirror=_mirror(stored, tiling),
    )


def _mirror(stored: Stored, tiling: Tiling) -> tuple[tuple[float, ...], ...]:
    """Return the transform of a point of a tile to the other hemisphere, see `Viewer.mirror`."""
    mni_from_shown = stored.atlas_from_native @ radiological_affine(
        stored.dwi.affine, stored.dwi.grid.shape
    )
    other = np.linalg.inv(mni_from_shown) @ np.diag([-1.0, 1.0, 1.0, 1.0]) @ mni_from_shown
    # tile = margin + (shown - box + 0.5) * scale, and y points down.
    (sx, sy), (left, top) = tiling.scale, tiling.margin
    x0, y0 = (float(part.start) for part in tiling.box)
    tile_from_shown = np.eye(4)
    tile_from_shown[0, [0, 3]] = sx, left + (0.5 - x0) * sx
    tile_from_shown[1, [1, 3]] = -sy, top + tiling.size[1] - (0.5 - y0) * sy
    matrix = tile_from_shown @ other @ np.linalg.inv(tile_from_shown)
    return tuple(tuple(round(float(v), 5) for v in row) for row in matrix[:2])


def slice_of(stored: Stored, point_mm: tuple[float, float, float]) -> int:
    """Return the slice that contains a point in scanner coordinates; 0 is the most inferior."""
    at = np.linalg.inv(stored.dwi.affine) @ [*point_mm, 1.0]
    shape = stored.dwi.data.shape
    marked = np.zeros(shape, bool)
    marked[tuple(int(np.clip(round(c), 0, n - 1)) for c, n in zip(at[:3], shape, strict=True))] = 1
    return int(np.argwhere(to_radiological(marked, stored.dwi.affine))[0][2])


def make_tiling(
    box: tuple[slice, slice], shape: tuple[int, ...], spacing: NDArray[np.float64]
) -> Tiling:
    """Lay out the slices of an image in tiles.

    Args:
        box: Columns and rows of the reordered image to show.
        shape: Its number of voxels along each axis.
        spacing: (3,) its voxel spacing, mm.
    """
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
    return Tiling(
        box,
        (width, height),
        (margin[0], margin[1]),
        (width / float(voxels[0]), height / float(voxels[1])),
    )


def grey(image: Image, top: float) -> NDArray[np.uint8]:
    """Store values from 0 to `top` in 8 bits."""
    return np.asarray(np.rint(np.clip(image / max(top, 1e-12), 0, 1) * 255), np.uint8)


def make_sheet(image: NDArray[np.uint8], tiling: Tiling, columns: int) -> str:
    """Tile all slices into one JPEG and return it as a data URI."""
    width, height = tiling.tile
    n = image.shape[2]
    sheet = Picture.new("L", (columns * width, -(-n // columns) * height))
    for z in range(n):
        pixels = np.ascontiguousarray(np.swapaxes(image[(*tiling.box, z)], 0, 1)[::-1])
        picture = Picture.fromarray(pixels, "L")
        if picture.size != tiling.size:
            picture = picture.resize(tiling.size, Picture.Resampling.BICUBIC)
        left, top = z % columns * width, z // columns * height
        sheet.paste(picture, (left + tiling.margin[0], top + tiling.margin[1]))
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
