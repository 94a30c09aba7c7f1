"""Tests of streams, library warnings, and access to the home directory and the network."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from infarct.core import assets
from infarct.core.errors import OutputError
from infarct.core.process_setup import (
    LOG,
    TolerantStream,
    check_printed,
    prepared_process,
    quiet_libraries,
)


class Broken(io.RawIOBase):
    """A stream that accepts three bytes and then fails."""

    def __init__(self, number: int) -> None:
        self.number, self.taken = number, b""

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data) -> int:
        """Accept one byte at a time."""
        if len(self.taken) >= 3:
            raise OSError(self.number, os.strerror(self.number))
        self.taken += bytes(data[:1])
        return 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EBADF])
def test_a_broken_stream_loses_only_the_rest(number: int, monkeypatch) -> None:
    broken = Broken(number)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(broken)))
    with prepared_process():
        print("a long line that does not fit")
        sys.stdout.flush()
        print("nor does this")
        if number == errno.EPIPE:
            check_printed()
        else:
            with pytest.raises(OutputError, match="standard output cannot be written"):
                check_printed()
    assert broken.taken == b"a l"


def test_a_working_stream_receives_everything() -> None:
    target = io.BytesIO()
    stream = TolerantStream(target)
    assert stream.write(b"complete") == 8
    assert (target.getvalue(), stream.lost, stream.isatty()) == (b"complete", None, False)


@pytest.mark.parametrize("log", [True, False])
def test_warnings_of_libraries_go_to_the_log_and_never_to_the_terminal(
    tmp_path: Path, log: bool, monkeypatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if log:
        monkeypatch.setenv(LOG, str(tmp_path / "log.txt"))
    with warnings.catch_warnings(), quiet_libraries():
        warnings.simplefilter("always")
        warnings.warn("a library is worried", UserWarning, stacklevel=1)
        logging.getLogger("matplotlib.font_manager").warning("building the font cache")
    assert capfd.readouterr() == ("", "")
    if log:
        text = (tmp_path / "log.txt").read_text()
        assert "a library is worried" in text
        assert "matplotlib.font_manager: building the font cache" in text


def test_a_log_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(LOG, str(tmp_path / "missing" / "log.txt"))
    with pytest.raises(OutputError, match=f"{LOG}=.*cannot be written"), quiet_libraries():
        pass


def test_the_folder_of_matplotlib_is_temporary_unless_the_user_chose_one(monkeypatch) -> None:
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    with prepared_process():
        folder = Path(os.environ["MPLCONFIGDIR"])
        assert folder.is_dir()
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()
    assert "MPLCONFIGDIR" not in os.environ
    monkeypatch.setenv("MPLCONFIGDIR", "mine")
    with prepared_process():
        assert os.environ["MPLCONFIGDIR"] == "mine"


def test_closed_descriptors_are_opened_so_that_no_file_gets_their_number() -> None:
    code = (
        "import os\n"
        "from infarct.core.process_setup import prepared_process\n"
        "with prepared_process():\n"
        "    number = os.open(os.devnull, os.O_WRONLY)\n"
        "    print('nobody reads this')\n"
        "    os._exit(number)\n"
    )
    command = f'exec "{sys.executable}" -c "$CODE" <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", command], env={**os.environ, "CODE": code}, check=False)
    assert done.returncode >= 3


@pytest.mark.parametrize("what", ["segment", "openvino"])
def test_nothing_reaches_the_network_or_the_home_directory(what: str, tmp_path: Path) -> None:
    """Run a command without a network, recording all addresses and created files."""
    tools = [shutil.which(name) for name in ("strace", "unshare")]
    if not all(tools):
        pytest.skip("strace and unshare are needed to watch a process without a network")
    strace, unshare = map(str, tools)
    watch = [
        unshare,
        "-n",
        strace,
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-o",
        str(tmp_path / "calls"),
        "-e",
    ]
    watch.append("trace=network,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2")
    probe = subprocess.run([*watch, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"no network namespace or ptrace here: {probe.stderr.strip()}")
    home, scratch, out = (tmp_path / name for name in ("home", "scratch", "out"))
    home.mkdir()
    scratch.mkdir()
    if what == "segment":
        dwi, b0 = (str(assets.path(f"demo/{name}")) for name in ("dwi", "b0"))
        command = ["-m", "infarct", "segment", "--dwi", dwi, "--b0", b0]
        command += ["--model", "cfuzzy", "--out", str(out)]
    else:
        pytest.importorskip("openvino")
        load = (
            "from infarct.core import assets; from infarct.inference import backends as engines; "
            "engines.load(assets.path('networks/BrainMask'))"
        )
        command = ["-c", load]
    keep = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "VIRTUAL_ENV")
    environment = {name: os.environ[name] for name in keep if name in os.environ}
    environment |= {"HOME": str(home), "TMPDIR": str(scratch), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"INFARCT_ENGINE": "openvino"} if what == "openvino" else {}
    done = subprocess.run(
        [*watch, sys.executable, *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # A spinner is all that may appear there.
    assert "arning" not in done.stderr
    calls = (tmp_path / "calls").read_text(errors="replace").splitlines()
    assert reached(calls) == []
    assert list(home.rglob("*")) == []
    assert list(scratch.iterdir()) == []
    made = [path for path in created(calls) if not path.is_relative_to(tmp_path)]
    # /dev/shm holds semaphores, and is memory.
    assert [path for path in made if not path.is_relative_to("/dev")] == []


def reached(calls: list[str]) -> list[str]:
    """Return the calls with an address outside this machine."""
    named = [call for call in calls if re.search(r"AF_INET6?\b", call) and "sin" in call]
    return [call for call in named if not re.search(r'"127\.|"::1"|"::"|"0\.0\.0\.0"', call)]


def created(calls: list[str]) -> list[Path]:
    """Return the absolute paths that were created or renamed."""
    making = re.compile(r"O_CREAT|\b(?:creat|mkdir|mkdirat|rename\w*)\(")
    done = [call for call in calls if making.search(call) and " = -1 " not in call]
    names = [name for call in done for name in re.findall(r'"([^"]*)"', call)]
    return [Path(name) for name in names if name.startswith("/")]


def test_the_monitor_detects_network_calls_and_files() -> None:
    asks = [
        '7 connect(7, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.1")}, 16)',
        '7 connect(7, {sa_family=AF_INET6, sin6_port=htons(1), inet_pton(AF_INET6, "fe80::1")})',
    ]
    own = [
        '7 bind(3, {sa_family=AF_INET6, sin6_port=htons(0), inet_pton(AF_INET6, "::1")}, 28) = 0',
        '7 connect(7, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT',
    ]
    assert reached([*asks, *own]) == asks
    made = '7 openat(AT_FDCWD, "/nowhere/me/.cache/x", O_RDWR|O_CREAT|O_EXCL, 0600) = 4'
    assert created([made, '7 openat(AT_FDCWD, "/etc/x", O_RDONLY) = 3']) == [
        Path("/nowhere/me/.cache/x")
    ]
