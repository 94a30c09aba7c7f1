import multiprocessing
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import stubs
from distributed import LocalCluster

from infarct.cohort import local_runner
from infarct.cohort.dask_runner import secure_address
from infarct.cohort.jobs import Outcome, Settings
from infarct.cohort.local_runner import DEATHS
from infarct.cohort.runner import Pool, compute, workers_that_fit
from infarct.core.errors import CohortError
from infarct.core.machine import cores, resident_bytes

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


def test_an_internal_error_is_the_outcome_of_its_case(ended) -> None:
    _, outcomes, _ = ended
    fault = next(outcome for outcome in outcomes if outcome.id == "fault")
    assert (fault.code, fault.reason) == (1, "ZeroDivisionError: of our own making")


def test_workers_share_threads_and_ignore_ctrl_c(ended) -> None:
    _, outcomes, said = ended
    threads = max(1, cores() // 2)
    assert next(o for o in outcomes if o.id == "environment").reason == f"{threads} True"
    assert said[0].startswith(f"2 local workers of {threads} thread")


def test_nothing_listens_on_the_network_while_local_workers_run(tmp_path: Path) -> None:
    def listening() -> set[str]:
        tables = [Path(f"/proc/net/{name}") for name in ("tcp", "tcp6")]
        rows = [row.split() for t in tables if t.is_file() for row in t.read_text().splitlines()]
        owned = {row[9] for row in rows if row[3] == "0A"}
        links = (Path("/proc") / str(pid) / "fd" for pid in (os.getpid(), *children()))
        names = set()
        for link in (link for folder in links for link in folder.iterdir()):
            with suppress(FileNotFoundError):  # the one that lists the folder
                names.add(str(link.readlink()))
        return {number for number in owned if f"socket:[{number}]" in names}

    def children() -> list[int]:
        return [child.pid for child in multiprocessing.active_children() if child.pid]

    if not Path("/proc/net/tcp").is_file():
        pytest.skip("no /proc/net here")
    before = listening()
    steps = compute(stubs.jobs(tmp_path, "a", "b"), stubs.touch, SETTINGS, Pool(1), lambda _: None)
    assert next(steps).id == "a"
    assert children()
    assert listening() == before
    steps.close()
    assert not children()


def test_a_worker_that_exceeds_its_memory_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if resident_bytes(os.getpid()) is None:
        pytest.skip("no /proc here: the memory of a worker is unknown")
    monkeypatch.setattr(local_runner, "memory_bytes", lambda: 20_000_000)
    todo = stubs.jobs(tmp_path, "slow")
    (outcome,) = compute(todo, stubs.touch, SETTINGS, Pool(1), lambda _: None)
    assert (outcome.status, outcome.code) == ("failed", 11)
    assert "exceeded its share of the memory" in outcome.reason


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786"])
def test_a_scheduler_without_tls_requires_an_option(address: str, tmp_path: Path) -> None:
    todo = stubs.jobs(tmp_path, "a")
    with pytest.raises(CohortError, match=r"has no TLS.*--unencrypted"):
        list(compute(todo, stubs.touch, SETTINGS, Pool(scheduler=address), lambda _: None))
    assert secure_address("host:8786", unencrypted=False) == "tls://host:8786"
    assert secure_address("host:8786", unencrypted=True) == "tcp://host:8786"
    assert secure_address(address, unencrypted=True) == address


def test_workers_are_as_many_as_cores_and_memory_carry() -> None:
    assert workers_that_fit(cores=16, memory_bytes=64_000_000_000, cases=1000) == 16
    assert workers_that_fit(cores=16, memory_bytes=8_000_000_000, cases=1000) == 3
    assert workers_that_fit(cores=16, memory_bytes=500_000_000, cases=1000) == 1
    assert workers_that_fit(cores=16, memory_bytes=64_000_000_000, cases=3) == 3


def test_the_workers_of_a_running_scheduler_are_used(tmp_path: Path) -> None:
    said: list[str] = []
    how = {"threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(1, **how) as cluster:
        pool = Pool(scheduler=cluster.scheduler_address, unencrypted=True)
        todo = stubs.jobs(tmp_path, "a", "b", "fault")
        outcomes = list(compute(todo, stubs.touch, SETTINGS, pool, said.append))
    assert {o.id: o.status for o in outcomes} == {"a": "done", "b": "done", "fault": "failed"}
    assert said[0].startswith(f"1 workers at {cluster.scheduler_address}")


def test_an_unreachable_scheduler_is_an_error_and_leaves_no_thread(tmp_path: Path) -> None:
    todo = stubs.jobs(tmp_path, "a")
    before = set(threading.enumerate())
    with pytest.raises(CohortError, match="no Dask scheduler answers at nowhere"):
        list(compute(todo, stubs.touch, SETTINGS, Pool(scheduler="nowhere://x"), lambda _: None))
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("seconds", [0, 3])
def test_a_lost_scheduler_is_an_error(seconds: int, tmp_path: Path) -> None:
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


def test_no_jobs_start_no_workers(tmp_path: Path) -> None:
    said: list[str] = []
    assert list(compute([], stubs.touch, SETTINGS, Pool(), said.append)) == []
    assert said == []
