"""Recorded streams: batches are read as written, and none is rendered twice."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from infarct.lab.training.config import CasesSettings, Recipe
from infarct.lab.training.recorded_stream import Recorded, open_recorded
from infarct.lab.training.stream import Batch


class _Counting:
    """A stream whose n-th batch contains n, and that counts its batches."""

    made = 0

    def __init__(self):
        self.next = 0

    def batches(self):
        while True:
            value = torch.full((1, 3, 8, 8, 8), float(self.next))
            mask = torch.zeros(1, 1, 8, 8, 8)
            mask.view(-1)[self.next] = 1
            self.next += 1
            _Counting.made += 1
            yield Batch(value, mask, 1 - mask)

    def head_batches(self):
        yield from ()

    def state_dict(self):
        return {"next": self.next}

    def load_state_dict(self, state):
        self.next = state["next"]


@pytest.fixture
def opened(tmp_path):
    _Counting.made = 0
    return partial(Recorded, _Counting, tmp_path / "record")


def numbers(stream, count):
    batches = stream.batches()
    return [int(next(batches).image.max()) for _ in range(count)]


def test_a_second_run_reads_the_record_of_the_first(opened):
    first = opened().batches()
    again = opened().batches()
    for _ in range(3):
        made, kept = next(first), next(again)
        for name in ("image", "lesion", "brain"):
            assert torch.equal(getattr(made, name), getattr(kept, name))
            assert getattr(kept, name).dtype == torch.float32
    assert _Counting.made == 3


def test_a_longer_run_extends_the_record(opened):
    assert numbers(opened(), 3) == [0, 1, 2]
    assert numbers(opened(), 5) == [0, 1, 2, 3, 4]
    assert _Counting.made == 5


def test_runs_that_overtake_each_other_read_the_same_batches(opened):
    slow, fast = opened(), opened()
    assert numbers(slow, 1) == [0]
    assert numbers(fast, 4) == [0, 1, 2, 3]
    assert numbers(slow, 5) == [1, 2, 3, 4, 5]


def test_a_recorded_stream_resumes_exactly(opened):
    stream = opened()
    numbers(stream, 3)
    resumed = opened()
    resumed.load_state_dict(stream.state_dict())
    assert numbers(resumed, 2) == [3, 4]


def test_a_gap_is_filled_with_the_original_batch(opened, tmp_path):
    numbers(opened(), 4)
    (tmp_path / "record" / "00002.pt").unlink()
    assert numbers(opened(), 4) == [0, 1, 2, 3]
    assert _Counting.made == 5


def test_other_streams_and_seeds_have_other_records(tmp_path):
    recipe = Recipe("DAGMNet_CH3")
    variants = {
        "as it is": (recipe, 0, "train"),
        "another seed": (recipe, 1, "train"),
        "validation": (recipe, 0, "validation"),
        "no mimics": (replace(recipe, stream={"mimics": False}), 0, "train"),
        "larger batch": (replace(recipe, batch=recipe.batch + 1), 0, "train"),
        "another cohort": (replace(recipe, stream={"cohort": "test"}), 0, "train"),
    }
    for kind, seed, split in variants.values():
        open_recorded(None, kind, tmp_path)(seed, split, "cpu")
    assert len(list(tmp_path.iterdir())) == len(variants)
    same = replace(recipe, network="UNet_CH2", features=3, seed=8)
    open_recorded(None, same, tmp_path)(0, "train", "cpu")
    assert len(list(tmp_path.iterdir())) == len(variants)


def test_real_cases_are_never_recorded(tmp_path):
    recipe = Recipe("DAGMNet_CH3", cases=CasesSettings("somewhere"))
    with pytest.raises(ValueError, match="cannot be recorded"):
        open_recorded(None, recipe, tmp_path)
