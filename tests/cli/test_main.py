import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infarct.bids.dataset import BidsScan
from infarct.cli import commands, main, options
from infarct.cohort.jobs import Job, Outcome
from infarct.cohort.run import Request, Watcher
from infarct.core import assets
from infarct.core.errors import InputFileError
from infarct.lab.training.checkpoint import Position
from infarct.preprocessing.case import CaseFiles
from infarct.segmentation import models
from infarct.segmentation.result import Segmentation


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["infarct", *arguments])
    with pytest.raises(SystemExit) as stop:
        main.main()
    return int(stop.value.code or 0)


def test_the_default_method_is_that_of_the_runtime() -> None:
    assert options.DEFAULT_MODEL == models.DEFAULT


@pytest.mark.parametrize("asked", ["version", "--version"])
def test_the_installed_version_is_printed(monkeypatch, capsys, asked: str) -> None:
    assert run(monkeypatch, asked) == 0
    assert capsys.readouterr().out.strip() == metadata.version("infarct")


def test_a_name_that_is_not_utf8_can_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    name, terminal = os.fsdecode(b"M\xfcller"), io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, encoding="utf-8"))
    monkeypatch.setattr(main, "app", lambda: print(f"look at {name}/report.html"))
    main.main()
    sys.stdout.flush()
    assert terminal.getvalue() == b"look at M\\udcfcller/report.html\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['infarct', '--help']\n"
        "from infarct.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'scipy', 'nibabel', 'SimpleITK', 'torch', 'matplotlib', 'onnxruntime'}\n"
        "heavy |= {'pydicom', 'highdicom', 'dcm2niix', 'dask', 'distributed', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_is_a_module_with_its_name_and_fits_on_one_line(capsys, monkeypatch) -> None:
    assert run(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    listed = re.findall(r"^  (\w+)  ", shown.split("Commands:")[1], flags=re.MULTILINE)
    folder = Path(commands.__file__).parent
    assert sorted(listed) == sorted(file.stem for file in folder.glob("[!_]*.py"))
    assert "..." not in shown.split("Commands:")[1]


def test_segment_writes_the_results_and_another_atlas_makes_the_table_of_territories(
    head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = nib.load(assets.path("atlas/territories"))
    data = np.asarray(shipped.dataobj)
    (tmp_path / "atlas").mkdir()
    atlas, names = tmp_path / "atlas" / "mine.nii.gz", tmp_path / "atlas" / "mine.tsv"
    nib.save(nib.Nifti1Image((data > 0).astype(np.uint8), shipped.affine), atlas)
    names.write_text("index\tname\n1\tbrain\n")
    paths = head.save(tmp_path / "in")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "in").iterdir()}
    given = [item for role, path in paths.items() for item in (f"--{role}", str(path))]
    given += ["--model", "cfuzzy"]
    out = ["--out", str(tmp_path / "out")]
    assert run(monkeypatch, "segment", *given, *out, "--atlas", str(atlas)) == 2
    both = ["--atlas", str(atlas), "--labels", str(names)]
    assert run(monkeypatch, "segment", *given, "--out", str(tmp_path / "atlas"), *both) == 6
    assert run(monkeypatch, "segment", *given, *out, *both) == 0
    assert (tmp_path / "out" / "lesion_mask.nii.gz").is_file()
    assert re.search(r"acute lesions? on the left, [\d.]+ ml", capsys.readouterr().out)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "in").iterdir()}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [row["name"] for row in summary["territories"]] == ["brain"]
    assert summary["territories"][0]["side"] == ""
    assert summary["pattern"]["border_zone_share"] is None
    assert summary["aspects"] is not None
    page = (tmp_path / "out" / "report.html").read_text()
    assert "borders of the arterial territories" not in page
    assert "Arterial territories (share of lesion volume): brain 100%." in page
    # It is measured again by the same names only.
    mask = str(tmp_path / "out/brain_mask.nii.gz")
    again = ["recompute", str(tmp_path / "out"), "--mask", mask, "--by", "AB"]
    names.write_text("index\tname\n1\thead\n")
    assert run(monkeypatch, *again) == 3
    assert run(monkeypatch, *again, *both) == 3
    assert "mine.nii.gz and its label table" in capsys.readouterr().err
    names.write_text("index\tname\n1\tbrain\n")
    assert run(monkeypatch, *again, *both) == 0


def test_quick_omits_the_volumes_in_mni_space(monkeypatch, tmp_path) -> None:
    requests = []
    monkeypatch.setattr("infarct.cli.run_scan.run_and_show", requests.append)
    words = ("segment", "--dwi", "dwi.nii", "--out", str(tmp_path))
    for more in ((), ("--quick",)):
        assert run(monkeypatch, *words, *more) == 0
    assert [request.keep_mni for request in requests] == [True, False]


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
    assert "re-run the original command" in capsys.readouterr().err


def test_errors_have_their_exit_code_and_a_message(
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
    # The terminal may break a long path anywhere.
    assert "report.html" in capsys.readouterr().out.replace("\n", "")
    assert (tmp_path / "out" / "report.html").is_file()
    assert run(monkeypatch, "evaluate", *folders, "--prediction", "nameless", *out) == 2


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Note what cohorts are asked for, and let the case called `bad` fail."""
    asked: list[Request] = []

    def run_cohort(jobs: list[Job], request: Request, watcher: Watcher) -> list[Outcome]:
        asked.append(request)
        outcomes = [
            Outcome(job.id, "failed", 3, "is broken")
            if "bad" in job.id
            else Outcome(job.id, "done", volume_ml=1.5, lesions=2, warnings=1, seconds=9.0)
            for job in jobs
        ]
        for outcome in outcomes:
            watcher.ends(outcome, len(jobs))
        return outcomes

    monkeypatch.setattr("infarct.cli.run_cases.run_cohort", run_cohort)
    return asked


def test_a_cohort_runs_sums_up_and_ends_with_9_if_cases_failed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    requests: list[Request],
) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dwi.nii.gz").write_text("x")
    out = tmp_path / "out"
    how = ["--workers", "2", "--retry-failed", "--model", "tscore"]
    assert run(monkeypatch, "cohort", f"{tmp_path}/*/dwi.nii.gz", str(out), *how) == 9
    assert (requests[0].pool.workers, requests[0].retry_failed) == (2, True)
    assert requests[0].settings.model == "tscore"
    said = capsys.readouterr()
    assert "good: 1.5 ml, 2 lesions, 1 warning, 9 s" in said.err
    assert "bad: failed, is broken" in said.err
    assert "1 of 2 cases failed (bad)" in said.err
    assert (out / "group" / "report.html").is_file()
    good = ["cohort", f"{tmp_path}/g*/dwi.nii.gz", str(tmp_path / "other")]
    assert run(monkeypatch, *good, "--scheduler", "tcp://x:1") == 0
    assert requests[1].pool.scheduler == "tcp://x:1"
    assert run(monkeypatch, "cohort", str(tmp_path / "none.csv"), str(out)) == 3


def test_bids_runs_participants_then_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requests: list[Request]
) -> None:
    root = tmp_path / "data"
    for label in ("1", "2"):
        (root / f"sub-{label}" / "dwi").mkdir(parents=True)
        (root / f"sub-{label}" / "dwi" / f"sub-{label}_dwi.nii.gz").write_text("x")
    (root / "dataset_description.json").write_text("{}")
    out = root / "derivatives" / "infarct"
    given = ["bids", str(root), str(out)]
    assert run(monkeypatch, *given, "participant", "--participant_label", "2") == 0
    assert (out / "dataset_description.json").is_file()
    assert not (out / "group").exists()
    assert run(monkeypatch, *given, "group") == 0
    assert (out / "group" / "numbers.tsv").read_text().count("missing") == 2
    assert len(requests) == 1
    assert run(monkeypatch, "bids", str(root), str(root / "mine"), "participant") == 6
    assert run(monkeypatch, *given, "everything") == 2


@pytest.mark.parametrize(
    "given",
    [
        "D O participant --participant_label 01 02",
        "D O participant --participant-label 01 --participant-label sub-02",
        "--participant_label 01 02 D O participant",
        "--participant_label 01 02 --model cfuzzy D O participant",
        "D --participant_label 01 02 O participant --workers 1",
        "D O --session_label a b --participant_label 01 02 --retry-failed participant",
        "--participant_label=01 D O participant --participant_label 02 --session_label a b",
    ],
)
def test_labels_are_accepted_as_in_other_bids_apps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str
) -> None:
    found: list[tuple[Path, list[str], list[str]]] = []

    def find(
        root: Path, participants: Sequence[str], sessions: Sequence[str], b0_below: float
    ) -> list[BidsScan]:
        found.append((root, [*participants], [*sessions]))
        raise InputFileError("found")

    monkeypatch.setattr("infarct.bids.dataset.find_scans", find)
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "bids", *given.split()) == 3
    ((root, participants, sessions),) = found
    assert root == Path("D")
    assert [label.removeprefix("sub-") for label in participants] == ["01", "02"]
    assert sessions in ([], ["a", "b"])
    assert run(monkeypatch, "bids", "D", "O", "participant", "--participant_label") == 2
    assert run(monkeypatch, "bids", "D", "participant", "--participant_label", "01") == 2


def test_manual_edits_are_only_deleted_on_request(
    quick: Segmentation,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("infarct.pipeline.segment_case", lambda *_: quick)
    files, out = quick.case.files, tmp_path / "out"
    given = ("segment", "--dwi", str(files.dwi), "--b0", str(files.b0), "--out", str(out))
    assert run(monkeypatch, *given) == 0
    (out / "notes.txt").write_text("mine")
    assert run(monkeypatch, *given, "--overwrite") == 6
    said = " ".join(capsys.readouterr().err.split())
    assert "notes.txt (not written by infarct)" in said
    assert "--overwrite-corrected" in said
    assert (out / "notes.txt").read_text() == "mine"
    assert run(monkeypatch, *given, "--overwrite-corrected") == 0
    assert not (out / "notes.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_interrupt_ends_with_130(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: CaseFiles) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("infarct.pipeline.open_case", interrupt)
    arguments = ["--dwi", "x", "--out", str(tmp_path / "out")]
    assert run(monkeypatch, "segment", *arguments) == 130
    assert "interrupted; no incomplete files were left" in capsys.readouterr().err


def test_wrong_usage_ends_with_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infarct", "segment", "--out", "x"],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
    )
    assert done.returncode == 2
    assert "--dwi" in done.stderr


def test_models_are_listed_and_their_files_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "models", "list") == 0
    shown = capsys.readouterr().out
    assert shown.index(models.DEFAULT) < shown.index(models.NETWORK)
    assert models.BRIEF not in shown
    assert "list them with --all" in shown
    assert run(monkeypatch, "models", "list", "--all") == 0
    shown = capsys.readouterr().out
    for name in models.model_names():
        assert name in shown
    assert run(monkeypatch, "models", "verify") == 0
    assert f"{len(assets.index())} files verified" in capsys.readouterr().out
    shutil.copytree(assets.ROOT, tmp_path / "data")
    paper = tmp_path / "data" / "networks" / "DAGMNet_CH3.onnx"
    paper.write_bytes(b"another")
    monkeypatch.setattr(assets, "ROOT", tmp_path / "data")
    assert run(monkeypatch, "models", "verify") == 7
    assert "DAGMNet_CH3.onnx" in capsys.readouterr().err
    # As in an installation from the wheel, which leaves this network out.
    paper.unlink()
    assert run(monkeypatch, "models", "verify") == 0
    shown = capsys.readouterr().out
    assert f"{len(assets.index()) - 1} files verified" in shown
    assert "1 are not part of this installation" in shown
    assert run(monkeypatch, "models", "list") == 0
    assert f"not part of this installation: {models.NETWORK}." in capsys.readouterr().out


def test_a_training_that_was_stopped_says_how_it_goes_on(monkeypatch, capsys, tmp_path) -> None:
    recipe, folder = tmp_path / "mine.toml", tmp_path / "run"
    recipe.write_text("network = 'FCN_CH2'\nepoch = 10\nepochs = 2")
    position = Position(samples=5)
    monkeypatch.setattr("infarct.lab.training.loop.run", lambda *_: position)
    given = ("lab", "train", str(recipe), "--out", str(folder))
    assert run(monkeypatch, *given) == 130
    assert "stopped at 25%; run the same command with --resume" in capsys.readouterr().err
    position.samples = 20
    assert run(monkeypatch, *given) == 0
    assert not capsys.readouterr().err
    assert run(monkeypatch, *given, "--resume") == 0
    assert "no run to resume" in capsys.readouterr().err
    folder.mkdir()
    (folder / "last.pt").touch()
    assert run(monkeypatch, *given, "--resume") == 0
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("model", "code"), [("nonesuch", 7), ("cfuzzy", 2)])
def test_an_uncalibratable_model_is_refused_before_the_run(
    monkeypatch, tmp_path, model: str, code: int
) -> None:
    def collect(*_: object) -> None:
        pytest.fail("a case was made")

    monkeypatch.setattr("infarct.lab.calibration.collect.collect", collect)
    given = ("--bank", str(tmp_path / "bank.npz"), "--out", str(tmp_path), "--model", model)
    assert run(monkeypatch, "lab", "calibrate", *given) == code
