"""Clean termination: SIGTERM and SIGHUP remove temporary files first, as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_POLITE = [number for number in signal.Signals if number.name in {"SIGTERM", "SIGHUP"}]
"""Sent by batch systems, containers and closing terminals; Windows has no SIGHUP."""


@contextmanager
def clean_stops() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise `SystemExit(128 + number)` in the body.

    By default they end the process immediately and leave the patient's scan in the temporary
    folder. Signals that are already ignored (e.g. under nohup) stay ignored.
    """
    owner = os.getpid()
    ours = [number for number in _POLITE if signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:
            # A forked worker inherits our contexts but must not clean up files it does not own.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        for each in ours:
            # A second signal must not interrupt the clean-up.
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
