"""Two scans of one patient: the same head with an infarct that changed, or did not, in between."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from infarct.core.geometry import Affine
from infarct.lab.simulation import artefact_sampling, scanner, tissue
from infarct.lab.simulation.cohort import Cohort
from infarct.lab.simulation.lesion_sampling import spot_at
from infarct.lab.simulation.lesion_shapes import SHOWERED
from infarct.lab.simulation.sampling import draw, draw_look
from infarct.lab.simulation.scan_parameters import Record, Spot
from infarct.lab.simulation.scanner import SimulatedScan
from infarct.lab.simulation.tissue import Head
from infarct.lab.simulation.warp import CENTRE_MM
from infarct.lab.simulation.write_cases import (
    APART,
    ATTEMPTS,
    Saving,
    draw_saving,
    mni_from_native,
    place,
    scanner_from_mni,
    write_case,
)
from infarct.lab.sources.bank import Bank

Change = Literal["retest", "stable", "grown", "reversed", "emboli"]
"""What happened between the scans.

retest: nothing; the scan was repeated. In all others the infarct is hyperacute in the first scan
and acute in the second. stable: its volume is the same. grown, reversed: it is larger or smaller.
emboli: new separate infarcts were added.
"""

CHANGES: tuple[Change, ...] = get_args(Change)

_GROWTH = (1.2, 5.0)
_REMAINING = (0.3, 0.8)
_EMBOLUS_ML = (0.2, 3.0)
_MOST_EMBOLI = 4
_OTHER_SCANNER = 0.5

_TURN_SD_DEG = (4.0, 2.0, 3.0)
_SHIFT_SD_MM = (3.0, 4.0, 4.0)


@dataclass(frozen=True)
class Pair:
    """Parameters of two scans of one patient.

    Attributes:
        change: What happened between the scans.
        other_scanner: Whether the second scan was made on another scanner.
        first: First scan.
        second: Second scan; its head has the seed of the first.
        second_noise: Seed of the noise and of the random artefacts of the second scan.
        turn_deg: Rotation of the head between the scans about x, y and z.
        shift_mm: Translation of the head between the scans.
    """

    change: Change
    other_scanner: bool
    first: Record
    second: Record
    second_noise: int
    turn_deg: tuple[float, float, float]
    shift_mm: tuple[float, float, float]

    @property
    def second_from_first(self) -> Affine:
        """(4, 4) rigid transform of the head from the first to the second scanner space, mm."""
        x, y, z = np.deg2rad(self.turn_deg)
        nod = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
        tilt = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
        turn = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
        affine = np.eye(4)
        affine[:3, :3] = turn @ tilt @ nod
        centre = np.array(CENTRE_MM)
        affine[:3, 3] = centre + self.shift_mm - affine[:3, :3] @ centre
        return affine


def draw_pair(cohort: Cohort, bank: Bank, change: Change, seed: int, index: int) -> Pair:
    """Draw one pair.

    Args:
        cohort: Distribution of the patients at the time with the larger infarct.
        bank: Source of anatomies, lesion masks and backgrounds.
        change: What happens between the scans.
        seed: Seed of the series.
        index: Index of the pair in the series.
    """
    rng = np.random.default_rng([seed, index, 4])
    first = draw(replace(cohort, lesion_free=0.0, embolic=0.0), bank, seed, index)
    other = bool(rng.random() < _OTHER_SCANNER)
    second = first
    if other:
        plan = artefact_sampling.draw_acquisition(cohort, rng)
        artefacts = artefact_sampling.draw_artefacts(cohort, plan, rng)
        second = replace(first, acquisition=plan, artefacts=artefacts)
    before, after = _draw_lesions(first.lesions, change, first.acquisition.bvalue, rng)
    x, y, z = rng.normal(0, _TURN_SD_DEG)
    dx, dy, dz = rng.normal(0, _SHIFT_SD_MM)
    return Pair(
        change=change,
        other_scanner=other,
        first=replace(first, lesions=before),
        second=replace(second, lesions=after),
        second_noise=int(rng.integers(2**31)),
        turn_deg=(float(x), float(y), float(z)),
        shift_mm=(float(dx), float(dy), float(dz)),
    )


def _draw_lesions(
    lesions: tuple[Spot, ...], change: Change, bvalue: float, rng: np.random.Generator
) -> tuple[tuple[Spot, ...], tuple[Spot, ...]]:
    """Return the infarcts of both scans; `lesions` are those at the time they are largest."""
    if change == "retest":
        return lesions, lesions
    total = sum(spot.volume_ml for spot in lesions)
    before, after = (
        tuple(replace(spot, **vars(look)) for spot in lesions)
        for look in (draw_look(kind, total, bvalue, rng) for kind in ("hyperacute", "acute"))
    )
    if change == "grown":
        before = _shrunk(before, 1 / float(np.exp(rng.uniform(*np.log(_GROWTH)))))
    elif change == "reversed":
        after = _shrunk(after, float(rng.uniform(*_REMAINING)))
    elif change == "emboli":
        after += tuple(
            _draw_embolus(bvalue, rng) for _ in range(int(rng.integers(1, _MOST_EMBOLI + 1)))
        )
    return before, after


def _shrunk(lesions: tuple[Spot, ...], factor: float) -> tuple[Spot, ...]:
    return tuple(
        replace(spot, volume_ml=factor * spot.volume_ml, shape_ml=spot.volume_ml)
        for spot in lesions
    )


def _draw_embolus(bvalue: float, rng: np.random.Generator) -> Spot:
    volume_ml = float(np.exp(rng.uniform(*np.log(_EMBOLUS_ML))))
    site = str(rng.choice(SHOWERED[str(rng.choice(list(SHOWERED)))]))
    look = draw_look("acute", volume_ml, bvalue, rng)
    return spot_at(site, volume_ml, float(rng.choice([-1.0, 1.0])), look, rng)


def make_pair(
    cohort: Cohort, bank: Bank, change: Change, seed: int, index: int, folder: Path
) -> None:
    """Draw, simulate and save one pair; redraw it if an infarct would not be visible to a reader.

    Args:
        cohort: Distribution of the patients at the time with the larger infarct.
        bank: Source of anatomies, lesion masks and backgrounds.
        change: What happens between the scans.
        seed: Seed of the series.
        index: Index of the pair in the series.
        folder: Output folder for the cases `1` and `2`, see `write_cases.save_case`, and
            `pair.json`, which is written last.

    Raises:
        RuntimeError: If none of `ATTEMPTS` pairs shows an infarct in both scans.
    """
    saving = draw_saving(seed, index)
    for attempt in range(ATTEMPTS):
        pair = draw_pair(cohort, bank, change, seed, index + attempt * APART)
        scans = scan_pair(pair, saving, bank)
        if all(scan.lesion.any() for _, scan in scans):
            break
    else:
        raise RuntimeError(f"none of {ATTEMPTS} pairs from cohort {cohort.name!r} is visible")
    for number, (head, scan) in enumerate(scans, start=1):
        write_case(head, scan, saving, folder / str(number))
    facts = {
        "second_from_first": world_second_from_first(pair, saving).tolist(),
        "infarct_ml": [float(head.lesion.sum()) / 1000 for head, _ in scans],
        **asdict(pair),
    }
    (folder / "pair.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def world_second_from_first(pair: Pair, saving: Saving) -> Affine:
    """Return the (4, 4) transform of the head between the world spaces of the files, mm."""
    scanner_from_world = scanner_from_mni(saving) @ mni_from_native(saving)
    return np.asarray(
        np.linalg.inv(scanner_from_world) @ pair.second_from_first @ scanner_from_world
    )


def scan_pair(pair: Pair, saving: Saving, bank: Bank) -> list[tuple[Head, SimulatedScan]]:
    """Simulate both scans of a pair.

    Args:
        pair: Parameters of the scans.
        saving: Position of the head in the first scan.
        bank: Source of anatomies, lesion masks and backgrounds.

    Returns:
        For each scan, the head in scanner space and its scan on the native grid.
    """
    there = scanner_from_mni(saving)
    scans = []
    for record, transform, noise in (
        (pair.first, there, pair.first.seed),
        (pair.second, pair.second_from_first @ there, pair.second_noise),
    ):
        head = place(tissue.build(record, bank, "cpu"), transform)
        scans.append((head, scanner.acquire(head, replace(record, seed=noise))))
    return scans
