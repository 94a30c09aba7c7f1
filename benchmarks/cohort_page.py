"""Makes the page about a cohort of any size from invented results, to look at and to time.

    python benchmarks/cohort_page.py FOLDER [--cases 3000]

Numbers and warnings are drawn at random; thumbnails and masks are of eight invented lesions. To
keep it quick every mask is read once, and one case in twenty goes into the map; how long one mask
takes is printed, for a real cohort reads one per case with a lesion.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from infarct.cohort.case_log import Ledger
from infarct.cohort.figures import thumbnail
from infarct.cohort.group_report import write_group
from infarct.cohort.jobs import Job, Outcome, Settings
from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume, read, write
from infarct.core.resampling import resample
from infarct.preprocessing.case import CaseFiles
from infarct.preprocessing.templates import load_template
from infarct.reporting.reader import THUMBNAIL
from infarct.reporting.result_schema import SUMMARY, check

WARNINGS = {
    "adc-not-low": "the outlined tissue has 1.02 times the ADC of normal tissue",
    "brain-cropped": "the brain goes on beyond the last slice",
    "brain-volume-unusual": "the brain mask holds 2210 ml",
    "registration-poor": "the brain overlaps the template's with a Dice of only .71",
    "bvalue-unusual": "b = 300 s/mm^2 is outside 500 to 3500",
    "lesion-very-large": "38% of the brain is outlined; look at the images before using a number",
}

MANIFEST = {
    **{"infarct": "invented", "model": "cfuzzy", "python": "3", "created": "2026-12-01T00:00:00Z"},
    **{"libraries": {}, "command": None, "files": {}},
    "inputs": {role: {"file": role, "sha256": "none"} for role in ("dwi", "b0")},
    "territories": {"file": "none", "sha256": "none"},
}


def lesions(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Draw ellipsoids in the territory of the middle cerebral artery, either side."""
    x, y, z = np.indices(MNI_GRID.shape, np.float32, sparse=True)
    drawn = []
    for number in range(count):
        side = -1 if number % 3 else 1
        centre = [96 + side * rng.uniform(25, 50), rng.uniform(90, 150), rng.uniform(75, 120)]
        radii = rng.uniform(4, 26) * rng.uniform(0.6, 1.3, 3)
        apart = sum(((a - c) / r) ** 2 for a, c, r in zip((x, y, z), centre, radii, strict=True))
        drawn.append((apart < 1) & load_template().brain_at_1mm)
    return drawn


def invented_summary(rng: np.random.Generator, ml: float, left: float) -> dict[str, Any]:
    """Return a summary with lesions that share a volume, and with calibrated confidence."""
    shares = rng.dirichlet(np.ones(int(rng.integers(1, 9)))) if ml else np.empty(0)
    lesions = [
        {
            **{"label": number, "volume_ml": float(ml * share), "slices": 3, "mean_adc": 5e-4},
            **{"dwi_ratio": 1.8, "adc_ratio": float(rng.uniform(0.5, 0.95)), "side": "left"},
            **{"mean_probability": 0.8, "probability": float(rng.uniform(0.3, 1))},
            **{"centroid_mm": [0.0] * 3, "centroid_mni_mm": [0.0] * 3, "doubtful": False},
            **{"territory": "MCA left", "compartment": None, "region": "insula left"},
        }
        for number, share in enumerate(sorted(shares, reverse=True), 1)
    ]
    return {
        **{"lesion_volume_ml": ml, "lesion_count": len(lesions), "lesions": lesions},
        **{"left_ml": left, "right_ml": ml - left, "intracranial_volume_ml": 1400.0},
        **{"mean_adc": 5e-4 if ml else None, "dwi_ratio": 1.8 if ml else None},
        **{"adc_ratio": float(rng.uniform(0.5, 0.95)) if ml else None, "notes": []},
        **{"method": "c-fuzzy", "model": "cfuzzy", "threshold": 0.5, "brain_method": "network"},
        "bvalue_s_per_mm2": 1000.0,
        "confidence": {
            "infarct_probability": float(rng.uniform(0.01, 1)),
            "volume_interval_ml": [0.7 * ml, 1.4 * ml + 0.1],
            "volume_interval_probability": 0.9,
        },
    }


def main() -> None:
    """Write the invented results and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=3000)
    given = parser.parse_args()
    rng = np.random.default_rng(1)
    out = given.folder.resolve()
    brain = Volume(resample(load_template().b0, MNI_GRID), MNI_GRID.affine)
    shelf = out / "shelf"
    shelf.mkdir(parents=True)
    pictures, volumes = [], []
    for number, lesion in enumerate(lesions(rng, 8)):
        mask = Volume(lesion, MNI_GRID.affine)
        write(mask, shelf / f"{number}.nii.gz", np.uint8)
        pictures.append(thumbnail(brain, mask))
        volumes.append(lesion.sum() / 1000)
    jobs = []
    for number in range(given.cases):
        name = f"sub-{number:04d}_ses-1"
        job = Job(name, CaseFiles(out / "dwi.nii.gz"), out / name)
        jobs.append(job)
        if rng.random() < 0.01:
            reason = "dwi.nii.gz: cannot be read as NIfTI (unexpected end); copy it again"
            Ledger(out).add(Outcome(name, "failed", 3, reason), Settings("cfuzzy"))
            continue
        which = int(rng.integers(8))
        ml = float(volumes[which] * rng.uniform(0.5, 1.5)) if rng.random() < 0.85 else 0.0
        codes = [c for c in WARNINGS if rng.random() < 0.04]
        summary = invented_summary(rng, ml, left=ml * (0.97 if which % 3 else 0.03))
        summary["warnings"] = [
            {"code": c, "level": "warning", "message": WARNINGS[c]} for c in codes
        ]
        check(summary, SUMMARY)
        (job.folder / "mni").mkdir(parents=True)
        (job.folder / "summary.json").write_text(json.dumps(summary))
        (job.folder / "manifest.json").write_text(json.dumps(MANIFEST))
        (job.folder / "report.html").write_text("invented")
        (job.folder / THUMBNAIL).write_bytes(pictures[which])
        (job.folder / "mni" / "lesion_mask.nii.gz").symlink_to(shelf / f"{which}.nii.gz")
    start = time.perf_counter()
    masks = [read(path) for path in sorted(shelf.iterdir())]
    print(f"reading a mask: {(time.perf_counter() - start) / len(masks):.2f} s")
    known = {
        path.resolve(): mask for path, mask in zip(sorted(shelf.iterdir()), masks, strict=True)
    }
    start = time.perf_counter()
    with mock.patch("infarct.cohort.group_report.read", lambda path: known[path.resolve()]):
        page = write_group(jobs, out)
    seconds = time.perf_counter() - start
    if "is damaged" in page.read_text(encoding="utf-8"):
        raise RuntimeError("the invented results no longer pass for results")
    size = page.stat().st_size / 1e6
    print(f"{given.cases} cases: {seconds:.0f} s, page of {size:.1f} MB: {page}")
    shutil.rmtree(shelf)


if __name__ == "__main__":
    main()
