"""Draw the record of one synthetic scan from a cohort."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from infarct.lab.simulation import artefact_sampling
from infarct.lab.simulation.cohort import Cohort, Range
from infarct.lab.simulation.lesion_sampling import Look, low_masks, made_spot, real_spot, spot_at
from infarct.lab.simulation.lesion_shapes import LOW_MM, SHOWERED
from infarct.lab.simulation.reader_outline import FAINTEST
from infarct.lab.simulation.scan_parameters import Contrast, Habit, Pose, Record, Spot
from infarct.lab.sources.bank import Bank
from infarct.lab.sources.tissue_classes import Tissue


@dataclass(frozen=True)
class Phase:
    """Appearance of infarcts of a given age.

    Attributes:
        adc_gain: Range of the factor on the ADC.
        b0_gain: Range of the factor on the signal without diffusion weighting.
        edge_mm: Range of the blur at the border.
    """

    adc_gain: Range
    b0_gain: Range
    edge_mm: Range


PHASES: dict[str, Phase] = {
    "hyperacute": Phase((0.52, 0.80), (0.98, 1.12), (0.8, 2.0)),
    "acute": Phase((0.36, 0.66), (1.10, 2.30), (0.3, 1.0)),
    "subacute": Phase((0.70, 1.00), (1.40, 2.20), (0.3, 1.2)),
    "late": Phase((0.85, 1.25), (1.30, 2.20), (0.5, 2.0)),
}
"""Hyperacute: hours. Acute: 6 h to several days. Subacute: a week or more, with normalised ADC and
prolonged T2. Late: two weeks or more, with mixed signal and haemorrhagic parts."""

FEWEST_EMBOLI, MOST_EMBOLI = 3, 50
EMBOLUS_ML = (0.008, 0.5)

NORMAL_ADC = 0.75e-3
"""ADC of normal tissue, mm^2/s, from which the DWI contrast of an infarct is computed."""

OUTLINED_FACTOR, OUTLINED_POWER = 1.18, 0.985
"""Readers include some of the bright margin: segmented ml = factor * infarct ml ** power.

Fitted to 32 scans of the cohorts `test` and `day-after`, with a scatter of 10%.
"""

MOST_LOW_ML = 60.0
"""Maximum volume of infarcts placed at the skull base; the cerebellum holds no larger one."""

LEAST_ML = 0.03
"""Minimum volume of an infarct; smaller ones would never be visible."""


def draw(cohort: Cohort, bank: Bank, seed: int, index: int) -> Record:
    """Draw one record.

    Args:
        cohort: Distribution to draw from.
        bank: Source of anatomies, lesion masks and backgrounds.
        seed: Seed of the series.
        index: Index of the record in the series. Records can be drawn in any order.
    """
    rng = np.random.default_rng([seed, index])
    anatomies = bank.anatomies_of(cohort.split)
    backgrounds = bank.backgrounds_of(cohort.split)
    on_real = bool(backgrounds) and rng.random() < cohort.real_background
    acquisition = artefact_sampling.draw_acquisition(cohort, rng)
    lesions: tuple[Spot, ...] = ()
    if rng.random() >= cohort.lesion_free:
        # Draw only if requested, so that the patients of other cohorts do not change.
        if cohort.embolic > 0 and rng.random() < cohort.embolic:
            lesions = _draw_shower(cohort, acquisition.bvalue, rng)
        else:
            lesions = _draw_lesions(cohort, bank, acquisition.bvalue, rng)
    record = Record(
        seed=int(rng.integers(2**31)),
        cohort=cohort.name,
        anatomy=str(rng.choice(anatomies)),
        background=str(rng.choice(backgrounds)) if on_real else "",
        pose=_draw_pose(rng),
        contrast=_draw_contrast(rng),
        lesions=lesions,
        mimics=artefact_sampling.draw_mimics(cohort, bank, rng),
        tracts=artefact_sampling.draw_tracts(cohort, rng),
        white_spots=artefact_sampling.draw_white_spots(cohort, rng),
        acquisition=acquisition,
        artefacts=artefact_sampling.draw_artefacts(cohort, acquisition, rng),
        habit=_draw_habit(cohort, np.random.default_rng([seed, index, 3])),
    )
    low = bool(lesions) and lesions[0].centre_mm[2] < LOW_MM
    if low and cohort.banded > 0 and rng.random() < cohort.banded:
        record = replace(
            record, artefacts=artefact_sampling.banded(record.artefacts, lesions[0], rng)
        )
    return record


def _draw_habit(cohort: Cohort, rng: np.random.Generator) -> Habit:
    return Habit(
        small=float(rng.uniform(*cohort.small_outlined_from)),
        large=float(rng.uniform(*cohort.large_outlined_from)),
    )


def _draw_pose(rng: np.random.Generator) -> Pose:
    """Draw the residual pose after in-plane registration: height, pitch, roll and small errors."""
    nod, tilt, turn = rng.normal(0, (8.0, 3.0, 1.5))
    x, y, z = rng.normal((1.0, 1.0, 0.94), (0.02, 0.02, 0.045))
    dx, dy, dz = rng.normal(0, (1.0, 1.5, 2.5))
    return Pose(
        rotation_deg=(float(nod), float(tilt), float(turn)),
        scale=(float(x), float(y), float(z)),
        shift_mm=(float(dx), float(dy), float(dz)),
        mirrored=bool(rng.random() < 0.5),
        elastic_mm=float(rng.uniform(0.5, 3.5)),
        elastic_distance_mm=float(rng.uniform(20, 45)),
    )


_B0: dict[Tissue, Range] = {
    Tissue.AIR: (0.0, 0.02),
    Tissue.CSF: (1.7, 3.2),
    Tissue.CORTEX: (1.1, 1.4),
    Tissue.WHITE: (0.95, 1.05),
    Tissue.DEEP_GREY: (0.9, 1.15),
    Tissue.BRAINSTEM: (0.95, 1.15),
    Tissue.CEREBELLAR_WHITE: (0.95, 1.15),
    Tissue.CEREBELLAR_CORTEX: (1.1, 1.4),
    Tissue.VENTRICLE: (1.7, 3.2),
    Tissue.CHOROID_PLEXUS: (1.4, 2.4),
    Tissue.VESSEL: (0.05, 0.8),
    Tissue.MUSCLE: (0.15, 0.6),
    Tissue.SKIN: (0.03, 0.35),
    Tissue.BONE: (0.02, 0.15),
    Tissue.MARROW: (0.05, 0.35),
    Tissue.EYE: (1.6, 3.5),
    Tissue.MUCOSA: (0.3, 1.2),
    Tissue.CORD: (0.8, 1.2),
}
_ADC: dict[Tissue, Range] = {
    Tissue.AIR: (0.8, 1.2),
    Tissue.CSF: (2.6, 3.2),
    Tissue.CORTEX: (0.78, 0.88),
    Tissue.WHITE: (0.66, 0.78),
    Tissue.DEEP_GREY: (0.7, 0.8),
    Tissue.BRAINSTEM: (0.65, 0.8),
    Tissue.CEREBELLAR_WHITE: (0.62, 0.75),
    Tissue.CEREBELLAR_CORTEX: (0.68, 0.82),
    Tissue.VENTRICLE: (2.6, 3.2),
    Tissue.CHOROID_PLEXUS: (1.3, 2.3),
    Tissue.VESSEL: (1.0, 2.0),
    Tissue.MUSCLE: (1.0, 1.6),
    Tissue.SKIN: (0.4, 1.2),
    Tissue.BONE: (0.3, 1.2),
    Tissue.MARROW: (0.2, 0.8),
    Tissue.EYE: (2.4, 3.0),
    Tissue.MUCOSA: (1.2, 1.9),
    Tissue.CORD: (0.7, 0.95),
}


def _draw_contrast(rng: np.random.Generator) -> Contrast:
    """Draw the contrast of each tissue. Fluids are equal, and temperature scales all ADCs."""
    b0 = [float(rng.uniform(*_B0[tissue])) for tissue in Tissue]
    adc = [float(rng.uniform(*_ADC[tissue])) for tissue in Tissue]
    b0[Tissue.VENTRICLE] = b0[Tissue.CSF]
    adc[Tissue.VENTRICLE] = adc[Tissue.CSF]
    warmth = float(rng.uniform(0.93, 1.08))
    adc = [value * warmth for value in adc]
    return Contrast(
        b0=tuple(b0),
        adc=tuple(adc),
        texture=float(rng.uniform(0.02, 0.08)),
        adc_texture=float(rng.uniform(0.02, 0.07)),
        atrophy=float(rng.uniform(0.8, 4.0)),
        ventricle_mm=int(rng.choice([-3, -2, -1, 0, 0, 1, 2, 3])),
        fullness_mm=int(rng.choice([0, 0, 1, 1, 2])),
    )


def _draw_lesions(
    cohort: Cohort, bank: Bank, bvalue: float, rng: np.random.Generator
) -> tuple[Spot, ...]:
    """Draw the infarcts of one patient: a single event with one or more parts."""
    total = float(np.exp(rng.normal(np.log(cohort.volume_ml), cohort.volume_log_sd)))
    # Draw only if requested, so that the patients of other cohorts do not change.
    low = cohort.low > 0 and rng.random() < cohort.low
    total = infarct_ml(min(total, MOST_LOW_ML if low else 300.0))
    phases = ("hyperacute", "subacute", "acute")
    shares = (cohort.hyperacute, cohort.subacute, 1 - cohort.hyperacute - cohort.subacute)
    phase = str(rng.choice(phases, p=shares))
    if cohort.late > 0 and rng.random() < cohort.late:
        phase = "late"
    others = 0
    if rng.random() < cohort.scattered:
        others = int(rng.integers(1, 6))
    parts = np.array([1.0, *rng.uniform(0.02, 0.3, others)])
    volumes = np.clip(total * parts / parts.sum(), LEAST_ML, None)
    available = bank.lesions.of(cohort.split)
    if low:
        available = low_masks(bank, available)
    look = draw_look(phase, total, bvalue, rng)
    spots = []
    side = float(rng.choice([-1.0, 1.0]))
    for number, volume_ml in enumerate(volumes):
        if number == 0 and len(available) and rng.random() < cohort.real_lesion:
            spots.append(real_spot(bank, available, float(volume_ml), look, rng))
            side = 1.0 if spots[0].centre_mm[0] > 0 else -1.0
        else:
            first = low and number == 0
            spots.append(made_spot(float(volume_ml), side, look, rng, low=first))
    if phase == "late":
        spots += [_draw_haemorrhage(spots[0], rng) for _ in range(int(rng.integers(0, 4)))]
    return tuple(spots)


def _draw_haemorrhage(infarct: Spot, rng: np.random.Generator) -> Spot:
    """Draw a haemorrhagic, dark part of a late infarct; it still belongs to the lesion."""
    radius = (3 * infarct.volume_ml * 1000 / (4 * np.pi)) ** (1 / 3)
    x, y, z = rng.normal(infarct.centre_mm, 0.35 * radius)
    return replace(
        infarct,
        source="",
        centre_mm=(float(x), float(y), float(z)),
        volume_ml=infarct.volume_ml * float(rng.uniform(0.05, 0.25)),
        roughness=float(rng.uniform(0.3, 0.8)),
        adc_gain=float(rng.uniform(0.8, 1.2)),
        b0_gain=float(rng.uniform(0.35, 0.75)),
    )


def _draw_shower(cohort: Cohort, bvalue: float, rng: np.random.Generator) -> tuple[Spot, ...]:
    """Draw an embolic shower in one or more territories, unilateral or bilateral."""
    count = round(float(np.exp(rng.uniform(np.log(FEWEST_EMBOLI), np.log(MOST_EMBOLI)))))
    territories = list(SHOWERED)
    probabilities = np.array([0.6, 0.12, 0.1, 0.18])
    affected = rng.choice(
        territories, size=int(rng.choice([1, 2, 4], p=[0.6, 0.25, 0.15])), p=probabilities
    )
    side, both = float(rng.choice([-1.0, 1.0])), rng.random() < 0.3
    kind = "hyperacute" if rng.random() < cohort.hyperacute else "acute"
    spots = []
    for _ in range(count):
        volume_ml = float(np.clip(np.exp(rng.normal(np.log(0.05), 1.1)), *EMBOLUS_ML))
        look = draw_look(kind, volume_ml, bvalue, rng)
        site = str(rng.choice(SHOWERED[str(rng.choice(affected))]))
        here = float(rng.choice([-1.0, 1.0])) if both else side
        spots.append(spot_at(site, volume_ml, here, look, rng))
    return tuple(spots)


def infarct_ml(outlined_ml: float) -> float:
    """Return the infarct volume for which a reader would segment `outlined_ml`; both in ml."""
    return max(float((outlined_ml / OUTLINED_FACTOR) ** (1 / OUTLINED_POWER)), LEAST_ML)


def draw_look(kind: str, volume_ml: float, bvalue: float, rng: np.random.Generator) -> Look:
    """Draw the appearance of an infarct; small ones are fainter, but all are bright on DWI."""
    phase = PHASES[kind]
    faint = 0.3 * np.exp(-volume_ml / 5.0)
    at = rng.beta(2.5, 2) * (1 - faint)
    low, high = phase.adc_gain
    uneven = (0.3, 0.7) if kind == "late" else (0.05, 0.25)
    dark, bright = phase.b0_gain
    b0_gain = dark + rng.beta(2, 2) * (1 - faint) * (bright - dark)
    visible = 1 - np.log(FAINTEST / b0_gain) / (bvalue * NORMAL_ADC)
    return Look(
        kind=kind,
        edge_mm=float(rng.uniform(*phase.edge_mm)),
        adc_gain=float(min(high - at * (high - low), visible)),
        b0_gain=float(b0_gain),
        texture=float(rng.uniform(*uneven)),
    )
