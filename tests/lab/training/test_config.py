"""Recipes: every key of the file is validated and used."""

from __future__ import annotations

from pathlib import Path

import pytest

from infarct.core import assets
from infarct.core.errors import InputFileError
from infarct.lab.networks import DESIGNS
from infarct.lab.training import config
from infarct.lab.training.checkpoint import make_learner, read_weights
from infarct.lab.training.config import Recipe, Stage, changed, parse, read, to_dict

PATHS = sorted(config.PACKAGED.glob("*.toml"))


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_bundled_recipes_are_found_by_name_and_valid(path: Path) -> None:
    recipe = read(path.stem)
    assert recipe == read(path)
    assert recipe.network in DESIGNS
    assert recipe.note
    assert recipe.stages[-1].until == 1.0
    assert all(size % 8 == 0 for stage in recipe.stages for size in stage.window)


@pytest.mark.parametrize(
    "name", [p.stem for p in PATHS if read(p).start and "/" not in read(p).start]
)
def test_fine_tuning_recipes_match_the_bundled_network(name: str) -> None:
    recipe = read(name)
    shipped = read_weights(assets.path(f"networks/{recipe.start}.pt"))
    started = make_learner(recipe, 0, "cpu").network.state_dict()
    assert started.keys() == shipped.weights.keys()


def test_the_paper_recipe_matches_the_paper() -> None:
    recipe = read("paper")
    assert (recipe.network, recipe.batch, recipe.epochs) == ("DAGMNet_CH3", 4, 200)
    rate, loss, check = recipe.rate, recipe.loss, recipe.validation
    assert (rate.peak, rate.schedule, rate.factor) == (3e-4, "plateau", 0.5)
    assert (rate.patience, rate.floor, rate.weight_decay) == (5, 1e-5, 0.0)
    assert (loss.dice, loss.bce, loss.l1, loss.side, loss.balance) == (1.0, 1.0, 1e-5, 1.0, 1.0)
    assert (check.snapshot_every, check.stop_after) == (10, 100)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('network = "BrainMask"\nfeaturs = 8', "featurs"),
        ('network = "BrainMask"\n[rate]\npeek = 1e-3', r"rate\.peek"),
        ('network = "BrainMask"\n[[stages]]\nunti = 1.0', r"stages\.unti"),
        ('network = "BrainMask"\nbatch = "four"', "batch = 'four'"),
        ('network = "BrainMask"\nbatch = true', "batch = True"),
        ('network = "BrainMask"\nbatch = 1.5', r"batch = 1\.5"),
        ('network = "BrainMask"\n[rate]\nschedule = "step"', r"rate\.schedule = 'step'"),
        ('network = "BrainMask"\n[[stages]]\nwindow = [8, 8]', r"stages\.window"),
        ("batch = 4", "missing key network"),
        ('network = "FCN_CH4"', "network = 'FCN_CH4': choose from DAGMNet_CH3"),
        ('network = "FCN_CH2"\n[stream]\nphase = 4', r"stream\.phase;"),
        (
            'network = "FCN_CH2"\n[stream]\nphases_per_volume = 0',
            r"stream\.phases_per_volume = 0: must be in 1",
        ),
        ('network = "FCN_CH2"\nbatch = 4\n[shelf]\nsize = 2', r"shelf\.size = 2"),
        ('network = "FCN_CH2"\n[shelf]\nsize = 4\nreuse = 0', r"shelf\.reuse = 0"),
        ("network = ", "Invalid"),
        ('network = "FCN_CH2"\nepochs = -1', r"epochs = -1: must be in 1"),
        ('network = "FCN_CH2"\nbatch = 0', r"batch = 0: must be in 1"),
        ('network = "FCN_CH2"\nema = 1.5', r"ema = 1\.5: must be in 0 - 1"),
        ('network = "FCN_CH2"\nminutes = inf', "minutes = inf"),
        ('network = "FCN_CH2"\n[rate]\npeak = nan', r"rate\.peak = nan"),
        ('network = "FCN_CH2"\n[rate]\npeak = 0', r"rate\.peak = 0"),
        ('network = "FCN_CH2"\n[rate]\nfloor = 0.01', r"rate\.floor = 0\.01 is above"),
        ('network = "FCN_CH2"\n[rate]\npeak = 1' + "0" * 400, r"rate\.peak = 1e\+300"),
        ('network = "FCN_CH2"\nepochs = 1' + "0" * 400, r"epochs = 10+\.\.\.: must be in"),
        ('network = "FCN_CH2"\nepochs = 1' + "0" * 5000, "digits"),
        ('network = "FCN_CH2"\nnote = ' + "[" * 3000 + "]" * 3000, "nested"),
        ('network = "FCN_CH2"\nnote = ' + "[" * 50 + "]" * 50, "note = a list: must be str"),
        ('network = "FCN_CH2"\n[loss]\ndice = -1', r"loss\.dice = -1"),
        ('network = "FCN_CH2"\n[stream]\nlesion_free = 2', r"stream\.lesion_free = 2"),
        ('network = "FCN_CH2"\n[[stages]]\nwindow = [8, 8, 9]', "divisible by 8"),
        ('network = "FCN_CH2"\n[[stages]]\nuntil = 0.5', r"stages\.until = \[0\.5\]"),
    ],
)
def test_invalid_recipes_are_rejected(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InputFileError, match=complaint):
        read(written(tmp_path, text))


def test_a_missing_recipe_lists_the_bundled_ones() -> None:
    with pytest.raises(InputFileError, match="paper"):
        read("no-such-recipe")


def test_a_recipe_survives_a_round_trip_through_a_checkpoint(tmp_path: Path) -> None:
    text = (
        'network = "UNet_CH2"\nminutes = 3\n[[stages]]\nuntil = 0.5\nwindow = [48, 56, 24]\n'
        "[[stages]]\n[stream]\nlesion_free = 0.3\n"
    )
    recipe = read(written(tmp_path, text))
    assert recipe.minutes == 3.0
    assert recipe.stages == (Stage(0.5, (48, 56, 24)), Stage())
    assert parse(Recipe, to_dict(recipe)) == recipe
    assert changed(recipe, None, None) == recipe
    assert changed(recipe, 0.0, None).minutes == 0  # no limit


def test_stages_follow_in_order() -> None:
    first, last = Stage(0.5, (48, 56, 24)), Stage()
    recipe = Recipe("UNet_CH2", stages=(first, last))
    assert [recipe.stage(p) for p in (0.0, 0.49, 0.5, 1.0)] == [first, first, last, last]
