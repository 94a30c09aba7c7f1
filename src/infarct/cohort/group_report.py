"""Group results of a cohort: table of measurements, lesion overlap map and HTML report."""

from __future__ import annotations

import base64
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from infarct.cohort.case_log import Ledger
from infarct.cohort.figures import overlap_figure, thumbnail, volume_figure
from infarct.cohort.jobs import GROUP, NUMBERS, Job, refuse_foreign_group
from infarct.core.atomic_write import atomic_directory, reserved
from infarct.core.diffusion import Mask
from infarct.core.errors import InfarctError, OutputError
from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume, read, write
from infarct.core.serialization import write_tsv
from infarct.core.units import format_probability, format_volume
from infarct.reporting import result_schema
from infarct.reporting.figures import to_png
from infarct.reporting.methods import METHODS, write_methods
from infarct.reporting.reader import THUMBNAIL

_OURS = {NUMBERS, "lesion_overlap.nii.gz", "lesion_overlap.png", "report.html", *METHODS}

_PARTS = ("territories", "regions")
"""Fields of a summary that list brain regions."""


@dataclass(frozen=True)
class Row:
    """One case in the group results.

    Attributes:
        id: Case id.
        status: `done`, `failed`, or `missing` if it has not been run yet.
        reason: Why it failed.
        summary: Content of `summary.json`; empty unless the case is done.
        page: Path of the case report, relative to the group report.
        picture: Thumbnail (JPEG).
        manifest: Content of `manifest.json`; empty unless the case is done.
    """

    id: str
    status: str
    reason: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)
    page: str = ""
    picture: bytes = b""
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def warnings(self) -> list[dict[str, str]]:
        """Warnings, as in `summary.json`."""
        return list(self.summary.get("warnings", ()))

    @property
    def probability(self) -> float | None:
        """Probability that an infarct is visible; None without a calibrated result."""
        visible: float | None = self._confidence.get("infarct_probability")
        return visible

    @property
    def interval_ml(self) -> tuple[float, float] | None:
        """Interval of the lesion volume given a visible infarct; None if not calibrated."""
        interval: tuple[float, float] | None = self._confidence.get("volume_interval_ml")
        return interval

    @property
    def doubt(self) -> tuple[int, int, float, float]:
        """Review priority: failures first, then number of warnings, uncertainty, volume."""
        failed = {"failed": 2, "missing": 1}.get(self.status, 0)
        unsure = 0.5 if self.probability is None else 0.5 - abs(self.probability - 0.5)
        volume = float(self.summary.get("lesion_volume_ml", 0.0))
        return failed, len(self.warnings), unsure, volume

    @property
    def _confidence(self) -> Mapping[str, Any]:
        return self.summary.get("confidence") or {}


def write_group(
    jobs: Sequence[Job],
    out: Path,
    about: Mapping[str, Mapping[str, str]] | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Path:
    """Write the table, the lesion overlap map and the report on all cases to `out/group`.

    Args:
        jobs: All cases.
        out: Output folder of the cohort.
        about: Additional columns for each case, by case id; joined into the table.
        progress: Called with the name of the step, the number of items done, and the total.

    Returns:
        Path of the HTML report.

    Raises:
        OutputError: If it cannot be written, or `out/group` was not created by infarct.
    """
    with reserved(out / GROUP):
        return _write_group(jobs, out, about or {}, progress)


def _write_group(
    jobs: Sequence[Job],
    out: Path,
    about: Mapping[str, Mapping[str, str]],
    progress: Callable[[str, int, int], None],
) -> Path:
    refuse_foreign_group(out)
    ledger = Ledger(out).read()
    group = out.resolve() / GROUP
    rows = []
    count: NDArray[np.uint16] = np.zeros(MNI_GRID.shape, np.uint16)
    for number, job in enumerate(jobs, 1):
        row, lesion = _collect(job, ledger.get(job.id, {}), group)
        rows.append(row)
        count += lesion
        progress("collecting results", number, len(jobs))
    kept = _of_others(group)

    def check(old: Path) -> None:
        if _of_others(old) != kept:
            raise OutputError(
                f"{group} changed while the report was being written; nothing was replaced: run "
                "the command again"
            )

    with atomic_directory(group, check) as partial:
        for name in kept:
            path = group / name
            if path.is_dir() and not path.is_symlink():
                shutil.copytree(path, partial / name, symlinks=True)
            else:
                shutil.copy2(path, partial / name, follow_symlinks=False)
        _write_numbers(rows, about, partial / NUMBERS)
        write(Volume(count, MNI_GRID.affine), partial / "lesion_overlap.nii.gz", np.uint16)
        results = [(row.summary, row.manifest) for row in rows if row.status == "done"]
        if results:
            write_methods(results, partial)
        done = len(results)
        overlap = to_png(overlap_figure(count, done), dpi=130)
        (partial / "lesion_overlap.png").write_bytes(overlap)
        page = _render(rows, overlap)
        (partial / "report.html").write_text(page, encoding="utf-8")
    return group / "report.html"


def _of_others(group: Path) -> list[str]:
    """Return files in the group folder not written by infarct, such as notes; they are kept."""
    return sorted({path.name for path in group.iterdir()} - _OURS) if group.is_dir() else []


def _collect(job: Job, record: Mapping[str, str], group: Path) -> tuple[Row, Mask]:
    """Return the group row of a case, and its lesion mask on the MNI grid."""
    nothing: Mask = np.zeros(MNI_GRID.shape, bool)
    # The result of an earlier run may still exist, but it does not belong to this scan.
    if record.get("status") == "failed":
        return Row(job.id, "failed", record["reason"]), nothing
    if not (job.folder / "manifest.json").is_file():
        return Row(job.id, "missing"), nothing
    try:
        summary = result_schema.parse(job.output("summary.json").read_text(encoding="utf-8"))
        result_schema.check(summary, result_schema.SUMMARY)
        manifest = result_schema.parse((job.folder / "manifest.json").read_text(encoding="utf-8"))
        result_schema.check(manifest, result_schema.MANIFEST)
        lesion = read(job.output("mni/lesion_mask.nii.gz"))
        if lesion.data.shape != MNI_GRID.shape:
            raise ValueError(
                f"its lesion mask in MNI space has shape {lesion.data.shape}, expected "
                f"{MNI_GRID.shape}"
            )
        picture = job.output(THUMBNAIL)
        # The thumbnail shows the automatic mask, which may have been corrected since.
        if picture.is_file() and not summary.get("corrections"):
            image = picture.read_bytes()
        else:
            image = thumbnail(read(job.output("mni/dwi.nii.gz")), lesion)
    except (OSError, ValueError, InfarctError) as error:
        reason = job.without_folders(f"its stored result is damaged ({error})")
        return Row(job.id, "failed", reason), nothing
    page = os.path.relpath(job.output("report.html"), group)
    row = Row(job.id, "done", "", summary, Path(page).as_posix(), image, manifest)
    return row, lesion.data > 0.5


def _write_numbers(rows: Sequence[Row], about: Mapping[str, Mapping[str, str]], path: Path) -> None:
    numbers = {row.id: dict(_numbers(row.summary)) for row in rows}
    ours = {"case", "status", "reason"}.union(*numbers.values())
    lines = []
    for row in rows:
        # Columns of the study that have the name of one of our columns get a prefix.
        known = {
            f"participants_{name}" if name in ours else name: value
            for name, value in about.get(row.id, {}).items()
        }
        state = {"status": row.status, "reason": row.reason}
        lines.append({"case": row.id, **known, **state, **numbers[row.id]})
    # Column order follows the longest lines; failed cases have few columns.
    columns = list(dict.fromkeys(name for line in sorted(lines, key=len)[::-1] for name in line))
    # A field may be nested in one summary and null in another, e.g. `aspects` without a lesion.
    nulls = {name for name in ours if {line.get(name, "n/a") for line in lines} == {"n/a"}}
    divided = {name for name in nulls if any(other.startswith(f"{name}_") for other in ours)}
    columns = [name for name in columns if name not in divided]
    # A summary lists only regions that contain lesion; the volume of all others is 0.
    parts = {name: "0" for name in columns if name in ours and name.startswith(_PARTS)}
    cells = []
    for line in lines:
        untouched = parts if line["status"] == "done" else {}
        full = {**untouched, **{name: cell or "n/a" for name, cell in line.items()}}
        cells.append([full.get(name, "n/a") for name in columns])
    write_tsv(path, columns, cells)


def _numbers(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Flatten a summary to column names and cells.

    Warnings and notes become their codes; lesions and corrections, which have their own tables,
    become counts.
    """
    for key, value in summary.items():
        if key in {"warnings", "notes"}:
            yield key, ";".join(finding["code"] for finding in value)
        elif key in {"lesions", "corrections"}:
            yield key, str(len(value))
        elif key in _PARTS:
            for part in value:
                yield from _part(part, key)
        else:
            yield from _flat(value, key)


def _part(part: Mapping[str, Any], name: str) -> Iterator[tuple[str, str]]:
    """Yield volume and shares of a territory or region, and of its subdivisions."""
    lead = "_".join(word for word in (name, part["name"], part["side"]) if word)
    measured = {key: value for key, value in part.items() if isinstance(value, float)}
    yield from _flat(measured, lead.replace(" ", "_"))
    for sub in part.get("subterritories", ()):
        yield from _part(sub, name)


def _flat(content: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _flat(value, f"{name}_{key}".replace(" ", "_"))
    elif isinstance(content, list) and all(isinstance(item, str) for item in content):
        yield name, ";".join(content)
    elif isinstance(content, list):
        for number, value in enumerate(content, 1):
            yield from _flat(value, f"{name}_{number}")
    elif isinstance(content, float):
        yield name, f"{content:.6g}"
    else:
        yield name, "n/a" if content is None else str(content)


def _render(rows: Sequence[Row], overlap: bytes) -> str:
    environment = Environment(
        loader=PackageLoader("infarct", "data"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"chance": format_probability, "ml": format_volume}
    done = [row for row in rows if row.status == "done"]
    volumes = [float(row.summary["lesion_volume_ml"]) for row in done]
    kinds = Counter(code for row in done for code in {w["code"] for w in row.warnings})
    example = {w["code"]: w["message"] for row in done for w in row.warnings}
    quartiles = np.percentile(volumes, (25, 50, 75)) if volumes else None
    return environment.get_template("group.html.j2").render(
        rows=[
            (row, _jpeg(row.picture)) for row in sorted(rows, key=lambda r: r.doubt, reverse=True)
        ],
        counts=Counter(row.status for row in rows),
        with_lesion=sum(volume > 0 for volume in volumes),
        total=len(rows),
        quartiles=quartiles,
        warned=sum(bool(row.warnings) for row in done),
        kinds=[(code, n, example[code]) for code, n in kinds.most_common()],
        methods=_methods(done),
        overlap=base64.b64encode(overlap).decode(),
        volumes=base64.b64encode(to_png(volume_figure(volumes))).decode(),
        version=version("infarct"),
    )


def _methods(done: Sequence[Row]) -> list[str]:
    """List the models, with the inference engine if several engines were used."""
    engines = {row.summary.get("engine", "unknown engine") for row in done}
    if len(engines) < 2:
        return sorted({str(row.summary["model"]) for row in done})
    return sorted({f"{r.summary['model']} by {r.summary.get('engine', '?')}" for r in done})


def _jpeg(picture: bytes) -> str:
    return base64.b64encode(picture).decode()
