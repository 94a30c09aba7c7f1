"""Kills workers and runs of a cohort of 200 scans, and counts: each once, none lost.

    python benchmarks/cohort_robustness.py FOLDER --synthetic CASES [--cases 200] [--model cfuzzy]
    python benchmarks/cohort_robustness.py FOLDER --throughput [--model NAME]

CASES holds synthetic cases at any depth (`infarct lab synth --n 200 --out CASES`). They are
outlined as `infarct cohort` does it, by two workers; on the way five workers and two whole runs are
killed with SIGKILL in the middle of a case, then a last run is left alone. One more case of the
cohort is a file that cannot be read.

`--throughput` measures cases per hour on the demo scan and the memory of the workers: one worker of
one thread, two of one thread each (their ratio is the efficiency), and one that has all cores; it
means something only on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import psutil

from infarct import pipeline
from infarct.cohort import worker
from infarct.cohort.case_list import find_jobs
from infarct.cohort.case_log import Ledger
from infarct.cohort.jobs import Job, Outcome, Settings
from infarct.cohort.run import Request, run_cohort
from infarct.cohort.runner import Pool
from infarct.core import assets, machine
from infarct.core.nifti import read
from infarct.lab.simulation import write_cases
from infarct.preprocessing.case import Case, CaseFiles
from infarct.preprocessing.load import open_case
from infarct.segmentation.models import DEFAULT

WORKER_KILLS, RUN_KILLS = 5, 2


def watched(notes: Path, job: Job, settings: Settings) -> Outcome:
    """Do a case as always, and note when its scan is opened and when its result is published."""

    def note(name: str) -> None:
        line = f"{job.id} {os.getpid()}\n".encode()
        stream = os.open(notes / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(stream, line)
        os.close(stream)

    def opened(files: CaseFiles) -> Case:
        note("started")
        return open_case(files)

    def published(made: Path, job: Job, check: Callable[[Path], None]) -> None:
        publish(made, job, check)
        note("published")

    publish = worker.publish
    with (
        mock.patch.object(pipeline, "open_case", opened),
        mock.patch.object(worker, "publish", published),
    ):
        return worker.process(job, settings)


def jobs_in(folder: Path) -> list[Job]:
    """Return the cohort of a folder."""
    return find_jobs(str(folder / "cases.csv"), folder / "results")


def run_once(folder: Path, model: str) -> None:
    """Run the cohort as a process of its own would."""
    how = partial(watched, folder / "notes")
    run_cohort(jobs_in(folder), Request(folder / "results", Settings(model), Pool(2), work=how))


def make(folder: Path, synthetic: Path, cases: int) -> None:
    """Write the list of a cohort, with a broken scan in its midst."""
    found = sorted(path.parent for path in synthetic.rglob("record.json"))[:cases]
    if len(found) < cases:
        raise SystemExit(f"{synthetic}: {len(found)} synthetic cases, {cases} were asked for")
    (folder / "notes").mkdir(parents=True)
    broken = folder / "broken.nii.gz"
    broken.write_bytes(b"broken")
    rows = [
        f"{files.dwi.parent.name},{files.dwi},{files.b0},{files.adc},{files.bvalue:g}"
        for files in map(write_cases.files_of, found)
    ]
    rows.insert(min(17, cases), f"broken,{broken},,,1000")
    (folder / "cases.csv").write_text("\n".join(["id,dwi,b0,adc,bvalue", *rows]) + "\n")


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


def torment(folder: Path, cases: int, model: str) -> Toll:
    """Start the run, kill at random, start again until nothing is left to kill; then let it end."""
    rng = random.Random(5)
    marks = sorted(rng.sample(range(5, int(cases * 0.9)), WORKER_KILLS + RUN_KILLS))
    kinds = ["worker"] * WORKER_KILLS + ["run"] * RUN_KILLS
    rng.shuffle(kinds)
    toll = Toll([])
    command = [sys.executable, __file__, str(folder), "--child", "--model", model]
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
        time.sleep(rng.uniform(0.2, 4.0))
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


def judge(folder: Path, cases: int, toll: Toll, model: str) -> None:
    """Print what is there at the end."""
    results = folder / "results"
    jobs, settings = jobs_in(folder), Settings(model)
    published = Counter(line.split()[0] for line in lines(folder / "notes" / "published"))
    started = Counter(line.split()[0] for line in lines(folder / "notes" / "started"))
    status = Counter(row["status"] for row in Ledger(results).read().values())
    right = sum(
        worker.is_done(job, settings)
        and read(job.folder / "lesion_mask.nii.gz").grid.matches(read(job.files.dwi).grid)
        for job in jobs
    )
    print(f"\n{'cases':44}{cases} and a broken one")
    print(f"{'workers killed, runs killed':44}{len(toll.workers)}, {toll.runs}")
    print(f"{'processes left by killed runs after 10 s':44}{toll.leaked}")
    print(f"{'complete folders, on the grid of their DWI':44}{right}")
    print(f"{'in cases.tsv: done, failed':44}{status['done']}, {status['failed']}")
    print(f"{'published more than once':44}{sum(n > 1 for n in published.values())}")
    print(f"{'started more than once (were at work)':44}{sum(n > 1 for n in started.values())}")
    leftovers = [path.name for path in results.iterdir() if path.name.startswith(".")]
    print(f"{'half-written folders left':44}{len(leftovers)}")


def throughput(folder: Path, model: str, cases: int = 8) -> None:
    """Measure segmentations of the demo scan with one worker and with two."""
    print(f"load before: {os.getloadavg()[0]:.1f}")
    hours = {}
    for workers, cores in ((1, 1), (2, 2), (1, os.cpu_count() or 1)):
        place = folder / f"throughput-{workers}-{cores}"
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
        with mock.patch.object(machine, "cores", lambda cores=cores: cores):
            outcomes = run_cohort(jobs, request, Watcher(ends=weigh))
        hours[workers, cores] = (time.perf_counter() - start) / 3600
        spent = np.median([outcome.seconds or 0.0 for outcome in outcomes])
        print(
            f"workers {workers}, cores {cores}: {cases / hours[workers, cores]:.0f} cases an hour, "
            f"{spent:.1f} s a case, "
            f"{peak.rss / 1e9:.2f} GB in the largest worker"
        )
    print(f"efficiency of two: {hours[1, 1] / (2 * hours[2, 2]):.2f}")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--throughput", action="store_true")
    parser.add_argument("--synthetic", type=Path, help="folder of synthetic cases")
    parser.add_argument("--model", help="cfuzzy under kills, the default method for --throughput")
    given = parser.parse_args()
    folder = given.folder.resolve()
    if given.child:
        run_once(folder, given.model)
    elif given.throughput:
        throughput(folder, given.model or DEFAULT)
    elif not given.synthetic:
        parser.error("--synthetic: the folder of the cases is needed")
    else:
        model = given.model or "cfuzzy"
        make(folder, given.synthetic.resolve(), given.cases)
        start = time.perf_counter()
        toll = torment(folder, given.cases, model)
        judge(folder, given.cases, toll, model)
        print(f"{'seconds':44}{time.perf_counter() - start:.0f}")


if __name__ == "__main__":
    main()
