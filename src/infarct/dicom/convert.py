"""Convert DICOM series to NIfTI with dcm2niix in a temporary folder; inputs are never modified."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import dcm2niix
import numpy as np

from infarct.core.bvalues import read_bvalues
from infarct.core.diffusion import B0_BELOW, find_shell
from infarct.core.errors import ContentError, InfarctError, InputFileError
from infarct.core.findings import Finding, FindingCode
from infarct.core.geometry import Grid
from infarct.core.nifti import Volume, closest_axes, read
from infarct.dicom.geometry import check_distance, check_geometry
from infarct.dicom.headers import Content
from infarct.dicom.series import Series, check_complete
from infarct.dicom.slice_order import check_places, lend, volume_bvalues, volumes_told

_OPTIONS = (
    *("-b", "n", "-z", "n", "-f", "image"),
    *("-g", "i"),  # ignore the user's saved dcm2niix defaults
    *("-x", "i"),  # neither crop nor rotate: voxels must map back to DICOM frames
)
# Use the display scaling (RescaleSlope), which defines the unit of a map. By default dcm2niix also
# removes Philips' private scaling: correct for comparing signals, wrong for a map in mm^2/s.
_MAP_OPTIONS = ("-p", "n")
_NO_MAGNITUDE = ("_ph", "_real", "_imaginary")
"""Suffixes that dcm2niix adds to phase, real and imaginary images."""

_LONGEST_S = 900
"""Time limit for dcm2niix in seconds; it may hang on a damaged series."""

_B0_BRIGHTER = 1.3
"""Minimum ratio of b0 to DWI signal in tissue; expected 1.5 at b = 500 and 2.2 at b = 1000."""


@dataclass(frozen=True)
class Image:
    """One image converted from a series by dcm2niix.

    Attributes:
        series: Source series.
        path: NIfTI file.
        content: Signal or ADC.
        bvalues: b-value of each volume, s/mm^2; empty for an ADC map.
        grid: Grid of one volume.
        findings: Findings to report if the image is used.
        b0_below: s/mm^2; volumes with a lower b-value count as b0.
    """

    series: Series
    path: Path
    content: Content
    bvalues: tuple[float, ...]
    grid: Grid
    findings: tuple[Finding, ...] = ()
    b0_below: float = B0_BELOW

    @property
    def has_b0(self) -> bool:
        """Whether the image contains a volume without diffusion weighting."""
        return any(b < self.b0_below for b in self.bvalues)

    @property
    def shell(self) -> tuple[int, ...]:
        """Indices of the volumes with b-value nearest 1000 s/mm^2; empty if none is weighted."""
        return find_shell(self.bvalues, b0_below=self.b0_below)

    @property
    def bvalue(self) -> float:
        """Mean b-value of the shell, s/mm^2; 0 without weighted volumes."""
        values = [self.bvalues[i] for i in self.shell]
        return float(np.mean(values)) if values else 0.0

    @property
    def is_axial(self) -> bool:
        """Whether slices are stacked from feet to head."""
        return bool(closest_axes(self.grid.affine)[2, 2] != 0)

    @property
    def height_mm(self) -> float:
        """Extent of the slice stack, mm."""
        return float(self.grid.spacing[2] * self.grid.shape[2])


def convert(series: Series, into: Path, b0_below: float = B0_BELOW) -> list[Image]:
    """Convert one series.

    Args:
        series: Diffusion or ADC series.
        into: Empty temporary folder; file names in it are neutral.
        b0_below: s/mm^2; volumes with a lower b-value count as b0.

    Returns:
        The images; more than one if signal and ADC are stored in the same series.

    Raises:
        ContentError: If slice positions are undefined, slices are missing, duplicated or cannot be
            sorted into volumes, slice positions in the image differ from the headers, or b-values
            are unknown.
        InputFileError: If dcm2niix cannot convert the series.
    """
    series = series.useful
    check_geometry(series)
    check_complete(series)
    files, made = into / "files", into / "made"
    files.mkdir(parents=True)
    made.mkdir()
    lend(series, files)
    _run(series, files, made)
    paths = [path for path in sorted(made.glob("*.nii")) if not path.stem.endswith(_NO_MAGNITUDE)]
    volumes = {path: _read(series, path) for path in paths}
    for volume in volumes.values():
        check_places(series, volume.grid)
    _check_count(series, list(volumes.values()))
    images = [image for path, v in volumes.items() if (image := _image(series, path, v))]
    if not images and series.content == "adc":
        raise ContentError(
            f"series {series.number}: the ADC map has several volumes; one is expected"
        )
    if not images:
        without = sum(frame.bvalue is None for frame in series.frames)
        raise ContentError(
            f"series {series.number}: b-values are unknown ({without} of its {len(series.frames)} "
            "images have none, and b0 cannot be identified by its signal); "
            "convert the series yourself and use --dwi, --b0 and --bvalue"
        )
    found = check_distance(series)
    return [replace(image, findings=found + image.findings, b0_below=b0_below) for image in images]


def _run(series: Series, files: Path, made: Path) -> None:
    """Convert all files in one folder with dcm2niix."""
    options = [*_OPTIONS, *(_MAP_OPTIONS if series.content == "adc" else ())]
    try:
        done = subprocess.run(
            [dcm2niix.bin, *options, "-o", str(made), str(files)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_LONGEST_S,
        )
    except subprocess.TimeoutExpired as error:
        raise InputFileError(
            f"series {series.number}: dcm2niix {dcm2niix.__version__} did not finish within "
            f"{_LONGEST_S} s; the series may be damaged: export it again"
        ) from error
    # dcm2niix exits with code 0 even if it could not sort the slices.
    failed = "Error:" in done.stdout + done.stderr
    if done.returncode or failed or not any(made.glob("*.nii")):
        note = "; it reports an error" if failed else ""
        raise InputFileError(
            f"series {series.number}: dcm2niix {dcm2niix.__version__} could not convert its "
            f"{len(series.files)} files (exit code {done.returncode}{note}); "
            "files may be missing or damaged: export the series again"
        )


def _read(series: Series, path: Path) -> Volume:
    try:
        return read(path)
    except InfarctError as error:
        # Name the series: the user does not know the temporary file.
        reason = str(error).removeprefix(f"{path}: ")
        raise ContentError(f"series {series.number}: {reason}") from error


def _check_count(series: Series, made: list[Volume]) -> None:
    """Raise ContentError if the number of volumes differs from the headers."""
    expected, count = volumes_told(series), sum(map(_count, made))
    if expected is not None and count != expected:
        raise ContentError(
            f"series {series.number}: {expected} volumes according to the headers, but dcm2niix "
            f"made {count}; convert the series yourself and use --dwi, --b0 and --bvalue"
        )


def _count(volume: Volume) -> int:
    return volume.data.shape[3] if volume.data.ndim == 4 else 1


def _image(series: Series, path: Path, volume: Volume) -> Image | None:
    """Identify one output of dcm2niix; None if it is of no use."""
    volumes = _count(volume)
    if series.content == "adc" or path.stem.endswith("_ADC"):
        return Image(series, path, "adc", (), volume.grid) if volumes == 1 else None
    values = _bvalues(series, path.with_suffix(".bval"), volume)
    if values is None:
        return None
    bvalues, ratio = _with_b0(values, volume)
    if bvalues is None:
        return None
    image = Image(series, path, "signal", bvalues, volume.grid)
    if ratio is None:
        return image
    text = (
        f"DICOM: series {series.number}: {sum(b is None for b in values)} of its {len(values)} "
        f"volumes have no b-value; they were used as b0 because they are {ratio:.1f} times as "
        "bright as the diffusion-weighted volumes: check that this is correct"
    )
    return replace(image, findings=(Finding(FindingCode.DICOM_B0_BY_SIGNAL, "warning", text),))


def _bvalues(series: Series, bval: Path, volume: Volume) -> tuple[float | None, ...] | None:
    """Return the b-values on which dcm2niix and the headers agree.

    Returns:
        b-value of each volume, s/mm^2, None where unknown; None for all if dcm2niix and the headers
        contradict each other.
    """
    found = tuple(read_bvalues(bval).tolist()) if bval.is_file() else ()
    count, frames = _count(volume), series.frames_of("signal")
    stated = [frame.bvalue for frame in frames if frame.bvalue is not None]
    # Frames per volume; each mosaic file is a complete volume.
    per_volume = 1 if series.mosaic else volume.grid.shape[2]
    if len(stated) == len(frames) and len({round(b) for b in stated}) == 1:
        uniform = (stated[0],) * count
        return uniform if not any(found) or _agree(stated, found, per_volume) else None
    if any(found):
        if len(found) != count:
            return None
        weighted = sum(b >= B0_BELOW for b in stated)
        if not weighted or weighted == per_volume * sum(b >= B0_BELOW for b in found):
            # dcm2niix writes 0 if it finds no b-value, so a DWI could be mistaken for b0. Accept 0
            # only if enough headers state it.
            unweighted = (len(stated) - weighted) // per_volume
            sure = sum(b < B0_BELOW for b in found) <= unweighted
            values = tuple(b if sure or b >= B0_BELOW else None for b in found)
            if _agree(stated, found, per_volume) or len(stated) < len(frames):
                return values
    # E.g. Siemens: the sequence name remains after private elements were removed.
    return volume_bvalues(series, volume)


def _agree(stated: list[float], found: tuple[float, ...], per_volume: int) -> bool:
    """Return whether the headers state the same b-values up to rounding, in any order."""
    if len(stated) != per_volume * len(found):
        return False
    expected = np.sort(stated).reshape(-1, per_volume).mean(axis=1)
    return bool(np.allclose(np.sort(found), expected, rtol=0.1, atol=25.0))


def _with_b0(
    values: tuple[float | None, ...], volume: Volume
) -> tuple[tuple[float, ...] | None, float | None]:
    """Identify volumes without a b-value as b0 by their signal.

    Returns:
        The b-values, None if unknown; and the signal ratio of these volumes to the weighted
        volumes, None if all b-values were known.
    """
    known = tuple(value for value in values if value is not None)
    if len(known) == len(values):
        return known, None
    weighted = [i for i, value in enumerate(values) if value is not None and value >= B0_BELOW]
    if not weighted:
        return None, None
    data = volume.data.reshape(*volume.grid.shape, -1)
    mean = data.mean(axis=-1)
    seen = mean > 0.3 * np.percentile(mean, 99)
    level = np.median(data[seen], axis=0)
    unknown = [i for i, value in enumerate(values) if value is None]
    ratio = float(level[unknown].min() / max(float(level[weighted].max()), 1e-6))
    if not ratio >= _B0_BRIGHTER:
        return None, None
    return tuple(0.0 if value is None else value for value in values), ratio
