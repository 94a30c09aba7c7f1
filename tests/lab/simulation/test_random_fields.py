"""Noise and smooth fields: statistics, and dependence on seed and name only."""

import numpy as np
import pytest
import torch
from scipy import stats

from infarct.lab.simulation import random_fields


def test_noise_is_standard_normal():
    real, imaginary = random_fields.complex_noise((64, 64, 32), 1, "noise")
    for part in (real, imaginary):
        assert stats.kstest(part.flatten().numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize(("seed", "name"), [(1, "b"), (2, "a")])
def test_other_seeds_and_names_are_independent(seed, name):
    one = random_fields.normal((40, 40, 40), 1, "a").flatten()
    other = random_fields.normal((40, 40, 40), seed, name).flatten()
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.02


def test_neighbours_are_independent():
    noise = random_fields.normal((40, 40, 40), 3, "a")
    for axis in range(3):
        shifted = noise.roll(1, axis)
        assert abs(float((noise * shifted).mean())) < 0.02
    # Correlate distant parts of the sequence to detect a hash with a short period.
    assert abs(float((noise[:20] * noise[20:]).mean())) < 0.02


def test_real_and_imaginary_part_are_independent():
    real, imaginary = random_fields.complex_noise((40, 40, 40), 3, "a")
    assert abs(float((real * imaginary).mean())) < 0.02
    assert abs(float((real**2 * imaginary**2).mean()) - 1) < 0.05


def test_same_seed_and_name_give_the_same_field():
    assert torch.equal(
        random_fields.smooth((20, 21, 22), 5, 7, "x"), random_fields.smooth((20, 21, 22), 5, 7, "x")
    )


def test_smooth_fields_have_unit_variance():
    values = torch.cat(
        [random_fields.smooth((48, 48, 48), 6, seed, "x").flatten() for seed in range(8)]
    )
    assert abs(float(values.mean())) < 0.1
    assert abs(float(values.std()) - 1) < 0.1


def test_smooth_fields_have_the_requested_smoothness():
    for distance in (5.0, 10.0):
        field = random_fields.smooth((60, 60, 60), distance, 0, "x")
        near = float((field[1:] * field[:-1]).mean())
        steps = int(4 * distance)
        far = float((field[steps:] * field[:-steps]).mean())
        assert near > 0.8
        assert abs(far) < 0.15


def test_smoothness_can_differ_between_axes():
    field = random_fields.smooth((60, 60, 60), (4.0, 4.0, 20.0), 0, "x")
    rough = float((field[2:] - field[:-2]).std())
    calm = float((field[:, :, 2:] - field[:, :, :-2]).std())
    assert calm < rough / 2
