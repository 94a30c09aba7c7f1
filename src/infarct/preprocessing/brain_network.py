"""Skull-stripping by a network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from infarct.core.diffusion import Image, Mask
from infarct.core.normalisation import zscore
from infarct.core.resampling import shrink
from infarct.inference.network import Network, expect_answer, stretch

HEAD_STEP = 4
"""Voxel size of the grid for the network, mm."""

_IN_PLANE = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])
"""In-plane connectivity."""


def brain_mask(network: Network, images: Mapping[str, Image]) -> Mask:
    """Find the brain in a head with a skull-stripping network.

    Args:
        network: A network whose `answers` is "brain".
        images: (192, 224, 192) "DWI" and "b0" on the MNI grid, in any unit, not masked.

    Returns:
        (192, 224, 192) brain mask: closed and filled at 4 mm, reduced to the component at the
        centre of the head, smoothed at 1 mm and dilated by one voxel.

    Raises:
        AssetError: If the network does not predict the brain.

    References:
        Liu et al. 2021, Methods, "Automated skull stripping".
    """
    contract = expect_answer(network, "brain")
    planes = []
    for name, scaled in zip(contract.channels, contract.scaled, strict=True):
        coarse = shrink(images[name], HEAD_STEP)
        planes.append(zscore(coarse, np.ones(coarse.shape, dtype=bool)) if scaled else coarse)
    found = network.run(np.stack(planes)[None].astype(np.float32))[0, 0] > 0.5
    # Padded, because closing would otherwise erode the mask at the border. Holes are filled slice
    # by slice: in a slab, the ventricles are open at the top or bottom.
    closed = ndimage.binary_closing(np.pad(found, 1))[1:-1, 1:-1, 1:-1]
    found = _central(ndimage.binary_fill_holes(closed, _IN_PLANE))
    fine = found.astype(np.float32)
    for axis in range(3):
        fine = stretch(fine, axis, HEAD_STEP, (HEAD_STEP - 1) / 2)
    smooth = ndimage.gaussian_filter(fine, 1.0) > 0.5
    mask: Mask = ndimage.binary_dilation(smooth)
    return mask


def _central(mask: Mask) -> Mask:
    """Return the component nearest to the centre of the grid, without eyes and neck."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    middle = tuple(size // 2 for size in mask.shape)
    if not labels[middle]:
        nearest = ndimage.distance_transform_edt(
            labels == 0, return_distances=False, return_indices=True
        )
        middle = tuple(int(index[middle]) for index in nearest)
    central: Mask = labels == labels[middle]
    return central
