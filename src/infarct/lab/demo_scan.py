"""Make the synthetic scan that `infarct demo` runs on; it ships with the package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from infarct import assets
from infarct.demo import BVALUE
from infarct.lab.bank import Bank
from infarct.lab.cohort import load_cohort
from infarct.lab.synth import synthesise

_LESION_ML = (8.0, 30.0)
_LARGEST_BYTES = 2_000_000
_TRIES = 60


def make_demo_scan(seed: int) -> Path:
    """Ship the first case of a series that is a fair example: seen at a glance, and small.

    Args:
        seed: Of the series; the anatomy is the ICBM brain alone, so anyone can make it.

    Returns:
        The folder among the assets.

    Raises:
        RuntimeError: If no case of the series qualifies.
    """
    home = assets.ROOT / "demo"
    with TemporaryDirectory() as scratch:
        cases = synthesise(load_cohort("test"), Bank.from_icbm(), _TRIES, seed, Path(scratch))
        for case in cases:
            if _qualifies(case):
                _ship(case, home, seed)
                return home
    raise RuntimeError(f"none of {_TRIES} cases of seed {seed} qualifies; take another seed")


def _qualifies(case: Path) -> bool:
    facts = json.loads((case / "record.json").read_text())
    size = sum((case / f"{name}.nii.gz").stat().st_size for name in ("dwi", "b0", "lesion"))
    fair = _LESION_ML[0] <= facts["lesion_ml"] <= _LESION_ML[1]
    return fair and facts["bvalue"] == BVALUE and size < _LARGEST_BYTES


def _ship(case: Path, home: Path, seed: int) -> None:
    home.mkdir(exist_ok=True)
    source = f"synthetic, `infarct lab demo-scan --seed {seed}`, case {case.name}, no patient data"
    for name in ("dwi", "b0", "lesion"):
        file = home / f"{name}.nii.gz"
        shutil.copyfile(case / file.name, file)
        relative = file.relative_to(assets.ROOT).as_posix()
        digest = assets.sha256(file)
        assets.register_asset(assets.Asset(f"demo/{name}", relative, digest, "Apache-2.0", source))
