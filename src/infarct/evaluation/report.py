"""Writes the results of an evaluation: TSV, JSON and a self-contained HTML report."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from infarct.core.serialization import table_cell, write_tsv
from infarct.evaluation.analysis import Analysis
from infarct.evaluation.metrics import Scores
from infarct.evaluation.score_table import Results
from infarct.evaluation.tables import Table

_LARGEST_SVG = 400_000
"""Largest SVG to embed, bytes. Larger figures are embedded as PNG so that the report opens fast."""


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Attributes:
        title: Heading.
        tables: Tables, shown first.
        figures: File stems of the figures, shown below the tables.
        caption: Caption below the figures.
        folded: Whether the tables are collapsed initially.
    """

    title: str
    tables: tuple[Table, ...] = ()
    figures: tuple[str, ...] = ()
    caption: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Making:
    """Provenance of the results.

    Attributes:
        notes: Missing, skipped or failed items that the reader must know about.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
    """

    notes: tuple[str, ...]
    resamples: int
    seed: int


def write_scores(results: Results, path: Path) -> None:
    """Write all scores as a tab-separated table, one row per subject and tool."""
    names = [field.name for field in fields(Scores)]
    rows = (
        [subject, tool, *(_cell(getattr(measured.scores[tool], name)) for name in names)]
        for subject, measured in results.measured.items()
        for tool in results.tools
    )
    write_tsv(path, ["participant_id", "tool", *names], rows)


def write_table(table: Table, path: Path) -> None:
    """Write a table as tab-separated text; line breaks in a cell become semicolons."""
    rows = ([cell.strip().replace("\n", "; ") for cell in row] for row in table.rows)
    write_tsv(path, table.header, rows)


def _cell(value: float) -> str:
    return table_cell(int(value) if isinstance(value, bool) else value)


def write_json(results: Results, analysis: Analysis, making: Making, path: Path) -> None:
    """Write all numbers of the analysis as JSON; undefined values are null."""
    content = {
        "infarct_version": version("infarct"),
        "tools": results.tools,
        "subjects": len(results.measured),
        "focus": results.focused.name,
        **asdict(making),
        **asdict(analysis),
    }
    path.write_text(json.dumps(_nullable(content), indent=1, allow_nan=False) + "\n", "utf-8")


def list_files(directory: Path) -> None:
    """Record the files of an evaluation in `evaluation.json`; call after all are written."""
    path = directory / "evaluation.json"
    content = json.loads(path.read_text("utf-8"))
    content["files"] = _files_in(directory)
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")


def other_files(directory: Path) -> list[str]:
    """Return the files in an evaluation directory that the evaluation did not write.

    Args:
        directory: Evaluation directory. If its `evaluation.json` lists no files, the result is
            empty.
    """
    try:
        listed = json.loads((directory / "evaluation.json").read_text("utf-8")).get("files")
    except (ValueError, AttributeError):
        listed = None
    return [] if listed is None else [n for n in _files_in(directory) if n not in listed]


def _files_in(directory: Path) -> list[str]:
    found = (path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(directory).as_posix() for path in found)


def _nullable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _nullable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_nullable(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def verdict(analysis: Analysis) -> str:
    """Summarise the main result in words, for the first group of each kind."""
    found = []
    for each in analysis.performance:
        if each.group == analysis.performance[0].group:
            dice = each.summaries["dice"]
            found.append(
                f"{each.tool} reached a mean Dice of {dice.mean:.2f} (median {dice.median:.2f}) "
                f"and overlapped the lesion in {each.touch.hits} of {each.n} subjects"
            )
    for alarms in analysis.false_alarms:
        if alarms.group == analysis.false_alarms[0].group:
            found.append(
                f"{alarms.tool} had false positives in {alarms.flagged.hits} of {alarms.n} "
                "lesion-free subjects"
            )
    return ". ".join(found) + "."


def write_page(
    results: Results, sections: Sequence[Section], making: Making, lead: str, directory: Path
) -> None:
    """Write report.html with the figures of the directory embedded."""
    environment = Environment(
        loader=PackageLoader("infarct.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        tools=results.tools,
        verdict=lead,
        sections=[
            {**vars(section), "pictures": [_picture(directory / n) for n in section.figures]}
            for section in sections
        ],
        subjects=len(results.measured),
        version=version("infarct"),
        **asdict(making),
    )
    (directory / "report.html").write_text(page, "utf-8")


def _picture(stem: Path) -> dict[str, str]:
    path, kind = Path(f"{stem}.svg"), "svg+xml"
    if path.stat().st_size > _LARGEST_SVG:
        path, kind = Path(f"{stem}.png"), "png"
    return {
        "name": stem.name,
        "kind": kind,
        "data": base64.b64encode(path.read_bytes()).decode("ascii"),
    }
