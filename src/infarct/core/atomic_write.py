"""Folders and files that are complete or absent, whoever is killed and whoever else is writing.

A folder is built under a hidden name beside its destination and renamed at the end. A process that
works on a destination holds a lock beside it: a second process is refused, and what a killed one
left can be told from the work of a live one, because its lock is free. Process numbers are not used
for that: containers that share a folder have the same ones.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from infarct.core.errors import OutputError

PATIENCE_SECONDS = 2.0
"""How long a lock is tried for: another process may hold it just to clear up."""

_LONGEST_NAME = 120
"""Bytes of a name that hidden names repeat; file systems allow 255 for all of it."""

_HAS_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
"""Errors of file systems without locks, as on some clusters."""

_HOST = re.sub(r"[^A-Za-z0-9]", "-", socket.gethostname())[:40]
_HIDDEN = re.compile(r"lock|(partial|old)-[A-Za-z0-9-]*-[0-9a-f]{16}")
_SCRATCH = re.compile(r"infarct-[A-Za-z0-9-]*-[0-9a-f]{16}")

_local = threading.local()
"""The folders that each thread has reserved."""


@contextmanager
def atomic_directory(out: Path, check: Callable[[Path], None] = lambda _: None) -> Iterator[Path]:
    """Build beside the destination and rename at the end; leave nothing behind on failure.

    Args:
        out: Folder to make, or to replace as a whole.
        check: Called with the folder that is about to be replaced, once it cannot be reached by its
            own name any more; raises to keep it.

    Yields:
        Folder to build in.

    Raises:
        OutputError: If it cannot be written, or another process is writing to it.
    """
    out = out.resolve()
    with reserved(out), workplace(out) as partial:
        yield partial
        put_in_place(partial, out, check)


@contextmanager
def workplace(out: Path) -> Iterator[Path]:
    """Give a hidden folder beside a reserved one, and remove it whatever happens.

    Raises:
        OutputError: If it cannot be made, or what is done in it fails with an `OSError`.
    """
    place = _hidden(out.resolve(), f"partial-{_token()}")
    try:
        place.mkdir(parents=True)
        yield place
    except OSError as error:
        raise OutputError(f"results cannot be written to {out}: {error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def put_in_place(made: Path, out: Path, check: Callable[[Path], None] = lambda _: None) -> None:
    """Give a complete folder its name, in place of an earlier one; both stay if that fails.

    Args:
        made: The folder, on the file system of `out`.
        out: Its place; reserved.
        check: As for `atomic_directory`.
    """
    if not out.is_dir():
        # Fails if a folder with content has appeared: nothing is replaced unchecked.
        made.rename(out)
        return
    old = _hidden(out, f"old-{_token()}")
    out.rename(old)
    try:
        check(old)
        made.rename(out)
    except BaseException:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def reserved(out: Path, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Keep other processes away from a folder, and clear up what killed ones left.

    What they left lies beside the folder, and in the system's folder of temporary files. An earlier
    result that was just being replaced is put back. Calls may be nested. On a file system without
    locks nobody is kept away, and nothing beside the folder is cleared up.

    Args:
        out: The folder; it need not exist.
        patience: Seconds to wait for another process.

    Raises:
        OutputError: If another process holds it, or no lock can be written.
    """
    out = out.resolve()
    own: set[Path] = _local.__dict__.setdefault("folders", set())
    if out in own:
        yield
        return
    with _locked(out, patience) as alone:
        own.add(out)
        try:
            if alone:
                _clear_up(out)
            _clear_scratch()
            yield
        finally:
            own.discard(out)


def clear_up(folders: Iterable[Path]) -> None:
    """Remove what killed processes left beside folders; the work of live ones stays.

    Args:
        folders: They need not exist.
    """
    names: dict[Path, list[str]] = {}
    for folder in {folder.resolve() for folder in folders}:
        if folder.parent not in names:
            with suppress(OSError):
                names[folder.parent] = os.listdir(folder.parent)  # noqa: PTH208 - of names only
        if any(_beside(folder, name) for name in names.get(folder.parent, ())):
            with suppress(OutputError), reserved(folder, patience=0.0):
                pass


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a temporary folder that a later one removes if this process is killed.

    It is for images of a patient, which must not stay behind.

    Yields:
        The folder, readable by its owner only.
    """
    _clear_scratch()
    folder = Path(tempfile.gettempdir()).resolve() / f"infarct-{_token()}"
    with _locked(folder, PATIENCE_SECONDS):
        try:
            # Only now that the lock is held: a folder without one is taken for abandoned.
            folder.mkdir(mode=0o700)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _clear_scratch() -> None:
    """Remove the temporary folders of killed processes."""
    with suppress(OSError):
        for path in list(Path(tempfile.gettempdir()).resolve().iterdir()):
            if _SCRATCH.fullmatch(path.name.strip(".").removesuffix(".lock")):
                _remove_scratch(path)


def _remove_scratch(path: Path) -> None:
    """Remove a temporary folder, or the lock of one, if its owner is gone and it is ours."""
    folder = path.with_name(path.name.strip(".").removesuffix(".lock"))
    with suppress(OSError, OutputError):
        ours = not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()
        if ours and not path.is_symlink():
            with _locked(folder, 0.0) as alone:
                if alone:
                    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(out: Path, patience: float) -> Iterator[bool]:
    """Hold the lock of a folder; yields False where the file system has none."""
    path = _hidden(out, "lock")
    lock = FileLock(path, timeout=patience, mode=0o666, fallback_to_soft=False)
    made = _make_parents(out)
    try:
        try:
            lock.acquire()
        except Timeout:
            raise OutputError(
                f"another infarct process is working on {out}; wait until it has finished, or "
                "choose another folder"
            ) from None
        except OSError as error:
            if error.errno not in _HAS_NO_LOCKS:
                raise OutputError(f"results cannot be written to {out}: {error}") from error
        held = lock.is_locked
        try:
            yield held
        finally:
            if held:
                # While it is held: whoever waits for the file notices that it is gone.
                with suppress(OSError):
                    path.unlink()
                lock.release()
    finally:
        for folder in made:
            # Those that hold no result.
            with suppress(OSError):
                folder.rmdir()


def _make_parents(out: Path) -> list[Path]:
    """Make the folders above one, and return those that were missing, the deepest first."""
    missing = [parent for parent in out.parents if not parent.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"results cannot be written to {out}: {error}") from error
    return missing


def _clear_up(out: Path) -> None:
    """Undo or finish what a killed process was doing to a folder that is reserved now."""
    try:
        beside = [path for path in out.parent.iterdir() if _beside(out, path.name)]
        for path in beside:
            kind = path.name.removeprefix(_hidden(out, "").name).partition("-")[0]
            if kind == "old" and not (out.is_dir() and any(out.iterdir())):
                # Killed between two renames: the earlier result is the only one there is.
                if out.is_dir():
                    out.rmdir()
                path.rename(out)
            elif kind != "lock":
                shutil.rmtree(path, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"results cannot be written to {out}: {error}") from error


def _hidden(out: Path, kind: str) -> Path:
    """Return the hidden name beside a folder for something of a kind."""
    name = out.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return out.with_name(f".{name}.{kind}")


def _beside(out: Path, name: str) -> bool:
    """Tell whether a name is a hidden one of a folder."""
    lead = _hidden(out, "").name
    return name.startswith(lead) and bool(_HIDDEN.fullmatch(name.removeprefix(lead)))


def _token() -> str:
    return f"{_HOST}-{secrets.token_hex(8)}"


@contextmanager
def edit_atomically(folder: Path, elsewhere: Mapping[str, Path] | None = None) -> Iterator[Path]:
    """Change a result: on a copy beside it, which takes its place when all is done.

    Args:
        folder: Of the result.
        elsewhere: Where files of it lie that are not in the folder, by the name they would have
            there. The copy has all of them, and they go back once it has taken its place: whoever
            is killed in between leaves a result that holds them itself.

    Raises:
        OutputError: If it is the current directory or holds it, if another process is working on
            it, or if it was changed meanwhile.
    """
    if stood_in(folder):
        raise OutputError(
            f"{folder} is your current directory, or holds it, and cannot be replaced; run the "
            "command from another directory"
        )
    elsewhere = dict(elsewhere or {})
    before: dict[str, tuple[int, int]] = {}

    def check(old: Path) -> None:
        if _state(old) != before:
            raise OutputError(f"{folder} was changed meanwhile; nothing was replaced: run it again")

    with reserved(folder):
        with atomic_directory(folder, check) as partial:
            before |= _state(folder)
            shutil.copytree(folder, partial, dirs_exist_ok=True, symlinks=True)
            for name, path in elsewhere.items():
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, partial / name)
            yield partial
        move_out(folder, elsewhere)


def move_out(folder: Path, elsewhere: Mapping[str, Path]) -> None:
    """Bring files of a result to where they belong outside its folder.

    Args:
        folder: Complete, and reserved.
        elsewhere: The place of each, by its name in the folder. What is not in the folder has been
            brought there before.

    Raises:
        OutputError: If it cannot; then they stay in the folder.
    """
    try:
        for name, path in elsewhere.items():
            if (folder / name).is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                (folder / name).replace(path)
        for parent in sorted({(folder / name).parent for name in elsewhere}, reverse=True):
            if parent != folder and parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
    except OSError as error:
        raise OutputError(f"files of {folder} cannot be moved out of it: {error}") from error


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of every file in a folder, to notice changes."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            status = Path(parent, name).lstat()
            where = Path(parent, name).relative_to(folder).as_posix()
            found[where] = (status.st_size, status.st_mtime_ns)
    return found


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Write a file beside its place and rename it at the end; leave nothing behind on failure."""
    draft = path.with_name(f".{path.name}.part")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def refuse_to_replace(out: Path, inputs: Iterable[Path]) -> None:
    """Refuse a folder to make that would be replaced with what must stay.

    A folder in use as such, mounted or stood in, can be filled but not replaced as a whole.

    Args:
        out: Folder to make.
        inputs: Files and folders that are read.

    Raises:
        OutputError: If so.
    """
    out = _resolved(out)
    for path in inputs:
        for place in _places_of(path):
            if out in (place, *place.parents):
                raise OutputError(
                    f"{out} holds the input {path.name}; folders of inputs are never written to: "
                    "give --out a folder of its own"
                )
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give --out the name of a folder to make")
    if os.path.ismount(out):
        raise OutputError(
            f"{out} is a mount point, which cannot be replaced; give --out a folder inside it"
        )
    if stood_in(out):
        raise OutputError(
            f"{out} is your current directory, or holds it, and cannot be replaced; give --out a "
            "folder inside it or elsewhere"
        )


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise OutputError(f"{path} cannot be followed: its links lead in a circle") from error


def _places_of(path: Path) -> list[Path]:
    """Return where a file lies: itself, and every link on the way to it."""
    places = []
    for _ in range(40):
        places.append(path.parent.resolve() / path.name)
        if not path.is_symlink():
            break
        path = places[-1].parent / path.readlink()
    return [*places, path.resolve()]


def stood_in(folder: Path) -> bool:
    """Tell whether a folder is or holds the current directory, which would be gone with it."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return False
    return folder.resolve() in (here, *here.parents)
