"""The numbers of one subject: its masks and images read, and what each mask scores."""

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
"""A mask with more values than that, where more than that share of neighbours differ, is an image:
labels of lesions, however many, are the same from one voxel to the next."""

_WHOLE = 0.98
"""Share of the brain that images reach where they count as covering it."""


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
        readings: Mask of each human reading; None where that rater did not read it.
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
        dice: Of the two masks; 1 where both are empty.
        first_ml: Volume outlined in the first.
        second_ml: In the second.
    """

    dice: float
    first_ml: float
    second_ml: float


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
        covers: Whether DWI and ADC reach all of the brain; contrast is measured where they do.
        labelled: Files of the masks with more than one label, each of them counted as lesion.
        readings: By the numbers of two human readings, from 0; those that are both there.
    """

    subject: str
    spacing: tuple[float, float, float]
    scores: Mapping[str, Scores]
    histogram: Histogram | None
    covers: bool = True
    labelled: tuple[Path, ...] = ()
    readings: Mapping[tuple[int, int], ReadingPair] = field(default_factory=dict)


class MaskFile(NamedTuple):
    """What a file of a mask holds.

    Attributes:
        mask: (X, Y, Z) where a label is.
        grid: Where it lies.
        labels: How many labels there are; 0 for an empty mask.
    """

    mask: Mask
    grid: Grid
    labels: int


def measure(case: Case) -> Measured:
    """Read the files of a subject and measure every prediction.

    Masks must lie on the grid of the reference. DWI, ADC and brain may lie on another; they are
    brought onto it, since contrast is a mean over many voxels.

    Raises:
        GeometryError: If a prediction lies on another grid, or an image is a series.
        ContentError: If a mask is not a mask.
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
    """Read a mask, whatever its labels, and the grid it lies on.

    Raises:
        GeometryError: If it is a series.
        ContentError: If it holds fractions or negative numbers, as a probability map does, or
            whole numbers that change from voxel to voxel, as a map in percent does.
    """
    volume = read_labels(path)
    mask: Mask = volume.data != 0
    values = volume.data[mask]
    count = len(np.unique(values))
    if count > _LABELS and _roughness(volume.data) > _ROUGH:
        raise ContentError(
            f"{path}: holds {count} values from {values.min():g} to {values.max():g} that change "
            "from voxel to voxel, as those of an image or of a map in percent; a mask of zeros and "
            "whole numbers is needed: apply the tool's threshold first"
        )
    return MaskFile(mask, volume.grid, count)


def _roughness(labels: Image) -> float:
    """Return the share of neighbours, both of them not 0, that differ."""
    ahead, behind = labels[1:], labels[:-1]
    both = (ahead != 0) & (behind != 0)
    return float((ahead != behind)[both].mean()) if both.any() else 0.0


def _read_on(path: Path, grid: Grid, reference: Path) -> tuple[Mask, int]:
    mask, own, labels = read_mask(path)
    on_grid = reorder(mask, own, grid)
    if on_grid is None:
        raise GeometryError(
            f"{path}: lies on another grid (shape {own.shape}, spacing {_mm(own)} mm) than its "
            f"reference {reference} ({grid.shape}, {_mm(grid)} mm), or is rotated or shifted; "
            "masks are compared voxel by voxel: bring it onto the grid of the reference"
        )
    return on_grid, labels


def _mm(grid: Grid) -> str:
    return " x ".join(f"{step:.4g}" for step in grid.spacing)


def read_images(case: Case, grid: Grid) -> tuple[Images | None, bool]:
    """Read what contrast is measured on, on the grid of the masks.

    Returns:
        The images, None without any brain, and whether they reach all of it.
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
    """Read an image onto the grid of the masks.

    Returns:
        The image, 0 where it is not finite, as some backgrounds are not, or does not reach; and
        where it reaches.

    Raises:
        GeometryError: If it is a series.
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
