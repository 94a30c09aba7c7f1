import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infarct.bids.dataset import BidsScan
from infarct.bids.derivatives import check_place, describe, jobs_of
from infarct.cohort.worker import publish
from infarct.core.errors import OutputError
from infarct.preprocessing.case import CaseFiles

VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def scan(root: Path, **entities: str) -> BidsScan:
    folder = root / f"sub-{entities['sub']}" / "dwi"
    return BidsScan(entities, CaseFiles(folder / "dwi.nii.gz", adc=folder / "adc.nii.gz"))


def test_every_image_has_a_bids_name_and_says_where_it_is_from(root: Path, tmp_path: Path) -> None:
    (job,) = jobs_of([scan(root, sub="1", ses="a", run="2")], root, tmp_path / "out")
    assert job.id == "sub-1_ses-a_run-2"
    assert job.folder == tmp_path / "out" / "reports" / job.id
    folder = tmp_path / "out" / "sub-1" / "ses-a" / "dwi"
    mask = next(export for export in job.exports if export.name == "lesion_mask.nii.gz")
    assert mask.path == folder / f"{job.id}_space-orig_label-lesion_mask.nii.gz"
    assert mask.sidecar["Sources"] == [f"bids:raw:sub-1/dwi/{n}.nii.gz" for n in ("dwi", "adc")]
    assert mask.sidecar["SpatialReference"] == "bids:raw:sub-1/dwi/dwi.nii.gz"
    assert job.output("mni/lesion_mask.nii.gz").name == (
        f"{job.id}_space-MNI152NLin2009aSym_label-lesion_mask.nii.gz"
    )


def test_every_image_in_mni_is_exported(root: Path, tmp_path: Path) -> None:
    outputs = (Path(__file__).parents[2] / "docs" / "reference" / "outputs.md").read_text()
    (job,) = jobs_of([scan(root, sub="1")], root, tmp_path / "out")
    names = {export.name for export in job.exports}
    in_mni = outputs[outputs.index("## mni/") :]
    for stem in ("dwi", "b0", "adc", "dwi_normalised", "is_map", "lesion_probability"):
        assert f"`{stem}`" in in_mni
        assert f"mni/{stem}.nii.gz" in names


@pytest.mark.parametrize(
    ("out", "good"),
    [
        *((".", False), ("derivatives", False), ("results", False), ("..", False)),
        *(("derivatives/infarct", True), ("../elsewhere", True)),
    ],
)
def test_only_the_derivatives_of_a_dataset_are_written_to(root: Path, out: str, good: bool) -> None:
    if good:
        check_place(root, root / out)
    else:
        with pytest.raises(OutputError, match="would mix results with the dataset"):
            check_place(root, root / out)


def test_derivatives_of_other_software_are_not_changed(root: Path) -> None:
    out = root / "derivatives" / "fmriprep"
    out.mkdir(parents=True)
    made = {"Name": "x", "GeneratedBy": [{"Name": "fMRIPrep"}]}
    (out / "dataset_description.json").write_text(json.dumps(made))
    with pytest.raises(OutputError, match="made by fMRIPrep"):
        describe(root, out)
    assert json.loads((out / "dataset_description.json").read_text()) == made
    for strange in ([1], {"GeneratedBy": {"Name": "x"}}, {"GeneratedBy": ["y"]}, {}):
        (out / "dataset_description.json").write_text(json.dumps(strange))
        with pytest.raises(OutputError, match="contains a dataset made by"):
            describe(root, out)


@pytest.mark.parametrize("name", ["README.md", "README", ".bidsignore"])
def test_a_folder_not_created_by_infarct_is_not_changed(
    root: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "project"
    out.mkdir()
    (out / name).write_text("written by hand")
    with pytest.raises(OutputError, match=rf"contains {name} but no dataset_description\.json"):
        describe(root, out)
    assert [path.name for path in out.iterdir()] == [name]
    assert (out / name).read_text() == "written by hand"


def test_edits_of_our_readme_are_kept(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    describe(root, out)
    assert "reports/" in (out / "README.md").read_text()
    for name in ("README.md", ".bidsignore"):
        (out / name).write_text("changed by hand")
    (out / "dataset_description.json").write_text('{"GeneratedBy": [{"Name": "infarct"}]}')
    describe(root, out)
    assert {(out / n).read_text() for n in ("README.md", ".bidsignore")} == {"changed by hand"}
    made = json.loads((out / "dataset_description.json").read_text())
    assert made["GeneratedBy"][0]["Version"]


@pytest.mark.skipif(not VALIDATOR.is_file(), reason="bids-validator-deno is not installed")
def test_the_official_validator_finds_no_error(root: Path, tmp_path: Path) -> None:
    out = root / "derivatives" / "infarct"
    jobs = jobs_of([scan(root, sub="1", ses="a"), scan(root, sub="2")], root, out)
    describe(root, out)
    describe(root, out)
    for job in jobs:
        made = tmp_path / "made" / "result"
        (made / "mni").mkdir(parents=True)
        for export in job.exports:
            if export.name.endswith(".nii.gz"):
                image = nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4))
                image.header.set_xyzt_units("mm")
                image.to_filename(made / export.name)
            else:
                (made / export.name).write_text("1 0 0 0")
        (made / "manifest.json").write_text("{}")
        job.folder.parent.mkdir(exist_ok=True)
        publish(made, job)
        assert {path.name for path in job.folder.iterdir()} == {"manifest.json"}
        shutil.rmtree(tmp_path / "made")
    (out / "group").mkdir()
    (out / "group" / "report.html").write_text("x")
    (out / "cases.tsv").write_text("id\n")
    (out / ".cases").mkdir()
    (out / ".cases" / "sub-1").write_text("{}")
    done = subprocess.run(
        [VALIDATOR, str(out), "--format", "json"], capture_output=True, text=True, check=False
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert done.returncode == 0
