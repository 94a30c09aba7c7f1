"""Walks folders as people keep them: put together from links, and some of them not for every eye.

What Python itself leaves out without a word, links and folders that may not be read, would be a
scan left out without a word.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from infarct.errors import InputFileError


def files_below(folder: Path) -> Iterator[Path]:
    """Find every file in a folder and below it, through links.

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
        folders[:] = [name for name in sorted(folders) if not _comes_back(here / name, folder)]
        yield from (here / name for name in sorted(files))


def entries_of(folder: Path) -> list[Path]:
    """Return what a folder holds, in alphabetical order; nothing if there is no such folder.

    Raises:
        InputFileError: If it cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        _refuse(error)


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
