"""Cohorts: distributions of synthetic populations, defined in TOML files."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields, replace
from importlib import resources
from typing import Any

from infarct.core.errors import InputFileError
from infarct.lab.sources.bank import Split

Range = tuple[float, float]


@dataclass(frozen=True)
class Cohort:
    """Distribution of a synthetic population. Named cohorts override the defaults.

    Attributes:
        name: Name of the cohort.
        split: Split of the anatomies, lesion masks and backgrounds to use.
        lesion_free: Fraction of scans without an acute infarct.
        real_background: Fraction of scans simulated on a real lesion-free scan.
        real_lesion: Fraction of lesions with the shape of a real mask, if the bank has masks.
        volume_ml: Median total lesion volume as segmented by a reader.
        volume_log_sd: SD of the natural logarithm of the volume.
        hyperacute: Fraction of hyperacute infarcts.
        subacute: Fraction of subacute infarcts; the remaining infarcts are acute.
        scattered: Fraction of infarcts with smaller additional infarcts.
        low: Fraction of patients whose infarct is placed at the skull base, in addition to those
            located there by chance.
        banded: Fraction of infarcts at the skull base adjacent to a bright susceptibility artefact,
            which is not part of the lesion.
        late: Fraction of patients with a late subacute infarct of mixed signal, including
            haemorrhage.
        embolic: Fraction of patients with an embolic shower instead of a single infarct.
        isotropic: Fraction of scans with isotropic voxels of about 2 mm.
        small_outlined_from: Range of `scan_parameters.Habit.small`, drawn once per patient.
        large_outlined_from: Range of `scan_parameters.Habit.large`, drawn once per patient.
        mimics: Factor on the frequency of mimics; 0 disables them.
        artefacts: Factor on the frequency of artefacts; 0 disables them.
        snr: Range of the signal-to-noise ratio of white matter on DWI, drawn on a log scale.
        bvalues: b-values, s/mm^2.
        bvalue_weights: Probability of each b-value.
        in_plane_mm: Range of the pixel size.
        thickness_mm: Range of the slice thickness.
    """

    name: str = "training"
    split: Split = "train"
    lesion_free: float = 0.28
    real_background: float = 0.3
    real_lesion: float = 0.65
    volume_ml: float = 4.4
    volume_log_sd: float = 2.2
    hyperacute: float = 0.2
    subacute: float = 0.1
    scattered: float = 0.25
    low: float = 0.0
    banded: float = 0.0
    late: float = 0.0
    embolic: float = 0.0
    isotropic: float = 0.0
    small_outlined_from: Range = (0.15, 0.3)
    large_outlined_from: Range = (0.3, 0.5)
    mimics: float = 1.0
    artefacts: float = 1.0
    snr: Range = (6.0, 60.0)
    bvalues: tuple[float, ...] = (1000.0, 700.0, 800.0, 1200.0, 1500.0, 2000.0, 2500.0)
    bvalue_weights: tuple[float, ...] = (0.72, 0.03, 0.05, 0.06, 0.06, 0.04, 0.04)
    in_plane_mm: Range = (0.6, 3.0)
    thickness_mm: Range = (2.0, 7.0)


def cohort_names() -> list[str]:
    """Return the names of the bundled cohorts."""
    files = resources.files("infarct.lab.simulation.cohorts").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def load_cohort(name: str) -> Cohort:
    """Load a bundled cohort.

    Args:
        name: Name of the cohort, see `cohort_names`.

    Raises:
        InputFileError: If the cohort does not exist, or its file contains an unknown setting.
    """
    file = resources.files("infarct.lab.simulation.cohorts") / f"{name}.toml"
    if not file.is_file():
        raise InputFileError(f"{name}: unknown cohort; available: {', '.join(cohort_names())}")
    settings: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    known = {f.name for f in fields(Cohort)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise InputFileError(f"cohort {name}: unknown settings {', '.join(unknown)}")
    frozen: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()
    }
    return replace(Cohort(name=name), **frozen)
