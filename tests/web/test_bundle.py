from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace

import pytest

from infarct.web import bundle


def test_npm_packages_are_pinned_with_their_checksums() -> None:
    assert "npm:@niivue/niivue@0.69" in (bundle.FRONTEND / "deno.json").read_text()
    packages = json.loads((bundle.FRONTEND / "deno.lock").read_text())["npm"]
    assert "@niivue/niivue@0.69.0" in packages
    assert all(each["integrity"].startswith("sha512-") for each in packages.values())


def test_a_failure_says_why_and_keeps_the_old_bundle(tmp_path, monkeypatch) -> None:
    target = tmp_path / "niivue.js"
    target.write_text("old")

    def fail(command: list[str], **_: object) -> SimpleNamespace:
        assert "--frozen" in command
        return SimpleNamespace(returncode=1, stderr="npm cannot be reached")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(bundle.BundleError, match="npm cannot be reached"):
        bundle.bundle(target)
    assert [path.name for path in tmp_path.iterdir()] == ["niivue.js"]
    assert target.read_text() == "old"


def test_it_imports_nothing_of_infarct() -> None:
    assert "from infarct" not in (bundle.FRONTEND.parent / "bundle.py").read_text()


def test_deno_is_also_found_in_path(tmp_path, monkeypatch) -> None:
    import deno  # noqa: PLC0415 - a build dependency

    def missing() -> str:
        raise FileNotFoundError("scripts/deno")

    seen = []

    def fail(command: list[str], **_: object) -> SimpleNamespace:
        seen.append(command[0])
        return SimpleNamespace(returncode=1, stderr="stopped here")

    monkeypatch.setattr(deno, "find_deno_bin", missing)
    monkeypatch.setattr(subprocess, "run", fail)
    monkeypatch.setattr(bundle.shutil, "which", lambda name: f"elsewhere/{name}")
    with pytest.raises(bundle.BundleError, match="stopped here"):
        bundle.bundle(tmp_path / "niivue.js")
    assert seen == ["elsewhere/deno"]
    monkeypatch.setattr(bundle.shutil, "which", lambda _name: None)
    with pytest.raises(bundle.BundleError, match="scripts/deno or PATH"):
        bundle.bundle(tmp_path / "niivue.js")
