"""Small synthetic heads for the tests of follow-up, each patient with a brain of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from infarct.core import assets
from infarct.core.nifti import Volume, write
from infarct.core.resampling import resample
from infarct.followup.registration import Scan

SHAPE = (80, 96, 24)
AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])
AFFINE[:3, 3] = (-80, -100, -55)


def make_head(patient: int, noise_seed: int = 0, move: np.ndarray | None = None) -> Scan:
    """A brain with fluid in a pattern of its own; `move` maps it to other scanner coordinates."""
    rng = np.random.default_rng(patient)
    field = ndimage.gaussian_filter(rng.normal(size=SHAPE), (3, 3, 1.5))
    fluid = field > np.quantile(field, 0.85)
    points = np.moveaxis(np.indices(SHAPE), 0, -1) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    brain = ((points / (66.0, 82.0, 52.0)) ** 2).sum(axis=-1) < 1
    b0 = np.where(fluid, 2.5, 1.0) * brain * 100
    adc = np.where(fluid, 2.6e-3, 0.75e-3) * brain
    if move is not None:
        b0, adc, brain = (
            resample(Volume(image.astype(np.float32), AFFINE), Volume(b0, AFFINE).grid, move)
            for image in (b0, adc, brain)
        )
    noise = np.random.default_rng(noise_seed)
    b0 = (b0 + noise.normal(0, 3, SHAPE)).astype(np.float32)
    adc = (adc + noise.normal(0, 4e-5, SHAPE)).astype(np.float32)
    mask = np.asarray(brain) > 0.5
    return Scan(Volume(b0, AFFINE), Volume(adc, AFFINE), mask, np.zeros(SHAPE, bool), np.eye(4))


def rigid(degrees: tuple[float, float, float], mm: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = mm
    return matrix


def ball(centre_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    """A lesion mask on the grid of the heads."""
    points = np.moveaxis(np.indices(SHAPE), 0, -1) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    return np.linalg.norm(points - centre_mm, axis=-1) < radius_mm


def write_result(
    folder: Path,
    scan: Scan,
    lesion: np.ndarray,
    interval: tuple[float, float] | None = None,
    date: str | None = None,
) -> Path:
    """Write a result folder as `infarct segment` does, with a given lesion mask."""
    for name in ("scan", "mni"):
        (folder / name).mkdir(parents=True)
    adc = np.where(lesion, 0.45e-3, scan.adc.data).astype(np.float32)
    dwi = (scan.b0.data * np.exp(-1000 * np.clip(adc, 0, 3e-3))).astype(np.float32)
    images = {
        "scan/dwi": dwi,
        "scan/b0": scan.b0.data,
        "scan/adc": adc,
        "lesion_probability": lesion.astype(np.float32),
        "lesion_mask": lesion.astype(np.float32),
        "brain_mask": scan.brain.astype(np.float32),
        "mni/lesion_mask": lesion.astype(np.float32),
    }
    for name, data in images.items():
        write(Volume(data, scan.b0.affine), folder / f"{name}.nii.gz")
    for name in ("mni_from_native", "atlas_from_native"):
        np.savetxt(folder / "mni" / f"{name}.txt", scan.mni_from_native)
    ml = float(lesion.sum()) * scan.b0.grid.voxel_ml
    summary = {
        **{"lesion_volume_ml": ml, "lesion_count": 0, "left_ml": 0.0, "right_ml": ml},
        **{"intracranial_volume_ml": 1200.0, "dwi_ratio": 1.5, "adc_ratio": 0.6},
        **{"mean_adc": 5e-4, "lesions": [], "warnings": [], "notes": [], "method": "test"},
        **{"model": "test", "threshold": 0.5, "brain_method": "given", "bvalue_s_per_mm2": 1000.0},
        "confidence": {"volume_interval_ml": interval, "volume_interval_probability": 0.9},
    }
    manifest = {
        **{"infarct": "0", "model": "test", "command": None, "python": "3", "created": "2026"},
        **{"libraries": {}, "networks": {}, "assets": {}, "engine": {"name": "", "version": ""}},
        "territories": {"file": "t", "sha256": "0"},
        "case": {"id": folder.name, "scan_date": date},
        "inputs": {"dwi": {"file": "dwi.nii.gz", "sha256": folder.name}},
        "outputs": {"lesion_mask.nii.gz": assets.sha256(folder / "lesion_mask.nii.gz")},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
