"""Networks: shapes, sizes, trainable parameters and receptive fields."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from infarct.lab.networks import DESIGNS, build, parameters
from infarct.lab.networks.dagmnet import ChannelGate, SpatialGate
from infarct.lab.networks.deepmedic import MARGIN, DeepMedic

SMALL = {"DAGMNet": 4, "UNet": 4, "FCN": 4, "BrainMask": 4}


def small(name: str) -> nn.Module:
    """Build a network of a few thousand parameters with the same architecture."""
    torch.manual_seed(0)
    return build(name, SMALL.get(name.partition("_")[0]))


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(2, 4, 16, 32, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", DESIGNS)
def test_the_output_has_the_resolution_of_the_input(name: str, image: torch.Tensor) -> None:
    design = DESIGNS[name]
    outputs = small(name)(image[:, : len(design.channels)])
    assert outputs[0].shape == (2, 1, 16, 32, 8)
    for side in outputs[1:]:
        assert all(
            whole % part == 0
            for whole, part in zip(outputs[0].shape[2:], side.shape[2:], strict=True)
        )


def test_dagmnet_has_four_side_outputs_each_half_the_one_before(image: torch.Tensor) -> None:
    sides = small("DAGMNet_CH3")(image[:, :3])[1:]
    assert [tuple(s.shape[2:]) for s in sides] == [(16, 32, 8), (8, 16, 4), (4, 8, 2), (2, 4, 1)]


def test_generic_networks_have_as_many_parameters_as_dagmnet() -> None:
    for channels in ("CH2", "CH3"):
        ours = parameters(build(f"DAGMNet_{channels}"))
        for name in (f"UNet_{channels}", f"FCN_{channels}"):
            assert parameters(build(name)) == pytest.approx(ours, rel=0.05)


@pytest.mark.parametrize("name", DESIGNS)
def test_every_parameter_affects_the_loss(name: str, image: torch.Tensor) -> None:
    network = small(name)
    if name == "DeepMedic":
        image = image[..., :6, :6, :6]  # it pads every axis by 48 voxels
    sum(o.square().sum() for o in network(image[:, : len(DESIGNS[name].channels)])).backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


@pytest.mark.parametrize("gate", [ChannelGate, SpatialGate])
def test_gate_weights_are_between_0_and_1(gate: type[nn.Module]) -> None:
    torch.manual_seed(0)
    weights = gate(4, 8)(torch.randn(2, 4, 8, 8, 8), torch.randn(2, 8, 8, 8, 8))
    assert weights.shape in {(2, 8, 1, 1, 1), (2, 1, 8, 8, 8)}
    assert ((weights > 0) & (weights < 1)).all()


def test_dagmnet_side_outputs_come_from_decoders_and_the_final_one_from_fusion(
    image: torch.Tensor,
) -> None:
    """Zeroing the last layer of the fusion block affects only the final output."""
    network = small("DAGMNet_CH3").eval()
    before = network(image[:, :3])
    with torch.no_grad():
        network.answer.weight.zero_()
    after = network(image[:, :3])
    assert after[0].std() < 1e-6
    assert before[0].std() > 1e-3
    for a, b in zip(after[1:], before[1:], strict=True):
        torch.testing.assert_close(a, b)


def test_deepmedic_depends_on_its_margin_only() -> None:
    torch.manual_seed(0)
    network = DeepMedic(1).eval()
    tile = torch.randn(1, 1, 51, 51, 51, requires_grad=True)
    network.answer_tile(tile)[0, 0, 1, 1, 1].backward()
    reach = tile.grad[0, 0].nonzero()
    assert reach.min() == 0
    assert reach.max() == 50
    assert MARGIN == 24


def test_deepmedic_tiles_join_without_seams() -> None:
    torch.manual_seed(0)
    network = DeepMedic(1).eval()
    image = torch.randn(1, 1, 12, 9, 6)
    whole = network(image)[0]
    padded = nn.functional.pad(image, [MARGIN] * 6)
    left = network.answer_tile(padded[:, :, : 6 + 2 * MARGIN])
    right = network.answer_tile(padded[:, :, 6:])
    torch.testing.assert_close(torch.cat([left, right], dim=2), whole, atol=1e-5, rtol=1e-5)


def test_an_unknown_network_is_reported_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="DAGMNet_CH3"):
        build("SegNet")


def test_every_level_of_dagmnet_reads_the_mean_of_the_image(image: torch.Tensor) -> None:
    network = small("DAGMNet_CH3").eval()
    views: list[torch.Tensor] = []
    for block in network.read:
        block.register_forward_pre_hook(lambda _, inputs: views.append(inputs[0]))
    network(image[:, :3])
    for level, view in enumerate(views):
        blocks = image[:, :3].unfold(2, 2**level, 2**level).unfold(3, 2**level, 2**level)
        mean = blocks.unfold(4, 2**level, 2**level).mean((-3, -2, -1))
        torch.testing.assert_close(view, mean)


def test_channel_gate_reads_mean_and_maximum() -> None:
    torch.manual_seed(0)
    gate = ChannelGate(2, 4)
    flat = torch.full((1, 4, 4, 4, 4), 0.5)
    peaked = torch.zeros_like(flat)
    peaked[:, :, :2] = 1.0  # same mean, another maximum
    shifted = flat + 0.5  # another mean
    local = torch.zeros(1, 2, 4, 4, 4)
    weights = [gate(local, image) for image in (flat, peaked, shifted)]
    assert (weights[0] - weights[1]).abs().max() > 1e-4
    assert (weights[1] - weights[2]).abs().max() > 1e-4


def test_spatial_gate_looks_two_voxels_far() -> None:
    torch.manual_seed(0)
    gate = SpatialGate(1, 1)
    local = torch.randn(1, 1, 11, 11, 11, requires_grad=True)
    gate(local, torch.randn(1, 1, 11, 11, 11))[0, 0, 5, 5, 5].backward()
    reach = local.grad[0, 0].nonzero()
    assert reach.min(0).values.tolist() == [3, 3, 3]
    assert reach.max(0).values.tolist() == [7, 7, 7]
