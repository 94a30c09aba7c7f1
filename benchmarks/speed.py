"""Compare the speed and memory of methods on one scan, interleaved, as ratios with their spread.

    python benchmarks/speed.py --dwi dwi.nii.gz [--b0 b0.nii.gz] [--adc adc.nii.gz]
        [--repeats 5] [--only NAME ...]

Every competitor is a process of its own, from its start to its last file. In each round, all of
them run once, in an order drawn anew, so that other work on the machine affects them alike; a
ratio compares two runs of the same round. Linux and macOS only (`os.wait4`).

Competitors: the default method; the same without volumes in MNI space; the method of the paper in
this package (16 phases, onnxruntime); its network in torch on the same 16 sub-volumes, without any
preprocessing, which is less than the paper's method needs.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SEGMENT = (sys.executable, "-m", "infarct", "segment")
TORCH = (sys.executable, str(Path(__file__)), "--paper-network-in-torch")
REFERENCE = "default"


@dataclass(frozen=True)
class Cost:
    """What one run cost.

    Attributes:
        seconds: Wall-clock time.
        core_seconds: Time of all cores together.
        gigabytes: Peak memory.
    """

    seconds: float
    core_seconds: float
    gigabytes: float


def measure(command: Sequence[str]) -> Cost:
    """Run a command and return what it cost.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    unit = 1e9 if sys.platform == "darwin" else 1e6  # bytes there, kilobytes here
    return Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / unit)


def competitors(scan: Sequence[str], out: Path) -> dict[str, tuple[str, ...]]:
    """Return the command of each competitor."""
    segment = (*SEGMENT, *scan, "--overwrite", "--out", str(out))
    return {
        REFERENCE: segment,
        "quick": (*segment, "--quick"),
        "paper, 16 phases": (*segment, "--model", "dagmnet-ch3"),
        "paper's network in torch": TORCH,
    }


def run_paper_network() -> None:
    """Run the full-width DAGMNet in torch on 16 empty sub-volumes of a brain."""
    import torch  # noqa: PLC0415

    from infarct.inference.subvolumes import PHASES  # noqa: PLC0415
    from infarct.lab.networks import SHAPE, build  # noqa: PLC0415

    network = build("DAGMNet_CH3").eval()
    with torch.inference_mode():
        for _ in PHASES:
            network(torch.zeros(1, 3, *SHAPE))


def spread(values: Sequence[float]) -> str:
    """Return the median with the smallest and the largest value."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Parse the command line, run all rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dwi", type=Path)
    parser.add_argument("--b0", type=Path)
    parser.add_argument("--adc", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--paper-network-in-torch", action="store_true")
    args = parser.parse_args()
    if args.paper_network_in_torch:
        run_paper_network()
        return
    images = {"--dwi": args.dwi, "--b0": args.b0, "--adc": args.adc}
    scan = [word for option, path in images.items() if path for word in (option, str(path))]
    costs: dict[str, list[Cost]] = {}
    with tempfile.TemporaryDirectory() as folder:
        chosen = competitors(scan, Path(folder) / "out")
        if args.only:
            chosen = {name: chosen[name] for name in (REFERENCE, *args.only)}
        for number in range(args.repeats):
            order = random.Random(number).sample(list(chosen), len(chosen))
            for name in order:
                costs.setdefault(name, []).append(measure(chosen[name]))
                print(f"round {number + 1}, {name}: {costs[name][-1].seconds:.1f} s", flush=True)
    print("| method | seconds | core-seconds | peak GB | time relative to the default |")
    print("|---|---|---|---|---|")
    for name in chosen:
        ratios = [
            one.seconds / other.seconds
            for one, other in zip(costs[name], costs[REFERENCE], strict=True)
        ]
        columns = (
            spread([getattr(one, field) for one in costs[name]])
            for field in ("seconds", "core_seconds", "gigabytes")
        )
        print(f"| {name} | {' | '.join(columns)} | {spread(ratios)} |")


if __name__ == "__main__":
    main()
