"""Runs a cohort on a real Dask scheduler: two workers by hand, then workers from SLURM job scripts.

    python benchmarks/cohort_cluster.py FOLDER [--cases 2]

By hand: `dask scheduler` and two `dask worker` processes on the loopback interface. SLURM: the
recipe of docs/how-to/clusters.md as printed there, with stand-ins for `sbatch` and `scancel` that
run the generated job script with bash; it is printed at the end.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infarct.cohort.case_log import Ledger
from infarct.core import assets

PROGRAMS = Path(sys.executable).parent
RECIPE = re.compile(r"```python\n(.*?)```", re.DOTALL)


@contextmanager
def by_hand(folder: Path) -> Iterator[str]:
    """Start a scheduler and two workers, and give the address of the scheduler."""
    address = "tcp://127.0.0.1:18786"
    dask = str(PROGRAMS / "dask")
    commands = [[dask, "scheduler", "--host", "127.0.0.1", "--port", "18786", "--no-dashboard"]]
    commands += [
        [dask, "worker", address, "--nthreads", "1", "--memory-limit", "3GB", "--no-dashboard"]
    ] * 2
    processes = []
    with (folder / "by-hand.log").open("w") as log:
        try:
            for command in commands:
                processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder))
            yield address
        finally:
            for process in reversed(processes):
                process.terminate()
            for process in processes:
                process.wait()


@contextmanager
def by_slurm(folder: Path) -> Iterator[str]:
    """Run the recipe with a queue that starts every job at once, and give the address it prints."""
    queue = folder / "queue"
    queue.mkdir()
    submit = f'cp "$1" {folder}/job.sh; bash "$1" >> {folder}/slurm.log 2>&1 & '
    submit += 'echo "Submitted batch job $!"'
    for name, action in {"sbatch": submit, "scancel": 'kill "$@"'}.items():
        (queue / name).write_text(f"#!/bin/bash\n{action}\n")
        (queue / name).chmod(0o755)
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "clusters.md").read_text()
    (recipe,) = RECIPE.findall(page)
    script = folder / "slurm.py"
    script.write_text(recipe.replace("jobs=40", "jobs=2"))
    process = subprocess.Popen(
        [sys.executable, "-u", "-i", str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=folder,
        env={**os.environ, "PATH": f"{queue}:{os.environ['PATH']}"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.communicate("cluster.close()\n", timeout=120)


def run(folder: Path, name: str, address: str, cases: int) -> None:
    """Run a cohort of the demo scan on a scheduler, and print how it ended."""
    rows = ["id,dwi,b0,bvalue"]
    dwi, b0 = (assets.path(f"demo/{image}") for image in ("dwi", "b0"))
    rows += [f"c{number},{dwi},{b0},1000" for number in range(cases)]
    (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")
    out = folder / name
    arguments = ["cohort", f"{folder}/{name}.csv", str(out), "--scheduler", address]
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "infarct", *arguments], check=False)
    rows_done = [row["id"] for row in Ledger(out).read().values() if row["status"] == "done"]
    seconds = time.perf_counter() - start
    print(
        f"{name}: exit code {done.returncode}, {len(rows_done)} done, {seconds:.0f} s", flush=True
    )


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=2)
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True)
    with by_hand(folder) as address:
        run(folder, "by-hand", address, given.cases)
    workers = re.findall(r"Starting established connection", (folder / "by-hand.log").read_text())
    print(f"by-hand: {len(workers)} connections in the log of scheduler and workers")
    with by_slurm(folder) as address:
        run(folder, "slurm", address, given.cases)
    print((folder / "job.sh").read_text())


if __name__ == "__main__":
    main()
