"""Training on real patients as in the paper: select on held-out patients, then train on all."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from test_loop import TINY, SphereStream
from test_real_cases import Synthetic
from typer.testing import CliRunner

from infarct.cli.commands.lab import app
from infarct.core.errors import InputFileError
from infarct.lab.training import loop
from infarct.lab.training.checkpoint import Position, make_learner, read_weights, write_weights
from infarct.lab.training.config import (
    CasesSettings,
    RateSettings,
    Recipe,
    ValidationSettings,
    read,
)
from infarct.lab.training.log import COLUMNS, read_log, write_log
from infarct.lab.training.loop import final_recipe, stepped_rate, train
from infarct.lab.training.real_cases import Mixed, on_patients, split_cases
from infarct.lab.training.sources import stream_settings


def prepare(folder: Path, patients: int, sessions: int = 1) -> Path:
    """Write prepared cases whose images contain the number of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    lesion = np.zeros((1, 32, 32, 32), dtype=bool)
    lesion[:, 8:16, 8:16, 8:16] = True
    for patient in range(patients):
        for session in range(sessions):
            end = f"_ses-{session}" if sessions > 1 else ""
            image = np.full((3, 32, 32, 32), patient * sessions + session, np.float16) + lesion
            np.savez(
                folder / f"sub-{patient:02d}{end}.npz",
                image=image,
                lesion=lesion,
                brain=np.ones_like(lesion),
            )
    return folder


def test_the_paper_recipe_uses_one_sub_volume_per_head() -> None:
    assert stream_settings(read("paper"), "train").phases_per_volume == 1


def test_the_rate_is_halved_after_the_fifth_stale_score() -> None:
    learner = make_learner(replace(TINY, rate=RateSettings(peak=1.0, floor=0.2)), 0, "cpu")
    rates = []
    for loss in (3.0, 2.0, *(2.0,) * 5, *(2.0,) * 5, *(2.0,) * 5):
        learner.plateau.step(loss)
        rates.append(learner.optimiser.param_groups[0]["lr"])
    assert rates == [1.0] * 6 + [0.5] * 5 + [0.25] * 5 + [0.2]  # floor


def test_a_fifth_of_the_patients_is_held_out_at_random_with_all_their_sessions(
    tmp_path: Path,
) -> None:
    folder = prepare(tmp_path / "cases", 20, sessions=2)
    splits = []
    for seed in (0, 0, 1):
        learned, held_out = split_cases(CasesSettings(str(folder), 1.0, 0.2, seed))
        assert sorted([*learned, *held_out]) == sorted(folder.glob("*.npz"))
        who, others = ({file.stem[:6] for file in files} for files in (held_out, learned))
        assert (len(who), len(held_out), len(others)) == (4, 8, 16)
        splits.append(who)
    assert splits[0] == splits[1] != splits[2]
    assert split_cases(CasesSettings(str(folder)))[1] == []
    often = Counter(
        file.stem[:6]
        for seed in range(200)
        for file in split_cases(CasesSettings(str(folder), 1.0, 0.2, seed))[1][::2]
    )
    assert len(often) == 20
    assert max(often.values()) < 2 * min(often.values()) + 20
    for file in sorted(folder.glob("*.npz"))[2:]:
        file.unlink()
    with pytest.raises(InputFileError, match="1 patients are too few"):
        split_cases(CasesSettings(str(folder), 1.0, 0.2))


def test_every_patient_is_used_once_per_epoch_and_held_out_ones_never(
    tmp_path: Path,
) -> None:
    settings = CasesSettings(str(prepare(tmp_path / "cases", 10)), 1.0, 0.2)
    learned = [int(file.stem[4:]) for file in split_cases(settings)[0]]
    mixed = Mixed(Synthetic(), settings, batch=4, seed=0)
    drawn = [int(x) for b in islice(mixed.batches(), 6) for x in b.image[:, 0].amin(dim=(1, 2, 3))]
    for start in (0, 8, 16):
        assert sorted(drawn[start : start + 8]) == learned
    assert drawn[:8] != drawn[8:16]
    state = mixed.state_dict()
    rest = [b.image for b in islice(mixed.batches(), 3)]
    again = Mixed(Synthetic(), settings, batch=4, seed=7)
    again.load_state_dict(state)
    assert all(
        torch.equal(a, b.image) for a, b in zip(rest, islice(again.batches(), 3), strict=True)
    )
    recipe = on_patients(replace(TINY, cases=replace(settings, folder="")), tmp_path / "cases", 3)
    assert (recipe.epoch, recipe.cases.split) == (8, 3)


@pytest.fixture
def run(tmp_path: Path) -> tuple[Recipe, Path]:
    """Train a tiny network that is scored on held-out patients only."""
    cases = CasesSettings(str(prepare(tmp_path / "cases", 4)), 1.0, 0.5)
    validation = ValidationSettings(samples=0, snapshot_every=2)
    recipe = replace(TINY, epochs=5, minutes=0.0, cases=cases, validation=validation)
    train(recipe, SphereStream, tmp_path / "run")
    return recipe, tmp_path / "run"


def test_held_out_patients_select_the_best_snapshot(run: tuple[Recipe, Path]) -> None:
    rows = {int(row["epoch"]): row for row in read_log(run[1] / "log.csv") if row["real_dice"]}
    assert list(rows) == [1, 2, 3, 4, 5]
    assert not any(row["validation_dice"] for row in rows.values())
    assert all(float(row["real_loss"]) > 0 for row in rows.values())
    best = read_weights(run[1] / "best.pt").position
    kept = {epoch: float(rows[epoch]["real_dice"]) for epoch in (2, 4, 5)}  # 5: the end
    assert kept[best.epochs] == max(kept.values())
    assert best.lowest == pytest.approx(
        min(float(r["real_loss"]) for e, r in rows.items() if e <= best.epochs), rel=1e-3
    )
    assert {file.name for file in (run[1] / "snapshots").iterdir()} == {
        "epoch-0002.pt",
        "epoch-0004.pt",
    }


def test_the_final_run_uses_all_patients_and_the_epochs_of_the_best_snapshot(
    run: tuple[Recipe, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = run
    final = final_recipe(folder)
    assert final.epochs == read_weights(folder / "best.pt").position.epochs
    assert final.cases == replace(recipe.cases, validation=0.0)
    assert len(split_cases(final.cases)[0]) == final.epoch == 4
    seen: list[Recipe] = []

    def trained(chosen: Recipe, *_: object) -> Position:
        seen.append(chosen)
        return Position(epochs=chosen.epochs, samples=chosen.epochs * chosen.epoch)

    monkeypatch.setattr(loop, "run", trained)
    done = CliRunner().invoke(app, ["final", str(folder), "--out", str(folder.parent / "final")])
    assert done.exit_code == 0, done.output
    assert seen == [final]


def test_the_final_run_repeats_the_learning_rate_schedule(tmp_path: Path) -> None:
    cases = CasesSettings("cases", 0.5, 0.2)
    recipe = Recipe("BrainMask", features=8, epoch=4, cases=cases, rate=RateSettings(peak=3e-5))
    network = make_learner(recipe, 0, "cpu").network
    write_weights(tmp_path / "best.pt", recipe, Position(epochs=8), network)
    rates = (
        [3e-5] * 4 + [1.5e-5] * 2 + [1e-5] * 3
    )  # halved after 5 and 7, the second time to the floor
    rows = [
        {**dict.fromkeys(COLUMNS, ""), "epoch": str(epoch), "rate": f"{rate:.4g}", "samples": "1"}
        for epoch, rate in enumerate(rates, start=1)
    ]
    write_log(tmp_path / "log.csv", rows)
    final = final_recipe(tmp_path)
    assert (final.rate.schedule, final.rate.drops, final.epochs) == ("steps", (5, 7), 8)
    again = [stepped_rate(epochs, final.rate) for epochs in range(1, 10)]
    assert again == pytest.approx(rates)
    none = replace(recipe, cases=replace(cases, validation=0.0))
    write_weights(tmp_path / "best.pt", none, Position(epochs=8), network)
    with pytest.raises(InputFileError, match="held-out patients"):
        final_recipe(tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[rate]\npatience = 0", r"rate\.patience = 0"),
        ("[cases]\nvalidation = 1.0", r"cases\.validation = 1\.0"),
        ("[cases]\nvalidation = 1.5", r"cases\.validation = 1\.5"),
        ("[cases]\nvalidation = -0.1", r"cases\.validation = -0\.1"),
        ('[cases]\nvalidation = 0.2\n[validation]\ncases = "x"', "not both"),
    ],
)
def test_impossible_splits_are_rejected(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "r.toml").write_text(f'network = "FCN_CH2"\n{text}\n')
    with pytest.raises(InputFileError, match=complaint):
        read(tmp_path / "r.toml")
