from pathlib import Path

from datasets import dataset

from infarct.bids.dataset import find_scans
from infarct.bids.gaps import gaps, not_joined, not_understood, without_scan

GOOD = "sub-1/ses-a/dwi/sub-1_ses-a_dwi.nii.gz"


def test_participants_and_sessions_without_a_scan_are_reported(tmp_path: Path) -> None:
    root = dataset(
        tmp_path / "d",
        GOOD,
        "sub-1/ses-b/dwi/sub-1_ses-b_dwi.nii.gz",
        "sub-1/ses-b/dwi/sub-1_ses-b_dwi.bval=0 0",
        "sub-1/ses-c/anat/sub-1_ses-c_T1w.nii.gz",
        "sub-2/anat/sub-2_T1w.nii.gz",
    )
    scans = find_scans(root)
    assert without_scan(scans, root) == ["sub-1/ses-b", "sub-2"]
    assert gaps(scans, root, table=True) == ["no diffusion scan found for sub-1/ses-b, sub-2"]


def test_unrecognised_file_names_are_reported(tmp_path: Path) -> None:
    strange = [
        f"sub-1/ses-a/dwi/{name}"
        for name in (
            "sub-1_ses-a_dw.nii.gz",
            "sub-1_ses-a_dwi_ADC.nii.gz",
            "sub-1_ses-a_run2_dwi.nii.gz",
            "sub-9_ses-a_dwi.nii.gz",
        )
    ]
    root = dataset(
        tmp_path / "d",
        GOOD,
        "sub-1/ses-a/dwi/sub-1_ses-a_part-phase_dwi.nii.gz",
        "sub-1/ses-a/dwi/sub-1_ses-a_sbref.nii.gz",
        "sub-1/ses-a/dwi/sub-1_ses-a_dwi.bval=0 1000",
        *strange,
    )
    assert not_understood(root) == strange
    (message,) = gaps(find_scans(root), root, table=False)
    lead = "not used, file name not recognised as a diffusion image: sub-1/ses-a/dwi/"
    assert message.startswith(lead)


def test_maps_and_ambiguous_images_are_reported(tmp_path: Path) -> None:
    d = "sub-1/dwi/sub-1"
    root = dataset(
        tmp_path / "d",
        *(f"{d}_run-{run}_{suffix}.nii.gz" for run in "12" for suffix in ("trace", "S0map")),
        *(f"{d}_{name}.nii.gz" for name in ("ADC", "run-1_FA", "run-9_S0map", "rec-colFA_dwi")),
        "sub-2/dwi/sub-2_ADC.nii.gz",
    )
    scans = find_scans(root)
    assert [scan.files.adc for scan in scans] == [None, None]
    assert gaps(scans, root, table=False) == [
        "no diffusion scan found for sub-2",
        f"not used, parameter maps: {d}_rec-colFA_dwi.nii.gz, {d}_run-1_FA.nii.gz",
        f"not used, matches several scans (an entity such as run- is missing): {d}_ADC.nii.gz",
        f"not used, matches no DWI of its session: {d}_run-9_S0map.nii.gz",
    ]
    (root / "dataset_description.json").unlink()
    assert gaps(find_scans(root), root, table=False)[0].startswith("dataset_description.json is")


def test_an_ambiguous_adc_is_a_problem_without_another_companion(tmp_path: Path) -> None:
    d = "sub-1/dwi/sub-1"
    root = dataset(
        tmp_path / "d", *(f"{d}_{name}.nii.gz" for name in ("run-1_trace", "run-2_trace", "ADC"))
    )
    for scan in find_scans(root):
        assert scan.files.adc is None
        assert scan.problem == (
            f"{d}_ADC.nii.gz could be the adc of sub-1_run-1, sub-1_run-2; add the entity that "
            "distinguishes them to its file name"
        )


def test_mismatches_with_the_participants_table_are_reported(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d", GOOD, "sub-01/dwi/sub-01_dwi.nii.gz")
    scans = find_scans(root)
    assert not_joined(scans, root) == ([], [])
    table = root / "participants.tsv"
    # A spreadsheet dropped the leading zero of sub-01; ses-a and ses-b are different sessions.
    table.write_text("participant_id\tsession_id\nsub-1\tses-a\nsub-2\tses-a\n")
    assert not_joined(scans, root) == (["sub-01"], ["sub-2"])
    assert gaps(scans, root, table=False) == []
    assert len(gaps(scans, root, table=True)) == 2
    table.write_text("participant_id\tsession_id\nsub-1\tses-b\nsub-01\tn/a\n")
    assert not_joined(scans, root) == (["sub-1_ses-a"], [])
