"""The law of the house: floors, sizes, names, and a test for every room."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "infarct"
ROOMS = sorted(SOURCE.rglob("*.py"))
MOST_LINES = 460
MOST_ARGUMENTS = 8

# Rooms whose whole content another test runs: the bare entry point and the tree of exceptions.
TESTED_ELSEWHERE = {"__main__": "test_cli", "errors": "test_face"}


def functions(room: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(room.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def tracked() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name]


def test_floors_are_kept() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.relative_to(SOURCE).as_posix())
def test_rooms_are_small_and_plainly_named(room: Path) -> None:
    text = room.read_text()
    # The command line is exempt: it lists every option of every command.
    assert text.count("\n") <= MOST_LINES or room.name == "cli.py"
    assert room.stem not in {"utils", "util", "helpers", "helper", "common", "misc", "base"}
    assert not re.search(r"class \w*(Service|Manager|Helper)\b", text)
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)


def test_no_function_takes_more_arguments_than_a_reader_can_hold() -> None:
    # The command line is exempt: there, every argument is an option a user types.
    crowded = [
        f"{room.relative_to(SOURCE)}:{f.lineno} {f.name}"
        for room in ROOMS
        if room.name not in {"cli.py", "commands.py"}
        for f in functions(room)
        if len(f.args.args) + len(f.args.kwonlyargs) > MOST_ARGUMENTS
    ]
    assert crowded == []


def test_every_room_has_its_test() -> None:
    tests = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    missing = [
        room.stem
        for room in SOURCE.glob("*.py")
        if room.stem != "__init__"
        and TESTED_ELSEWHERE.get(room.stem, f"test_{room.stem}") not in tests
    ]
    assert missing == []


def test_randomness_is_passed_in() -> None:
    # A call of a global generator would make two runs differ. First weights of a network cannot be
    # drawn otherwise: a room may seed torch if it forks, that is restores, the global generator.
    calls = r"np\.random\.(?:seed|rand|randn|normal|uniform|choice|randint)\(|\brandom\.seed\("
    offenders = []
    for room in ROOMS:
        text = room.read_text()
        seeding = r"|torch\.manual_seed\(" if "fork_rng" not in text else ""
        offenders += [f"{room.relative_to(SOURCE)}: {f}" for f in re.findall(calls + seeding, text)]
    assert offenders == []


def test_nothing_tracked_names_a_machine() -> None:
    machine = re.compile(r"/(?:work|root|farm|home/\w+)/|/tmp/")
    named = [
        path.name
        for path in tracked()
        if path.suffix in {".py", ".md", ".toml", ".json", ".txt", ".yaml", ".j2", ""}
        and path != Path(__file__)
        and path.is_file()
        and machine.search(path.read_text(errors="ignore"))
    ]
    assert named == []


def test_no_patient_image_is_tracked() -> None:
    allowed = {"templates", "demo", "networks", "atlas"}
    images = [
        path
        for path in tracked()
        if path.name.endswith((".nii", ".nii.gz", ".dcm", ".npz"))
        and path.parent.name not in allowed
    ]
    assert images == []
