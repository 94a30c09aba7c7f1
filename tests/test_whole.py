"""Folders and files that are complete or absent."""

from contextlib import suppress
from pathlib import Path

import pytest

from infarct.errors import OutputError
from infarct.whole import changed_whole, complete_or_absent, written_whole


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with complete_or_absent(out) as partial:
        (partial / "new").write_text("whole")
        assert not out.exists()
    assert content(out) == {"new": "whole"}
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_was_there_stays_when_the_making_fails(
    tmp_path: Path, fault: type[BaseException]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("kept")
    with pytest.raises(fault), complete_or_absent(out) as partial:
        (partial / "half").write_text("written")
        raise fault
    assert content(out) == {"old": "kept"}
    assert list(tmp_path.iterdir()) == [out]


def test_a_change_takes_along_what_it_does_not_touch(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("touched", "beside"):
        (out / name).write_text("old")
    with changed_whole(out) as partial:
        (partial / "touched").write_text("new")
        assert content(out)["touched"] == "old"
    assert content(out) == {"touched": "new", "beside": "old"}


def test_a_folder_is_not_changed_under_the_feet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    (out / "mni").mkdir(parents=True)
    for inside, name in ((out, "."), (out / "mni", "..")):
        monkeypatch.chdir(inside)
        with pytest.raises(OutputError, match="the folder you are in"), changed_whole(Path(name)):
            pass
    monkeypatch.chdir(tmp_path)
    with changed_whole(Path("out")) as partial:
        (partial / "new").write_text("x")
    assert content(out) == {"new": "x"}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match="cannot be written"),
        complete_or_absent(tmp_path / "file" / "out"),
    ):
        pass


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "numbers.tsv"
    for text, fails in (("old", False), ("new", True), ("newer", False)):
        with suppress(KeyboardInterrupt), written_whole(path) as draft:
            draft.write_text(text)
            if fails:
                raise KeyboardInterrupt
        assert path.read_text() == ("old" if fails else text)
        assert content(tmp_path) == {"numbers.tsv": path.read_text()}
