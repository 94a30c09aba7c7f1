"""Finds the image of each subject in a directory, whatever its layout.

- **Files.** `DIR/<subject>.nii.gz`, or with one ending that says what it is, such as
  `DIR/<subject>_lesion.nii.gz` or `DIR/<subject>_dwi.nii.gz`, or BIDS names without their folders.
  Files with the ending of another kind of image are left out, so masks and images may share a
  directory.
- **Folders.** `DIR/<subject>/lesion_mask.nii.gz`, as `infarct segment` writes them, at any depth;
  the subject is then the path of its folder below DIR. Files of a result with other names, such as
  the outlines that `infarct recompute` keeps, are left out.
- **BIDS.** `DIR/.../sub-X/.../sub-X[_ses-Y][_...]_dwi.nii.gz`, a dataset or derivatives of one; the
  subject is the name without what says how it was made. What lies in a template's space is left
  out.

Several masks of one subject that differ in their label (`desc-lesionAcute`, `label-core`) need a
choice. All other images of one kind of one subject are an error, and so are files beside folders:
which is meant cannot be known. Hidden files are ignored.
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
"""What an image may be called in a folder, or end in; the usual name first."""

_OTHER_IMAGES = re.compile(
    r"[_-](b0|s0map|sbref|trace|flair|t1w?|t2w?|swi|gre|tmax|cb[fv]|mtt|ncct|ct|ctp|cta"
    r"|prob(ability|seg)?|uncertainty)",
    re.IGNORECASE,
)
"""Endings of images that are none of these kinds."""

_NOT_SUBJECT = {"rec"}
"""Entities that tell scans apart but that masks of them mostly lack."""

_LABELLED = re.compile(r"_(?:desc-|label-)?(lesion[A-Z][A-Za-z0-9]*)(?:[_-]mask|[_-]msk)?$")
"""Ending of a file of a labelled mask, as `P01_lesionAcute`."""

_IMAGE = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


@dataclass(frozen=True)
class _Found:
    """An image of a subject.

    Attributes:
        path: Of the file.
        label: What its name says it outlines: `label-` of BIDS.
        desc: `desc-` of BIDS, or empty.
    """

    path: Path
    label: str = "lesion"
    desc: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """What `--label` may call it; the most telling last."""
        return (self.label, self.desc) if self.desc else (self.label,)


_FoundBySubject = dict[str, list[_Found]]


def find_images(directory: Path, kind: str, label: str | None = None) -> dict[str, Path]:
    """Find the image of each subject, by the layouts of this module.

    Args:
        directory: Where to look.
        kind: "lesion", "brain", "dwi" or "adc".
        label: Which masks are meant, by what `desc-` or `label-` says of them, in any case; None
            where each subject has one.

    Returns:
        Path by subject, in alphabetical order of subjects.

    Raises:
        InputFileError: If there is no such image, one subject has two, or some lie in the directory
            and others in folders of it.
    """
    found = _find(directory, kind)
    if label is None:
        kept = {
            subject: [file for file in files if kind != "lesion" or _is_usual(file)]
            for subject, files in found.items()
        }
    else:
        kept = {subject: _with_label(files, label) for subject, files in found.items()}
        if found and not any(kept.values()):
            known = sorted({name for files in found.values() for f in files for name in f.labels})
            raise InputFileError(
                f"{directory}: no {kind} mask is labelled {label!r}; the labels there are "
                f"{', '.join(known)}"
            )
    found = {subject: files for subject, files in kept.items() if files}
    if not found:
        raise InputFileError(
            f"{directory}: holds no {kind} images; expected <subject>.nii.gz, "
            f"<subject>/{_NAMES[kind][0]}.nii.gz, or the names of BIDS"
        )
    return {subject: _single(subject, files, kind) for subject, files in sorted(found.items())}


def subjects_with(directory: Path, label: str | None = None) -> set[str]:
    """Return the subjects that have a lesion mask with a label, or with any.

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
        raise InputFileError(f"{directory}: no such directory; give one that holds {kind} images")
    images = [path for path in files_below(directory) if _is_image(path)]
    files = _in_files([path for path in images if path.parent == directory], kind)
    folders = _in_folders(directory, [path for path in images if path.parent != directory], kind)
    if files and folders:
        one, other = (next(iter(found.values()))[0].path for found in (files, folders))
        raise InputFileError(
            f"{directory}: holds {kind} images itself ({one.name}) and in folders "
            f"({other.relative_to(directory)}); give a directory with one or the other"
        )
    return files or folders


def _with_label(files: Sequence[_Found], label: str) -> list[_Found]:
    """Return the masks of a subject that have a label; those it describes best, if any."""
    wanted = label.lower()
    for place in (-1, 0):
        if fitting := [file for file in files if file.labels[place].lower() == wanted]:
            return fitting
    return []


def _is_usual(file: _Found) -> bool:
    """Tell whether a mask counts unasked: `label-L_mask` outlines something else than a lesion."""
    return file.label.lower().startswith("lesion")


def _single(subject: str, files: Sequence[_Found], kind: str) -> Path:
    if len(files) == 1:
        return files[0].path
    labels = sorted(file.labels[-1] for file in files)
    if kind == "lesion" and len({label.lower() for label in labels}) == len(files):
        raise InputFileError(
            f"{files[0].path.parent}: {subject} has {len(files)} lesion masks "
            f"({', '.join(file.path.name for file in files)}); choose one by its label: "
            f"--label {' or --label '.join(labels)}"
        )
    # A manual mask beside an automatic one: names do not say for sure which is meant.
    raise InputFileError(
        f"{files[0].path} and {files[1].path.name} are both the {kind} of {subject}; keep one"
    )


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


def _is_image(path: Path) -> bool:
    # A link that leads nowhere is an image that is not there: whoever reads it says so.
    return bool(_IMAGE.search(path.name)) and (path.is_file() or path.is_symlink())


def _stem(path: Path) -> str:
    return _IMAGE.sub("", path.name)


def _in_files(paths: Iterable[Path], kind: str) -> _FoundBySubject:
    others = tuple(f"_{name}" for role in _NAMES if role != kind for name in _NAMES[role])
    # Longest first: "_brain_mask" also ends in "_mask", and "_lesion_mask" does.
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
        # Beside `a_dwi` the file `a` is a mask.
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
            # mni/ holds the same case again, in template space; scan/ what it was measured on.
            if path.parent.name != "mni":
                _keep(found, subject, _Found(path))
        elif stem.split("_")[0] in folder.parts and (read := _read_bids(stem, path)):
            if read[0] == kind:
                _keep(found, read[1], read[2])
        elif kind == "lesion" and (labelled := _LABELLED.fullmatch(f"_{stem}")):
            _keep(found, subject, _Found(path, labelled.group(1)))
    return found


def _read_bids(stem: str, path: Path) -> tuple[str, str, _Found] | None:
    """Return kind, subject and labels of an image named as in BIDS.

    Returns:
        The kind is "other" for diffusion images that are none of the kinds, and in the space of a
        template. None if the name is not one of BIDS, or says nothing of the kinds.
    """
    *words, suffix = stem.split("_")
    # Some write more than one word behind the entities, as in `sub-1_lesion_mask`.
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
