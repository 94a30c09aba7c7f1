"""BrainMask: a small UNet that finds the brain in a whole head at 4 mm.

References:
    Liu et al. 2021, Methods, "Brain mask": a UNet on DWI and b0 in MNI space at 4 mm,
    48 x 56 x 48 x 2.
"""

from __future__ import annotations

from infarct.lab.networks.unet import UNet

SHAPE = (48, 56, 48)
"""Voxels of the 4 mm grid."""


def brainmask(channels: int = 2, features: int = 16) -> UNet:
    """Make the network: the UNet of the baselines, narrower, on DWI and b0.

    Args:
        channels: DWI and b0, z-scored over the whole volume.
        features: Features of the first level; a brain is a simple shape, 16 are plenty.

    Returns:
        A network that takes (N, 2, 48, 56, 48) and returns one logit map of that shape.
    """
    return UNet(channels, features)
