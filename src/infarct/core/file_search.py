"""Search for files in folders, including symbolic links, with an error for unreadable folders.

Python skips linked and unreadable folders silently, and scans must never be skipped silently.
Hidden files and folders (names that begin with a dot) are ignored: macOS writes `._scan.nii.gz`
next to every `scan.nii.gz` on other file systems, and version control and incomplete results are
hidden as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from infarct.core.errors import InputFileError


def files_below(folder: Path) -> Iterator[Path]:
    """Find all files below a folder recursively, following links, except hidden ones.

    Args:
        folder: Folder to search. Links to a parent folder are not followed, so that no file is
            found twice.

    Yields:
        Paths in alphabetical order, the files of a folder before those of its subfolders. Broken
        links are included.

    Raises:
        InputFileError: If a folder cannot be read.
    """
    for place, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        here = Path(place)
        folders[:] = [
            name
            for name in sorted(folders)
            if not is_hidden(name) and not _comes_back(here / name, folder)
        ]
        yield from (here / name for name in sorted(files) if not is_hidden(name))


def entries_of(folder: Path) -> list[Path]:
    """Return the entries of a folder in alphabetical order; empty if it does not exist.

    Hidden entries are excluded.

    Raises:
        InputFileError: If the folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not is_hidden(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        _refuse(error)


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return the paths in a folder that match a pattern, in alphabetical order.

    Args:
        folder: Folder to search; it may be missing.
        pattern: As for `Path.glob`, except that hidden files and folders never match.
    """
    return sorted(
        path
        for path in folder.glob(pattern)
        if not any(is_hidden(part) for part in path.relative_to(folder).parts)
    )


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden: its name begins with a dot."""
    return name.startswith(".")


def _refuse(error: OSError) -> NoReturn:
    raise InputFileError(
        f"{error.filename}: cannot be read ({error.strerror}); ask for read access, or move the "
        "folder elsewhere, so that its files are not skipped silently"
    ) from error


def _comes_back(path: Path, top: Path) -> bool:
    if not path.is_symlink():
        return False
    way = [path.parent, *path.parent.parents]
    return path.resolve() in {each.resolve() for each in way[: len(way) - len(top.parents)]}
