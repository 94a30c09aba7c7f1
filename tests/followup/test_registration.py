"""Rigid registration of two scans: recovers known moves, symmetric, and tells brains apart."""

import numpy as np
import pytest
from heads import AFFINE, make_head, rigid

from infarct.core.errors import FollowUpError
from infarct.followup.registration import align, half, mean_rigid, nearest_rigid

MOVES = [
    rigid((0, 0, 0), (0, 0, 0)),
    rigid((4, -2, 5), (3, -4, 6)),
    rigid((-6, 3, -8), (-5, 8, -7)),
]


def farthest_mm(one, other):
    """Largest distance over the surface of the brain."""
    directions = np.random.default_rng(0).normal(size=(200, 3))
    points = directions / np.linalg.norm(directions, axis=1, keepdims=True) * (66, 82, 52)
    return np.linalg.norm(points @ (one - other)[:3, :3].T + (one - other)[:3, 3], axis=1).max()


@pytest.mark.parametrize("move", MOVES)
def test_known_moves_are_recovered(move):
    first = make_head(1, noise_seed=1)
    second = make_head(1, noise_seed=2, move=np.linalg.inv(move))
    found = align(first, second)
    assert farthest_mm(found.second_from_first, move) < 2.0
    assert found.disagreement_mm < 1.0
    assert found.overlap > 0.93
    assert found.similarity > 0.8


def test_exchanging_the_scans_gives_the_inverse():
    first = make_head(1, noise_seed=1)
    second = make_head(1, noise_seed=2, move=MOVES[1])
    one, other = align(first, second), align(second, first)
    together = one.second_from_first @ other.second_from_first
    assert np.abs(together - np.eye(4)).max() < 1e-6
    assert one.overlap == pytest.approx(other.overlap, abs=0.01)
    assert one.similarity == pytest.approx(other.similarity, abs=0.01)


def test_another_brain_is_less_similar():
    found = align(make_head(1), make_head(2))
    assert found.similarity < 0.5


def test_brains_that_never_overlap_are_refused():
    first = make_head(1)
    far = np.eye(4)
    far[:3, 3] = 4000.0
    second = make_head(1)
    shifted = type(second)(
        type(second.b0)(second.b0.data, far @ AFFINE),
        type(second.adc)(second.adc.data, far @ AFFINE),
        second.brain,
        second.lesion,
        np.eye(4),
    )
    with pytest.raises(FollowUpError, match="do not overlap"):
        align(first, shifted)


def test_the_mean_of_rigid_transforms_is_rigid_and_inverse_consistent():
    one, other = MOVES[1], MOVES[2]
    mean = mean_rigid(one, other)
    assert mean[:3, :3] @ mean[:3, :3].T == pytest.approx(np.eye(3), abs=1e-9)
    inverse = mean_rigid(np.linalg.inv(one), np.linalg.inv(other))
    assert inverse @ mean == pytest.approx(np.eye(4), abs=1e-9)
    assert mean_rigid(one, one) == pytest.approx(one)
    assert half(one) @ half(one) == pytest.approx(one)


def test_the_nearest_rigid_transform_removes_scaling_and_keeps_the_centre():
    centre = np.array([10.0, -20.0, 5.0])
    affine = MOVES[1] @ np.diag([1.1, 0.9, 1.05, 1])
    found = nearest_rigid(affine, centre)
    assert found[:3, :3] == pytest.approx(MOVES[1][:3, :3])
    assert found @ [*centre, 1] == pytest.approx(affine @ [*centre, 1])
