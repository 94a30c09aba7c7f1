"""Texts of the project keep to plain English: phrases that read like a translation are absent."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIST = ROOT / "tests" / "phrases.txt"
PHRASES = [line for line in LIST.read_text().splitlines() if line and not line.startswith("#")]


def texts() -> dict[str, str]:
    done = subprocess.run(
        ["git", "ls-files", "-z", "*.py", "*.md", "*.j2", "*.toml", "*.js"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    names = [
        name
        for name in done.stdout.split("\0")
        if name and (ROOT / name).resolve() != Path(__file__)
    ]
    # A phrase may break over two lines, and in a comment over the sign that begins the second.
    return {n: re.sub(r"\s*\n\s*#?\s*", " ", (ROOT / n).read_text()) for n in names}


@pytest.mark.parametrize("phrase", PHRASES)
def test_phrase_is_absent(phrase: str) -> None:
    pattern = re.compile(phrase, re.IGNORECASE)
    found = [f"{n}: {m.group()}" for n, t in texts().items() for m in pattern.finditer(t)]
    assert found == []


def test_every_phrase_is_a_pattern_that_can_match() -> None:
    assert len(PHRASES) == len(set(PHRASES)) > 10
    assert re.search(PHRASES[0], "It is dropped without a word.", re.IGNORECASE)
