"""Set-up of the command's process: standard streams, matplotlib's folder, library warnings.

None of this happens on `import infarct`, where the process belongs to the calling program.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from infarct.core.errors import OutputError

LOG = "INFARCT_LOG"
"""Environment variable: a file to which library warnings are appended."""


class TolerantStream(io.RawIOBase):
    """A stream that drops data that cannot be written.

    A full disk behind stdout or a closed pipe (`| head -1`) must not end a run whose result is
    written to a folder.

    Attributes:
        lost: The first error, if anything was dropped.
    """

    def __init__(self, target: Any) -> None:
        self._target = target
        self.lost: OSError | None = None

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Write the data, and drop the rest after an error."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self.lost is None:
                rest = rest[self._target.write(rest) or 0 :]
        except OSError as error:
            self.lost = error
        return size

    def fileno(self) -> int:
        """Return the descriptor of the underlying stream."""
        number: int = self._target.fileno()
        return number

    def isatty(self) -> bool:
        """Return whether the underlying stream is a terminal."""
        return bool(self._target.isatty())


@contextmanager
def prepared_process() -> Iterator[None]:
    """Prepare this process for a command, and undo the changes at the end.

    Standard streams exist and tolerate errors, matplotlib keeps its files in a temporary folder,
    and library warnings do not appear on the terminal.
    """
    with ExitStack() as stack:
        _open_descriptors()
        for name in ("stdout", "stderr"):
            stack.enter_context(_tolerant(name))
        stack.enter_context(_matplotlib_elsewhere())
        stack.enter_context(quiet_libraries())
        yield


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep warnings and log messages of the libraries off the terminal.

    They concern internals that users cannot act on; relevant problems are reported as findings or
    errors. If `INFARCT_LOG` is set, they are written to that file.
    """
    handler = _log_handler()
    root = logging.getLogger()
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        handler.close()


def quiet_for_good() -> None:
    """Do the same as `quiet_libraries` until the process ends, for worker processes."""
    logging.getLogger().addHandler(_log_handler())
    logging.captureWarnings(True)


def check_printed() -> None:
    """Fail if printed output was lost, for commands whose only result is their output.

    A pipe closed by the reader is not an error.

    Raises:
        OutputError: If stdout could not be written.
    """
    if sys.stdout is None:
        return
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    lost = raw.lost if isinstance(raw, TolerantStream) else None
    if lost is not None and lost.errno != errno.EPIPE:
        raise OutputError(
            f"standard output cannot be written ({lost.strerror}); redirect it to another file"
        )


def _log_handler() -> logging.Handler:
    path = os.environ.get(LOG)
    if not path:
        return logging.NullHandler()
    try:
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(
            f"{LOG}={path} cannot be written ({error.strerror}); correct or unset it"
        ) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(name)s: %(message)s"))
    return handler


def _open_descriptors() -> None:
    """Open descriptors 0 to 2 if the caller closed them.

    Otherwise the next opened file, such as a mask, gets descriptor 1 or 2, and output printed by a
    library is written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


@contextmanager
def _tolerant(name: str) -> Iterator[None]:
    """Replace a standard stream with one that never fails."""
    before: TextIO | None = getattr(sys, name)
    if before is None or not hasattr(before, "buffer"):
        # Closed by the caller (print and rich accept None), or replaced by a notebook.
        yield
        return
    with suppress(OSError):
        before.flush()
    buffer = before.buffer
    after = io.TextIOWrapper(
        io.BufferedWriter(TolerantStream(getattr(buffer, "raw", buffer))),
        encoding=before.encoding,
        # A path that is not valid in this encoding must not end a run either.
        errors="backslashreplace",
        line_buffering=name == "stderr" or before.isatty(),
    )
    setattr(sys, name, after)
    try:
        yield
    finally:
        after.flush()
        if getattr(sys, name) is after:
            setattr(sys, name, before)


@contextmanager
def _matplotlib_elsewhere() -> Iterator[None]:
    """Give matplotlib a temporary folder for its font list, unless the user has set one.

    By default it writes to the home directory, warns if that is missing or read-only, and runs
    `fc-list`, which writes its own caches. The figures use only its bundled font.
    """
    if "MPLCONFIGDIR" in os.environ:
        yield
        return
    try:
        folder = tempfile.mkdtemp(prefix="infarct-matplotlib-")
    except OSError:  # no temporary folder: code that needs one reports the error
        yield
        return
    ours = {"MPLCONFIGDIR": folder, "MPL_IGNORE_SYSTEM_FONTS": "1"}
    fresh = {key: value for key, value in ours.items() if key not in os.environ}
    os.environ.update(fresh)
    try:
        yield
    finally:
        for key in fresh:
            os.environ.pop(key, None)
        shutil.rmtree(Path(folder), ignore_errors=True)
