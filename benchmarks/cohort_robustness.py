"""Kills workers and runs of a cohort of 200 cases, and counts: each once, none lost.

    python benchmarks/cohort_robustness.py FOLDER [--cases 200] [--throughput] [--model NAME]

The scheduling is what is tested: reading, hashing, building beside, publishing and the ledger are
those of `infarct cohort`; the outlining itself is a stand-in that waits. Two workers; five workers
and two whole runs are killed with SIGKILL on the way, then a last run is left alone. One case of
the cohort is a file that cannot be read.

`--throughput` measures cases per hour with 1 and 2 workers on real segmentations of the demo scan,
and the memory of the workers; meaningful only on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import psutil

from infarct import assets
from infarct.cohort import work
from infarct.cohort.case_list import find_jobs
from infarct.cohort.engine import Pool
from infarct.cohort.jobs import Job, Outcome, Settings
from infarct.cohort.ledger import Ledger
from infarct.cohort.run import Request, run_cohort
from infarct.errors import InputFileError
from infarct.segmenters import DEFAULT

WORKER_KILLS, RUN_KILLS = 5, 2
WAIT_SECONDS = 0.4


def stand_in(notes: Path, job: Job, settings: Settings) -> Outcome:
    """Do all of a case but its outlining, and note when its work starts and is published."""

    def note(name: str) -> None:
        line = f"{job.id} {os.getpid()}\n".encode()
        stream = os.open(notes / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(stream, line)
        os.close(stream)

    def read_scan(files: object) -> object:
        note("started")
        if job.files.dwi.read_bytes().startswith(b"broken"):
            raise InputFileError(f"{job.files.dwi}: cannot be read as NIfTI")
        return files

    def outline(case: object, _: str) -> object:
        time.sleep(WAIT_SECONDS)
        return case

    def write_results(_: object, out: Path, **__: object) -> Path:
        (out / "mni").mkdir(parents=True)
        (out / "lesion_mask.nii.gz").write_bytes(job.files.dwi.read_bytes())
        summary = {"lesion_volume_ml": 1.0, "lesion_count": 1, "warnings": []}
        (out / "summary.json").write_text(json.dumps(summary))
        (out / "manifest.json").write_text("{}")
        return out

    def publish(made: Path, job: Job) -> None:
        work_publish(made, job)
        note("published")

    work_publish = work.publish
    with (
        mock.patch.object(work, "open_case", read_scan),
        mock.patch.object(work, "segment_case", outline),
        mock.patch.object(work, "write_results", write_results),
        mock.patch.object(work, "thumbnail", lambda *_: b"\xff\xd8"),
        mock.patch.object(work, "read", lambda _: None),
        mock.patch.object(work, "publish", publish),
    ):
        return work.process(job, settings)


def jobs_in(folder: Path) -> list[Job]:
    """Return the cohort of a folder."""
    return find_jobs(str(folder / "cases.csv"), folder / "results")


def run_once(folder: Path, workers: int) -> None:
    """Run the cohort as a process of its own would."""
    how = partial(stand_in, folder / "notes")
    run_cohort(
        jobs_in(folder), Request(folder / "results", Settings("cfuzzy"), Pool(workers), work=how)
    )


def make(folder: Path, cases: int) -> None:
    """Write a cohort of small files, one of them broken."""
    (folder / "in").mkdir(parents=True)
    (folder / "notes").mkdir()
    rows = ["id,dwi"]
    for number in range(cases):
        path = folder / "in" / f"c{number:03d}.nii.gz"
        path.write_bytes(b"broken" if number == 17 else number.to_bytes(4) * 500)
        rows.append(f"c{number:03d},in/{path.name}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")


def lines(path: Path) -> list[str]:
    """Return the lines of a file that may not be there yet."""
    return path.read_text().splitlines() if path.is_file() else []


@dataclass
class Toll:
    """What was killed.

    Attributes:
        workers: Their process numbers.
        runs: How many runs.
        leaked: Processes of a killed run that were still there ten seconds later.
    """

    workers: list[int]
    runs: int = 0
    leaked: int = 0


def torment(folder: Path, cases: int) -> Toll:
    """Start the run, kill at random, start again until nothing is left to kill; then let it end."""
    rng = random.Random(5)
    marks = sorted(rng.sample(range(5, int(cases * 0.9)), WORKER_KILLS + RUN_KILLS))
    kinds = ["worker"] * WORKER_KILLS + ["run"] * RUN_KILLS
    rng.shuffle(kinds)
    toll = Toll([])
    command = [sys.executable, __file__, str(folder), "--child"]
    process = subprocess.Popen(command)
    for mark, kind in zip(marks, kinds, strict=True):
        while len(lines(folder / "notes" / "published")) < mark:
            if process.poll() is not None:
                raise SystemExit(f"the run ended by itself with {process.returncode}")
            time.sleep(0.05)
        # In the middle of a case, not in the moment between two.
        begun = len(lines(folder / "notes" / "started"))
        while len(lines(folder / "notes" / "started")) == begun and process.poll() is None:
            time.sleep(0.02)
        time.sleep(WAIT_SECONDS / 4)
        if kind == "worker":
            last = int(lines(folder / "notes" / "started")[-1].split()[1])
            os.kill(last, signal.SIGKILL)
            toll.workers.append(last)
        else:
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            process.wait()
            toll.runs += 1
            toll.leaked += len(psutil.wait_procs(family, timeout=10)[1])
            process = subprocess.Popen(command)
        print(f"after {mark} cases: {kind} killed", flush=True)
    if process.wait() != 0:
        raise SystemExit(f"the last run ended with {process.returncode}")
    return toll


def judge(folder: Path, cases: int, toll: Toll) -> None:
    """Print what is there at the end."""
    results = folder / "results"
    jobs, settings = jobs_in(folder), Settings("cfuzzy")
    published = Counter(line.split()[0] for line in lines(folder / "notes" / "published"))
    started = Counter(line.split()[0] for line in lines(folder / "notes" / "started"))
    ledger = Ledger(results).read()
    right = sum(
        work.is_done(job, settings)
        and (job.folder / "lesion_mask.nii.gz").read_bytes() == job.files.dwi.read_bytes()
        for job in jobs
    )
    status = Counter(row["status"] for row in ledger.values())
    print(f"\n{'cases':44}{cases}, one of them broken")
    print(f"{'workers killed, runs killed':44}{len(toll.workers)}, {toll.runs}")
    print(f"{'processes left by killed runs after 10 s':44}{toll.leaked}")
    print(f"{'complete folders, each with its own content':44}{right}")
    print(f"{'in cases.tsv: done, failed':44}{status['done']}, {status['failed']}")
    print(f"{'published more than once':44}{sum(n > 1 for n in published.values())}")
    print(f"{'started more than once (were at work)':44}{sum(n > 1 for n in started.values())}")
    leftovers = [path.name for path in results.iterdir() if path.name.startswith(".")]
    print(f"{'half-written folders left':44}{len(leftovers)}")


def throughput(folder: Path, model: str, cases: int = 8) -> None:
    """Measure real segmentations of the demo scan with one worker and with two."""
    print(f"load before: {os.getloadavg()[0]:.1f}")
    hours = {}
    for workers in (1, 2):
        place = folder / f"throughput-{workers}"
        shutil.rmtree(place, ignore_errors=True)
        rows = ["id,dwi,b0,bvalue"]
        dwi, b0 = (assets.path(f"demo/{name}") for name in ("dwi", "b0"))
        rows += [f"c{number},{dwi},{b0},1000" for number in range(cases)]
        place.mkdir(parents=True)
        (place / "cases.csv").write_text("\n".join(rows) + "\n")
        jobs = find_jobs(str(place / "cases.csv"), place / "results")
        peak = mock.Mock(rss=0)

        def weigh(_: Outcome, __: int, peak: mock.Mock = peak) -> None:
            for child in psutil.Process().children(recursive=True):
                peak.rss = max(peak.rss, child.memory_info().rss)

        from infarct.cohort.run import Watcher  # noqa: PLC0415

        start = time.perf_counter()
        request = Request(place / "results", Settings(model), Pool(workers))
        outcomes = run_cohort(jobs, request, Watcher(ends=weigh))
        hours[workers] = (time.perf_counter() - start) / 3600
        spent = np.median([outcome.seconds or 0.0 for outcome in outcomes])
        print(
            f"{workers} workers: {cases / hours[workers]:.0f} cases an hour, {spent:.1f} s a case, "
            f"{peak.rss / 1e9:.2f} GB in the largest worker"
        )
    print(f"efficiency of two: {hours[1] / (2 * hours[2]):.2f}")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--throughput", action="store_true")
    parser.add_argument("--model", default=DEFAULT, help="for --throughput")
    given = parser.parse_args()
    folder = given.folder.resolve()
    if given.child:
        run_once(folder, workers=2)
    elif given.throughput:
        throughput(folder, given.model)
    else:
        make(folder, given.cases)
        start = time.perf_counter()
        toll = torment(folder, given.cases)
        judge(folder, given.cases, toll)
        print(f"{'seconds':44}{time.perf_counter() - start:.0f}")


if __name__ == "__main__":
    main()
