"""Validation on real cases."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_loop import RECIPE, TINY, SphereStream

from infarct.core.errors import InputFileError
from infarct.lab.training import config, model_card
from infarct.lab.training.checkpoint import read_weights
from infarct.lab.training.config import CasesSettings, ValidationSettings
from infarct.lab.training.log import read_log
from infarct.lab.training.loop import train
from infarct.lab.training.real_cases import read_case
from infarct.lab.training.validation import REAL_PHASES, fixed_set, score

FACTS = model_card.Facts(Path(__file__), "", 0.0)


@pytest.fixture
def real_cases(tmp_path: Path) -> Path:
    """Write two prepared cases: one half of which is bright lesion, and a lesion-free one."""
    folder = tmp_path / "cases"
    folder.mkdir()
    for k, bright in enumerate((3.0, 0.0)):
        lesion = np.zeros((1, 32, 32, 32), dtype=bool)
        lesion[:, :16] = bright > 0
        image = np.repeat(np.where(lesion, bright, 0.0), 3, axis=0).astype(np.float16)
        np.savez(folder / f"case{k}.npz", image=image, lesion=lesion, brain=np.ones_like(lesion))
    return folder


class Bright(torch.nn.Module):
    """A network that segments bright voxels regardless of training."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        """Return a logit for each voxel."""
        return (image[:, :1] - 1.5,)


def test_real_cases_are_scored_in_addition_to_synthetic_ones(
    tmp_path: Path, real_cases: Path
) -> None:
    recipe = config.changed(replace(RECIPE, epochs=2), None, real_cases)
    train(recipe, SphereStream, tmp_path / "run")
    rows = [r for r in read_log(tmp_path / "run/log.csv") if r["validation_dice"]]
    assert all(0 <= float(row["real_dice"]) <= 1 for row in rows)
    assert all(float(row["real_false_voxels"]) >= 0 for row in rows)
    kept = fixed_set(SphereStream, recipe, "cpu")
    scores = score(Bright(), kept, recipe.loss, "cpu")
    assert (scores.real_dice, scores.real_false_voxels) == (1.0, 0.0)
    # Neither training nor the selection of weights depends on them.
    train(replace(RECIPE, epochs=2), SphereStream, tmp_path / "without")
    without = [r for r in read_log(tmp_path / "without/log.csv") if r["validation_dice"]]
    assert not any(row["real_dice"] for row in without)
    assert [r["validation_dice"] for r in rows] == [r["validation_dice"] for r in without]


def test_every_slice_of_a_real_case_is_scored(real_cases: Path) -> None:
    lesion = np.zeros((1, 32, 32, 32), dtype=bool)
    for z in range(32):
        lesion[...] = False
        lesion[:, :, :, z] = True
        image = np.zeros((3, 32, 32, 32), dtype=np.float16)
        np.savez(real_cases / "case0.npz", image=image, lesion=lesion, brain=lesion | True)
        parts = read_case(real_cases / "case0.npz", REAL_PHASES)
        assert sum(float(part[1].sum()) for part in parts) > 0


def test_unsuitable_validation_cases_are_rejected(tmp_path: Path, real_cases: Path) -> None:
    same = replace(
        config.changed(RECIPE, None, real_cases), cases=CasesSettings(f"{real_cases}/../cases")
    )
    with pytest.raises(InputFileError, match="cannot be validated on its training cases"):
        fixed_set(SphereStream, same, "cpu")
    brain = replace(config.changed(RECIPE, None, real_cases), network="BrainMask")
    with pytest.raises(InputFileError, match="BrainMask cannot use prepared cases; remove"):
        fixed_set(SphereStream, brain, "cpu")
    with pytest.raises(InputFileError, match="prepare-cases"):
        fixed_set(SphereStream, config.changed(RECIPE, None, tmp_path / "none"), "cpu")
    np.savez(real_cases / "bank.npz", x=1)
    with pytest.raises(InputFileError, match=r"bank\.npz: not a prepared case"):
        fixed_set(SphereStream, config.changed(RECIPE, None, real_cases), "cpu")


def test_real_cases_are_scored_without_a_synthetic_set(tmp_path: Path, real_cases: Path) -> None:
    unscored = replace(TINY, epochs=1, validation=ValidationSettings(samples=0))
    train(config.changed(unscored, None, real_cases), SphereStream, tmp_path / "run")
    last = read_log(tmp_path / "run/log.csv")[-1]
    assert 0 <= float(last["real_dice"]) <= 1
    assert not last["validation_loss"] + last["validation_dice"] + last["false_voxels"]
    assert not (tmp_path / "run/best.pt").exists()
    card = model_card.write(read_weights(tmp_path / "run/weights.pt"), tmp_path / "run", FACTS)
    assert f"\nDice {last['real_dice']} on real cases not used for training.\n" in card
