"""Lesion masks and tables in the layout that lesion-symptom and disconnection tools read.

The masks are on the 1 mm grid of FSL and SPM (182 x 218 x 182), in the space of the template:
MNI152NLin2009aSym, by the affine transform that also looks up the anatomy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from infarct.core.atomic_write import atomic_directory
from infarct.core.errors import InputFileError, OutputError
from infarct.core.file_search import entries_of
from infarct.core.geometry import Grid
from infarct.core.nifti import Volume, write
from infarct.core.resampling import resample
from infarct.core.serialization import write_tsv
from infarct.reporting.reader import Stored, is_result, read_stored

SPACE = "MNI152NLin2009aSym"

_AFFINE = np.array(
    [[-1.0, 0.0, 0.0, 90.0], [0.0, 1.0, 0.0, -126.0], [0.0, 0.0, 1.0, -72.0], [0.0, 0.0, 0.0, 1.0]]
)
EXPORT_GRID = Grid((182, 218, 182), _AFFINE)
"""The grid of `MNI152_T1_1mm.nii.gz` of FSL."""


class Tool(StrEnum):
    """Programs that `infarct export` writes for."""

    niistat = "niistat"
    lesymap = "lesymap"
    bcb = "bcb"
    nemo = "nemo"


@dataclass(frozen=True)
class _Layout:
    """Where a program expects its files.

    Attributes:
        folder: Folder of the masks, relative to the output.
        ending: Ending of the masks.
        empty: Whether it accepts masks without lesion.
    """

    folder: str
    ending: str
    empty: bool


_LAYOUTS: Mapping[Tool, _Layout] = {
    # NiiStat finds images next to the design file, and reads .nii only.
    Tool.niistat: _Layout(".", ".nii", empty=True),
    Tool.lesymap: _Layout("lesions", ".nii.gz", empty=True),
    # No streamline passes through an empty mask.
    Tool.bcb: _Layout("Lesions", ".nii.gz", empty=False),
    Tool.nemo: _Layout("lesions", ".nii.gz", empty=False),
}


def export_lesions(results: Path, tool: Tool, out: Path) -> tuple[int, int]:
    """Write the lesion masks of all results below a folder, and a table, for another program.

    Args:
        results: A result folder, the output of `infarct cohort`, or that of `infarct bids`.
        tool: The program that will read the files.
        out: Folder to create.

    Returns:
        Number of masks written, and number left out because they are empty.

    Raises:
        InputFileError: If there are no results, one is damaged, or two have the same name.
        OutputError: If `out` exists or cannot be written.
    """
    folders = _names(results)
    if out.exists():
        raise OutputError(f"{out} already exists; choose another --out or remove it")
    layout = _LAYOUTS[tool]
    rows: list[tuple[str, str, str]] = []
    with atomic_directory(out) as partial:
        (partial / layout.folder).mkdir(exist_ok=True)
        for name, folder in folders.items():
            stored = read_stored(folder)
            mask = _mask_on_grid(stored)
            file = Path(layout.folder, f"{name}{layout.ending}").as_posix()
            kept = layout.empty or bool(mask.any())
            if kept:
                write(Volume(mask, _AFFINE), partial / file, np.uint8)
            volume = f"{float(stored.summary['lesion_volume_ml']):.3f}"
            rows.append((name, file if kept else "", volume))
        _write_tables(tool, rows, partial)
    written = sum(bool(file) for _, file, _ in rows)
    return written, len(rows) - written


def _mask_on_grid(stored: Stored) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return the lesion mask on the export grid, in the space of the template."""
    lesion = stored.lesion.like(stored.lesion.data.astype(np.float32))
    moved = resample(lesion, EXPORT_GRID, np.linalg.inv(stored.atlas_from_native))
    return np.asarray(moved > 0.5)


def _write_tables(tool: Tool, rows: list[tuple[str, str, str]], out: Path) -> None:
    written = [row for row in rows if row[1]]
    write_tsv(out / "participants.tsv", ("participant_id", "file", "lesion_volume_ml"), rows)
    if tool is Tool.niistat:
        # The first column names the image, the others are behaviour.
        design = [(file, volume) for _, file, volume in written]
        write_tsv(out / "design.tab", ("image", "lesion_volume_ml"), design)
    elif tool is Tool.lesymap:
        files = "".join(f"{file}\n" for _, file, _ in written)
        (out / "lesions.txt").write_text(files, encoding="utf-8")


def _names(results: Path) -> dict[str, Path]:
    """Return the result folders by a name that every program accepts, in order."""
    names: dict[str, Path] = {}
    for folder in _results_below(results):
        name = re.sub(r"[^A-Za-z0-9._-]", "_", folder.resolve().name)
        # Excel and NiiStat take a name of digits for a number.
        name = name if name[0].isalpha() else f"P{name}"
        if name in names:
            raise InputFileError(
                f"{folder} and {names[name]} would both be called {name}; rename one of them"
            )
        names[name] = folder
    if not names:
        raise InputFileError(
            f"{results} contains no results; give the output folder of infarct segment, cohort or "
            "bids"
        )
    return names


def _results_below(results: Path) -> Iterator[Path]:
    if not results.is_dir():
        raise InputFileError(f"{results} is not a folder; give an output folder of infarct")
    if is_result(results):
        yield results
        return
    for home in (results, results / "reports"):
        if home.is_dir():
            yield from (path for path in entries_of(home) if path.is_dir() and is_result(path))
