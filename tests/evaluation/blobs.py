"""Random lesions and imperfect segmentations of them, for the tests of the evaluation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

SHAPE = (40, 44, 16)
AFFINE = np.diag([1.5, 1.5, 5.0, 1.0])


def blobs(
    rng: np.random.Generator, fraction: float = 0.04, sigma: float = 2.0
) -> NDArray[np.bool_]:
    """Return a random mask of a few lesions that fill `fraction` of the volume."""
    field = gaussian_filter(rng.normal(size=SHAPE), (sigma, sigma, sigma / 3))
    return field > np.quantile(field, 1 - fraction)


def imperfect(
    mask: NDArray[np.bool_], rng: np.random.Generator, noise: float = 0.25
) -> NDArray[np.bool_]:
    """Return an imperfect segmentation: shifted edges, missed and false positive lesions."""
    field = gaussian_filter(mask.astype(float), (1.2, 1.2, 0.6))
    wobble = gaussian_filter(rng.normal(size=SHAPE), (1.5, 1.5, 0.7))
    return field + noise * wobble / wobble.std() > 0.5


def mask_pairs(n: int = 12) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Return n reproducible pairs of a reference and a prediction, from tiny to large."""
    pairs = []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        reference = blobs(rng, fraction=float(np.geomspace(0.003, 0.1, n)[seed]))
        pairs.append((reference, imperfect(reference, rng, noise=0.12 + 0.02 * seed)))
    return pairs
