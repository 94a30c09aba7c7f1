"""A BIDS dataset of synthetic subjects, run as a BIDS App, its derivatives shown to the validator.

    python benchmarks/bids_cohort.py FOLDER [--bank bank.npz] [--subjects 40] [--workers N] [--real]

Two sessions each: a 4D series, or trace, S0map and ADC, or without ADC; three subjects are broken
on purpose. A few scans are rendered; every session is one of them with noise of its own. Every scan
is read and checked as always. The outlines are computed once per rendered scan and borrowed by the
other sessions, so that bookkeeping, names and the page are tested on a small machine; `--real`
computes every one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from unittest import mock

import nibabel as nib
import numpy as np

from infarct.bids.dataset import find_scans
from infarct.bids.derivatives import describe, jobs_of
from infarct.bids.participants import join_participants
from infarct.cohort import worker
from infarct.cohort.group_report import write_group
from infarct.cohort.jobs import Job, Outcome, Settings
from infarct.cohort.run import Request, Watcher, run_cohort
from infarct.cohort.runner import Pool
from infarct.lab.simulation import write_cases
from infarct.pipeline import RunRequest
from infarct.preprocessing.case import CaseFiles
from infarct.preprocessing.load import open_case

RENDERS = 4
BROKEN = {"03": "truncated", "11": "wrong b-values", "27": "empty image"}


def render(folder: Path, bank_file: Path | None) -> list[Path]:
    """Render a few scans, or find them from an earlier run."""
    done = sorted(path.parent for path in folder.glob("*/record.json"))
    if len(done) < RENDERS:
        from infarct.lab.simulation.cohort import load_cohort  # noqa: PLC0415
        from infarct.lab.simulation.write_cases import synthesise  # noqa: PLC0415
        from infarct.lab.sources.bank import Bank  # noqa: PLC0415 - torch is needed only here

        bank = Bank.load(bank_file) if bank_file else Bank.from_icbm()
        done = list(synthesise(load_cohort("test"), bank, RENDERS, 0, folder))
    return done


def write_dataset(root: Path, scans: Sequence[Path], subjects: int) -> None:
    """Write the dataset: noise of its own on every session, another choice of images for each."""
    root.mkdir(parents=True)
    description = {"Name": "Synthetic strokes", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    (root / "README.md").write_text("Synthetic scans, made by benchmarks/bids_cohort.py.\n")
    rng = np.random.default_rng(9)
    table = ["participant_id\tage\tsex"]
    for number in range(1, subjects + 1):
        label = f"{number:02d}"
        table.append(f"sub-{label}\t{rng.integers(30, 95)}\t{rng.choice(['F', 'M'])}")
        for session in ("acute", "followup"):
            index = int(rng.integers(len(scans)))
            broken = BROKEN.get(label, "") if session == "acute" else ""
            stem = root / f"sub-{label}/ses-{session}/dwi/sub-{label}_ses-{session}"
            stem.parent.mkdir(parents=True)
            write_session(stem, scans[index], number % 3, broken, rng)
    (root / "participants.tsv").write_text("\n".join(table) + "\n")


def write_session(stem: Path, scan: Path, kind: int, broken: str, rng: np.random.Generator) -> None:
    """Write one session as a series (kind 0), as trace, S0map and ADC (1), or without ADC (2)."""
    bvalue = write_cases.files_of(scan).bvalue
    dwi, b0 = (nib.load(scan / f"{name}.nii.gz") for name in ("dwi", "b0"))
    affine = dwi.affine
    signals = []
    for image in (b0, dwi):
        data = image.get_fdata(dtype=np.float32)
        data += rng.normal(0, 0.002 * data.max(), data.shape).astype(np.float32)
        signals.append(np.maximum(data, 0) * (broken != "empty image"))

    def save(name: str, data: np.ndarray, sidecar: dict[str, object]) -> Path:
        image = nib.Nifti1Image(data.astype(np.float32), affine)
        image.header.set_xyzt_units("mm", "sec")
        path = stem.with_name(f"{stem.name}_{name}.nii.gz")
        image.to_filename(path)
        path.with_name(f"{stem.name}_{name}.json").write_text(json.dumps(sidecar))
        return path

    # Which rendered scan it is; read again by what borrows outlines.
    made_from = {"RenderedScan": scan.name, "EchoTime": 0.08}
    if kind == 0 or broken == "wrong b-values":
        path = save("dwi", np.stack([*signals, signals[1]], axis=3), made_from)
        values = [0, bvalue] if broken == "wrong b-values" else [0, bvalue, bvalue]
        stem.with_name(f"{stem.name}_dwi.bval").write_text(" ".join(f"{v:g}" for v in values))
        vectors = np.vstack([np.zeros(3), *np.eye(3)[:2]])[: len(values)].T
        np.savetxt(stem.with_name(f"{stem.name}_dwi.bvec"), vectors, fmt="%g")
    else:
        path = save("trace", signals[1], made_from)
        save("S0map", signals[0], {})
        if kind == 1:
            shutil.copyfile(scan / "adc.nii.gz", stem.with_name(f"{stem.name}_ADC.nii.gz"))
    if broken == "truncated":
        path.write_bytes(path.read_bytes()[:50_000])


def rendered_scan(files: CaseFiles) -> str:
    """Return of which rendered scan a session was made."""
    sidecar = files.dwi.with_name(files.dwi.name.removesuffix(".nii.gz") + ".json")
    return str(json.loads(sidecar.read_text())["RenderedScan"])


def borrow(lent: Path, job: Job, settings: Settings) -> Outcome:
    """Read and check a scan as always, and take the outlines of the scan it was rendered from."""

    def copied(request: RunRequest) -> None:
        open_case(request.files)
        shutil.copytree(lent / rendered_scan(job.files), request.out)

    with mock.patch.object(worker, "run", copied):
        return worker.process(job, settings)


def lend(lent: Path, scans: Sequence[Path], settings: Settings) -> None:
    """Outline each rendered scan once."""
    for scan in scans:
        files = CaseFiles(scan / "dwi.nii.gz", scan / "b0.nii.gz", bvalue=1000.0)
        outcome = worker.process(Job(scan.name, files, lent / scan.name), settings)
        print(f"outlined {scan.name}: {outcome.status} {outcome.reason}", flush=True)


def issues(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield severity and code of what the official validator says of a dataset."""
    validator = Path(sys.executable).with_name("bids-validator-deno")
    done = subprocess.run(
        [validator, str(folder), "--format", "json"], capture_output=True, text=True, check=False
    )
    for issue in json.loads(done.stdout)["issues"]["issues"]:
        yield issue["severity"], f"{issue['code']} {issue.get('subCode') or ''}".strip()


def main() -> None:
    """Make the dataset, run both levels, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bank", type=Path)
    parser.add_argument("--subjects", type=int, default=40)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--real", action="store_true")
    given = parser.parse_args()
    root, out = given.folder / "dataset", given.folder / "derivatives"
    scans = render(given.folder / "rendered", given.bank)
    if not root.is_dir():
        write_dataset(root, scans, given.subjects)
    settings = Settings("cfuzzy", ("bids", "dataset", "derivatives", "participant"))
    if not given.real:
        lend(given.folder / "lent", scans, settings)
    how = worker.process if given.real else partial(borrow, given.folder / "lent")
    found = find_scans(root)
    jobs = jobs_of(found, root, out)
    describe(root, out)
    start = time.perf_counter()
    request = Request(out, settings, Pool(given.workers), work=how)
    outcomes = run_cohort(jobs, request, Watcher(starts=print))
    seconds = time.perf_counter() - start
    page = write_group(jobs, out, join_participants(found, root))
    failed = {outcome.id: outcome.reason for outcome in outcomes if outcome.status == "failed"}
    said = list(issues(out))
    errors = sorted({code for severity, code in said if severity == "error"})
    warnings = sorted({code for severity, code in said if severity == "warning"})
    of_dataset = sorted({code for severity, code in issues(root) if severity == "error"})
    series = sum(scan.files.bval is not None for scan in found)
    without = sum(scan.files.adc is None and scan.files.bval is None for scan in found)
    print(f"\n{'scans found':34}{len(found)} ({series} series, {without} without ADC)")
    print(f"{'outlined':34}{sum(outcome.status == 'done' for outcome in outcomes)}")
    print(f"{'failed':34}{len(failed)}")
    for name, reason in failed.items():
        print(f"  {name}: {reason}")
    print(f"{'outlines':34}{'computed' if given.real else f'borrowed from {len(scans)}'}")
    print(f"{'seconds':34}{seconds:.0f}")
    print(f"{'validator on derivatives, errors':34}{len(errors)} {', '.join(errors)}")
    print(f"{'validator on derivatives, warnings':34} {', '.join(warnings)}")
    print(f"{'validator on dataset, errors':34} {', '.join(of_dataset)}")
    print(f"{'page':34}{page}")


if __name__ == "__main__":
    main()
