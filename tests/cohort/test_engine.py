import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
import stubs
from distributed import LocalCluster

from infarct.cohort.engine import DEATHS, Pool, compute, workers_that_fit
from infarct.cohort.jobs import Outcome, Settings
from infarct.errors import CohortError
from infarct.machine import cores

SETTINGS = Settings("cfuzzy")


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Outcome], list[str]]:
    """Two workers, and among good cases one that kills its worker always, one only once."""
    folder = tmp_path_factory.mktemp("cohort")
    names = ["a", "poison", "b", "unlucky", "fault", "environment", "c", "d"]
    said: list[str] = []
    todo = stubs.jobs(folder, *names)
    outcomes = list(compute(todo, stubs.touch, SETTINGS, Pool(workers=2), said.append))
    return folder, outcomes, said


def test_every_case_ends_once_whatever_the_others_do(ended) -> None:
    _, outcomes, _ = ended
    status = {outcome.id: outcome.status for outcome in outcomes}
    assert len(outcomes) == len(status) == 8
    assert {name for name, seen in status.items() if seen == "done"} == {*"abcd", "unlucky"}


def test_a_case_that_kills_its_worker_is_given_up_after_three(ended) -> None:
    folder, outcomes, _ = ended
    starts = Counter((folder / "in" / "started.txt").read_text().split()[::2])
    # The death of its worker under another case that it waited for counts too.
    assert 1 < starts["poison"] <= DEATHS
    assert starts["unlucky"] >= 2
    poison = next(outcome for outcome in outcomes if outcome.id == "poison")
    assert "worker process died" in poison.reason


def test_a_fault_is_the_outcome_of_its_case(ended) -> None:
    _, outcomes, _ = ended
    fault = next(outcome for outcome in outcomes if outcome.id == "fault")
    assert (fault.code, fault.reason) == (1, "ZeroDivisionError: of our own making")


def test_threads_are_divided_between_workers_that_are_deaf_to_ctrl_c(ended) -> None:
    _, outcomes, said = ended
    threads = max(1, cores() // 2)
    assert next(o for o in outcomes if o.id == "environment").reason == f"{threads} True"
    assert said[0].startswith(f"2 local workers of {threads} thread")


def test_workers_are_as_many_as_cores_and_memory_carry() -> None:
    assert workers_that_fit(cores=16, memory_bytes=64_000_000_000, cases=1000) == 16
    assert workers_that_fit(cores=16, memory_bytes=8_000_000_000, cases=1000) == 3
    assert workers_that_fit(cores=16, memory_bytes=500_000_000, cases=1000) == 1
    assert workers_that_fit(cores=16, memory_bytes=64_000_000_000, cases=3) == 3


def test_a_running_scheduler_lends_its_workers(tmp_path: Path) -> None:
    said: list[str] = []
    how = {"threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(1, **how) as cluster:
        pool = Pool(scheduler=cluster.scheduler_address, unencrypted=True)
        todo = stubs.jobs(tmp_path, "a", "b", "fault")
        outcomes = list(compute(todo, stubs.touch, SETTINGS, pool, said.append))
    assert {o.id: o.status for o in outcomes} == {"a": "done", "b": "done", "fault": "failed"}
    assert said[0].startswith(f"1 workers at {cluster.scheduler_address}")


def test_a_scheduler_that_is_not_there_is_said_and_nothing_keeps_looking(tmp_path: Path) -> None:
    todo = stubs.jobs(tmp_path, "a")
    before = set(threading.enumerate())
    with pytest.raises(CohortError, match="no Dask scheduler answers at nowhere"):
        list(compute(todo, stubs.touch, SETTINGS, Pool(scheduler="nowhere://x"), lambda _: None))
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("seconds", [0, 3])
def test_a_scheduler_that_goes_away_is_said(seconds: int, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
    where = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    scheduler = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "PYTHONPATH": where},
    )
    try:
        # Nobody works there: the case waits until its scheduler is gone.
        pool, todo = (
            Pool(scheduler=f"tcp://127.0.0.1:{port}", unencrypted=True),
            stubs.jobs(tmp_path, "a"),
        )
        end = threading.Timer(seconds, scheduler.kill)
        with pytest.raises(CohortError, match="connection to the Dask scheduler was lost"):
            list(compute(todo, stubs.touch, SETTINGS, pool, lambda _: end.start()))
    finally:
        scheduler.kill()
        scheduler.wait()


def test_nothing_to_do_starts_nobody(tmp_path: Path) -> None:
    said: list[str] = []
    assert list(compute([], stubs.touch, SETTINGS, Pool(), said.append)) == []
    assert said == []
