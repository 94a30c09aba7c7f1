"""A small cohort on disk: 14 subjects, two tools, images and a table of subjects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from blobs import SHAPE, blobs, imperfect
from disk import save

TABLE = """participant_id\tcohort\tage\tSex\tTerritory\tMagneticFieldStrength
"""


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 10 subjects with a lesion and 4 without; the tool "late" lacks one of each."""
    root = tmp_path_factory.mktemp("cohort")
    table = TABLE
    brain = np.zeros(SHAPE, bool)
    brain[3:-3, 3:-3, 1:-1] = True
    for number in range(14):
        rng = np.random.default_rng(number)
        name, healthy = f"sub-{number:02d}", number >= 10
        lesion = np.zeros(SHAPE, bool) if healthy else blobs(rng, 0.01 * (number + 1)) & brain
        save(root / "reference" / f"{name}_lesion.nii.gz", lesion)
        save(root / "good" / f"{name}.nii.gz", imperfect(lesion, rng, 0.1) & brain)
        if number not in (3, 12):
            save(root / "late" / f"{name}_mask.nii.gz", imperfect(lesion, rng, 0.35) & brain)
        noise = rng.normal(0, 0.1, SHAPE)
        dwi = np.where(brain, 100 * (1 + lesion + noise), 1).astype(np.float32)
        adc = np.where(brain, 0.8e-3 * (1 - 0.4 * lesion + noise / 4), 0).astype(np.float32)
        save(root / "images" / f"{name}_dwi.nii.gz", dwi)
        save(root / "images" / f"{name}_adc.nii.gz", adc)
        save(root / "brains" / f"{name}_brain_mask.nii.gz", brain)
        sex, territory = ("M", "F")[number % 2], ("MCA", "PCA", "MCA")[number % 3]
        group, field = ("not-visible" if healthy else "test"), (1.494, 2.89)[number % 2]
        row = (name, group, 50 + number, sex, territory, field)
        table += "\t".join(map(str, row)) + "\n"
    (root / "subjects.tsv").write_text(table)
    return root
