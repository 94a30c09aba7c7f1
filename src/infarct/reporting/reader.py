"""Read a result folder: everything needed to rebuild the report or to correct the lesion mask."""

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
from infarct.reporting.case_label import CaseLabel, stored_label
from infarct.reporting.methods import METHODS

OUTLINE = "lesion_mask.nii.gz"
"""The lesion mask, the one file that users correct; the manifest holds its checksum."""

LABELS = "lesion_labels.nii.gz"
"""The lesion mask with the number of each lesion, as in `lesions.tsv`."""

SECOND = "second_mask.nii.gz"
"""Lesion mask of the second method; absent for classical methods."""

AUDIT = "audit.tsv"
"""Audit trail; present once the lesion mask has been corrected."""

THUMBNAIL = "thumbnail.jpg"
"""Thumbnail of the automatic lesion mask; present only for the scans of a cohort."""


ELSEWHERE = "exported"
"""Manifest key: files stored outside the folder, as {name: path relative to the folder}."""


FILES = "files"
"""Manifest key: SHA-256 of every file of the result except the manifest, by name."""

_WRITTEN = {
    *("lesion_mask.nii.gz", "lesion_probability.nii.gz", "brain_mask.nii.gz"),
    *(
        LABELS,
        SECOND,
        "uncertainty.nii.gz",
        "lesions.tsv",
        "regions.tsv",
        "summary.json",
        "figure.png",
    ),
    *METHODS,
    *("report.html", "thumbnail.jpg", "mni", "scan", "dicom"),
}
"""Files and folders written by earlier versions, whose manifests list no files."""

_DESKTOP_FILES = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""Files created by desktop environments."""

_KEYS = {
    "manifest.json": {"infarct", "model"},
    "summary.json": {"lesion_volume_ml", "lesions", "warnings", "notes"},
}
"""Keys that every valid file contains."""


@dataclass(frozen=True, eq=False)
class Stored:
    """Content of a result folder; all native images are on the grid of the DWI.

    Attributes:
        dwi: DWI signal.
        b0: b0 signal.
        adc: ADC, mm^2/s.
        probability: Lesion probability, 0 - 1.
        lesion: Lesion mask, bool.
        brain: Brain mask, bool.
        second: Lesion mask of the second method, bool; None if there is none.
        uncertainty: SD of the probability over the networks of an ensemble, 0 - 0.5; None if there
            is none.
        lesion_mni: (192, 224, 192) bool, lesion mask on the MNI grid.
        mni_from_native: (4, 4) scanner coordinates -> MNI mm.
        atlas_from_native: (4, 4) the same transform, refined for anatomical look-up.
        summary: Content of `summary.json`.
        manifest: Content of `manifest.json`.
        elsewhere: Paths of the files stored outside the folder (the images of a BIDS dataset), by
            the name they would have inside it.
    """

    dwi: Volume
    b0: Volume
    adc: Volume
    probability: Volume
    lesion: Volume
    brain: Volume
    second: Volume | None
    uncertainty: Volume | None
    lesion_mni: Mask
    mni_from_native: Affine
    atlas_from_native: Affine
    summary: dict[str, Any]
    manifest: dict[str, Any]
    elsewhere: dict[str, Path]

    @property
    def label(self) -> CaseLabel:
        """What identifies the case."""
        return stored_label(self.manifest)

    @property
    def identity(self) -> str:
        """Case id, scan date if recorded, and file name of the DWI, for titles and figures."""
        label = self.label
        file = (self.manifest["inputs"].get("dwi") or {}).get("file", "")
        return " \N{MIDDLE DOT} ".join(part for part in (label.id, label.scan_date, file) if part)


def is_result(folder: Path) -> bool:
    """Return whether a folder holds a result, complete or not, by the content of its manifest."""
    try:
        _json(folder, "manifest.json")
    except (InputFileError, OSError):
        return False
    return True


def list_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a result except its manifest, by name."""
    return {name: assets.sha256(path) for name, path in _entries(folder) if name != "manifest.json"}


def manual_work(folder: Path) -> list[str]:
    """List the manual work in a result folder that would be lost if the folder were replaced.

    Args:
        folder: A result folder for which `is_result` is True.

    Returns:
        The corrected mask and its audit trail, edited files, and files not written by infarct,
        each followed by the reason in brackets; empty if there is no manual work.
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
    reasons: dict[str, str] = {}
    if corrected:
        reasons |= {OUTLINE: "corrected by hand", AUDIT: "its audit trail"}
    for name, path in sorted(found.items()):
        if name == "manifest.json" or name in reasons or _is_desktop_file(name, found):
            continue
        if name not in listed:
            reasons[name] = "not written by infarct"
        elif listed[name] and (not path.is_file() or assets.sha256(path) != listed[name]):
            reasons[name] = "edited"
    return [f"{_printable(name)} ({reason})" for name, reason in reasons.items()]


def settle(folder: Path) -> None:
    """Finish an interrupted export: move files of a result to their place outside the folder.

    Args:
        folder: A result folder, reserved by the caller; other folders are left unchanged.
    """
    if is_result(folder):
        manifest = _json(folder, "manifest.json")
        move_out(folder, _places(folder, manifest))


def exported(folder: Path) -> list[Path]:
    """Return the paths of the files of a result outside its folder, whether they exist or not."""
    return list(_places(folder, _json(folder, "manifest.json")).values())


def _entries(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield every file and link in a folder, recursively, with its name relative to the folder."""
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


def _is_desktop_file(name: str, found: dict[str, Path]) -> bool:
    parent, _, last = name.rpartition("/")
    owner = last.removeprefix("._")
    return last in _DESKTOP_FILES or (last != owner and f"{parent}/{owner}".lstrip("/") in found)


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in name)


def read_stored(folder: Path) -> Stored:
    """Read a result folder.

    Args:
        folder: Output of `infarct segment`, or the folder of a scan in `reports/` of
            `infarct bids`.

    Raises:
        InputFileError: If a file is missing or damaged, or if the lesion mask was edited after the
            measurements were made.
    """
    manifest = _checked(folder, "manifest.json", result_schema.MANIFEST)
    written = (manifest.get("outputs") or {}).get(OUTLINE)
    if written is None:
        raise _incomplete(folder, "the checksum of the lesion mask in manifest.json")
    lesion_mask = find_file(folder, OUTLINE, manifest)
    if assets.sha256(lesion_mask) != written:
        raise InputFileError(
            f"{lesion_mask} was edited after it was written, so the measurements do not match it; "
            "copy it elsewhere, segment the scan again with --overwrite-corrected, and pass the "
            "copy to `infarct recompute --mask`"
        )

    def image(name: str) -> Volume:
        return read(find_file(folder, f"{name}.nii.gz", manifest))

    dwi = image("scan/dwi")

    def native(name: str) -> Volume:
        volume = image(name)
        if not volume.grid.matches(dwi.grid):
            raise InputFileError(f"{name}.nii.gz in {folder} is not on the grid of its DWI")
        return volume

    def mask(name: str) -> Volume:
        volume = native(name)
        return volume.like(volume.data > 0.5)

    def present(name: str) -> bool:
        return (folder / name).is_file() or name in _elsewhere(folder, manifest)

    return Stored(
        dwi=dwi,
        b0=native("scan/b0"),
        adc=native("scan/adc"),
        probability=native("lesion_probability"),
        lesion=mask("lesion_mask"),
        brain=mask("brain_mask"),
        second=mask("second_mask") if present(SECOND) else None,
        uncertainty=native("uncertainty") if present("uncertainty.nii.gz") else None,
        lesion_mni=image("mni/lesion_mask").data > 0.5,
        mni_from_native=_matrix(find_file(folder, "mni/mni_from_native.txt", manifest)),
        atlas_from_native=_matrix(find_file(folder, "mni/atlas_from_native.txt", manifest)),
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
    # Only paths inside the dataset: an untrusted manifest must not cause other files to change.
    dataset = home.parent.parent
    return {name: path for name, path in found.items() if dataset in path.parents}


def find_file(folder: Path, name: str, manifest: dict[str, Any] | None = None) -> Path:
    """Return the path of a file of a result, inside or outside its folder.

    Args:
        folder: A result folder.
        name: Name relative to the folder.
        manifest: Content of its manifest, which lists files outside the folder.

    Raises:
        InputFileError: If there is no such file.
    """
    # Look in the folder first: a copy that is being edited contains all files.
    for path in (folder / name, _elsewhere(folder, manifest or {}).get(name)):
        if path and path.is_file():
            return path
    raise _incomplete(folder, name)


def _incomplete(folder: Path, missing: str) -> InputFileError:
    return InputFileError(
        f"{folder} is not a complete result of this version of infarct: {missing} not found; "
        "re-run the original command (in a cohort or BIDS dataset, remove this folder first; for "
        "a BIDS dataset, give the folder of the scan in reports/)"
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
            f"{folder / name} is damaged ({error}); restore it from a backup or segment the scan "
            "again"
        ) from error
    return content


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = result_schema.parse(find_file(folder, name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputFileError(f"{folder / name} is damaged ({error})") from error
    if not _KEYS[name] <= content.keys():
        raise InputFileError(
            f"{folder / name} is damaged: expected the keys {', '.join(sorted(_KEYS[name]))}"
        )
    return content
