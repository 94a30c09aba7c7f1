from dataclasses import replace

import numpy as np
import pytest

from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume
from infarct.core.resampling import resample
from infarct.core.step_timer import StepTimer
from infarct.evaluation.metrics import dice
from infarct.inference.network import load_network
from infarct.preprocessing.case import CaseFiles
from infarct.preprocessing.checks import overlap_where_scanned
from infarct.preprocessing.load import open_case
from infarct.preprocessing.preprocess import preprocess, restore
from infarct.preprocessing.templates import load_template


@pytest.fixture(scope="module")
def ready(head, tmp_path_factory):
    case = open_case(CaseFiles(**head.save(tmp_path_factory.mktemp("head"))))
    timer = StepTimer()
    return case, preprocess(case, load_template(), timer=timer), timer


def test_tissue_is_at_zero_with_sd_one(head, ready) -> None:
    _, scan, _ = ready
    assert scan.dwi_peak.converged
    assert scan.adc_peak.converged
    assert scan.adc_peak.mean == pytest.approx(0.78e-3, rel=0.05)  # as painted
    at_peak = np.abs(scan.dwi - scan.dwi_peak.mean) < 1e-3 * scan.dwi_peak.mean
    assert np.abs(scan.dwi_normalised[at_peak]).max() < 0.05


def test_the_brain_lies_on_the_template(ready) -> None:
    _, scan, _ = ready
    assert overlap_where_scanned(scan.brain, load_template().brain_at_1mm) > 0.93


def test_a_mask_survives_a_round_trip(head, ready) -> None:
    case, scan, _ = ready
    native_from_mni = np.linalg.inv(scan.registration.mni_from_native)
    there = resample(case.dwi.like(head.lesion.astype(np.float32)), MNI_GRID, native_from_mni)
    back = restore(Volume(there, MNI_GRID.affine), case, scan.registration) > 0.5
    assert dice(head.lesion, back) > 0.97


def test_left_stays_left(head, ready) -> None:
    case, scan, _ = ready
    native_from_mni = np.linalg.inv(scan.registration.mni_from_native)
    there = resample(case.dwi.like(head.lesion), MNI_GRID, native_from_mni, labels=True)
    x = np.argwhere(there)[:, 0].mean() + MNI_GRID.affine[0, 3]
    assert x == pytest.approx(-38, abs=4)


def test_a_mask_that_leaks_far_from_the_template_is_cropped(head, tmp_path) -> None:
    case = open_case(CaseFiles(**head.save(tmp_path)))
    leaked = case.brain.copy()
    leaked[:, :, 20] = True
    object.__setattr__(case, "brain", leaked)
    scan = preprocess(case, load_template())
    assert scan.brain_native[:, :, 20].sum() < 0.5 * leaked[:, :, 20].sum()
    assert dice(head.brain, scan.brain_native) > 0.95


def test_steps_are_timed(ready) -> None:
    _, _, timer = ready
    assert list(timer.seconds) == ["register", "resample", "brain mask", "normalise"]
    assert all(seconds > 0 for seconds in timer.seconds.values())


def test_the_network_mask_replaces_the_threshold_mask_and_is_checked(head, tmp_path) -> None:
    case = open_case(CaseFiles(**head.save(tmp_path)))
    assert not {f.code for f in case.findings} & {"brain-cropped", "brain-volume-unusual"}
    few = replace(case, brain=case.brain & (np.arange(case.brain.shape[2]) % 3 == 0))
    scan = preprocess(few, load_template(), load_network("BrainMask"))
    assert scan.brain_method == "network"
    assert dice(head.brain, scan.brain_native) > 0.95
    assert not {f.code for f in scan.findings} & {"brain-cropped", "brain-volume-unusual"}
    scan = preprocess(few, load_template())
    (finding,) = (f for f in scan.findings if f.code == "brain-volume-unusual")
    assert f"holds {scan.brain_native.sum() * case.dwi.grid.voxel_ml:.0f} ml" in finding.message
    # An outline that the user gave stays.
    object.__setattr__(case, "brain_method", "given")
    scan = preprocess(case, load_template(), load_network("BrainMask"))
    assert scan.brain_method == "given"
    assert np.array_equal(scan.brain_native, case.brain)


def test_the_threshold_mask_replaces_an_implausible_network_mask(
    head, tmp_path, monkeypatch
) -> None:
    case = open_case(CaseFiles(**head.save(tmp_path)))
    half = load_template().brain_at_1mm.copy()
    half[:, :100] = False
    monkeypatch.setattr("infarct.preprocessing.preprocess.brain_mask", lambda *_: half)
    scan = preprocess(case, load_template(), load_network("BrainMask"))
    assert scan.brain_method == "threshold"
    assert "brain-by-threshold" in {f.code for f in scan.findings}
    assert dice(head.brain, scan.brain_native) > 0.95
