"""Figures of a cohort: case thumbnails, lesion overlap map and volume histogram."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray
from scipy import ndimage

from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume
from infarct.core.resampling import resample
from infarct.preprocessing.templates import load_template
from infarct.reporting.radiological_view import CONTOUR, radiological_spacing, to_radiological

_SLICES_MM = tuple(range(-40, 72, 8))
"""z of the slices that show all lesions, mm of MNI."""

_HEAD = (slice(16, 176), slice(14, 210))
"""The MNI grid without its empty rim."""

_MIDDLE_SLICE = 80

_PIXELS = (80, 98)
"""Width and height of a thumbnail."""

_PIXEL_MM = 2.0

_VOLUME_EDGES_ML = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


def thumbnail(dwi: Volume, lesion: Volume) -> bytes:
    """Draw the slice with the largest lesion area, or a central slice, with the lesion contour.

    Args:
        dwi: On the MNI grid.
        lesion: Lesion mask on the MNI grid; above .5 inside lesions.

    Returns:
        JPEG of 80 x 98 pixels, about 3 kB; the patient's right is on the left.
    """
    mask = lesion.data[_HEAD] > 0.5
    image = dwi.data[_HEAD]
    z = int(mask.sum(axis=(0, 1)).argmax()) if mask.any() else _MIDDLE_SLICE
    window = _window(image)

    def blocks(data: NDArray[Any]) -> NDArray[Any]:
        x, y = data.shape
        return data.reshape(x // 2, 2, y // 2, 2)

    # Downsample by 2; even a lesion of one voxel must remain visible.
    grey = blocks(image[:, :, z]).mean(axis=(1, 3))
    there = np.asarray(blocks(mask[:, :, z]).any(axis=(1, 3)))
    return _jpeg(np.clip(grey / window, 0, 1)[::-1], there[::-1])


def native_thumbnail(dwi: Volume, lesion: Volume) -> bytes:
    """Draw the same from the images as they were acquired, which are much smaller.

    Args:
        dwi: DWI.
        lesion: Lesion mask on the same grid; above .5 inside lesions.

    Returns:
        JPEG as by `thumbnail`, with the head in the centre.
    """
    affine = dwi.grid.affine
    mask = to_radiological(lesion.data, affine) > 0.5
    image = to_radiological(dwi.data, affine)
    z = int(mask.sum(axis=(0, 1)).argmax()) if mask.any() else image.shape[2] // 2
    window = _window(image)
    head = np.argwhere(image[:, :, z] > 0.1 * window)
    low, high = (head.min(axis=0), head.max(axis=0) + 1) if len(head) else (0, image.shape[:2])
    spacing = radiological_spacing(affine)[:2]
    fits = float(np.max((np.asarray(high) - low) * spacing / _PIXELS))
    pixels_per_voxel = spacing / max(_PIXEL_MM, fits)
    start = (np.asarray(low) + high) / 2 - np.array(_PIXELS) / 2 / pixels_per_voxel
    centres = start[:, None, None] + (np.indices(_PIXELS) + 0.5) / pixels_per_voxel[:, None, None]
    grey = ndimage.map_coordinates(image[:, :, z].astype(np.float32), centres - 0.5, order=1)
    # Every lesion voxel marks its pixel, so that even a lesion of one voxel remains visible.
    voxels = np.argwhere(mask[:, :, z]) + 0.5
    pixels = np.floor((voxels - start) * pixels_per_voxel).astype(int)
    pixels = pixels[((pixels >= 0) & (pixels < _PIXELS)).all(axis=1)]
    there = np.zeros(_PIXELS, bool)
    there[tuple(pixels.T)] = True
    # Voxels larger than a pixel leave gaps between the pixels that they mark.
    there = ndimage.binary_closing(np.pad(there, 2), np.ones((3, 3)))[2:-2, 2:-2]
    return _jpeg(np.clip(grey / window, 0, 1), there)


def _window(image: NDArray[Any]) -> float:
    """Return the signal shown as white."""
    return float(np.percentile(image[image > 0], 99.5)) if (image > 0).any() else 1.0


def _jpeg(grey: NDArray[np.floating], lesion: NDArray[np.bool_]) -> bytes:
    """Draw a contour on a slice.

    Args:
        grey: (X, Y) 0 to 1; x from the patient's right to left, y posterior to anterior.
        lesion: (X, Y) bool.
    """
    edge = ndimage.binary_dilation(lesion) & ~lesion
    colours = np.repeat(grey[..., None], 3, axis=2)
    colours[edge] = [int(CONTOUR[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    stream = io.BytesIO()
    rows_from_above = np.ascontiguousarray(colours[:, ::-1].transpose(1, 0, 2))
    imsave(stream, rows_from_above, format="jpg", pil_kwargs={"quality": 85, "subsampling": 0})
    return stream.getvalue()


def overlap_figure(count: NDArray[np.integer], cases: int) -> Figure:
    """Draw the lesion overlap map over the mean b0 of the template.

    Args:
        count: Number of cases with a lesion at each voxel, on the MNI grid.
        cases: Total number of cases.
    """
    template = load_template()
    mean = resample(template.b0, MNI_GRID)
    brain = template.brain_at_1mm
    window = float(np.percentile(mean[brain], 99.5))
    most = max(1, int(count.max()))
    colours, norm = _colours(most)
    per_row = -(-len(_SLICES_MM) // 2)
    figure = Figure(figsize=(per_row * 1.5, 2 * 1.75 + 0.55), facecolor="black")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, per_row, squeeze=False)
    figure.subplots_adjust(0, 0.15, 1, 1, wspace=0.0, hspace=0.0)
    for panel, z_mm in zip(panels.flat, _SLICES_MM, strict=True):
        z = z_mm - int(MNI_GRID.affine[2, 3])
        panel.set_axis_off()
        # Radiological orientation: the patient's right is on the left.
        panel.imshow(mean[_HEAD][::-1, :, z].T, cmap="gray", origin="lower", vmin=0, vmax=window)
        seen = np.ma.masked_equal(count[_HEAD][::-1, :, z], 0)
        panel.imshow(seen.T, cmap=colours, norm=norm, origin="lower", alpha=0.85)
        panel.text(
            0.5, 0.0, f"z {z_mm:+d}", color="#9ecbff", fontsize=7, ha="center", va="bottom",
            transform=panel.transAxes,
        )  # fmt: skip
    first = panels.flat[0]
    for x, side in ((0.03, "R"), (0.97, "L")):
        first.text(
            x, 0.5, side, color="#9ecbff", fontsize=8, ha="center", transform=first.transAxes
        )
    bar = figure.colorbar(
        ScalarMappable(norm, colours),
        cax=figure.add_axes((0.3, 0.075, 0.4, 0.03)),
        orientation="horizontal",
        spacing="proportional",
        ticks=np.unique(np.linspace(1, most, min(most, 6)).astype(int)),
    )
    bar.ax.tick_params(colors="white", labelsize=7, length=2)
    bar.ax.set_title(f"cases (of {cases})", color="white", fontsize=8, pad=2)
    return figure


def _colours(most: int) -> tuple[Colormap, BoundaryNorm]:
    """Return one colour per count, up to 256 colours."""
    steps = min(most, 256)
    ramp = colormaps["inferno"](np.linspace(0.35, 0.95, max(steps, 2)))[-steps:]
    edges = np.unique(np.linspace(0.5, most + 0.5, steps + 1))
    return ListedColormap(ramp), BoundaryNorm(edges, steps)


def volume_figure(volumes_ml: Sequence[float]) -> Figure:
    """Draw a histogram of lesion volumes with roughly logarithmic bins and a bar for no lesion."""
    volumes = np.asarray(volumes_ml, float)
    steps = list(pairwise((*_VOLUME_EDGES_ML, np.inf)))
    counts = [(volumes == 0).sum()] + [((volumes > a) & (volumes <= b)).sum() for a, b in steps]
    labels = ["none", f"to {steps[0][1]:g}", *(f"{a:g} to {b:g}" for a, b in steps[1:-1])]
    labels += [f"above {steps[-1][0]:g}"]
    figure = Figure(figsize=(8.0, 2.4))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    bars = axes.bar(labels, counts, color=["#9aa5b1", *["#c2410c"] * (len(counts) - 1)], width=0.85)
    axes.bar_label(bars, [str(n) if n else "" for n in counts], fontsize=8, color="#1c2530")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_yticks([])
    axes.tick_params(axis="x", labelsize=8, length=0)
    axes.set_xlabel("lesion volume (ml)", fontsize=9)
    figure.tight_layout()
    return figure


def to_png(figure: Figure, dpi: int = 110) -> bytes:
    """Render a figure as PNG, without metadata that would change between runs."""
    stream = io.BytesIO()
    figure.savefig(stream, dpi=dpi, facecolor=figure.get_facecolor(), metadata={"Software": None})
    return stream.getvalue()
