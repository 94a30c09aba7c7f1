"""Fixed set of synthetic scans of all cohorts on measured slices, with scores by focus size.

The set serves to compare runs, losses and designs. It uses the heads, lesions and seeds of the
validation split, which neither training nor the test cohorts contain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from infarct.core.atomic_write import atomic_file
from infarct.core.diffusion import Image, Mask
from infarct.lab.simulation import acquisition, sampling, scanner, tissue
from infarct.lab.simulation.cohort import load_cohort
from infarct.lab.simulation.scanner import SimulatedScan
from infarct.lab.sources.bank import Bank
from infarct.lab.training import torch_features
from infarct.lab.training.stream import network_input, statistics_of
from infarct.lab.training.torch_features import HealthyTensors
from infarct.segmentation.measured_lattice import SIDES, brain_box, spacing_value

COMPOSITION = {"test": 40, "day-after": 35, "hyperacute": 35, "not-visible": 30, "embolic": 60}
"""Number of scans in each cohort."""

SEED = 4711
"""Random seed of the set."""

SIZES = {"below .1 ml": (0.0, 0.1), ".1 to 1 ml": (0.1, 1.0), "1 to 14 ml": (1.0, 14.0)}
SIZES |= {"above 14 ml": (14.0, math.inf)}
"""Size classes of reference foci: lowest volume (included) and highest (excluded), ml."""

_TOUCHING = ndimage.generate_binary_structure(3, 3)


@dataclass(frozen=True, eq=False)
class SliceCase:
    """One scan of the set, cropped to its brain.

    Attributes:
        name: Cohort and number.
        image: (4, X, Y, Z) float32, as `stream.SliceBatch.image`; the sides are multiples of
            `measured_lattice.SIDES`.
        lesion: (X, Y, Z) bool, the reference.
        brain: Same shape, bool.
        spacing_mm: Distance between slices.
    """

    name: str
    image: Image
    lesion: Mask
    brain: Mask
    spacing_mm: float

    @property
    def cohort(self) -> str:
        """Name of the cohort."""
        return self.name.rpartition("-")[0]

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel of 1 mm x 1 mm x `spacing_mm`."""
        return self.spacing_mm / 1000


def names(scale: float = 1.0) -> list[str]:
    """Return the names of the scans, or of the first part of each cohort.

    Args:
        scale: Fraction of each cohort, in 0 - 1.
    """
    counts = {cohort: round(count * scale) for cohort, count in COMPOSITION.items()}
    return [f"{cohort}-{k:03d}" for cohort, count in counts.items() for k in range(count)]


def acquire(name: str, bank: Bank) -> SimulatedScan:
    """Simulate one scan of the set on its native grid.

    Args:
        name: Name from `names`.
        bank: Anatomies, lesions and backgrounds.
    """
    cohort, _, number = name.rpartition("-")
    # Draw again if the scan has infarcts but a reader would see none of them.
    for attempt in range(20):
        drawn_from = replace(load_cohort(cohort), split="validation")
        record = sampling.draw(drawn_from, bank, SEED + attempt, int(number))
        native = scanner.acquire(tissue.build(record, bank, "cpu"), record)
        if native.lesion.any() or not record.lesions:
            break
    return native


def to_case(name: str, native: SimulatedScan, bank: Bank) -> SliceCase:
    """Resample a scan to its measured slices, cropped to the brain.

    Args:
        name: Name of the scan.
        native: Scan from `acquire`.
        bank: Bank with the healthy statistics.
    """
    scan = scanner.on_slices(native)
    lattice = acquisition.slice_lattice(native.record.acquisition)
    healthy = torch_features.healthy_on_slices(statistics_of(bank), lattice)
    image = network_input(scan, HealthyTensors.of(healthy))
    spacing = native.record.acquisition.spacing_mm
    spaced = scan.brain[None] * spacing_value(spacing)
    brain = scan.brain.numpy()
    lesion = (scan.lesion & scan.brain).numpy()
    channels = torch.cat([image, spaced]).numpy()
    return SliceCase(
        name, to_box(channels, brain), to_box(lesion, brain), to_box(brain, brain), spacing
    )


def to_box(volume: Image | Mask, brain: Mask) -> np.ndarray:
    """Crop a volume to the box of the brain, padded for the networks.

    Args:
        volume: (..., 192, 224, K) on a measured-slice lattice.
        brain: (192, 224, K).

    Returns:
        (..., X, Y, Z), sides multiples of `measured_lattice.SIDES`, symmetric about the midplane
        along X. Padded slices at the end are 0.
    """
    x, y, z = brain_box(brain)
    part = volume[..., x, y, z]
    return np.pad(part, [(0, 0)] * (part.ndim - 1) + [(0, -part.shape[-1] % SIDES[2])])


def ensure(name: str, bank: Bank, folder: Path) -> SliceCase:
    """Read a scan of the set from a folder; simulate and save it if missing.

    Args:
        name: Name from `names`.
        bank: Anatomies, lesions and backgrounds.
        folder: Folder of the set. Use a separate folder for each bank and simulator version.
    """
    file = folder / f"{name}.npz"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        case = to_case(name, acquire(name, bank), bank)
        with atomic_file(file) as draft, draft.open("wb") as stream:
            np.savez_compressed(
                stream,
                image=case.image.astype(np.float16),
                lesion=case.lesion,
                brain=case.brain,
                spacing_mm=case.spacing_mm,
            )
    with np.load(file) as kept:
        image = kept["image"].astype(np.float32)
        return SliceCase(name, image, kept["lesion"], kept["brain"], float(kept["spacing_mm"]))


@dataclass(frozen=True)
class CaseScore:
    """Scores of a mask on one scan.

    Attributes:
        name: Name of the scan.
        dice: Dice coefficient; NaN for lesion-free scans.
        reference_ml: Volume of the reference.
        predicted_ml: Volume of the mask.
        foci: Volume (ml) of each reference focus (26-connected), and whether it is found, that is,
            shares a voxel with the mask.
        false_foci: Number of components of the mask that share no voxel with the reference.
    """

    name: str
    dice: float
    reference_ml: float
    predicted_ml: float
    foci: tuple[tuple[float, bool], ...]
    false_foci: int


def score(mask: Mask, case: SliceCase) -> CaseScore:
    """Compare a mask with the reference of a scan.

    Args:
        mask: Predicted lesion mask, (X, Y, Z) bool.
        case: The scan with its reference.
    """
    shared = int((mask & case.lesion).sum())
    total = int(mask.sum()) + int(case.lesion.sum())
    parts, count = ndimage.label(case.lesion, _TOUCHING)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    found = np.bincount(parts[mask], minlength=count + 1)[1:] > 0
    predicted, predictions = ndimage.label(mask, _TOUCHING)
    true = int(np.count_nonzero(np.bincount(predicted[case.lesion], minlength=predictions + 1)[1:]))
    foci = zip((sizes * case.voxel_ml).tolist(), found.tolist(), strict=True)
    return CaseScore(
        name=case.name,
        dice=2 * shared / total if case.lesion.any() else math.nan,
        reference_ml=float(case.lesion.sum()) * case.voxel_ml,
        predicted_ml=float(mask.sum()) * case.voxel_ml,
        foci=tuple(foci),
        false_foci=predictions - true,
    )


def table(scores: list[CaseScore]) -> Iterator[tuple[str, str]]:
    """Summarise scores.

    Args:
        scores: Scores of one method.

    Yields:
        Name and value of each row: Dice by cohort with its standard error, recall of foci by size,
        lesion-wise F1 over all foci, median volume ratio of infarcts of 14 ml and more, false
        volume in lesion-free scans.
    """
    for cohort in COMPOSITION:
        dices = [s.dice for s in scores if s.name.startswith(cohort) and s.reference_ml]
        if dices:
            error = np.std(dices) / math.sqrt(len(dices))
            yield f"Dice, {cohort}", f"{np.mean(dices):.3f} +- {error:.3f} ({len(dices)})"
    small = [s.dice for s in scores if 0 < s.reference_ml < 1.7]
    yield "Dice, below 1.7 ml", f"{np.mean(small):.3f} ({len(small)})" if small else "-"
    foci = [focus for s in scores for focus in s.foci]
    for size, (low, high) in SIZES.items():
        found = [hit for ml, hit in foci if low <= ml < high]
        yield f"recall of foci, {size}", f"{np.mean(found):.3f} ({len(found)})" if found else "-"
    for group, chosen in (("all", scores), ("embolic", [s for s in scores if "embolic" in s.name])):
        hits = sum(hit for s in chosen for _, hit in s.foci)
        misses = sum(not hit for s in chosen for _, hit in s.foci)
        false = sum(s.false_foci for s in chosen)
        if hits + misses:
            f1 = 2 * hits / (2 * hits + false + misses)
            yield f"lesion-wise F1, {group}", f"{f1:.3f} ({false} false)"
    ratios = [s.predicted_ml / s.reference_ml for s in scores if s.reference_ml >= 14]
    yield (
        "volume ratio, 14 ml and more",
        f"{np.median(ratios):.3f} ({len(ratios)})" if ratios else "-",
    )
    free = [s for s in scores if not s.reference_ml]
    if free:
        flagged = np.mean([s.predicted_ml > 0 for s in free])
        yield "lesion-free scans with false voxels", f"{flagged:.2f} ({len(free)})"
        yield "false volume in them, ml", f"{np.mean([s.predicted_ml for s in free]):.3f}"
