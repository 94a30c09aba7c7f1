"""DAGMNet: multi-scale inputs, dual attention gates, side outputs and feature fusion.

References:
    Liu et al. 2021, Communications Medicine 1:61, Fig. 2 and Methods "3D DAGMNet architecture".
    Klambauer et al. 2017 (SELU); Woo et al. 2018 (channel and spatial attention).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from infarct.lab.networks.pixels import PIXELS, pack, unpack, with_mirror

LEVELS = 4
REDUCTION = 16
"""Number of channels per neuron in the bottleneck of the channel gate."""


def _block(channels: int, features: int) -> nn.Sequential:
    """Two 3 x 3 x 3 convolutions, each with batch normalisation and SELU."""
    return nn.Sequential(
        nn.Conv3d(channels, features, 3, padding=1, bias=False),
        nn.BatchNorm3d(features),
        nn.SELU(inplace=True),
        nn.Conv3d(features, features, 3, padding=1, bias=False),
        nn.BatchNorm3d(features),
        nn.SELU(inplace=True),
    )


class ChannelGate(nn.Module):
    """Channel attention gate (cAG): weighs features by the mean and maximum of both inputs.

    Args:
        local: Channels of the features of the image at this level.
        accumulated: Channels of the accumulated features of all levels so far.
    """

    def __init__(self, local: int, accumulated: int) -> None:
        super().__init__()
        # At least four neurons: a narrow network would otherwise have a bottleneck of one.
        bottleneck = max((local + accumulated) // REDUCTION, 4)
        self.squeeze = nn.Conv3d(local + accumulated, bottleneck, 1)
        self.excite = nn.Conv3d(bottleneck, accumulated, 1)

    def forward(self, local: Tensor, accumulated: Tensor) -> Tensor:
        """Return weights (N, C, 1, 1, 1) in 0 - 1."""
        space = (2, 3, 4)
        mean = torch.cat([x.mean(space, keepdim=True) for x in (local, accumulated)], dim=1)
        peak = torch.cat([x.amax(space, keepdim=True) for x in (local, accumulated)], dim=1)
        weights = sum(self.excite(functional.selu(self.squeeze(x))) for x in (mean, peak))
        return torch.sigmoid(weights)


class SpatialGate(nn.Module):
    """Spatial attention gate (sAG): weighs voxels by channel statistics of both inputs.

    Args:
        local: Channels of the features of the image at this level.
        accumulated: Channels of the accumulated features of all levels so far.
    """

    def __init__(self, local: int, accumulated: int) -> None:
        super().__init__()
        self.project = nn.ModuleList([nn.Conv3d(local, 1, 1), nn.Conv3d(accumulated, 1, 1)])
        self.look = nn.ModuleList([nn.Conv3d(3, 1, 5, padding=2) for _ in range(2)])
        self.calibrate = nn.Conv3d(1, 1, 1)

    def forward(self, local: Tensor, accumulated: Tensor) -> Tensor:
        """Return weights (N, 1, X, Y, Z) in 0 - 1."""
        excited = []
        for x, project, look in zip((local, accumulated), self.project, self.look, strict=True):
            statistics = [x.amax(1, keepdim=True), x.mean(1, keepdim=True), project(x)]
            excited.append(functional.selu(look(torch.cat(statistics, dim=1))))
        return torch.sigmoid(self.calibrate(excited[0] + excited[1]))


class DAGMNet(nn.Module):
    """The network of the paper.

    Level k (0 - 3) halves the image k times and applies its own block, concatenates the result with
    the pooled features of the level above, and passes both to a dual attention gate. Decoders
    run from coarse to fine; each has a side output, and all are fused at full resolution.

    Args:
        channels: Number of input channels: DWI, ADC and, for CH3, the IS map.
        features: Nf, features of the first level; 32 in the paper.
        gated: Whether to use the attention gates; False for ablation.
        packed: Whether to pack 2 x 2 pixels into channels, and unpack them in the output.
        mirrored: Whether to add the head mirrored at the midplane as additional channels.
    """

    def __init__(
        self,
        channels: int = 3,
        features: int = 32,
        gated: bool = True,
        packed: bool = False,
        mirrored: bool = False,
    ) -> None:
        super().__init__()
        self.gated, self.packed, self.mirrored = gated, packed, mirrored
        channels *= (PIXELS if packed else 1) * (2 if mirrored else 1)
        widths = [features * 2**k for k in range(LEVELS)]
        finer = list(pairwise(widths))
        self.read = nn.ModuleList([_block(channels, features) for _ in widths])
        self.accumulate = nn.ModuleList([_block(features + above, w) for above, w in finer])
        if gated:
            self.channel_gate = nn.ModuleList([ChannelGate(features, w) for w in widths])
            self.spatial_gate = nn.ModuleList([SpatialGate(features, w) for w in widths])
        self.up = nn.ModuleList([nn.ConvTranspose3d(below, w, 2, 2) for w, below in finer])
        self.decode = nn.ModuleList([_block(2 * w, w) for w in widths[:-1]])
        self.decode.append(_block(widths[-1], widths[-1]))
        self.side = nn.ModuleList([nn.Conv3d(w, 1, 3, padding=1) for w in widths])
        # One doubling at a time: a single transposed convolution by 8 would need 8^3 weights for
        # each pair of channels, as many as half of the network, without any benefit.
        self.to_fuse = nn.ModuleList([self._raise(w, features, k) for k, w in enumerate(widths)])
        self.fuse = _block(LEVELS * features, features)
        self.answer = nn.Conv3d(features, PIXELS if packed else 1, 3, padding=1)

    @staticmethod
    def _raise(width: int, features: int, doublings: int) -> nn.Sequential:
        widths = [width] + [features] * doublings
        return nn.Sequential(*(nn.ConvTranspose3d(a, b, 2, 2) for a, b in pairwise(widths)))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Segment a batch.

        Args:
            image: (N, C, X, Y, Z), the three axes divisible by 8; X and Y by 16 if `packed`.

        Returns:
            Five logit maps: the fused output (N, 1, X, Y, Z), then the side outputs at full, half,
            quarter and eighth of the internal resolution, which is blocks of 2 x 2 pixels if
            `packed`.
        """
        if self.mirrored:
            image = with_mirror(image)
        if self.packed:
            image = pack(image)
        gated: list[Tensor] = []
        features = image
        for k in range(LEVELS):
            # Averaging instead of striding: a one-voxel lesion must remain visible one level down.
            view = functional.avg_pool3d(image, 2**k) if k else image
            local = self.read[k](view)
            if k == 0:
                features = local
            else:
                pooled = functional.max_pool3d(features, 2)
                features = self.accumulate[k - 1](torch.cat([local, pooled], dim=1))
            gated.append(features * self._attention(k, local, features) if self.gated else features)

        decoded = [self.decode[-1](gated[-1])]
        for k in reversed(range(LEVELS - 1)):
            raised = self.up[k](decoded[0])
            decoded.insert(0, self.decode[k](torch.cat([gated[k], raised], dim=1)))

        sides = [side(x) for side, x in zip(self.side, decoded, strict=True)]
        fused = self.fuse(
            torch.cat([up(x) for up, x in zip(self.to_fuse, decoded, strict=True)], 1)
        )
        answer = self.answer(fused)
        return (unpack(answer) if self.packed else answer, *sides)

    def _attention(self, level: int, local: Tensor, accumulated: Tensor) -> Tensor:
        """Return the dual attention weights of a level, (N, C, X, Y, Z) in 0 - 1."""
        channels = self.channel_gate[level](local, accumulated)
        weights: Tensor = channels * self.spatial_gate[level](local, accumulated)
        return weights
