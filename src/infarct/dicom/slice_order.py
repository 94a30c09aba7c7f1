"""Sort files into volumes and slices for dcm2niix, and check the converted image.

dcm2niix sorts the files of a series by InstanceNumber and splits the sorted list into volumes. If
numbers restart with each volume, are missing or follow the order of acquisition, slices of b0 and
DWI are mixed or swapped. This module derives the correct order from positions and b-values.
dcm2niix also fails on volumes whose positions differ slightly (rounding by scanners and archives).
"""

from __future__ import annotations

import shutil
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import DS

from infarct.core.errors import ContentError, InputFileError
from infarct.core.geometry import Grid
from infarct.core.nifti import Volume
from infarct.dicom.geometry import slice_distance
from infarct.dicom.headers import Content, Frame, Header
from infarct.dicom.series import Series, levels

_CONTENTS: tuple[Content, ...] = ("signal", "adc")
_OFF_GRID_MM = 0.5
"""Larger than rounding and drift in headers, smaller than the distance between slices."""


def lend(series: Series, folder: Path) -> None:
    """Provide the files of a series to dcm2niix under neutral names.

    Args:
        series: Signal and ADC files only, with checked geometry.
        folder: Empty temporary folder. Correct files are linked if the system supports links;
            other files are copied with corrected numbers and positions.

    Raises:
        ContentError: If slices are duplicated or cannot be sorted into volumes.
        InputFileError: If a file cannot be copied.
    """
    numbers, places = numbering(series), placing(series)
    distance = _missing_distance(series)
    bare = {header.frames[0].path for header in series.headers if header.bare}
    for index, path in enumerate(series.files):
        name = folder / f"{index:06d}"
        if path in numbers or path in places or path in bare or distance is not None:
            _copy(series, path, name, numbers.get(path), places.get(path), distance)
            continue
        try:
            name.symlink_to(path.resolve())
        except OSError:
            shutil.copyfile(path, name)


def _missing_distance(series: Series) -> float | None:
    """Return the distance between slices that mosaic headers lack, mm; None if it is correct.

    dcm2niix uses SpacingBetweenSlices or the thickness, not the positions of the tiles.
    """
    found = slice_distance(series) if series.mosaic else None
    stated = [header.slice_distance or 0.0 for header in series.headers]
    right = found is None or np.allclose(stated, found, rtol=0, atol=1e-3)
    return None if right else found


def numbering(series: Series) -> dict[Path, int]:
    """Number files by volume, and within each volume along the slice normal.

    Args:
        series: Signal and ADC files only. Mosaics and multi-frame files need no numbers.

    Returns:
        Corrected InstanceNumber by file; empty if the numbers of the files are correct.

    Raises:
        ContentError: If slices are duplicated or cannot be sorted into volumes.
    """
    if any(header.mosaic or len(header.frames) > 1 for header in series.headers):
        return {}
    groups = [[h for h in series.headers if series.content_of(h) == each] for each in _CONTENTS]
    useful = [group for group in groups if group]
    instances = {header.instance for header in series.headers}
    if len(instances) == len(series.headers) and all(map(_is_in_order, useful)):
        return {}
    for group in useful:
        _check_sortable(series, group)
    row = [header for group in useful for header in _sorted(group)]
    return {header.frames[0].path: number for number, header in enumerate(row, start=1)}


def placing(series: Series) -> dict[Path, tuple[float, ...]]:
    """Align the slice positions of all volumes with those of the first.

    Args:
        series: Signal and ADC files only. Mosaics and multi-frame files are not changed.

    Returns:
        Corrected ImagePositionPatient, LPS mm, of files whose position differs slightly from the
        first file of the same slice.
    """
    if any(header.mosaic or len(header.frames) > 1 for header in series.headers):
        return {}
    moved = {}
    for content in _CONTENTS:
        frames = series.frames_of(content)
        first: dict[int, Frame] = {}
        for frame, place in zip(frames, levels(frames)[1] if frames else (), strict=True):
            position = first.setdefault(int(place), frame).position
            if position is not None and position != frame.position:
                moved[frame.path] = position
    return moved


def volumes_told(series: Series) -> int | None:
    """Return the number of signal and ADC volumes by the headers; None if unknown."""
    if any(header.mosaic for header in series.headers):
        return None
    count = 0
    for content in _CONTENTS:
        if frames := series.frames_of(content):
            count += int(np.bincount(levels(frames)[1]).max())
    return count or None


def volume_bvalues(series: Series, image: Volume) -> tuple[float | None, ...] | None:
    """Determine the b-value of each volume of an image from the headers alone.

    Args:
        series: The converted series.
        image: The image that dcm2niix created from all its files.

    Returns:
        b-value of each volume, s/mm^2, None for volumes without one. None for all volumes unless
        the files of each volume agree and the middle slice of each volume has the pixels of the
        expected file.
    """
    headers, frames = series.headers, series.frames_of("signal")
    if len(frames) != len(headers) or any(h.mosaic for h in headers):
        return None
    numbers = numbering(series)
    row = sorted(headers, key=lambda h: numbers.get(h.frames[0].path, h.instance))
    slices = image.grid.shape[2]
    data = image.data.reshape(*image.grid.shape, -1)
    if len(row) != slices * data.shape[3]:
        return None
    bvalues: list[float | None] = []
    for index in range(data.shape[3]):
        volume = row[index * slices : (index + 1) * slices]
        given = {header.frames[0].bvalue for header in volume}
        if len(given) != 1 or not _shows(data[..., index], image.grid, volume[slices // 2]):
            return None
        bvalues += list(given)
    return tuple(bvalues)


def check_places(series: Series, grid: Grid) -> None:
    """Check that the slices of a converted image have the positions given by the headers.

    Args:
        series: The converted series.
        grid: Grid of an image that dcm2niix created, with rows reversed and columns kept.

    Raises:
        ContentError: If a frame does not lie on the grid, or a slice of the grid has no frame.
    """
    frame = series.frames[0]
    positions: list[tuple[float, ...]] = [f.position for f in series.frames if f.position]
    if series.mosaic:
        positions = list(series.headers[0].tiles)
    world, voxels = _places(positions, grid)
    slices = np.round(voxels[:, 2])
    # Compare three corners of each frame: first pixel, end of first row, end of first column.
    plane = np.array(frame.orientation).reshape(2, 3) * (-1.0, -1.0, 1.0)
    height, width = np.array(frame.spacing) * (grid.shape[1] - 1, grid.shape[0] - 1)
    apart = 0.0
    for column, row, step in (
        (0, grid.shape[1] - 1, np.zeros(3)),
        (grid.shape[0] - 1, grid.shape[1] - 1, plane[0] * width),
        (0, 0, plane[1] * height),
    ):
        corners = np.column_stack([np.full_like(slices, column), np.full_like(slices, row), slices])
        placed = corners @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        apart = max(apart, float(np.linalg.norm(placed - world - step, axis=1).max()))
    if apart > _OFF_GRID_MM or set(slices) != set(range(grid.shape[2])):
        first, last = world[np.argmin(voxels[:, 2])], world[np.argmax(voxels[:, 2])]
        span = float(np.linalg.norm(last - first))
        raise ContentError(
            f"series {series.number}: slices span {span:.1f} mm according to the headers, but "
            f"dcm2niix made {grid.shape[2]} slices {grid.spacing[2]:.2f} mm apart, up to "
            f"{apart:.1f} mm from their positions; convert the series yourself and use --dwi, --b0 "
            "and --bvalue"
        )


def _places(
    positions: Sequence[tuple[float, ...]], grid: Grid
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the centre of the first pixel of each frame, in RAS mm and in voxels of a grid."""
    world = np.array(positions) * (-1.0, -1.0, 1.0)
    return world, (world - grid.affine[:3, 3]) @ np.linalg.inv(grid.affine[:3, :3]).T


def _shows(data: NDArray[np.generic], grid: Grid, header: Header) -> bool:
    """Return whether a volume contains the pixels of a file at the position of that file."""
    frame = header.frames[0]
    assert frame.position is not None
    place = round(_places([frame.position], grid)[1][0, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            file = pydicom.dcmread(frame.path)
            pixels = file.pixel_array * float(file.get("RescaleSlope") or 1)
            pixels = pixels + float(file.get("RescaleIntercept") or 0)
        except Exception:
            # Unsupported compression or a damaged file: not comparable.
            return False
    # dcm2niix keeps columns and reverses rows.
    shown = data[:, ::-1, place].T if 0 <= place < grid.shape[2] else data[:0, 0]
    return shown.shape == pixels.shape and bool(np.allclose(shown, pixels, rtol=1e-4))


def _is_in_order(group: list[Header]) -> bool:
    """Return whether InstanceNumber sorts files by volume and then along the normal."""
    row = sorted(group, key=lambda header: header.instance)
    places, level = levels([header.frames[0] for header in row])
    if len(row) % len(places):
        return False
    rising = np.arange(len(places))
    stacks = level.reshape(-1, len(places))
    shells = np.array(_shells(row)).reshape(stacks.shape)
    one_way = bool((stacks == rising).all() or (stacks == rising[::-1]).all())
    return one_way and bool((shells == shells[:, :1]).all())


def _sorted(group: list[Header]) -> list[Header]:
    """Sort the files of one content by volume and then along the normal."""
    _, level = levels([header.frames[0] for header in group])
    stacks = defaultdict(list)
    for header, place, shell in zip(group, level, _shells(group), strict=True):
        stacks[shell, place].append(header)
    # At each position, the file with the lowest number belongs to the first volume. Directions of
    # the same b-value may be mixed, which does not change their average.
    row = [
        (shell, index, place, header)
        for (shell, place), headers in stacks.items()
        for index, header in enumerate(sorted(headers, key=_number))
    ]
    return [header for *_, header in sorted(row, key=lambda entry: entry[:3])]


def _check_sortable(series: Series, group: list[Header]) -> None:
    """Raise ContentError if files cannot be assigned to volumes, except within one b-value."""
    _, level = levels([header.frames[0] for header in group])
    shells = np.array(_shells(group))
    numbers = np.array([_number(header) for header in group])
    for shell in np.unique(shells):
        members = np.flatnonzero(shells == shell)
        counts = np.bincount(level[members], minlength=level.max() + 1)
        _check_once(series, [group[i] for i in members], level[members])
        clear = counts.max() == 1 or shell >= 0
        if counts.min() == counts.max() and not clear:
            # Without b-values, numbers must sort the files by volume or by position.
            row = level[members[np.lexsort(numbers[members].T[::-1])]]
            distinct = len(np.unique(numbers[members], axis=0)) == len(members)
            clear = distinct and _is_regular(row, len(counts))
        if counts.min() != counts.max() or not clear:
            raise ContentError(
                f"series {series.number}: its {len(group)} files cannot be sorted into volumes by "
                "number or b-value; export the series again from the scanner"
            )


def _is_regular(row: np.ndarray, places: int) -> bool:
    """Return whether positions repeat identically per volume, or are grouped by position."""
    by_volume, by_place = row.reshape(-1, places), row.reshape(places, -1)
    return bool((by_volume == by_volume[0]).all() or (by_place == by_place[:, :1]).all())


def _check_once(series: Series, headers: list[Header], level: np.ndarray) -> None:
    """Raise ContentError if all slices are duplicated under different UIDs."""
    alike = defaultdict(list)
    for header, place in zip(headers, level, strict=True):
        alike[place, _number(header)].append(header.frames[0].path)
    # Blank end slices of a masked stack are identical in all directions: require all duplicated.
    if all(len(paths) > 1 and _has_copies(paths) for paths in alike.values()):
        raise ContentError(
            f"series {series.number}: every slice is duplicated under a different UID; "
            "remove the copies or export the series again"
        )


def _has_copies(paths: list[Path]) -> bool:
    return len({_pixels(path) for path in paths}) < len(paths)


def _shells(headers: Sequence[Header]) -> list[int]:
    """Number b-values in ascending order, merging rounding differences; -1 if unknown."""
    bvalues = [header.frames[0].bvalue for header in headers]
    rising = np.unique([b for b in bvalues if b is not None])
    shell = np.cumsum(np.diff(rising, prepend=rising[:1]) > 1 + 0.01 * rising)
    return [-1 if b is None else int(shell[np.searchsorted(rising, b)]) for b in bvalues]


def _number(header: Header) -> tuple[int, int]:
    # AcquisitionNumber counts volumes if it is used, even if an archive changed InstanceNumber.
    return header.acquisition, header.instance


def _pixels(path: Path) -> bytes:
    with warnings.catch_warnings():
        # Warnings of pydicom quote values, which may include patient names.
        warnings.simplefilter("ignore")
        return bytes(pydicom.dcmread(path).get("PixelData", b""))


def _copy(
    series: Series,
    path: Path,
    name: Path,
    number: int | None,
    position: tuple[float, ...] | None,
    distance: float | None,
) -> None:
    """Copy one file with corrected number, position or distance between slices."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = pydicom.dcmread(path, force=True)
            image.preamble = image.preamble or b"\0" * 128
            if "TransferSyntaxUID" not in image.file_meta:
                implicit, _ = image.original_encoding
                syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
                image.file_meta.TransferSyntaxUID = syntax
            if distance is not None:
                image.SpacingBetweenSlices = DS(distance, auto_format=True)
            if number is not None:
                image.InstanceNumber = number
            if position is not None:
                # DICOM allows at most 16 characters.
                image.ImagePositionPatient = [DS(x, auto_format=True) for x in position]
            image.save_as(name)
        except Exception as error:
            # A damaged file can raise any exception, and pydicom quotes values (patient names).
            raise InputFileError(
                f"series {series.number}: one of its files cannot be copied "
                f"({type(error).__name__}) and may be damaged; export the series again"
            ) from error
