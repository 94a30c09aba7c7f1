"""The queue, with commands that stand in for a segmentation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from infarct.core.errors import InputFileError
from infarct.web import jobs as queue
from infarct.web.jobs import Jobs, command_of
from infarct.web.store import Job, Store
from infarct.web.workers import TaskError, Workers


class Checked(Workers):
    """Accepts or refuses every upload without reading it."""

    def __init__(self, error: str = "") -> None:
        super().__init__(count=1)
        self.error = error

    async def run(self, task: str, **arguments: object) -> object:
        """Answer at once."""
        assert task == "check_input"
        if self.error:
            raise TaskError(f"{arguments['folder']}/dwi.nii.gz: {self.error}", "input")
        return {"findings": [], "dicom_out": False, "preview": "png"}


def add(store: Store, state: str = "checking") -> Job:
    name = store.claim()
    (store.input(name) / "dwi.nii.gz").write_bytes(b"")
    return store.save(Job(name, "cfuzzy", {"dwi": "dwi.nii.gz"}, state=state))  # type: ignore[arg-type]


def run(store: Store, work: Callable[[Jobs], Awaitable[None]], error: str = "") -> Jobs:
    async def main() -> Jobs:
        jobs = Jobs(store, Checked(error))
        jobs.start()
        try:
            await asyncio.wait_for(work(jobs), 120)
        finally:
            await jobs.close()
        return jobs

    return asyncio.run(main())


async def until(jobs: Jobs, name: str, *states: str) -> Job:
    while True:
        job = next(each for each in jobs.all() if each.name == name)
        if job.state in states:
            return job
        await asyncio.sleep(0.01)


def test_the_command_is_the_one_of_the_terminal(tmp_path) -> None:
    store = Store(tmp_path)
    job = Job("a", "fcn-ch2-slices", {"dwi": "dwi.nii", "bval": "dwi.bval", "adc": "adc.nii"})
    home = store.input("a")
    assert command_of(job, store) == [
        *("segment", "--dwi", f"{home / 'dwi.nii'}", "--adc", f"{home / 'adc.nii'}"),
        *("--out", f"{store.root / 'a'}", "--model", "fcn-ch2-slices"),
    ]
    job = Job("a", "ensemble", {"dicom": "dicom"}, dicom_out=True)
    assert command_of(job, store)[:4] == ["segment", "--dicom", f"{home / 'dicom'}", "--dicom-out"]


def test_an_error_is_reported_without_folders_and_the_input_is_deleted(tmp_path) -> None:
    store = Store(tmp_path)
    job = add(store, "queued")

    async def work(jobs: Jobs) -> None:
        await until(jobs, job.name, "failed")

    (done,) = run(store, work).all()
    assert "dwi.nii.gz: is empty" in done.error
    assert str(tmp_path) not in done.error
    assert not store.input(job.name).exists()
    assert not store.result(job.name).exists()
    (stored,) = Store(tmp_path).jobs()
    assert stored == done


def test_a_refused_scan_names_the_file_and_not_the_folder(tmp_path) -> None:
    store = Store(tmp_path)

    async def work(jobs: Jobs) -> None:
        job = add(store)
        jobs.add(job)
        with pytest.raises(TaskError) as raised:
            await jobs.check(job)
        assert str(raised.value) == "dwi.nii.gz: is no image"
        jobs.forget(job)

    assert run(store, work, "is no image").all() == []
    assert list(store.own.joinpath("jobs").iterdir()) == []


def test_a_running_job_is_cancelled(tmp_path, monkeypatch) -> None:
    started: list[asyncio.subprocess.Process] = []
    monkeypatch.setattr(queue, "sys", _Python(tmp_path))
    store = Store(tmp_path / "results")
    job = add(store, "queued")

    async def work(jobs: Jobs) -> None:
        running = await until(jobs, job.name, "running")
        while job.name not in jobs._processes:
            await asyncio.sleep(0.01)
        started.append(jobs._processes[job.name])
        while jobs.progress[job.name].step == "starting":
            await asyncio.sleep(0.01)
        assert jobs.progress[job.name].step == "resampling"
        assert jobs.progress[job.name].done == pytest.approx(2 / 12)
        await jobs.cancel(running)
        await until(jobs, job.name, "cancelled")

    run(store, work)
    assert started[0].returncode is not None
    assert started[0].returncode != 0
    assert not store.input(job.name).exists()


class _Python:
    """Stands in for `sys`: an interpreter that reports a step and waits."""

    def __init__(self, folder: Path) -> None:
        script = folder / "python"
        script.write_text("#!/bin/sh\necho 'resampling (step 3 of 12)' >&2\nexec sleep 600\n")
        script.chmod(0o755)
        self.executable = str(script)


def test_a_waiting_job_is_cancelled_without_being_run(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(queue, "sys", _Python(tmp_path))
    store = Store(tmp_path / "results")
    first, second = add(store, "queued"), add(store, "queued")

    async def work(jobs: Jobs) -> None:
        await until(jobs, first.name, "running")
        await jobs.cancel(await until(jobs, second.name, "queued"))
        assert second.name not in jobs._waiting

    run(store, work)
    states = {job.name: job.state for job in Store(tmp_path / "results").jobs()}
    assert states == {first.name: "running", second.name: "cancelled"}


def test_a_new_server_resumes_what_the_old_one_left(tmp_path, root) -> None:
    store = Store(root)
    waiting, checked = add(store, "running"), add(store, "checking")
    # This one was finished when the server was killed.
    store.folder("case").mkdir()
    store.save(Job("case", "cfuzzy", {"dwi": "dwi.nii.gz"}, state="running"))

    async def work(jobs: Jobs) -> None:
        for job in (waiting, checked):
            await until(jobs, job.name, "failed")
        await until(jobs, "case", "done")

    assert len(run(store, work).all()) == 3


def test_the_queue_is_bounded(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(queue, "MOST_WAITING", 0)
    with pytest.raises(InputFileError, match="are waiting already"):
        asyncio.run(_full(tmp_path))


async def _full(folder: Path) -> None:
    Jobs(Store(folder), Checked()).check_room()
