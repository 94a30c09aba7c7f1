"""Draw acquisition parameters, artefacts and mimics.

Artefacts and mimics teach networks to avoid false positives.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from infarct.lab.simulation.cohort import Cohort
from infarct.lab.simulation.lesion_sampling import Look, made_spot, real_spot
from infarct.lab.simulation.scan_parameters import Acquisition, Artefacts, Bump, Spot, Triple
from infarct.lab.simulation.warp import SHAPE
from infarct.lab.sources.bank import Bank

AIR_SITES: dict[str, tuple[Triple, Triple]] = {
    "frontal-base": ((0, 40, -24), (12, 10, 7)),
    "orbital-left": ((-18, 40, -22), (8, 10, 6)),
    "orbital-right": ((18, 40, -22), (8, 10, 6)),
    "temporal-pole-left": ((-42, 12, -34), (9, 8, 8)),
    "temporal-pole-right": ((42, 12, -34), (9, 8, 8)),
    "petrous-left": ((-46, -24, -30), (10, 9, 7)),
    "petrous-right": ((46, -24, -30), (10, 9, 7)),
    "mastoid-left": ((-54, -44, -34), (8, 8, 8)),
    "mastoid-right": ((54, -44, -34), (8, 8, 8)),
    "temporal-base-left": ((-57, -28, -22), (9, 13, 6)),
    "temporal-base-right": ((57, -28, -22), (9, 13, 6)),
    "frontal-sinus": ((0, 60, -6), (22, 7, 9)),
}
"""Centre and SD (MNI mm) of brain regions next to air or bone, where the field is distorted."""

TRACT_SITES: dict[str, tuple[Triple, Triple]] = {
    "capsule-left": ((-24, -16, 8), (3, 6, 10)),
    "capsule-right": ((24, -16, 8), (3, 6, 10)),
    "corona-left": ((-26, -20, 30), (4, 9, 10)),
    "corona-right": ((26, -20, 30), (4, 9, 10)),
    "peduncle-left": ((-14, -18, -10), (4, 4, 6)),
    "peduncle-right": ((14, -18, -10), (4, 4, 6)),
    "splenium": ((0, -38, 14), (14, 5, 6)),
    "genu": ((0, 26, 6), (12, 5, 6)),
    "pons": ((0, -28, -32), (10, 6, 8)),
    "cerebellar-peduncles": ((0, -46, -36), (22, 6, 7)),
}
CORTEX_SITES: dict[str, tuple[Triple, Triple]] = {
    "insula-left": ((-38, 4, 0), (5, 12, 10)),
    "insula-right": ((38, 4, 0), (5, 12, 10)),
    "cingulate": ((0, 20, 30), (6, 24, 12)),
    "medial-temporal-left": ((-26, -14, -20), (7, 12, 7)),
    "medial-temporal-right": ((26, -14, -20), (7, 12, 7)),
    "occipital": ((0, -84, 2), (14, 10, 12)),
    "frontal-medial": ((0, 50, 0), (10, 12, 16)),
}


LEAK_SITES: dict[str, tuple[Triple, Triple]] = {
    "eye-left": ((-32, 58, -38), (9, 9, 9)),
    "eye-right": ((32, 58, -38), (9, 9, 9)),
    "frontal-base": ((0, 45, -30), (12, 9, 6)),
    "temporal-muscle-left": ((-66, 0, -30), (6, 12, 12)),
    "temporal-muscle-right": ((66, 0, -30), (6, 12, 12)),
    "neck": ((0, -45, -68), (20, 15, 8)),
    "vertex": ((0, -30, 84), (30, 30, 6)),
}
"""Centre and SD (MNI mm) of regions that brain masks wrongly include or miss."""


def _occurs(rate: float, factor: float, rng: np.random.Generator) -> bool:
    """Draw whether an event occurs, with its rate times the factor of the cohort."""
    return bool(rng.random() < rate * factor)


def _bump_near(
    kind: str, site: tuple[Triple, Triple], height: float, rng: np.random.Generator
) -> Bump:
    """Draw a bump near a site."""
    centre, size = site
    x, y, z = rng.normal(centre, 3.0)
    a, b, c = np.array(size) * np.exp(rng.normal(0, 0.25, 3))
    return Bump(kind, (float(x), float(y), float(z)), (float(a), float(b), float(c)), height)


def draw_acquisition(cohort: Cohort, rng: np.random.Generator) -> Acquisition:
    """Draw the acquisition parameters of a scan."""
    low, high = cohort.in_plane_mm
    pixel = float(np.clip(np.exp(rng.normal(np.log(1.25), 0.4)), low, high))
    thickness = float(rng.uniform(*cohort.thickness_mm))
    gap = float(rng.choice([0.0, 0.0, rng.uniform(0, 0.3)])) * thickness
    # Draw only if requested, so that the scans of other cohorts do not change.
    if cohort.isotropic > 0 and rng.random() < cohort.isotropic:
        pixel = thickness = float(rng.uniform(1.7, 2.3))
        gap = 0.0
    spacing = thickness + gap
    bottom = float(rng.uniform(0, 8)) if rng.random() < 0.85 else float(rng.uniform(8, 45))
    top = 170.0 if rng.random() < 0.9 else float(rng.uniform(125, 165))
    return Acquisition(
        bvalue=float(rng.choice(cohort.bvalues, p=cohort.bvalue_weights)),
        in_plane_mm=(pixel, pixel),
        thickness_mm=thickness,
        spacing_mm=spacing,
        first_mm=bottom,
        slices=int((min(top, SHAPE[2] - 1.0) - bottom) // spacing) + 1,
        snr=float(np.exp(rng.uniform(*np.log(cohort.snr)))),
        b0_noise=float(rng.uniform(0.8, 1.7)),
        psf=float(rng.uniform(1.0, 1.5)),
    )


def draw_artefacts(cohort: Cohort, acquisition: Acquisition, rng: np.random.Generator) -> Artefacts:
    """Draw the artefacts of a scan."""
    frequency = cohort.artefacts
    direction = float(rng.choice([-1.0, 1.0]))
    distortions = [
        _bump_near("air", site, direction * float(rng.uniform(0, 7)), rng)
        for site in AIR_SITES.values()
        if _occurs(0.6, frequency, rng)
    ]
    pile_ups = [
        _bump_near("pile-up", site, float(rng.exponential(0.5)), rng)
        for site in AIR_SITES.values()
        if _occurs(0.5, frequency, rng)
    ]
    banded = _occurs(0.6, frequency, rng)
    rims = [
        _bump_near("rim", site, float(rng.exponential(1.0)), rng)
        for site in AIR_SITES.values()
        if banded and rng.random() < 0.4
    ]
    coils = [
        Bump(
            "coil",
            (float(rng.normal(0, 45)), float(rng.normal(-40, 70)), float(rng.normal(0, 50))),
            (float(rng.uniform(25, 60)), float(rng.uniform(25, 60)), float(rng.uniform(25, 70))),
            float(rng.uniform(0.1, 0.8)),
        )
        for _ in range(int(rng.integers(0, 4)) if frequency else 0)
    ]
    slices = acquisition.slices
    moved = tuple(
        (int(rng.integers(slices)), int(rng.integers(-2, 3)), int(rng.integers(-2, 3)))
        for _ in range(int(rng.integers(1, 5)) if _occurs(0.08, frequency, rng) else 0)
    )
    dropped = tuple(
        (int(rng.integers(slices)), float(rng.uniform(0.3, 0.9)))
        for _ in range(int(rng.integers(1, 3)) if _occurs(0.06, frequency, rng) else 0)
    )
    # Mostly less than a pixel; occasionally the head moves between b0 and DWI.
    apart = min(frequency, 1.0) * (2.0 if rng.random() < 0.1 else 0.6)
    shift_x, shift_y = (float(v) for v in rng.normal(0, (0.5 * apart, apart)))
    spike = None
    if _occurs(0.03, frequency, rng):
        across, along = (int(v) for v in rng.integers(-40, 41, 2))
        spike = (int(rng.integers(slices)), across, along, float(rng.uniform(0.5, 3)))
    return Artefacts(
        shading=float(rng.uniform(0.02, 0.25)) * min(frequency, 1.0),
        shading_mm=float(rng.uniform(50, 110)),
        coils=tuple(coils),
        filter_difference=float(rng.uniform(0, 0.1)) if _occurs(0.5, frequency, rng) else 0.0,
        distortion_mm=float(rng.uniform(0, 1.2)) * min(frequency, 1.0),
        susceptibility=tuple(distortions),
        pile_up=tuple(pile_ups),
        rims=tuple(rims),
        rim_mm=float(rng.uniform(2.0, 5.0)),
        rim_level=float(rng.uniform(0.5, 0.9)),
        pile_up_adc=float(rng.uniform(0, 0.35)) if _occurs(0.6, frequency, rng) else 0.0,
        dwi_shift_mm=(shift_x, shift_y),
        dwi_stretch=float(rng.normal(0, 0.006)) * min(frequency, 1.0),
        ghost=float(rng.uniform(0.005, 0.05)) if _occurs(0.2, frequency, rng) else 0.0,
        slice_gain=float(rng.uniform(0, 0.04)) if _occurs(0.4, frequency, rng) else 0.0,
        moved_slices=moved,
        dropped=dropped,
        spike=spike,
        mask_wobble=float(rng.uniform(0, 0.15)) * min(frequency, 1.0),
        mask_level=float(rng.uniform(0.35, 0.6)) if frequency else 0.5,
        leaks=tuple(
            _bump_near("leak", site, float(rng.choice([-1.0, 0.5, 1.0])), rng)
            for site in LEAK_SITES.values()
            if _occurs(0.06, frequency, rng)
        ),
    )


def banded(artefacts: Artefacts, spot: Spot, rng: np.random.Generator) -> Artefacts:
    """Add a bright susceptibility band along the border of the brain next to an infarct."""
    height = 0.4 + float(rng.exponential(0.8))
    band = _bump_near("rim", (spot.centre_mm, (14.0, 14.0, 9.0)), height, rng)
    return replace(artefacts, rims=(*artefacts.rims, band))


def draw_tracts(cohort: Cohort, rng: np.random.Generator) -> tuple[Bump, ...]:
    """Draw fibre tracts with low ADC and bright cortex, which are normal to varying degrees."""
    tracts = [
        _bump_near("tract", site, float(rng.uniform(0, 0.2)), rng)
        for site in TRACT_SITES.values()
        if _occurs(0.5, cohort.mimics, rng)
    ]
    cortex = [
        _bump_near("cortex", site, float(rng.uniform(0, 0.35)), rng)
        for site in CORTEX_SITES.values()
        if _occurs(0.6, cohort.mimics, rng)
    ]
    return (*tracts, *cortex)


def draw_white_spots(cohort: Cohort, rng: np.random.Generator) -> Triple | None:
    """Draw white-matter hyperintensity: level (SD), b0 gain, ADC gain."""
    if not _occurs(0.6, cohort.mimics, rng):
        return None
    level, b0_gain, adc_gain = rng.uniform((2.0, 1.15, 1.1), (3.2, 1.8, 1.6))
    return float(level), float(b0_gain), float(adc_gain)


def draw_mimics(cohort: Cohort, bank: Bank, rng: np.random.Generator) -> tuple[Spot, ...]:
    """Draw mimics of acute infarcts: old infarcts and T2 shine-through."""
    spots = []
    available = bank.lesions.of(cohort.split)
    kinds = (
        ("old-infarct", 0.25, (1.5, 3.2), (1.3, 2.4)),
        ("shine-through", 0.2, (1.05, 1.35), (1.25, 1.7)),
    )
    for kind, rate, adc_gain, b0_gain in kinds:
        for _ in range(int(rng.integers(1, 4)) if _occurs(rate, cohort.mimics, rng) else 0):
            look = Look(
                kind=kind,
                edge_mm=float(rng.uniform(0.6, 2.0)),
                adc_gain=float(rng.uniform(*adc_gain)),
                b0_gain=float(rng.uniform(*b0_gain)),
                texture=float(rng.uniform(0.05, 0.4)),
            )
            volume_ml = float(np.clip(np.exp(rng.normal(np.log(1.0), 1.5)), 0.03, 60))
            if len(available) and rng.random() < 0.5:
                spots.append(real_spot(bank, available, volume_ml, look, rng))
            else:
                side = float(rng.choice([-1.0, 1.0]))
                spots.append(made_spot(volume_ml, side, look, rng))
    return tuple(spots)
