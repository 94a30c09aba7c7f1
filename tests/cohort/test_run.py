import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import stubs

from infarct.cohort import run
from infarct.cohort.case_log import Ledger
from infarct.cohort.jobs import Job, Outcome, Settings
from infarct.cohort.run import Request, Watcher, plan, run_cohort
from infarct.cohort.runner import Pool
from infarct.core.errors import AssetError, OutputError
from infarct.preprocessing.case import CaseFiles

SETTINGS = Settings("cfuzzy")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run cases in this process, in order, and note which; the engine has tests of its own."""
    tried: list[str] = []

    def compute(jobs, work, settings, pool, starts):
        for job in jobs:
            tried.append(job.id)
            yield work(job, settings)

    monkeypatch.setattr(run, "compute", compute)
    return tried


def fail(code: int):
    def work(job: Job, settings: Settings) -> Outcome:
        if job.id == "bad":
            return Outcome(job.id, "failed", code, "broken")
        return stubs.touch(job, settings)

    return work


def test_a_second_run_does_only_what_is_left(tmp_path: Path, here: list[str]) -> None:
    out = tmp_path / "out"
    todo = stubs.jobs(tmp_path, "a", "bad", "b")
    request = Request(out, SETTINGS, work=fail(3))
    told: list[Outcome] = []
    first = run_cohort(todo, request, Watcher(ends=lambda outcome, _: told.append(outcome)))
    assert [(o.id, o.status, o.fresh) for o in first] == [
        ("a", "done", True),
        ("bad", "failed", True),
        ("b", "done", True),
    ]
    assert sorted(o.id for o in told) == ["a", "b", "bad"]
    lines = Ledger(out).path.read_text()
    second = run_cohort(todo, request)
    assert [(o.status, o.fresh) for o in second] == [
        ("done", False),
        ("failed", False),
        ("done", False),
    ]
    assert second[1].reason == "broken"
    assert here == ["a", "bad", "b", "a", "b"]  # looked at again, and found done
    assert Ledger(out).path.read_text() == lines


def test_a_manually_corrected_result_is_recorded_again(tmp_path: Path, here: list[str]) -> None:
    def corrected(job: Job, settings: Settings) -> Outcome:
        return replace(stubs.touch(job, settings), volume_ml=0.4)

    request, todo = Request(tmp_path / "out", SETTINGS, work=stubs.touch), stubs.jobs(tmp_path, "a")
    run_cohort(todo, request)
    for _ in range(2):
        (again,) = run_cohort(todo, replace(request, work=corrected))
        assert not again.fresh
    ledger = Ledger(tmp_path / "out")
    assert ledger.read()["a"]["volume_ml"] == "0.4"
    assert len(ledger.path.read_text().splitlines()) == 2


def test_failures_are_retried_on_request_or_if_unrelated_to_the_scan(
    tmp_path: Path, here: list[str]
) -> None:
    todo = stubs.jobs(tmp_path, "bad")
    request = Request(tmp_path / "out", SETTINGS, work=fail(3))
    run_cohort(todo, request)
    run_cohort(todo, request)
    assert here == ["bad"]
    run_cohort(todo, replace(request, retry_failed=True))
    assert here == ["bad", "bad"]
    run_cohort(todo, replace(request, settings=Settings("tscore")))
    assert here == ["bad"] * 3
    # A full disk: tried again without being asked.
    run_cohort(todo, replace(request, retry_failed=True, work=fail(OutputError.exit_code)))
    run_cohort(todo, replace(request, work=stubs.touch))
    assert here == ["bad"] * 5
    assert Ledger(tmp_path / "out").read()["bad"]["status"] == "done"


def test_only_leftovers_of_killed_workers_are_removed(tmp_path: Path, here: list[str]) -> None:
    out = tmp_path / "out"
    ours, others = (out / f".{name}.partial-host-0123456789abcdef" for name in "ax")
    for folder in (ours, others):
        folder.mkdir(parents=True)
    run_cohort(stubs.jobs(tmp_path, "a"), Request(out, SETTINGS, work=stubs.touch))
    assert (ours.exists(), others.exists()) == (False, True)


def test_a_wrong_model_or_place_stops_before_any_case(tmp_path: Path, here: list[str]) -> None:
    todo = stubs.jobs(tmp_path, "a")
    with pytest.raises(AssetError, match="magic"):
        run_cohort(todo, Request(tmp_path / "out", Settings("magic"), work=stubs.touch))
    with pytest.raises(OutputError, match="contains the input"):
        run_cohort(todo, Request(tmp_path, SETTINGS, work=stubs.touch))
    assert here == []
    assert not (tmp_path / "out").exists()
    (tmp_path / "study" / "group").mkdir(parents=True)
    (tmp_path / "study" / "group" / "thesis.docx").write_text("x")
    with pytest.raises(OutputError, match=r"no numbers\.tsv"):
        run_cohort(todo, Request(tmp_path / "study", SETTINGS, work=stubs.touch))
    assert here == []


SCRIPT = """
import signal
import sys
from pathlib import Path

import stubs

from infarct.cohort.runner import Pool
from infarct.cohort.jobs import Settings
from infarct.cohort.run import Request; from infarct.cohort.run import run_cohort
from infarct.cli.signals import clean_stops

if __name__ == "__main__":
    # Background shells make their processes ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(sys.argv[1])
    todo = stubs.jobs(folder, "a", "slow", "b")
    request = Request(folder / "out", Settings("cfuzzy"), Pool(1), work=stubs.touch)
    try:
        with clean_stops():
            run_cohort(todo, request)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def until(reached: Callable[[], bool], seconds: float = 300.0) -> None:
    """Wait for what a loaded machine may take its time for."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_keeps_what_is_done_and_leaves_nothing_else(
    tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    where = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": where},
        start_new_session=True,
    )
    started = tmp_path / "in" / "started.txt"

    def slow_is_running() -> bool:
        assert process.poll() is None, "ended before its time"
        return started.is_file() and "slow" in started.read_text()

    try:
        until(slow_is_running)
        os.killpg(process.pid, sent)  # like a terminal, which also signals the workers
        assert process.wait(timeout=300) == code
        assert {name: row["status"] for name, row in Ledger(tmp_path / "out").read().items()} == {
            "a": "done"
        }
        worker = int(started.read_text().split()[-1])
        until(lambda: gone(worker))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_the_plan_counts_cases_and_estimates_time_and_space(tmp_path: Path) -> None:
    (tmp_path / "dwi.nii.gz").touch()
    jobs = [
        Job(name, CaseFiles(tmp_path / f"{dwi}.nii.gz"), tmp_path / name)
        for name, dwi in (("a", "dwi"), ("b", "gone"), ("c", "dwi"))
    ]
    request = Request(tmp_path, Settings("cfuzzy"), Pool(workers=1))
    told: list[str] = []
    plan(jobs, {}, request, told.append)
    assert told[0] == "3 cases, 0 done before, the remaining time is known after the first case"
    assert told[1].startswith("about 0.1 GB of disk space needed")
    assert told[2].endswith(f"b: dwi {tmp_path / 'gone.nii.gz'} not found")
    assert len(told) == 3
    told.clear()
    plan(jobs, {"a": {"status": "done", "seconds": "5400"}}, request, told.append)
    assert told[0] == "3 cases, 1 done before, about 3 h left"
