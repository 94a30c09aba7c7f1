from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from infarct.cli.demo_scan import demo_files
from infarct.core.errors import ContentError
from infarct.preprocessing.case import Case, CaseFiles
from infarct.preprocessing.companion_alignment import check_alignment
from infarct.preprocessing.load import open_case

SIDES = ("left to right", "front to back", "top to bottom")


@pytest.fixture(scope="module")
def case() -> Case:
    """The demo scan, whose hemispheres differ, in contrast to the synthetic head."""
    return open_case(demo_files())


def codes(name: str, companion: np.ndarray, case: Case) -> list[str]:
    return [found.code for found in check_alignment(name, companion, case.dwi, case.brain)]


@pytest.mark.parametrize("name", ["b0", "adc"])
def test_aligned_images_pass(name: str, case: Case) -> None:
    companion = getattr(case, name).data
    assert codes(name, companion, case) == []
    assert codes(name, 1e-6 * companion + 3, case) == []


@pytest.mark.parametrize(("name", "axis"), [("b0", 0), ("b0", 1), ("b0", 2), ("adc", 0)])
def test_a_mirrored_companion_is_rejected_by_name_and_side(
    name: str, axis: int, case: Case
) -> None:
    message = f"{name}: fits the DWI only when mirrored {SIDES[axis]}"
    with pytest.raises(ContentError, match=message):
        codes(name, np.flip(getattr(case, name).data, axis), case)


def test_the_side_is_that_of_the_head_and_not_of_the_array(case: Case) -> None:
    order = (1, 2, 0)
    affine = case.dwi.affine[:, [*order, 3]]
    dwi = replace(case.dwi, data=case.dwi.data.transpose(order), affine=affine)
    mirrored = np.flip(case.b0.data, 0).transpose(order)
    with pytest.raises(ContentError, match="left to right"):
        check_alignment("b0", mirrored, dwi, case.brain.transpose(order))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shifted_companion_is_reported_with_its_distance(axis: int, case: Case) -> None:
    spacing = float(case.dwi.grid.spacing[axis])
    shift = max(2, round(12 / spacing))
    moved = np.roll(case.b0.data, shift, axis)
    (finding,) = check_alignment("b0", moved, case.dwi, case.brain)
    assert (finding.code, finding.level) == ("misaligned", "warning")
    reported = float(finding.message.split("shifted by ")[1].split(" mm")[0])
    assert reported == pytest.approx(shift * spacing, abs=2.5)


def test_a_head_may_move_by_a_voxel(case: Case) -> None:
    assert codes("b0", np.roll(case.b0.data, 1, 0), case) == []


def test_an_unrelated_image_is_not_reported_as_mirrored(
    case: Case,
) -> None:
    noise = np.random.default_rng(0).normal(100, 20, case.dwi.data.shape).astype(np.float32)
    assert codes("b0", noise, case) == []
    assert codes("b0", np.ones_like(noise), case) == []


def test_a_small_brain_is_not_checked(case: Case) -> None:
    little = case.brain.copy()
    little.flat[np.flatnonzero(little)[2000:]] = False
    mirrored = np.flip(case.b0.data, 0)
    assert check_alignment("b0", mirrored, case.dwi, little) == []


def test_a_mirrored_file_is_rejected(case: Case, tmp_path: Path) -> None:
    wrong = tmp_path / "b0.nii.gz"
    nib.save(nib.Nifti1Image(np.flip(case.b0.data, 0), case.dwi.affine), wrong)
    with pytest.raises(ContentError, match="b0: fits the DWI only when mirrored left to right"):
        open_case(CaseFiles(demo_files().dwi, wrong, bvalue=1000))


def test_real_scans_pass_and_their_mirror_images_do_not(real_data: Path) -> None:
    folder = real_data / "real" / "ads-subject02"
    real = open_case(CaseFiles(folder / "dwi.nii.gz", folder / "b0.nii.gz", folder / "adc.nii.gz"))
    assert "misaligned" not in {finding.code for finding in real.findings}
    for name in ("b0", "adc"):
        with pytest.raises(ContentError, match="left to right"):
            codes(name, np.flip(getattr(real, name).data, 0), real)
