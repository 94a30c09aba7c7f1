"""Anatomies: classes, rims, alignment, and the head built from the ICBM maps."""

import numpy as np
import pytest
from scipy import ndimage

from infarct.core.geometry import MNI_GRID
from infarct.lab.sources import anatomy, templates
from infarct.lab.sources.tissue_classes import RIM_SHIFT, Tissue


@pytest.fixture(scope="module")
def icbm():
    return templates.icbm_tissue()


@pytest.fixture(scope="module")
def head(icbm):
    return anatomy.from_icbm(icbm)


def _ml(mask):
    return mask.sum() / 1000


def test_freesurfer_labels_map_to_tissue_classes():
    labels = np.array([0, 2, 41, 3, 42, 16, 4, 43, 24, 506, 515])
    expected = [
        *(Tissue.AIR, Tissue.WHITE, Tissue.WHITE, Tissue.CORTEX, Tissue.CORTEX, Tissue.BRAINSTEM),
        *(Tissue.VENTRICLE, Tissue.VENTRICLE, Tissue.CSF, Tissue.EYE, Tissue.BONE),
    ]
    np.testing.assert_array_equal(anatomy.from_freesurfer(labels), expected)


def test_icbm_head_has_plausible_volumes(head):
    assert 1300 < _ml(anatomy.is_parenchyma(head)) < 2000
    assert 100 < _ml((head == Tissue.CEREBELLAR_WHITE) | (head == Tissue.CEREBELLAR_CORTEX)) < 300
    assert 15 < _ml(head == Tissue.BRAINSTEM) < 60
    assert 5 < _ml(head == Tissue.VENTRICLE) < 60
    _, eyes = ndimage.label(head == Tissue.EYE)
    assert eyes == 2
    surroundings = head[ndimage.binary_dilation(head == Tissue.CORTEX)]
    assert not np.isin(surroundings, (Tissue.SKIN, Tissue.AIR)).any()


def test_rims_keep_the_tissue_and_encode_the_distance(head):
    code = anatomy.with_rims(head)
    tissue, rim = code % RIM_SHIFT, code // RIM_SHIFT
    np.testing.assert_array_equal(tissue, head)
    fluid = ndimage.distance_transform_cdt(head != Tissue.CSF, "taxicab")
    assert (fluid[(tissue == Tissue.CORTEX) & (rim == 1)] == 1).all()
    ventricle = ndimage.distance_transform_cdt(head != Tissue.VENTRICLE, "taxicab")
    parenchyma = anatomy.is_parenchyma(tissue)
    for distance in (1, 2, 3):
        assert (ventricle[parenchyma & (rim == 1 + distance)] == distance).all()
    assert rim[(tissue != Tissue.CSF) & (tissue != Tissue.VENTRICLE) & ~parenchyma].max() == 0


def test_align_undoes_a_pose(head, icbm):
    """A rotated, scaled and flipped head is aligned to its original position."""
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    scale = np.diag([0.92, 0.9, 0.95, 1.0])
    shift = np.eye(4)
    shift[:3, 3] = (6, -12, 20)
    small = head[::2, ::2, ::2]
    affine = turn @ scale @ shift @ MNI_GRID.affine @ np.diag([2, 2, 2, 1.0])
    found, _ = anatomy.align(small[::-1], affine @ _flip_x(small.shape[0]), icbm)
    brain, expected = anatomy.is_parenchyma(found), anatomy.is_parenchyma(head)
    assert 2 * (brain & expected).sum() / (brain.sum() + expected.sum()) > 0.93


def _flip_x(size):
    flip = np.eye(4)
    flip[0, 0], flip[0, 3] = -1, size - 1
    return flip
