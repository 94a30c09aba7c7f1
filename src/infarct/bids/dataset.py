"""Finds the diffusion scans of a BIDS dataset by the entities in their file names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from infarct.core.bids_names import Name, Role, read_name, stem_of
from infarct.core.bvalues import read_bvalues
from infarct.core.diffusion import B0_BELOW
from infarct.core.errors import InputFileError
from infarct.core.file_search import entries_of, matching
from infarct.preprocessing.case import CaseFiles

_EXPECTED = "sub-X/[ses-Y/]dwi/sub-X[_ses-Y]_dwi.nii.gz, or _trace and _ADC"

_DATATYPES = ("dwi", "perf", "")
"""Folders of a session that contain diffusion images; ISLES'24 uses the session folder itself."""


@dataclass(frozen=True)
class BidsScan:
    """A diffusion scan of a dataset.

    Attributes:
        entities: Entities of the DWI in file name order (`sub`, `ses`, `acq`, ...), without those
            that describe the kind of image (`desc`, `space`, `rec-TRACE`, ...).
        files: Images of the scan.
        problem: Why its images cannot be identified, or empty.
    """

    entities: Mapping[str, str]
    files: CaseFiles
    problem: str = ""

    @property
    def name(self) -> str:
        """The entities as written in file names."""
        return "_".join(f"{key}-{value}" for key, value in self.entities.items())


@dataclass(frozen=True)
class _Image:
    """An image and the information in its file name.

    Attributes:
        path: Path of the file.
        role: Kind of image; the b-values take precedence over the name.
        name: Parsed file name.
        raw: Whether it belongs to the dataset itself rather than to one of its derivatives.
        bvalue: s/mm^2; b-value of a b0.
    """

    path: Path
    role: Role
    name: Name
    raw: bool
    bvalue: float = 0.0

    @property
    def identity(self) -> frozenset[tuple[str, str]]:
        """The entities that identify the scan."""
        return frozenset(self.name.identity.items())


@dataclass(frozen=True)
class _Candidate:
    """A DWI that may be used to segment a scan.

    Attributes:
        image: The DWI.
        files: The DWI alone, with its b-values.
        rank: 0 for a complete series, 1 for an image labelled as trace, 2 for any other.
        own_b0: Whether it is a series that includes a b0.
    """

    image: _Image
    files: CaseFiles
    rank: int
    own_b0: bool

    @property
    def order(self) -> tuple[bool, int, bool]:
        """Sort key: native space first, then by rank, then raw before derived."""
        return bool(self.image.name.space), self.rank, not self.image.raw


@dataclass(frozen=True)
class Unused:
    """Diffusion images with valid names that no scan uses.

    Attributes:
        maps: Parameter maps other than ADC.
        ambiguous: b0 and ADC that match several scans.
        unclaimed: b0 and ADC that match no scan.
    """

    maps: tuple[str, ...]
    ambiguous: tuple[str, ...]
    unclaimed: tuple[str, ...]


def find_scans(
    root: Path,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    b0_below: float = B0_BELOW,
) -> list[BidsScan]:
    """Find the diffusion scans of a dataset, raw or in derivatives of other software.

    Args:
        root: Dataset folder.
        participants: Labels, with or without `sub-`; all if empty.
        sessions: Labels, with or without `ses-`; all if empty.
        b0_below: s/mm^2; volumes with a lower b-value are b0.

    Returns:
        One scan for each set of entities that has a DWI, sorted.

    Raises:
        InputFileError: If `root` is not a BIDS dataset, no scan is found, or a requested label
            does not exist or has no scan.
    """
    root = root.resolve()
    known = {path.name.removeprefix("sub-") for path in participants_of(root)}
    if not known and not (root / "dataset_description.json").is_file():
        raise InputFileError(
            f"{root}: no dataset_description.json and no sub-* folder found; give the root folder "
            "of a BIDS dataset"
        )
    wanted = list(dict.fromkeys(label.removeprefix("sub-") for label in participants))
    if absent := [label for label in wanted if label not in known]:
        raise InputFileError(
            f"{root}: sub-{', sub-'.join(absent)} not found among {len(known)} participants"
        )
    chosen = {label.removeprefix("ses-") for label in sessions}
    scans = [
        scan
        for (_, session), group in _sessions(root, wanted or sorted(known))
        if not chosen or session in chosen
        for scan in _scans(group, root, b0_below)
    ]
    if not scans:
        where = f" for ses-{', ses-'.join(sorted(chosen))}" if chosen else ""
        raise InputFileError(
            f"{root}: no diffusion scan found{where} in {len(wanted or known)} participants; "
            f"expected file names: {_EXPECTED}"
        )
    # Requested labels must not be skipped silently.
    empty = [f"sub-{label}" for label in wanted if label not in {s.entities["sub"] for s in scans}]
    empty += [f"ses-{s}" for s in sorted(chosen - {s.entities.get("ses", "") for s in scans})]
    if empty:
        raise InputFileError(
            f"{root}: no diffusion scan found for {', '.join(empty)}; expected file names: "
            f"{_EXPECTED}"
        )
    return scans


def participants_of(root: Path) -> list[Path]:
    """Return the participant folders of a dataset in alphabetical order."""
    return [path for path in matching(root, "sub-*") if path.is_dir()]


def unused(root: Path, b0_below: float = B0_BELOW) -> Unused:
    """Find the diffusion images that no scan of a dataset uses.

    Args:
        root: Dataset folder.
        b0_below: As for `find_scans`.

    Raises:
        InputFileError: If a folder cannot be read.
    """
    root = root.resolve()
    maps: list[str] = []
    ambiguous: list[str] = []
    unclaimed: list[str] = []
    labels = [path.name.removeprefix("sub-") for path in participants_of(root)]
    for _, images in _sessions(root, labels):
        candidates, companions = _sorted_by_role(images, root, b0_below)
        chosen = [_best(group)[0] for group in candidates]
        # A session without a DWI is reported once, not file by file.
        for other in companions if chosen else ():
            claims = len(_claims(other, chosen))
            if claims != 1:
                (ambiguous if claims else unclaimed).append(_below(other.path, root))
        maps += [_below(image.path, root) for image in images if image.role == "map" and image.raw]
    return Unused(tuple(maps), tuple(ambiguous), tuple(unclaimed))


def _sessions(
    root: Path, participants: Sequence[str]
) -> list[tuple[tuple[str, str], list[_Image]]]:
    """Group the diffusion images of the given participants by participant and session."""
    images: dict[tuple[str, str], list[_Image]] = {}
    for image in _images(root, participants):
        entities = image.name.entities
        images.setdefault((entities["sub"], entities.get("ses", "")), []).append(image)
    return sorted(images.items())


def _images(root: Path, participants: Sequence[str]) -> Iterator[_Image]:
    derivatives = root / "derivatives"
    derived = [path for path in matching(derivatives, "*") if not path.name.startswith("sub-")]
    # ISLES stores derivatives without a folder per software.
    derived = [derivatives, *(path for path in derived if path.is_dir())]
    roots = [root, *(place for place in derived if not _is_ours(place))]
    for label in participants:
        for place in roots:
            for path in files_of(place / f"sub-{label}"):
                image = _image(path, raw=place == root)
                if image is not None and image.name.entities.get("sub") == label:
                    yield image


def files_of(home: Path, datatypes: Sequence[str] = _DATATYPES) -> Iterator[Path]:
    """Find the NIfTI files of a participant.

    Args:
        home: Participant folder; it may be missing.
        datatypes: Folders to search in the participant folder and in each session; an empty
            string is the participant or session folder itself.

    Raises:
        InputFileError: If a folder cannot be read.
    """
    sessions = [path for path in entries_of(home) if path.name.startswith("ses-")]
    for folder in (home, *sessions):
        for datatype in datatypes:
            for path in entries_of(folder / datatype):
                if ".nii" in path.name.lower() and not path.is_dir():
                    yield path


def _is_ours(derivatives: Path) -> bool:
    """Return whether derivatives were written by infarct and are therefore not inputs."""
    try:
        return '"infarct"' in (derivatives / "dataset_description.json").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _image(path: Path, *, raw: bool) -> _Image | None:
    """Parse a file name; None if it is not a magnitude image outside template space."""
    name = read_name(path.name)
    if name is None or name.role is None or name.in_template:
        return None
    if name.entities.get("part", "mag") != "mag":
        return None
    return _Image(path, name.role, name, raw)


def _scans(images: Sequence[_Image], root: Path, b0_below: float) -> Iterator[BidsScan]:
    """Group the images of one session into scans."""
    groups, companions = _sorted_by_role(images, root, b0_below)
    chosen = [_best(group)[0] for group in groups]
    claims = {other.path: _claims(other, chosen) for other in companions}
    for group, best in zip(groups, chosen, strict=True):
        rivals = [candidate.image for candidate in _best(group)]
        problems = [_doubt("dwi", rivals, root)] if len(rivals) > 1 else []
        found: dict[str, _Image] = {}
        shared: list[str] = []
        for role in ("adc",) if best.own_b0 else ("b0", "adc"):
            of_role = [other for other in companions if other.role == role]
            fitting = _closest(best, [o for o in of_role if claims[o.path] == [best]])
            if len(fitting) > 1:
                problems.append(_doubt(role, fitting, root))
            elif fitting:
                found[role] = fitting[0]
            elif torn := [o for o in of_role if best in claims[o.path]]:
                shared += [_shared(role, torn[0], claims[torn[0].path], root)]
        # An ambiguous companion matters only if the scan has no other companion.
        problems += shared if not found and not best.own_b0 else []
        files = best.files
        if "adc" in found:
            files = replace(files, adc=found["adc"].path)
        if "b0" in found:
            files = replace(files, b0=found["b0"].path, b0_bvalue=found["b0"].bvalue)
        yield BidsScan(best.image.name.identity, files, "; ".join(problems))


def _sorted_by_role(
    images: Sequence[_Image], root: Path, b0_below: float
) -> tuple[list[list[_Candidate]], list[_Image]]:
    """Return the DWI of one session grouped by scan, and its b0 and ADC images."""
    candidates: dict[frozenset[tuple[str, str]], list[_Candidate]] = {}
    companions = []
    for image in (_with_low_bvalue(image, b0_below) for image in images):
        if image.role in ("b0", "adc"):
            companions.append(image)
        if image.role != "dwi":
            continue
        bval = _inherited_bval(image.path, root)
        bvalues = _bvalues(bval)
        named = image.name.described
        if bvalues and max(bvalues) < b0_below and not named:
            # Reversed phase encoding, or a b0 saved separately.
            if len(bvalues) == 1:
                companions.append(replace(image, role="b0", bvalue=bvalues[0]))
            continue
        series = len(bvalues) > 1
        single = bvalues[0] if len(bvalues) == 1 else image.name.bvalue
        files = CaseFiles(
            image.path,
            bvalue=None if series else single,
            bval=bval if series else None,
            b0_below=b0_below,
        )
        rank = 1 if named else 0 if series else 2
        own_b0 = rank == 0 and min(bvalues) < b0_below
        candidate = _Candidate(image, files, rank, own_b0)
        candidates.setdefault(image.identity, []).append(candidate)
    return list(candidates.values()), companions


def _with_low_bvalue(image: _Image, b0_below: float) -> _Image:
    """Return an image with a low b-value in its name (`acq-b50_dwi`) as b0."""
    bvalue = image.name.bvalue
    if image.role != "dwi" or bvalue is None or bvalue >= b0_below:
        return image
    word = f"b{bvalue:g}"
    identity = {k: v for k, v in image.name.identity.items() if v.lower() != word}
    return replace(image, role="b0", name=replace(image.name, identity=identity), bvalue=bvalue)


def _best(group: Sequence[_Candidate]) -> list[_Candidate]:
    """Return the preferred DWI of a scan; more than one if they rank equally."""
    first = min(candidate.order for candidate in group)
    return [candidate for candidate in group if candidate.order == first]


def _claims(other: _Image, chosen: Sequence[_Candidate]) -> list[_Candidate]:
    """Return the scans that a b0 or ADC may belong to: those that share most entities with it.

    An image that is consistent with several scans and equally close to each, such as an ADC without
    `run-` next to two runs, may belong to any of them.
    """
    theirs = other.name.identity
    ranked: dict[int, list[_Candidate]] = {}
    for candidate in chosen:
        own = candidate.image.name.identity
        # Reversed phase encoding is marked with `dir-`, which the DWI itself may lack.
        reversed_b0 = other.role == "b0" and "dir" in theirs and "dir" not in own
        same_space = other.name.space == candidate.image.name.space
        agrees = all(theirs[key] == own[key] for key in own.keys() & theirs.keys())
        if same_space and agrees and not reversed_b0:
            ranked.setdefault(len(own.keys() ^ theirs.keys()), []).append(candidate)
    return ranked[min(ranked)] if ranked else []


def _closest(best: _Candidate, fitting: Sequence[_Image]) -> list[_Image]:
    """Return the b0 or ADC images that share most entities with a scan; raw before derived."""
    own = best.image.identity
    ranked: dict[tuple[bool, int], list[_Image]] = {}
    for other in fitting:
        ranked.setdefault((not other.raw, len(own ^ other.identity)), []).append(other)
    return ranked[min(ranked)] if ranked else []


def _doubt(role: str, images: Sequence[_Image], root: Path) -> str:
    names = ", ".join(_below(image.path, root) for image in images)
    return f"{len(images)} images match its {role} ({names}) and no entity distinguishes them"


def _shared(role: str, image: _Image, claims: Sequence[_Candidate], root: Path) -> str:
    names = ", ".join(
        "_".join(f"{key}-{value}" for key, value in candidate.image.name.identity.items())
        for candidate in claims
    )
    return (
        f"{_below(image.path, root)} could be the {role} of {names}; add the entity that "
        "distinguishes them to its file name"
    )


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _inherited_bval(image: Path, root: Path) -> Path | None:
    """Find the `.bval` of an image, following the BIDS inheritance principle."""
    stem = stem_of(image.name)
    own = set(stem.split("_"))
    folder = image.parent
    while True:
        fitting = [
            path
            for path in matching(folder, "*.*")
            if path.suffix.lower() in (".bval", ".bvals")
            and set(path.stem.split("_")) <= own
            and not _is_of_another(path, stem)
        ]
        if fitting:
            return max(fitting, key=lambda path: len(path.stem.split("_")))
        if folder in (root, root.parent) or folder == folder.parent:
            return None
        folder = folder.parent


def _is_of_another(bval: Path, stem: str) -> bool:
    """Return whether a `.bval` belongs to another image, e.g. to the series of a trace."""
    endings = (".nii.gz", ".nii")
    return bval.stem != stem and any(
        os.path.lexists(bval.with_name(f"{bval.stem}{ending}")) for ending in endings
    )


def _bvalues(path: Path | None) -> list[float]:
    """Read b-values; a damaged file is reported later, when the case is loaded."""
    try:
        return read_bvalues(path).tolist() if path else []
    except InputFileError:
        return []
