"""Atomic writing: folders and files are complete or absent, even after a crash.

A folder is built under a hidden name next to its destination and renamed at the end. A process
holds a lock next to the destination while it works on it, so that a second process is rejected.
Leftovers of killed processes are recognised by their free lock. Process numbers are not used,
because they are not unique across containers that share a folder.
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
from uuid import uuid4

from filelock import FileLock, Timeout

from infarct.core.errors import OutputError

PATIENCE_SECONDS = 2.0
"""Time to wait for a lock: another process may hold it briefly to remove leftovers."""

_LONGEST_NAME = 120
"""Longest name, in bytes, that hidden names repeat; file systems allow 255 bytes in total."""

_HAS_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
"""Errors of file systems without locks, found on some clusters."""

_HOST = re.sub(r"[^A-Za-z0-9]", "-", socket.gethostname())[:40]
_HIDDEN = re.compile(r"lock|(partial|old)-[A-Za-z0-9-]*-[0-9a-f]{16}")
_SCRATCH = re.compile(r"infarct-[A-Za-z0-9-]*-[0-9a-f]{16}")

_local = threading.local()
"""Folders reserved by each thread."""


@contextmanager
def atomic_directory(out: Path, check: Callable[[Path], None] = lambda _: None) -> Iterator[Path]:
    """Build a folder next to its destination and rename it at the end; clean up on failure.

    Args:
        out: Folder to create or replace.
        check: Called with the old folder after it was renamed and before it is deleted; raise an
            exception to keep it.

    Yields:
        Temporary folder to write to.

    Raises:
        OutputError: If the folder cannot be written, or another process is writing to it.
    """
    out = out.resolve()
    with reserved(out), workplace(out) as partial:
        yield partial
        put_in_place(partial, out, check)


@contextmanager
def workplace(out: Path) -> Iterator[Path]:
    """Create a hidden folder next to a reserved one, and remove it at the end.

    Raises:
        OutputError: If it cannot be created, or the body fails with an `OSError`.
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
    """Rename a complete folder to its destination, replacing an old one; keep both on failure.

    Args:
        made: Complete folder, on the file system of `out`.
        out: Destination; must be reserved.
        check: As for `atomic_directory`.
    """
    if not out.is_dir():
        # Fails if a non-empty folder has appeared meanwhile, so nothing is replaced unchecked.
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
    """Lock a folder, and remove leftovers of killed processes.

    Leftovers lie next to the folder and in the system's temporary folder. A result that was being
    replaced is restored. Calls may be nested. On a file system without locks, other processes are
    not kept out, and nothing next to the folder is removed.

    Args:
        out: The folder; it need not exist.
        patience: Seconds to wait for another process.

    Raises:
        OutputError: If another process holds the lock, or it cannot be written.
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
    """Remove leftovers of killed processes next to folders; running processes are not affected.

    Args:
        folders: Folders to clean up; they need not exist.
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
    """Create a temporary folder for patient images, which must not be left behind.

    If this process is killed, a later call removes the folder.

    Yields:
        The folder, readable by its owner only.
    """
    _clear_scratch()
    folder = Path(tempfile.gettempdir()).resolve() / f"infarct-{_token()}"
    with _locked(folder, PATIENCE_SECONDS):
        try:
            # Created only while the lock is held: an unlocked folder counts as abandoned.
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
    """Remove an abandoned temporary folder of this user, or its lock."""
    folder = path.with_name(path.name.strip(".").removesuffix(".lock"))
    with suppress(OSError, OutputError):
        ours = not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()
        if ours and not path.is_symlink():
            with _locked(folder, 0.0) as alone:
                if alone:
                    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(out: Path, patience: float) -> Iterator[bool]:
    """Hold the lock of a folder; yield False if the file system has no locks."""
    path = _hidden(out, "lock")
    lock = FileLock(path, timeout=patience, mode=0o666, fallback_to_soft=False)
    made = _make_parents(out)
    try:
        try:
            lock.acquire()
        except Timeout:
            raise OutputError(
                f"another infarct process is working on {out}; wait until it has finished, or "
                "choose another output folder"
            ) from None
        except OSError as error:
            if error.errno not in _HAS_NO_LOCKS:
                raise OutputError(f"results cannot be written to {out}: {error}") from error
        held = lock.is_locked
        try:
            yield held
        finally:
            if held:
                # Deleted while the lock is held, so that waiting processes notice.
                with suppress(OSError):
                    path.unlink()
                lock.release()
    finally:
        for folder in made:
            # Fails for folders that are not empty.
            with suppress(OSError):
                folder.rmdir()


def _make_parents(out: Path) -> list[Path]:
    """Create the parent folders, and return those that were missing, deepest first."""
    missing = [parent for parent in out.parents if not parent.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"results cannot be written to {out}: {error}") from error
    return missing


def _clear_up(out: Path) -> None:
    """Undo or complete the work of a killed process on a folder that is now reserved."""
    try:
        beside = [path for path in out.parent.iterdir() if _beside(out, path.name)]
        for path in beside:
            kind = path.name.removeprefix(_hidden(out, "").name).partition("-")[0]
            if kind == "old" and not (out.is_dir() and any(out.iterdir())):
                # Killed between two renames: only the old result exists.
                if out.is_dir():
                    out.rmdir()
                path.rename(out)
            elif kind != "lock":
                shutil.rmtree(path, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"results cannot be written to {out}: {error}") from error


def _hidden(out: Path, kind: str) -> Path:
    """Return the hidden name for a lock, a draft or an old result of a folder."""
    name = out.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return out.with_name(f".{name}.{kind}")


def _beside(out: Path, name: str) -> bool:
    """Return whether a name is a hidden name of a folder."""
    lead = _hidden(out, "").name
    return name.startswith(lead) and bool(_HIDDEN.fullmatch(name.removeprefix(lead)))


def _token() -> str:
    return f"{_HOST}-{secrets.token_hex(8)}"


@contextmanager
def edit_atomically(folder: Path, elsewhere: Mapping[str, Path] | None = None) -> Iterator[Path]:
    """Edit a result on a copy that replaces the original at the end.

    Args:
        folder: Folder of the result.
        elsewhere: Files of the result that are stored outside the folder, by the name they would
            have in it. The copy contains them; they are moved out after the replacement. If the
            process is killed in between, they remain in the folder.

    Yields:
        The copy to edit.

    Raises:
        OutputError: If the folder is or contains the current directory, if another process is
            working on it, or if it was changed meanwhile.
    """
    if stood_in(folder):
        raise OutputError(
            f"{folder} is or contains your current directory and cannot be replaced; run the "
            "command from another directory"
        )
    elsewhere = dict(elsewhere or {})
    before: dict[str, tuple[int, int]] = {}

    def check(old: Path) -> None:
        if _state(old) != before:
            raise OutputError(
                f"{folder} was changed meanwhile; nothing was replaced: run the command again"
            )

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
    """Move files of a result to their destination outside its folder.

    Args:
        folder: Complete and reserved folder.
        elsewhere: Destination of each file, by its name in the folder. Files that are not in the
            folder were moved before.

    Raises:
        OutputError: If a file cannot be moved; it then stays in the folder.
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
    """Return size and modification time of every file in a folder, to detect changes."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            status = Path(parent, name).lstat()
            where = Path(parent, name).relative_to(folder).as_posix()
            found[where] = (status.st_size, status.st_mtime_ns)
    return found


@contextmanager
def atomic_file(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Write a file next to its destination and rename it at the end; clean up on failure.

    Args:
        path: Destination.
        shared: Whether several processes, also on other computers, may write it at once.

    Yields:
        Temporary file to write to; its name does not depend on the length of `path.name` if shared.
    """
    draft = path.with_name(f".infarct.partial-{uuid4().hex}" if shared else f".{path.name}.part")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def refuse_to_replace(out: Path, inputs: Iterable[Path]) -> None:
    """Check that replacing an output folder would not delete inputs or a folder in use.

    A mount point or the current directory can be written to, but not replaced.

    Args:
        out: Output folder.
        inputs: Input files and folders.

    Raises:
        OutputError: If the folder must not or cannot be replaced.
    """
    out = _resolved(out)
    for path in inputs:
        for place in _places_of(path):
            if out in (place, *place.parents):
                raise OutputError(
                    f"{out} contains the input {path.name}; folders with inputs are never written "
                    "to: give --out a separate folder"
                )
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give --out the name of a folder")
    if os.path.ismount(out):
        raise OutputError(
            f"{out} is a mount point, which cannot be replaced; give --out a folder inside it"
        )
    if stood_in(out):
        raise OutputError(
            f"{out} is or contains your current directory and cannot be replaced; give --out a "
            "folder inside it or elsewhere"
        )


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"{path} cannot be resolved: its symbolic links form a loop; correct them"
        ) from error


def _places_of(path: Path) -> list[Path]:
    """Return the path of a file and of every symbolic link on the way to it."""
    places = []
    for _ in range(40):
        places.append(path.parent.resolve() / path.name)
        if not path.is_symlink():
            break
        path = places[-1].parent / path.readlink()
    return [*places, path.resolve()]


def stood_in(folder: Path) -> bool:
    """Return whether a folder is or contains the current directory."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return False
    return folder.resolve() in (here, *here.parents)
