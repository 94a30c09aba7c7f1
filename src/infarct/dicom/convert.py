"""From DICOM series to NIfTI, by dcm2niix, in a folder of our own; the input is only read."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import dcm2niix
import numpy as np

from infarct.dicom.headers import Content
from infarct.dicom.order import check_places, lend, volume_bvalues, volumes_told
from infarct.dicom.series import Series, check_complete
from infarct.errors import ContentError, InfarctError, InputFileError
from infarct.grid import Grid
from infarct.intensity import B0_BELOW, find_shell
from infarct.volume import Volume, closest_axes, read

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


@dataclass(frozen=True)
class Image:
    """One image that dcm2niix made of a series.

    Attributes:
        series: Where it comes from.
        path: NIfTI file.
        content: Signal or ADC.
        bvalues: s/mm^2 of each volume; empty for an ADC map.
        grid: Of one volume.
    """

    series: Series
    path: Path
    content: Content
    bvalues: tuple[float, ...]
    grid: Grid

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
        ContentError: If slices are missing or sent twice, cannot be sorted into volumes, or lie
            elsewhere in the image than the headers say; or if its b-values cannot be known.
        InputFileError: If dcm2niix cannot make an image of it.
    """
    check_complete(series)
    files, made = into / "files", into / "made"
    files.mkdir(parents=True)
    made.mkdir()
    lend(series, files)
    options = [*_OPTIONS, *(_MAP_OPTIONS if series.content == "adc" else ())]
    done = subprocess.run(
        [dcm2niix.bin, *options, "-o", str(made), str(files)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    paths = sorted(made.glob("*.nii"))
    # It ends with code 0 even when it says that it could not sort the slices.
    failed = "Error:" in done.stdout + done.stderr
    if done.returncode or failed or not paths:
        said = "; it reports an error" if failed else ""
        raise InputFileError(
            f"series {series.number}: dcm2niix {dcm2niix.__version__} made no sound image of its "
            f"{len(series.files)} files (exit code {done.returncode}{said}); "
            "some may be missing or damaged: export it again"
        )
    paths = [path for path in paths if not path.stem.endswith(_NO_MAGNITUDE)]
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
        raise ContentError(
            f"series {series.number}: its b-values cannot be known; "
            "convert it yourself and give --dwi, --b0 and --bvalue"
        )
    return images


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
    bvalues = _bvalues(series, path.with_suffix(".bval"), volume)
    return None if bvalues is None else Image(series, path, "signal", bvalues, volume.grid)


def _bvalues(series: Series, bval: Path, volume: Volume) -> tuple[float, ...] | None:
    """Take the b-values from dcm2niix, else from the headers; None where they cannot be known."""
    values = tuple(float(word) for word in bval.read_text().split()) if bval.is_file() else ()
    volumes = _count(volume)
    if any(values):
        return values if len(values) == volumes else None
    # Where it found no b-value dcm2niix writes 0 or nothing, for some b0 and some lone trace images
    # alike. A DWI taken for a b0 would turn the ADC upside down: the headers must know.
    known = series.bvalues
    if len(known) == 1:
        return (float(known[0]),) * volumes
    # As of Siemens, whose names of sequences outlive the private elements that dcm2niix reads.
    return volume_bvalues(series, volume)
