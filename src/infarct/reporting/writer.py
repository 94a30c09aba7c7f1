"""Results on disk: masks, numbers, a page to look at, and how it was made. Complete or absent."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from infarct.core import assets
from infarct.core.atomic_write import (
    PATIENCE_SECONDS,
    atomic_directory,
    edit_atomically,
    refuse_to_replace,
    reserved,
)
from infarct.core.diffusion import Image, Mask
from infarct.core.errors import OutputError
from infarct.core.findings import void_reason
from infarct.core.geometry import MNI_GRID, Affine
from infarct.core.nifti import Volume, write
from infarct.core.resampling import resample
from infarct.core.serialization import finite, write_json
from infarct.reporting.html_report import write_page
from infarct.reporting.reader import (
    FILES,
    OUTLINE,
    is_result,
    list_files,
    manual_work,
    read_stored,
    settle,
)
from infarct.reporting.tables import numbers, write_tables
from infarct.segmentation.models import Model
from infarct.segmentation.result import Segmentation
from infarct.uncertainty.calibration import COVERAGE

_COARSE = 2e-3
"""Step over the median of the brain; tissue differs by a few per cent."""

_MOST_NAMES = 20
"""How many files an error lists."""

PAGE = ("report.html", "figure.png")
"""What `write_page` writes."""

_LIBRARIES = ("numpy", "scipy", "nibabel", "SimpleITK", "onnxruntime", "matplotlib")


def write_results(
    result: Segmentation,
    out: Path,
    *,
    overwrite: bool = False,
    overwrite_corrected: bool = False,
    command: Sequence[str] = (),
    add: Callable[[Path], object] = lambda _: None,
) -> Path:
    """Write everything about one scan into a folder of its own.

    Args:
        result: What was found.
        out: Folder to make; appears only when every file in it is written.
        overwrite: Replace an earlier result, as infarct wrote it.
        overwrite_corrected: Also one that was corrected or edited, or holds the user's own files.
        command: The command line, for the manifest.
        add: Called with the folder before it is complete, to write more files into it.

    Returns:
        `out`.

    Raises:
        OutputError: If `out` holds files already, is a folder of inputs, or cannot be written; or
            if another process is writing to it.
    """
    inputs = result.case.files.paths().values()
    may = {"overwrite": overwrite, "overwrite_corrected": overwrite_corrected}
    with (
        destination(out, inputs, **may),
        # Again: somebody may have worked on it meanwhile.
        atomic_directory(out, lambda old: _refuse_to_lose(old, out, **may)) as partial,
    ):
        _write_images(result, partial)
        write_tables(result.measurements, result.anatomy.places, partial)
        write_json(summarise(result), partial / "summary.json")
        manifest = _manifest(result, command)
        manifest["outputs"] = {OUTLINE: assets.sha256(partial / OUTLINE)}
        write_json(manifest, partial / "manifest.json")
        # From the folder, as anyone can later: what the page needs is there, or this fails.
        write_page(read_stored(partial), partial)
        add(partial)
        write_json({**manifest, FILES: list_files(partial)}, partial / "manifest.json")
    return out


def rebuild_page(folder: Path) -> None:
    """Write `report.html` and `figure.png` of a result anew, from nothing but its folder.

    Args:
        folder: As `infarct segment` made it.

    Raises:
        InputFileError: If it is no whole result.
        OutputError: If it cannot be written.
    """
    with reserved(folder):
        settle(folder)
        stored = read_stored(folder)
        with edit_atomically(folder) as partial:
            write_page(stored, partial)
            write_json(relisted(stored.manifest, partial, PAGE), partial / "manifest.json")


def relisted(manifest: dict[str, Any], folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """Return a manifest whose list of files has the current hashes of some of them.

    Args:
        manifest: Of a result; one without a list is returned as it is.
        folder: Of the result.
        names: Files that were written or removed; all others keep the entry they have, so that
            what a person changed can still be told.
    """
    if FILES not in manifest:
        return manifest
    listed = {name: digest for name, digest in manifest[FILES].items() if name not in names}
    listed |= {
        name: assets.sha256(folder / name) for name in sorted(names) if (folder / name).is_file()
    }
    return {**manifest, FILES: listed}


@contextmanager
def destination(
    out: Path,
    inputs: Iterable[Path],
    *,
    overwrite: bool = False,
    overwrite_corrected: bool = False,
    patience: float = PATIENCE_SECONDS,
) -> Iterator[None]:
    """Check a destination before any work, and keep other processes away from it meanwhile.

    Args:
        out: Folder to make.
        inputs: Paths of the input files.
        overwrite: An earlier result may be replaced.
        overwrite_corrected: So may one that was corrected or edited, or holds the user's own files.
        patience: Seconds to wait for another process that is working on it.

    Raises:
        OutputError: If it cannot be written, would mix results with others or replace what may not
            be replaced, or if another process is working on it.
    """
    inputs = list(inputs)
    check_place(out, inputs)
    with reserved(out, patience):
        settle(out)
        check_destination(out, inputs, overwrite=overwrite, overwrite_corrected=overwrite_corrected)
        yield


def check_place(out: Path, inputs: Iterable[Path]) -> None:
    """Refuse a place where no folder can be made, or where the inputs are.

    Args:
        out: Folder to make.
        inputs: Paths of the input files.

    Raises:
        OutputError: If so.
    """
    refuse_to_replace(out, inputs)
    parent = next(path for path in out.resolve().parents if path.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise OutputError(
            f"no folder can be made in {parent}: it is not a folder, or you may not write there; "
            "give --out a folder elsewhere"
        )


def check_destination(
    out: Path, inputs: Iterable[Path], *, overwrite: bool, overwrite_corrected: bool = False
) -> None:
    """Refuse a destination that cannot be, would mix results with others, or lose manual work.

    Args:
        out: Folder to make.
        inputs: Paths of the input files.
        overwrite: An earlier result may be replaced.
        overwrite_corrected: So may one that was corrected or edited, or holds the user's own files.

    Raises:
        OutputError: If so.
    """
    check_place(out, inputs)
    out = out.resolve()
    if out.is_dir():
        _refuse_to_lose(out, out, overwrite=overwrite, overwrite_corrected=overwrite_corrected)


def _refuse_to_lose(folder: Path, out: Path, *, overwrite: bool, overwrite_corrected: bool) -> None:
    """Refuse to replace a folder, which may have been moved aside from `out`, by what must stay."""
    if not any(folder.iterdir()):
        return
    if not (overwrite or overwrite_corrected):
        raise OutputError(
            f"{out} already exists and is not empty; choose another --out, or add --overwrite to "
            "replace an earlier result"
        )
    if not is_result(folder):
        raise OutputError(
            f"{out} is not an earlier result (it has no manifest.json of infarct); nothing was "
            "replaced"
        )
    work = [] if overwrite_corrected else manual_work(folder)
    if work:
        more = f" and {len(work) - _MOST_NAMES} more" if len(work) > _MOST_NAMES else ""
        raise OutputError(
            f"replacing {out} would delete manual work: {', '.join(work[:_MOST_NAMES])}{more}; "
            "nothing was replaced: move the folder elsewhere, or add --overwrite-corrected to "
            "delete it"
        )


def summarise(result: Segmentation) -> dict[str, Any]:
    """Return the numbers of one scan as they go into `summary.json`; None where undefined."""
    peak, adc_peak = result.prepared.dwi_peak, result.prepared.adc_peak
    found = result.prepared.registration
    summary: dict[str, Any] = finite(
        {
            **numbers(result.measurements, result.anatomy),
            "model": result.segmenter.name,
            "method": result.segmenter.title,
            "threshold": result.segmenter.threshold,
            "engine": "{name} {version}, {precision}".format(**result.engine),
            "bvalue_s_per_mm2": result.case.bvalue,
            "brain_method": result.prepared.brain_method,
            "dwi_tissue_peak": asdict(peak),
            "adc_tissue_peak_mm2_per_s": asdict(adc_peak),
            "registration": {
                **asdict(found.in_plane),
                "mutual_information": found.mutual_information,
                "affine_for_atlas": result.refinement.affine,
                "affine_moved_mm": result.refinement.moved_mm,
            },
            "certainty": _certainty(result),
            "warnings": [asdict(f) for f in result.findings if f.level == "warning"],
            "notes": [asdict(f) for f in result.findings if f.level == "note"],
            "seconds": result.seconds,
        }
    )
    return summary


def _write_images(result: Segmentation, folder: Path) -> None:
    write(result.lesion, folder / OUTLINE, np.uint8)
    write(result.brain, folder / "brain_mask.nii.gz", np.uint8)
    write(result.probability, folder / "lesion_probability.nii.gz", np.float32)
    if result.disagreement is not None:
        write(result.disagreement, folder / "uncertainty.nii.gz", np.float32)
    case, scan = result.case, result.prepared
    native = folder / "scan"
    native.mkdir()
    _write_signal(case.dwi, result.brain.data, native / "dwi.nii.gz")
    _write_signal(case.b0, result.brain.data, native / "b0.nii.gz")
    write(case.adc.like(np.clip(case.adc.data, -0.03, 0.03)), native / "adc.nii.gz", np.int16, 1e-6)
    mni = folder / "mni"
    mni.mkdir()

    def write_mni(image: Image, name: str, step: float) -> None:
        # Stored in steps: a brain at 1 mm is 8 million voxels, and small files are quickly read.
        write(Volume(image, MNI_GRID.affine), mni / f"{name}.nii.gz", np.int16, step)

    for name, signal in (("dwi", scan.dwi), ("b0", scan.b0)):
        _write_signal(Volume(signal, MNI_GRID.affine), scan.brain, mni / f"{name}.nii.gz")
    write_mni(np.clip(scan.adc, -0.01, 0.01), "adc", 1e-6)
    write_mni(np.clip(scan.dwi_normalised * scan.brain, -30, 30), "dwi_normalised", 1e-3)
    write_mni(result.is_map_mni, "is_map", 1e-4)
    write_mni(result.probability_mni, "lesion_probability", 1e-4)
    mni_from_native = scan.registration.mni_from_native
    write_outline_mni(result.lesion, mni_from_native, mni)
    np.savetxt(mni / "mni_from_native.txt", mni_from_native, fmt="%.9g")
    np.savetxt(mni / "atlas_from_native.txt", result.refinement.mni_from_native, fmt="%.9g")


def write_outline_mni(lesion: Volume, mni_from_native: Affine, folder: Path) -> None:
    """Write the outline in MNI space, for overlays.

    Args:
        lesion: bool, on the grid of the scan.
        mni_from_native: (4, 4) world of the scan -> MNI mm.
        folder: Where `lesion_mask.nii.gz` goes.
    """
    outline = lesion.like(lesion.data.astype(np.float32))
    there = resample(outline, MNI_GRID, np.linalg.inv(mni_from_native)) > 0.5
    write(Volume(there, MNI_GRID.affine), folder / "lesion_mask.nii.gz", np.uint8)


def _write_signal(signal: Volume, brain: Mask, path: Path) -> None:
    """Write a signal in 16-bit steps, as small as the brightest voxel lets them be."""
    step = max(float(np.abs(signal.data).max()) / 32000.0, 1e-12)
    if step > _COARSE * float(np.median(signal.data[brain])):
        # One hot voxel would leave a few greys to the brain.
        write(signal, path, np.float32)
    else:
        write(signal, path, np.int16, step)


def _certainty(result: Segmentation) -> dict[str, Any] | None:
    """Return what is known of how sure the outline is, or None of a method that cannot tell."""
    second, judged = result.second_reading, result.filtered
    if second is None:
        return None
    if judged is None:
        return {"second_reader": asdict(second)}
    void = void_reason(result.findings)
    return {
        "lesion_visible": None if void else judged.lesion_visible,
        "volume_interval_ml": None if void else judged.volume_interval_ml,
        "volume_interval_probability": COVERAGE,
        "operating_point": judged.point,
        "calibration": _calibrated_on(result.segmenter),
        "left_out": {"candidates": judged.left_out, "ml": judged.left_out_ml},
        "second_reader": asdict(second),
    }


def _calibrated_on(segmenter: Model) -> dict[str, Any] | None:
    if segmenter.candidate_filter is None:
        return None
    of = segmenter.candidate_filter.calibration
    with_infarct = of.scans - of.lesion_free
    return {"scans": of.scans, "with_infarct": with_infarct, "learned_from": of.learned_from}


def _without_folder(word: str) -> str:
    """Shorten a path in a word of a command to its last part: folders may name patients."""
    option, is_value, value = word.partition("=") if word.startswith("-") else ("", "", word)
    return f"{option}{is_value}{Path(value).name or value}"


def calibration_record(segmenter: Model) -> dict[str, str] | None:
    """Return which calibration a method uses, for the manifest; None of one without."""
    candidate_filter = segmenter.candidate_filter
    return (
        {"file": candidate_filter.file, "sha256": candidate_filter.sha256}
        if candidate_filter
        else None
    )


def _manifest(result: Segmentation, command: Sequence[str]) -> dict[str, Any]:
    """Say how the result was made, so that it can be made again. File names only, no folders."""
    inputs = result.case.files.paths()
    if (bvalues := result.case.files.bval_path()) is not None:
        inputs["bval"] = bvalues
    territories = result.anatomy.places.atlas
    return {
        "infarct": version("infarct"),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "command": ["infarct", *map(_without_folder, command)] if command else None,
        "model": result.segmenter.name,
        "operating_point": result.filtered.point if result.filtered else None,
        "networks": result.segmenter.networks_sha256,
        "calibration": calibration_record(result.segmenter),
        "engine": result.engine,
        "territories": {
            "file": territories.file,
            "sha256": territories.sha256,
            "names_sha256": territories.names_sha256,
        },
        "inputs": {
            role: {"file": path.name, "sha256": assets.sha256(path)}
            for role, path in inputs.items()
        },
        "assets": {name: asset.sha256 for name, asset in assets.index().items()},
        "seeds": None,
        "randomness": "none in masks and numbers; the UIDs of DICOM objects (dicom/) are random",
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
