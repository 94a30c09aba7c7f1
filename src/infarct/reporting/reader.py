"""A result read back from its folder: all that the page, or a corrected outline, needs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infarct.core import assets
from infarct.core.atomic_write import move_out
from infarct.core.diffusion import Mask
from infarct.core.errors import InputFileError
from infarct.core.geometry import Affine
from infarct.core.nifti import Volume, read
from infarct.reporting import result_schema

OUTLINE = "lesion_mask.nii.gz"
"""The one file a person may want to replace; the manifest holds its hash."""

AUDIT = "audit.tsv"
"""Is there once the outline was corrected by hand."""

THUMBNAIL = "thumbnail.jpg"
"""Of the outline as it was made, where the scan is one of a cohort."""


ELSEWHERE = "elsewhere"
"""In the manifest: where files are that do not lie in the folder, by their name, relative to it."""


FILES = "files"
"""In the manifest: sha256 of every file of the result but the manifest, by its name."""

_WRITTEN = {
    *("lesion_mask.nii.gz", "lesion_probability.nii.gz", "brain_mask.nii.gz"),
    *("uncertainty.nii.gz", "lesions.tsv", "regions.tsv", "summary.json", "figure.png"),
    *("report.html", "thumbnail.jpg", "mni", "scan", "dicom"),
}
"""What results hold whose manifest does not list their files yet."""

_NOBODYS = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""Files that a desktop leaves where it looks."""

_KEYS = {
    "manifest.json": {"infarct", "model"},
    "summary.json": {"lesion_volume_ml", "lesions", "warnings", "notes"},
}
"""Some of what is never missing."""


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
        elsewhere: Where files of it lie that are not in the folder, by the name they would have
            there: the images of a BIDS dataset.
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
    elsewhere: dict[str, Path]


def is_result(folder: Path) -> bool:
    """Tell whether a folder holds a result, whole or not: others have a `manifest.json` too."""
    try:
        _json(folder, "manifest.json")
    except (InputFileError, OSError):
        return False
    return True


def list_files(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of a result but its manifest, as the manifest lists them."""
    return {name: assets.sha256(path) for name, path in _entries(folder) if name != "manifest.json"}


def manual_work(folder: Path) -> list[str]:
    """Name what people made in a result, or changed, and would lose if it were replaced.

    Args:
        folder: A result; one that was read as such by `is_result`.

    Returns:
        The corrected mask and its audit trail, files that were edited, and files that infarct did
        not write, each with a word on what it is; empty if there is nothing to lose.
    """
    manifest = _json(folder, "manifest.json")
    listed = manifest.get(FILES)
    corrected = (folder / AUDIT).exists() or bool(_corrections(folder))
    found = dict(_entries(folder))
    if not isinstance(listed, dict):
        listed = {name: "" for name in found if name.split("/")[0] in _WRITTEN}
        listed[OUTLINE] = (manifest.get("outputs") or {}).get(OUTLINE, "")
    for name, path in _elsewhere(folder, manifest).items():
        found.setdefault(name, path)
    said: dict[str, str] = {}
    if corrected:
        said |= {OUTLINE: "corrected by hand", AUDIT: "its audit trail"}
    for name, path in sorted(found.items()):
        if name == "manifest.json" or name in said or _is_nobodys(name, found):
            continue
        if name not in listed:
            said[name] = "not written by infarct"
        elif listed[name] and (not path.is_file() or assets.sha256(path) != listed[name]):
            said[name] = "edited"
    return [f"{_printable(name)} ({what})" for name, what in said.items()]


def settle(folder: Path) -> None:
    """Finish what a killed process had begun: bring files out of a result to where they belong.

    Args:
        folder: Of a result; reserved. Nothing is done if it is none.
    """
    if is_result(folder):
        manifest = _json(folder, "manifest.json")
        move_out(folder, _places(folder, manifest))


def exported(folder: Path) -> list[Path]:
    """Return where the files of a result lie that are not in its folder, present or not."""
    return list(_places(folder, _json(folder, "manifest.json")).values())


def _entries(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield every file and link in a folder and below it, with its name relative to the folder."""
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in (*files, *links):
            path = Path(parent, name)
            yield path.relative_to(folder).as_posix(), path


def _corrections(folder: Path) -> Any:
    try:
        return _json(folder, "summary.json").get("corrections")
    except (InputFileError, OSError):
        return None


def _is_nobodys(name: str, found: dict[str, Path]) -> bool:
    parent, _, last = name.rpartition("/")
    of = last.removeprefix("._")
    return last in _NOBODYS or (last != of and f"{parent}/{of}".lstrip("/") in found)


def _printable(name: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in name)


def read_stored(folder: Path) -> Stored:
    """Read a result folder.

    Args:
        folder: As `infarct segment` made it, or of a scan in the `reports` of `infarct bids`.

    Raises:
        InputFileError: If a file of it is missing or damaged, or the outline is not the one that
            the numbers describe.
    """
    manifest = _checked(folder, "manifest.json", result_schema.MANIFEST)
    written = (manifest.get("outputs") or {}).get(OUTLINE)
    if written is None:
        raise _not_whole(folder, "the hash of its outline in manifest.json")
    outline = _there(folder, OUTLINE, manifest)
    if assets.sha256(outline) != written:
        raise InputFileError(
            f"{outline} was edited after it was written, so the numbers beside it are not its own; "
            "copy it elsewhere, segment the scan again with --overwrite-corrected, and give the "
            "copy to `infarct recompute --mask`"
        )

    def image(name: str) -> Volume:
        return read(_there(folder, f"{name}.nii.gz", manifest))

    dwi = image("scan/dwi")

    def native(name: str) -> Volume:
        volume = image(name)
        if not volume.grid.matches(dwi.grid):
            raise InputFileError(f"{name}.nii.gz of {folder} lies on another grid than its DWI")
        return volume

    def mask(name: str) -> Volume:
        volume = native(name)
        return volume.like(volume.data > 0.5)

    return Stored(
        dwi=dwi,
        b0=native("scan/b0"),
        adc=native("scan/adc"),
        probability=native("lesion_probability"),
        lesion=mask("lesion_mask"),
        brain=mask("brain_mask"),
        lesion_mni=image("mni/lesion_mask").data > 0.5,
        mni_from_native=_matrix(_there(folder, "mni/mni_from_native.txt", manifest)),
        atlas_from_native=_matrix(_there(folder, "mni/atlas_from_native.txt", manifest)),
        summary=_checked(folder, "summary.json", result_schema.SUMMARY),
        manifest=manifest,
        elsewhere=_elsewhere(folder, manifest),
    )


def _elsewhere(folder: Path, manifest: dict[str, Any]) -> dict[str, Path]:
    places = _places(folder, manifest)
    return {name: path for name, path in places.items() if path.is_file()}


def _places(folder: Path, manifest: dict[str, Any]) -> dict[str, Path]:
    home = folder.resolve()
    places = manifest.get(ELSEWHERE)
    pairs = places.items() if isinstance(places, dict) else ()
    found = {name: Path(os.path.normpath(home / str(path))) for name, path in pairs}
    # Within the dataset only: a manifest that came from elsewhere must not have any file replaced.
    dataset = home.parent.parent
    return {name: path for name, path in found.items() if dataset in path.parents}


def _there(folder: Path, name: str, manifest: dict[str, Any] | None = None) -> Path:
    # In the folder first: a copy that is being changed has all of it there.
    for path in (folder / name, _elsewhere(folder, manifest or {}).get(name)):
        if path and path.is_file():
            return path
    raise _not_whole(folder, name)


def _not_whole(folder: Path, missing: str) -> InputFileError:
    return InputFileError(
        f"{folder} is no whole result of this version of infarct: {missing} is missing; make it "
        "again by the command that made it (in a cohort or BIDS dataset remove this folder first; "
        "of a dataset name the folder of the scan in reports/)"
    )


def _matrix(path: Path) -> Affine:
    words = path.read_text(encoding="utf-8", errors="replace").split()
    try:
        matrix: Affine = np.asarray_chkfinite(words, dtype=np.float64).reshape(4, 4)
    except ValueError as error:
        raise InputFileError(f"{path} is damaged ({error})") from error
    return matrix


def _checked(folder: Path, name: str, pattern: dict[str, Any]) -> dict[str, Any]:
    content = _json(folder, name)
    try:
        result_schema.check(content, pattern)
    except ValueError as error:
        raise InputFileError(
            f"{folder / name} is damaged ({error}); restore it from a copy, or segment again"
        ) from error
    return content


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = result_schema.parse(_there(folder, name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputFileError(f"{folder / name} is damaged ({error})") from error
    if not _KEYS[name] <= content.keys():
        raise InputFileError(
            f"{folder / name} is damaged: {', '.join(sorted(_KEYS[name]))} are expected in it"
        )
    return content
