"""Averaging the weights of several runs."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from infarct.core.errors import InputFileError, OutputError
from infarct.lab.networks import build
from infarct.lab.training import weight_averaging
from infarct.lab.training.checkpoint import (
    Position,
    Weights,
    make_learner,
    read_weights,
    write_weights,
)
from infarct.lab.training.config import Recipe
from infarct.lab.training.log import read_log
from infarct.lab.training.validation import Scores
from infarct.lab.training.weight_averaging import average, write_average

RECIPE = Recipe("DAGMNet_CH3", features=4, note="The last one.")


def weights(seed: int, recipe: Recipe = RECIPE) -> Weights:
    torch.manual_seed(seed)
    network = build(recipe.network, recipe.features)
    position = Position(step=5, samples=10, seconds=60.0 * seed, epochs=1)
    return Weights(recipe, position, network.state_dict())


def test_each_weight_is_the_mean_and_training_time_is_summed() -> None:
    first, second, third = weights(1), weights(2), weights(3)
    mean = average([first, second, third])
    for name, tensor in mean.weights.items():
        parts = [w.weights[name] for w in (first, second, third)]
        expected = sum(parts) / 3 if tensor.is_floating_point() else parts[-1]
        assert torch.allclose(tensor, expected, atol=1e-6)
    assert (mean.position.samples, mean.position.seconds) == (30, 360.0)
    assert mean.recipe.note.startswith("Mean of the weights of 3 runs")
    mean.network()


def test_the_mean_of_equal_networks_is_the_same_network() -> None:
    one = weights(1)
    image = torch.randn(1, 3, 16, 16, 8)
    with torch.no_grad():
        expected, found = (w.network()(image)[0] for w in (one, average([one, one])))
    assert torch.allclose(expected, found, atol=1e-5)


def test_mismatched_networks_are_rejected() -> None:
    wide, unlike = (
        weights(2, replace(RECIPE, **change))
        for change in ({"features": 8}, {"network": "UNet_CH3"})
    )
    for several in ([weights(1)], [weights(1), unlike]):
        with pytest.raises(InputFileError, match="runs of the same network"):
            average(several)
    with pytest.raises(InputFileError, match="not narrowed"):
        average([wide, weights(1)])


def test_a_narrow_run_is_widened_as_in_the_run_that_continued_it(tmp_path: Path) -> None:
    narrow = weights(1)
    write_weights(tmp_path / "narrow.pt", RECIPE, narrow.position, narrow.network())
    recipe = replace(RECIPE, features=8, seed=9, start=str(tmp_path / "narrow.pt"))
    untrained = make_learner(recipe, 0, "cpu").network
    wide = Weights(recipe, Position(), untrained.state_dict())
    mean = average([read_weights(tmp_path / "narrow.pt"), wide])
    for name, tensor in wide.weights.items():
        assert torch.allclose(mean.weights[name], tensor)


def test_a_mean_is_written_like_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = "minutes,samples,epoch,rate,samples_per_s,loss,dice,validation_loss,validation_dice,"
    for seed in (1, 2):
        run, w = tmp_path / f"run{seed}", weights(seed)
        run.mkdir()
        write_weights(run / "weights.pt", w.recipe, w.position, w.network())
        row = f"{seed}.00,10,1,0.1,1,2.0,0.5,2.0,0.4,7\n"
        (run / "log.csv").write_text(f"{header}false_voxels\n{row}")
    monkeypatch.setattr(weight_averaging, "score_weights", lambda *_: Scores(1.0, 0.6, 3.0))
    runs = [tmp_path / "run1", tmp_path / "run2"]
    write_average(runs, None, tmp_path / "mean")
    rows = read_log(tmp_path / "mean/log.csv")
    assert [row["minutes"] for row in rows] == ["1.00", "3.00", "3.00"]
    assert [row["samples"] for row in rows] == ["10", "20", "20"]
    assert rows[-1]["validation_dice"] == "0.6"
    assert (tmp_path / "mean/curve.png").stat().st_size > 1000
    assert read_weights(tmp_path / "mean/weights.pt").position.best == 0.6
    with pytest.raises(OutputError, match="exists"):
        write_average(runs, None, tmp_path / "mean")
