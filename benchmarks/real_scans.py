"""What a lesion network does on the development scans: Dice where masks exist, false ml elsewhere.

    python benchmarks/real_scans.py MODEL [--picture sheet.png]

Needs the folder INFARCT_DATA (default ../shared/data). Three strokes and four brains without one
are for looking, not for statistics. None was ever trained on, but brains without stroke may have
served as backgrounds of synthetic scans, see the network's card.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from infarct.core.diffusion import Mask
from infarct.core.nifti import read
from infarct.core.step_timer import StepTimer
from infarct.inference.network import load_network
from infarct.preprocessing.case import Case, CaseFiles
from infarct.preprocessing.load import open_case
from infarct.preprocessing.preprocess import preprocess
from infarct.preprocessing.templates import load_template
from infarct.segmentation.models import BRAIN_NETWORK, Model, get_model
from infarct.segmentation.predict import predict

DATA = Path(os.environ.get("INFARCT_DATA", Path(__file__).parents[2] / "shared/data"))

LESIONS = ("lesion_manual", "lesion_ads_prediction")


@dataclass(frozen=True, eq=False)
class Result:
    """One scan, outlined.

    Attributes:
        name: Of its folder.
        case: The scan.
        lesion: Outlined here.
        reference: Drawn by hand, or None.
        seconds: Of the network alone.
    """

    name: str
    case: Case
    lesion: Mask
    reference: Mask | None
    seconds: float


def scans() -> dict[str, CaseFiles]:
    """Return the files of every development scan."""
    found = {}
    for folder in sorted([*(DATA / "real").iterdir(), *(DATA / "normals").iterdir()]):
        stem = f"{folder.name}_" if folder.parent.name == "normals" else ""
        files = {role: folder / f"{stem}{role}.nii.gz" for role in ("dwi", "b0", "adc")}
        b0 = files["b0"] if files["b0"].exists() else None
        found[folder.name] = CaseFiles(files["dwi"], b0=b0, adc=files["adc"])
    return found


def outlined(name: str, files: CaseFiles, method: Model) -> Result:
    """Run one scan as the pipeline does, before the candidate filter."""
    case = open_case(files)
    scan = preprocess(case, load_template(), load_network(BRAIN_NETWORK))
    timer = StepTimer()
    reading = predict(case, scan, method, timer)
    drawn = [files.dwi.with_name(f"{mask}.nii.gz") for mask in LESIONS]
    reference = next((read(file).data > 0.5 for file in drawn if file.exists()), None)
    return Result(name, case, reading.candidates, reference, timer.seconds["outline"])


def draw(results: list[Result], picture: Path) -> None:
    """Draw the fullest slices of each scan: outlined in red, drawn by hand in green."""
    figure = Figure(figsize=(12, 2.2 * len(results)), layout="constrained")
    for row, result in zip(figure.subplots(len(results), 6), results, strict=True):
        axis = result.case.slice_axis
        masks = [
            np.moveaxis(m, axis, 2) for m in (result.lesion, result.reference) if m is not None
        ]
        area = sum(m.sum(axis=(0, 1)) for m in masks)
        depth = masks[0].shape[2]
        spread = np.linspace(0.3, 0.75, 6) * depth
        fullest = np.argsort(-area, kind="stable")[:6]
        slices = np.sort(np.where(area[fullest] > 0, fullest, spread.astype(int)))
        dwi = np.moveaxis(result.case.dwi.data, axis, 2)
        for axes, z in zip(row, slices, strict=True):
            axes.imshow(dwi[:, :, z].T, cmap="gray", origin="lower", vmax=np.percentile(dwi, 99.7))
            for mask, colour in zip(masks[::-1], ("lime", "red")[-len(masks) :], strict=True):
                if mask[:, :, z].any():
                    axes.contour(mask[:, :, z].T, [0.5], colors=colour, linewidths=0.8)
            axes.set_axis_off()
            axes.set_title(f"{result.name} {z}", fontsize=7)
    figure.savefig(picture, dpi=90)


def main() -> None:
    """Print one row for each scan."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", help="name of a method, such as dagmnet-ch3")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    method = get_model(options.model)
    results = []
    print("| scan | Dice | outlined ml | drawn ml | network s |\n|---|---|---|---|---|")
    for name, files in scans().items():
        result = outlined(name, files, method)
        results.append(result)
        voxel_ml = result.case.dwi.grid.voxel_ml
        ml, drawn_ml, dice = result.lesion.sum() * voxel_ml, "-", "-"
        if result.reference is not None:
            both = 2 * (result.lesion & result.reference).sum()
            dice = f"{both / max(result.lesion.sum() + result.reference.sum(), 1):.2f}"
            drawn_ml = f"{result.reference.sum() * voxel_ml:.1f}"
        print(f"| {name} | {dice} | {ml:.1f} | {drawn_ml} | {result.seconds:.0f} |", flush=True)
    if options.picture:
        draw(results, options.picture)


if __name__ == "__main__":
    main()
