"""Group results of a cohort: table of measurements, lesion overlap map and HTML report."""

from __future__ import annotations

import base64
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infarct.cohort.case_log import Ledger
from infarct.cohort.figures import overlap_figure, thumbnail, to_png, volume_figure
from infarct.cohort.jobs import GROUP, NUMBERS, Job, refuse_foreign_group
from infarct.cohort.numbers_table import EMPTY, cells, columns, dictionary
from infarct.core.atomic_write import atomic_directory, reserved
from infarct.core.diffusion import Mask
from infarct.core.errors import InfarctError, OutputError
from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume, read, write
from infarct.core.resampling import resample
from infarct.core.serialization import write_json, write_tsv
from infarct.core.units import format_volume
from infarct.reporting import result_schema
from infarct.reporting.methods import METHODS, write_methods
from infarct.reporting.narrative import doubtful_lesion
from infarct.reporting.pages import page_environment
from infarct.reporting.reader import THUMBNAIL

DICTIONARY = "numbers.json"
"""Data dictionary of the table."""

_OURS = {
    *(NUMBERS, DICTIONARY, "lesion_overlap.nii.gz", "lesion_overlap.png", "report.html"),
    *METHODS,
}


_ROWS_SHOWN = 200
"""Rows shown at first; browsers are slow to lay out tables of thousands of rows."""


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
    def doubtful(self) -> int:
        """Number of doubtful lesions, see `volumetry.is_doubtful`."""
        return sum(map(doubtful_lesion, self.summary.get("lesions", ())))

    @property
    def corrected(self) -> bool:
        """Whether the lesion mask was corrected manually."""
        return bool(self.summary.get("corrections"))

    @staticmethod
    def number(volume: float) -> str:
        """Format a volume without its unit, for the table."""
        return format_volume(volume).removesuffix(" ml")

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
        _write_numbers(rows, about, partial)
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
            image = thumbnail(_dwi_in_mni(job), lesion)
    except (OSError, ValueError, InfarctError) as error:
        reason = job.without_folders(f"its stored result is damaged ({error})")
        return Row(job.id, "failed", reason), nothing
    page = os.path.relpath(job.output("report.html"), group)
    row = Row(job.id, "done", "", summary, Path(page).as_posix(), image, manifest)
    return row, lesion.data > 0.5


def _dwi_in_mni(job: Job) -> Volume:
    """Return the DWI of a case on the MNI grid; it is resampled if it was not kept there."""
    path = job.output("mni/dwi.nii.gz")
    if path.is_file():
        return read(path)
    mni_from_native = np.loadtxt(job.output("mni/mni_from_native.txt"))
    dwi = read(job.output("scan/dwi.nii.gz"))
    return Volume(resample(dwi, MNI_GRID, np.linalg.inv(mni_from_native)), MNI_GRID.affine)


def _write_numbers(
    rows: Sequence[Row], about: Mapping[str, Mapping[str, str]], folder: Path
) -> None:
    """Write `numbers.tsv` and its data dictionary `numbers.json`."""
    ours = ["case", "status", "reason", *(column.name for column in columns())]
    study = list(dict.fromkeys(name for row in rows for name in about.get(row.id, {})))
    # Columns of the study that have the name of one of our columns get a prefix.
    joined = [f"participants_{name}" if name in ours else name for name in study]
    lines = []
    for row in rows:
        known = about.get(row.id, {})
        lines.append(
            [row.id, row.status, row.reason or EMPTY, *cells(row.summary)]
            + [known.get(name) or EMPTY for name in study]
        )
    write_tsv(folder / NUMBERS, [*ours, *joined], lines)
    write_json(dictionary(joined), folder / DICTIONARY)


def _render(rows: Sequence[Row], overlap: bytes) -> str:
    done = [row for row in rows if row.status == "done"]
    volumes = [float(row.summary["lesion_volume_ml"]) for row in done]
    kinds = Counter(code for row in done for code in {w["code"] for w in row.warnings})
    example = {w["code"]: w["message"] for row in done for w in row.warnings}
    lesions = [volume for volume in volumes if volume > 0]
    quartiles = np.percentile(lesions, (25, 50, 75)) if lesions else None
    return (
        page_environment()
        .get_template("group.html.j2")
        .render(
            rows=[
                (row, _jpeg(row.picture))
                for row in sorted(rows, key=lambda r: r.doubt, reverse=True)
            ],
            counts=Counter(row.status for row in rows),
            with_lesion=len(lesions),
            doubtful=sum(row.doubtful > 0 for row in done),
            corrected=sum(row.corrected for row in done),
            total=len(rows),
            rows_shown=_ROWS_SHOWN,
            quartiles=quartiles,
            warned=sum(bool(row.warnings) for row in done),
            kinds=[(code, n, example[code]) for code, n in kinds.most_common()],
            methods=_methods(done),
            overlap=base64.b64encode(overlap).decode(),
            volumes=base64.b64encode(to_png(volume_figure(volumes))).decode(),
            version=version("infarct"),
        )
    )


def _methods(done: Sequence[Row]) -> list[str]:
    """List the models, with the inference engine if several engines were used."""
    engines = {row.summary.get("engine", "unknown engine") for row in done}
    if len(engines) < 2:
        return sorted({str(row.summary["model"]) for row in done})
    return sorted({f"{r.summary['model']} by {r.summary.get('engine', '?')}" for r in done})


def _jpeg(picture: bytes) -> str:
    return base64.b64encode(picture).decode()
