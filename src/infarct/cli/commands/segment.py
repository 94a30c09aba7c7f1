"""`infarct segment`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from infarct.cli.options import (
    DEFAULT_MODEL,
    B0Below,
    Model,
    Overwrite,
    OverwriteCorrected,
    OwnAtlas,
    OwnLabels,
    read_own_atlas,
)


def segment(
    out: Annotated[Path, typer.Option(help="Output folder; it is created.")],
    dwi: Annotated[
        Path | None,
        typer.Option(
            help="Diffusion-weighted image (NIfTI), or a 4D series with a .bval file next to it."
        ),
    ] = None,
    b0: Annotated[Path | None, typer.Option(help="b0 image (no diffusion weighting).")] = None,
    adc: Annotated[Path | None, typer.Option(help="ADC map, in any common unit.")] = None,
    bvalue: Annotated[
        float | None,
        typer.Option(
            help="b-value of the DWI in s/mm^2 (default 1000). For a 4D series, the nearest shell "
            "is used."
        ),
    ] = None,
    b0_below: B0Below = 50.0,
    brain: Annotated[Path | None, typer.Option(help="Brain mask; computed if not given.")] = None,
    model: Model = DEFAULT_MODEL,
    atlas: OwnAtlas = None,
    labels: OwnLabels = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Omit scan and maps in MNI space, which take most of the disk space.",
        ),
    ] = False,
    overwrite: Overwrite = False,
    overwrite_corrected: OverwriteCorrected = False,
    dicom: Annotated[
        Path | None, typer.Option(help="Folder of DICOM files; replaces --dwi, --b0 and --adc.")
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="With --dicom: number or UID of the series to use.")
    ] = None,
    dicom_out: Annotated[
        bool, typer.Option("--dicom-out", help="With --dicom: also write DICOM SEG and SR.")
    ] = False,
    keep_identity: Annotated[
        bool,
        typer.Option(
            "--keep-identity", help="With --dicom-out: keep patient name and ID in SEG and SR."
        ),
    ] = False,
    case_id: Annotated[
        str,
        typer.Option(
            "--id",
            help="Id or pseudonym of the case in the report. Default: the name of OUT; with "
            "--dicom, a pseudonym made from the image.",
        ),
    ] = "",
    scan_date: Annotated[
        str, typer.Option(help="Date of the scan in the report, if it may be shown.")
    ] = "",
) -> None:
    """Segment and measure the lesions of one scan (--dwi with --b0 and/or --adc, or --dicom)."""
    from infarct.reporting.case_label import CaseLabel
    from infarct.reporting.writer import check_place

    _check_options(dwi, (b0, adc, bvalue), dicom, series, dicom_out, keep_identity)
    territories = read_own_atlas(atlas, labels)
    if atlas and labels:
        check_place(out, (atlas, labels))
    if dicom is not None:
        from infarct.cli.segment_dicom import DicomRequest, segment_folder

        folder = DicomRequest(
            dicom,
            out,
            series=series,
            b0_below=b0_below,
            brain=brain,
            model=model,
            territories=territories,
            quick=quick,
            overwrite=overwrite,
            overwrite_corrected=overwrite_corrected,
            dicom_out=dicom_out,
            keep_identity=keep_identity,
            label=CaseLabel(case_id, scan_date),
        )
        segment_folder(folder)
        return
    from infarct.cli.run_scan import run_and_show
    from infarct.pipeline import RunRequest
    from infarct.preprocessing.case import CaseFiles

    assert dwi is not None
    scan = RunRequest(
        CaseFiles(dwi, b0, adc, bvalue, brain, b0_below=b0_below),
        out,
        model,
        territories,
        keep_mni=not quick,
        overwrite=overwrite,
        overwrite_corrected=overwrite_corrected,
        command=sys.argv[1:],
        label=CaseLabel(case_id, scan_date),
    )
    run_and_show(scan)


def _check_options(
    dwi: Path | None,
    beside_dwi: tuple[Path | float | None, ...],
    dicom: Path | None,
    series: str | None,
    dicom_out: bool,
    keep_identity: bool,
) -> None:
    """Refuse options that contradict each other."""
    if dicom is None:
        if dwi is None:
            raise typer.BadParameter("no scan given; use --dwi (with --b0 or --adc), or --dicom")
        if series is not None or dicom_out or keep_identity:
            raise typer.BadParameter("--series, --dicom-out and --keep-identity require --dicom")
        return
    if any(given is not None for given in (dwi, *beside_dwi)):
        raise typer.BadParameter("--dicom cannot be combined with --dwi, --b0, --adc or --bvalue")
    if keep_identity and not dicom_out:
        raise typer.BadParameter("--keep-identity requires --dicom-out")
