import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infarct import cli
from infarct.case import CaseFiles


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["infarct", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['infarct', '--help']\n"
        "from infarct.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'scipy', 'nibabel', 'SimpleITK', 'torch', 'matplotlib', 'onnxruntime'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_segment_writes_the_results(
    head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = head.save(tmp_path / "in")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "in").iterdir()}
    given = [item for role, path in paths.items() for item in (f"--{role}", str(path))]
    assert run(monkeypatch, "segment", *given, "--out", str(tmp_path / "out")) == 0
    assert (tmp_path / "out" / "lesion_mask.nii.gz").is_file()
    assert "ml of acute lesion outlined" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "in").iterdir()}


def test_report_and_recompute_work_on_a_result(
    written: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = str(shutil.copytree(written, tmp_path / "case"))
    assert run(monkeypatch, "report", folder) == 0
    mask = str(shutil.copyfile(written / "brain_mask.nii.gz", tmp_path / "edited.nii.gz"))
    assert run(monkeypatch, "recompute", folder, "--mask", mask, "--by", "AB") == 0
    assert "old mask: lesion_mask_automatic.nii.gz" in capsys.readouterr().out
    assert run(monkeypatch, "report", str(tmp_path)) == 3
    assert "infarct segment" in capsys.readouterr().err


def test_errors_end_with_their_code_and_a_sentence(
    head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {role: str(path) for role, path in head.save(tmp_path / "in").items()}
    out = ["--out", str(tmp_path / "out")]
    text = tmp_path / "text.nii"
    text.write_text("no image")
    tries = {
        3: ["--dwi", str(text), "--b0", paths["b0"], *out],
        5: ["--dwi", paths["b0"], "--b0", paths["dwi"], *out],
        6: ["--dwi", paths["dwi"], "--b0", paths["b0"], "--out", str(tmp_path / "in")],
        7: ["--dwi", paths["dwi"], "--b0", paths["b0"], "--model", "magic", *out],
    }
    for code, arguments in tries.items():
        assert run(monkeypatch, "segment", *arguments) == code
        assert capsys.readouterr().err.startswith("infarct: ")
    assert not (tmp_path / "out").exists()


def test_evaluate_scores_folders_of_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((12, 12, 6))
    mask[3:8, 3:8, 2:4] = 1
    for folder in ("truth", "mine"):
        (tmp_path / folder).mkdir()
        for subject in ("sub-01", "sub-02", "sub-03"):
            image = nib.Nifti1Image(mask.astype(np.uint8), np.diag([2.0, 2.0, 5.0, 1.0]))
            image.to_filename(tmp_path / folder / f"{subject}.nii.gz")
    folders = ["--reference", str(tmp_path / "truth"), "--workers", "1"]
    out = ["--out", str(tmp_path / "out")]
    named = ["--prediction", f"mine={tmp_path / 'mine'}"]
    assert run(monkeypatch, "evaluate", *folders, *named, *out) == 0
    assert "report.html" in capsys.readouterr().out
    assert (tmp_path / "out" / "report.html").is_file()
    assert run(monkeypatch, "evaluate", *folders, "--prediction", "nameless", *out) == 2


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt(_: CaseFiles) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("infarct.case.open_case", interrupt)
    arguments = ["--dwi", "x", "--out", str(tmp_path / "out")]
    assert run(monkeypatch, "segment", *arguments) == 130


def test_wrong_usage_ends_with_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infarct", "segment"],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
    )
    assert done.returncode == 2
    assert "--dwi" in done.stderr
