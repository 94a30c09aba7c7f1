"""FCN: a classifier's encoder whose coarse scores are summed on the way up.

References:
    Long et al. 2015, Fully convolutional networks for semantic segmentation ("FCN-8s": three
    strides are scored and summed, the last step up is a fixed linear interpolation).
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from infarct.lab.networks.pixels import PIXELS, pack, unpack, with_mirror

LEVELS = 4


def _block(channels: int, features: int) -> nn.Sequential:
    """Two 3 x 3 x 3 convolutions, each with batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv3d(channels, features, 3, padding=1, bias=False),
        nn.BatchNorm3d(features),
        nn.ReLU(inplace=True),
        nn.Conv3d(features, features, 3, padding=1, bias=False),
        nn.BatchNorm3d(features),
        nn.ReLU(inplace=True),
    )


class FCN(nn.Module):
    """Four encoder levels; the scores of strides 8, 4 and 2 are summed and interpolated.

    Stride 1 is not scored, as in the paper of the network: it is the baseline whose outline is
    coarse, and an FCN that scores every level with a decoder would be a UNet.

    Args:
        channels: Images of the input.
        features: Features of the first level; 54 gives as many parameters as DAGMNet at Nf 32.
        packed: Whether 2 x 2 pixels are packed into channels, and unpacked from the answer.
        mirrored: Whether the head mirrored at the midplane is read as further channels.
    """

    def __init__(
        self,
        channels: int = 3,
        features: int = 54,
        packed: bool = False,
        mirrored: bool = False,
    ) -> None:
        super().__init__()
        self.packed, self.mirrored = packed, mirrored
        channels *= (PIXELS if packed else 1) * (2 if mirrored else 1)
        widths = [features * 2**k for k in range(LEVELS)]
        self.encode = nn.ModuleList([_block(channels, features)])
        self.encode.extend(_block(a, b) for a, b in pairwise(widths))
        self.score = nn.ModuleList([nn.Conv3d(w, PIXELS if packed else 1, 1) for w in widths[1:]])

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Segment a batch.

        Args:
            image: (N, C, X, Y, Z), the three axes divisible by 8; X and Y by 16 if `packed`.

        Returns:
            One logit map (N, 1, X, Y, Z).
        """
        if self.mirrored:
            image = with_mirror(image)
        if self.packed:
            image = pack(image)
        features = self.encode[0](image)
        scores = []
        for encode, score in zip(self.encode[1:], self.score, strict=True):
            features = encode(functional.max_pool3d(features, 2))
            scores.append(score(features))
        total = scores.pop()
        while scores:
            total = _double(total) + scores.pop()
        answer = _double(total)
        return (unpack(answer) if self.packed else answer,)


def _double(score: Tensor) -> Tensor:
    return functional.interpolate(score, scale_factor=2, mode="trilinear", align_corners=False)
