"""Saves a mask that was edited in the browser: version check, exact geometry, `recompute`."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from infarct.core.atomic_write import reserved, scratch
from infarct.core.diffusion import Mask
from infarct.core.errors import InfarctError, InputFileError
from infarct.core.nifti import Volume, read, write
from infarct.reporting.reader import OUTLINE, find_file, settle
from infarct.reporting.recompute import recompute


class EditConflictError(InfarctError):
    """The mask was changed by someone else after it had been opened."""

    exit_code = 6


def mask_version(folder: Path) -> str:
    """Return the version of the lesion mask of a result: its SHA-256 in the manifest."""
    manifest = json.loads(find_file(folder, "manifest.json").read_text(encoding="utf-8"))
    return str((manifest.get("outputs") or {}).get(OUTLINE, ""))


def read_mask(path: str) -> dict[str, Any]:
    """Return the voxels of a mask for the editor.

    Returns:
        `shape`, and `labels` as from `pack`.
    """
    mask = read(path).data > 0.5
    return {"shape": list(mask.shape), "labels": pack(mask)}


def pack(mask: Mask) -> str:
    """Compress a mask for the browser: one byte per voxel, first axis fastest; zlib; base64."""
    voxels = mask.astype(np.uint8).ravel(order="F").tobytes()
    return base64.b64encode(zlib.compress(voxels, 1)).decode()


def unpack(labels: str, shape: tuple[int, ...]) -> Mask:
    """Read a mask from the browser.

    Args:
        labels: As from `pack`; values above 0 are lesion.
        shape: Shape of the DWI.

    Raises:
        InputFileError: If the text is damaged, or the number of voxels is not that of the DWI.
    """
    count = int(np.prod(shape))
    try:
        compressed = base64.b64decode(labels, validate=True)
        # One more than expected, so that a longer text is noticed without inflating all of it.
        voxels = zlib.decompressobj().decompress(compressed, count + 1)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise InputFileError(f"the mask that was sent is damaged ({error}); save again") from error
    if len(voxels) != count:
        found = "more" if len(voxels) > count else str(len(voxels))
        raise InputFileError(
            f"the mask that was sent has {found} voxels, the DWI has {count}; reload the page and "
            "edit again"
        )
    mask: Mask = np.frombuffer(voxels, np.uint8).reshape(shape, order="F") > 0
    return mask


def write_labels(folder: Path, labels: str, path: Path) -> Volume:
    """Write labels from the browser as NIfTI on the grid of the DWI, with its header.

    Args:
        folder: Result folder.
        labels: As from `pack`.
        path: File to write.

    Returns:
        The mask.
    """
    dwi = read(find_file(folder, "scan/dwi.nii.gz"))
    mask = dwi.like(unpack(labels, dwi.data.shape))
    write(mask, path, np.uint8)
    return mask


def save_edit(folder: str, labels: str, version: str, by: str, reason: str) -> dict[str, Any]:
    """Replace the mask of a result by an edited one, and measure again.

    Args:
        folder: Result folder.
        labels: Edited mask, as from `pack`.
        version: Version of the mask that was opened, see `mask_version`.
        by: Name of the editor.
        reason: Reason for the correction.

    Returns:
        The new line of the audit trail.

    Raises:
        EditConflictError: If the mask has another version by now; nothing is changed.
        InfarctError: As `recompute`.
    """
    if not by.strip() or not reason.strip():
        raise InputFileError("give your name and the reason for the correction; nothing was saved")
    home = Path(folder)
    with reserved(home):
        settle(home)
        if mask_version(home) != version:
            raise EditConflictError(
                "someone else has changed this mask since you opened it; nothing was overwritten. "
                "Your edit is kept in this browser: reload the scan to see the new mask"
            )
        with scratch() as place:
            write_labels(home, labels, place / "edited.nii.gz")
            return asdict(recompute(home, place / "edited.nii.gz", by=by, reason=reason))
