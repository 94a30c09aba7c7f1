"""Results on disk: masks, numbers, a page to look at, and how it was made. Complete or absent."""

from __future__ import annotations

import base64
import csv
import json
import math
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from infarct import assets
from infarct.errors import OutputError
from infarct.figures import slice_figure, to_png
from infarct.grid import MNI_GRID
from infarct.intensity import Image
from infarct.pipeline import Segmentation
from infarct.places import Part, Place
from infarct.quantify import Lesion
from infarct.resample import resample
from infarct.volume import Volume, write

_LIBRARIES = ("numpy", "scipy", "nibabel", "SimpleITK", "matplotlib")


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
    with _complete_or_absent(out) as partial:
        _write_images(result, partial)
        figure = to_png(slice_figure(result))
        (partial / "figure.png").write_bytes(figure)
        _write_lesions(result, partial / "lesions.tsv")
        _write_regions(result, partial / "regions.tsv")
        summary = summarise(result)
        _write_json(summary, partial / "summary.json")
        _write_json(_manifest(result, command), partial / "manifest.json")
        page = _render(result, summary, figure)
        (partial / "report.html").write_text(page, encoding="utf-8")
    return out


def check_destination(out: Path, inputs: Any, *, overwrite: bool) -> None:
    """Refuse a destination that would mix results with inputs or with an earlier result.

    Args:
        out: Folder to make.
        inputs: Paths of the input files.
        overwrite: An earlier result may be replaced.

    Raises:
        OutputError: If so.
    """
    out = out.resolve()
    for path in inputs:
        if out == path.resolve().parent or out in path.resolve().parents:
            raise OutputError(
                f"{out} holds the input {path.name}; folders of inputs are never written to: "
                "give --out a folder of its own"
            )
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give --out the name of a folder to make")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise OutputError(
            f"{out} is there already and not empty; choose another --out, or add --overwrite"
        )
    if overwrite and out.is_dir() and any(out.iterdir()) and not (out / "manifest.json").is_file():
        raise OutputError(f"{out} is no earlier result (it has no manifest.json); nothing replaced")


def summarise(result: Segmentation) -> dict[str, Any]:
    """Return the numbers of one scan as they go into `summary.json`; None where undefined."""
    numbers = {
        field.name: getattr(result.measurements, field.name)
        for field in fields(result.measurements)
        if field.name != "lesions"
    }
    peak, adc_peak = result.prepared.dwi_peak, result.prepared.adc_peak
    found = result.prepared.registration
    summary: dict[str, Any] = _finite(
        {
            **numbers,
            "model": result.segmenter.name,
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
            "territories": [_part(part, "territory") for part in result.places.territories],
            "regions": [_part(part, "region") for part in result.places.regions],
            "aspects": asdict(result.aspects) if result.aspects else None,
            "pc_aspects": asdict(result.pc_aspects) if result.pc_aspects else None,
            "pattern": asdict(result.places.pattern),
            "warnings": [asdict(f) for f in result.findings if f.level == "warning"],
            "notes": [asdict(f) for f in result.findings if f.level == "note"],
            "seconds": result.seconds,
        }
    )
    return summary


def _part(part: Part, kind: str) -> dict[str, Any]:
    """Return a row of the table of territories (with its sub-territories) or of regions."""
    own = (
        {"sub": [_part(p, kind) for p in part.parts]} if kind == "territory" and part.parts else {}
    )
    return {
        "name": part.name,
        "side": part.side,
        **({"class": part.group} if kind == "region" else {}),
        "ml": part.ml,
        f"share_of_{kind}": part.share_of_part,
        "share_of_lesion": part.share_of_lesion,
        **own,
    }


def verdict(result: Segmentation) -> str:
    """Say in one sentence what was found."""
    m = result.measurements
    if m.lesion_count == 0:
        return "No acute lesion was outlined."
    many = "1 lesion" if m.lesion_count == 1 else f"{m.lesion_count} lesions"
    if min(m.left_ml, m.right_ml) > 0.1 * m.lesion_volume_ml:
        where = "on both sides"
    else:
        where = "on the left" if m.left_ml > m.right_ml else "on the right"
    return f"{m.lesion_volume_ml:.2f} ml of acute lesion outlined, {many}, {where}."


@contextmanager
def _complete_or_absent(out: Path) -> Iterator[Path]:
    """Build beside the destination and rename at the end; leave nothing behind on failure."""
    out = out.resolve()
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if out.is_dir():
            old = out.with_name(f".{out.name}.old-{os.getpid()}")
            out.rename(old)
            partial.rename(out)
            shutil.rmtree(old)
        else:
            partial.rename(out)
    except OSError as error:
        raise OutputError(f"results cannot be written to {out}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_images(result: Segmentation, folder: Path) -> None:
    write(result.lesion, folder / "lesion_mask.nii.gz", np.uint8)
    write(result.brain, folder / "brain_mask.nii.gz", np.uint8)
    write(result.probability, folder / "lesion_probability.nii.gz", np.float32)
    mni = folder / "mni"
    mni.mkdir()
    scan = result.prepared

    def write_mni(image: Image, name: str, step: float) -> None:
        # Stored in steps: a brain at 1 mm is 8 million voxels, and small files are quickly read.
        write(Volume(image, MNI_GRID.affine), mni / f"{name}.nii.gz", np.int16, step)

    write_mni(scan.dwi, "dwi", _step(scan.dwi))
    write_mni(scan.b0, "b0", _step(scan.b0))
    write_mni(np.clip(scan.adc, -0.01, 0.01), "adc", 1e-6)
    write_mni(np.clip(scan.dwi_normalised * scan.brain, -30, 30), "dwi_normalised", 1e-3)
    write_mni(result.is_map_mni, "is_map", 1e-4)
    write_mni(result.probability_mni, "lesion_probability", 1e-4)
    mni_from_native = scan.registration.mni_from_native
    outline = result.lesion.like(result.lesion.data.astype(np.float32))
    there = resample(outline, MNI_GRID, np.linalg.inv(mni_from_native)) > 0.5
    write(Volume(there, MNI_GRID.affine), mni / "lesion_mask.nii.gz", np.uint8)
    np.savetxt(mni / "mni_from_native.txt", mni_from_native, fmt="%.9g")
    np.savetxt(mni / "atlas_from_native.txt", result.refinement.mni_from_native, fmt="%.9g")


def _step(image: Image) -> float:
    """Return the step that lets the brightest voxel fit 15 bits."""
    return max(float(np.abs(image).max()) / 32000.0, 1e-12)


def _write_lesions(result: Segmentation, path: Path) -> None:
    header = [field.name for field in fields(Lesion)]
    columns = []
    for name in header:
        split = name.startswith("centroid")
        stem = name.removesuffix("_mm")
        columns += [f"{stem}_{axis}_mm" for axis in "xyz"] if split else [name]
    where = [field.name for field in fields(Place) if field.name != "label"]
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, delimiter="\t", lineterminator="\n")
        table.writerow(columns + where)
        for lesion, place in zip(result.measurements.lesions, result.places.lesions, strict=True):
            row: list[str] = []
            for name in header:
                value = getattr(lesion, name)
                row += [_cell(v) for v in value] if isinstance(value, tuple) else [_cell(value)]
            table.writerow(row + [getattr(place, name) for name in where])


def _write_regions(result: Segmentation, path: Path) -> None:
    """Write territories, sub-territories and regions touched, one row each."""
    places = result.places
    kinds = (
        ("territory", places.territories),
        ("sub-territory", [part for major in places.territories for part in major.parts]),
        ("region", places.regions),
    )
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, delimiter="\t", lineterminator="\n")
        table.writerow(["kind", "name", "side", "group", "ml", "share_of_part", "share_of_lesion"])
        for kind, parts in kinds:
            for part in parts:
                names = [kind, part.name, part.side or "n/a", part.group]
                numbers = (part.ml, part.share_of_part, part.share_of_lesion)
                table.writerow(names + [_cell(number) for number in numbers])


def _cell(value: float | str) -> str:
    if isinstance(value, float):
        return "n/a" if math.isnan(value) else f"{value:.6g}"
    return str(value)


def _manifest(result: Segmentation, command: Sequence[str]) -> dict[str, Any]:
    """Say how the result was made, so that it can be made again. File names only, no folders."""
    inputs = result.case.files.paths()
    territories = result.places.atlas
    return {
        "infarct": version("infarct"),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "command": [Path(sys.argv[0]).name, *command] if command else None,
        "model": result.segmenter.name,
        "territories": {"file": territories.file, "sha256": territories.sha256},
        "inputs": {
            role: {"file": path.name, "sha256": assets.sha256(path)}
            for role, path in inputs.items()
        },
        "assets": {name: asset.sha256 for name, asset in assets.index().items()},
        "seeds": None,
        "randomness": "none: no step draws random numbers",
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _write_json(content: Any, path: Path) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _finite(content: Any) -> Any:
    """Replace NaN by None and numpy numbers by Python's, all the way down."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float | np.floating):
        return float(content) if math.isfinite(content) else None
    return content


@dataclass(frozen=True)
class _Row:
    name: str
    value: str


def _render(result: Segmentation, summary: dict[str, Any], figure: bytes) -> str:
    environment = Environment(
        loader=PackageLoader("infarct", "data"), autoescape=True, undefined=StrictUndefined
    )
    m = result.measurements

    def number(value: float, digits: int, unit: str = "") -> str:
        return "-" if math.isnan(value) else f"{value:.{digits}f}{unit}"

    rows = [
        _Row("Lesion volume", number(m.lesion_volume_ml, 2, " ml")),
        _Row("Lesions", str(m.lesion_count)),
        _Row("Left / right", f"{m.left_ml:.2f} / {m.right_ml:.2f} ml"),
        _Row("Intracranial volume (brain mask)", number(m.intracranial_volume_ml, 0, " ml")),
        _Row("DWI, lesion / normal tissue", number(m.kappa_dwi, 2)),
        _Row("ADC, lesion / normal tissue", number(m.kappa_adc, 2)),
        _Row("Mean ADC of the lesion", number(m.mean_adc * 1e3, 2, " x 10⁻³ mm²/s")),
    ]
    return environment.get_template("report.html.j2").render(
        verdict=verdict(result),
        warnings=[f for f in result.findings if f.level == "warning"],
        notes=[f for f in result.findings if f.level == "note"],
        figure=base64.b64encode(figure).decode(),
        rows=rows,
        lesions=m.lesions,
        method=result.segmenter.title,
        threshold=result.segmenter.threshold,
        seconds=summary["seconds"],
        version=version("infarct"),
        bvalue=result.case.bvalue,
        brain_method=result.prepared.brain_method,
    )
