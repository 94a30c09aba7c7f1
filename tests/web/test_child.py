"""A job ends with the server, however the server ends."""

from __future__ import annotations

import subprocess
import sys

from infarct.web import child

# The command line is replaced by one that waits, so that the test depends on no segmentation.
WAIT = """
import runpy, sys, time
from infarct.web import child
child.GRACE_SECONDS = 0.1
def wait(*arguments, **options):
    print("started", flush=True)
    while True:
        try:
            time.sleep(600)
        except BaseException:
            if "stubborn" not in sys.argv:
                raise
runpy.run_module = wait
child.main()
"""


def started(*arguments: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT, *arguments],
        stdin=pipe,
        stdout=pipe,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def test_it_ends_when_its_input_closes() -> None:
    for arguments in ((), ("stubborn",)):
        process = started(*arguments)
        assert process.poll() is None
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) != 0
        assert process.stdout is not None
        process.stdout.close()


def test_it_runs_the_command_line() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", child.__name__, "version"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read().strip()[0].isdigit()
        assert process.wait() == 0
