"""Registry of the networks: the designs of the paper and their variants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import nn

from infarct.lab.networks.brainmask import SHAPE as HEAD_SHAPE
from infarct.lab.networks.brainmask import brainmask
from infarct.lab.networks.dagmnet import DAGMNet
from infarct.lab.networks.deepmedic import FACTOR, MARGIN, DeepMedic
from infarct.lab.networks.fcn import FCN
from infarct.lab.networks.unet import UNet

SHAPE = (96, 112, 48)
"""Voxels of one of the 16 sub-volumes, the input of the networks of the paper."""

SLICES_SHAPE = (192, 224, 32)
"""Voxels of a scan of 32 slices on the measured-slice lattice."""


@dataclass(frozen=True)
class Design:
    """Inputs and outputs of a network, independent of its weights.

    Attributes:
        make: Builds the network: (channels, features) -> module whose forward returns a tuple of
            logits, the final output first and then the side outputs.
        channels: Input channels, in order.
        features: Default number of features of the first level; None if the design has a fixed
            size.
        answers: "lesion" on an interleaved sub-volume or "brain" on the 4 mm head.
        shape: Voxels of its input along (x, y, z).
        divisor: Divisor of the axes of its input, or of its tiles.
        margin: Voxels of context that a tile needs on every side; None for a network that needs
            the whole brain and cannot be tiled.
        slices: Whether it reads the measured slices at 1 mm, see
            `infarct.segmentation.measured_lattice`, instead of interleaved sub-volumes. Its `shape`
            is then only an example.
    """

    make: Callable[[int, int | None], nn.Module]
    channels: tuple[str, ...]
    features: int | None
    answers: Literal["lesion", "brain"] = "lesion"
    shape: tuple[int, int, int] = SHAPE
    divisor: int = 8
    margin: int | None = None
    slices: bool = False


CH2 = ("DWI", "ADC")
CH3 = ("DWI", "ADC", "IS")
SPACED = (*CH3, "spacing")


def _sized(network: Callable[[int, int], nn.Module]) -> Callable[[int, int | None], nn.Module]:
    def make(channels: int, features: int | None) -> nn.Module:
        if features is None:
            raise ValueError("this network needs a number of features")
        return network(channels, features)

    return make


def _deepmedic(channels: int, features: int | None) -> nn.Module:
    if features is not None:
        raise ValueError("DeepMedic has a fixed size; omit `features`")
    return DeepMedic(channels)


def _of_slices(
    network: type[nn.Module], channels: tuple[str, ...], features: int, mirrored: bool = True
) -> Design:
    make = _sized(partial(network, packed=True, mirrored=mirrored))
    return Design(make, channels, features, shape=SLICES_SHAPE, divisor=16, slices=True)


DESIGNS: dict[str, Design] = {
    "DAGMNet_CH3": Design(_sized(DAGMNet), CH3, 32),
    "DAGMNet_CH2": Design(_sized(DAGMNet), CH2, 32),
    "DAGMNet_CH3_ungated": Design(_sized(partial(DAGMNet, gated=False)), CH3, 32),
    "UNet_CH3": Design(_sized(UNet), CH3, 42),
    "UNet_CH2": Design(_sized(UNet), CH2, 42),
    "FCN_CH3": Design(_sized(FCN), CH3, 54),
    "FCN_CH2": Design(_sized(FCN), CH2, 54),
    "DeepMedic": Design(_deepmedic, CH2, None, divisor=FACTOR, margin=MARGIN),
    "DAGMNet_CH3_slices": _of_slices(DAGMNet, CH3, 32),
    "DAGMNet_CH3_slices_unmirrored": _of_slices(DAGMNet, CH3, 32, mirrored=False),
    "DAGMNet_CH3_slices_spaced": _of_slices(DAGMNet, SPACED, 32),
    "FCN_CH2_slices": _of_slices(FCN, CH2, 54),
    "BrainMask": Design(_sized(brainmask), ("DWI", "b0"), 16, answers="brain", shape=HEAD_SHAPE),
}
"""UNet and FCN have about as many parameters as DAGMNet at Nf 32. The ungated DAGMNet is not in the
paper; it measures the contribution of the attention gates. Networks named `slices` read the
measured slices in one pass, `unmirrored` without the mirrored head as additional channels and
`spaced` with the slice spacing as a constant channel."""


def build(name: str, features: int | None = None) -> nn.Module:
    """Build a network with fresh weights.

    Args:
        name: A key of `DESIGNS`.
        features: Number of features of the first level; the default of the design if None.

    Raises:
        ValueError: If the network is unknown, or has a fixed size.
    """
    if name not in DESIGNS:
        raise ValueError(f"unknown network {name!r}; choose from {', '.join(DESIGNS)}")
    design = DESIGNS[name]
    return design.make(len(design.channels), features or design.features)


def parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in network.parameters())
