"""Implement `infarct segment --dicom`: segment the scan in a DICOM folder."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from infarct.cli.console import live_progress, show_result
from infarct.core import assets
from infarct.core.diffusion import B0_BELOW
from infarct.dicom.export import make_objects, write_objects
from infarct.dicom.source_images import find_source_images
from infarct.dicom.study import DicomCase, Row, check_outside, opened_folder
from infarct.measurement.atlas import Atlas
from infarct.pipeline import RunRequest, run
from infarct.reporting.case_label import CaseLabel
from infarct.reporting.writer import destination
from infarct.segmentation.models import DEFAULT, get_model
from infarct.segmentation.result import Segmentation


@dataclass(frozen=True)
class DicomRequest:
    """Options of one run.

    Attributes:
        folder: Folder with DICOM files.
        out: Output folder.
        series: Number or UID of the series to use as DWI; None selects the best.
        b0_below: s/mm^2; volumes with a lower b-value are averaged to the b0.
        brain: Your own brain mask.
        model: Name of the segmentation method.
        territories: Atlas for the table of territories; None uses the bundled one.
        quick: Omit scan and maps in MNI space.
        overwrite: Replace an existing result in `out`.
        overwrite_corrected: Replace it even if it was corrected manually or contains other files.
        dicom_out: Also write SEG and SR.
        keep_identity: Keep the patient's identity in SEG and SR.
        label: Identifies the case in the report; without id, a pseudonym made from the image.
    """

    folder: Path
    out: Path
    series: str | None = None
    b0_below: float = B0_BELOW
    brain: Path | None = None
    model: str = DEFAULT
    territories: Atlas | None = None
    quick: bool = False
    overwrite: bool = False
    overwrite_corrected: bool = False
    dicom_out: bool = False
    keep_identity: bool = False
    label: CaseLabel = field(default_factory=CaseLabel)

    @property
    def command(self) -> list[str]:
        """Command line for the manifest, without folder names: they may contain patient names."""
        options = ["segment", "--dicom", "FOLDER", "--out", "OUT", "--model", self.model]
        if self.series is not None:
            # UIDs of some manufacturers contain the date and the scanner's serial number.
            options += ["--series", self.series if self.series.isdigit() else "UID"]
        options += ["--b0-below", f"{self.b0_below:g}"] if self.b0_below != B0_BELOW else []
        options += ["--brain", "BRAIN"] if self.brain is not None else []
        own_atlas = ["--atlas", "ATLAS", "--labels", "LABELS"]
        options += own_atlas if self.territories is not None else []
        options += ["--quick"] if self.quick else []
        options += ["--overwrite"] if self.overwrite else []
        options += ["--overwrite-corrected"] if self.overwrite_corrected else []
        options += ["--dicom-out"] if self.dicom_out else []
        return [*options, *(["--keep-identity"] if self.keep_identity else [])]


def segment_folder(request: DicomRequest) -> Segmentation:
    """Segment and measure the lesions of the scan in a folder, and write all results.

    Args:
        request: Options of the run.

    Raises:
        InfarctError: One of its subclasses, with cause and remedy.
    """
    get_model(request.model)
    check_outside(request.folder, request.out)
    start = time.perf_counter()
    with (
        destination(
            request.out,
            filter(None, [request.brain]),
            overwrite=request.overwrite,
            overwrite_corrected=request.overwrite_corrected,
        ),
        Console(stderr=True).status("reading and converting the DICOM folder") as status,
        opened_folder(request.folder, request.series, request.b0_below) as found,
    ):
        status.stop()
        show_series(found.rows)
        with live_progress() as listener:
            result = run(_run_request(request, found, time.perf_counter() - start), listener)
    show_result(result, request.out, time.perf_counter() - start)
    return result


def _run_request(request: DicomRequest, found: DicomCase, seconds: float) -> RunRequest:
    sources = None
    if request.dicom_out:
        # Fail before the segmentation if SEG and SR cannot refer to the images.
        sources = find_source_images(found.choice, keep_identity=request.keep_identity)

    def add_objects(result: Segmentation, folder: Path) -> None:
        if sources is not None:
            write_objects(make_objects(result, sources), folder)

    # The name of the output folder may contain the patient's name.
    pseudonym = f"scan-{assets.sha256(found.files.dwi)[:8]}"
    return RunRequest(
        found.with_brain(request.brain).files,
        request.out,
        request.model,
        request.territories,
        keep_mni=not request.quick,
        overwrite=request.overwrite,
        overwrite_corrected=request.overwrite_corrected,
        command=request.command,
        label=replace(request.label, id=request.label.id or pseudonym),
        findings=found.findings,
        seconds={"convert": seconds},
        add=add_objects,
    )


def show_series(rows: tuple[Row, ...]) -> None:
    """Print all series and their use; with several studies, also their dates."""
    console = Console()
    studies = [list(group) for _, group in groupby(rows, lambda row: row.series.study_uid)]
    for study in studies:
        if len(studies) > 1:
            console.print(f"study of {study[0].series.study_date}", highlight=False)
        console.print(_table(study))
    if len(studies) > 1:
        # Dates and UIDs are shown on the terminal only and are never written to a file.
        console.print("\nThere are several studies; select a series with one of these options:")
        possible = [r.series for r in rows if r.use.startswith(("used as DWI", "candidate"))]
        for series in possible:
            line = f"  study of {series.study_date}, series {series.number}: --series {series.uid}"
            console.print(Text(line), soft_wrap=True)


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("series", "maker", "description", "b", "volumes", "slices", "use"):
        right = name in {"series", "volumes", "slices"}
        table.add_column(name, justify="right" if right else "left")
    for row in rows:
        signal = next(iter(row.images), None)
        bvalues = sorted({round(b) for image in row.images for b in image.bvalues})
        table.add_row(
            str(row.series.number),
            row.series.maker,
            # Free text may contain brackets that are not markup.
            Text(row.series.description),
            ", ".join(map(str, bvalues)),
            str(max(len(signal.bvalues), 1)) if signal else "",
            str(signal.grid.shape[2]) if signal else "",
            Text(row.use, style="bold" if row.use.startswith("used as") else "dim"),
        )
    return table
