"""How well the brain is outlined: synthetic heads, and real scans with another tool's mask.

    python benchmarks/brain_mask.py CASES [--cases 40] [--data DIR] [--deepbet FOLDER]

CASES holds synthetic cases at any depth (`infarct lab synth --cohort test --n 40 --out CASES`). A
rival can be had by `pip install --no-deps --target FOLDER deepbet fill-voids fastremap tqdm
connected-components-3d`; it is given the b0 of the real scans, the image it does best on.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
from rich.progress import track

from infarct.core.diffusion import Mask
from infarct.core.nifti import read
from infarct.evaluation.metrics import dice
from infarct.inference.network import load_network
from infarct.lab.simulation import write_cases
from infarct.preprocessing.case import CaseFiles
from infarct.preprocessing.load import open_case
from infarct.preprocessing.preprocess import preprocess
from infarct.preprocessing.templates import load_template
from infarct.segmentation.models import BRAIN_NETWORK

DATA = Path(__file__).parents[2] / "shared/data"


def rival(folder: Path) -> Callable[[Path], Mask]:
    """Return deepbet as a function of an image; its window is left out."""
    sys.path.insert(0, str(folder))
    sys.modules["deepbet.ui.gui"] = ModuleType("deepbet.ui.gui")
    extraction = importlib.import_module("deepbet").BrainExtraction(no_gpu=True)

    def extract(path: Path) -> Mask:
        image = nib.nifti1.load(path)
        _, mask, _ = extraction.run(image)
        back = nib.orientations.ornt_transform(
            nib.io_orientation(mask.affine), nib.io_orientation(image.affine)
        )
        return np.asarray(mask.as_reoriented(back).dataobj) > 0

    return extract


def overlaps(
    files: CaseFiles, reference: Path, deepbet: Callable[[Path], Mask] | None
) -> tuple[str, list[float]]:
    """Return whose outline it is, and the Dice of ours, of thresholds alone, and of the rival."""
    case, truth = open_case(files), read(reference).data > 0.5
    ours = preprocess(case, load_template(), load_network(BRAIN_NETWORK))
    thresholds = preprocess(case, load_template())
    found = [ours.brain_native, thresholds.brain_native]
    if deepbet:
        found.append(deepbet(files.b0 or files.dwi))
    return ours.brain_method, [dice(mask, truth) for mask in found]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--deepbet", type=Path)
    options = parser.parse_args()
    deepbet = rival(options.deepbet) if options.deepbet else None

    names = ["network", "thresholds", *(["deepbet"] if deepbet else [])]
    print("| scan | outline by | " + " | ".join(names) + " |")
    print("|---|---|" + "---|" * len(names))
    for path in sorted((options.data / "real").glob("*/brain_*.nii.gz")):
        home = path.parent
        dwi, b0, adc = (home / f"{kind}.nii.gz" for kind in ("dwi", "b0", "adc"))
        method, dices = overlaps(CaseFiles(dwi, b0, adc), path, deepbet)
        print(f"| {home.name} | {method} | " + " | ".join(f"{d:.3f}" for d in dices) + " |")

    # By the last digits of the name, so that every cohort in the folder has its share.
    homes = sorted(
        (p.parent for p in options.folder.rglob("record.json")), key=lambda p: p.name[::-1]
    )
    rows = []
    for home in track(homes[: options.cases], "heads", transient=True):
        rows.append(overlaps(write_cases.files_of(home), home / "brain.nii.gz", None))
    methods, scores = zip(*rows, strict=True)
    by_network = f"network in {methods.count('network')}"
    for name, value in (("mean", np.mean(scores, 0)), ("lowest", np.min(scores, 0))):
        cells = [f"{d:.3f}" for d in value] + ["-"] * bool(deepbet)
        print(f"| {name} of {len(rows)} synthetic heads | {by_network} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
