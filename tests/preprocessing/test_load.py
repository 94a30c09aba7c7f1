from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infarct.core.errors import ContentError, GeometryError, InputFileError
from infarct.preprocessing import load
from infarct.preprocessing.case import CaseFiles
from infarct.preprocessing.load import open_case


def codes(case) -> set[str]:
    return {finding.code for finding in case.findings}


def near(
    found: np.ndarray, expected: np.ndarray, relative: float = 0.0, absolute: float = 0.0
) -> bool:
    """Compare like `pytest.approx`, which takes seconds for an image."""
    allowed = np.maximum(relative * np.abs(expected), absolute)
    return found.shape == expected.shape and bool((np.abs(found - expected) <= allowed).all())


def save_series(head, folder: Path, bvalues: list[float]) -> Path:
    """Write a 4D series with different directions, whose geometric mean is the DWI."""
    rng = np.random.default_rng(0)
    factor = rng.uniform(0.8, 1.2, head.dwi.shape)
    volumes = []
    for i, b in enumerate(bvalues):
        if b < 50:
            volumes.append(head.b0)
        elif b < 900:
            volumes.append(np.sqrt(head.b0 * head.dwi))
        else:
            volumes.append(head.dwi * (factor if i % 2 else 1 / factor))
    folder.mkdir(exist_ok=True)
    image = nib.Nifti1Image(np.stack(volumes, axis=-1).astype(np.float32), head.affine)
    image.to_filename(folder / "series.nii.gz")
    (folder / "series.bval").write_text(" ".join(f"{b:g}" for b in bvalues))
    return folder / "series.nii.gz"


def test_dwi_and_b0_make_an_adc(head, tmp_path: Path) -> None:
    paths = head.save(tmp_path)
    case = open_case(CaseFiles(paths["dwi"], paths["b0"]))
    inside = head.brain
    assert near(case.adc.data[inside], head.adc[inside], absolute=2e-6)
    assert codes(case) == {"bvalue-assumed"}
    assert case.brain_method == "threshold"


def test_a_low_b_value_is_b0_only_on_request(head, tmp_path: Path) -> None:
    low = (head.b0 * np.exp(-50 * head.adc)).astype(np.float32)
    image = nib.Nifti1Image(np.stack([low, head.dwi.astype(np.float32)], -1), head.affine)
    image.to_filename(tmp_path / "x.nii.gz")
    (tmp_path / "x.bvals").write_text("50,1000")
    with pytest.raises(InputFileError, match=r"lowest b-value is 50 s/mm\^2, but .*--b0-below 51"):
        open_case(CaseFiles(tmp_path / "x.nii.gz"))
    case = open_case(CaseFiles(tmp_path / "x.nii.gz", b0_below=51))
    # With the difference of the two b-values.
    assert near(case.adc.data[head.brain], head.adc[head.brain], absolute=2e-6)
    with pytest.raises(ContentError, match="b0-below"):
        open_case(CaseFiles(tmp_path / "x.nii.gz", b0_below=np.nan))


def test_dwi_and_adc_make_a_b0(head, tmp_path: Path) -> None:
    paths = head.save(tmp_path)
    case = open_case(CaseFiles(paths["dwi"], adc=paths["adc"], bvalue=1000))
    assert near(case.b0.data[head.brain], head.b0[head.brain], relative=0.05)
    assert codes(case) == {"b0-computed"}


def test_a_series_is_split_by_its_b_values(head, tmp_path: Path) -> None:
    path = save_series(head, tmp_path, [0, 5, 500, 1000, 1005, 995, 1000])
    case = open_case(CaseFiles(path))
    assert "not used: b = 500" in case.findings[0].message
    assert case.bvalue == pytest.approx(1000)
    assert near(case.dwi.data[head.brain], head.dwi[head.brain], relative=1e-3)
    assert near(case.b0.data, head.b0, relative=1e-5)
    assert codes(case) == {"series-split"}


def test_the_requested_shell_is_selected(head, tmp_path: Path) -> None:
    path = save_series(head, tmp_path, [0, 700, 1000, 2000])
    case = open_case(CaseFiles(path, bvalue=700))
    assert (case.bvalue, codes(case)) == (700, {"series-split"})


def test_the_b_value_file_may_be_elsewhere(head, tmp_path: Path) -> None:
    path = save_series(head, tmp_path, [0, 1000, 1000])
    bval = (tmp_path / "series.bval").rename(tmp_path / "dwi.bval")
    files = CaseFiles(path, bval=bval)
    assert files.bval_path() == bval
    assert open_case(files).bvalue == 1000
    with pytest.raises(InputFileError, match=r"series\.bval was not found"):
        open_case(CaseFiles(path))


def test_a_series_overrules_a_b_value_that_contradicts_it(head, tmp_path: Path) -> None:
    path = save_series(head, tmp_path, [0, 1000, 1000])
    case = open_case(CaseFiles(path, bvalue=2000))
    assert case.bvalue == 1000
    assert "bvalue-overridden" in codes(case)


def test_a_series_without_usable_b_values_is_rejected(head, tmp_path: Path) -> None:
    path = save_series(head, tmp_path, [0, 1000, 1000])
    bval = tmp_path / "series.bval"
    for content, reason in (
        ("0 1000", "2 b-values, but"),
        ("0 b b", "one number"),
        ("0 nan 1000", "one number"),
    ):
        bval.write_text(content)
        with pytest.raises(InputFileError, match=reason):
            open_case(CaseFiles(path))
    bval.write_text("0 0 0")
    with pytest.raises(ContentError, match="diffusion weighting"):
        open_case(CaseFiles(path))
    bval.unlink()
    with pytest.raises(InputFileError, match="was not found in the same folder"):
        open_case(CaseFiles(path))


@pytest.mark.parametrize(
    ("said", "given", "used", "code"),
    [
        ("1500", None, 1500, "bvalue-from-file"),
        ("0 1500 1500.2 1499.8", None, 1500, "bvalue-from-file"),
        ("0 1000 3000", None, 1000, "bvalue-assumed"),
        ("", None, 1000, "bvalue-assumed"),
        ("1500", 1000, 1000, "bvalue-mismatch"),
        ("1500", 1450, 1450, None),
    ],
)
def test_a_single_image_may_have_a_b_value_file(
    head, tmp_path: Path, said: str, given: float | None, used: float, code: str | None
) -> None:
    paths = head.save(tmp_path, dwi=head.dwi, b0=head.b0)
    (tmp_path / "dwi.bval").write_text(said)
    case = open_case(CaseFiles(**paths, bvalue=given))
    assert case.bvalue == used
    found = {c for c in codes(case) if c.startswith("bvalue")}
    assert found == ({code} if code else set())
    expected = np.log(head.b0[head.brain] / head.dwi[head.brain]) / used
    assert near(case.adc.data[head.brain], expected, absolute=1e-6)


def test_an_image_with_a_low_b_value_is_rejected_as_dwi(head, tmp_path: Path) -> None:
    paths = head.save(tmp_path)
    paths["dwi"].with_name("dwi.bval").write_text("0")
    with pytest.raises(ContentError, match="no diffusion weighting"):
        open_case(CaseFiles(paths["dwi"], adc=paths["adc"]))


def test_a_b0_in_place_of_the_dwi_is_rejected(head, tmp_path: Path) -> None:
    paths = head.save(tmp_path)
    with pytest.raises(ContentError, match="may be the b0"):
        open_case(CaseFiles(paths["b0"], adc=paths["adc"], bvalue=1000))
    with pytest.raises(ContentError, match="are the same image"):
        open_case(CaseFiles(paths["dwi"], paths["dwi"], adc=paths["adc"], bvalue=1000))


@pytest.mark.parametrize("dead", [0.0, np.nan])
def test_empty_volumes_of_a_series_are_ignored(head, tmp_path: Path, dead: float) -> None:
    path = save_series(head, tmp_path, [0, 0, 1000, 1000, 1000])
    image = nib.load(path)
    volumes = image.get_fdata(dtype=np.float32)
    volumes[..., [1, 4]] = dead
    nib.Nifti1Image(volumes, image.affine).to_filename(path)
    case = open_case(CaseFiles(path))
    messages = [f.message for f in case.findings if f.code == "empty-volumes"]
    assert [text.split("(")[1].split(")")[0] for text in messages] == ["volume 5", "volume 2"]
    assert any("geometric mean of 2" in f.message for f in case.findings)
    assert near(case.dwi.data[head.brain], head.dwi[head.brain], relative=1e-3)
    assert near(case.b0.data[head.brain], head.b0[head.brain], relative=1e-3)
    volumes[..., 2:] = dead
    nib.Nifti1Image(volumes, image.affine).to_filename(path)
    with pytest.raises(ContentError, match="are empty"):
        open_case(CaseFiles(path))


def test_a_dwi_alone_is_rejected(head, tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="--b0"):
        open_case(CaseFiles(head.save(tmp_path)["dwi"]))


@pytest.mark.parametrize("factor", [1.0, 1e3, 1e6])
def test_units_of_the_adc_do_not_matter(head, tmp_path: Path, factor: float) -> None:
    paths = head.save(tmp_path, dwi=head.dwi, b0=head.b0, adc=head.adc * factor)
    case = open_case(CaseFiles(**paths, bvalue=1000))
    assert near(case.adc.data[head.brain], head.adc[head.brain], 1e-4, 1e-9)


def test_companions_on_another_grid_are_resampled_with_a_note(head, tmp_path: Path) -> None:
    paths = head.save(tmp_path)
    flipped = nib.load(paths["adc"]).as_reoriented([[0, -1], [1, 1], [2, 1]])
    flipped.to_filename(tmp_path / "adc_flipped.nii.gz")
    case = open_case(CaseFiles(paths["dwi"], paths["b0"], tmp_path / "adc_flipped.nii.gz", 1000))
    assert near(case.adc.data[head.brain], head.adc[head.brain], absolute=1e-6)
    assert codes(case) == {"resampled"}


@pytest.mark.parametrize(("moved", "notes"), [(0.04, set()), (0.06, {"resampled"})])
def test_a_rounding_error_of_the_header_does_not_blur_a_companion(
    head, moved: float, notes: set[str], tmp_path: Path
) -> None:
    paths = head.save(tmp_path)
    affine = head.affine.copy()
    affine[0, 3] += moved * 2.0
    nib.Nifti1Image(head.b0.astype(np.float32), affine).to_filename(tmp_path / "moved.nii.gz")
    case = open_case(CaseFiles(paths["dwi"], tmp_path / "moved.nii.gz", bvalue=1000))
    assert codes(case) == notes
    exact = np.array_equal(case.b0.data[head.brain], head.b0.astype(np.float32)[head.brain])
    assert exact is (not notes)


def test_the_b_value_of_a_separate_b0_is_subtracted(head, tmp_path: Path) -> None:
    low = head.b0 * np.exp(-50 * head.adc)
    paths = head.save(tmp_path, dwi=head.dwi, b0=low)
    case = open_case(CaseFiles(**paths, bvalue=1000, b0_bvalue=50))
    assert near(case.adc.data[head.brain], head.adc[head.brain], absolute=2e-6)


def test_a_square_companion_with_another_axis_order_is_reordered(head, tmp_path: Path) -> None:
    """The first, the last and one more corner coincide with those of the DWI."""
    wide = ((8, 8), (0, 0), (0, 0))
    affine = head.affine.copy()
    affine[:3, 3] -= 8 * affine[:3, 0]
    paths = {}
    for name in ("dwi", "b0"):
        image = nib.Nifti1Image(np.pad(getattr(head, name), wide).astype(np.float32), affine)
        assert image.shape[0] == image.shape[1]
        if name == "b0":
            exchanged = affine[:, [1, 0, 2, 3]]
            image = nib.Nifti1Image(image.get_fdata().swapaxes(0, 1), exchanged)
        paths[name] = tmp_path / f"{name}.nii.gz"
        image.to_filename(paths[name])
    case = open_case(CaseFiles(**paths, bvalue=1000))
    brain = np.pad(head.brain, wide)
    assert near(case.b0.data[brain], head.b0[head.brain], absolute=1e-3)


@pytest.mark.parametrize("role", ["b0", "adc"])
def test_voxels_that_a_companion_does_not_cover_count_as_not_scanned(
    head, tmp_path: Path, role: str
) -> None:
    paths = head.save(tmp_path)
    whole = nib.load(paths[role])
    whole.slicer[:, :, :20].to_filename(paths[role])
    other = {"b0": "adc", "adc": "b0"}[role]
    for companions in ({role: paths[role]}, {role: paths[role], other: paths[other]}):
        case = open_case(CaseFiles(paths["dwi"], **companions, bvalue=1000))
        assert "partial-coverage" in codes(case)
        for image in (case.dwi.data, case.b0.data, case.brain):
            assert not image[:, :, 20:].any()
        assert case.brain[:, :, 19].any()


def test_a_given_brain_ends_where_the_scan_does(head, tmp_path: Path) -> None:
    dwi, b0 = (np.where(np.arange(34) < 15, 0, image) for image in (head.dwi, head.b0))
    paths = head.save(tmp_path, dwi=dwi, b0=b0, brain=head.brain)
    case = open_case(CaseFiles(**paths, bvalue=1000))
    assert not case.brain[:, :, :15].any()
    assert np.array_equal(case.brain[:, :, 15:], head.brain[:, :, 15:])


@pytest.mark.parametrize("hole", [np.nan, 0.0])
def test_holes_of_the_adc_are_computed_or_reported(head, tmp_path: Path, hole: float) -> None:
    """With ADC 0 they would look like an infarct."""
    paths = head.save(tmp_path, dwi=head.dwi, b0=head.b0, adc=np.where(head.lesion, hole, head.adc))
    case = open_case(CaseFiles(**paths, bvalue=1000))
    assert near(case.adc.data[head.lesion], head.adc[head.lesion], absolute=1e-6)
    assert "adc-missing" not in codes(case)
    # Wherever there is signal: the brain that is measured in may be larger than the first one.
    emptied = head.save(tmp_path / "all", dwi=head.dwi, b0=head.b0, adc=head.adc * ~head.lesion)
    part = np.where(head.lesion, 0, head.brain)
    drawn = head.save(tmp_path / "part", brain=part)["brain"]
    beyond = open_case(CaseFiles(**emptied, bvalue=1000, brain=drawn))
    assert near(beyond.adc.data[head.lesion], head.adc[head.lesion], absolute=1e-6)
    alone = open_case(CaseFiles(paths["dwi"], adc=paths["adc"], bvalue=1000))
    assert "adc-missing" in codes(alone)


def test_companions_at_another_position_are_rejected(head, tmp_path: Path) -> None:
    paths = head.save(tmp_path)
    image = nib.load(paths["b0"])
    away = image.affine.copy()
    away[0, 3] += 400
    nib.Nifti1Image(image.get_fdata(), away).to_filename(tmp_path / "away.nii.gz")
    with pytest.raises(GeometryError, match="covers only"):
        open_case(CaseFiles(paths["dwi"], tmp_path / "away.nii.gz"))


@pytest.mark.parametrize("names", [("dwi",), ("b0",), ("dwi", "b0")])
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_an_empty_slice_is_reported_and_does_not_cut_the_brain(
    head, tmp_path: Path, names: tuple[str, ...], value: float
) -> None:
    images = {"dwi": head.dwi.copy(), "b0": head.b0.copy()}
    for name in names:
        images[name][:, :, 15] = value
    case = open_case(CaseFiles(**head.save(tmp_path, **images)))
    assert "empty-slices" in codes(case)
    whole = open_case(CaseFiles(**head.save(tmp_path / "whole")))
    kept = np.arange(head.dwi.shape[2]) != 15
    assert not case.brain[:, :, 15].any()
    both = (case.brain & whole.brain)[:, :, kept].sum()
    assert 2 * both > 0.98 * (case.brain.sum() + whole.brain[:, :, kept].sum())


def test_an_image_given_as_brain_mask_is_rejected(head, tmp_path: Path) -> None:
    paths = head.save(tmp_path)
    with pytest.raises(ContentError, match="is an image, not a mask"):
        open_case(CaseFiles(**paths, brain=paths["dwi"]))


def test_misalignment_is_named_when_it_spoils_the_contrast(
    head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reject(*_: object) -> None:
        raise ContentError("the contrast is wrong")

    monkeypatch.setattr(load.image_type, "check_types", reject)
    moved = head.save(tmp_path / "moved", dwi=head.dwi, b0=np.roll(head.b0, 10, axis=0))
    with pytest.raises(ContentError, match=r"b0: .*Otherwise, the contrast is wrong"):
        open_case(CaseFiles(**moved))
    with pytest.raises(ContentError, match=r"^the contrast is wrong"):
        open_case(CaseFiles(**head.save(tmp_path)))


def test_swapped_files_are_rejected(head, tmp_path: Path) -> None:
    paths = head.save(tmp_path)
    for adc in (None, paths["adc"]):
        with pytest.raises(ContentError, match="swapped"):
            open_case(CaseFiles(paths["b0"], paths["dwi"], adc, bvalue=1000))


def test_a_given_brain_is_used(head, tmp_path: Path) -> None:
    paths = head.save(tmp_path, dwi=head.dwi, b0=head.b0, brain=head.brain)
    case = open_case(CaseFiles(paths["dwi"], paths["b0"], brain=paths["brain"]))
    assert np.array_equal(case.brain, head.brain)
    assert case.brain_method == "given"
    empty = head.save(tmp_path / "empty", brain=head.brain * 0)["brain"]
    with pytest.raises(ContentError, match="empty"):
        open_case(CaseFiles(paths["dwi"], paths["b0"], brain=empty))


def test_stray_voxels_are_cleaned_and_counted(head, tmp_path: Path) -> None:
    dwi = head.dwi.copy()
    dwi[0, 0, :3] = np.nan
    dwi[0, 1, :3] = -4
    paths = head.save(tmp_path, dwi=dwi, b0=head.b0)
    case = open_case(CaseFiles(**paths))
    assert {"non-finite-voxels", "negative-voxels"} <= codes(case)
    assert np.isfinite(case.dwi.data).all()
    assert case.dwi.data.min() == 0


def test_the_slice_axis_is_the_one_nearest_head_to_foot(head, tmp_path: Path) -> None:
    paths = head.save(tmp_path)
    for order in ((0, 1, 2), (2, 0, 1)):
        affine = head.affine[:, [*order, 3]]
        for name in ("dwi", "b0"):
            data = np.transpose(getattr(head, name), order).astype(np.float32)
            nib.Nifti1Image(data, affine).to_filename(paths[name])
        case = open_case(CaseFiles(paths["dwi"], paths["b0"]))
        assert case.slice_axis == order.index(2)
