"""Shapes and locations of lesions and mimics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from infarct.lab.simulation import random_fields, separable_filters, warp
from infarct.lab.simulation.scan_parameters import Spot, Triple
from infarct.lab.simulation.warp import Box, Warp
from infarct.lab.sources.bank import Bank


@dataclass(frozen=True)
class Site:
    """A typical infarct location.

    Attributes:
        territory: MCA, PCA, ACA or VB, as in Table 1 of the paper.
        centre_mm: Centre of the site on the right (x > 0), MNI.
        spread_mm: SD of the centre.
        ml: Smallest and largest infarct at this site.
        weight: Relative frequency among the sites that fit a volume. Sites with weight 0 are used
            only for infarcts at the skull base or embolic showers.
    """

    territory: str
    centre_mm: Triple
    spread_mm: Triple
    ml: tuple[float, float]
    weight: float


SITES: dict[str, Site] = {
    "mca-hemisphere": Site("MCA", (42, -8, 18), (6, 22, 14), (4, 400), 4),
    "mca-cortical-branch": Site("MCA", (46, -22, 34), (8, 30, 16), (0.05, 20), 3),
    "insula": Site("MCA", (38, 4, 2), (3, 8, 6), (0.3, 20), 1),
    "striatocapsular": Site("MCA", (24, 2, 6), (4, 8, 6), (0.2, 25), 2),
    "corona-radiata": Site("MCA", (26, -14, 27), (4, 16, 6), (0.03, 4), 2),
    "pca-occipital": Site("PCA", (20, -78, 4), (8, 10, 12), (0.2, 80), 1.5),
    "thalamus": Site("PCA", (13, -18, 8), (4, 5, 4), (0.03, 3), 1),
    "aca-medial": Site("ACA", (8, 22, 38), (3, 28, 16), (0.1, 40), 0.8),
    "pons": Site("VB", (5, -26, -33), (3, 3, 6), (0.03, 3), 0.8),
    "midbrain": Site("VB", (7, -20, -11), (3, 4, 3), (0.03, 0.8), 0.2),
    "medulla": Site("VB", (5, -40, -52), (2, 2, 4), (0.03, 0.6), 0.3),
    "cerebellum": Site("VB", (26, -64, -36), (12, 9, 8), (0.05, 60), 1.2),
    "temporal-base": Site("MCA", (52, -24, -20), (6, 16, 6), (0.1, 60), 0),
    "orbitofrontal": Site("MCA", (30, 34, -14), (8, 8, 5), (0.1, 40), 0),
    "anterior-border-zone": Site("MCA", (26, 22, 42), (6, 18, 10), (0.008, 4), 0),
    "posterior-border-zone": Site("MCA", (34, -64, 28), (7, 9, 12), (0.008, 4), 0),
    "internal-border-zone": Site("MCA", (24, -8, 32), (3, 20, 6), (0.008, 4), 0),
}

SHOWERED: dict[str, tuple[str, ...]] = {
    "MCA": (
        *("mca-cortical-branch", "mca-cortical-branch", "insula", "corona-radiata"),
        *("anterior-border-zone", "posterior-border-zone", "internal-border-zone"),
    ),
    "PCA": ("pca-occipital", "pca-occipital", "thalamus"),
    "ACA": ("aca-medial", "anterior-border-zone"),
    "VB": ("cerebellum", "cerebellum", "pons"),
}
"""Sites of small emboli in each territory; sites listed twice have twice the probability."""

LOW_MM = -10.0
"""MNI z below which the brain lies at the skull base."""


def _box(centre: NDArray[np.float64], half: NDArray[np.float64]) -> Box:
    """Return the lattice voxels within `half` voxels of a centre, at least one."""
    low = np.clip(np.floor(centre - half), 0, np.array(warp.SHAPE) - 2).astype(int)
    high = np.clip(np.ceil(centre + half) + 1, low + 1, warp.SHAPE).astype(int)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return x, y, z


def _real_depth(
    spot: Spot, bank: Bank, way: Warp, device: torch.device | str
) -> tuple[Box, torch.Tensor]:
    """Return a box and the depth of its voxels inside a warped real mask."""
    mask, first = bank.lesions.mask(spot.source)
    pad = 14
    soft = torch.from_numpy(np.pad(mask, pad)).to(device, torch.float32)
    near = [separable_filters.blur(n, 1.2) for n in soft.shape]
    depth = separable_filters.apply(soft, near) + 0.5 * separable_filters.wide_blur(
        soft, 5.0, step=2
    )
    corners = np.indices((2, 2, 2)).reshape(3, -1) * (np.array(soft.shape) - 1)[:, None]
    corners = corners + (np.array(first) - pad)[:, None]
    seen = way.target_from_source[:3, :3] @ corners + way.target_from_source[:3, 3:]
    low, high = seen.min(axis=1), seen.max(axis=1)
    box = _box((low + high) / 2, (high - low) / 2)
    shift = np.eye(4)
    shift[:3, 3] = pad - np.array(first)
    return box, warp.interpolate(depth[None], way, shift, box)[0]


def _synthetic_depth(
    spot: Spot, way: Warp, seed: int, device: torch.device | str
) -> tuple[Box, torch.Tensor]:
    """Return a box and the depth of its voxels inside an ellipsoid with a rough border."""
    centre = warp.moved(spot.centre_mm, way.target_from_source)
    axes = np.array(spot.axes) / np.prod(spot.axes) ** (1 / 3)
    shape_ml = spot.volume_ml if spot.shape_ml is None else spot.shape_ml
    radius = (3 * shape_ml * 1000 / (4 * np.pi)) ** (1 / 3)
    box = _box(centre, axes * radius * 2.0 + 4)
    squares = [
        ((torch.arange(s.start, s.stop, dtype=torch.float32, device=device) - c) / a) ** 2
        for s, c, a in zip(box, centre.tolist(), axes.tolist(), strict=True)
    ]
    apart = (squares[0][:, None, None] + squares[1][:, None] + squares[2]).sqrt() / max(radius, 1.0)
    x, y, z = apart.shape
    coarse = random_fields.smooth((x, y, z), max(0.8 * radius, 4.0), seed, "outline", device)
    fine = random_fields.smooth((x, y, z), 3.0, seed, "border", device)
    return box, -(apart + spot.roughness * (0.6 * coarse + 0.25 * fine))


def outline(
    spot: Spot, bank: Bank, way: Warp, allowed: torch.Tensor, seed: int
) -> tuple[Box, torch.Tensor]:
    """Return the mask of a spot: the deepest voxels of its shape, up to its volume.

    Args:
        spot: Parameters of the spot.
        bank: Source of real masks.
        way: Warp of the head.
        allowed: (192, 224, 192) bool; voxels the spot may occupy, such as parenchyma.
        seed: Seed of this spot.

    Returns:
        A box of the lattice, and the mask within it (float32, 0 or 1).
    """
    device = allowed.device
    box, depth = (
        _real_depth(spot, bank, way, device)
        if spot.source
        else _synthetic_depth(spot, way, seed, device)
    )
    allowed_here = allowed[box]
    depth = torch.where(allowed_here, depth, -torch.inf).flatten()
    wanted = max(1, min(round(spot.volume_ml * 1000), int(0.9 * depth.numel())))
    level = torch.topk(depth, wanted, sorted=True).values[-1]
    inside = (depth >= level) & allowed_here.flatten()
    return box, inside.reshape(allowed_here.shape).float()
