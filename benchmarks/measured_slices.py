"""Score networks on the fixed validation set of measured slices, and on the real scans beside it.

    python benchmarks/measured_slices.py make --bank bank.npz --set SET [--part .25]
    python benchmarks/measured_slices.py run METHOD --bank bank.npz --set SET --out OUT [--part .25]
    python benchmarks/measured_slices.py table OUT METHOD [METHOD ...]
    python benchmarks/measured_slices.py real METHOD --data ../shared/data --out OUT
    python benchmarks/measured_slices.py pictures --set SET --out OUT METHOD METHOD

METHOD is `phases:DAGMNet_CH3` (a bundled network with 16 phases), `untrained:DAGMNet_CH3` (its
variant for measured slices before any training) or `NAME=weights.pt` (a trained variant). Masks are
the network's alone: probability above .5 in the brain, no candidate filter, no smallest cluster.
What is broken off goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from infarct.core import assets
from infarct.core.diffusion import Image
from infarct.core.nifti import Volume, read
from infarct.core.resampling import resample
from infarct.inference.network import lesion_probability, load_network
from infarct.lab.networks import DESIGNS, build
from infarct.lab.simulation import scanner, separable_filters
from infarct.lab.sources.bank import Bank
from infarct.lab.training import slice_validation, torch_features
from infarct.lab.training.checkpoint import read_weights, rounded
from infarct.lab.training.from_sub_volumes import for_slices
from infarct.lab.training.slice_validation import CaseScore, SliceCase
from infarct.lab.training.stream import network_input as mni_input
from infarct.lab.training.stream import spacing_value, statistics_of
from infarct.preprocessing.case import CaseFiles
from infarct.preprocessing.load import open_case
from infarct.preprocessing.preprocess import preprocess
from infarct.preprocessing.templates import load_template
from infarct.segmentation.controls import healthy_on
from infarct.segmentation.measured_lattice import brain_box, lattice, network_input
from infarct.segmentation.models import BRAIN_NETWORK

Network = Callable[[Image], Image]
"""Takes the four images of a box to the probability in it."""


def network_of(method: str) -> tuple[str, Network]:
    """Return the short name of a method and what computes it."""
    name, _, rest = method.partition("=")
    if rest:
        weights = read_weights(Path(rest))
        network, design = rounded(weights.network()), DESIGNS[weights.recipe.network]
    else:
        original = method.partition(":")[2]
        known = read_weights(assets.path(f"networks/{original}.pt"))
        design = DESIGNS[f"{original}_slices"]
        network = build(f"{original}_slices", known.recipe.features or None).eval()
        network.load_state_dict(for_slices(known.weights, network))
    channels = len(design.channels)

    @torch.no_grad()
    def run(image: Image) -> Image:
        logits = network(torch.from_numpy(image[None, :channels]))[0]
        return np.asarray(torch.sigmoid(logits.float())[0, 0].numpy())

    return name.replace(":", "-"), run


def by_phases(name: str, network: str, bank: Bank) -> Image:
    """Run a bundled network on 16 interleaved sub-volumes, and read its map at the slices."""
    native = slice_validation.acquire(name, bank)
    scan = scanner.on_mni_grid(native)
    healthy = torch_features.HealthyTensors.of(torch_features.healthy_at_1mm(statistics_of(bank)))
    images = dict(zip(("DWI", "ADC", "IS"), mni_input(scan, healthy).numpy(), strict=True))
    probability = lesion_probability(load_network(network), images, scan.brain.numpy())
    plan = native.record.acquisition
    sizes = probability.shape
    heights = plan.first_mm + plan.spacing_mm * np.arange(plan.slices)
    matrices = [
        separable_filters.linear(sizes[0], np.arange(sizes[0]) + 0.5),
        None,
        separable_filters.linear(sizes[2], heights),
    ]
    on_slices = separable_filters.apply(torch.from_numpy(probability), matrices).numpy()
    return slice_validation.to_box(on_slices, scanner.on_slices(native).brain.numpy())


def run(args: argparse.Namespace) -> None:
    """Run a method on the set; one line of JSON for each scan."""
    bank = Bank.load(args.bank)
    phases = args.method.startswith("phases:")
    name, network = (args.method.replace(":", "-"), None) if phases else network_of(args.method)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / f"{name}.jsonl"
    done = {json.loads(line)["name"] for line in file.open()} if file.is_file() else set()
    for case_name in slice_validation.names(args.part):
        if case_name in done:
            continue
        case = slice_validation.ensure(case_name, bank, args.set)
        if network is None:
            probability = by_phases(case_name, args.method.partition(":")[2], bank)
        else:
            probability = network(case.image)
        row = asdict(slice_validation.score((probability > args.threshold) & case.brain, case))
        with file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")


def scores_of(file: Path) -> list[CaseScore]:
    """Read the scores of a method."""
    rows = [json.loads(line) for line in file.open()]
    for row in rows:
        row["foci"] = tuple((ml, hit) for ml, hit in row["foci"])
    return [CaseScore(**row) for row in rows]


def table(args: argparse.Namespace) -> None:
    """Print one column for each method, over the scans that all of them have."""
    scores = {m: {s.name: s for s in scores_of(args.out / f"{m}.jsonl")} for m in args.methods}
    common = sorted(set.intersection(*(set(s) for s in scores.values())))
    columns = {m: dict(slice_validation.table([s[n] for n in common])) for m, s in scores.items()}
    print(f"| {len(common)} scans | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for row in next(iter(columns.values())):
        print(
            f"| {row} | " + " | ".join(column.get(row, "-") for column in columns.values()) + " |"
        )
    first, *others = args.methods
    for other in others:
        gains = np.array([scores[other][n].dice - scores[first][n].dice for n in common])
        gains = gains[np.isfinite(gains)]
        error = gains.std() / np.sqrt(len(gains))
        print(f"\nDice of {other} less that of {first}: {gains.mean():+.4f} +- {error:.4f}")


def real_files(data: Path) -> dict[str, tuple[CaseFiles, Path | None]]:
    """List the real scans: files, and the reference where there is one."""
    found: dict[str, tuple[CaseFiles, Path | None]] = {}
    for home in sorted((data / "real").iterdir()):
        b0 = home / "b0.nii.gz"
        files = CaseFiles(
            home / "dwi.nii.gz", b0 if b0.exists() else None, home / "adc.nii.gz", 1000.0
        )
        found[home.name] = files, next(iter(sorted(home.glob("lesion_*.nii.gz"))), None)
    for home in sorted((data / "normals").iterdir()):
        bvalue = json.loads((home / f"{home.name}.json").read_text())["bvalue_s_per_mm2"]
        dwi, b0, adc = (home / f"{home.name}_{kind}.nii.gz" for kind in ("dwi", "b0", "adc"))
        found[home.name] = CaseFiles(dwi, b0, adc, bvalue), None
    return found


def read_real(files: CaseFiles, network: Network) -> tuple[Volume, Image]:
    """Return the DWI of a real scan and the probability on its own grid."""
    case = open_case(files)
    prepared = preprocess(case, load_template(), load_network(BRAIN_NETWORK))
    registration = prepared.registration
    grid = lattice(registration.mni_from_voxel, case.dwi.data.shape)
    native_from_mni = np.linalg.inv(registration.mni_from_native)

    def onto(image: Image) -> Image:
        return resample(case.dwi.like(image), grid, native_from_mni)

    brain = onto(prepared.brain_native.astype(np.float32)) >= 0.5
    image = network_input(onto(case.dwi.data), onto(case.adc.data), brain, healthy_on(grid))
    spaced = brain[None] * np.float32(spacing_value(float(grid.spacing[2])))
    box = network(slice_validation.to_box(np.concatenate([image, spaced]), brain))
    x, y, z = brain_box(brain)
    probability = np.zeros(grid.shape, np.float32)
    probability[x, y, z] = box[..., : z.stop - z.start]
    probability *= brain
    native = resample(Volume(probability, grid.affine), case.dwi.grid, registration.mni_from_native)
    return case.dwi, native


def real(args: argparse.Namespace) -> None:
    """Run a variant for measured slices on the real scans; keep the maps, print the scores."""
    name, network = network_of(args.method)
    folder = args.out / "real" / name
    folder.mkdir(parents=True, exist_ok=True)
    for case_name, (files, reference) in real_files(args.data).items():
        dwi, probability = read_real(files, network)
        np.save(folder / f"{case_name}.npy", probability.astype(np.float16))
        ml = dwi.grid.voxel_ml
        line = f"{name} {case_name}: {(probability > 0.5).sum() * ml:.2f} ml"
        if reference is not None:
            truth = read(reference).data > 0
            for level in (0.3, 0.5, 0.8):
                mask = probability > level
                dice = 2 * (mask & truth).sum() / max(mask.sum() + truth.sum(), 1)
                line += f"; Dice {dice:.3f} at {level} (ratio {mask.sum() / truth.sum():.2f})"
        print(line, flush=True)


def pictures(args: argparse.Namespace) -> None:
    """Draw the slices with most of the reference of ten scans, and what two methods find."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    bank = Bank.load(args.bank)
    chosen = [n for n in slice_validation.names() if int(n[-3:]) in (0, 1)]
    networks = [network_of(method) for method in args.methods]
    figure, axes = plt.subplots(len(chosen), 2 + len(networks), figsize=(14, 3.2 * len(chosen)))
    for row, name in zip(axes, chosen, strict=True):
        case: SliceCase = slice_validation.ensure(name, bank, args.set)
        masks = [("reference", case.lesion)]
        masks += [(n, (run_it(case.image) > 0.5) & case.brain) for n, run_it in networks]
        seen = sum(mask.sum(axis=(0, 1)) for _, mask in masks)
        z = int(np.argmax(seen)) if np.any(seen) else case.brain.shape[2] // 2
        dwi = case.image[0, :, :, z].T
        for axis, (title, mask) in zip(row, [("DWI", None), *masks], strict=True):
            axis.imshow(dwi, origin="lower", cmap="gray", vmin=-1.5, vmax=4)
            if mask is not None and mask[:, :, z].any():
                axis.contour(mask[:, :, z].T, [0.5], colors="red", linewidths=0.8)
            axis.set_title(f"{name} {title}", fontsize=8)
            axis.axis("off")
    figure.tight_layout()
    figure.savefig(args.out / "pictures.png", dpi=60)


def main() -> None:
    """Parse the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--bank", type=Path)
    shared.add_argument("--set", type=Path)
    shared.add_argument("--out", type=Path, default=Path("runs/slices"))
    shared.add_argument("--part", type=float, default=1.0)
    shared.add_argument("--threshold", type=float, default=0.5)
    shared.add_argument("--data", type=Path, default=Path("../shared/data"))
    make = commands.add_parser("make", parents=[shared])
    make.set_defaults(do=make_set)
    for name, do in (("run", run), ("real", real)):
        command = commands.add_parser(name, parents=[shared])
        command.add_argument("method")
        command.set_defaults(do=do)
    for name, do in (("table", table), ("pictures", pictures)):
        command = commands.add_parser(name, parents=[shared])
        command.add_argument("methods", nargs="+")
        command.set_defaults(do=do)
    args = parser.parse_args()
    args.do(args)


def make_set(args: argparse.Namespace) -> None:
    """Make the scans of the set that are missing."""
    bank = Bank.load(args.bank)
    for name in slice_validation.names(args.part):
        case = slice_validation.ensure(name, bank, args.set)
        print(
            f"{name}: {case.image.shape[1:]}, {case.lesion.sum() * case.voxel_ml:.2f} ml",
            flush=True,
        )


if __name__ == "__main__":
    main()
