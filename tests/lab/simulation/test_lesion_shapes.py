"""Lesion shapes: volume, allowed voxels, and position."""

import numpy as np
import pytest
import torch

from infarct.lab.simulation import lesion_shapes, warp
from infarct.lab.simulation.scan_parameters import Artefacts, Pose, Spot
from infarct.lab.sources.bank import Bank, pack_lesions

STILL = Pose((0, 0, 0), (1, 1, 1), (0, 0, 0), mirrored=False, elastic_mm=0, elastic_distance_mm=30)
NOTHING = Artefacts(
    *(0, 50, (), 0, 0, (), (), (), 2, 0.5, 0, (0, 0), 0, 0, 0, (), (), None, 0, 0.5, ())
)


@pytest.fixture(scope="module")
def way():
    return warp.make(STILL, NOTHING, 0, "cpu")


@pytest.fixture(scope="module")
def real_bank():
    mask = np.zeros(warp.SHAPE, dtype=bool)
    x, y, z = np.ogrid[: warp.SHAPE[0], : warp.SHAPE[1], : warp.SHAPE[2]]
    mask |= ((x - 130) / 14) ** 2 + ((y - 120) / 20) ** 2 + ((z - 90) / 9) ** 2 < 1
    mask[:, 118:124] = False
    return Bank({}, pack_lesions([("drawn", mask)]), {}), mask


def _spot(volume_ml, source=""):
    return Spot("acute", source, "", (30, -12, 12), (1, 1.4, 0.8), volume_ml, 0.4, 1, 0.5, 1.2, 0)


def _whole(box, mask):
    whole = torch.zeros(warp.SHAPE)
    whole[box] = mask
    return whole.numpy() > 0


@pytest.mark.parametrize("volume_ml", [0.03, 1.0, 30.0, 150.0])
def test_synthetic_shapes_have_the_requested_volume(way, real_bank, volume_ml):
    allowed = torch.ones(warp.SHAPE, dtype=torch.bool)
    found = _whole(*lesion_shapes.outline(_spot(volume_ml), real_bank[0], way, allowed, 1))
    assert found.sum() / 1000 == pytest.approx(volume_ml, rel=0.02)
    centre = np.argwhere(found).mean(axis=0)
    np.testing.assert_allclose(centre, warp.voxel((30, -12, 12)), atol=2 + volume_ml ** (1 / 3) * 4)


def test_real_masks_keep_their_shape(way, real_bank):
    bank, mask = real_bank
    allowed = torch.ones(warp.SHAPE, dtype=torch.bool)
    volume_ml = mask.sum() / 1000
    found = _whole(*lesion_shapes.outline(_spot(volume_ml, "drawn"), bank, way, allowed, 1))
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.9


def test_spots_stay_within_the_allowed_voxels(way, real_bank):
    allowed = torch.zeros(warp.SHAPE, dtype=torch.bool)
    allowed[100:150, 100:150, 60:120] = True
    allowed[:, :, 90] = False
    for source in ("", "drawn"):
        found = _whole(*lesion_shapes.outline(_spot(20.0, source), real_bank[0], way, allowed, 1))
        assert found.any()
        assert not found[~allowed.numpy()].any()


def test_no_allowed_voxels_give_an_empty_mask(way, real_bank):
    allowed = torch.zeros(warp.SHAPE, dtype=torch.bool)
    found = _whole(*lesion_shapes.outline(_spot(5.0), real_bank[0], way, allowed, 1))
    assert not found.any()
