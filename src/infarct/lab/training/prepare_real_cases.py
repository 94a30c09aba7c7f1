"""Prepares real cases with lesion masks for training, from BIDS-like and ISLES-like folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infarct.core.atomic_write import atomic_file
from infarct.core.errors import ContentError, GeometryError, InfarctError, InputFileError
from infarct.core.file_search import matching
from infarct.core.geometry import MNI_GRID, reorder
from infarct.core.normalisation import zscore
from infarct.core.resampling import resample
from infarct.evaluation.subject_scores import read_mask
from infarct.inference.network import load_network
from infarct.preprocessing.case import CaseFiles
from infarct.preprocessing.load import open_case
from infarct.preprocessing.preprocess import preprocess
from infarct.preprocessing.templates import load_template
from infarct.segmentation.classical import is_map
from infarct.segmentation.controls import load_healthy
from infarct.segmentation.models import BRAIN_NETWORK

_MASKS = ("_msk", "_mask", "_lesion_mask", "_label-lesion_mask", "_desc-lesion_mask")


@dataclass(frozen=True)
class Drawn:
    """A case with a manual lesion mask.

    Attributes:
        name: Name of the DWI without its suffix.
        files: The images.
        lesion: The lesion mask, on the grid of the DWI.
    """

    name: str
    files: CaseFiles
    lesion: Path


def find(folder: Path) -> Iterator[Drawn]:
    """Find cases with a mask in a data set.

    Two layouts are recognised. Either `sub-*/**/NAME_dwi.nii.gz` with `NAME_adc` and `NAME_b0` in
    the same folder, and the mask `NAME_msk.nii.gz` (or another common suffix) in the same folder or
    anywhere below `derivatives/`, as in ISLES'22 and BIDS. Or one folder per case with
    `dwi.nii.gz`, `adc.nii.gz`, `b0.nii.gz` and a single `lesion*.nii.gz` or `mask*.nii.gz`.

    Args:
        folder: Root of the data set.

    Yields:
        Every DWI with a mask: first those found by name, then those found by folder.

    Raises:
        InputFileError: If a case has several masks.
    """
    masks: dict[str, list[Path]] = {}
    for ending in _MASKS:
        for file in matching(folder, f"**/*{ending}.nii.gz"):
            masks.setdefault(file.name.removesuffix(f"{ending}.nii.gz"), []).append(file)
    for dwi in matching(folder, "**/*_dwi.nii.gz"):
        name = dwi.name.removesuffix("_dwi.nii.gz")
        if name in masks:
            yield Drawn(name, _images(dwi, f"{name}_"), _only(masks[name], dwi))
    for dwi in matching(folder, "**/dwi.nii.gz"):
        home = dwi.parent
        drawn = [p for start in ("lesion", "mask") for p in matching(home, f"{start}*.nii.gz")]
        if drawn:
            name = "-".join(home.relative_to(folder).parts) or home.name
            yield Drawn(name, _images(dwi, ""), _only(drawn, home))


def _only(masks: Sequence[Path], case: Path) -> Path:
    if len(masks) > 1:
        several = ", ".join(map(str, masks))
        raise InputFileError(f"{case}: several masks ({several}); keep only the correct one")
    return masks[0]


def _images(dwi: Path, stem: str) -> CaseFiles:
    """Return a DWI with STEMadc.nii.gz and STEMb0.nii.gz of the same folder, if present."""
    adc, b0 = (dwi.with_name(f"{stem}{role}.nii.gz") for role in ("adc", "b0"))
    return CaseFiles(dwi, b0=b0 if b0.is_file() else None, adc=adc if adc.is_file() else None)


def prepare_cases(folder: Path, out: Path) -> Iterator[tuple[str, str]]:
    """Prepare all cases of a folder; cases that are already prepared are kept.

    Args:
        folder: Root of the data set.
        out: Output folder for NAME.npz: image (3, X, Y, Z) float16, lesion and brain (1, X, Y, Z).

    Yields:
        Name of a case, and the outcome: prepared, already prepared, or skipped with the reason.

    Raises:
        InputFileError: If there is no case with a mask.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = False
    for drawn in find(folder):
        found = True
        target = out / f"{drawn.name}.npz"
        if target.exists():
            yield drawn.name, "already prepared"
            continue
        try:
            _prepare(drawn, target)
        except InfarctError as error:
            yield drawn.name, f"skipped: {error}"
        else:
            yield drawn.name, "prepared"
    if not found:
        raise InputFileError(f"{folder}: no *_dwi.nii.gz with a mask found")


def _prepare(drawn: Drawn, target: Path) -> None:
    case = open_case(drawn.files)
    mask, grid, _ = read_mask(drawn.lesion)
    on_grid = reorder(mask, grid, case.dwi.grid)
    if on_grid is None:
        raise GeometryError(
            f"{drawn.lesion}: grid differs from that of {drawn.files.dwi}; resample the mask to "
            "the grid of the DWI"
        )
    # The same skull-stripping as in `infarct segment`: z-scores depend on the brain mask.
    scan = preprocess(case, load_template(), load_network(BRAIN_NETWORK))
    native_from_mni = np.linalg.inv(scan.registration.mni_from_native)
    drawn_native = case.dwi.like(on_grid.astype(np.float32))
    lesion = (resample(drawn_native, MNI_GRID, native_from_mni) >= 0.5) & scan.brain
    if mask.any() and not lesion.any():
        raise ContentError(
            f"{drawn.lesion}: no lesion voxel inside the brain on the MNI grid; the lesion is too "
            "small or lies outside the brain. Check that the mask belongs to this scan"
        )
    dwi, adc, brain = scan.dwi_normalised, scan.adc_normalised, scan.brain
    planes = [zscore(dwi, brain), zscore(adc, brain), is_map(dwi, adc, brain, load_healthy())]
    # Atomic: an incomplete file would count as already prepared in the next run.
    with atomic_file(target) as draft, draft.open("wb") as file:
        np.savez_compressed(
            file,
            image=np.stack(planes).astype(np.float16),
            lesion=lesion[None],
            brain=brain[None],
        )
