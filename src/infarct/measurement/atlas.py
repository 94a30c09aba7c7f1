"""Atlases in MNI space: bundled label maps (territories, regions, ASPECTS) and custom ones."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from infarct.core import assets
from infarct.core.errors import GeometryError, InputFileError
from infarct.core.nifti import Volume, read

Hemisphere = Literal["left", "right", ""]
Labels = NDArray[np.uint16]


@dataclass(frozen=True)
class Entry:
    """One label of an atlas.

    Attributes:
        index: Value in the label map, 1 or more.
        name: Name without the side.
        side: The patient's `left` or `right`; empty if the label has no side.
        group: Group of the label: the territory of a sub-territory, the class of a region, the
            score of an ASPECTS region. Equal to `name` if the label has no group.
    """

    index: int
    name: str
    side: Hemisphere
    group: str


@dataclass(frozen=True, eq=False)
class Atlas:
    """A label map and its names.

    Attributes:
        labels: (X, Y, Z) unsigned integers in MNI space, 0 outside.
        entries: All labels.
        file: Name of the file of the label map.
        sha256: SHA-256 of that file.
        names_sha256: SHA-256 of the table of names.
    """

    labels: Volume
    entries: tuple[Entry, ...]
    file: str
    sha256: str
    names_sha256: str


@lru_cache(maxsize=4)
def load_atlas(name: Literal["territories", "regions", "aspects"]) -> Atlas:
    """Load a bundled atlas."""
    return read_atlas(assets.path(f"atlas/{name}"), assets.path(f"atlas/{name}-labels"))


@lru_cache(maxsize=1)
def load_certainty() -> Volume:
    """Load the map of the probability of the most likely territory, 0 - 1; low in border zones."""
    maps = read(assets.path("atlas/territory-probabilities"))
    return Volume(maps.data.max(axis=-1), maps.affine)


def read_atlas(labels: Path, names: Path) -> Atlas:
    """Read a label map in MNI space and its table of names.

    Args:
        labels: NIfTI file with whole numbers, 0 outside.
        names: Tab-separated, with columns `index` and `name`, and optionally `side` (`left`,
            `right` or empty) and `group`.

    Raises:
        InputFileError: If the table has another format, or does not name every label.
        GeometryError: If the map is not a single volume of whole numbers that covers the brain.
    """
    volume = read(labels)
    if volume.data.ndim != 3:
        raise GeometryError(
            f"{labels}: holds {volume.data.shape[3]} volumes; give a single 3D label map"
        )
    whole = np.rint(volume.data)
    if not np.array_equal(whole, volume.data) or whole.min() < 0 or whole.max() > 65535:
        raise GeometryError(
            f"{labels}: contains other values than whole numbers from 0 to 65535; give a label map"
        )
    if not _covers_the_brain(volume):
        raise GeometryError(
            f"{labels}: has no label near the centre of the brain in MNI space; "
            "register the atlas to MNI152 first"
        )
    entries = _read_names(names)
    unnamed = {int(i) for i in np.unique(whole)} - {0} - {entry.index for entry in entries}
    if unnamed:
        raise InputFileError(f"{names}: does not name the labels {sorted(unnamed)} of {labels}")
    hashes = assets.sha256(labels), assets.sha256(names)
    return Atlas(volume.like(whole.astype(np.uint16)), entries, labels.name, *hashes)


def _covers_the_brain(volume: Volume) -> bool:
    """Return whether there is a label within 30 mm of the centre of the brain."""
    labelled = np.argwhere(volume.data > 0)
    world = labelled @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return bool((np.linalg.norm(world - (0, -20, 10), axis=1) < 30).any())


def _read_names(path: Path) -> tuple[Entry, ...]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputFileError(f"{path}: cannot be read as a table ({error})") from error
    if not rows or not {"index", "name"} <= rows[0].keys():
        raise InputFileError(f"{path}: expected tab-separated columns `index` and `name`")
    entries = tuple(_entry(row, path) for row in rows)
    if len({entry.index for entry in entries}) < len(entries):
        raise InputFileError(f"{path}: contains a label twice; remove one of the rows")
    return entries


def _entry(row: dict[str, Any], path: Path) -> Entry:
    name, side = (row["name"] or "").strip(), (row.get("side") or "").strip().lower()
    if not str(row["index"]).strip().isdecimal() or not name or side not in {"left", "right", ""}:
        raise InputFileError(
            f"{path}: invalid row {list(row.values())}; expected a whole number, a name, and in "
            "the optional column `side` left, right or nothing"
        )
    group = (row.get("group") or name).strip()
    return Entry(int(row["index"]), name, cast(Hemisphere, side), group)
