"""Draw the lesion in MNI space as SVG: glass brain and axial template slices."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from infarct.core.diffusion import Mask
from infarct.core.geometry import MNI_GRID
from infarct.core.resampling import resample
from infarct.measurement.atlas import Atlas
from infarct.preprocessing.templates import TEMPLATE_GRID, Template
from infarct.reporting.radiological_view import contour_path

_THICKNESS_MM = (0, 5, 15)
"""Thickness levels of the glass brain; each thicker level is drawn darker."""

_SLICES = 6

_UPPER = ("M4", "M5", "M6")
"""ASPECTS regions of the supraganglionic level."""

_SHORT = {"caudate": "C", "insula": "I", "internal capsule": "IC", "lentiform": "L"}
"""Usual abbreviations of ASPECTS regions."""

_BOX = (slice(10, 182), slice(10, 214))
"""Columns and rows of the MNI grid that are shown on axial slices."""


@dataclass(frozen=True)
class Parcels:
    """A label map whose borders are drawn under the lesion, such as arterial territories.

    Attributes:
        title: Plural noun for the labels.
        labels: (192, 224, 192) integers on the MNI grid; 0 is background.
    """

    title: str
    labels: NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Drawing:
    """Content of one SVG drawing.

    Attributes:
        title: Caption.
        left: Label at the left edge.
        right: Label at the right edge.
        width: Width in mm.
        height: Height in mm.
        shapes: (CSS class, SVG path) pairs from back to front.
        picture: Background image as a data URI; empty if there is none.
        labels: (x, y, text) of each label, mm.
    """

    title: str
    left: str
    right: str
    width: int
    height: int
    shapes: tuple[tuple[str, str], ...]
    picture: str = ""
    labels: tuple[tuple[float, float, str], ...] = ()


def glass_brain(lesion: Mask, template: Template) -> tuple[Drawing, ...]:
    """Project the lesion through the brain (glass brain).

    Args:
        lesion: (192, 224, 192) bool on the MNI grid.
        template: The MNI template.

    Returns:
        Four projections: left hemisphere from the left, right hemisphere from the right, coronal
        and axial; the last two with the patient's right on the left.
    """
    middle = round(-float(MNI_GRID.affine[0, 3]))
    left, right = lesion.copy(), lesion.copy()
    left[middle:], right[:middle] = False, False
    brain = template.brain
    return (
        _through("left half", ("front", "back"), left, brain, axis=0, mirror=True),
        _through("right half", ("back", "front"), right, brain, axis=0, mirror=False),
        _through("coronal", ("R", "L"), lesion, brain, axis=1, mirror=True),
        _through("axial", ("R", "L"), lesion, brain, axis=2, mirror=True),
    )


def mni_slices(
    lesion: Mask, template: Template, parcels: Parcels | None = None
) -> tuple[Drawing, ...]:
    """Draw the lesion on axial slices of the template.

    Args:
        lesion: (192, 224, 192) bool on the MNI grid.
        template: The MNI template.
        parcels: Label map drawn as thin borders; none if None.

    Returns:
        Slices from inferior to superior, spread over the extent of the lesion.
    """
    along_z = np.flatnonzero(lesion.any(axis=(0, 1)))
    if along_z.size:
        weight = np.cumsum(lesion.sum(axis=(0, 1), dtype=float))
        at = np.searchsorted(weight, np.linspace(0.04, 0.96, _SLICES) * weight[-1])
    else:
        at = np.linspace(45, 135, _SLICES).astype(int)
    return tuple(_mni_slice(int(z), lesion, template, parcels) for z in sorted(set(at.tolist())))


def aspects_slices(
    affected: Collection[str], side: str, atlas: Atlas, template: Template
) -> tuple[Drawing, ...]:
    """Draw the ten regions of ASPECTS on the two levels of the score.

    Args:
        affected: Names of the affected regions.
        side: Scored side, `left` or `right`.
        atlas: The atlas of the ASPECTS regions, on the MNI grid.
        template: The MNI template.

    Returns:
        The ganglionic and the supraganglionic level, each where its smallest region is largest.
    """
    entries = [e for e in atlas.entries if e.group == "ASPECTS" and e.side == side]
    labels = resample(atlas.labels, MNI_GRID, labels=True)
    drawings = []
    for title, upper in (("ganglionic level", False), ("supraganglionic level", True)):
        own = [entry for entry in entries if (entry.name in _UPPER) is upper]
        areas = np.array([(labels == entry.index).sum(axis=(0, 1)) for entry in own])
        z = int(areas.min(axis=0).argmax())
        shapes, names = [], []
        for entry in own:
            here: Mask = labels[(*_BOX, z)] == entry.index
            kind = "affected" if entry.name in affected else "region"
            shapes.append((kind, contour_path(here, _placed)))
            x, y = _placed(*np.argwhere(here).mean(axis=0))
            names.append((float(x), float(y), _SHORT.get(entry.name, entry.name)))
        drawing = _slice(z, template, shapes)
        drawings.append(replace(drawing, title=f"{title}, {drawing.title}", labels=tuple(names)))
    return tuple(drawings)


def _through(
    title: str, letters: tuple[str, str], lesion: Mask, brain: Mask, *, axis: int, mirror: bool
) -> Drawing:
    """Project along one axis; `mirror` reverses the horizontal axis."""
    step = float(TEMPLATE_GRID.affine[0, 0])
    silhouette = np.asarray(brain.any(axis=axis))
    thick: NDArray[np.intp] = lesion.sum(axis=axis)
    width, height = thick.shape

    def place(scale: float) -> Any:
        def placed(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
            across = (x + 0.5) * scale
            return (width - across if mirror else across), height - (y + 0.5) * scale

        return placed

    shapes = [("silhouette", contour_path(silhouette, place(step)))]
    shapes += [("lesion", contour_path(thick > mm, place(1.0))) for mm in _THICKNESS_MM]
    return Drawing(title, *letters, width, height, tuple(shapes))


def _placed(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Map pixels of an axial slice to the drawing, with the patient's right on the left."""
    width, height = (part.stop - part.start for part in _BOX)
    return width - (x + 0.5), height - (y + 0.5)


def _mni_slice(z: int, lesion: Mask, template: Template, parcels: Parcels | None) -> Drawing:
    shapes = []
    if parcels is not None:
        here = parcels.labels[(*_BOX, z)]
        borders = ((here == label).astype(bool) for label in np.unique(here[here > 0]))
        shapes = [("parcel", contour_path(border, _placed)) for border in borders]
    shapes.append(("lesion", contour_path(lesion[(*_BOX, z)], _placed)))
    return _slice(z, template, shapes)


def _slice(z: int, template: Template, shapes: list[tuple[str, str]]) -> Drawing:
    """Draw shapes on an axial slice of the template."""
    width, height = (part.stop - part.start for part in _BOX)
    columns, rows = (slice(part.start // 2, part.stop // 2) for part in _BOX)
    backdrop = template.b0.data[columns, rows, z // 2]
    grey = (np.clip(backdrop / 2.2, 0, 1) * 255).astype(np.uint8)
    picture = Picture.fromarray(np.ascontiguousarray(grey.T[::-1, ::-1]), "L")
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80)
    uri = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
    height_mm = round(z + float(MNI_GRID.affine[2, 3]))
    return Drawing(f"z = {height_mm} mm", "R", "L", width, height, tuple(shapes), uri)
