"""Reads the masks and images of one subject and scores each mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infarct.core.diffusion import Image, Mask
from infarct.core.errors import ContentError, GeometryError
from infarct.core.geometry import Grid, reorder
from infarct.core.nifti import Volume, read, read_labels
from infarct.core.normalisation import TissuePeak, fit_tissue_peak
from infarct.core.resampling import reached, resample
from infarct.evaluation.metrics import Images, Scores, dice, score
from infarct.preprocessing.skull_strip import find_brain

_HISTOGRAM_BINS = 200

_LABELS, _ROUGH = 20, 0.1
"""Maximum number of values, and maximum proportion of differing neighbours, in a mask. A file that
exceeds both is an image: lesion labels are constant within a lesion, however many there are."""

_WHOLE = 0.98
"""Minimum proportion of the brain inside an image that counts as full coverage."""


@dataclass(frozen=True)
class Case:
    """Files of one subject.

    Attributes:
        subject: Subject name.
        reference: Reference mask.
        predictions: Predicted mask by tool; None if the tool has none.
        dwi: DWI, or None.
        adc: ADC, or None.
        brain: Brain mask. If None, the brain is segmented by thresholds on the DWI.
        readings: Mask of each human reading; None if the rater did not read this subject.
    """

    subject: str
    reference: Path
    predictions: Mapping[str, Path | None]
    dwi: Path | None = None
    adc: Path | None = None
    brain: Path | None = None
    readings: tuple[Path | None, ...] = ()


@dataclass(frozen=True)
class ReadingPair:
    """Two human readings of one scan.

    Attributes:
        dice: Dice score of the two masks; 1 if both are empty.
        first_ml: Lesion volume in the first reading, ml.
        second_ml: Lesion volume in the second reading, ml.
    """

    dice: float
    first_ml: float
    second_ml: float


@dataclass(frozen=True, eq=False)
class Histogram:
    """Histogram of the DWI signal inside the brain.

    Attributes:
        counts: (200,) voxels per bin.
        edges: (201,) bin edges, signal as measured.
        peak: Tissue peak, which normalisation shifts to mean 0 and scales to SD 1.
    """

    counts: NDArray[np.int_]
    edges: NDArray[np.float64]
    peak: TissuePeak


@dataclass(frozen=True, eq=False)
class Measured:
    """Measurements of one subject.

    Attributes:
        subject: Subject name.
        spacing: (3,) voxel size of the reference, mm, in the order of the stored axes.
        scores: Scores by tool.
        histogram: Histogram of the DWI, or None without a DWI.
        covers: Whether DWI and ADC cover the whole brain. Contrast is measured where they do.
        labelled: Mask files with more than one label; all labels count as lesion.
        readings: Agreement by pair of human readings (indices from 0), if both are available.
    """

    subject: str
    spacing: tuple[float, float, float]
    scores: Mapping[str, Scores]
    histogram: Histogram | None
    covers: bool = True
    labelled: tuple[Path, ...] = ()
    readings: Mapping[tuple[int, int], ReadingPair] = field(default_factory=dict)


class MaskFile(NamedTuple):
    """Content of a mask file.

    Attributes:
        mask: (X, Y, Z) True where a label is not 0.
        grid: Voxel grid.
        labels: Number of labels; 0 for an empty mask.
    """

    mask: Mask
    grid: Grid
    labels: int


def measure(case: Case) -> Measured:
    """Read the files of a subject and score every prediction.

    Masks must be on the grid of the reference. DWI, ADC and brain mask may be on another grid; they
    are resampled, which is acceptable because contrast is a mean over many voxels.

    Args:
        case: Files of the subject.

    Raises:
        GeometryError: If a prediction is on another grid, or an image is a series.
        ContentError: If a file does not contain a mask.
    """
    reference, grid, labels = read_mask(case.reference)
    images, covers = read_images(case, grid)
    labelled = [case.reference] if labels > 1 else []
    scores = {}
    for tool, path in case.predictions.items():
        prediction = None
        if path is not None:
            prediction, labels = _read_on(path, grid, case.reference)
            labelled += [path] if labels > 1 else []
        scores[tool] = score(reference, prediction, grid.affine, images)
    read: dict[int, Mask] = {}
    for number, path in enumerate(case.readings):
        if path is not None:
            read[number], labels = _read_on(path, grid, case.reference)
            labelled += [path] if labels > 1 else []
    ml = {number: float(mask.sum()) * grid.voxel_ml for number, mask in read.items()}
    readings = {
        (i, j): ReadingPair(dice(read[i], read[j]), ml[i], ml[j]) for i, j in combinations(read, 2)
    }
    x, y, z = (float(step) for step in grid.spacing)
    histogram = None if images is None else _histogram(images)
    return Measured(case.subject, (x, y, z), scores, histogram, covers, tuple(labelled), readings)


def read_mask(path: Path) -> MaskFile:
    """Read a mask with any labels, and its grid.

    Args:
        path: Mask file.

    Raises:
        GeometryError: If the file is a series.
        ContentError: If it contains fractions or negative numbers, as in a probability map, or
            whole numbers that change from voxel to voxel, as in a map in percent.
    """
    volume = read_labels(path)
    mask: Mask = volume.data != 0
    values = volume.data[mask]
    count = len(np.unique(values))
    if count > _LABELS and _roughness(volume.data) > _ROUGH:
        raise ContentError(
            f"{path}: contains {count} values from {values.min():g} to {values.max():g} that "
            "change from voxel to voxel, as in an image or a map in percent; expected a mask (0 "
            "for background, whole numbers for lesions). Apply the threshold of the tool first"
        )
    return MaskFile(mask, volume.grid, count)


def _roughness(labels: Image) -> float:
    """Return the proportion of non-zero neighbours along the first axis that differ."""
    ahead, behind = labels[1:], labels[:-1]
    both = (ahead != 0) & (behind != 0)
    return float((ahead != behind)[both].mean()) if both.any() else 0.0


def _read_on(path: Path, grid: Grid, reference: Path) -> tuple[Mask, int]:
    mask, own, labels = read_mask(path)
    on_grid = reorder(mask, own, grid)
    if on_grid is None:
        raise GeometryError(
            f"{path}: is on another grid (shape {own.shape}, spacing {_mm(own)} mm) than its "
            f"reference {reference} (shape {grid.shape}, spacing {_mm(grid)} mm), or is rotated or "
            "shifted. Masks are compared voxel by voxel; resample it to the grid of the reference"
        )
    return on_grid, labels


def _mm(grid: Grid) -> str:
    return " x ".join(f"{step:.4g}" for step in grid.spacing)


def read_images(case: Case, grid: Grid) -> tuple[Images | None, bool]:
    """Read the images for the measurement of contrast, on the grid of the masks.

    Returns:
        The images (None without brain mask and DWI), and whether they cover the whole brain.
    """
    reach = np.ones(grid.shape, bool)
    found: dict[str, Image | None] = {"dwi": None, "adc": None}
    for kind, path in (("dwi", case.dwi), ("adc", case.adc)):
        if path is not None:
            found[kind], within = read_image(path, grid)
            reach &= within
    dwi, adc = found["dwi"], found["adc"]
    if case.brain is not None:
        volume = _read_single(case.brain)
        on_grid = grid.matches(volume.grid)
        brain = (volume.data if on_grid else resample(volume, grid, labels=True)) > 0
    elif dwi is not None:
        brain, _ = find_brain(dwi, dwi, grid.spacing)
    else:
        return None, True
    covers = (brain & reach).sum() >= _WHOLE * brain.sum()
    return Images(brain, dwi, adc, reach), bool(covers)


def read_image(path: Path, grid: Grid) -> tuple[Image, Mask]:
    """Read an image and resample it to the grid of the masks.

    Args:
        path: Image file.
        grid: Grid of the masks.

    Returns:
        The image, 0 outside its field of view and where it is not finite (as in some backgrounds);
        and a mask of its field of view.

    Raises:
        GeometryError: If the file is a series.
    """
    volume = _read_single(path)
    if grid.matches(volume.grid):
        image, reach = volume.data, np.ones(grid.shape, bool)
    else:
        image, reach = resample(volume, grid), reached(volume, grid)
    return np.nan_to_num(np.asarray(image, dtype=np.float32)), reach


def _read_single(path: Path) -> Volume:
    volume = read(path)
    if volume.data.ndim != 3:
        raise GeometryError(
            f"{path}: has shape {volume.data.shape} and is a series; give a single 3D image"
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
