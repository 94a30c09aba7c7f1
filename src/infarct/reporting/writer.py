"""Write a result folder: masks, measurements, report and provenance. Complete or absent."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from infarct.core.units import format_names
from infarct.measurement.volumetry import pieces
from infarct.reporting.case_label import CaseLabel
from infarct.reporting.html_report import write_page
from infarct.reporting.methods import METHODS, write_methods
from infarct.reporting.reader import (
    FILES,
    LABELS,
    OUTLINE,
    SECOND,
    Stored,
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

_COARSEST_STEP = 2e-3
"""Largest quantisation step of a signal, relative to the median of the brain; tissue contrast is a
few per cent."""

_MOST_NAMES = 20
"""Maximum number of files listed in an error message."""

DOCUMENTS = ("report.html", "figure.png", *METHODS)
"""The files that `write_documents` writes."""

_LIBRARIES = ("numpy", "scipy", "nibabel", "SimpleITK", "onnxruntime", "matplotlib")


def write_results(
    result: Segmentation,
    out: Path,
    *,
    overwrite: bool = False,
    overwrite_corrected: bool = False,
    command: Sequence[str] = (),
    label: CaseLabel | None = None,
    keep_mni: bool = True,
    add: Callable[[Path], object] = lambda _: None,
) -> Path:
    """Write the result for one scan to its own folder.

    Args:
        result: The segmentation result.
        out: Folder to create; it appears only after all files have been written.
        overwrite: Replace an unchanged earlier result.
        overwrite_corrected: Also replace a result that was corrected or edited, or that contains
            the user's own files.
        command: Command-line arguments, for the manifest.
        label: Identifies the case in the report; the name of the output folder if None.
        keep_mni: Write the scan and the maps in MNI space, which take most of the disk space; the
            lesion mask in MNI space is always written.
        add: Called with the temporary folder before it is published, to add more files.

    Returns:
        `out`.

    Raises:
        OutputError: If `out` already contains files, contains inputs, or cannot be written, or if
            another process is writing to it.
    """
    inputs = result.case.files.paths().values()
    may = {"overwrite": overwrite, "overwrite_corrected": overwrite_corrected}
    with (
        destination(out, inputs, **may),
        # Check again: the earlier result may have been edited in the meantime.
        atomic_directory(out, lambda old: _refuse_to_lose(old, out, **may)) as partial,
        ThreadPoolExecutor(1) as pool,
    ):
        (partial / "mni").mkdir()
        # Compression releases the interpreter lock, so that the page can be made meanwhile.
        volumes = pool.submit(_write_mni_volumes, result, partial / "mni") if keep_mni else None
        _write_images(result, partial)
        _write_placement(result, partial / "mni")
        write_tables(result.measurements, result.anatomy.places, partial)
        write_json(summarise(result), partial / "summary.json")
        manifest = _manifest(result, command)
        manifest["case"] = (label or CaseLabel()).record(out.resolve().name)
        manifest["outputs"] = {OUTLINE: assets.sha256(partial / OUTLINE)}
        write_json(manifest, partial / "manifest.json")
        # Render from the folder, to verify that the report can be rebuilt from it later.
        write_documents(read_stored(partial), partial)
        if volumes:
            volumes.result()
        add(partial)
        write_json({**manifest, FILES: list_files(partial)}, partial / "manifest.json")
    return out


def rebuild_page(folder: Path) -> None:
    """Rebuild the report, its figure and the methods text from a result folder.

    Args:
        folder: Output of `infarct segment`.

    Raises:
        InputFileError: If the result is incomplete or damaged.
        OutputError: If the folder cannot be written.
    """
    with reserved(folder):
        settle(folder)
        stored = read_stored(folder)
        with edit_atomically(folder) as partial:
            write_documents(stored, partial)
            write_json(relisted(stored.manifest, partial, DOCUMENTS), partial / "manifest.json")


def write_documents(stored: Stored, folder: Path) -> None:
    """Write the report, its figure and the methods text.

    Args:
        stored: The result.
        folder: Output folder.
    """
    write_page(stored, folder)
    write_methods([(stored.summary, stored.manifest)], folder)


def relisted(manifest: dict[str, Any], folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """Return a manifest with updated checksums of some files.

    Args:
        manifest: The manifest of a result; returned unchanged if it has no file list.
        folder: The result folder.
        names: Files that were written or removed. All other entries are kept, so that manual edits
            are still detected.
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
    """Check an output folder and reserve it for this process.

    Args:
        out: Folder to create.
        inputs: Paths of the input files.
        overwrite: Allow replacing an earlier result.
        overwrite_corrected: Also allow replacing a result that was corrected or edited, or that
            contains the user's own files.
        patience: Time to wait for another process that is using the folder, seconds.

    Raises:
        OutputError: If the folder cannot be written, contains files that may not be replaced, or
            is in use by another process.
    """
    inputs = list(inputs)
    check_place(out, inputs)
    with reserved(out, patience):
        settle(out)
        check_destination(out, inputs, overwrite=overwrite, overwrite_corrected=overwrite_corrected)
        yield


def check_place(out: Path, inputs: Iterable[Path]) -> None:
    """Check that an output folder can be created and contains no inputs.

    Args:
        out: Folder to create.
        inputs: Paths of the input files.

    Raises:
        OutputError: If the folder cannot be created or contains an input file.
    """
    refuse_to_replace(out, inputs)
    parent = next(path for path in out.resolve().parents if path.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise OutputError(
            f"cannot create a folder in {parent}: it is not a folder, or you have no write "
            "permission; choose another --out"
        )


def check_destination(
    out: Path, inputs: Iterable[Path], *, overwrite: bool, overwrite_corrected: bool = False
) -> None:
    """Check that results can be written to an output folder without losing other files.

    Args:
        out: Folder to create.
        inputs: Paths of the input files.
        overwrite: Allow replacing an earlier result.
        overwrite_corrected: Also allow replacing a result that was corrected or edited, or that
            contains the user's own files.

    Raises:
        OutputError: If the folder cannot be created, contains an input file, or contains files
            that may not be replaced.
    """
    check_place(out, inputs)
    out = out.resolve()
    if out.is_dir():
        _refuse_to_lose(out, out, overwrite=overwrite, overwrite_corrected=overwrite_corrected)


def _refuse_to_lose(folder: Path, out: Path, *, overwrite: bool, overwrite_corrected: bool) -> None:
    """Raise if `folder` (`out`, possibly moved aside) contains files that must be kept."""
    if not any(folder.iterdir()):
        return
    if not (overwrite or overwrite_corrected):
        raise OutputError(
            f"{out} already exists and is not empty; choose another --out, or add --overwrite to "
            "replace the earlier result"
        )
    if not is_result(folder):
        raise OutputError(
            f"{out} is not a result folder (it has no manifest.json of infarct); nothing was "
            "replaced; choose another --out"
        )
    work = [] if overwrite_corrected else manual_work(folder)
    if work:
        raise OutputError(
            f"replacing {out} would delete manual work: {format_names(work, _MOST_NAMES)}; "
            "nothing was replaced; move the folder elsewhere, or add --overwrite-corrected to "
            "delete this work"
        )


def summarise(result: Segmentation) -> dict[str, Any]:
    """Return the content of `summary.json` for one scan; undefined numbers are None."""
    peak, adc_peak = result.prepared.dwi_peak, result.prepared.adc_peak
    found = result.prepared.registration
    summary: dict[str, Any] = finite(
        {
            **numbers(result.measurements, result.anatomy),
            "model": result.model.name,
            "method": result.model.title,
            "threshold": result.model.threshold,
            "sampling": "measured slices" if result.model.on_slices else "1 mm",
            "engine": "{name} {version}, {precision}".format(**result.engine),
            "bvalue_s_per_mm2": result.case.bvalue,
            "brain_method": result.prepared.brain_method,
            "dwi_tissue_peak": asdict(peak),
            "adc_tissue_peak_mm2_per_s": asdict(adc_peak),
            "registration": {
                **asdict(found.in_plane),
                "mutual_information": found.mutual_information,
                "affine_refined": result.refinement.affine,
                "affine_displacement_mm": result.refinement.moved_mm,
            },
            "confidence": _confidence(result),
            "warnings": [asdict(f) for f in result.findings if f.level == "warning"],
            "notes": [asdict(f) for f in result.findings if f.level == "note"],
            "seconds": result.seconds,
        }
    )
    return summary


def _write_images(result: Segmentation, folder: Path) -> None:
    write(result.lesion, folder / OUTLINE, np.uint8)
    write_labels(result.lesion, folder)
    if result.second_mask is not None:
        write(result.second_mask, folder / SECOND, np.uint8)
    write(result.brain, folder / "brain_mask.nii.gz", np.uint8)
    write(result.probability, folder / "lesion_probability.nii.gz", np.float32)
    if result.disagreement is not None:
        write(result.disagreement, folder / "uncertainty.nii.gz", np.float32)
    case = result.case
    native = folder / "scan"
    native.mkdir()
    _write_signal(case.dwi, result.brain.data, native / "dwi.nii.gz")
    _write_signal(case.b0, result.brain.data, native / "b0.nii.gz")
    write(case.adc.like(np.clip(case.adc.data, -0.03, 0.03)), native / "adc.nii.gz", np.int16, 1e-6)


def _write_placement(result: Segmentation, mni: Path) -> None:
    """Write the lesion mask in MNI space, and the transforms."""
    mni_from_native = result.prepared.registration.mni_from_native
    write_outline_mni(result.lesion, mni_from_native, mni)
    np.savetxt(mni / "mni_from_native.txt", mni_from_native, fmt="%.9g")
    np.savetxt(mni / "atlas_from_native.txt", result.refinement.mni_from_native, fmt="%.9g")


def _write_mni_volumes(result: Segmentation, mni: Path) -> None:
    """Write the scan and the maps in MNI space."""
    scan = result.prepared

    def write_mni(image: Image, name: str, step: float) -> None:
        # Quantised to 16 bits, because a 1 mm image has 8 million voxels.
        kept = np.clip(image, -32000 * step, 32000 * step)
        write(Volume(kept, MNI_GRID.affine), mni / f"{name}.nii.gz", np.int16, step)

    for name, signal in (("dwi", scan.dwi), ("b0", scan.b0)):
        # For display only: a thousand grey levels up to the brightest tissue.
        write_mni(signal, name, max(float(np.percentile(signal[scan.brain], 99.5)) / 1000, 1e-12))
    write_mni(np.clip(scan.adc, -0.01, 0.01), "adc", 5e-6)
    write_mni(np.clip(scan.dwi_normalised * scan.brain, -30, 30), "dwi_normalised", 1e-3)
    write_mni(resample(result.is_map_mni, MNI_GRID), "is_map", 1e-4)
    write_mni(resample(result.probability_mni, MNI_GRID), "lesion_probability", 1e-4)


def write_labels(lesion: Volume, folder: Path) -> None:
    """Write `lesion_labels.nii.gz`, in which row n of `lesions.tsv` has the value n.

    Args:
        lesion: Lesion mask, bool.
        folder: The result folder.
    """
    write(lesion.like(pieces(lesion.data)), folder / LABELS, np.uint16)


def write_outline_mni(lesion: Volume, mni_from_native: Affine, folder: Path) -> None:
    """Write the lesion mask in MNI space, for overlays.

    Args:
        lesion: bool, on the grid of the scan.
        mni_from_native: (4, 4) scanner coordinates -> MNI mm.
        folder: Folder for `lesion_mask.nii.gz`.
    """
    mask = lesion.like(lesion.data.astype(np.float32))
    mask_mni = resample(mask, MNI_GRID, np.linalg.inv(mni_from_native)) > 0.5
    write(Volume(mask_mni, MNI_GRID.affine), folder / "lesion_mask.nii.gz", np.uint8)


def _write_signal(signal: Volume, brain: Mask, path: Path) -> None:
    """Write a signal as 16-bit integers, or as floats if the steps would be too coarse."""
    step = max(float(np.abs(signal.data).max()) / 32000.0, 1e-12)
    if step > _COARSEST_STEP * float(np.median(signal.data[brain])):
        # A single very bright voxel would leave too few grey levels for the brain.
        write(signal, path, np.float32)
    else:
        write(signal, path, np.int16, step)


def _confidence(result: Segmentation) -> dict[str, Any] | None:
    """Return the confidence of the result; None for methods without a second method."""
    second, filtered = result.second_method, result.filtered
    if second is None:
        return None
    if filtered is None:
        return {"second_method": asdict(second)}
    void = void_reason(result.findings)
    return {
        "infarct_probability": None if void else filtered.infarct_probability,
        "volume_interval_ml": None if void else filtered.volume_interval_ml,
        "volume_interval_probability": COVERAGE,
        "failure_probability": None if void else filtered.failure_probability,
        "operating_point": filtered.point,
        "calibration": _calibration_data(result.model),
        "rejected": {"candidates": filtered.rejected, "ml": filtered.rejected_ml},
        "second_method": asdict(second),
    }


def _calibration_data(model: Model) -> dict[str, Any] | None:
    if model.candidate_filter is None:
        return None
    calibration = model.candidate_filter.calibration
    return {
        "scans": calibration.scans,
        "with_infarct": calibration.scans - calibration.lesion_free,
        "learned_from": calibration.learned_from,
    }


def _without_folder(word: str) -> str:
    """Reduce a path in a command-line argument to its last part; folders may name patients."""
    option, is_value, value = word.partition("=") if word.startswith("-") else ("", "", word)
    return f"{option}{is_value}{Path(value).name or value}"


def calibration_record(model: Model) -> dict[str, str] | None:
    """Return the calibration file of a method and its SHA-256 for the manifest, None if none."""
    candidate_filter = model.candidate_filter
    return (
        {"file": candidate_filter.file, "sha256": candidate_filter.sha256}
        if candidate_filter
        else None
    )


def _manifest(result: Segmentation, command: Sequence[str]) -> dict[str, Any]:
    """Return the provenance of a result, with file names but without folders."""
    inputs = result.case.files.paths()
    if (bvalues := result.case.files.bval_path()) is not None:
        inputs["bval"] = bvalues
    territories = result.anatomy.places.atlas
    return {
        "infarct": version("infarct"),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "command": ["infarct", *map(_without_folder, command)] if command else None,
        "model": result.model.name,
        "operating_point": result.filtered.point if result.filtered else None,
        "networks": result.model.networks_sha256,
        "calibration": calibration_record(result.model),
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
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
