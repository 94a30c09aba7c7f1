"""Check before conversion that the headers of a series define the position of every slice.

dcm2niix falls back on defaults if an element is missing or damaged: SliceThickness or 1 mm for the
distance between slices, an axial plane for the orientation. The image then looks correct but has
the wrong size or orientation. Every element that defines the position of a slice must therefore be
present and plausible.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

from infarct.core.errors import ContentError
from infarct.core.findings import Finding, FindingCode
from infarct.dicom.headers import Frame
from infarct.dicom.series import Series, levels

_SMALLEST_PIXEL_MM, _LARGEST_PIXEL_MM = 0.1, 20.0
_SAME_DIRECTION = 2e-3
"""Tolerance for rounded direction cosines; corresponds to 0.2 mm at a distance of 100 mm."""

_OFF_AXIS_MM = 0.5
_ELEMENTS: tuple[tuple[str, int, Callable[[Frame], tuple[float, ...] | None]], ...] = (
    ("ImagePositionPatient", 3, lambda frame: frame.position),
    ("ImageOrientationPatient", 6, lambda frame: frame.orientation),
    ("PixelSpacing", 2, lambda frame: frame.spacing),
)


def check_geometry(series: Series) -> None:
    """Check that the headers of a series define the position of every slice.

    Args:
        series: Signal and ADC files only.

    Raises:
        ContentError: If files are damaged or differ in study, frame of reference, size or
            orientation; if position, orientation or pixel spacing is missing or malformed; or if
            slices are not stacked along their normal.
    """
    _check_faults(series)
    for name, uids in (
        ("StudyInstanceUID", {header.study_uid for header in series.headers}),
        ("FrameOfReferenceUID", {header.frame_of_reference for header in series.headers}),
    ):
        if len(uids) > 1:
            raise ContentError(
                f"series {series.number}: its files have {len(uids)} different values of {name}, "
                "one is expected; export the series again from the scanner"
            )
    shapes = {header.shape for header in series.headers}
    if len(shapes) > 1:
        listed = " and ".join(f"{rows} x {columns}" for rows, columns in sorted(shapes))
        raise ContentError(
            f"series {series.number}: contains images of {listed} pixels; all images of a series "
            "must have the same size: export the original series again"
        )
    if len({header.mosaic for header in series.headers}) > 1:
        raise ContentError(
            f"series {series.number}: contains both mosaics and single slices; export it again"
        )
    frames = [frame for header in series.headers for frame in header.frames]
    for name, length, values in _ELEMENTS:
        if not (series.mosaic and name == "ImagePositionPatient"):
            _check_values(series, name, length, list(map(values, frames)))
    _check_axes(series, frames)
    if series.mosaic:
        _check_tiles(series)
    else:
        _check_stack(series, frames)


def slice_distance(series: Series) -> float | None:
    """Return the distance between slices by their positions, mm; None for a single slice."""
    tiles = series.headers[0].tiles
    if series.mosaic:
        return math.dist(tiles[0], tiles[-1]) / (len(tiles) - 1)
    at, _ = levels(series.frames)
    return float(np.median(np.diff(at))) if len(at) > 1 else None


def check_distance(series: Series) -> tuple[Finding, ...]:
    """Warn if the slice positions and SpacingBetweenSlices disagree.

    Either slices are missing (e.g. every other one) or the header is wrong. The positions are used.
    """
    found, stated = slice_distance(series), series.headers[0].slice_distance
    thickness = series.headers[0].thickness or 0.0
    # Some scanners store the gap instead of the distance; it is smaller than the thickness.
    if not found or not stated or stated < 0.95 * thickness or abs(found / stated - 1) < 0.05:
        return ()
    text = (
        f"DICOM: series {series.number}: slices are {found:.2f} mm apart according to their "
        f"positions, {stated:.2f} mm according to SpacingBetweenSlices; the positions were used: "
        "check that no slices are missing"
    )
    return (Finding(FindingCode.DICOM_SPACING, "warning", text),)


def _check_faults(series: Series) -> None:
    faults = Counter(header.fault for header in series.headers if header.fault)
    if faults:
        listed = "; ".join(f"{count}: {fault}" for fault, count in sorted(faults.items()))
        raise ContentError(
            f"series {series.number}: {sum(faults.values())} of its {len(series.headers)} files "
            f"cannot be used ({listed}); export it again"
        )


def _check_values(
    series: Series, name: str, length: int, values: Iterable[tuple[float, ...] | None]
) -> None:
    given = list(values)
    wrong = [each for each in given if len(each or ()) != length]
    if wrong:
        found = sorted({"none" if each is None else str(len(each)) for each in wrong})
        raise ContentError(
            f"series {series.number}: {name} has {' or '.join(found)} instead of {length} numbers "
            f"in {len(wrong)} of {len(given)} images, so their position is unknown; export the "
            "series again from the scanner"
        )


def _check_axes(series: Series, frames: list[Frame]) -> None:
    planes = np.array([frame.orientation for frame in frames]).reshape(-1, 2, 3)
    lengths = np.linalg.norm(planes, axis=2)
    skew = np.abs((planes[:, 0] * planes[:, 1]).sum(axis=1))
    if np.abs(lengths - 1).max() > 0.01 or skew.max() > 0.01:
        raise ContentError(
            f"series {series.number}: ImageOrientationPatient is not a pair of perpendicular unit "
            "vectors; export the series again from the scanner"
        )
    if np.abs(planes - planes[0]).max() > _SAME_DIRECTION:
        raise ContentError(
            f"series {series.number}: its images have different orientations; split the series "
            "or export it again"
        )
    pixels = np.array([frame.spacing for frame in frames])
    impossible = pixels.min() < _SMALLEST_PIXEL_MM or pixels.max() > _LARGEST_PIXEL_MM
    if impossible or np.ptp(pixels, axis=0).max() > 1e-3 * pixels.min():
        raise ContentError(
            f"series {series.number}: PixelSpacing is {pixels.min():g} to {pixels.max():g} mm; one "
            f"value from {_SMALLEST_PIXEL_MM:g} to {_LARGEST_PIXEL_MM:g} mm is expected for all "
            "images"
        )


def _check_tiles(series: Series) -> None:
    every = [np.array(header.tiles) for header in series.headers]
    if any(len(tiles) < 2 for tiles in every):
        raise ContentError(
            f"series {series.number}: the slice positions in its mosaics are unknown (private "
            "elements or SpacingBetweenSlices are missing from the headers); export it again with "
            "private elements or as single slices"
        )
    first = every[0]
    for tiles in every:
        if tiles.shape != first.shape or np.abs(tiles - first).max() > _OFF_AXIS_MM:
            raise ContentError(
                f"series {series.number}: its mosaics have different positions; export it again"
            )
    steps = np.diff(first, axis=0)
    if np.abs(steps - steps.mean(axis=0)).max() > 0.1:
        raise ContentError(
            f"series {series.number}: the slices in its mosaics are not evenly spaced; export it "
            "again"
        )


def _check_stack(series: Series, frames: list[Frame]) -> None:
    plane = np.array(frames[0].orientation)
    across = np.array([frame.position for frame in frames]) @ plane.reshape(2, 3).T
    apart = float(np.ptp(across, axis=0).max())
    if apart > _OFF_AXIS_MM:
        raise ContentError(
            f"series {series.number}: its slices are shifted by up to {apart:.1f} mm in the slice "
            "plane (tilted gantry or moved table); slices must be stacked along their normal"
        )
