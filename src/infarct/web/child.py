"""Runs one command line of infarct as a child of the server, and ends with the server.

`python -m infarct.web.child segment --dwi ...` is `infarct segment --dwi ...`, except that it stops
when its standard input closes: the server holds the other end, so a job never outlives a server
that was killed. It stops as with SIGTERM, which removes temporary files, and after a grace period
by force, which leaves files that the next run removes.
"""

from __future__ import annotations

import os
import runpy
import signal
import threading
import time

GRACE_SECONDS = 3.0
"""Time to stop cleanly: Python reacts to a signal only between two steps of a network."""


def _end_with_parent() -> None:
    # Not through sys.stdin, whose lock must be free when the interpreter ends.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():
        # Converters that this process started.
        os.killpg(0, signal.SIGKILL)
    os._exit(128 + signal.SIGTERM)


def main() -> None:
    """Run the command line in `sys.argv`."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("infarct", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
