"""Spatial transforms: pose, mirroring, and signal-preserving distortion."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from infarct.lab.simulation import warp
from infarct.lab.simulation.scan_parameters import Artefacts, Bump, Pose

STILL = Pose((0, 0, 0), (1, 1, 1), (0, 0, 0), mirrored=False, elastic_mm=0, elastic_distance_mm=30)
NOTHING = Artefacts(
    *(0, 50, (), 0, 0, (), (), (), 2, 0.5, 0, (0, 0), 0, 0, 0, (), (), None, 0, 0.5, ())
)


@pytest.fixture(scope="module")
def volume():
    return torch.arange(np.prod(warp.SHAPE), dtype=torch.int32).reshape(warp.SHAPE)


def test_identity_pose_is_the_identity(volume):
    way = warp.make(STILL, NOTHING, 0, "cpu")
    assert torch.equal(warp.nearest(volume, way), volume)
    assert torch.equal(way.gain, torch.ones(warp.SHAPE))


def test_shift_moves_the_head_in_the_given_direction(volume):
    way = warp.make(replace(STILL, shift_mm=(3, -2, 5)), NOTHING, 0, "cpu")
    moved = warp.nearest(volume, way)
    assert moved[50, 60, 70] == volume[47, 62, 65]
    np.testing.assert_allclose(warp.moved((0, 0, 0), way.target_from_source), (99, 130, 83))


def test_points_and_voxels_move_together():
    """The maximum of a bump is at the transformed position of its centre."""
    pose = replace(
        STILL, rotation_deg=(10, -5, 8), scale=(1.05, 0.95, 0.9), shift_mm=(2, 1, -4), mirrored=True
    )
    forward = warp.target_from_source(pose)
    hill = warp.hills([Bump("x", (30, -20, 15), (4, 4, 4), 2.0)], forward, "cpu")
    top = np.unravel_index(int(hill.argmax()), warp.SHAPE)
    way = warp.make(pose, NOTHING, 0, "cpu")
    source = [float(at[top]) for at in way.source]
    np.testing.assert_allclose(source, warp.voxel((30, -20, 15)), atol=1.0)
    assert float(hill.max()) == pytest.approx(2.0, rel=0.05)


def test_interpolation_samples_the_right_position():
    ramp = torch.arange(192.0)[:, None, None].expand(warp.SHAPE).contiguous()
    way = warp.make(replace(STILL, shift_mm=(0.25, 0, 0)), NOTHING, 0, "cpu")
    box = (slice(40, 60), slice(50, 60), slice(30, 40))
    found = warp.interpolate(ramp[None], way, np.eye(4), box)[0]
    expected = ramp[box] - 0.25
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_distortion_preserves_the_signal():
    """Stretching reduces the signal, so the sum along A-P is unchanged."""
    bend = Bump("air", (0, 0, 0), (15, 15, 15), 6.0)
    way = warp.make(STILL, replace(NOTHING, susceptibility=(bend,)), 0, "cpu")
    source = torch.zeros(warp.SHAPE)
    source[:, 60:200] = torch.linspace(1, 2, 140)[None, :, None]
    seen = warp.interpolate(source[None], way, np.eye(4))[0] * way.gain
    assert float((seen - source).abs().max()) > 0.1
    torch.testing.assert_close(seen.sum(dim=1), source.sum(dim=1), rtol=2e-3, atol=1e-3)
