"""The grids of the paper, and shortcuts that do not change the scores."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from infarct.core.normalisation import fit_tissue_peak, normalise
from infarct.evaluation.metrics import dice
from infarct.lab.simulation.scanner import SimulatedScan
from infarct.lab.tuning.grids import FWHM, METHODS, Method, Pool, keep, load_pool, score_points
from infarct.segmentation.classical import Compared, Healthy, is_map, t_score_mask


@pytest.fixture
def voxels() -> Compared:
    """Voxels near the thresholds of both methods."""
    rng = np.random.default_rng(3)
    dwi, adc, own = rng.normal((2, -2, 2.5), 1.5, (4000, 3)).T.astype(np.float32)
    means = rng.normal(0, 0.2, (2, 4000)).astype(np.float32)
    sds = rng.uniform(0.6, 1.4, (2, 4000)).astype(np.float32)
    return Compared(dwi, adc, own, Healthy(means[0], sds[0], means[1], sds[1], n=20))


def test_grids_have_the_size_of_the_paper_and_contain_its_best_settings() -> None:
    assert {name: len(method.settings()) for name, method in METHODS.items()} == {
        "cfuzzy": 4 * 5 * 3 * 5 * 3 * 4,
        "tscore": 4 * 6 * 6 * 5,
    }
    for method in METHODS.values():
        points = method.settings()
        assert len(set(points)) == len(points)
        assert method.paper in points


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_larger_settings_never_segment_more(method: Method, voxels: Compared) -> None:
    """Keeping only the voxels of the loosest settings depends on this property."""
    some = 0
    for name, values in method.grid.items():
        outlines = [
            method.outline(voxels, replace(method.loosest(2.0), **{name: value}))
            for value in values
        ]
        for looser, stricter in pairwise(outlines):
            assert not (stricter & ~looser).any()
            some += int((looser & ~stricter).sum())
    assert some > 100


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_loosest_settings_are_the_minimum_of_every_setting(method: Method) -> None:
    loosest = method.loosest(3.0, sigma_id=2.5)
    points = [s for s in method.settings() if (s.fwhm, s.sigma_id) == (3.0, 2.5)]
    assert loosest in points
    for field in fields(loosest):
        least = min(getattr(point, field.name) for point in points)
        assert getattr(loosest, field.name) == least


def test_pool_scores_match_manual_calculation() -> None:
    """Three cases: 2 of 4 voxels found plus 1 false; no lesion, 3 false; both voxels missed."""
    case = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    lesion = np.array([1, 1, 1, 0, 0, 0, 0, 1], bool)
    outlined = np.array([1, 1, 0, 1, 1, 1, 1, 0], bool)
    none = np.zeros(8, np.float32)
    scan = Compared(none, none, none, Healthy(none, none, none, none, 2))
    # The fourth voxel of the first lesion is not in the pool, but counts as missed.
    pool = Pool(scan, lesion, case, lesion_voxels=np.array([4, 0, 2]))
    dice, net_overlap = pool.score(outlined)
    assert dice == pytest.approx([2 * 2 / (4 + 3), 0.003, 0.0])
    assert net_overlap == pytest.approx([2 / 4, np.nan, 0.0], nan_ok=True)
    part = pool.at(case != 1)
    assert part.score(outlined[case != 1])[0] == pytest.approx([4 / 7, 0.0, 0.0])


def test_scores_match_the_segmentation_of_whole_volumes(
    tmp_path: Path, painted_scans: list[SimulatedScan], painted_healthy: Healthy
) -> None:
    scans = painted_scans[1:3]
    files = [tmp_path / f"{number}.npz" for number in range(len(scans))]
    # More smoothing lowers the SD between brains, so the statistics differ by FWHM.
    controls = {
        fwhm: replace(
            painted_healthy,
            dwi_mean=painted_healthy.dwi_mean + 0.1 * fwhm,
            dwi_sd=painted_healthy.dwi_sd * 2 / fwhm,
            adc_sd=painted_healthy.adc_sd * 2 / fwhm,
        )
        for fwhm in FWHM
    }
    for file, scan in zip(files, scans, strict=True):
        np.savez(file, **keep(scan, controls))
    wholes = [_normalised(scan) for scan in scans]
    rng = np.random.default_rng(0)
    differing = set()
    for name, method in METHODS.items():
        points = method.settings()
        some = [points[n] for n in sorted(rng.choice(len(points), 10, replace=False))]
        some = sorted([*some, method.loosest(2.0), method.paper], key=points.index)
        scored = score_points(method, some, lambda fwhm: load_pool(files, fwhm, painted_healthy.n))
        for settings, scores in scored:
            healthy = controls[settings.fwhm]
            for (dwi, adc, brain, lesion), score in zip(wholes, scores[0], strict=True):
                if name == "cfuzzy":
                    outlined = is_map(dwi, adc, brain, healthy, settings) > 0.5
                else:
                    outlined = t_score_mask(dwi, adc, brain, healthy, settings)
                false_ml = float(outlined.sum()) / 1000
                assert score == pytest.approx(dice(lesion, outlined) if lesion.any() else false_ml)
                differing.add(round(float(score), 3))
    assert len(differing) > 10


def _normalised(scan: SimulatedScan) -> tuple[np.ndarray, ...]:
    brain = scan.brain.numpy()
    images = [image.numpy() for image in (scan.dwi, scan.adc)]
    dwi, adc = (normalise(image, fit_tissue_peak(image, brain)) for image in images)
    return dwi, adc, brain, scan.lesion.numpy() & brain
