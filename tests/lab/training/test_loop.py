"""Training loop: learning, exact stop and resume, several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from infarct.core.errors import InputFileError, OutputError, TrainingError
from infarct.lab.networks import DESIGNS, build
from infarct.lab.training import checkpoint, replay_buffer
from infarct.lab.training.checkpoint import (
    Position,
    Run,
    make_learner,
    make_sure_it_goes_on,
    read_weights,
    resume,
    rounded,
    write_weights,
)
from infarct.lab.training.config import (
    DeviceSettings,
    RateSettings,
    Recipe,
    ShelfSettings,
    Stage,
    ValidationSettings,
)
from infarct.lab.training.data_loader import (
    Example,
    Fed,
    Order,
    cut,
    draw_windows,
    feed,
    feed_ahead,
    look,
)
from infarct.lab.training.log import Tally, read_log, write_log
from infarct.lab.training.loop import _last_of, cosine_rate, is_over, run, train, update_mean
from infarct.lab.training.losses import LossSettings, hybrid
from infarct.lab.training.replay_buffer import open_feed
from infarct.lab.training.sources import open_stream
from infarct.lab.training.validation import dice, fixed_set, score


@dataclass(frozen=True)
class Spheres:
    """Bright balls in noise, shaped like a batch of the synthetic stream."""

    image: torch.Tensor
    lesion: torch.Tensor
    brain: torch.Tensor


def spheres(generator: torch.Generator, batch: int, shape: tuple[int, int, int]) -> Spheres:
    axes = torch.stack(torch.meshgrid(*(torch.arange(s) for s in shape), indexing="ij")).float()
    centre = torch.rand(batch, 3, 1, 1, 1, generator=generator) * torch.tensor(shape).view(
        3, 1, 1, 1
    )
    lesion = ((axes - centre).square().sum(1, keepdim=True) < 12).float()
    noise = torch.randn(batch, 3, *shape, generator=generator)
    contrast = torch.tensor([3.0, -2.0, 1.0]).view(3, 1, 1, 1)
    return Spheres(noise + contrast * lesion, lesion, torch.ones_like(lesion))


class SphereStream:
    """Stand-in for the synthetic stream."""

    def __init__(self, seed: int, split: str, device: str) -> None:
        self.generator = torch.Generator(device).manual_seed(seed + (split == "train"))

    def batches(self) -> Iterator[Spheres]:
        """Make batches of two."""
        while True:
            yield spheres(self.generator, 2, (16, 16, 8))

    head_batches = batches

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the generator."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from it."""
        self.generator.set_state(state["generator"])


class SingleStream(SphereStream):
    """The same, one volume at a time."""

    def batches(self) -> Iterator[Spheres]:
        """Make batches of one."""
        while True:
            yield spheres(self.generator, 1, (16, 16, 8))


RECIPE = Recipe(
    "DAGMNet_CH3",
    features=4,
    seed=3,
    batch=2,
    epoch=10,
    epochs=4,
    ema=0.9,
    rate=RateSettings(peak=3e-3, schedule="cosine", clip=5.0),
    stages=(Stage(0.5, (8, 8, 8), 2), Stage()),
    validation=ValidationSettings(samples=4),
)
"""Forty samples: twenty steps, half of them on windows."""

TINY = replace(RECIPE, network="FCN_CH2", features=2)


def same(a: Path, b: Path, keys: tuple[str, ...] = ("network", "mean", "optimiser")) -> bool:
    """Return whether two checkpoints are bit-identical."""
    left, right = (torch.load(p, weights_only=True) for p in (a, b))
    flat = [torch.utils._pytree.tree_leaves([c[k] for k in keys]) for c in (left, right)]
    return all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y
        for x, y in zip(*flat, strict=True)
    )


@pytest.mark.parametrize(("second_process", "shelf"), [(False, 0), (True, 0), (True, 4)], ids=str)
def test_twenty_steps_equal_ten_steps_resumed_for_ten_more(
    tmp_path: Path, second_process: bool, shelf: int
) -> None:
    device = DeviceSettings(second_process=second_process)
    recipe = replace(RECIPE, device=device, shelf=ShelfSettings(shelf, reuse=1))
    stream = SingleStream if shelf else SphereStream
    whole = train(recipe, stream, tmp_path / "whole")
    assert whole.step == 20
    half = stopped_after(10, recipe, stream, tmp_path / "parts")
    assert half.step == 10
    assert train(recipe, stream, tmp_path / "parts", again=True).step == 20
    assert same(tmp_path / "whole/last.pt", tmp_path / "parts/last.pt")
    rows = [read_log(tmp_path / run / "log.csv") for run in ("whole", "parts")]
    columns = ("samples", "epoch", "rate", "validation_loss", "validation_dice")
    scored = [[[r[c] for c in columns] for r in rs if r["validation_loss"]] for rs in rows]
    assert scored[0] == scored[1]


def stopped_after(steps: int, recipe: Recipe, stream: type[SphereStream], out: Path) -> Position:
    """Train, and send Ctrl-C during the last of a number of steps."""
    batches = steps * (recipe.batch if stream is SingleStream else 1)

    class Interrupting(stream):  # type: ignore[misc, valid-type]
        def batches(self) -> Iterator[Spheres]:
            """Make batches, and press the keys."""
            for made, batch in enumerate(super().batches(), start=1):
                if made == batches:
                    signal.raise_signal(signal.SIGINT)
                yield batch

    plain = replace(recipe, device=DeviceSettings())
    return train(plain, Interrupting, out)


def test_a_run_is_not_overwritten_unless_resumed(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1)
    train(recipe, SphereStream, tmp_path)
    with pytest.raises(OutputError, match="resume"):
        train(recipe, SphereStream, tmp_path)
    assert train(recipe, SphereStream, tmp_path, again=True).step == 5
    (tmp_path / "last.pt").unlink()
    for left in ("best.pt", "weights.pt", "log.csv"):
        before = (tmp_path / left).read_bytes()
        for again in (False, True):
            with pytest.raises(OutputError, match=r"last\.pt is missing"):
                train(recipe, SphereStream, tmp_path, again)
        assert (tmp_path / left).read_bytes() == before
        (tmp_path / left).unlink()
    write_log(tmp_path / "log.csv", [])  # killed before the first row
    assert _last_of(tmp_path, again=False) == tmp_path / "last.pt"


def test_a_rejected_run_keeps_the_data_description_of_the_existing_one(tmp_path: Path) -> None:
    (tmp_path / "last.pt").touch()
    (tmp_path / "data.md").write_text("seen by this run")
    with pytest.raises(OutputError, match="resume"):
        run(RECIPE, None, tmp_path)
    assert (tmp_path / "data.md").read_text() == "seen by this run"
    with pytest.raises(InputFileError, match="bank not found"):
        run(RECIPE, tmp_path / "bank.npz", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    begin(tmp_path / "last.pt", TINY)
    with pytest.raises(InputFileError, match="different values of seed"):
        run(replace(TINY, seed=9), None, tmp_path, again=True)
    assert (tmp_path / "data.md").read_text() == "seen by this run"


def begin(last: Path, recipe: Recipe, bank: str = "") -> None:
    """Write the checkpoint of an untrained run."""
    learner = make_learner(recipe, 0, "cpu")
    own = {"stream": {}, "windows": learner.windows.get_state()}
    checkpoint.save(last, Run(recipe, bank), learner, [own])


def test_a_run_is_resumed_only_with_its_original_settings_and_data(tmp_path: Path) -> None:
    last = tmp_path / "last.pt"
    begin(last, TINY, "ab")
    free = replace(
        TINY,
        minutes=3.0,
        note="longer",
        rate=replace(TINY.rate, peak=1e-5),
        device=DeviceSettings(second_process=True, precision="bfloat16"),
        validation=replace(TINY.validation, cases="mine"),
    )
    for bank in ("ab", ""):
        make_sure_it_goes_on(last, Run(free, bank))
    learner = make_learner(replace(free, rate=TINY.rate), 0, "cpu")
    resume(last, Run(free, "ab"), learner, 0, "cpu")
    assert [group["lr"] for group in learner.optimiser.param_groups] == [1e-5]
    streams = DeviceSettings(second_process=True, streams=3)
    for other, bank, key in (
        (replace(TINY, seed=9, batch=1), "ab", "batch, seed"),
        (replace(TINY, stream={"leave_out": ["x"]}), "ab", r"stream\.leave_out"),
        (replace(TINY, device=streams), "ab", r"device\.streams"),
        (TINY, "cd", "bank"),
    ):
        with pytest.raises(InputFileError, match=f"different values of {key};"):
            make_sure_it_goes_on(last, Run(other, bank))
    begin(last, TINY)  # checkpoints of old runs do not record the bank
    make_sure_it_goes_on(last, Run(TINY, "cd"))
    last.write_bytes(last.read_bytes()[:5000])
    with pytest.raises(InputFileError, match="damaged"):
        resume(last, Run(TINY), learner, 0, "cpu")


def test_a_diverged_loss_ends_the_run_with_an_error() -> None:
    tally = Tally(0.0)
    tally.add(2, torch.tensor(float("nan")), torch.zeros(2))
    with pytest.raises(TrainingError, match=r"diverged \(loss nan\); .* a lower rate\.peak"):
        tally.means(1.0)


def test_unscored_epochs_do_not_stop_a_run() -> None:
    early = ValidationSettings(every=4, stop_after=2, stop_patience=2)
    recipe = replace(RECIPE, epochs=50, validation=early)
    assert not is_over(recipe, Position(epochs=7, lowest_epoch=4))
    assert is_over(recipe, Position(epochs=8, lowest_epoch=4))
    unscored = replace(recipe, validation=replace(early, samples=0))
    assert not is_over(unscored, Position(epochs=8))


def test_a_run_is_not_resumed_with_another_network(tmp_path: Path) -> None:
    begin(tmp_path / "last.pt", RECIPE)
    with pytest.raises(InputFileError, match=r"DAGMNet_CH3 \(4 features\)"):
        train(replace(RECIPE, features=6), SphereStream, tmp_path, again=True)


def test_a_file_without_weights_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.pt").write_text("network = 'FCN_CH2'")
    network = make_learner(RECIPE, 0, "cpu").network
    (whole,) = write_weights(tmp_path / "half.pt", RECIPE, Position(), network)
    whole.write_bytes(whole.read_bytes()[:9000])
    for name in ("recipe.pt", "half.pt"):
        with pytest.raises(InputFileError, match=f"{name}: damaged, or not a weights file"):
            read_weights(tmp_path / name)


def test_training_learns_and_writes_weights_log_and_curve(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=12, stages=(Stage(),), loss=LossSettings(balance=0.5))
    position = train(recipe, SphereStream, tmp_path)
    rows = [r for r in read_log(tmp_path / "log.csv") if r["validation_dice"]]
    assert len(rows) == 12
    assert float(rows[-1]["validation_dice"]) > 0.8
    assert position.best == pytest.approx(max(float(r["validation_dice"]) for r in rows), abs=1e-3)
    assert (tmp_path / "curve.png").stat().st_size > 1000
    shipped = read_weights(tmp_path / "weights.pt")
    assert shipped.recipe == recipe
    assert shipped.position.samples == 120
    kept = fixed_set(SphereStream, recipe, "cpu")
    again = score(shipped.network(), kept, recipe.loss, "cpu")
    assert again.dice == pytest.approx(float(rows[-1]["validation_dice"]), abs=0.01)


@pytest.mark.parametrize("name", DESIGNS)
def test_every_network_overfits_one_batch(name: str) -> None:
    torch.manual_seed(0)
    network = build(name, None if name == "DeepMedic" else 4)
    # DeepMedic pads 24 voxels at every edge: the smallest volume is large enough.
    shape = (9, 9, 6) if name == "DeepMedic" else (16, 16, 8)
    if DESIGNS[name].slices:
        shape = (32, 32, 8)  # packing halves the sides
    batch = spheres(torch.Generator().manual_seed(5), 2, shape)
    spacing = torch.zeros_like(batch.lesion)
    image = torch.cat([batch.image, spacing], 1)[:, : len(DESIGNS[name].channels)]
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(400):
        outputs = network(image)
        if dice(outputs[0].detach(), batch.lesion).min() > 0.95:
            break
        loss = hybrid(outputs, batch.lesion, LossSettings(balance=0.5))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert dice(outputs[0].detach(), batch.lesion).min() > 0.95


def test_validation_scans_do_not_depend_on_what_training_leaves_out(bank, monkeypatch) -> None:
    monkeypatch.setattr("infarct.lab.sources.bank.Bank.from_icbm", lambda: bank)
    plain = open_stream(None, RECIPE)(7, "validation", "cpu")
    left_out = {"mimics": False, "artefacts": False, "real_background": 0.0, "lesion_free": 0.9}
    poor = open_stream(None, replace(RECIPE, stream=left_out))
    assert poor(7, "validation", "cpu").settings == plain.settings
    assert poor(7, "train", "cpu").settings.mimics is False


def test_a_time_limit_ends_the_run_with_a_rate_of_zero(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=10**6, epoch=10**6, minutes=0.05)
    position = train(recipe, SphereStream, tmp_path)
    assert 3.0 <= position.seconds < 6.0
    assert float(read_log(tmp_path / "log.csv")[-1]["rate"]) < 1e-4
    assert read_log(tmp_path / "log.csv")[-1]["validation_dice"]


def test_the_log_contains_the_time_spent_waiting_for_volumes(tmp_path: Path) -> None:
    class Slow(SphereStream):
        def batches(self) -> Iterator[Spheres]:
            """Make batches, each a tenth of a second late."""
            for batch in super().batches():
                time.sleep(0.1)
                yield batch

    shares = []
    for stream in (SphereStream, Slow):
        train(replace(RECIPE, epochs=1, epoch=20), stream, tmp_path / stream.__name__)
        row = read_log(tmp_path / stream.__name__ / "log.csv")[0]
        shares.append(float(row["waiting"]))
        if stream is Slow:
            # Ten batches of two; the time of the row excludes the validation.
            spent = float(row["samples"]) / float(row["samples_per_s"])
            assert 1.0 <= shares[-1] * spent < spent
    assert shares[0] < shares[1]


def test_final_weights_are_scored_even_between_two_validations(tmp_path: Path) -> None:
    validation = replace(RECIPE.validation, every=2)
    train(replace(RECIPE, epochs=3, validation=validation), SphereStream, tmp_path)
    scored = [bool(row["validation_dice"]) for row in read_log(tmp_path / "log.csv")]
    assert scored == [False, True, True]


def test_plateau_halves_the_rate_and_stops_early(tmp_path: Path) -> None:
    recipe = replace(
        RECIPE,
        epochs=50,
        ema=0.0,
        rate=RateSettings(peak=0.0, floor=0.0, patience=1),
        validation=ValidationSettings(samples=2, stop_after=6, stop_patience=3, snapshot_every=2),
    )
    # A rate of zero changes only the batch statistics: no epoch is better than the first few.
    position = train(recipe, SphereStream, tmp_path)
    assert 6 <= position.epochs < 50
    assert len(list((tmp_path / "snapshots").iterdir())) == position.epochs // 2


def test_cosine_rises_falls_and_ends_at_zero() -> None:
    settings = RateSettings(peak=1.0, schedule="cosine", warmup=0.1)
    rates = [cosine_rate(p, settings) for p in (0.0, 0.05, 0.1, 0.55, 1.0)]
    assert rates == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0])


def test_running_mean_ends_between_first_and_newest() -> None:
    mean, network = (torch.nn.BatchNorm1d(1) for _ in range(2))
    with torch.no_grad():
        network.weight.fill_(2.0)
        network.running_var.fill_(3.0)
        network.num_batches_tracked.fill_(7)
    update_mean(mean, network, step=10**6, decay=0.9)
    assert mean.weight.item() == pytest.approx(1.1)
    assert mean.running_var.item() == pytest.approx(1.2)
    assert mean.num_batches_tracked.item() == 7


def test_half_of_the_windows_contain_lesions_and_all_are_inside() -> None:
    batch = spheres(torch.Generator().manual_seed(0), 2, (32, 32, 16))
    example = Example(batch.image, batch.lesion, batch.brain)
    stage = Stage(window=(8, 8, 8), per_volume=100)
    starts = draw_windows(example, stage, torch.Generator().manual_seed(0))
    assert starts.min() >= 0
    assert (starts + 8 <= torch.tensor([32, 32, 16])).all()
    windows = cut(batch.lesion, starts, stage.window)
    assert windows.shape == (200, 1, 8, 8, 8)
    assert 0.5 < windows.flatten(1).any(1).float().mean() < 0.95
    x, y, z = starts[1, 7].tolist()
    torch.testing.assert_close(windows[107], batch.lesion[1, :, x : x + 8, y : y + 8, z : z + 8])


def test_windows_without_lesion_or_bright_tissue_are_in_the_brain() -> None:
    brain = torch.zeros(1, 1, 16, 16, 8)
    brain[..., 4:6, 4:6, 4:6] = 1
    example = Example(torch.zeros(1, 3, 16, 16, 8), torch.zeros_like(brain), brain)
    seen = look(example, Stage(window=(8, 8, 8), per_volume=20), torch.Generator())
    assert seen.image.shape == (20, 3, 8, 8, 8)
    assert (seen.brain.flatten(1).sum(1) > 0).all()


def test_whole_brains_are_cropped_to_their_common_box() -> None:
    brain = torch.zeros(2, 1, 32, 32, 16)
    brain[0, :, 9:12, 4:12, 4:6] = brain[1, :, 20:23, 9:12, 3:6] = 1
    image = torch.randn(2, 3, 32, 32, 16)
    example = look(Example(image, brain / 2, brain), Stage(), torch.Generator())
    assert torch.equal(example.image, image[:, :, 8:24, :16, :8])
    assert torch.equal(example.brain, brain[:, :, 8:24, :16, :8])
    assert example.target.sum() * 2 == brain.sum()


def test_a_box_has_the_minimum_size_of_the_recipe_if_it_fits() -> None:
    brain = torch.zeros(1, 1, 48, 32, 16)
    brain[..., 34:38, 12:20, 2:5] = 1
    example = Example(brain.repeat(1, 3, 1, 1, 1), brain, brain)
    for least, sides in (((0, 0, 0), (8, 16, 8)), ((32, 16, 64), (32, 16, 16))):
        shown = look(example, Stage(), torch.Generator(), least)
        assert shown.image.shape[2:] == sides
        assert shown.brain.sum() == brain.sum()


def test_a_background_process_yields_the_same_examples() -> None:
    order = Order(SphereStream, "DAGMNet_CH2", 5, "cpu")
    here, ahead = feed(order), feed_ahead(order, 2)
    for _ in range(5):
        (a, state_a), (b, state_b) = next(here), next(ahead)
        assert a.image.shape[1] == 2
        assert torch.equal(a.image, b.image)
        assert torch.equal(state_a["generator"], state_b["generator"])
    ahead.close()


@pytest.mark.parametrize(("render_on", "where"), [("cpu", "cpu"), ("gpu", "meta")])
def test_the_stream_runs_on_the_device_of_the_recipe(
    monkeypatch: pytest.MonkeyPatch, render_on: Literal["cpu", "gpu"], where: str
) -> None:
    asked: list[Order] = []

    def note(order: Order, ahead: int, streams: int) -> Iterator[Fed]:
        asked.append(order)
        yield from feed(replace(order, device="cpu"))

    monkeypatch.setattr(replay_buffer, "feed_ahead", note)
    device = DeviceSettings(second_process=True, render_on=render_on)
    recipe = replace(RECIPE, device=device, shelf=ShelfSettings(size=4))
    next(open_feed(Order(SingleStream, "DAGMNet_CH2", 5, "meta"), recipe, torch.Generator()))
    assert [o.device for o in asked] == [where]
    assert asked[0].packed


def test_several_streams_take_turns_and_resume() -> None:
    order = Order(SingleStream, "DAGMNet_CH2", 5, "cpu")
    together = feed_ahead(order, 2, 3)
    given = [next(together) for _ in range(7)]
    together.close()
    alone = feed(order)
    for example, _ in given[::3]:
        assert torch.equal(example.image, next(alone)[0].image)
    images = [float(example.image.sum()) for example, _ in given]
    assert len(set(images)) == 7
    resumed = feed_ahead(replace(order, state=given[3][1]), 2, 3)
    assert [float(next(resumed)[0].image.sum()) for _ in range(3)] == images[4:]
    resumed.close()


def test_a_shelf_reuses_every_volume_as_often_as_requested() -> None:
    recipe = replace(RECIPE, shelf=ShelfSettings(size=5, reuse=3))
    order = Order(SingleStream, "DAGMNet_CH2", 5, "cpu")
    given = open_feed(order, recipe, torch.Generator().manual_seed(0))
    originals = feed(order)
    sums = [float(next(originals)[0].image.half().float().sum()) for _ in range(60)]
    seen = []
    for _ in range(60):
        example, state = next(given)
        assert example.image.shape == (2, 2, 16, 16, 8)
        assert len(state["shelf"]) <= 5
        seen += [min(sums, key=lambda s, x=x: abs(s - float(x.sum()))) for x in example.image]
    assert state["fetched"] == 40
    counts = torch.tensor([seen.count(s) for s in sums[:40]])
    assert counts.sum() == 120
    assert (counts > 0).float().mean() > 0.8


class Counting(SphereStream):
    """A stream that yields the number of threads set for BLAS."""

    def batches(self) -> Iterator[Spheres]:
        """Make them."""
        allowed = float(os.environ["OMP_NUM_THREADS"])
        while True:
            yield Spheres(*(torch.full((1, 2, 16, 16, 8), allowed) for _ in range(3)))


def test_parallel_streams_use_one_thread_each_and_send_compact_examples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    ahead = feed_ahead(Order(Counting, "DAGMNet_CH2", 5, "cpu", packed=True), 1)
    example, _ = next(ahead)
    ahead.close()
    assert float(example.image.max()) == 1
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert (example.image.dtype, example.target.dtype) == (torch.float16, torch.bool)


class Broken(SphereStream):
    """A stream that fails after two batches."""

    def batches(self) -> Iterator[Spheres]:
        """Make two, then fail."""
        yield spheres(self.generator, 2, (16, 16, 8))
        yield spheres(self.generator, 2, (16, 16, 8))
        raise ValueError("no anatomy")


def test_a_failing_background_process_reports_the_error_after_its_examples() -> None:
    made = feed_ahead(Order(Broken, "DAGMNet_CH2", 5, "cpu"), 4)
    next(made)
    time.sleep(1.0)  # the process has failed, but its second batch is still in the queue
    next(made)
    with pytest.raises(RuntimeError, match="no anatomy"):
        next(made)


def test_weights_can_be_split_into_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PIECE_BYTES", 10_000)
    torch.manual_seed(0)
    network = build("UNet_CH2", 4)
    recipe = Recipe("UNet_CH2", features=4)
    (tmp_path / "weights.pt.bak").write_text("somebody's copy")
    pieces = write_weights(tmp_path / "weights.pt", recipe, Position(step=7), network)
    assert len(pieces) > 10
    assert (tmp_path / "weights.pt.bak").read_text() == "somebody's copy"
    assert all(p.stat().st_size <= 10_000 for p in pieces)
    back = read_weights(tmp_path / "weights.pt")
    assert back.position.step == 7
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(back.weights[name].float(), tensor.float(), atol=1e-3, rtol=1e-3)
    with pytest.raises(InputFileError, match="weights not found"):
        read_weights(tmp_path / "other.pt")
    # Parts of two steps of a run have the same length, and torch would accept the mix.
    with torch.no_grad():
        network.get_parameter(next(name for name, _ in network.named_parameters())).add_(1)
    first = pieces[0].read_bytes()
    write_weights(tmp_path / "weights.pt", recipe, Position(step=8), network)
    pieces[0].write_bytes(first)
    with pytest.raises(InputFileError, match="with all its parts"):
        read_weights(tmp_path / "weights.pt")
    (whole,) = write_weights(tmp_path / "weights.pt", recipe, Position(), network, whole=True)
    assert sorted(tmp_path.glob("weights.pt*")) == [whole, tmp_path / "weights.pt.bak"]


def test_a_network_without_the_is_map_can_start_from_one_with_it(tmp_path: Path) -> None:
    three = Recipe(network="DAGMNet_CH3", features=4)
    network = build("DAGMNet_CH3", 4)
    write_weights(tmp_path / "ch3.pt", three, Position(), network)
    two = Recipe(network="DAGMNet_CH2", features=4, start=str(tmp_path / "ch3.pt"))
    images = torch.randn(1, 3, 16, 16, 16)
    images[:, 2] = 0
    started = make_learner(two, 0, "cpu").network.eval()
    expected = rounded(network)(images)[0]
    assert torch.allclose(started(images[:, :2])[0], expected, atol=1e-5)
    write_weights(tmp_path / "ch2.pt", two, Position(), started)
    with pytest.raises(InputFileError, match=r"trained on DWI, ADC, but DAGMNet_CH3 needs .*, IS"):
        make_learner(replace(three, start=str(tmp_path / "ch2.pt")), 0, "cpu")
    with pytest.raises(InputFileError, match="FCN_CH2 cannot start from DAGMNet_CH2"):
        make_learner(replace(TINY, start=str(tmp_path / "ch2.pt")), 0, "cpu")


def test_a_wide_network_can_start_from_a_narrow_one(tmp_path: Path) -> None:
    narrow = build("DAGMNet_CH3", 4)
    recipe = Recipe(network="DAGMNet_CH3", features=4)
    write_weights(tmp_path / "narrow.pt", recipe, Position(), narrow)
    wide = replace(recipe, features=8, start=str(tmp_path / "narrow.pt"))
    image = torch.randn(1, 3, 16, 16, 16)
    started = make_learner(wide, 0, "cpu").network.eval()
    assert torch.allclose(started(image)[0], rounded(narrow)(image)[0], atol=1e-4)


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    """Both use their own half of the stream and end with the same weights."""
    program = tmp_path / "program.py"
    program.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import os, pathlib, torch\n"
        "from dataclasses import replace\n"
        "from test_loop import RECIPE, SphereStream\n"
        "from infarct.lab.training import loop as training\n"
        "from infarct.lab.training.checkpoint import make_learner\n"
        "out = pathlib.Path(sys.argv[1])\n"
        "made = []\n"
        "training.make_learner = lambda *a: made.append(make_learner(*a)) or made[-1]\n"
        "p = training.train(replace(RECIPE, epochs=2), SphereStream, out)\n"
        "torch.save(made[0].network.state_dict(), out / f'rank{os.environ[\"RANK\"]}.pt')\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(program), str(tmp_path / "run")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"run/rank{k}.pt", weights_only=True) for k in (0, 1))
    trained = [n for n, _ in build("DAGMNet_CH3", 4).named_parameters()]
    assert all(torch.equal(first[n], second[n]) for n in trained)
    saved = torch.load(tmp_path / "run/last.pt", weights_only=True)
    assert saved["position"]["samples"] == 20
    assert saved["position"]["step"] == 5
    streams = [s["stream"]["generator"] for s in saved["streams"]]
    assert not torch.equal(*streams)


def test_training_needs_only_torch_numpy_scipy_and_rich() -> None:
    """A GPU machine may have no other packages."""
    block = (
        "import sys\n"
        "for name in ('nibabel', 'SimpleITK', 'nilearn', 'typer', 'matplotlib', 'onnxruntime'):\n"
        "    sys.modules[name] = None\n"
        "import infarct.lab.training.loop\n"
    )
    subprocess.run([sys.executable, "-c", block], check=True, timeout=60)
