"""Finds the diffusion scans of a BIDS dataset by the entities in their names."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infarct.case import CaseFiles
from infarct.errors import InputFileError
from infarct.folders import entries_of
from infarct.intensity import B0_BELOW

_SUFFIXES = {
    **{"dwi": "dwi", "trace": "dwi"},
    **{"S0map": "b0", "b0": "b0", "sbref": "b0"},
    **{"ADC": "adc", "adc": "adc"},
}
_DESCRIBED = {"adc": "adc", "b0": "b0", "trace": "dwi"}
"""What `desc-` of an image with the suffix `dwi` says it is."""

_NATIVE = {"", "orig", "native", "dwi", "scanner", "individual"}
"""Values of `space-` that leave an image where it was scanned."""

_MOST_NAMES = 10

_EXPECTED = "sub-X/[ses-Y/]dwi/sub-X[_ses-Y]_dwi.nii.gz, or _trace and _ADC"

Participants = dict[str, dict[str, dict[str, str]]]
"""Cells by column, by session (`ses-Y`, or empty for any), by label of the participant."""

_ANY_SESSION = ""
"""Stands for the session of a row that names none."""

# What an image shows, not which scan it is from.
_NOT_IDENTITY = {"desc", "space", "res", "part"}


@dataclass(frozen=True)
class Scan:
    """A diffusion scan of a dataset.

    Attributes:
        entities: Of its DWI, in the order of the name: `sub`, `ses`, `acq` ...; none of `desc`,
            `space`, `res`, `part`.
        files: Its images.
        problem: Why it cannot be told which images belong to it, or empty.
    """

    entities: Mapping[str, str]
    files: CaseFiles
    problem: str = ""

    @property
    def name(self) -> str:
        """The entities as they are written in names of files."""
        return "_".join(f"{key}-{value}" for key, value in self.entities.items())


@dataclass(frozen=True)
class _Image:
    """An image and what its name says.

    Attributes:
        path: Of the file.
        role: `dwi`, `b0` or `adc`.
        suffix: Last word of the name.
        entities: Which scan it is from.
        raw: It lies in the dataset itself, not in one of its derivatives.
    """

    path: Path
    role: str
    suffix: str
    entities: tuple[tuple[str, str], ...]
    raw: bool


def find_scans(
    root: Path, participants: Sequence[str] = (), sessions: Sequence[str] = ()
) -> list[Scan]:
    """Find the diffusion scans of a dataset: raw, and in what others derived from it.

    Args:
        root: Folder of the dataset.
        participants: Labels, with or without `sub-`; all if empty.
        sessions: Labels, with or without `ses-`; all if empty.

    Returns:
        One scan for each set of entities that has a DWI, sorted.

    Raises:
        InputFileError: If it is no BIDS dataset, or nothing is found, or a label that was given is
            not there or has no scan.
    """
    root = root.resolve()
    if not (root / "dataset_description.json").is_file():
        raise InputFileError(
            f"{root}: has no dataset_description.json; the root of a BIDS dataset is expected"
        )
    wanted = list(dict.fromkeys(label.removeprefix("sub-") for label in participants))
    known = {path.name.removeprefix("sub-") for path in root.glob("sub-*") if path.is_dir()}
    if absent := [label for label in wanted if label not in known]:
        raise InputFileError(
            f"{root}: has no sub-{', sub-'.join(absent)}; it has {len(known)} others"
        )
    chosen = {label.removeprefix("ses-") for label in sessions}
    images: dict[tuple[str, str], list[_Image]] = {}
    for image in _images(root, wanted or sorted(known)):
        entities = dict(image.entities)
        images.setdefault((entities["sub"], entities.get("ses", "")), []).append(image)
    scans = [
        scan
        for (_, session), group in sorted(images.items())
        if not chosen or session in chosen
        for scan in _scans(group, root)
    ]
    if not scans:
        of = f" of ses-{', ses-'.join(sorted(chosen))}" if chosen else ""
        raise InputFileError(
            f"{root}: no diffusion scan{of} was found among {len(wanted or known)} participants; "
            f"images are expected as {_EXPECTED}"
        )
    # Who is asked for by name and is nowhere in the results would hardly be missed.
    bare = [f"sub-{label}" for label in wanted if label not in {s.entities["sub"] for s in scans}]
    bare += [f"ses-{s}" for s in sorted(chosen - {s.entities.get("ses", "") for s in scans})]
    if bare:
        raise InputFileError(
            f"{root}: no diffusion scan of {', '.join(bare)} was found; images are expected as "
            f"{_EXPECTED}"
        )
    return scans


def join_participants(scans: Sequence[Scan], root: Path) -> dict[str, dict[str, str]]:
    """Return what `participants.tsv` says of each scan, by the name of the scan.

    Args:
        scans: Of the dataset.
        root: Its folder; the table may be missing.

    Raises:
        InputFileError: If the table is there and cannot be read, or has two rows of one participant
            that no session tells apart.
    """
    table = read_participants(root / "participants.tsv")
    joined = {}
    for scan in scans:
        who = {"participant_id": f"sub-{scan.entities['sub']}", "session_id": _session_of(scan)}
        joined[scan.name] = {**row_of(scan, table), **who}
    return joined


def row_of(scan: Scan, table: Participants) -> dict[str, str]:
    """Return what a table says of a scan, by column; nothing if no row is about it."""
    rows, session = table.get(scan.entities["sub"], {}), _session_of(scan)
    if len(rows) == 1 and (_ANY_SESSION in rows or session == "n/a"):
        # What is said of a participant once holds for all sessions, unless it names one.
        (row,) = rows.values()
        return row
    return rows.get(session, {})


def _session_of(scan: Scan) -> str:
    return f"ses-{scan.entities['ses']}" if "ses" in scan.entities else "n/a"


def read_participants(path: Path) -> Participants:
    """Read `participants.tsv`; nothing if it is not there.

    Raises:
        InputFileError: If it cannot be read, or has two rows of one participant and session.
    """
    if not path.is_file():
        return {}
    table: Participants = {}
    doubled: dict[str, None] = {}
    try:
        # Lines end where a table's do: text has more marks that end one.
        text = io.StringIO(path.read_text("utf-8-sig"))
        for row in csv.DictReader(text, delimiter="\t", strict=True):
            participant = row["participant_id"].strip()
            if not participant:
                continue
            rows = table.setdefault(participant.removeprefix("sub-"), {})
            label = (row.get("session_id") or "").strip().removeprefix("ses-")
            session = f"ses-{label}" if label not in {"", "n/a"} else _ANY_SESSION
            if session in rows:
                doubled[participant] = None
            # A tab too many at the end of a line makes a cell without a name.
            rows[session] = {name: cell for name, cell in row.items() if name}
    except (OSError, UnicodeDecodeError, KeyError, AttributeError, csv.Error) as error:
        raise InputFileError(
            f"{path}: cannot be read ({error}); a table with tabs and a column participant_id "
            "is expected"
        ) from error
    if doubled:
        names = f"{', '.join([*doubled][:_MOST_NAMES])} ({len(doubled)} in all)"
        raise InputFileError(
            f"{path}: has several rows of {names}; keep one of each, or tell visits apart by a "
            "column session_id"
        )
    return table


def _images(root: Path, participants: Sequence[str]) -> Iterator[_Image]:
    roots = [root, *sorted(path for path in root.glob("derivatives/*") if path.is_dir())]
    for label in participants:
        for place in roots:
            if place != root and _is_ours(place):
                continue
            for path in files_of(place / f"sub-{label}"):
                image = _image(path, raw=place == root)
                if image is not None and dict(image.entities).get("sub") == label:
                    yield image


def files_of(home: Path) -> Iterator[Path]:
    """Find what looks like an image in the folders `dwi` of a participant.

    Args:
        home: Folder of the participant; it may be missing.

    Raises:
        InputFileError: If a folder of it cannot be read.
    """
    sessions = [path for path in entries_of(home) if path.name.startswith("ses-")]
    for folder in (home, *sessions):
        for path in entries_of(folder / "dwi"):
            if ".nii" in path.name.lower():
                yield path


def _is_ours(derivatives: Path) -> bool:
    """Tell whether a folder of derivatives was made by this software: no input for itself."""
    try:
        return '"infarct"' in (derivatives / "dataset_description.json").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def read_name(path: Path) -> tuple[dict[str, str], str] | None:
    """Read a name: its entities and its suffix; None if it is none of what is looked for."""
    stem = re.sub(r"\.nii(\.gz)?$", "", path.name)
    *parts, suffix = stem.split("_")
    pairs = [part.partition("-") for part in parts]
    if stem == path.name or suffix not in _SUFFIXES or not all(value for _, _, value in pairs):
        return None
    return {key: value for key, _, value in pairs}, suffix


def _image(path: Path, *, raw: bool) -> _Image | None:
    """Return an image by its name; None if it is none in the space of the scan."""
    name = read_name(path)
    if name is None:
        return None
    entities, suffix = name
    if entities.get("space", "") not in _NATIVE or entities.get("part", "mag") != "mag":
        return None
    role = _SUFFIXES[suffix]
    if suffix == "dwi":
        role = _DESCRIBED.get(entities.get("desc", "").lower(), role)
    identity = tuple((k, v) for k, v in entities.items() if k not in _NOT_IDENTITY)
    return _Image(path, role, suffix, identity, raw)


def _scans(images: Sequence[_Image], root: Path) -> Iterator[Scan]:
    """Put the images of one session together into scans."""
    candidates: dict[frozenset[tuple[str, str]], list[tuple[int, _Image, CaseFiles]]] = {}
    others = []
    for image in images:
        if image.role != "dwi":
            others.append(image)
            continue
        bval = _inherited_bval(image.path, root)
        bvalues = _bvalues(bval) if image.suffix == "dwi" else []
        if bvalues and max(bvalues) < B0_BELOW:
            # Reversed phase encoding, or a b0 saved on its own.
            if len(bvalues) == 1:
                others.append(_Image(image.path, "b0", "b0", image.entities, image.raw))
            continue
        series = len(bvalues) > 1
        files = CaseFiles(
            image.path,
            bvalue=bvalues[0] if len(bvalues) == 1 else None,
            bval=bval if series else None,
        )
        # The series holds all there is; next what the scanner itself averaged.
        rank = 0 if series else 1 if image.suffix == "trace" else 2
        candidates.setdefault(frozenset(image.entities), []).append((rank, image, files))
    for group in candidates.values():
        first = min((rank, not image.raw) for rank, image, _ in group)
        fitting = [each for each in group if (each[0], not each[1].raw) == first]
        rank, image, files = fitting[0]
        # A series has its own b0, unless the scanner saved that apart.
        own_b0 = rank == 0 and min(_bvalues(files.bval)) < B0_BELOW
        needs = ("adc",) if own_b0 else ("b0", "adc")
        doubled = [each for _, each, _ in fitting] if len(fitting) > 1 else []
        problems, found = [_doubt("dwi", doubled, root)] if doubled else [], {}
        for role in needs:
            best = _companions(image, [other for other in others if other.role == role])
            if len(best) > 1:
                problems.append(_doubt(role, best, root))
            elif best:
                found[role] = best[0].path
        yield Scan(
            dict(image.entities),
            CaseFiles(
                image.path, found.get("b0"), found.get("adc"), files.bvalue, None, files.bval
            ),
            "; ".join(problems),
        )


def _doubt(role: str, images: Sequence[_Image], root: Path) -> str:
    names = ", ".join(image.path.relative_to(root).as_posix() for image in images)
    return f"{len(images)} images could be its {role} ({names}): no entity tells which"


def _companions(dwi: _Image, others: Sequence[_Image]) -> list[_Image]:
    """Return the images that contradict no entity of the DWI and share most; raw before derived."""
    own = dict(dwi.entities)
    ranked: dict[tuple[bool, int], list[_Image]] = {}
    for other in others:
        theirs = dict(other.entities)
        # An image of reversed phase encoding says so, where the DWI may say nothing.
        reversed_b0 = other.role == "b0" and "dir" in theirs and "dir" not in own
        if reversed_b0:
            continue
        if all(theirs[key] == own[key] for key in own.keys() & theirs.keys()):
            different = len(own.keys() ^ theirs.keys())
            ranked.setdefault((not other.raw, different), []).append(other)
    return ranked[min(ranked)] if ranked else []


def _inherited_bval(image: Path, root: Path) -> Path | None:
    """Find the `.bval` of an image: beside it, or further up as BIDS lets files be inherited."""
    stem = re.sub(r"\.nii(\.gz)?$", "", image.name)
    own = set(stem.split("_"))
    folder = image.parent
    while True:
        fitting = [path for path in folder.glob("*.bval") if set(path.stem.split("_")) <= own]
        if fitting:
            return max(fitting, key=lambda path: len(path.stem.split("_")))
        if folder in (root, root.parent) or folder == folder.parent:
            return None
        folder = folder.parent


def _bvalues(path: Path | None) -> list[float]:
    """Read b-values; what is no number is left to be told when the case is opened."""
    try:
        return [float(word) for word in path.read_text("utf-8").split()] if path else []
    except (OSError, ValueError):
        return []
