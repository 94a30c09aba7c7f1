import os
from pathlib import Path

import pytest

from infarct.core.errors import InputFileError
from infarct.core.file_search import entries_of, files_below, matching


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files_below(folder)]


def test_files_are_found_through_links_each_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    touch(home / "b/2")
    touch(home / "b/1")
    touch(home / "a")
    touch(tmp_path / "elsewhere/s1/x")
    (home / "c").symlink_to(tmp_path / "elsewhere")
    (home / "nowhere").symlink_to(tmp_path / "gone")
    assert names(home) == ["a", "nowhere", "b/1", "b/2", "c/s1/x"]
    # Back to the top, to the folder itself, and to each other.
    (home / "b" / "up").symlink_to(home)
    (home / "b" / "here").symlink_to(home / "b")
    (tmp_path / "elsewhere" / "s1" / "to-b").symlink_to(home / "b")
    (home / "b" / "to-s1").symlink_to(tmp_path / "elsewhere" / "s1")
    found = names(home)
    assert {"a", "b/1", "c/s1/x", "b/to-s1/x", "c/s1/to-b/1"} <= set(found)
    assert len(found) == len(set(found)) < 20


def test_an_unreadable_folder_is_an_error(tmp_path: Path, monkeypatch) -> None:
    touch(tmp_path / "open/x")
    locked = touch(tmp_path / "locked/y").parent

    # Not by its rights: root may read all.
    def scandir(path):
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    real = os.scandir
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        with pytest.raises(InputFileError, match=r"locked: cannot be read \(Permission denied\)"):
            list(files_below(tmp_path))

    def iterdir(path: Path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(InputFileError, match=r"locked: cannot be read \(Permission denied\)"):
        entries_of(locked)


def test_a_missing_folder_is_empty(tmp_path: Path) -> None:
    assert entries_of(tmp_path / "nowhere") == []
    assert entries_of(touch(tmp_path / "file")) == []
    assert entries_of(tmp_path) == [tmp_path / "file"]


def test_hidden_files_and_folders_are_ignored(tmp_path: Path) -> None:
    for name in ("a.nii", "._a.nii", ".DS_Store", ".git/b.nii", "c/d.nii", "c/._d.nii"):
        touch(tmp_path / name)
    assert names(tmp_path) == ["a.nii", "c/d.nii"]
    assert [path.name for path in entries_of(tmp_path)] == ["a.nii", "c"]
    assert matching(tmp_path, "*.nii") == [tmp_path / "a.nii"]
    assert matching(tmp_path, "**/*.nii") == [tmp_path / "a.nii", tmp_path / "c/d.nii"]
    assert matching(tmp_path / "gone", "*") == []
    # What is hidden is what lies below: the folder itself may be.
    assert names(tmp_path / ".git") == ["b.nii"]
    assert matching(tmp_path / ".git", "*") == [tmp_path / ".git/b.nii"]
