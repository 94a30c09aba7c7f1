"""FCN: an encoder whose score maps at several strides are upsampled and summed.

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

    As in Long et al., stride 1 is not scored: this baseline has coarse contours. An FCN that scores
    every level with a decoder would be a UNet.

    Args:
        channels: Number of input channels.
        features: Features of the first level; 54 gives as many parameters as DAGMNet at Nf 32.
        packed: Whether to pack 2 x 2 pixels into channels, and unpack them in the output.
        mirrored: Whether to add the head mirrored at the midplane as additional channels.
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
