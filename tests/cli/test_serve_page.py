from __future__ import annotations

import subprocess
import sys

import pytest

from infarct.cli import serve_page as serve
from infarct.core.errors import AssetError, SettingError


def test_other_computers_need_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.7", "reading-room.example"):
        with pytest.raises(SettingError, match="--token"):
            serve.check_access(host, None)
        serve.check_access(host, "0123456789abcdef")
    for host in ("127.0.0.1", "localhost", "::1"):
        serve.check_access(host, None)
    for token in ("short", "", "é" * 20):
        with pytest.raises(SettingError, match="at least 16"):
            serve.check_access("127.0.0.1", token)


def test_the_demo_is_segmented_once(tmp_path, monkeypatch) -> None:
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        out = tmp_path / "results" / serve.DEMO
        out.mkdir()
        (out / "manifest.json").write_text("{}")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    for _ in range(2):
        serve.prepare_demo(tmp_path / "results", "cfuzzy")
    ((program, *arguments),) = calls
    assert program == sys.executable
    assert arguments[:3] == ["-m", "infarct", "demo"]
    assert arguments[-1] == "cfuzzy"


def test_a_demo_that_fails_stops_the_start(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 7)
    )
    with pytest.raises(AssetError, match="demo scan could not"):
        serve.prepare_demo(tmp_path / "results", "cfuzzy")
