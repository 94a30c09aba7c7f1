"""Compute the positions of the tiles of a mosaic (all slices of a volume in one image).

DICOM has no standard element for the slice positions in a mosaic. Siemens stores the slice normal
and the number of tiles in a private header (CSA); United Imaging stores one position per tile.
Without these, the slice order is unknown and the volume could be upside down.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

TILE_SEQUENCE = Tag(0x00651051)
"""United Imaging: one item per tile with its ImagePositionPatient."""

CSA_IMAGE, CSA_SERIES = Tag(0x00291010), Tag(0x00291020)
"""Siemens: private headers of the image and the protocol."""

_MAX_TAGS, _MAX_ITEMS = 128, 256
_SLICE = re.compile(rb"sSliceArray\.asSlice\[(\d+)\]\.sPosition\.d(Sag|Cor|Tra)\s*=\s*([-+.\deE]+)")

Position = tuple[float, float, float]


def siemens_tiles(
    data: Dataset, position: Sequence[float], orientation: Sequence[float]
) -> tuple[Position, ...]:
    """Compute the positions of the tiles of a Siemens mosaic.

    Args:
        data: The header, including both CSA elements.
        position: ImagePositionPatient, LPS mm: corner of a virtual slice of the size of the mosaic.
        orientation: ImageOrientationPatient.

    Returns:
        Position of the first pixel of each tile, LPS mm, in tile order; empty if the number of
        tiles, the slice normal or the distance between slices is unknown.

    References:
        https://nipy.org/nibabel/dicom/dicom_mosaic.html
    """
    csa = read_csa(_raw(data, CSA_IMAGE))
    count = int(csa.get("NumberOfImagesInMosaic", (0.0,))[0])
    normal = np.array(csa.get("SliceNormalVector", ()))
    pixel = _floats(data.get("PixelSpacing"))
    rows, columns = int(data.get("Rows") or 0), int(data.get("Columns") or 0)
    if normal.shape != (3,) or not 1 < count <= 1024 or len(pixel) != 2:
        return ()
    across = math.ceil(math.sqrt(count))
    step = slice_distance(data, normal)
    plane = np.cross(orientation[:3], orientation[3:])
    if not step or columns % across or rows % across or abs(abs(plane @ normal) - 1) > 0.01:
        return ()
    corner = np.array(position, float)
    corner += np.array(orientation[:3]) * pixel[1] * (columns - columns // across) / 2
    corner += np.array(orientation[3:]) * pixel[0] * (rows - rows // across) / 2
    return tuple(_position(corner + index * step * normal) for index in range(count))


def tile_positions(data: Dataset) -> tuple[Position, ...]:
    """Return the positions of the tiles of a United Imaging mosaic; empty if one is missing."""
    element = data.get(TILE_SEQUENCE)
    items = element.value if isinstance(element, DataElement) and element.VR == "SQ" else []
    places = [_floats(item.get("ImagePositionPatient")) for item in items]
    if any(len(place) != 3 for place in places):
        return ()
    return tuple(_position(np.array(place)) for place in places)


def slice_distance(data: Dataset, normal: NDArray[np.float64]) -> float | None:
    """Return the distance between the centres of neighbouring slices of a Siemens mosaic, mm.

    SliceThickness is not a substitute: it does not include the gap between slices.

    Args:
        data: The header.
        normal: (3,) unit vector.

    Returns:
        Distance by the positions in the protocol, else SpacingBetweenSlices; None if both are
        missing.
    """
    places: dict[int, dict[bytes, float]] = {}
    for index, axis, value in _SLICE.findall(_raw(data, CSA_SERIES)):
        number = _floats([value.decode("ascii")])
        if number:
            places.setdefault(int(index), {})[axis] = number[0]
    stack = [
        [place.get(axis, 0.0) for axis in (b"Sag", b"Cor", b"Tra")] for place in places.values()
    ]
    if len(stack) > 1:
        steps = np.diff(np.sort(np.array(stack) @ normal))
        if np.ptp(steps) <= max(0.05 * float(np.median(steps)), 0.05):
            return float(np.median(steps))
    stated, thickness = (
        _floats(data.get("SpacingBetweenSlices")),
        _floats(data.get("SliceThickness")),
    )
    # EPI slices do not overlap: a distance below the thickness is wrong or is only the gap.
    least = 0.9 * thickness[0] if thickness else 0.0
    return stated[0] if stated and stated[0] > max(least, 0.0) else None


def read_csa(raw: bytes) -> dict[str, tuple[float, ...]]:
    """Read the numbers in a Siemens CSA header, version 2 (SV10).

    nibabel also has a reader, but it is experimental and warns on import.

    Args:
        raw: Value of the element (0029,1010); may be damaged.

    Returns:
        Numbers by entry, for entries that contain any; empty if the header cannot be read.
    """
    if raw[:4] != b"SV10":
        return {}
    found = {}
    try:
        (tags,) = struct.unpack_from("<I", raw, 8)
        at = 16
        for _ in range(min(tags, _MAX_TAGS)):
            name, _, _, _, items, _ = struct.unpack_from("<64si4siii", raw, at)
            at += 84
            words = []
            for _ in range(min(max(items, 0), _MAX_ITEMS)):
                (length,) = struct.unpack_from("<4xi8x", raw, at)
                at += 16
                words.append(raw[at : at + max(length, 0)].split(b"\0")[0].strip())
                at += (max(length, 0) + 3) // 4 * 4
            numbers = _floats([word.decode("latin-1") for word in words if word])
            if numbers:
                found[name.split(b"\0")[0].decode("latin-1")] = tuple(numbers)
    except struct.error:
        return {}
    return found


def _raw(data: Dataset, tag: int) -> bytes:
    element = data.get(tag)
    value = None if element is None else element.value
    return value if isinstance(value, bytes) else b""


def _floats(value: Any) -> list[float]:
    """Convert values to numbers; empty if any value is not a finite number."""
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    values: list[Any] = [] if value is None else list(value) if several else [value]
    try:
        numbers = [float(each) for each in values]
    except (TypeError, ValueError):
        return []
    return numbers if all(map(math.isfinite, numbers)) else []


def _position(place: NDArray[np.float64]) -> Position:
    x, y, z = (float(v) for v in place)
    return x, y, z
