"""Create the bundled synthetic scan of `infarct demo`."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from infarct.core import assets
from infarct.core.diffusion import USUAL_BVALUE
from infarct.core.nifti import read
from infarct.lab.simulation.cohort import load_cohort
from infarct.lab.simulation.sampling import draw
from infarct.lab.simulation.scan_parameters import Record
from infarct.lab.simulation.write_cases import draw_saving, save_case
from infarct.lab.sources.bank import Bank

_LESION_ML = (8.0, 30.0)
_MIN_CONTRAST = 1.7
_MAX_ADC_RATIO = 0.65
"""Maximum ADC ratio of infarct to other tissue; excludes infarcts that are bright by T2 alone."""

_MAX_BYTES = 2_000_000
_TRIES = 400


def make_demo_scan(seed: int) -> Path:
    """Add the first case with a typical protocol and an obvious infarct to the assets.

    Args:
        seed: Seed of the series. Only the ICBM anatomy is used, so the scan is reproducible without
            other data.

    Returns:
        The asset folder.

    Raises:
        RuntimeError: If no case of the series meets the criteria.
    """
    home = assets.ROOT / "demo"
    cohort, bank = load_cohort("test"), Bank.from_icbm()
    for index in range(_TRIES):
        record, saving = draw(cohort, bank, seed, index), draw_saving(seed, index)
        if not _has_typical_protocol(record):
            continue
        with TemporaryDirectory() as scratch:
            case = Path(scratch) / f"{cohort.name}-{seed:04d}-{index:04d}"
            save_case(record, replace(saving, dtype="int16"), bank, case)
            if _has_obvious_infarct(case):
                _add_to_assets(case, home, seed)
                return home
    raise RuntimeError(
        f"none of the first {_TRIES} cases with seed {seed} meets the criteria; choose another seed"
    )


def _has_typical_protocol(record: Record) -> bool:
    scan = record.acquisition
    thin = 4.0 <= scan.thickness_mm <= 6.0
    return (
        scan.bvalue == USUAL_BVALUE
        and thin
        and max(scan.in_plane_mm) <= 1.6
        and bool(record.lesions)
    )


def _has_obvious_infarct(case: Path) -> bool:
    """Return whether the infarct is obvious even to an untrained observer."""
    names = ("dwi", "adc", "lesion", "brain")
    dwi, adc, lesion, brain = (read(case / f"{name}.nii.gz") for name in names)
    inside, outside = lesion.data > 0.5, (brain.data > 0.5) & (lesion.data < 0.5)
    ml = float(inside.sum()) * dwi.grid.voxel_ml
    if not _LESION_ML[0] <= ml <= _LESION_ML[1]:
        return False
    contrast = float(dwi.data[inside].mean() / dwi.data[outside].mean())
    adc_ratio = float(adc.data[inside].mean() / np.median(adc.data[outside]))
    size = sum((case / f"{name}.nii.gz").stat().st_size for name in ("dwi", "b0", "lesion"))
    return contrast > _MIN_CONTRAST and adc_ratio < _MAX_ADC_RATIO and size < _MAX_BYTES


def _add_to_assets(case: Path, home: Path, seed: int) -> None:
    home.mkdir(exist_ok=True)
    source = f"synthetic, `infarct lab demo-scan --seed {seed}`, case {case.name}, no patient data"
    for name in ("dwi", "b0", "lesion"):
        file = home / f"{name}.nii.gz"
        shutil.copyfile(case / file.name, file)
        relative = file.relative_to(assets.ROOT).as_posix()
        digest = assets.sha256(file)
        assets.register_asset(assets.Asset(f"demo/{name}", relative, digest, "Apache-2.0", source))
