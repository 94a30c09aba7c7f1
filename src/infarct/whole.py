"""A folder or a file that is complete or absent, however its making ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from infarct.errors import OutputError


@contextmanager
def complete_or_absent(out: Path) -> Iterator[Path]:
    """Build beside the destination and rename at the end; leave nothing behind on failure."""
    out = out.resolve()
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if out.is_dir():
            old = out.with_name(f".{out.name}.old-{os.getpid()}")
            out.rename(old)
            try:
                partial.rename(out)
            except BaseException:
                old.rename(out)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            partial.rename(out)
    except OSError as error:
        raise OutputError(f"results cannot be written to {out}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def changed_whole(folder: Path, elsewhere: Mapping[str, Path] | None = None) -> Iterator[Path]:
    """Change a result: on a copy beside it, which takes its place when all is done.

    Args:
        folder: Of the result.
        elsewhere: Where files of it lie that are not in the folder, by the name they would have
            there; the copy has all of them, and they go back just before it takes its place.

    Raises:
        OutputError: If one stands in it, and would be left in a folder that is gone.
    """
    if stood_in(folder):
        raise OutputError(
            f"{folder} is the folder you are in, or holds it, and would be replaced under your "
            "feet; go out of it and name it from there"
        )
    with complete_or_absent(folder) as partial:
        shutil.copytree(folder, partial, dirs_exist_ok=True)
        elsewhere = elsewhere or {}
        for name, path in elsewhere.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, partial / name)
        yield partial
        for name, path in elsewhere.items():
            (partial / name).replace(path)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
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
    out = out.resolve()
    for path in inputs:
        if out in (path.resolve(), *path.resolve().parents):
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
            f"{out} is the folder you are in, or holds it, and would be replaced under your feet; "
            "give --out a folder inside it or elsewhere"
        )


def stood_in(folder: Path) -> bool:
    """Tell whether one stands in a folder or below it, and would be left in one that is gone."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return False
    return folder.resolve() in (here, *here.parents)
