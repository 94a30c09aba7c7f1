import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from infarct.cli.signals import clean_stops

SCRIPT = """
import sys
import tempfile
import time
from pathlib import Path

from infarct.cli import main as cli
from infarct.core.atomic_write import atomic_directory as complete_or_absent

def work():
    with tempfile.TemporaryDirectory(dir=sys.argv[1]), complete_or_absent(Path(sys.argv[1], "out")):
        print("at work", flush=True)
        time.sleep(300)

cli.app = work
cli.main()
"""


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_command_leaves_no_files(tmp_path: Path, sent: signal.Signals) -> None:
    # Under nohup the tests themselves would hand down that SIGHUP is ignored.
    before = signal.signal(sent, signal.SIG_DFL)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        signal.signal(sent, before)
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        assert len(list(tmp_path.iterdir())) == 3  # a temporary folder, the partial one, its lock
        process.send_signal(sent)
        assert process.wait(timeout=60) == 128 + sent
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def _default(monkeypatch: pytest.MonkeyPatch):
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_default")
def test_a_second_signal_does_not_interrupt_the_clean_up() -> None:
    cleared = []
    with pytest.raises(SystemExit) as stop, clean_stops():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleared.append(True)
    assert stop.value.code == 143
    assert cleared
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("_default")
def test_ignored_signals_stay_ignored() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with clean_stops():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


@pytest.mark.usefixtures("_default")
def test_a_forked_worker_removes_no_files() -> None:
    with clean_stops(), tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if not child:
            signal.raise_signal(signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGTERM
        assert Path(folder).is_dir()
