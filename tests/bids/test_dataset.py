from pathlib import Path

import pytest
from datasets import dataset

from infarct.bids.dataset import BidsScan, find_scans
from infarct.bids.gaps import gaps
from infarct.core.errors import InputFileError


def by_name(scans: list[BidsScan]) -> dict[str, BidsScan]:
    return {scan.name: scan for scan in scans}


def test_a_series_is_a_scan_with_its_b_values(tmp_path: Path) -> None:
    d = "sub-1/ses-a/dwi/sub-1_ses-a"
    root = dataset(tmp_path / "d", f"{d}_dwi.nii.gz", f"{d}_dwi.bval=0 0 1000 1000")
    (scan,) = find_scans(root)
    assert scan.name == "sub-1_ses-a"
    assert scan.files.dwi == root / f"{d}_dwi.nii.gz"
    assert scan.files.bval == root / f"{d}_dwi.bval"
    assert (scan.files.b0, scan.files.adc, scan.problem) == (None, None, "")


@pytest.mark.parametrize("ending", [".bval", ".bvals", ".BVAL"])
def test_b_values_are_read_as_for_a_single_scan(ending: str, tmp_path: Path) -> None:
    d = "sub-1/dwi/sub-1"
    root = dataset(tmp_path / "d", f"{d}_dwi.nii.gz", f"{d}_dwi{ending}")
    (root / f"{d}_dwi{ending}").write_bytes("0, 1000;1000".encode("utf-16"))
    (scan,) = find_scans(root)
    assert scan.files.bval == root / f"{d}_dwi{ending}"


def test_a_low_b_value_is_b0_only_on_request(tmp_path: Path) -> None:
    d = "sub-1/dwi/sub-1"
    root = dataset(
        tmp_path / "d",
        *(f"{d}_dwi.nii.gz", f"{d}_dwi.bval=50 1000"),
        *("sub-2/dwi/sub-2_acq-b50_dwi.nii.gz", "sub-2/dwi/sub-2_acq-b1000_dwi.nii.gz"),
    )
    assert [scan.name for scan in find_scans(root, ["1"])] == ["sub-1"]
    assert len(find_scans(root, ["2"])) == 2
    one, two = find_scans(root, b0_below=51)
    assert (one.files.b0_below, one.files.b0) == (51, None)
    assert two.files.dwi.name == "sub-2_acq-b1000_dwi.nii.gz"
    assert two.files.b0 == root / "sub-2/dwi/sub-2_acq-b50_dwi.nii.gz"
    assert two.files.b0_bvalue == 50


def test_a_series_inherits_its_b_values_from_further_up(tmp_path: Path) -> None:
    d = "sub-1/dwi/sub-1_acq-x"
    root = dataset(tmp_path / "d", f"{d}_dwi.nii.gz", "dwi.bval=0 500", "acq-x_dwi.bval=0 1000")
    (scan,) = find_scans(root)
    assert scan.files.bval == root / "acq-x_dwi.bval"


def test_single_images_are_put_together_by_their_entities(tmp_path: Path) -> None:
    d = "sub-1/dwi/sub-1"
    root = dataset(
        tmp_path / "d",
        *(f"{d}_run-{r}_{suffix}.nii.gz" for r in "12" for suffix in ("trace", "ADC", "S0map")),
        "sub-2/dwi/sub-2_dwi.nii.gz",
        "sub-2/dwi/sub-2_adc.nii.gz",
    )
    scans = by_name(find_scans(root))
    assert set(scans) == {"sub-1_run-1", "sub-1_run-2", "sub-2"}
    files = scans["sub-1_run-2"].files
    assert files.dwi.name == "sub-1_run-2_trace.nii.gz"
    assert files.b0 is not None
    assert files.b0.name == "sub-1_run-2_S0map.nii.gz"
    assert files.adc is not None
    assert files.adc.name == "sub-1_run-2_ADC.nii.gz"
    assert scans["sub-2"].files.adc == root / "sub-2/dwi/sub-2_adc.nii.gz"


def test_derivatives_of_others_complete_a_scan_in_its_own_space_only(tmp_path: Path) -> None:
    d, der = "sub-1/dwi/sub-1", "derivatives/fit/sub-1/dwi/sub-1"
    root = dataset(
        tmp_path / "d",
        f"{d}_dwi.nii.gz",
        f"{der}_space-MNI152NLin2009aSym_ADC.nii.gz",
        f"{der}_space-orig_desc-fit_ADC.nii.gz",
        f"{der}_desc-b0_dwi.nii.gz",
        "derivatives/infarct/sub-1/dwi/sub-1_space-orig_ADC.nii.gz",
        'derivatives/infarct/dataset_description.json={"GeneratedBy": [{"Name": "infarct"}]}',
    )
    (scan,) = find_scans(root)
    assert scan.files.dwi == root / f"{d}_dwi.nii.gz"
    assert scan.files.adc == root / f"{der}_space-orig_desc-fit_ADC.nii.gz"
    assert scan.files.b0 == root / f"{der}_desc-b0_dwi.nii.gz"


def test_a_series_is_preferred_to_what_was_made_of_it(tmp_path: Path) -> None:
    d = "sub-1/dwi/sub-1"
    root = dataset(
        tmp_path / "d",
        f"{d}_dwi.nii.gz",
        f"{d}_dwi.bval=0 1000",
        f"{d}_trace.nii.gz",
        f"{d}_ADC.nii",
    )
    (scan,) = find_scans(root)
    assert scan.files.dwi.name == "sub-1_dwi.nii.gz"
    assert scan.files.adc == root / f"{d}_ADC.nii"


def test_a_series_without_b0_takes_the_one_saved_apart(tmp_path: Path) -> None:
    d = "sub-1/dwi/sub-1"
    root = dataset(
        tmp_path / "d",
        *(f"{d}_dwi.nii.gz", f"{d}_dwi.bval=1000 1000 1000", f"{d}_sbref.nii.gz"),
    )
    (scan,) = find_scans(root)
    assert scan.files.b0 == root / f"{d}_sbref.nii.gz"


def test_a_label_given_twice_yields_one_scan(tmp_path: Path) -> None:
    d = "sub-1/dwi/sub-1"
    root = dataset(tmp_path / "d", f"{d}_trace.nii.gz", f"{d}_ADC.nii.gz")
    (scan,) = find_scans(root, ["1", "sub-1"])
    assert (scan.files.adc, scan.problem) == (root / f"{d}_ADC.nii.gz", "")


def test_an_unweighted_image_is_a_b0_and_unweighted_series_no_scan(tmp_path: Path) -> None:
    d = "sub-1/dwi/sub-1"
    root = dataset(
        tmp_path / "d",
        *(f"{d}_dir-AP_dwi.nii.gz", f"{d}_dir-AP_dwi.bval=1000"),
        *(f"{d}_dir-AP_desc-first_dwi.nii.gz", f"{d}_dir-AP_desc-first_dwi.bval=0"),
        *(f"{d}_dir-PA_dwi.nii.gz", f"{d}_dir-PA_dwi.bval=0 0 5"),
    )
    (scan,) = find_scans(root)
    assert scan.name == "sub-1_dir-AP"
    assert scan.files.bvalue == 1000.0
    assert scan.files.b0 == root / f"{d}_dir-AP_desc-first_dwi.nii.gz"


def test_two_equally_suitable_adc_maps_are_a_problem(tmp_path: Path) -> None:
    d = "sub-1/dwi/sub-1"
    root = dataset(
        tmp_path / "d", f"{d}_trace.nii.gz", f"{d}_run-1_ADC.nii.gz", f"{d}_run-2_ADC.nii.gz"
    )
    (scan,) = find_scans(root)
    assert scan.problem.startswith(
        f"2 images match its adc ({d}_run-1_ADC.nii.gz, {d}_run-2_ADC.nii.gz)"
    )


def test_two_equally_suitable_dwi_are_a_problem(tmp_path: Path) -> None:
    for number, pair in enumerate(
        (
            ("sub-1/ses-1/dwi/sub-1_dwi.nii.gz", "sub-1/ses-2/dwi/sub-1_dwi.nii.gz"),
            ("sub-1/dwi/sub-1_dwi.nii", "sub-1/dwi/sub-1_dwi.nii.gz"),
            (
                "derivatives/a/sub-1/dwi/sub-1_desc-preproc_dwi.nii.gz",
                "derivatives/b/sub-1/dwi/sub-1_desc-clean_dwi.nii.gz",
            ),
        )
    ):
        root = dataset(tmp_path / f"d{number}", *pair)
        (root / "sub-1").mkdir(exist_ok=True)
        (scan,) = find_scans(root)
        assert scan.problem.startswith("2 images match its dwi (")
        assert all(name in scan.problem for name in pair)


def test_requested_labels_without_a_scan_are_an_error(tmp_path: Path) -> None:
    root = dataset(
        tmp_path / "d", "sub-1/ses-a/dwi/sub-1_ses-a_dwi.nii.gz", "sub-2/anat/sub-2_T1w.nii.gz"
    )
    with pytest.raises(InputFileError, match=r"no diffusion scan found for sub-2; expected"):
        find_scans(root, ["1", "2"])
    with pytest.raises(InputFileError, match=r"no diffusion scan found for ses-b; expected"):
        find_scans(root, [], ["a", "b"])


def test_labels_select_participants_and_sessions(tmp_path: Path) -> None:
    root = dataset(
        tmp_path / "d",
        *(
            f"sub-{s}/ses-{t}/dwi/sub-{s}_ses-{t}_dwi.nii.gz"
            for s in ("1", "2")
            for t in ("a", "b")
        ),
    )
    assert len(find_scans(root)) == 4
    assert set(by_name(find_scans(root, ["sub-2"], ["a"]))) == {"sub-2_ses-a"}
    assert set(by_name(find_scans(root, ["1"], ["ses-b"]))) == {"sub-1_ses-b"}
    with pytest.raises(InputFileError, match="sub-9 not found among 2 participants"):
        find_scans(root, ["9"])
    with pytest.raises(InputFileError, match="no diffusion scan found for ses-z in 2 participants"):
        find_scans(root, [], ["z"])


def test_a_folder_that_is_not_a_dataset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"no dataset_description\.json and no sub-\* folder"):
        find_scans(tmp_path)


def test_a_b0_with_reversed_phase_encoding_is_not_used(tmp_path: Path) -> None:
    d = "sub-1/dwi/sub-1"
    names = (f"{d}_dwi.nii.gz", f"{d}_dwi.bval=1000", f"{d}_dir-PA_dwi.nii.gz")
    root = dataset(tmp_path / "d", *names, f"{d}_dir-PA_dwi.bval=0", f"{d}_ADC.nii.gz")
    (scan,) = find_scans(root)
    assert scan.files.b0 is None
    assert scan.files.adc == root / f"{d}_ADC.nii.gz"


@pytest.mark.parametrize(
    ("dwi", "adc", "b0"),
    [
        ("sub-1_rec-TRACE_dwi", "sub-1_rec-ADC_dwi", ""),  # SOOP
        ("sub-1_acq-TRACE_dwi", "sub-1_acq-ADC_dwi", "sub-1_acq-b0_dwi"),
        ("sub-1_acq-resolveTRACEW_dwi", "sub-1_acq-resolveADC_dwi", "sub-1_acq-resolve_sbref"),
        ("sub-1_desc-trace_dwi", "sub-1_desc-adc_dwimap", "sub-1_desc-b0_dwi"),
        ("sub-1_desc-b1000_dwi", "sub-1_desc-adc_dwi", "sub-1_desc-b0_dwi"),
        ("sub-1_TRACEW", "sub-1_ADC", "sub-1_S0map"),
        ("sub-1_trace", "sub-1_rec-ADC_dwi", "sub-1_S0map"),
        ("sub-1_dwi", "sub-1_adc", ""),  # ISLES 2022
        ("sub-1_part-mag_dwi", "sub-1_ADC", "sub-1_sbref"),
        ("sub-1_space-ncct_dwi", "sub-1_space-ncct_adc", ""),  # ISLES 2024
        ("sub-1_echo-1_trace", "sub-1_echo-1_ADC", "sub-1_echo-1_S0map"),
    ],
)
def test_the_role_is_read_from_any_part_of_the_name(
    tmp_path: Path, dwi: str, adc: str, b0: str
) -> None:
    names = [name for name in (dwi, adc, b0) if name]
    maps = ("FA", "rec-FA_dwi", "acq-colFA_dwi", "desc-eADC_dwi", "expADC", "rec-DTIFA_dwi")
    root = dataset(
        tmp_path / "d",
        *(f"sub-1/dwi/{name}.nii.gz" for name in names),
        *(f"sub-1/dwi/sub-1_{name}.nii.gz" for name in (*maps, "part-phase_dwi")),
    )
    (scan,) = find_scans(root)
    assert scan.problem == ""
    assert [path.name for path in scan.files.paths().values()] == [
        f"{name}.nii.gz" for name in (dwi, b0, adc) if name
    ]


def test_a_map_without_a_dwi_is_not_a_scan(tmp_path: Path) -> None:
    root = dataset(
        tmp_path / "d",
        "sub-1/dwi/sub-1_trace.nii.gz",
        *(f"sub-2/dwi/sub-2_{name}_dwi.nii.gz" for name in ("rec-ADC", "acq-FA", "desc-exp")),
        *(f"sub-2/dwi/sub-2_{name}.nii.gz" for name in ("ADC", "FA", "colFA", "expADC", "dwimap")),
    )
    assert [scan.name for scan in find_scans(root)] == ["sub-1"]


def test_labels_that_only_look_like_a_role_are_kept(tmp_path: Path) -> None:
    names = ("acq-headcoil", "acq-FA90", "acq-MD", "rec-norm", "acq-broadcast")
    root = dataset(tmp_path / "d", *(f"sub-1/dwi/sub-1_{name}_dwi.nii.gz" for name in names))
    assert {scan.name for scan in find_scans(root)} == {f"sub-1_{name}" for name in names}


def test_images_lie_in_the_session_itself_or_in_perf(tmp_path: Path) -> None:
    one, two = "sub-1/ses-02/sub-1_ses-02_space-ncct", "sub-2/ses-02/{}/sub-2_ses-02_space-ncct"
    root = dataset(
        tmp_path / "d",
        *(f"{one}_{suffix}.nii.gz" for suffix in ("dwi", "adc", "lesion-msk")),
        f"{two.format('dwi')}_dwi.nii.gz",
        f"{two.format('perf')}_adc.nii.gz",
    )
    (root / "dataset_description.json").unlink()
    scans = find_scans(root)
    assert [scan.name for scan in scans] == ["sub-1_ses-02", "sub-2_ses-02"]
    assert all(scan.files.adc is not None and not scan.problem for scan in scans)


def test_the_scan_in_its_own_space_comes_first_and_spaces_are_not_mixed(tmp_path: Path) -> None:
    d, der = "sub-1/dwi/sub-1", "derivatives/sub-1/dwi/sub-1"
    spaces = ("space-T1w_", "space-MNI152NLin6Asym_")
    root = dataset(
        tmp_path / "d",
        f"{d}_trace.nii.gz",
        *(f"{der}_{space}{suffix}.nii.gz" for space in spaces for suffix in ("trace", "ADC")),
    )
    (scan,) = find_scans(root)
    assert (scan.files.dwi, scan.files.adc) == (root / f"{d}_trace.nii.gz", None)
    (root / f"{d}_trace.nii.gz").unlink()
    (scan,) = find_scans(root)
    assert scan.files.dwi == root / f"{der}_space-T1w_trace.nii.gz"
    assert scan.files.adc == root / f"{der}_space-T1w_ADC.nii.gz"


def test_the_bval_of_a_series_is_not_that_of_the_trace_beside_it(tmp_path: Path) -> None:
    d = "sub-1/dwi/sub-1"
    root = dataset(
        tmp_path / "d",
        *(f"{d}_dwi.nii.gz", f"{d}_dwi.bval=0 1000 1000", f"{d}_rec-TRACE_dwi.nii.gz"),
        *(f"{d}_TRACEW.nii.gz", f"{d}_TRACEW.bval=0 1000"),
    )
    (scan,) = find_scans(root)
    assert (scan.files.dwi, scan.problem) == (root / f"{d}_dwi.nii.gz", "")
    assert scan.files.bval == root / f"{d}_dwi.bval"


def test_hidden_files_are_ignored(tmp_path: Path) -> None:
    d = "sub-1/dwi/{}sub-1"
    names = ("dwi.nii.gz", "dwi.bval=0 1000", "ADC.nii.gz")
    root = dataset(
        tmp_path / "d",
        *(f"{d.format(hidden)}_{name}" for hidden in ("", "._") for name in names),
        "sub-1/dwi/.DS_Store",
        "._sub-2",
    )
    (scan,) = find_scans(root)
    assert scan.files.bval == root / f"{d.format('')}_dwi.bval"
    assert gaps([scan], root, table=True) == []


def test_a_dataset_of_links_is_read_as_datalad_keeps_it(tmp_path: Path) -> None:
    annex = tmp_path / "d/.git/annex/objects/key"
    annex.mkdir(parents=True)
    (annex / "trace").touch()
    root = dataset(tmp_path / "d", "sub-1/dwi/sub-1_rec-TRACE_dwi.json={}")
    folder = root / "sub-1/dwi"
    (folder / "sub-1_rec-TRACE_dwi.nii.gz").symlink_to("../../.git/annex/objects/key/trace")
    # Not downloaded: the link leads nowhere, and the case says so.
    (folder / "sub-1_rec-ADC_dwi.nii.gz").symlink_to("../../.git/annex/objects/key/adc")
    (scan,) = find_scans(root)
    assert scan.files.adc == folder / "sub-1_rec-ADC_dwi.nii.gz"
