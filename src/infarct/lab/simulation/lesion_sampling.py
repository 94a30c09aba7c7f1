"""Draw the appearance and location of spots of altered tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infarct.core.geometry import MNI_GRID
from infarct.lab.simulation.lesion_shapes import LOW_MM, SITES
from infarct.lab.simulation.scan_parameters import Spot, Triple
from infarct.lab.sources.bank import Bank


@dataclass(frozen=True)
class Look:
    """Appearance of a spot; fields as in `scan_parameters.Spot`."""

    kind: str
    edge_mm: float
    adc_gain: float
    b0_gain: float
    texture: float


def real_spot(
    bank: Bank,
    available: NDArray[np.intp],
    volume_ml: float,
    look: Look,
    rng: np.random.Generator,
) -> Spot:
    """Draw a spot with the shape of a real mask of similar volume.

    Args:
        bank: Source of the masks.
        available: Indices of the masks to choose from.
        volume_ml: Volume of the spot.
        look: Appearance of the spot.
        rng: Random generator.
    """
    apart = np.abs(np.log(bank.lesions.ml[available] / volume_ml))
    near = available[np.argsort(apart)[: max(20, len(available) // 12)]]
    index = int(rng.choice(near))
    first, size = bank.lesions.boxes[index].astype(float)
    x, y, z = (first + size / 2 + MNI_GRID.affine[:3, 3]).tolist()
    return Spot(
        source=str(bank.lesions.names[index]),
        site="",
        centre_mm=(x, y, z),
        axes=(1.0, 1.0, 1.0),
        volume_ml=volume_ml,
        roughness=0.0,
        **vars(look),
    )


def low_masks(bank: Bank, available: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the indices of those real masks whose centre is at the skull base."""
    first, size = bank.lesions.boxes[available].astype(float).transpose(1, 0, 2)
    centres = first + size / 2 + MNI_GRID.affine[:3, 3]
    return np.asarray(available[centres[:, 2] < LOW_MM])


def made_spot(
    volume_ml: float, side: float, look: Look, rng: np.random.Generator, *, low: bool = False
) -> Spot:
    """Draw a spot of synthetic shape at a site where infarcts of its volume occur.

    Args:
        volume_ml: Volume of the spot.
        side: 1 for right, -1 for left.
        look: Appearance of the spot.
        rng: Random generator.
        low: Whether to use only sites at the skull base, with equal probability.
    """
    fitting = [n for n, s in SITES.items() if s.ml[0] <= volume_ml <= s.ml[1]]
    if low:
        fitting = [name for name in fitting if SITES[name].centre_mm[2] < LOW_MM]
    weights = np.array([1.0 if low else SITES[name].weight for name in fitting])
    name = str(rng.choice(fitting, p=weights / weights.sum()))
    return spot_at(name, volume_ml, side, look, rng)


def spot_at(name: str, volume_ml: float, side: float, look: Look, rng: np.random.Generator) -> Spot:
    """Draw a spot of synthetic shape at a given site.

    Args:
        name: Key of `lesion_shapes.SITES`.
        volume_ml: Volume of the spot.
        side: 1 for right, -1 for left.
        look: Appearance of the spot.
        rng: Random generator.
    """
    site = SITES[name]
    x, y, z = rng.normal(site.centre_mm, site.spread_mm)
    centre: Triple = (float(side * x), float(y), float(z))
    a, b, c = np.exp(rng.normal(0, 0.3, 3))
    return Spot(
        source="",
        site=name,
        centre_mm=centre,
        axes=(float(a), float(b), float(c)),
        volume_ml=volume_ml,
        roughness=float(rng.uniform(0.1, 0.6)),
        **vars(look),
    )
