"""From files to the numbers of one subject: which file is whose, and what each mask scores.

Two layouts are known, told apart by whether images lie directly in the directory:

- **Files.** `DIR/<subject>.nii.gz`, or with one ending that says what it is, such as
  `DIR/<subject>_lesion.nii.gz` or `DIR/<subject>_dwi.nii.gz`. Files with the ending of another kind
  of image are left out, so masks and images may share a directory.
- **Folders.** `DIR/<subject>/lesion_mask.nii.gz`, as `infarct segment` writes them, at any depth;
  the subject is then the path of its folder below DIR. Files of a result with other names, such as
  the outlines that `infarct recompute` keeps, are left out.

In either layout, two images of one kind of one subject are an error: which is meant cannot be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infarct.brain import find_brain
from infarct.errors import ContentError, GeometryError, InputFileError
from infarct.evaluation.metrics import Images, Scores, score
from infarct.grid import Grid
from infarct.intensity import Image, Mask, TissuePeak, fit_tissue_peak
from infarct.resample import resample
from infarct.volume import Volume, read

_NAMES = {
    "lesion": ("lesion_mask", "lesion", "lesion_manual", "mask", "msk", "seg", "dseg"),
    "brain": ("brain_mask", "brain"),
    "dwi": ("dwi",),
    "adc": ("adc",),
}
"""What an image may be called in a folder, or end in; the usual name first."""

_HISTOGRAM_BINS = 200


def find_images(directory: Path, kind: str) -> dict[str, Path]:
    """Find the image of each subject, by the layouts of this room.

    Args:
        directory: Where to look.
        kind: "lesion", "brain", "dwi" or "adc".

    Returns:
        Path by subject, in alphabetical order of subjects.

    Raises:
        InputFileError: If there is no such image, or one subject has two.
    """
    if not directory.is_dir():
        raise InputFileError(f"{directory}: no such directory; give one that holds {kind} images")
    flat = [path for path in sorted(directory.iterdir()) if _is_image(path)]
    found = _in_files(flat, kind) if flat else _in_folders(directory, kind)
    if not found:
        raise InputFileError(
            f"{directory}: holds no {kind} images; expected <subject>.nii.gz or "
            f"<subject>/{_NAMES[kind][0]}.nii.gz"
        )
    return dict(sorted(found.items()))


def _is_image(path: Path) -> bool:
    return path.is_file() and path.name.endswith((".nii", ".nii.gz"))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _in_files(paths: list[Path], kind: str) -> dict[str, Path]:
    others = tuple(f"_{name}" for role in _NAMES if role != kind for name in _NAMES[role])
    # Longest first: "_brain_mask" also ends in "_mask", and "_lesion_mask" does.
    own = sorted((f"_{name}" for name in _NAMES[kind]), key=len, reverse=True)
    found: dict[str, Path] = {}
    for path in paths:
        stem = _stem(path)
        ending = next((suffix for suffix in own if stem.endswith(suffix)), "")
        if any(stem.endswith(other) and len(other) > len(ending) for other in others):
            continue
        subject = stem.removesuffix(ending)
        _keep(found, subject, path, kind)
    return found


def _in_folders(directory: Path, kind: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    # Unlike `Path.rglob`, this follows links: a cohort is often put together from them.
    for name in sorted(glob("**/*.nii*", root_dir=directory, recursive=True)):  # noqa: PTH207
        path = directory / name
        # mni/ holds the same case again, in template space.
        if not _is_image(path) or _stem(path) not in _NAMES[kind] or path.parent.name == "mni":
            continue
        _keep(found, path.parent.relative_to(directory).as_posix(), path, kind)
    return found


def _keep(found: dict[str, Path], subject: str, path: Path, kind: str) -> None:
    # A manual mask beside an automatic one: by no rule of names is it sure which is meant.
    if subject in found:
        raise InputFileError(
            f"{found[subject]} and {path.name} are both the {kind} of {subject}; keep one"
        )
    found[subject] = path


@dataclass(frozen=True)
class Case:
    """The files of one subject.

    Attributes:
        subject: Its name.
        reference: Its reference mask.
        predictions: Mask by tool; None where the tool left none.
        dwi: Its DWI, or None.
        adc: Its ADC, or None.
        brain: Its brain mask, or None: then it is outlined by thresholds on the DWI.
    """

    subject: str
    reference: Path
    predictions: Mapping[str, Path | None]
    dwi: Path | None = None
    adc: Path | None = None
    brain: Path | None = None


@dataclass(frozen=True, eq=False)
class Histogram:
    """The DWI signal inside the brain.

    Attributes:
        counts: (200,) voxels per bin.
        edges: (201,) signal, as measured.
        peak: The tissue peak that normalisation brings to mean 0 and SD 1.
    """

    counts: NDArray[np.int_]
    edges: NDArray[np.float64]
    peak: TissuePeak


@dataclass(frozen=True, eq=False)
class Measured:
    """The numbers of one subject.

    Attributes:
        subject: Its name.
        spacing: (3,) voxel size of the reference, mm, as stored.
        scores: By tool.
        histogram: Of the DWI, if there is one.
    """

    subject: str
    spacing: tuple[float, float, float]
    scores: Mapping[str, Scores]
    histogram: Histogram | None


def measure(case: Case) -> Measured:
    """Read the files of a subject and measure every prediction.

    Masks must lie on the grid of the reference. DWI, ADC and brain may lie on another; they are
    brought onto it, since contrast is a mean over many voxels.

    Raises:
        GeometryError: If a prediction lies on another grid, or an image is a series.
        ContentError: If a mask is not a mask.
    """
    reference, grid = read_mask(case.reference)
    images = read_images(case, grid)
    scores = {}
    for tool, path in case.predictions.items():
        prediction = None if path is None else _read_on(path, grid, case.reference)
        scores[tool] = score(reference, prediction, grid.affine, images)
    x, y, z = (float(step) for step in grid.spacing)
    histogram = None if images is None else _histogram(images)
    return Measured(case.subject, (x, y, z), scores, histogram)


def read_mask(path: Path) -> tuple[Mask, Grid]:
    """Read a mask and the grid it lies on.

    Raises:
        GeometryError: If it is a series.
        ContentError: If it holds fractions or negative numbers, as a probability map does.
    """
    volume = read(path)
    if volume.data.ndim != 3:
        raise GeometryError(f"{path}: has shape {volume.data.shape}; a mask has three axes")
    mask: Mask = volume.data != 0
    values = volume.data[mask]
    if not (np.isfinite(values).all() and (values > 0).all() and (values % 1 == 0).all()):
        raise ContentError(
            f"{path}: holds values such as {values.min():g} to {values.max():g}; a mask of zeros "
            "and whole numbers is needed: apply the tool's threshold first"
        )
    return mask, volume.grid


def _read_on(path: Path, grid: Grid, reference: Path) -> Mask:
    mask, own = read_mask(path)
    if not grid.matches(own):
        raise GeometryError(
            f"{path}: lies on another grid (shape {own.shape}, spacing {_mm(own)} mm) than its "
            f"reference {reference} ({grid.shape}, {_mm(grid)} mm), or is turned or shifted; "
            "masks are compared voxel by voxel: bring it onto the grid of the reference"
        )
    return mask


def _mm(grid: Grid) -> str:
    return " x ".join(f"{step:.4g}" for step in grid.spacing)


def read_images(case: Case, grid: Grid) -> Images | None:
    """Read what contrast is measured on, on the grid of the masks; None without any brain."""
    dwi = None if case.dwi is None else read_image(case.dwi, grid)
    adc = None if case.adc is None else read_image(case.adc, grid)
    if case.brain is not None:
        volume = _read_single(case.brain)
        on_grid = grid.matches(volume.grid)
        brain = (volume.data if on_grid else resample(volume, grid, labels=True)) > 0
    elif dwi is not None:
        brain, _ = find_brain(dwi, dwi, grid.spacing)
    else:
        return None
    return Images(brain, dwi, adc)


def read_image(path: Path, grid: Grid) -> Image:
    """Read an image onto the grid of the masks; what is not finite, as some backgrounds are, is 0.

    Raises:
        GeometryError: If it is a series.
    """
    volume = _read_single(path)
    image = volume.data if grid.matches(volume.grid) else resample(volume, grid)
    return np.nan_to_num(np.asarray(image, dtype=np.float32))


def _read_single(path: Path) -> Volume:
    volume = read(path)
    if volume.data.ndim != 3:
        raise GeometryError(
            f"{path}: has shape {volume.data.shape}, a series; give a single image, with three axes"
        )
    return volume


def _histogram(images: Images) -> Histogram | None:
    if images.dwi is None or not images.brain.any():
        return None
    inside = images.dwi[images.brain]
    top = float(np.percentile(inside, 99.9))
    if not top > max(float(inside.min()), 0.0):
        return None
    counts, edges = np.histogram(inside, _HISTOGRAM_BINS, range=(float(inside.min()), top))
    return Histogram(counts, edges, fit_tissue_peak(images.dwi, images.brain))
