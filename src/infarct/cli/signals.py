"""Being told to stop: a polite kill ends a command as Ctrl-C does, temporary files first."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_POLITE = [number for number in signal.Signals if number.name in {"SIGTERM", "SIGHUP"}]
"""What a batch system, a container or a terminal that closes sends; Windows has no SIGHUP."""


@contextmanager
def clean_stops() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise `SystemExit(128 + number)` in the body.

    By default they end the process on the spot, and the patient's scan stays in the temporary
    folder. What was told to ignore them, as by nohup, goes on ignoring them.
    """
    owner = os.getpid()
    ours = [number for number in _POLITE if signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:
            # A forked worker holds copies of our contexts: what they clear away is not its own.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        for each in ours:
            # A second one must not cut the clearing away short.
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
