"""BrainMask: a small UNet that segments the brain in a whole head at 4 mm.

References:
    Liu et al. 2021, Methods, "Brain mask": a UNet on DWI and b0 in MNI space at 4 mm,
    48 x 56 x 48 x 2.
"""

from __future__ import annotations

from infarct.lab.networks.unet import UNet

SHAPE = (48, 56, 48)
"""Voxels of the 4 mm grid."""


def brainmask(channels: int = 2, features: int = 16) -> UNet:
    """Build the network: a narrower version of the baseline UNet, on DWI and b0.

    Args:
        channels: Number of input channels: DWI and b0, z-scored over the whole volume.
        features: Features of the first level; 16 are enough for the simple shape of a brain.

    Returns:
        A network that maps (N, 2, 48, 56, 48) to one logit map (N, 1, 48, 56, 48).
    """
    return UNet(channels, features)
