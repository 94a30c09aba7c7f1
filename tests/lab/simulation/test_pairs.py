"""Pairs: the same patient, and only the change that was asked for."""

import json

import numpy as np
import pytest

from infarct.core.nifti import read
from infarct.lab.simulation.cohort import Cohort
from infarct.lab.simulation.pairs import CHANGES, draw_pair, make_pair

COHORT = Cohort(volume_ml=20.0, volume_log_sd=0.3, snr=(30.0, 60.0), thickness_mm=(5.0, 6.0))


def volumes(record):
    return [spot.volume_ml for spot in record.lesions]


@pytest.mark.parametrize("change", CHANGES)
def test_the_patient_stays_the_same(bank, change):
    pair = draw_pair(COHORT, bank, change, 1, 0)
    for name in ("seed", "anatomy", "background", "pose", "contrast", "mimics", "white_spots"):
        assert getattr(pair.first, name) == getattr(pair.second, name)
    assert pair.second_noise != pair.first.seed
    assert pair.second_from_first[:3, :3] @ pair.second_from_first[:3, :3].T == pytest.approx(
        np.eye(3)
    )


def test_each_change_has_its_volumes(bank):
    for index in range(5):
        pairs = {change: draw_pair(COHORT, bank, change, 1, index) for change in CHANGES}
        assert pairs["retest"].first.lesions == pairs["retest"].second.lesions
        assert volumes(pairs["stable"].first) == volumes(pairs["stable"].second)
        assert sum(volumes(pairs["grown"].first)) * 1.2 <= sum(volumes(pairs["grown"].second))
        assert sum(volumes(pairs["reversed"].second)) <= 0.8 * sum(volumes(pairs["reversed"].first))
        before, after = volumes(pairs["emboli"].first), volumes(pairs["emboli"].second)
        assert after[: len(before)] == before
        assert len(after) > len(before)


def test_a_grown_infarct_contains_the_earlier_one(bank, tmp_path):
    make_pair(COHORT, bank, "grown", 1, 0, tmp_path)
    facts = json.loads((tmp_path / "pair.json").read_text())
    assert facts["infarct_ml"][0] < facts["infarct_ml"][1]
    first, second = (read(tmp_path / number / "lesion.nii.gz") for number in "12")
    second_from_first = np.array(facts["second_from_first"])
    at = np.argwhere(first.data > 0)
    voxel = np.linalg.inv(second.affine) @ second_from_first @ first.affine
    there = np.rint(at @ voxel[:3, :3].T + voxel[:3, 3]).astype(int)
    there = np.clip(there, 0, np.array(second.data.shape) - 1)
    assert (second.data[tuple(there.T)] > 0).mean() > 0.8
