"""The bank: anatomies, lesion masks and real backgrounds in one portable file.

Anatomies and lesion masks are on the MNI grid. The split into training, validation and test data
is determined by name, so it does not change when the bank grows.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from infarct.core.assets import index, sha256
from infarct.core.atomic_write import atomic_file
from infarct.core.diffusion import Mask
from infarct.core.errors import InputFileError
from infarct.core.geometry import Affine
from infarct.lab.sources.tissue_classes import ClassMap

Split = Literal["train", "validation", "test"]

ICBM = "icbm152"
LARGEST_LESION_ML = 400.0
"""Larger masks are rejected as failed registrations."""

_ANATOMY_SPLIT: dict[str, Split] = {
    **dict.fromkeys(("training_seg_04", "training_seg_17"), "validation"),
    **dict.fromkeys(("training_seg_06", "training_seg_09", "training_seg_12"), "test"),
}
_BACKGROUND_SPLIT: dict[str, Split] = {}


def split_of_lesion(name: str) -> Split:
    """Return the split of a lesion from its name: 80% train, 10% validation, 10% test."""
    bucket = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10
    return "validation" if bucket == 8 else "test" if bucket == 9 else "train"


@dataclass(frozen=True, eq=False)
class Lesions:
    """Real lesion masks, bit-packed within their bounding boxes.

    Attributes:
        names: (n,) names of the source files.
        ml: (n,) volumes.
        boxes: (n, 2, 3) first voxel and size of each bounding box on the MNI grid.
        bits: Concatenated `numpy.packbits` of all bounding boxes.
        starts: (n + 1,) offset of each mask in `bits`.
    """

    names: NDArray[np.str_]
    ml: NDArray[np.float64]
    boxes: NDArray[np.int16]
    bits: NDArray[np.uint8]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def mask(self, name: str) -> tuple[Mask, tuple[int, int, int]]:
        """Unpack a lesion mask.

        Args:
            name: Entry of `names`.

        Returns:
            The mask within its bounding box, and the first voxel of the box on the MNI grid.
        """
        index = int(np.flatnonzero(self.names == name)[0])
        first, size = self.boxes[index].astype(int)
        packed = self.bits[self.starts[index] : self.starts[index + 1]]
        mask = np.unpackbits(packed, count=int(np.prod(size))).reshape(size).astype(bool)
        return mask, (int(first[0]), int(first[1]), int(first[2]))

    @cached_property
    def _splits(self) -> NDArray[np.str_]:
        return np.array([split_of_lesion(str(name)) for name in self.names], dtype=np.str_)

    def of(self, split: Split) -> NDArray[np.intp]:
        """Return the indices of the lesions in a split."""
        return np.flatnonzero(self._splits == split)


def pack_lesions(masks: Iterable[tuple[str, Mask]]) -> Lesions:
    """Pack named masks on the MNI grid; skip empty and implausibly large masks."""
    names, ml, boxes, pieces = [], [], [], []
    for name, mask in masks:
        volume_ml = float(mask.sum()) / 1000.0
        if not 0 < volume_ml <= LARGEST_LESION_ML:
            continue
        inside = np.argwhere(mask)
        first, size = inside.min(axis=0), np.ptp(inside, axis=0) + 1
        box = tuple(slice(f, f + s) for f, s in zip(first, size, strict=True))
        names.append(name)
        ml.append(volume_ml)
        boxes.append((first, size))
        pieces.append(np.packbits(mask[box]))
    return Lesions(
        names=np.array(names, dtype=np.str_),
        ml=np.array(ml),
        boxes=np.array(boxes, dtype=np.int16).reshape(-1, 2, 3),
        bits=np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.uint8),
        starts=np.cumsum([0, *(len(p) for p in pieces)]),
    )


@dataclass(frozen=True, eq=False)
class Background:
    """A real lesion-free scan on its native grid.

    Attributes:
        b0: (X, Y, Z) signal.
        adc: Same shape, mm^2/s.
        brain: Same shape, bool.
        native_from_mni: (4, 4) transform, MNI voxel -> native voxel.
        bvalue: b-value of the ADC measurement, s/mm^2.
    """

    b0: NDArray[np.float32]
    adc: NDArray[np.float32]
    brain: Mask
    native_from_mni: Affine
    bvalue: float


@dataclass(frozen=True, eq=False)
class Bank:
    """Source data of the simulator.

    Attributes:
        anatomies: Name -> (192, 224, 192) code, see `tissue_classes.RIM_SHIFT`.
        lesions: Real lesion masks; may be empty.
        backgrounds: Name -> real lesion-free scan; may be empty.
        healthy: `dwi_mean`, `dwi_sd`, `adc_mean`, `adc_sd`, each (96, 112, 96) on the template
            grid, as shipped when the bank was created. If empty, the statistics of the installed
            package are used.
    """

    anatomies: dict[str, ClassMap]
    lesions: Lesions
    backgrounds: dict[str, Background]
    healthy: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    _on_device: dict[tuple[str, str], torch.Tensor] = field(default_factory=dict, repr=False)

    def anatomy(self, name: str, device: torch.device | str) -> torch.Tensor:
        """Return the code of an anatomy (uint8) on a device; the result is cached."""
        key = (name, str(device))
        if key not in self._on_device:
            self._on_device[key] = torch.from_numpy(self.anatomies[name]).to(device)
        return self._on_device[key]

    def anatomies_of(self, split: Split) -> list[str]:
        """Return the names of the anatomies in a split, or all names if the split has none."""
        names = sorted(self.anatomies)
        chosen = [n for n in names if _ANATOMY_SPLIT.get(n, "train") == split]
        return chosen or names

    def backgrounds_of(self, split: Split) -> list[str]:
        """Return the names of the real backgrounds in a split; may be empty."""
        return [n for n in sorted(self.backgrounds) if _BACKGROUND_SPLIT.get(n, "train") == split]

    def without_backgrounds(self, names: Iterable[str]) -> Bank:
        """Return a copy of the bank without some of its real backgrounds.

        Args:
            names: Backgrounds to exclude.

        Raises:
            InputFileError: If the bank has backgrounds but not all of `names`. A misspelt name
                must not let a held-out scan into training.
        """
        left_out = set(names)
        unknown = ", ".join(sorted(left_out - set(self.backgrounds)))
        if unknown and self.backgrounds:
            available = ", ".join(sorted(self.backgrounds))
            raise InputFileError(
                f"leave_out: background {unknown} not found in the bank; available: {available}"
            )
        kept = {name: b for name, b in self.backgrounds.items() if name not in left_out}
        return replace(self, backgrounds=kept)

    @staticmethod
    def from_icbm() -> Bank:
        """Create a bank from the ICBM maps alone: one anatomy, no real lesions or backgrounds."""
        # SimpleITK is needed only to create anatomies, not to train from an existing bank.
        from infarct.lab.sources import anatomy, templates  # noqa: PLC0415

        head = anatomy.with_rims(anatomy.from_icbm(templates.icbm_tissue()))
        return Bank({ICBM: head}, pack_lesions([]), {})

    def save(self, path: Path) -> None:
        """Write the bank to one compressed file, atomically and with exactly this name."""
        arrays: dict[str, Any] = {f"anatomy/{name}": code for name, code in self.anatomies.items()}
        for item in ("names", "ml", "boxes", "bits", "starts"):
            arrays[f"lesions/{item}"] = getattr(self.lesions, item)
        for name, background in self.backgrounds.items():
            arrays[f"background/{name}/b0"] = background.b0.astype(np.float16)
            arrays[f"background/{name}/adc"] = (background.adc * 1e6).astype(np.int16)
            arrays[f"background/{name}/brain"] = background.brain
            arrays[f"background/{name}/native_from_mni"] = background.native_from_mni
            arrays[f"background/{name}/bvalue"] = np.float64(background.bvalue)
        arrays |= {f"healthy/{name}": image for name, image in self.healthy.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as draft, draft.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @staticmethod
    def load(path: Path) -> Bank:
        """Read a bank.

        Raises:
            InputFileError: If the file is missing, damaged or not a bank.
        """
        if not path.is_file():
            raise _bank_not_found(path)
        try:
            with path.open("rb") as opened, np.load(opened) as file:
                arrays = {key: file[key] for key in file.files}
        except (OSError, ValueError, EOFError, TypeError, BadZipFile, zlib.error) as error:
            raise _invalid_bank(path) from error
        if not {"anatomy", "lesions"} <= {key.split("/")[0] for key in arrays}:
            raise _invalid_bank(path)
        lesions = {key.split("/")[1]: arrays[key] for key in arrays if key.startswith("lesions/")}
        heads = {k.split("/")[1]: arrays[k] for k in arrays if k.startswith("anatomy/")}
        names = {k.split("/")[1] for k in arrays if k.startswith("background/")}
        backgrounds = {n: _background(arrays, n) for n in sorted(names)}
        healthy = {k.split("/")[1]: arrays[k] for k in arrays if k.startswith("healthy/")}
        return Bank(heads, Lesions(**lesions), backgrounds, healthy)


def digest(path: Path | None) -> str:
    """Return the SHA-256 of a bank, which identifies it; `ICBM` for None.

    Raises:
        InputFileError: If the file is missing.
    """
    if path is None:
        return ICBM
    if not path.is_file():
        raise _bank_not_found(path)
    return sha256(path)


def made_from(path: Path | None) -> dict[str, object]:
    """Return the checksums of the data that synthetic scans and their IS maps depend on.

    Args:
        path: Bank file, or None for the ICBM bank, as in `digest`.
    """
    return {"bank": digest(path), "healthy": index()["templates/dwi_mean"].sha256}


def _bank_not_found(path: Path) -> InputFileError:
    return InputFileError(f"{path}: bank not found; create one with `infarct lab bank`")


def _invalid_bank(path: Path) -> InputFileError:
    return InputFileError(
        f"{path}: not a valid bank, or damaged; use a file written by `infarct lab bank`, or "
        "create it again"
    )


def _background(arrays: dict[str, Any], name: str) -> Background:
    b0, adc, brain, native_from_mni, bvalue = (
        arrays[f"background/{name}/{item}"]
        for item in ("b0", "adc", "brain", "native_from_mni", "bvalue")
    )
    return Background(
        b0.astype(np.float32),
        adc.astype(np.float32) * 1e-6,
        brain,
        native_from_mni,
        float(bvalue),
    )
