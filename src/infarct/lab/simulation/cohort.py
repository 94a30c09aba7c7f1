"""Cohorts: the distributions a synthetic population is drawn from, named in TOML files."""

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
    """From what a population is drawn; the defaults are what the named cohorts change.

    Attributes:
        name: Of the cohort.
        split: Whose anatomies, lesions and backgrounds are seen.
        lesion_free: Share of scans without an acute infarct.
        real_background: Share of scans written on a real lesion-free scan.
        real_lesion: Share of lesions shaped by a real mask, where the bank has any.
        volume_ml: Median of the total volume that a reader outlines.
        volume_log_sd: SD of its natural logarithm.
        hyperacute: Share of infarcts of that phase.
        subacute: Share of infarcts of that phase; the rest is acute.
        scattered: Share of infarcts with smaller ones about.
        low: Share of patients whose infarct is made to lie low, at the skull base, beside those
            that lie there anyway.
        banded: Share of infarcts at the skull base that touch a bright susceptibility band, which
            is no infarct.
        late: Share of patients with a late subacute infarct of mixed signal, bleeding included.
        embolic: Share of patients with a shower of small emboli instead of one infarct.
        isotropic: Share of scans with isotropic voxels of about 2 mm.
        small_outlined_from: Range of `record.Habit.small`, which a reader draws once per patient.
        large_outlined_from: Range of `record.Habit.large`.
        mimics: Factor on how often mimics occur; 0 leaves them out.
        artefacts: Factor on how often artefacts occur; 0 leaves them out.
        snr: Range of the DWI's signal-to-noise ratio in white matter, drawn on a log scale.
        bvalues: s/mm^2, drawn with `bvalue_weights`.
        bvalue_weights: How often each occurs.
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
    """Return the names of the cohorts that ship with the package."""
    files = resources.files("infarct.lab.simulation.cohorts").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def load_cohort(name: str) -> Cohort:
    """Read a cohort by name.

    Raises:
        InputFileError: If there is none of that name, or its file names an unknown setting.
    """
    file = resources.files("infarct.lab.simulation.cohorts") / f"{name}.toml"
    if not file.is_file():
        raise InputFileError(f"{name}: no such cohort; there are {', '.join(cohort_names())}")
    settings: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    known = {f.name for f in fields(Cohort)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise InputFileError(f"cohort {name}: unknown settings {', '.join(unknown)}")
    frozen: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()
    }
    return replace(Cohort(name=name), **frozen)
