"""Blinded double reading: two readers, their agreement, and adjudication by a third.

Each reader draws a mask without seeing that of the other. While a reading is open, the server hands
out neither the first mask nor, if so requested, anything that shows the automatic one. Once both
masks are submitted, the agreement is computed with the functions of `infarct evaluate`, and a third
reader decides on the mask, which is saved with `recompute`.
"""

from __future__ import annotations

import json
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from infarct.core.atomic_write import atomic_file, workplace
from infarct.core.errors import InputFileError
from infarct.core.nifti import read
from infarct.core.serialization import write_json
from infarct.evaluation.metrics import score
from infarct.evaluation.statistics import bland_altman, icc
from infarct.web.editing import write_labels

READERS = 2


@dataclass(frozen=True)
class Reader:
    """One reading.

    Attributes:
        name: Name of the reader.
        key: Secret of the reader's browser; without it, no mask is accepted or handed out.
        submitted: Date and time, ISO 8601; empty until the mask is submitted.
    """

    name: str
    key: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)
    submitted: str = ""


@dataclass(frozen=True)
class DoubleReading:
    """The double reading of one scan.

    Attributes:
        hide_automatic: Whether the automatic result is hidden until both masks are submitted.
        readers: Up to two readers, in the order in which they started.
        agreement: See `compare`; None until both masks are submitted.
        adjudicated_by: Name of the third reader; empty until the mask is decided.
    """

    hide_automatic: bool = True
    readers: tuple[Reader, ...] = ()
    agreement: dict[str, Any] | None = None
    adjudicated_by: str = ""

    @property
    def complete(self) -> bool:
        """Whether both masks are submitted."""
        return len(self.readers) == READERS and all(each.submitted for each in self.readers)

    @property
    def blinds(self) -> bool:
        """Whether the automatic result must not be shown."""
        return bool(self.readers) and self.hide_automatic and not self.complete

    @property
    def status(self) -> str:
        """State in a few words, for the worklist."""
        if not self.readers:
            return ""
        if self.adjudicated_by:
            return f"adjudicated by {self.adjudicated_by}"
        done = sum(bool(each.submitted) for each in self.readers)
        return "to be adjudicated" if self.complete else f"{done} of {READERS} readings"

    def public(self) -> dict[str, Any]:
        """Return what the page may know: everything except the keys."""
        return {
            "hide_automatic": self.hide_automatic,
            "complete": self.complete,
            "blinded": self.blinds,
            "readers": [{"name": r.name, "submitted": r.submitted} for r in self.readers],
            "agreement": self.agreement,
            "adjudicated_by": self.adjudicated_by,
            "status": self.status,
        }


class Readings:
    """Reads and writes the double readings of all scans.

    Args:
        folder: Folder with one subfolder per scan.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, scan: str) -> DoubleReading:
        """Return the double reading of a scan; an empty one if it has none."""
        try:
            content = json.loads((self._folder / scan / "reading.json").read_text("utf-8"))
            readers = tuple(Reader(**each) for each in content.pop("readers"))
            return DoubleReading(readers=readers, **content)
        except FileNotFoundError:
            return DoubleReading()
        except (OSError, ValueError, TypeError, KeyError) as error:
            # Not treated as absent: that would show a blinded reader what must be hidden.
            raise InputFileError(
                f"the record of the double reading of scan {scan} is damaged ({error}); restore "
                "reading.json from a backup"
            ) from error

    def mask(self, scan: str, number: int) -> Path:
        """Return the file of the mask of the first (0) or second (1) reader."""
        return self._folder / scan / f"reader-{number + 1}.nii.gz"

    def _put(self, scan: str, reading: DoubleReading) -> DoubleReading:
        folder = self._folder / scan
        folder.mkdir(exist_ok=True, mode=0o700)
        with atomic_file(folder / "reading.json") as draft:
            write_json(asdict(reading), draft)
        return reading

    def join(self, scan: str, name: str, *, hide_automatic: bool) -> Reader:
        """Start a reading.

        Args:
            scan: Identifier of the scan.
            name: Name of the reader.
            hide_automatic: Hide the automatic result; decided by the first reader.

        Raises:
            InputFileError: If the name is empty or taken, or both readings have been started.
        """
        name = _plain_name(name)
        reading = self.get(scan)
        if any(_same_name(each.name, name) for each in reading.readers):
            raise InputFileError(
                f"{name} has started this reading already, in this or another browser; a double "
                "reading needs two different readers"
            )
        if len(reading.readers) == READERS:
            raise InputFileError("this scan has two readers already")
        reader = Reader(name)
        hide = reading.hide_automatic if reading.readers else hide_automatic
        self._put(
            scan,
            replace(reading, hide_automatic=hide, readers=(*reading.readers, reader)),
        )
        return reader

    def number_of(self, scan: str, key: str) -> int:
        """Return which reader a key belongs to.

        Raises:
            InputFileError: If it belongs to none.
        """
        for number, reader in enumerate(self.get(scan).readers):
            if secrets.compare_digest(reader.key.encode(), key.encode()):
                return number
        raise InputFileError("this browser has not started a reading of this scan")

    def check_open(self, scan: str, key: str) -> int:
        """Return which reader a key belongs to, if the mask is not submitted yet.

        Raises:
            InputFileError: If it is, or the key is unknown.
        """
        number = self.number_of(scan, key)
        if self.get(scan).readers[number].submitted:
            raise InputFileError(
                "your mask is submitted and can no longer be changed; nothing was overwritten"
            )
        return number

    def submit(self, scan: str, number: int) -> DoubleReading:
        """Record that a mask is submitted."""
        reading = self.get(scan)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        readers = list(reading.readers)
        readers[number] = replace(readers[number], submitted=now)
        return self._put(scan, replace(reading, readers=tuple(readers)))

    def record_agreement(self, scan: str, agreement: dict[str, Any]) -> DoubleReading:
        """Store the agreement of two complete readings."""
        return self._put(scan, replace(self.get(scan), agreement=agreement))

    def adjudicate(self, scan: str, name: str) -> DoubleReading:
        """Record who decided on the mask."""
        return self._put(scan, replace(self.get(scan), adjudicated_by=_plain_name(name)))

    def check_adjudicator(self, scan: str, name: str) -> DoubleReading:
        """Return the double reading if this person may adjudicate it.

        Raises:
            InputFileError: If it is incomplete or decided, or the person was one of the readers.
        """
        name, reading = _plain_name(name), self.get(scan)
        if not reading.complete:
            raise InputFileError("both masks must be submitted before a third reader decides")
        if reading.adjudicated_by:
            raise InputFileError(f"{reading.adjudicated_by} has decided on this mask already")
        if any(_same_name(each.name, name) for each in reading.readers):
            raise InputFileError(
                f"{name} was one of the two readers; adjudication needs a third reader"
            )
        return reading

    def all(self) -> dict[str, DoubleReading]:
        """Return all double readings by the identifier of the scan."""
        folders = sorted(path.name for path in self._folder.iterdir() if path.is_dir())
        return {scan: self.get(scan) for scan in folders}


def _plain_name(name: str) -> str:
    name = " ".join(name.split())[:80]
    if not name:
        raise InputFileError("give your name or initials")
    return name


def _same_name(first: str, second: str) -> bool:
    def plain(name: str) -> str:
        return unicodedata.normalize("NFKC", name).casefold()

    return plain(first) == plain(second)


def store_reading(folder: str, labels: str, path: str) -> None:
    """Write the mask of a reader on the grid of the DWI, completely or not at all.

    Args:
        folder: Result folder of the scan.
        labels: Mask, as from `editing.pack`.
        path: File to write.
    """
    target = Path(path)
    with workplace(target) as place:
        write_labels(Path(folder), labels, place / target.name)
        (place / target.name).replace(target)


def compare(first: Path, second: Path) -> dict[str, Any]:
    """Compare two masks as `infarct evaluate` compares raters.

    Args:
        first: Mask of the first reader.
        second: Mask of the second reader.

    Returns:
        `dice`, `first_ml`, `second_ml`, `difference_ml` (second minus first) and `hausdorff95_mm`.
    """
    one, other = read(first), read(second)
    found = score(one.data > 0.5, other.data > 0.5, one.affine)
    return {
        "dice": found.dice,
        "first_ml": found.reference_ml,
        "second_ml": found.prediction_ml,
        "difference_ml": found.prediction_ml - found.reference_ml,
        "hausdorff95_mm": found.hausdorff95_mm,
    }


def summarise_readings(pairs: Sequence[Sequence[str]], known: Sequence[dict[str, Any]]) -> Any:
    """Compare pairs of masks, and summarise them together with earlier comparisons.

    Args:
        pairs: Files of the masks of the first and the second reader.
        known: Comparisons made before, as from `compare`.

    Returns:
        `new`, the comparisons of `pairs`, and `summary`: number of scans, scans that both readers
        left empty, mean Dice, bias and limits of agreement (ml) and ICC of the volume with its 95%
        interval. As in `infarct evaluate`, scans that both left empty do not count.
    """
    new = [compare(Path(first), Path(second)) for first, second in pairs]
    every = [*known, *new]
    drawn = [each for each in every if each["first_ml"] or each["second_ml"]]
    volumes = np.array([(each["first_ml"], each["second_ml"]) for each in drawn]).reshape(-1, 2)
    agreement, correlation = bland_altman(*volumes.T), icc(volumes)
    return {
        "new": new,
        "summary": {
            "scans": len(every),
            "both_empty": len(every) - len(drawn),
            "mean_dice": float(np.mean([each["dice"] for each in drawn])) if drawn else None,
            "bias_ml": agreement.bias,
            "limits_ml": [agreement.lower, agreement.upper],
            "icc": correlation.icc,
            "icc_interval": [correlation.interval.low, correlation.interval.high],
        },
    }
