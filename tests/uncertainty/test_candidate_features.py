"""Candidate features on a constructed scan."""

import math
from dataclasses import replace

import pytest
from scipy import ndimage

from infarct.measurement.volumetry import measure
from infarct.uncertainty.candidate_features import FEATURES, features


def test_features_have_the_expected_values(evidence) -> None:
    measured = measure(evidence.candidates, evidence.scan, 2)
    firm, faint = (dict(zip(FEATURES, f, strict=True)) for f in features(evidence, measured))
    assert math.exp(firm["log_volume_ml"]) == pytest.approx(32 * 0.02)
    assert firm["mean_logit"] == pytest.approx(math.log(0.95 / 0.05), rel=1e-4)
    assert firm["dwi_ratio"] == pytest.approx(2.0)
    assert firm["adc_ratio"] == pytest.approx(0.5)
    assert firm["confirmed_share"] == pytest.approx(0.5)
    assert firm["opposite_dwi"] == pytest.approx(math.log(2))
    assert firm["opposite_adc"] == pytest.approx(math.log(0.5))
    assert faint["confirmed_share"] == faint["opposite_dwi"] == faint["opposite_adc"] == 0
    # Each candidate is the largest other one of the other; a single candidate has none.
    assert math.exp(firm["log_beside_ml"]) == pytest.approx(4 * 0.02 + 0.02)
    assert math.exp(faint["log_beside_ml"]) == pytest.approx(32 * 0.02 + 0.02)
    single = replace(evidence, candidates=evidence.scan.probability > 0.9)
    (alone,) = features(single, measure(single.candidates, single.scan, 2))
    assert math.exp(dict(zip(FEATURES, alone, strict=True))["log_beside_ml"]) == pytest.approx(0.02)


def test_depth_is_measured_from_the_brain_surface(evidence) -> None:
    brain = evidence.scan.brain.copy()
    brain[:2] = False
    nearer = replace(evidence, scan=replace(evidence.scan, brain=brain))
    depth = FEATURES.index("log_depth_mm")
    far, near = (
        features(e, measure(e.candidates, e.scan, 2))[0][depth] for e in (evidence, nearer)
    )
    # Columns at 2, 4, 6 and 8 mm; a mask that fills the image has no surface.
    assert math.expm1(near) == pytest.approx(5.0)
    assert far > near


def test_rim_height_and_other_foci(evidence) -> None:
    dwi = evidence.scan.dwi.copy()
    dwi[6:8, 2:6, 1:3] = 300.0  # a bright band that goes on beside the firm spot
    banded = replace(evidence, scan=replace(evidence.scan, dwi=dwi))
    measured = measure(evidence.candidates, evidence.scan, 2)
    plain, faint = (dict(zip(FEATURES, f, strict=True)) for f in features(evidence, measured))
    beside, _ = (dict(zip(FEATURES, f, strict=True)) for f in features(banded, measured))
    assert plain["rim_dwi"] == pytest.approx(0.0, abs=1e-6)
    # The rim of 4 mm takes in two columns on all four sides, without corners beyond 4 mm, and no
    # other slice: 16 of its pixels are in the band.
    firm = evidence.candidates & (evidence.scan.probability > 0.9)
    near = ndimage.distance_transform_edt(~firm, (2.0, 2.0, 5.0)) <= 4.0
    rim = near & ~evidence.candidates
    everywhere = dwi[~evidence.candidates].mean()
    assert beside["rim_dwi"] == pytest.approx(math.log(dwi[rim].mean() / everywhere), rel=1e-4)
    assert beside["rim_dwi"] > 0.3
    assert plain["height_mm"] == pytest.approx(1.5 * 5.0)
    assert math.expm1(plain["log_other_foci"]) == pytest.approx(0.55, rel=1e-4)
    assert math.expm1(faint["log_other_foci"]) == pytest.approx(0.95, rel=1e-4)


def test_candidate_without_a_rim_in_the_brain_has_a_neutral_one(evidence) -> None:
    lonely = replace(
        evidence, scan=replace(evidence.scan, brain=evidence.candidates), second=evidence.second
    )
    rows = features(lonely, measure(lonely.candidates, lonely.scan, 2))
    assert all(math.isfinite(value) for value in rows[0][FEATURES.index("rim_dwi") :])
