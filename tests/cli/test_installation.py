"""What `infarct doctor` reports, and its exit codes."""

import json
import os
import platform
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from infarct.cli import installation, main
from infarct.cli.demo_scan import demo_files
from infarct.core import assets
from infarct.core.errors import AssetError
from infarct.core.nifti import read


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["infarct", "doctor", *arguments])
    with pytest.raises(SystemExit) as stop:
        main.main()
    return int(stop.value.code or 0)


@pytest.fixture
def answer(monkeypatch):
    """Replace the segmentation of the bundled scan by a shifted copy of the truth."""
    truth = read(assets.path("demo/lesion"))
    asked = []

    def set_shift(voxels: int) -> list:
        lesion = np.roll(truth.data > 0.5, voxels, axis=0)

        def segment(request):
            asked.append(request)
            engine = {"name": "onnxruntime", "version": "1.20", "precision": "float32"}
            return SimpleNamespace(lesion=replace(truth, data=lesion), engine=engine)

        monkeypatch.setattr(installation, "run", segment)
        return asked

    return set_shift


def test_a_working_installation_passes(monkeypatch, capsys, answer) -> None:
    asked = answer(0)
    assert run(monkeypatch) == 0
    shown = capsys.readouterr().out
    assert "self-test: passed in 0 s, ensemble, Dice 1.00, onnxruntime, 1.20, float32" in shown
    for word in ("cores: ", "GB", "engine: onnxruntime", "extra dicom: ", "bundled files: "):
        assert word in shown
    (request,) = asked
    assert request.out is None  # nothing is written
    assert request.files == demo_files()


def test_a_wrong_result_fails_with_an_exit_code_of_its_own(monkeypatch, capsys, answer) -> None:
    answer(12)
    assert run(monkeypatch, "--json") == 14
    printed = capsys.readouterr()
    test = json.loads(printed.out)["self_test"]
    assert not test["passed"]
    assert test["dice"] < installation.LEAST_DICE
    assert "the self-test failed" in printed.err


def test_an_error_in_the_self_test_is_reported_without_paths(monkeypatch, capsys) -> None:
    def segment(request):
        raise AssetError("/data/patients/Smith/net.onnx: cannot be loaded")

    monkeypatch.setattr(installation, "run", segment)
    assert run(monkeypatch) == 14
    shown = capsys.readouterr()
    assert "AssetError: .../net.onnx: cannot be loaded" in shown.out
    assert "Smith" not in shown.out + shown.err


def test_damaged_files_are_named(monkeypatch, capsys, tmp_path) -> None:
    damaged = "networks/BrainMask.onnx"
    for asset in assets.index().values():
        (tmp_path / asset.file).parent.mkdir(parents=True, exist_ok=True)
        if asset.file == damaged:
            (tmp_path / asset.file).write_bytes(b"changed")
        elif not asset.source_only:
            (tmp_path / asset.file).symlink_to(assets.ROOT / asset.file)
    monkeypatch.setattr(assets, "ROOT", tmp_path)
    assert run(monkeypatch, "--no-self-test", "--json") == 7
    report = json.loads(capsys.readouterr().out)
    source_only = sum(asset.source_only for asset in assets.index().values())
    intact = len(assets.index()) - source_only - 1
    assert report["files"] == {"intact": intact, "damaged": [damaged], "left_out": source_only}
    assert report["self_test"] is None


def test_nobody_is_named(monkeypatch, capsys, tmp_path) -> None:
    home = tmp_path / "home" / "jane.doe"
    home.mkdir(parents=True)
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOGNAME", "jane.doe")
    monkeypatch.setattr(platform, "node", lambda: "ward-7")
    monkeypatch.setenv("INFARCT_MODELS", str(home))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(home), "/patients/Smith"]))
    monkeypatch.setenv("INFARCT_ENGINE", "/home/jane.doe/engine on ward-7")
    assert run(monkeypatch, "--no-self-test") == 0
    shown = capsys.readouterr().out
    for name in ("jane", "doe", "ward-7", "Smith", str(tmp_path)):
        assert name not in shown
    assert "INFARCT_MODELS: set, a folder" in shown
    assert "PYTHONPATH: set, several paths" in shown
    assert "engine: not available" in shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/mnt/a/b.nii.gz: damaged", ".../b.nii.gz: damaged"),
        (r"C:\Users\jo\x.onnx is missing", r"...\x.onnx is missing"),
        ("read and/or write, 3/4", "read and/or write, 3/4"),
    ],
)
def test_paths_are_shortened_to_their_last_name(text: str, expected: str) -> None:
    assert installation.anonymous(text) == expected


def test_missing_extras_come_with_the_command_that_installs_them(monkeypatch) -> None:
    requirements = [
        "numpy>=2.0",
        "absent-package[all]>=3; extra == 'dicom'",
        "numpy>=2; extra == 'dicom'",
        'numpy>=2; extra == "web"',
        "absent-package; extra == 'dev'",
    ]
    assert installation._extras(requirements) == {
        "dicom": {
            "installed": False,
            "missing": ["absent-package"],
            "command": "pip install '.[dicom]'",
        },
        "web": {"installed": True, "missing": []},
    }
