"""Time `infarct evaluate` on pairs of 1 mm masks, and print one table.

    python benchmarks/evaluation_speed.py [--pairs 1000] [--workers 1 2]

The masks are random lesions of .1 - 200 ml on the 182 x 218 x 182 grid of MNI152 at 1 mm, each with
an imperfect outline; 40 pairs are made, and linked under as many names as are asked for, since
reading a link costs what reading a file costs. Columns: processes, seconds to measure, for the
statistics, to draw, in all, and cores busy while measuring (CPU seconds over seconds).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

import numpy as np
from scipy.ndimage import gaussian_filter

from infarct.core.nifti import Volume, write
from infarct.evaluation import EvaluationRequest, evaluate

SHAPE = (182, 218, 182)
DISTINCT = 40


def make_masks(root: Path, pairs: int) -> None:
    """Write the masks and the links to them."""
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    for number in range(DISTINCT):
        rng = np.random.default_rng(number)
        field = np.zeros(SHAPE, np.float32)
        at = [rng.integers(30, size - 62) for size in SHAPE]
        box = tuple(slice(start, start + 64) for start in at)
        field[box] = gaussian_filter(rng.normal(size=(64, 64, 64)), 4)
        voxels = int(np.exp(rng.uniform(np.log(100), np.log(100_000))))
        lesion = field > np.sort(field[box], axis=None)[-voxels]
        wobble = np.zeros(SHAPE, np.float32)
        wobble[box] = gaussian_filter(rng.normal(size=(64, 64, 64)), 2)
        outline = field + 0.5 * wobble > np.sort(field[box], axis=None)[-voxels]
        for folder, mask in (("reference", lesion), ("prediction", outline)):
            made = root / "made" / f"{folder}{number}.nii.gz"
            made.parent.mkdir(exist_ok=True)
            write(Volume(mask, affine), made, np.uint8)
            (root / folder).mkdir(exist_ok=True)
            for copy in range(number, pairs, DISTINCT):
                (root / folder / f"case{copy:05d}.nii.gz").symlink_to(made)


def cpu_seconds() -> float:
    """Return the CPU time of this process and of those it has waited for."""
    uses = (getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def run(root: Path, workers: int) -> str:
    """Evaluate once; return a row of the table."""
    begin, cpu = time.perf_counter(), cpu_seconds()
    marks: dict[str, tuple[float, float]] = {}

    def progress(step: str, *_: int) -> None:
        marks[step] = time.perf_counter(), cpu_seconds()

    out = root / f"out{workers}"
    request = EvaluationRequest(
        root / "reference", {"tool": root / "prediction"}, out, workers=workers
    )
    evaluate(request, progress)
    end = time.perf_counter()
    measured, _ = marks["measuring subjects"]
    analysed, cpu_after = marks["computing statistics"]
    cores = (cpu_after - cpu) / (analysed - begin)
    steps = (measured - begin, analysed - measured, end - analysed, end - begin)
    return f"{workers:9d}" + "".join(f"{step:12.1f}" for step in steps) + f"{cores:8.2f}"


def main() -> None:
    """Make the masks, evaluate them once for each number of processes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_masks(Path(folder), arguments.pairs)
        print(f"{arguments.pairs} pairs of {' x '.join(map(str, SHAPE))} voxels")
        print("processes   measure s     stats s      draw s       all s   cores")
        for workers in arguments.workers:
            print(run(Path(folder), workers), flush=True)


if __name__ == "__main__":
    main()
