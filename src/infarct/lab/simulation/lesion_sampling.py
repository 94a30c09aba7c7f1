"""Spots of changed tissue: how one looks, and the drawing of where it lies."""

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
    """How a spot changes tissue; fields as in `scan_parameters.Spot`."""

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
    """Draw a spot shaped by a real mask of about the volume wanted."""
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
    """Return which of some real masks have their centre low, at the skull base."""
    first, size = bank.lesions.boxes[available].astype(float).transpose(1, 0, 2)
    centres = first + size / 2 + MNI_GRID.affine[:3, 3]
    return np.asarray(available[centres[:, 2] < LOW_MM])


def made_spot(
    volume_ml: float, side: float, look: Look, rng: np.random.Generator, *, low: bool = False
) -> Spot:
    """Draw a spot of made shape at a site where one of its volume occurs.

    Args:
        volume_ml: Of the spot.
        side: 1 on the right, -1 on the left.
        look: Of the spot.
        rng: Source of the draw.
        low: Whether among the sites at the skull base alone, each as often.
    """
    fitting = [n for n, s in SITES.items() if s.ml[0] <= volume_ml <= s.ml[1]]
    if low:
        fitting = [name for name in fitting if SITES[name].centre_mm[2] < LOW_MM]
    weights = np.array([1.0 if low else SITES[name].weight for name in fitting])
    name = str(rng.choice(fitting, p=weights / weights.sum()))
    return spot_at(name, volume_ml, side, look, rng)


def spot_at(name: str, volume_ml: float, side: float, look: Look, rng: np.random.Generator) -> Spot:
    """Draw a spot of made shape at a site.

    Args:
        name: Key of `lesion_shapes.SITES`.
        volume_ml: Of the spot.
        side: 1 on the right, -1 on the left.
        look: Of the spot.
        rng: Source of the draw.
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
