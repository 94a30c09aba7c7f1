"""Which image is whose, by the layout of a directory.

- **Files.** `DIR/<subject>.nii.gz`, or with one ending that says what it is, such as
  `DIR/<subject>_lesion.nii.gz` or `DIR/<subject>_dwi.nii.gz`. Files with the ending of another kind
  of image are left out, so masks and images may share a directory.
- **Folders.** `DIR/<subject>/lesion_mask.nii.gz`, as `infarct segment` writes them, at any depth;
  the subject is then the path of its folder below DIR. Files of a result with other names, such as
  the outlines that `infarct recompute` keeps, are left out.
- **BIDS.** `DIR/.../sub-X/.../sub-X[_ses-Y][_...]_dwi.nii.gz`, a dataset or derivatives of one; the
  subject is the name without what says how it was made. What lies in a template's space is left
  out.

Two images of one kind of one subject are an error, and so are files beside folders: which is meant
cannot be told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from infarct.errors import InputFileError
from infarct.folders import entries_of, files_below
from infarct.tables import as_utf8

_NAMES = {
    "lesion": ("lesion_mask", "lesion", "lesion_manual", "mask", "msk", "seg", "dseg"),
    "brain": ("brain_mask", "brain"),
    "dwi": ("dwi",),
    "adc": ("adc",),
}
"""What an image may be called in a folder, or end in; the usual name first."""

_OTHER_IMAGES = re.compile(
    r"[_-](b0|s0map|sbref|trace|flair|t1w?|t2w?|swi|gre|tmax|cb[fv]|mtt|ncct|ct|ctp|cta"
    r"|prob(ability|seg)?|uncertainty)",
    re.IGNORECASE,
)
"""Endings of images that are none of these kinds."""

_HOW_MADE = {"desc", "label", "part", "rec", "res", "space"}
"""Entities of BIDS that do not say which scan it is."""

_TEMPLATES = ("mni", "icbm", "talairach")
"""What the name of a template's space begins with."""

_IMAGE = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


def find_images(directory: Path, kind: str) -> dict[str, Path]:
    """Find the image of each subject, by the layouts of this room.

    Args:
        directory: Where to look.
        kind: "lesion", "brain", "dwi" or "adc".

    Returns:
        Path by subject, in alphabetical order of subjects.

    Raises:
        InputFileError: If there is no such image, one subject has two, or some lie in the directory
            and others in folders of it.
    """
    if not directory.is_dir():
        raise InputFileError(f"{directory}: no such directory; give one that holds {kind} images")
    images = [path for path in files_below(directory) if _is_image(path)]
    files = _in_files([path for path in images if path.parent == directory], kind)
    below = [
        path for path in images if path.parent != directory and not _is_hidden(path, directory)
    ]
    folders = _in_folders(directory, below, kind)
    if files and folders:
        raise InputFileError(
            f"{directory}: holds {kind} images itself ({next(iter(files.values())).name}) and in "
            f"folders ({next(iter(folders.values())).relative_to(directory)}); give a directory "
            "with one or the other"
        )
    found = files or folders
    if not found:
        raise InputFileError(
            f"{directory}: holds no {kind} images; expected <subject>.nii.gz, "
            f"<subject>/{_NAMES[kind][0]}.nii.gz, or the names of BIDS"
        )
    return dict(sorted(found.items()))


def other_images(directory: Path) -> list[str]:
    """Return the files that are taken for no mask by the end of their names, as `P01_T1`.

    Args:
        directory: As for `find_images`.
    """
    return [
        as_utf8(path.name)
        for path in entries_of(directory)
        if _is_image(path) and _ends_otherwise(_stem(path))
    ]


def _is_hidden(path: Path, directory: Path) -> bool:
    """Tell whether it is of a result that is being made, say."""
    return any(part.startswith(".") for part in path.relative_to(directory).parts)


def _is_image(path: Path) -> bool:
    # A link that leads nowhere is an image that is not there: whoever reads it says so.
    return bool(_IMAGE.search(path.name)) and (path.is_file() or path.is_symlink())


def _stem(path: Path) -> str:
    return _IMAGE.sub("", path.name)


def _in_files(paths: Iterable[Path], kind: str) -> dict[str, Path]:
    others = tuple(f"_{name}" for role in _NAMES if role != kind for name in _NAMES[role])
    # Longest first: "_brain_mask" also ends in "_mask", and "_lesion_mask" does.
    own = sorted((f"_{name}" for name in _NAMES[kind]), key=len, reverse=True)
    found: dict[str, Path] = {}
    plain: dict[str, Path] = {}
    for path in paths:
        stem = _stem(path)
        ending = next((suffix for suffix in own if stem.endswith(suffix)), "")
        if any(stem.endswith(other) and len(other) > len(ending) for other in others):
            continue
        if not ending and _ends_otherwise(stem):
            continue
        # Beside `a_dwi` the file `a` is a mask.
        kept = plain if kind != "lesion" and not ending else found
        _keep(kept, stem.removesuffix(ending), path, kind)
    return found or plain


def _ends_otherwise(stem: str) -> bool:
    return any(match.end() == len(stem) for match in _OTHER_IMAGES.finditer(stem))


def _in_folders(directory: Path, paths: Iterable[Path], kind: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        folder = path.parent.relative_to(directory)
        if _stem(path) in _NAMES[kind]:
            # mni/ holds the same case again, in template space; scan/ what it was measured on.
            if path.parent.name != "mni":
                _keep(found, folder.as_posix().removesuffix("/scan"), path, kind)
        elif subject := _bids_subject(_stem(path), folder, kind):
            _keep(found, subject, path, kind)
    return found


def _bids_subject(stem: str, folder: Path, kind: str) -> str | None:
    """Return whose image it is by the names of BIDS, or None if it is none of this kind."""
    words = stem.split("_")
    entities = dict(word.split("-", 1) for word in words if "-" in word)
    if words[0] not in folder.parts or "sub" not in entities:
        return None
    shows = "_".join(word for word in words if "-" not in word).lower()
    made = {entities.get(key, "").lower() for key in ("desc", "label", "rec")}
    if shows == "mask" and "brain" in made:
        role = "brain"
    elif shows in ("dwi", "trace"):
        role = "adc" if "adc" in made else "other" if "b0" in made else "dwi"
    else:
        role = next((each for each, names in _NAMES.items() if shows in names), "other")
    if role == "lesion" and entities.get("label", "lesion").lower() != "lesion":
        role = "other"
    if role != kind or entities.get("space", "").lower().startswith(_TEMPLATES):
        return None
    return "_".join(word for word in words if "-" in word and word.split("-")[0] not in _HOW_MADE)


def _keep(found: dict[str, Path], name: str, path: Path, kind: str) -> None:
    subject = as_utf8(name)
    # A manual mask beside an automatic one: by no rule of names is it sure which is meant.
    if subject in found:
        raise InputFileError(
            f"{found[subject]} and {path.name} are both the {kind} of {subject}; keep one"
        )
    found[subject] = path
