"""Lists folders as people keep them: assembled from links, and some of them not readable by all.

Python skips links and unreadable folders silently, and their scans would be skipped silently too.
Hidden files and folders (names that begin with a dot) are ignored: macOS leaves `._scan.nii.gz`
beside every `scan.nii.gz` on a foreign disk, and version control and unfinished results are hidden
as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from infarct.core.errors import InputFileError


def files_below(folder: Path) -> Iterator[Path]:
    """Find every file in a folder and below it, through links, except hidden ones.

    Args:
        folder: Where to look. A link in it that leads back to where one has been is not followed,
            or all below would count again.

    Yields:
        Paths below `folder`, the files of a folder before those of its folders, in alphabetical
        order; also links that lead nowhere.

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
    """Return what a folder holds, in alphabetical order; nothing if there is no such folder.

    Hidden entries are left out.

    Raises:
        InputFileError: If it cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not is_hidden(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        _refuse(error)


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return what matches a pattern in a folder, in alphabetical order.

    Args:
        folder: Where to look; it may be missing.
        pattern: As for `Path.glob`. Hidden files and folders never match, unlike there.
    """
    return sorted(
        path
        for path in folder.glob(pattern)
        if not any(is_hidden(part) for part in path.relative_to(folder).parts)
    )


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is hidden: its name begins with a dot."""
    return name.startswith(".")


def _refuse(error: OSError) -> NoReturn:
    raise InputFileError(
        f"{error.filename}: cannot be read ({error.strerror}), and what is in it would be left out "
        "without a word; ask for the right to read it, or move it elsewhere"
    ) from error


def _comes_back(path: Path, top: Path) -> bool:
    if not path.is_symlink():
        return False
    way = [path.parent, *path.parent.parents]
    return path.resolve() in {each.resolve() for each in way[: len(way) - len(top.parents)]}
