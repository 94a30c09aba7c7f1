"""Widening a network without changing its output."""

import pytest
import torch

from infarct.core.errors import InputFileError
from infarct.lab.networks import DESIGNS, build
from infarct.lab.training.widening import widened

WIDER = [(name, 8) for name, d in DESIGNS.items() if d.features and d.answers == "lesion"]
# A gate averages over features, so each must have the same number of copies.
WIDER += [("UNet_CH3", 10), ("FCN_CH2", 10)]


@pytest.mark.parametrize(("name", "wide"), WIDER)
def test_a_wider_network_has_the_same_output(name, wide):
    torch.manual_seed(1)
    small, large = build(name, 4).eval(), build(name, wide).eval()
    for module in small.modules():  # as after training: no mean at zero, no scale at one
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
    image = torch.randn(2, len(DESIGNS[name].channels), 16, 32, 16)
    large.load_state_dict(widened(small.state_dict(), large, 3))
    with torch.no_grad():
        for expected, found in zip(small(image), large(image), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_copies_diverge_during_training():
    """Equal weights would always receive equal gradients."""
    torch.manual_seed(0)
    small, large = build("UNet_CH2", 4), build("UNet_CH2", 8)
    large.load_state_dict(widened(small.state_dict(), large, 0))
    answer = large(torch.randn(1, 2, 16, 16, 16))[0]
    answer.square().mean().backward()
    first = next(p for p in large.parameters() if p.ndim > 1)
    apart = (first.grad[0::2] - first.grad[1::2]).abs().max()
    assert apart > 0.01 * first.grad.abs().max()


def test_the_same_width_changes_nothing_and_a_smaller_one_is_rejected():
    network, small = build("DAGMNet_CH3", 8), build("DAGMNet_CH3", 4)
    same = widened(network.state_dict(), network, 0)
    assert all(torch.equal(same[name], tensor) for name, tensor in network.state_dict().items())
    with pytest.raises(InputFileError, match="not narrowed"):
        widened(network.state_dict(), small, 0)


def test_shares_depend_only_on_the_seed():
    small, large = build("FCN_CH2", 4), build("FCN_CH2", 8)
    one, again, other = (widened(small.state_dict(), large, seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
