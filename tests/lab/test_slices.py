"""Training on measured slices: stream and runtime compute the same inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from infarct.core.errors import InputFileError
from infarct.core.nifti import Volume
from infarct.core.resampling import resample
from infarct.lab.networks import DESIGNS, build
from infarct.lab.networks.pixels import pack, unpack, with_mirror
from infarct.lab.simulation import acquisition, sampling, scanner, tissue
from infarct.lab.training.checkpoint import Position, make_learner, write_weights
from infarct.lab.training.config import Recipe, ShelfSettings
from infarct.lab.training.data_loader import Example, crop_slices, examples
from infarct.lab.training.from_sub_volumes import for_slices
from infarct.lab.training.replay_buffer import _pick, _together
from infarct.lab.training.stream import Stream, StreamSettings
from infarct.segmentation.controls import healthy_on
from infarct.segmentation.measured_lattice import lattice, network_input, spacing_value

SLICES = [name for name, design in DESIGNS.items() if design.slices]


def test_packing_keeps_every_pixel() -> None:
    image = torch.randn(2, 3, 8, 6, 4, generator=torch.Generator().manual_seed(0))
    packed = pack(image)
    assert packed.shape == (2, 12, 4, 3, 4)
    torch.testing.assert_close(unpack(packed), image)
    mean = functional.avg_pool3d(image, (2, 2, 1))
    torch.testing.assert_close(packed.reshape(2, 3, 4, 4, 3, 4).mean(2), mean)


@pytest.mark.parametrize("name", SLICES)
def test_an_untrained_variant_equals_its_original_on_block_means(name: str) -> None:
    torch.manual_seed(0)
    original = build(name.partition("_slices")[0], 4).eval()
    for module in original.modules():
        if isinstance(module, torch.nn.BatchNorm3d):  # as after some training
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    variant = build(name, 4).eval()
    variant.load_state_dict(for_slices(original.state_dict(), variant))
    channels = len(DESIGNS[name].channels)
    image = torch.randn(1, channels, 32, 16, 8)
    known = image[:, : len(DESIGNS[name.partition("_slices")[0]].channels)]
    with torch.no_grad():
        expected = original(functional.avg_pool3d(known, (2, 2, 1)))[0]
        found = variant(image)[0]
    assert found.shape == (1, 1, 32, 16, 8)
    blocks = expected.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(found, blocks, atol=1e-5, rtol=1e-4)


def test_the_mirrored_head_overlaps_the_head() -> None:
    image = torch.zeros(1, 1, 16, 16, 8)
    image[0, 0, 2, 5, 3] = 1
    both = with_mirror(image)
    assert both[0, 1, 13, 5, 3] == 1
    assert both.sum() == 2


def test_a_run_starts_from_the_weights_of_the_original(tmp_path) -> None:
    narrow = Recipe("FCN_CH2", features=2)
    write_weights(tmp_path / "old.pt", narrow, Position(), make_learner(narrow, 0, "cpu").network)
    recipe = Recipe("FCN_CH2_slices", 4, batch=1, start=str(tmp_path / "old.pt"))
    network = make_learner(recipe, 0, "cpu").network
    assert network.encode[0][0].weight[:, 8:].abs().max() == 0  # no weight on the mirrored head yet
    backward = replace(narrow, features=4, start=str(tmp_path / "new.pt"))
    write_weights(tmp_path / "new.pt", recipe, Position(), network)
    with pytest.raises(InputFileError, match="not the other way round"):
        make_learner(backward, 0, "cpu")


def test_stream_and_runtime_compute_the_same_input(bank) -> None:
    stream = Stream(bank, StreamSettings(batch=1, lesion_free=0.0), seed=3)
    found = next(stream.slice_batches())
    record = sampling.draw(stream.cohort, stream.bank, 3, stream.scans - 1)
    native = scanner.acquire(tissue.build(record, bank, "cpu"), record)
    grid = acquisition.grid(record.acquisition)  # its world is MNI space
    slices = lattice(grid.affine, grid.shape)
    assert found.image.shape == (1, 4, *slices.shape)

    def on_lattice(image: torch.Tensor) -> np.ndarray:
        return resample(Volume(image.float().numpy(), grid.affine), slices)

    brain = on_lattice(native.brain) > 0.5
    expected = network_input(
        on_lattice(native.dwi), on_lattice(native.adc), brain, healthy_on(slices)
    )
    seen = found.brain[0, 0].numpy() > 0
    assert (seen != brain).mean() < 1e-5
    inside = seen & brain
    assert np.abs(found.image[0, :2].numpy() - expected[:2])[:, inside].max() < 2e-3
    # The tissue peak is fitted on a subset of the voxels, which changes it by 1% of its SD.
    assert np.corrcoef(found.image[0, 2].numpy()[inside], expected[2][inside])[0, 1] > 0.99
    spacing = record.acquisition.spacing_mm
    assert found.image[0, 3][torch.from_numpy(seen)].unique().tolist() == pytest.approx(
        [spacing_value(spacing)]
    )
    assert float((found.lesion * (1 - found.brain)).sum()) == 0


def test_a_resumed_stream_yields_the_same_scans(bank) -> None:
    settings = StreamSettings(batch=1)
    stream = Stream(bank, settings, seed=5)
    next(stream.slice_batches())
    resumed = Stream(bank, settings, seed=99)
    resumed.load_state_dict(stream.state_dict())
    assert torch.equal(next(stream.slice_batches()).image, next(resumed.slice_batches()).image)


def test_networks_get_their_channels(bank) -> None:
    source = Stream(bank, StreamSettings(batch=1), seed=5)
    for name in ("FCN_CH2_slices", "DAGMNet_CH3_slices_spaced"):
        example = next(examples(source, name))
        assert example.image.shape[1] == len(DESIGNS[name].channels)
        x, y, z = example.image.shape[2:]
        assert (x % 16, y % 16, z % 8) == (0, 0, 0)


def volumes(*slices: int) -> list[Example]:
    parts = (torch.ones(1, 1, 16 * (1 + n % 2), 16, n) for n in slices)
    return [Example(part, part, part) for part in parts]


def test_batches_group_volumes_with_similar_numbers_of_slices() -> None:
    shelf = volumes(24, 80, 24, 80, 24, 80)
    generator = torch.Generator().manual_seed(0)
    picks = [_pick(shelf, 3, generator) for _ in range(20)]
    assert all(len({shelf[k].image.shape[-1] for k in chosen}) == 1 for chosen in picks)
    assert {k for chosen in picks for k in chosen} == set(range(6))


def test_padding_keeps_the_midplane_in_the_centre() -> None:
    together = _together(volumes(24, 25))
    assert together.image.shape == (2, 1, 32, 16, 25)
    seen = together.image[0, 0, :, 0, 0]
    assert torch.equal(seen, seen.flip(0))
    assert seen.sum() == 16


def test_cropping_again_changes_nothing() -> None:
    brain = torch.zeros(1, 1, 192, 224, 21)
    brain[:, :, 60:120, 30:160, 4:17] = 1
    once = crop_slices(Example(brain, brain, brain))
    assert once.image.shape == (1, 1, 80, 144, 16)
    assert crop_slices(once).image.shape == once.image.shape
    roomy = crop_slices(once, (128, 160, 24)).brain
    assert roomy.shape == (1, 1, 128, 160, 24)
    assert torch.equal(roomy[:, :, 24:-24, :144, :16], once.brain)


def test_batches_of_scans_with_different_slices_need_a_shelf() -> None:
    from infarct.lab.training.config import _checked  # noqa: PLC0415

    with pytest.raises(ValueError, match="shelf"):
        _checked(Recipe("FCN_CH2_slices", batch=2))
    assert _checked(Recipe("FCN_CH2_slices", batch=2, shelf=ShelfSettings(4)))
