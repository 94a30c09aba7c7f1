"""Run `infarct segment` on the real scans of the development data and print one table.

    python benchmarks/real_cases.py [--data DIR] [--model NAME] [--out DIR]

Each scan runs in a process of its own, so seconds and peak memory are those a user sees. Columns:
reference and outlined ml, Dice, ml outlined outside the reference, Dice of the brain with the
template's over the scanned slices, seconds of the registration, Dice of the reference (or, without
one, of the brain) after the way native -> MNI -> native, seconds and peak memory of the command.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume, read
from infarct.core.resampling import resample
from infarct.evaluation.metrics import dice
from infarct.preprocessing.case import CaseFiles
from infarct.preprocessing.checks import overlap_where_scanned
from infarct.preprocessing.templates import load_template
from infarct.segmentation.models import DEFAULT


@dataclass(frozen=True)
class Job:
    """One scan to run on, and its reference if it has one."""

    name: str
    files: CaseFiles
    reference: Path | None


def jobs(data: Path) -> list[Job]:
    """List the real stroke scans, then the real lesion-free ones."""
    found = []
    for home in sorted((data / "real").iterdir()):
        b0 = home / "b0.nii.gz"
        files = CaseFiles(
            home / "dwi.nii.gz", b0 if b0.exists() else None, home / "adc.nii.gz", 1000.0
        )
        reference = next(iter(sorted(home.glob("lesion_*.nii.gz"))), None)
        found.append(Job(home.name, files, reference))
    for home in sorted((data / "normals").iterdir()):
        bvalue = json.loads((home / f"{home.name}.json").read_text())["bvalue_s_per_mm2"]
        dwi, b0, adc = (home / f"{home.name}_{kind}.nii.gz" for kind in ("dwi", "b0", "adc"))
        found.append(Job(home.name, CaseFiles(dwi, b0, adc, bvalue), None))
    return found


def run(job: Job, model: str, out: Path) -> tuple[float, float]:
    """Run the command; return its seconds and peak megabytes."""
    arguments = [sys.executable, "-m", "infarct", "segment", "--model", model, "--out", str(out)]
    for role, path in job.files.paths().items():
        arguments += [f"--{role}", str(path)]
    arguments += ["--bvalue", str(job.files.bvalue), "--overwrite"]
    with (out.parent / f"{out.name}.log").open("w") as log:
        child = os.posix_spawn(
            sys.executable,
            arguments,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, log.fileno(), fd) for fd in (1, 2)],
        )
        before = os.times().elapsed
        _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{job.name} failed:\n{(out.parent / f'{out.name}.log').read_text()}")
    return os.times().elapsed - before, usage.ru_maxrss / 1024


def row(job: Job, out: Path, seconds: float, megabytes: float) -> str:
    """Measure one result."""
    lesion, brain = read(out / "lesion_mask.nii.gz"), read(out / "brain_mask.nii.gz")
    outlined = lesion.data > 0.5
    reference = read(job.reference).data > 0.5 if job.reference else np.zeros_like(outlined)
    mni_from_native = np.loadtxt(out / "mni" / "mni_from_native.txt")
    native_from_mni = np.linalg.inv(mni_from_native)

    def there(mask: np.ndarray) -> np.ndarray:
        return resample(lesion.like(mask.astype(np.float32)), MNI_GRID, native_from_mni)

    traveller = reference if reference.any() else brain.data > 0.5
    back = resample(Volume(there(traveller), MNI_GRID.affine), lesion.grid, mni_from_native) > 0.5
    overlap = overlap_where_scanned(there(brain.data) > 0.5, load_template().brain_at_1mm)
    summary = json.loads((out / "summary.json").read_text())
    ml = lesion.grid.voxel_ml
    agreement = f"{dice(reference, outlined):.3f}" if reference.any() else "-"
    return (
        f"{job.name:22} {reference.sum() * ml:7.2f} {outlined.sum() * ml:8.2f} {agreement:>6} "
        f"{(outlined & ~reference).sum() * ml:8.2f} {overlap:8.3f} "
        f"{summary['seconds']['register']:6.2f} {dice(traveller, back):7.3f} "
        f"{seconds:7.1f} {megabytes:6.0f}"
    )


def main() -> None:
    """Print the table."""
    root = Path(__file__).parents[1]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("INFARCT_DATA", root / ".." / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--model", default=DEFAULT)
    parser.add_argument("--out", type=Path, help="keep the results here")
    options = parser.parse_args()
    print(
        f"{'scan':22} {'ref ml':>7} {'found ml':>8} {'Dice':>6} {'false ml':>8} {'overlap':>8} "
        f"{'reg s':>6} {'there&b':>7} {'seconds':>7} {'MB':>6}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        home = options.out or Path(scratch)
        home.mkdir(parents=True, exist_ok=True)
        for job in jobs(options.data):
            seconds, megabytes = run(job, options.model, home / job.name)
            print(row(job, home / job.name, seconds, megabytes), flush=True)


if __name__ == "__main__":
    main()
