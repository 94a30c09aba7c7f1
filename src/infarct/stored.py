"""A result read back from its folder: all that the page, or a corrected outline, needs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infarct import assets
from infarct.errors import InputFileError
from infarct.grid import Affine
from infarct.intensity import Mask
from infarct.volume import Volume, read

OUTLINE = "lesion_mask.nii.gz"
"""The one file a person may want to replace; the manifest holds its hash."""

AUDIT = "audit.tsv"
"""Is there once the outline was corrected by hand."""

THUMBNAIL = "thumbnail.jpg"
"""Of the outline as it was made, where the scan is one of a cohort."""


@dataclass(frozen=True, eq=False)
class Stored:
    """What a result folder holds; native images all lie on the grid of the DWI.

    Attributes:
        dwi: Signal.
        b0: Signal.
        adc: mm^2/s.
        probability: 0 - 1.
        lesion: bool.
        brain: bool.
        lesion_mni: (192, 224, 192) bool on the MNI grid.
        mni_from_native: (4, 4) world of the scanner -> MNI mm.
        atlas_from_native: The same, refined for looking up anatomy.
        summary: Content of `summary.json`.
        manifest: Content of `manifest.json`.
    """

    dwi: Volume
    b0: Volume
    adc: Volume
    probability: Volume
    lesion: Volume
    brain: Volume
    lesion_mni: Mask
    mni_from_native: Affine
    atlas_from_native: Affine
    summary: dict[str, Any]
    manifest: dict[str, Any]


def read_stored(folder: Path) -> Stored:
    """Read a result folder.

    Args:
        folder: As `infarct segment` made it.

    Raises:
        InputFileError: If a file of it is missing or damaged, or the outline is not the one that
            the numbers describe.
    """
    manifest = _json(folder, "manifest.json")
    written = manifest.get("outputs", {}).get(OUTLINE)
    if written is None:
        raise _not_whole(folder, "the hash of its outline in manifest.json")
    if assets.sha256(_there(folder, OUTLINE)) != written:
        raise InputFileError(
            f"{folder / OUTLINE} was changed after it was written, so the numbers are not its own; "
            "keep a copy of it elsewhere, run `infarct segment` again with --overwrite, and give "
            "the copy to `infarct recompute --mask`"
        )

    def image(name: str) -> Volume:
        return read(_there(folder, f"{name}.nii.gz"))

    def mask(name: str) -> Volume:
        volume = image(name)
        return volume.like(volume.data > 0.5)

    return Stored(
        dwi=image("scan/dwi"),
        b0=image("scan/b0"),
        adc=image("scan/adc"),
        probability=image("lesion_probability"),
        lesion=mask("lesion_mask"),
        brain=mask("brain_mask"),
        lesion_mni=mask("mni/lesion_mask").data,
        mni_from_native=_matrix(folder, "mni/mni_from_native.txt"),
        atlas_from_native=_matrix(folder, "mni/atlas_from_native.txt"),
        summary=_json(folder, "summary.json"),
        manifest=manifest,
    )


def _there(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise _not_whole(folder, name)
    return path


def _not_whole(folder: Path, missing: str) -> InputFileError:
    return InputFileError(
        f"{folder} is no whole result of this version of infarct: {missing} is missing; "
        "make it with `infarct segment`"
    )


def _matrix(folder: Path, name: str) -> Affine:
    words = _there(folder, name).read_text(encoding="utf-8", errors="replace").split()
    try:
        matrix: Affine = np.asarray_chkfinite(words, dtype=np.float64).reshape(4, 4)
    except ValueError as error:
        raise InputFileError(f"{folder / name} is damaged ({error})") from error
    return matrix


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(_there(folder, name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputFileError(f"{folder / name} is damaged ({error})") from error
    return content
