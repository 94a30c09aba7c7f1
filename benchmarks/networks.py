"""What each network costs: parameters, multiply-adds, seconds and memory.

    python benchmarks/networks.py [--threads 2] [--repeats 3] [--forward-only] [NAME ...]

Torch, the runtime, and OpenVINO where it is installed; then a whole scan as `infarct` runs it.
Every measurement has a process of its own, for peak memory is known only of a whole process.
Weights are random: the numbers do not depend on them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from torch.utils.flop_counter import FlopCounterMode

from infarct.inference import backends
from infarct.inference.network import lesion_probability, open_network, run_part
from infarct.lab.networks import DESIGNS, build, parameters
from infarct.lab.training.export_onnx import to_onnx

ENGINES = ("torch", "onnxruntime", "openvino")
GRID = (192, 224, 192)


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Return the shortest of several runs after one that warms up."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_mb() -> float:
    """Return the peak resident memory of this process, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def make(name: str, folder: Path) -> dict[str, float]:
    """Write a network as ONNX; return its parameters and multiply-adds for one whole volume."""
    torch.manual_seed(0)
    network = build(name).eval()
    onnx.save(to_onnx(network, name), folder / f"{name}.onnx")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, len(DESIGNS[name].channels), *DESIGNS[name].shape))
    return {"parameters": parameters(network), "gmac": counter.get_total_flops() / 2e9}


def forward(name: str, engine: str, path: Path, threads: int, repeats: int) -> dict[str, float]:
    """Time one forward pass of one whole volume."""
    design = DESIGNS[name]
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, len(design.channels), *design.shape)).astype(np.float32)
    before = peak_mb()
    if engine == "torch":
        torch.set_num_threads(threads)
        network = build(name).eval()
        before = peak_mb()
        tensor = torch.from_numpy(image)

        def run() -> object:
            with torch.inference_mode():
                return network(tensor)[0]

    else:
        os.environ[backends.ENGINE] = engine
        session = open_network(path, threads)
        everywhere = np.ones(design.shape, dtype=bool)

        def run() -> object:
            return run_part(session, image, everywhere)

    return {"seconds": seconds(run, repeats), "mb": peak_mb() - before}


def job(path: Path, threads: int) -> dict[str, float]:
    """Time a whole 1 mm volume with a brain of ordinary size, as `infarct` runs it."""
    rng = np.random.default_rng(0)
    images = {n: rng.normal(size=GRID).astype(np.float32) for n in ("DWI", "ADC", "IS")}
    x, y, z = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in GRID)]
    brain = (x / 0.74) ** 2 + (y / 0.8) ** 2 + (z / 0.78) ** 2 < 1
    network = open_network(path, threads)
    before = peak_mb()
    start = time.perf_counter()
    lesion_probability(network, images, brain)
    return {"seconds": time.perf_counter() - start, "mb": peak_mb() - before}


def apart(*arguments: str) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--measure", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Print the tables, or one measurement as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--forward-only", action="store_true", help="leave out whole scans")
    parser.add_argument("--measure", nargs="*")
    options = parser.parse_args()
    if options.measure:
        kind, name, folder, *rest = options.measure
        path = Path(folder) / f"{name}.onnx"
        actions = {
            "make": lambda: make(name, Path(folder)),
            "forward": lambda: forward(name, rest[0], path, int(rest[1]), int(rest[2])),
            "job": lambda: job(path, int(rest[0])),
        }
        print(json.dumps(actions[kind]()))
        return

    threads, repeats = str(options.threads), str(options.repeats)
    installed = [e for e in ENGINES if importlib.util.find_spec(e)]
    names = options.names or list(DESIGNS)
    print(f"{options.threads} threads, one volume, shortest of {repeats} runs; MB beyond the start")
    print("| network | parameters | GMAC |" + "".join(f" {e} s | MB |" for e in installed))
    print("|---|---|---|" + "---|---|" * len(installed))
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            size = apart("make", name, folder)
            cells = [name, f"{size['parameters']:,.0f}", f"{size['gmac']:.1f}"]
            for engine in installed:
                cost = apart("forward", name, folder, engine, threads, repeats)
                cells += [f"{cost['seconds']:.2f}", f"{cost['mb']:.0f}"]
            print("| " + " | ".join(cells) + " |", flush=True)
        if options.forward_only:
            return
        print("\nA 1 mm volume with `infarct.inference.network.lesion_probability`:")
        print("| network | s | MB |")
        print("|---|---|---|")
        for name in names:
            if DESIGNS[name].answers == "lesion" and not DESIGNS[name].slices:
                cost = apart("job", name, folder, threads)
                print(f"| {name} | {cost['seconds']:.1f} | {cost['mb']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
