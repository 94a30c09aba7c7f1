"""Tests of atomic writing: folders and files are complete or absent."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from errno import ENOSYS
from pathlib import Path

import filelock
import pytest

from infarct.core import atomic_write
from infarct.core.atomic_write import (
    atomic_directory,
    atomic_file,
    clear_up,
    edit_atomically,
    refuse_to_replace,
    reserved,
    scratch,
)
from infarct.core.errors import OutputError

Held = Callable[[Path], AbstractContextManager[None]]
TOKEN = "host-0123456789abcdef"


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with atomic_directory(out) as partial:
        (partial / "new").write_text("whole")
        assert not out.exists()
    assert content(out) == {"new": "whole"}
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_old_folder_stays_if_building_fails(tmp_path: Path, fault: type[BaseException]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("kept")
    with pytest.raises(fault), atomic_directory(out) as partial:
        (partial / "half").write_text("written")
        raise fault
    assert content(out) == {"old": "kept"}
    assert list(tmp_path.iterdir()) == [out]


def test_editing_keeps_untouched_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("touched", "beside"):
        (out / name).write_text("old")
    with edit_atomically(out) as partial:
        (partial / "touched").write_text("new")
        assert content(out)["touched"] == "old"
    assert content(out) == {"touched": "new", "beside": "old"}


def test_the_current_directory_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    (out / "mni").mkdir(parents=True)
    for inside, name in ((out, "."), (out / "mni", "..")):
        monkeypatch.chdir(inside)
        with (
            pytest.raises(OutputError, match="your current directory"),
            edit_atomically(Path(name)),
        ):
            pass
    monkeypatch.chdir(tmp_path)
    with edit_atomically(Path("out")) as partial:
        (partial / "new").write_text("x")
    assert content(out) == {"new": "x"}


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match="cannot be written"),
        atomic_directory(tmp_path / "file" / "out"),
    ):
        pass


def test_a_file_is_complete_or_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "numbers.tsv"
    for text, fails in (("old", False), ("new", True), ("newer", False)):
        with suppress(KeyboardInterrupt), atomic_file(path) as draft:
            draft.write_text(text)
            if fails:
                raise KeyboardInterrupt
        assert path.read_text() == ("old" if fails else text)
        assert content(tmp_path) == {"numbers.tsv": path.read_text()}


def test_a_second_process_is_rejected_or_waits(
    tmp_path: Path, held_elsewhere: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "deep" / "out"
    monkeypatch.setattr(atomic_write, "PATIENCE_SECONDS", 0.1)
    with held_elsewhere(out):
        for attempt in (reserved(out, 0.1), reserved(tmp_path / "deep" / ".." / "deep" / "out", 0)):
            with pytest.raises(OutputError, match="another infarct process is working on"), attempt:
                pass
    with reserved(out, 60), reserved(out), atomic_directory(out) as partial:
        (partial / "new").write_text("whole")
    assert content(out) == {"new": "whole"}
    assert list((tmp_path / "deep").iterdir()) == [out]


def test_another_thread_is_rejected_too(tmp_path: Path) -> None:
    said: list[str] = []

    def attempt() -> None:
        try:
            with reserved(tmp_path / "out", 0.0):
                said.append("entered")
        except OutputError:
            said.append("refused")

    with reserved(tmp_path / "out"):
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    attempt()
    assert said == ["refused", "entered"]
    assert list(tmp_path.iterdir()) == []


def test_folders_created_for_a_lock_are_removed(tmp_path: Path) -> None:
    with reserved(tmp_path / "a" / "b" / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_only_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("whole")
    for name in (f".out.partial-{TOKEN}", f".out.old-{TOKEN}", ".out.lock"):
        (tmp_path / name).mkdir() if "lock" not in name else (tmp_path / name).touch()
    kept = {
        *(".out.partial-1", ".out.partial-mine", f".out2.partial-{TOKEN}", f"out.partial-{TOKEN}"),
        *(f".out.partial-{TOKEN}.bak", ".out.notes"),
    }
    for name in kept:
        (tmp_path / name).mkdir()
    clear_up([out, tmp_path / "absent" / "folder"])
    assert {path.name for path in tmp_path.iterdir()} == {"out", *kept}
    assert content(out) == {"old": "whole"}


@pytest.mark.parametrize("name", ["out", "x.old-y", "n" * 255, "\u00e4" * 127])
def test_an_old_result_is_restored_if_replacing_it_was_interrupted(
    tmp_path: Path, name: str
) -> None:
    out = tmp_path / name
    out.mkdir()
    (out / "old").write_text("whole")
    code = (
        "import os, sys; from pathlib import Path; from infarct.core import atomic_write as whole\n"
        "def die(_): os.kill(os.getpid(), 9)\n"
        "with whole.atomic_directory(Path(sys.argv[1]), die) as p: (p / 'new').touch()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(out)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert len(list(tmp_path.iterdir())) == 3  # the lock, the earlier folder and the new one
    with reserved(out):
        assert content(out) == {"old": "whole"}
    assert list(tmp_path.iterdir()) == [out]


def test_a_failed_check_keeps_the_old_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("whole")

    def check(folder: Path) -> None:
        assert not out.exists()
        assert content(folder) == {"old": "whole", "note": "mine"}
        raise OutputError("manual work")

    with pytest.raises(OutputError, match="manual work"), atomic_directory(out, check):
        (out / "note").write_text("mine")
    assert content(out) == {"old": "whole", "note": "mine"}
    assert list(tmp_path.iterdir()) == [out]


def test_editing_does_not_lose_files_added_meanwhile(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("whole")
    with pytest.raises(OutputError, match="was changed meanwhile"), edit_atomically(out) as partial:
        (partial / "old").write_text("new")
        (out / "note").write_text("mine")
    assert content(out) == {"old": "whole", "note": "mine"}


def test_files_stored_elsewhere_are_edited_with_the_folder(tmp_path: Path) -> None:
    out, mask = tmp_path / "out", tmp_path / "sub-1" / "mask"
    for path in (out / "numbers", mask):
        path.parent.mkdir()
        path.write_text("old")
    with edit_atomically(out, {"mni/mask": mask}) as partial:
        (partial / "mni/mask").write_text("new")
        (partial / "numbers").write_text("new")
        assert mask.read_text() == "old"
    assert content(out) == {"numbers": "new"}
    assert mask.read_text() == "new"
    assert not (out / "mni").exists()


def test_a_file_system_without_locks_can_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(ENOSYS, "not implemented")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    out = tmp_path / "out"
    left = tmp_path / f".out.partial-{TOKEN}"
    left.mkdir()
    with atomic_directory(out) as partial:
        (partial / "new").write_text("whole")
    assert left.is_dir()  # it may be that of a live process
    # Even so a folder that appeared meanwhile is not replaced unseen.
    other = tmp_path / "other"
    with pytest.raises(OutputError, match="cannot be written"), atomic_directory(other):
        os.mkdir(other)  # noqa: PTH102
        (other / "theirs").touch()
        monkeypatch.setattr(Path, "is_dir", lambda _: False)


def test_temporary_folders_of_killed_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        "import os, sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from infarct.core.atomic_write import scratch\n"
        "with scratch() as folder: (folder / 'image').touch(); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (left,) = (path for path in tmp_path.iterdir() if path.is_dir())
    (tmp_path / "infarct-mine").mkdir()
    (tmp_path / f".infarct-{TOKEN}.lock").touch()
    with scratch() as first:
        assert first.stat().st_mode & 0o777 == 0o700
        assert not left.exists()
        with scratch() as second:
            assert first.is_dir()
            assert first != second
    assert [path.name for path in tmp_path.iterdir()] == ["infarct-mine"]


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_process_leaves_the_old_or_the_new_result(tmp_path: Path, seed: int) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "number").write_text("0")
    (out / "square").write_text("0")
    code = (
        "import sys; from pathlib import Path; from infarct.core.atomic_write import "
        "edit_atomically as changed_whole\n"
        "out = Path(sys.argv[1]); print('started', flush=True)\n"
        "while True:\n"
        "    with changed_whole(out) as new:\n"
        "        n = int((new / 'number').read_text()) + 1\n"
        "        (new / 'number').write_text(str(n)); (new / 'square').write_text(str(n * n))\n"
    )
    command = [sys.executable, "-c", code, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.Random(seed).uniform(0.0, 0.3))
        process.kill()
    with reserved(out):
        found = content(out)
    assert int(found["square"]) == int(found["number"]) ** 2
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_with_inputs_is_never_replaced(tmp_path: Path) -> None:
    out, data = tmp_path / "out", tmp_path / "data"
    out.mkdir()
    data.mkdir()
    (data / "dwi").touch()
    (out / "link").symlink_to(data / "dwi")
    (data / "via").symlink_to(out / "link")
    (tmp_path / "same").symlink_to(data)
    for place, given in (
        *((out, out / "link"), (out, data / "via")),
        *((data, data / "dwi"), (tmp_path / "same", data / "dwi"), (tmp_path, data / "dwi")),
        (data, tmp_path / "same" / "dwi"),
    ):
        with pytest.raises(OutputError, match="never written to"):
            refuse_to_replace(place, [given])
    refuse_to_replace(data / "new", [data / "dwi"])
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OutputError, match="symbolic links form a loop"):
        refuse_to_replace(tmp_path / "loop", [])
