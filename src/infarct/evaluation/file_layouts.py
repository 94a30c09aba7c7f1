"""Finds the image of each subject in a directory, in any of three layouts.

- **Files.** `DIR/<subject>.nii.gz`, or with a suffix for the kind of image, such as
  `DIR/<subject>_lesion.nii.gz` or `DIR/<subject>_dwi.nii.gz`, or BIDS names without folders. Files
  with the suffix of another kind are ignored, so masks and images may share a directory.
- **Folders.** `DIR/<subject>/lesion_mask.nii.gz`, as written by `infarct segment`, at any depth.
  The subject is the path of the folder relative to DIR. Other files of a result, such as the
  earlier masks that `infarct recompute` keeps, are ignored.
- **BIDS.** `DIR/.../sub-X/.../sub-X[_ses-Y][_...]_dwi.nii.gz`: a dataset or its derivatives. The
  subject is the name without entities that describe processing. Images in template space are
  ignored.

If a subject has several masks that differ in their label (`desc-lesionAcute`, `label-core`), one
label must be selected. Any other duplicate is an error because the choice is ambiguous, and so is a
mixture of files and folders. Hidden files are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from infarct.core.bids_names import read_name
from infarct.core.errors import InputFileError
from infarct.core.file_search import entries_of, files_below
from infarct.core.serialization import as_utf8

_NAMES = {
    "lesion": (
        *("lesion_mask", "lesion", "lesion_manual", "mask", "msk", "seg", "dseg"),
        *("lesion-msk", "lesion-mask"),
    ),
    "brain": ("brain_mask", "brain"),
    "dwi": ("dwi",),
    "adc": ("adc",),
}
"""File names in a folder, or suffixes of file names, by kind; the usual name first."""

_OTHER_IMAGES = re.compile(
    r"[_-](b0|s0map|sbref|trace|flair|t1w?|t2w?|swi|gre|tmax|cb[fv]|mtt|ncct|ct|ctp|cta"
    r"|prob(ability|seg)?|uncertainty)",
    re.IGNORECASE,
)
"""Suffixes of images of other types."""

_NOT_SUBJECT = {"rec"}
"""Entities that distinguish scans but are usually missing from the names of their masks."""

_LABELLED = re.compile(r"_(?:desc-|label-)?(lesion[A-Z][A-Za-z0-9]*)(?:[_-]mask|[_-]msk)?$")
"""Suffix of a labelled mask, as in `P01_lesionAcute`."""

_NUMBERED = "_desc-lesions_dseg.nii.gz"
"""End of the name of a label map that numbers the lesions, as `infarct bids` writes them."""

_IMAGE = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


@dataclass(frozen=True)
class _Found:
    """An image of one subject.

    Attributes:
        path: Path of the file.
        label: Labelled structure according to the name: the BIDS entity `label`.
        desc: The BIDS entity `desc`, or empty.
    """

    path: Path
    label: str = "lesion"
    desc: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """Values of `--label` that select this image; the most specific last."""
        return (self.label, self.desc) if self.desc else (self.label,)

    @property
    def is_numbered(self) -> bool:
        """Whether it numbers the lesions."""
        return self.path.name.endswith(_NUMBERED)


_FoundBySubject = dict[str, list[_Found]]


def find_images(directory: Path, kind: str, label: str | None = None) -> dict[str, Path]:
    """Find the image of each subject. The layouts are described in this module.

    Args:
        directory: Directory to search.
        kind: "lesion", "brain", "dwi" or "adc".
        label: Value of `desc-` or `label-` that selects the mask, case-insensitive; None if each
            subject has one mask.

    Returns:
        Path by subject, in alphabetical order of subjects.

    Raises:
        InputFileError: If there is no such image, a subject has more than one, or the directory
            mixes files and folders.
    """
    found = _find(directory, kind)
    if label is None:
        kept = {
            subject: _usual(files) if kind == "lesion" else files
            for subject, files in found.items()
        }
    else:
        kept = {subject: _with_label(files, label) for subject, files in found.items()}
        if found and not any(kept.values()):
            known = sorted({name for files in found.values() for f in files for name in f.labels})
            raise InputFileError(
                f"{directory}: no {kind} mask has the label {label!r}; available labels: "
                f"{', '.join(known)}"
            )
    found = {subject: files for subject, files in kept.items() if files}
    if not found:
        raise InputFileError(
            f"{directory}: no {kind} images found; expected <subject>.nii.gz, "
            f"<subject>/{_NAMES[kind][0]}.nii.gz, or BIDS names"
        )
    return {subject: _single(subject, files, kind) for subject, files in sorted(found.items())}


def subjects_with(directory: Path, label: str | None = None) -> set[str]:
    """Return the subjects that have a lesion mask with this label, or any mask if it is None.

    Args:
        directory: As for `find_images`.
        label: As for `find_images`.
    """
    return {
        subject
        for subject, files in _find(directory, "lesion").items()
        if label is None or _with_label(files, label)
    }


def _find(directory: Path, kind: str) -> _FoundBySubject:
    if not directory.is_dir():
        raise InputFileError(
            f"{directory}: directory not found; give a directory with {kind} images"
        )
    images = [path for path in files_below(directory) if _is_image(path)]
    files = _in_files([path for path in images if path.parent == directory], kind)
    folders = _in_folders(directory, [path for path in images if path.parent != directory], kind)
    if files and folders:
        one, other = (next(iter(found.values()))[0].path for found in (files, folders))
        raise InputFileError(
            f"{directory}: contains {kind} images both directly ({one.name}) and in subfolders "
            f"({other.relative_to(directory)}); give a directory that uses one layout"
        )
    return files or folders


def _with_label(files: Sequence[_Found], label: str) -> list[_Found]:
    """Return the masks of a subject with this label; a match in `desc` takes precedence."""
    wanted = label.lower()
    for place in (-1, 0):
        if fitting := [file for file in files if file.labels[place].lower() == wanted]:
            return fitting
    return []


def _usual(files: Sequence[_Found]) -> list[_Found]:
    """Return the masks that are lesion masks by default; `label-L_mask`, for example, is not."""
    usual = [file for file in files if file.label.lower().startswith("lesion")]
    # Next to a mask, the numbered lesions are the same voxels.
    return [file for file in usual if not file.is_numbered] or usual


def _single(subject: str, files: Sequence[_Found], kind: str) -> Path:
    if len(files) == 1:
        return files[0].path
    labels = sorted(file.labels[-1] for file in files)
    if kind == "lesion" and len({label.lower() for label in labels}) == len(files):
        raise InputFileError(
            f"{files[0].path.parent}: {subject} has {len(files)} lesion masks "
            f"({', '.join(file.path.name for file in files)}); select one by its label: "
            f"--label {' or --label '.join(labels)}"
        )
    # For example a manual and an automatic mask: the names do not show which one to use.
    raise InputFileError(
        f"{files[0].path} and {files[1].path.name}: both are {kind} images of {subject}; keep one"
    )


def other_images(directory: Path) -> list[str]:
    """Return the files that are not masks according to their suffix, such as `P01_T1`.

    Args:
        directory: As for `find_images`.
    """
    return [
        as_utf8(path.name)
        for path in entries_of(directory)
        if _is_image(path) and _ends_otherwise(_stem(path))
    ]


def _is_image(path: Path) -> bool:
    # Keep broken links: reading them later raises an error that names the file.
    return bool(_IMAGE.search(path.name)) and (path.is_file() or path.is_symlink())


def _stem(path: Path) -> str:
    return _IMAGE.sub("", path.name)


def _in_files(paths: Iterable[Path], kind: str) -> _FoundBySubject:
    others = tuple(f"_{name}" for role in _NAMES if role != kind for name in _NAMES[role])
    # Longest first: "_brain_mask" and "_lesion_mask" also end in "_mask".
    own = sorted((f"_{name}" for name in _NAMES[kind]), key=len, reverse=True)
    found: _FoundBySubject = {}
    plain: _FoundBySubject = {}
    for path in paths:
        stem = _stem(path)
        if read := _read_bids(stem, path):
            if read[0] == kind:
                _keep(found, read[1], read[2])
            continue
        if kind == "lesion" and (labelled := _LABELLED.search(stem)):
            _keep(found, stem[: labelled.start()], _Found(path, labelled.group(1)))
            continue
        ending = next((suffix for suffix in own if stem.endswith(suffix)), "")
        if any(stem.endswith(other) and len(other) > len(ending) for other in others):
            continue
        if not ending and _ends_otherwise(stem):
            continue
        # If `a_dwi` exists, `a` is a mask.
        kept = plain if kind != "lesion" and not ending else found
        _keep(kept, stem.removesuffix(ending), _Found(path))
    return found or plain


def _ends_otherwise(stem: str) -> bool:
    return any(match.end() == len(stem) for match in _OTHER_IMAGES.finditer(stem))


def _in_folders(directory: Path, paths: Iterable[Path], kind: str) -> _FoundBySubject:
    found: _FoundBySubject = {}
    for path in paths:
        folder, stem = path.parent.relative_to(directory), _stem(path)
        subject = folder.as_posix().removesuffix("/scan")
        if stem in _NAMES[kind]:
            # mni/ contains the same case in template space; scan/ contains the measured images.
            if path.parent.name != "mni":
                _keep(found, subject, _Found(path))
        elif stem.split("_")[0] in folder.parts and (read := _read_bids(stem, path)):
            if read[0] == kind:
                _keep(found, read[1], read[2])
        elif kind == "lesion" and (labelled := _LABELLED.fullmatch(f"_{stem}")):
            _keep(found, subject, _Found(path, labelled.group(1)))
    return found


def _read_bids(stem: str, path: Path) -> tuple[str, str, _Found] | None:
    """Return kind, subject and labels of an image with a BIDS name.

    Returns:
        The kind is "other" for images in template space and for diffusion images of no known kind.
        None if the name is not a BIDS name or does not indicate the kind.
    """
    *words, suffix = stem.split("_")
    # Some datasets use a suffix of several words, as in `sub-1_lesion_mask`.
    shows = "_".join([*(word for word in words if "-" not in word), suffix]).lower()
    name = read_name(f"{'_'.join(word for word in words if '-' in word)}_{suffix}.nii.gz")
    if name is None or "sub" not in name.entities:
        return None
    label, desc = (name.entities.get(key, "") for key in ("label", "desc"))
    if "brain" in (label.lower(), desc.lower()) and shows == "mask":
        kind = "brain"
    elif shows == suffix.lower() and name.role is not None:
        kind = name.role if name.role in _NAMES else "other"
    elif named := [each for each, names in _NAMES.items() if shows in names]:
        kind = named[0]
    else:
        return None
    subject = "_".join(
        f"{key}-{value}" for key, value in name.identity.items() if key not in _NOT_SUBJECT
    )
    return "other" if name.in_template else kind, subject, _Found(path, label or "lesion", desc)


def _keep(found: _FoundBySubject, name: str, file: _Found) -> None:
    found.setdefault(as_utf8(name), []).append(file)
