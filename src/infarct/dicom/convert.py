"""From DICOM series to NIfTI, by dcm2niix, in a folder of our own; the input is only read."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import dcm2niix
import numpy as np

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
    *("-g", "i"),  # the user's own defaults of dcm2niix stay out of it
    *("-x", "i"),  # neither crop nor rotate: voxels must find their way back to the frames
)
# The scaling of the display, which all makers' maps bear their unit by. By default dcm2niix undoes
# Philips' private factor as well: right for signals of several series, wrong for a map in mm^2/s.
_MAP_OPTIONS = ("-p", "n")
_NO_MAGNITUDE = ("_ph", "_real", "_imaginary")
"""Endings by which dcm2niix tells apart what a scanner keeps in one series."""

_LONGEST_S = 900
"""Seconds that dcm2niix may take; a damaged series might keep it for ever."""

_B0_BRIGHTER = 1.3
"""Tissue without weighting is at least this many times as bright: 1.5 at b = 500, 2.2 at 1000."""


@dataclass(frozen=True)
class Image:
    """One image that dcm2niix made of a series.

    Attributes:
        series: Where it comes from.
        path: NIfTI file.
        content: Signal or ADC.
        bvalues: s/mm^2 of each volume; empty for an ADC map.
        grid: Of one volume.
        findings: What the reader should know of it if it is used.
    """

    series: Series
    path: Path
    content: Content
    bvalues: tuple[float, ...]
    grid: Grid
    findings: tuple[Finding, ...] = ()

    @property
    def has_b0(self) -> bool:
        """Whether a volume without diffusion weighting is in it."""
        return any(b < B0_BELOW for b in self.bvalues)

    @property
    def shell(self) -> tuple[int, ...]:
        """The volumes of the b-value nearest 1000 s/mm^2; none if nothing is weighted."""
        return find_shell(self.bvalues)

    @property
    def bvalue(self) -> float:
        """Mean b-value of the shell, s/mm^2; 0 if nothing is weighted."""
        values = [self.bvalues[i] for i in self.shell]
        return float(np.mean(values)) if values else 0.0

    @property
    def is_axial(self) -> bool:
        """Whether its slices are stacked from feet to head."""
        return bool(closest_axes(self.grid.affine)[2, 2] != 0)

    @property
    def height_mm(self) -> float:
        """How much of the head its slices cover, mm."""
        return float(self.grid.spacing[2] * self.grid.shape[2])


def convert(series: Series, into: Path) -> list[Image]:
    """Convert one series.

    Args:
        series: Of diffusion or ADC.
        into: An empty folder of our own; no name from the input reaches it.

    Returns:
        Its images; more than one where a scanner keeps signal and ADC in one series.

    Raises:
        ContentError: If its headers do not place every slice, slices are missing or sent twice,
            cannot be sorted into volumes, or lie elsewhere in the image than the headers say; or if
            its b-values cannot be known.
        InputFileError: If dcm2niix cannot make an image of it.
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
            f"series {series.number}: an ADC map of several volumes; one is expected"
        )
    if not images:
        without = sum(frame.bvalue is None for frame in series.frames)
        raise ContentError(
            f"series {series.number}: its b-values cannot be known ({without} of its "
            f"{len(series.frames)} images give none, and signal does not tell which are b0); "
            "convert it yourself and give --dwi, --b0 and --bvalue"
        )
    return [replace(image, findings=check_distance(series) + image.findings) for image in images]


def _run(series: Series, files: Path, made: Path) -> None:
    """Let dcm2niix convert the files in one folder into another."""
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
    # It ends with code 0 even when it says that it could not sort the slices.
    failed = "Error:" in done.stdout + done.stderr
    if done.returncode or failed or not any(made.glob("*.nii")):
        said = "; it reports an error" if failed else ""
        raise InputFileError(
            f"series {series.number}: dcm2niix {dcm2niix.__version__} made no sound image of its "
            f"{len(series.files)} files (exit code {done.returncode}{said}); "
            "some may be missing or damaged: export it again"
        )


def _read(series: Series, path: Path) -> Volume:
    try:
        return read(path)
    except InfarctError as error:
        # The user knows the series, not our file.
        reason = str(error).removeprefix(f"{path}: ")
        raise ContentError(f"series {series.number}: {reason}") from error


def _check_count(series: Series, made: list[Volume]) -> None:
    """Refuse what has more or fewer volumes than the headers tell of."""
    told, count = volumes_told(series), sum(map(_count, made))
    if told is not None and count != told:
        raise ContentError(
            f"series {series.number}: its headers tell of {told} volumes, dcm2niix made {count}; "
            "convert it yourself and give --dwi, --b0 and --bvalue"
        )


def _count(volume: Volume) -> int:
    return volume.data.shape[3] if volume.data.ndim == 4 else 1


def _image(series: Series, path: Path, volume: Volume) -> Image | None:
    """Say what one output of dcm2niix is; None for what has no use here."""
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
        f"volumes give no b-value; they were taken as b0, since they are {ratio:.1f} times as "
        "bright as the diffusion-weighted volumes: check that this is right"
    )
    return replace(image, findings=(Finding(FindingCode.DICOM_B0_BY_SIGNAL, "warning", text),))


def _bvalues(series: Series, bval: Path, volume: Volume) -> tuple[float | None, ...] | None:
    """Take the b-values that dcm2niix and the headers agree on.

    Returns:
        s/mm^2 of each volume, None for those of which nothing is known; None for all if dcm2niix
        and the headers contradict each other.
    """
    found = tuple(float(word) for word in bval.read_text().split()) if bval.is_file() else ()
    count, frames = _count(volume), series.frames_of("signal")
    stated = [frame.bvalue for frame in frames if frame.bvalue is not None]
    # Frames of one volume; a file of a mosaic is a whole volume.
    per_volume = 1 if series.mosaic else volume.grid.shape[2]
    if len(stated) == len(frames) and len({round(b) for b in stated}) == 1:
        uniform = (stated[0],) * count
        return uniform if not any(found) or _agree(stated, found, per_volume) else None
    if any(found):
        if len(found) != count:
            return None
        weighted = sum(b >= B0_BELOW for b in stated)
        if not weighted or weighted == per_volume * sum(b >= B0_BELOW for b in found):
            # Where dcm2niix finds no b-value it writes 0, and a DWI would pass for a b0. So each 0
            # needs an image whose header says so.
            unweighted = (len(stated) - weighted) // per_volume
            sure = sum(b < B0_BELOW for b in found) <= unweighted
            values = tuple(b if sure or b >= B0_BELOW else None for b in found)
            if _agree(stated, found, per_volume) or len(stated) < len(frames):
                return values
    # As of Siemens, whose names of sequences outlive the private elements that dcm2niix reads.
    return volume_bvalues(series, volume)


def _agree(stated: list[float], found: tuple[float, ...], per_volume: int) -> bool:
    """Tell whether the headers give the same b-values, up to rounding, however they are sorted."""
    if len(stated) != per_volume * len(found):
        return False
    expected = np.sort(stated).reshape(-1, per_volume).mean(axis=1)
    return bool(np.allclose(np.sort(found), expected, rtol=0.1, atol=25.0))


def _with_b0(
    values: tuple[float | None, ...], volume: Volume
) -> tuple[tuple[float, ...] | None, float | None]:
    """Identify volumes without a b-value as b0 if their signal shows that they are.

    Returns:
        The b-values, None if they cannot be known; and how many times as bright as the weighted
        volumes the b0 are, None if nothing had to be identified.
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
