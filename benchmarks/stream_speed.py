"""How many scans and samples a second the stream makes, and where the time goes.

    python benchmarks/stream_speed.py [--bank bank.npz] [--device cuda] [--scans 10] [--threads 1]

Stages are timed one after the other, the device idle in between, so their sum is a little more
than what the stream takes.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from infarct.lab.simulation import acquisition, sampling, scanner, tissue, warp
from infarct.lab.sources.bank import Bank
from infarct.lab.training import stream, torch_features
from infarct.lab.training.stream import Stream, StreamSettings

STAGES: dict[str, tuple[Any, str]] = {
    "draw the record": (sampling, "draw"),
    "build the head": (tissue, "build"),
    "  warp": (warp, "make"),
    "  paint tissue": (tissue, "_paint"),
    "  age": (tissue, "_aged"),
    "  white spots": (tissue, "_white_spots"),
    "  tracts, cortex": (tissue, "_bumps"),
    "scan it": (scanner, "acquire"),
    "back onto the MNI grid": (acquisition, "bring_back"),
    "network input": (stream, "network_input"),
    "  tissue peaks": (torch_features, "tissue_peak"),
    "  z-scores": (torch_features, "zscore"),
    "  IS map": (torch_features, "is_map"),
}


def timed(function: Callable[..., Any], spent: dict[str, float], name: str, cuda: bool) -> Any:
    """Wrap a function so that its time is added up, the device brought to rest before and after."""

    def run(*arguments: Any, **options: Any) -> Any:
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        result = function(*arguments, **options)
        if cuda:
            torch.cuda.synchronize()
        spent[name] += time.perf_counter() - start
        return result

    return run


def main() -> None:
    """Time the stream and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bank", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scans", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bank = Bank.load(options.bank) if options.bank else Bank.from_icbm()
    cuda = options.device.startswith("cuda")

    phases = StreamSettings().phases_per_volume
    source = Stream(bank, StreamSettings(batch=phases), seed=0, device=options.device)
    batches = source.batches()
    for _ in range(2):
        next(batches)
    before = source.scans
    start, worked = time.perf_counter(), time.process_time()
    for _ in range(options.scans):
        next(batches)
    if cuda:
        torch.cuda.synchronize()
    seconds, worked = time.perf_counter() - start, time.process_time() - worked
    scans = max(1, source.scans - before)
    print(
        f"{options.device}, {options.threads} thread(s): {seconds / scans:.3f} s a scan "
        f"({worked / scans:.3f} s of processor time), "
        f"{scans / seconds:.2f} scans a second, {options.scans * phases / seconds:.2f} samples "
        f"a second at {phases} sub-volumes a scan"
    )

    spent: dict[str, float] = defaultdict(float)
    for name, (room, function) in STAGES.items():
        setattr(room, function, timed(getattr(room, function), spent, name, cuda))
    for _ in range(options.scans):
        next(batches)
    for name in STAGES:
        print(f"{name:26s} {1000 * spent[name] / options.scans:8.1f} ms a scan")


if __name__ == "__main__":
    main()
