"""Results on disk: masks, numbers, a page to look at, and how it was made. Complete or absent."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from infarct import assets
from infarct.calibration import COVERAGE
from infarct.certainty import is_void
from infarct.errors import OutputError
from infarct.grid import MNI_GRID, Affine
from infarct.intensity import Image, Mask
from infarct.page import write_page
from infarct.pipeline import Segmentation
from infarct.resample import resample
from infarct.stored import OUTLINE, is_result, read_stored
from infarct.tables import finite, numbers, write_json, write_tables
from infarct.volume import Volume, write
from infarct.whole import changed_whole, complete_or_absent, refuse_to_replace

_COARSE = 2e-3
"""Step over the median of the brain; tissue differs by a few per cent."""

_LIBRARIES = ("numpy", "scipy", "nibabel", "SimpleITK", "onnxruntime", "matplotlib")


def write_results(
    result: Segmentation, out: Path, *, overwrite: bool = False, command: Sequence[str] = ()
) -> Path:
    """Write everything about one scan into a folder of its own.

    Args:
        result: What was found.
        out: Folder to make; appears only when every file in it is written.
        overwrite: Replace an earlier result.
        command: The command line, for the manifest.

    Returns:
        `out`.

    Raises:
        OutputError: If `out` holds files already, is a folder of inputs, or cannot be written.
    """
    check_destination(out, result.case.files.paths().values(), overwrite=overwrite)
    with complete_or_absent(out) as partial:
        _write_images(result, partial)
        write_tables(result.measurements, result.anatomy.places, partial)
        write_json(summarise(result), partial / "summary.json")
        manifest = _manifest(result, command)
        manifest["outputs"] = {OUTLINE: assets.sha256(partial / OUTLINE)}
        write_json(manifest, partial / "manifest.json")
        # From the folder, as anyone can later: what the page needs is there, or this fails.
        write_page(read_stored(partial), partial)
    return out


def rebuild_page(folder: Path) -> None:
    """Write `report.html` and `figure.png` of a result anew, from nothing but its folder.

    Args:
        folder: As `infarct segment` made it.

    Raises:
        InputFileError: If it is no whole result.
        OutputError: If it cannot be written.
    """
    stored = read_stored(folder)
    with changed_whole(folder) as partial:
        write_page(stored, partial)


def check_destination(out: Path, inputs: Any, *, overwrite: bool) -> None:
    """Refuse, before any work, a destination that cannot be or would mix results with others.

    Args:
        out: Folder to make.
        inputs: Paths of the input files.
        overwrite: An earlier result may be replaced.

    Raises:
        OutputError: If so.
    """
    refuse_to_replace(out, inputs)
    out = out.resolve()
    parent = next(path for path in out.parents if path.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise OutputError(
            f"no folder can be made in {parent}: it is no folder, or you may not write there; "
            "give --out a folder elsewhere"
        )
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise OutputError(
            f"{out} is there already and not empty; choose another --out, or add --overwrite"
        )
    if overwrite and out.is_dir() and any(out.iterdir()) and not is_result(out):
        raise OutputError(
            f"{out} is no earlier result (it has no manifest.json of infarct); nothing replaced"
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
    second, judged = result.second_reading, result.judgement
    if second is None:
        return None
    if judged is None:
        return {"second_reader": asdict(second)}
    void = is_void(result.findings)
    return {
        "lesion_visible": None if void else judged.lesion_visible,
        "volume_interval_ml": None if void else judged.volume_interval_ml,
        "volume_interval_probability": COVERAGE,
        "operating_point": judged.point,
        "left_out": {"candidates": judged.left_out, "ml": judged.left_out_ml},
        "second_reader": asdict(second),
    }


def _without_folder(word: str) -> str:
    """Shorten a path in a word of a command to its last part: folders may name patients."""
    option, is_value, value = word.partition("=") if word.startswith("-") else ("", "", word)
    return f"{option}{is_value}{Path(value).name or value}"


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
        "operating_point": result.judgement.point if result.judgement else None,
        "networks": {file.name: assets.sha256(file) for file in result.segmenter.networks},
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
        "randomness": "none: no step draws random numbers",
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
