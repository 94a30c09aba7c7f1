"""What an evaluation leaves behind: TSV, JSON, pictures, and one page that holds all of it."""

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

from infarct.core.serialization import write_tsv
from infarct.evaluation.analysis import Analysis
from infarct.evaluation.metrics import Scores
from infarct.evaluation.score_table import Results
from infarct.evaluation.tables import Table

_LARGEST_SVG = 400_000
"""Bytes beyond which a figure goes into the page as PNG: the page should open at once."""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: Its heading.
        tables: Shown first.
        figures: Stems of the pictures shown below them.
        caption: Below the pictures.
        folded: Tables are closed until asked for.
    """

    title: str
    tables: tuple[Table, ...] = ()
    figures: tuple[str, ...] = ()
    caption: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Making:
    """How the numbers were made.

    Attributes:
        notes: What a reader must know first: what was missing, skipped or counted as a failure.
        resamples: Bootstrap samples.
        seed: Of the bootstrap.
    """

    notes: tuple[str, ...]
    resamples: int
    seed: int


def write_scores(results: Results, path: Path) -> None:
    """Write every score as a tab-separated table, a row for each subject and tool."""
    names = [field.name for field in fields(Scores)]
    rows = (
        [subject, tool, *(_cell(getattr(measured.scores[tool], name)) for name in names)]
        for subject, measured in results.measured.items()
        for tool in results.tools
    )
    write_tsv(path, ["participant_id", "tool", *names], rows)


def write_table(table: Table, path: Path) -> None:
    """Write a table as tab-separated text; lines of one cell are joined by a semicolon."""
    rows = ([cell.strip().replace("\n", "; ") for cell in row] for row in table.rows)
    write_tsv(path, table.header, rows)


def _cell(value: float) -> str:
    if isinstance(value, bool | int):
        return str(int(value))
    return "n/a" if math.isnan(value) else f"{value:.6g}"


def write_json(results: Results, analysis: Analysis, making: Making, path: Path) -> None:
    """Write every number of the analysis; what is undefined is null."""
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
    """Note in `evaluation.json` which files an evaluation wrote, all of which are there by now."""
    path = directory / "evaluation.json"
    content = json.loads(path.read_text("utf-8"))
    content["files"] = _files_in(directory)
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")


def other_files(directory: Path) -> list[str]:
    """Return the files in the directory of an evaluation that it did not write.

    Args:
        directory: Of an evaluation; of one that lists no files, nothing is returned.
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
    """Say the outcome in plain words, from the first group of each kind."""
    found = []
    for each in analysis.performance:
        if each.group == analysis.performance[0].group:
            dice = each.summaries["dice"]
            found.append(
                f"{each.tool} reached a mean Dice of {dice.mean:.2f} (median {dice.median:.2f}) "
                f"and touched the lesion in {each.touch.hits} of {each.n} subjects"
            )
    for alarms in analysis.false_alarms:
        if alarms.group == analysis.false_alarms[0].group:
            found.append(
                f"{alarms.tool} flagged {alarms.flagged.hits} of {alarms.n} subjects without a "
                "lesion"
            )
    return ". ".join(found) + "."


def write_page(
    results: Results, sections: Sequence[Section], making: Making, lead: str, directory: Path
) -> None:
    """Write report.html, with the pictures that lie in the directory inside it."""
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
