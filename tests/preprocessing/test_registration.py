from dataclasses import replace

import numpy as np
import pytest

from infarct.core.errors import RegistrationError
from infarct.core.geometry import Grid
from infarct.core.nifti import Volume
from infarct.core.resampling import resample
from infarct.preprocessing import registration as register_room
from infarct.preprocessing.case import CaseFiles
from infarct.preprocessing.load import open_case
from infarct.preprocessing.registration import InPlane, refine, register
from infarct.preprocessing.templates import load_template


def place(head, tmp_path, brain=None):
    case = open_case(CaseFiles(**head.save(tmp_path)))
    template = load_template()
    return register(case.b0, case.brain if brain is None else brain, template.b0, template.brain)


def scan_of(native_from_mni: np.ndarray, grid: Grid) -> tuple[Volume, np.ndarray]:
    """Simulate a scan of the template with the given position; return b0 and brain."""
    template = load_template()
    mni_from_native = np.linalg.inv(native_from_mni)
    share = Volume(template.brain.astype(np.float32), template.b0.affine)
    brain = resample(share, grid, mni_from_native) > 0.5
    return Volume(resample(template.b0, grid, mni_from_native), grid.affine), brain


def scan_of_a_tilted_head() -> tuple[Volume, np.ndarray, np.ndarray]:
    """Scan the template as a head that is tilted by 8 degrees and a tenth lower than MNI.

    Returns:
        b0, brain, and the true native_from_mni.
    """
    tilt = np.deg2rad(8.0)
    native_from_mni = np.eye(4)
    native_from_mni[1:3, 1:3] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    native_from_mni = native_from_mni @ np.diag([0.97, 1.0, 0.9, 1.0])
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    affine[:3, 3] = (-96.0, -130.0, -85.0)
    grid = Grid((96, 112, 34), affine)
    b0, brain = scan_of(native_from_mni, grid)
    noise = np.random.default_rng(3).normal(0, 6, grid.shape)
    return b0.like((b0.data * 300 + noise).astype(np.float32)), brain, native_from_mni


def test_the_affine_recovers_a_tilt() -> None:
    b0, brain, native_from_mni = scan_of_a_tilted_head()
    template = load_template()
    found = register(b0, brain, template.b0, template.brain)
    refined = refine(b0, brain, template.b0, found)
    assert refined.affine
    assert refined.reason == ""
    points = np.array([[-50, -70, -40, 1], [50, 40, 20, 1], [0, -20, 60, 1], [-40, 10, -25, 1]]).T

    def error_mm(matrix: np.ndarray) -> float:
        apart = (matrix @ native_from_mni - np.eye(4)) @ points
        return float(np.linalg.norm(apart[:3], axis=0).mean())

    assert error_mm(refined.mni_from_native) < 2.5
    assert error_mm(found.mni_from_native) > 2 * error_mm(refined.mni_from_native)


def test_a_slab_and_a_wild_affine_keep_the_in_plane_transform(monkeypatch) -> None:
    b0, brain, _ = scan_of_a_tilted_head()
    template = load_template()
    found = register(b0, brain, template.b0, template.brain)
    slab = brain.copy()
    slab[:, :, :20] = slab[:, :, 30:] = False
    short = refine(b0, slab, template.b0, found)
    assert not short.affine
    assert "mm of the brain along z" in short.reason
    assert short.mni_from_native is found.mni_from_native
    monkeypatch.setattr(register_room, "_FARTHEST_MM", 1.0)
    wild = refine(b0, brain, template.b0, found)
    assert not wild.affine
    assert "moved the brain" in wild.reason
    assert np.array_equal(wild.mni_from_native, found.mni_from_native)


def test_recovers_the_position_of_the_head(head, tmp_path) -> None:
    found = place(head, tmp_path)
    turn = np.deg2rad(4.0)
    truth = np.eye(4)
    truth[:2, :2] = [
        [0.97 * np.cos(turn), -0.94 * np.sin(turn)],
        [0.97 * np.sin(turn), 0.94 * np.cos(turn)],
    ]
    truth[:3, 3] = (3.0, 9.0, -12.0)
    corners = np.array([[-60, -90, -40, 1], [60, 60, 60, 1], [0, 0, 0, 1], [-60, 60, 60, 1]]).T
    apart = (found.mni_from_native @ truth - np.eye(4)) @ corners
    assert np.abs(apart).max() < 3.0


@pytest.mark.parametrize("turned_deg", [25.0, -35.0])
def test_a_rotated_head_is_registered(turned_deg: float) -> None:
    template = load_template()
    turn = np.deg2rad(turned_deg)
    native_from_mni = np.eye(4)
    native_from_mni[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine = np.diag([2.5, 2.5, 5.0, 1.0])
    affine[:3, 3] = (-120.0, -140.0, -80.0)
    b0, brain = scan_of(native_from_mni, Grid((96, 104, 36), affine))
    found = register(b0, brain, template.b0, template.brain)
    assert np.rad2deg(found.in_plane.rotation) == pytest.approx(-turned_deg, abs=1.0)
    apart = (found.mni_from_native @ native_from_mni - np.eye(4)) @ [50, -70, 30, 1]
    assert np.linalg.norm(apart[:3]) < 2.0


def test_slices_are_not_tilted(head, tmp_path) -> None:
    found = place(head, tmp_path)
    z = found.mni_from_voxel[2]
    assert z[:2] == pytest.approx([0, 0], abs=1e-12)
    assert abs(z[2]) == pytest.approx(5.0)  # the slice distance is kept


def test_the_two_matrices_agree(head, tmp_path) -> None:
    found = place(head, tmp_path)
    assert found.mni_from_native @ head.affine == pytest.approx(found.mni_from_voxel)


def test_same_input_same_output(head, tmp_path) -> None:
    assert place(head, tmp_path).in_plane == place(head, tmp_path).in_plane


def test_a_slab_is_registered_to_its_position(head, tmp_path) -> None:
    whole = place(head, tmp_path / "whole")
    cut = slice(17, 29)
    affine = head.affine.copy()
    affine[2, 3] = 500.0  # the header knows nothing of where the slab lies in the head
    names = ("dwi", "b0", "adc", "lesion", "brain")
    slab = replace(head, affine=affine, **{n: getattr(head, n)[:, :, cut] for n in names})
    part = place(slab, tmp_path / "slab", brain=slab.brain)
    first = np.array([56, 64, 0, 1.0])
    assert (part.mni_from_voxel @ first)[:3] == pytest.approx(
        (whole.mni_from_voxel @ (first + np.array([0, 0, 17, 0])))[:3], abs=4.0
    )


def test_in_plane_matrix_scales_then_rotates() -> None:
    matrix = InPlane((1.0, 2.0, 3.0), (1.1, 0.9), np.pi / 2).matrix
    assert matrix @ [1, 0, 0, 1] == pytest.approx([1.0, 3.1, 3.0, 1])
    assert matrix @ [0, 1, 0, 1] == pytest.approx([0.1, 2.0, 3.0, 1])
    assert matrix @ [0, 0, 1, 1] == pytest.approx([1.0, 2.0, 4.0, 1])


def test_an_empty_image_is_rejected() -> None:
    template = load_template()
    flat = Volume(np.zeros((32, 32, 8), np.float32), np.diag([2.0, 2.0, 5.0, 1.0]))
    brain = np.zeros(flat.data.shape, bool)
    brain[10:20, 10:20, 2:6] = True
    with pytest.raises(RegistrationError):
        register(flat, brain, template.b0, template.brain)
