"""The scanner: signal model, reproducibility, and location of lesions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from infarct.core.diffusion import adc_from_signal
from infarct.lab.simulation import acquisition, sampling, scanner, tissue
from infarct.lab.simulation.cohort import Cohort, load_cohort
from infarct.lab.simulation.scan_parameters import Bump
from infarct.lab.sources.tissue_classes import Tissue


def _draw(bank, index=0, **settings):
    return sampling.draw(replace(Cohort(), **settings), bank, 7, index)


@pytest.fixture(scope="module")
def record(bank):
    """A scan with a moderately large infarct."""
    cohort = replace(Cohort(), lesion_free=0.0, volume_ml=20.0, volume_log_sd=0.3)
    return sampling.draw(cohort, bank, 7, 0)


@pytest.fixture(scope="module")
def scan(record, bank):
    return scanner.render(record, bank)


def test_same_record_gives_bitwise_identical_scans(record, scan, bank):
    again = scanner.render(record, bank)
    for name in ("dwi", "b0", "adc", "lesion", "brain"):
        assert torch.equal(getattr(scan, name), getattr(again, name)), name


def test_different_records_give_different_scans(scan, bank):
    other = scanner.render(_draw(bank, 1), bank)
    assert not torch.equal(scan.dwi, other.dwi)


def test_adc_follows_from_dwi_and_b0(record, bank):
    """Without the vendor filter on DWI, the three images agree to within rounding."""
    artefacts = replace(record.artefacts, filter_difference=0.0)
    record = replace(record, artefacts=artefacts)
    native = scanner.acquire(tissue.build(record, bank, "cpu"), record)
    expected = adc_from_signal(native.b0.numpy(), native.dwi.numpy(), record.acquisition.bvalue)
    np.testing.assert_allclose(native.adc.numpy(), expected, atol=2e-8)


def test_adc_is_finite_where_the_signal_vanishes(record, bank, monkeypatch):
    spoil = scanner.artefacts.spoil

    def dark_voxel(b0, dwi, record):
        b0, dwi = spoil(b0, dwi, record)
        dwi[4, 4, 4], b0[4, 4, 4] = 1e-42, 1.0
        return b0, dwi

    monkeypatch.setattr(scanner.artefacts, "spoil", dark_voxel)
    assert torch.isfinite(scanner.render(record, bank).adc).all()


def test_lesion_is_in_parenchyma_and_has_the_drawn_volume(record, bank):
    head = tissue.build(record, bank, "cpu")
    wanted = sum(spot.volume_ml for spot in record.lesions)
    assert float(head.lesion.sum()) / 1000 == pytest.approx(wanted, rel=0.25)
    inside = head.lesion > 0
    assert float(head.brain[inside].min()) > 0.3
    # The ADC of fluid is three times that of any tissue in which infarcts are placed.
    assert float(head.adc[inside].max()) < 2.0


def test_acute_infarcts_do_not_overlap_old_ones(record, bank):
    """An old infarct at the position of an acute one does not change the acute infarct."""
    old = replace(record.lesions[0], kind="old-infarct", adc_gain=2.0, b0_gain=2.0)
    nothing = replace(old, adc_gain=1.0, b0_gain=1.0)
    beside, alone = (
        tissue.build(replace(record, mimics=(mimic,)), bank, "cpu") for mimic in (old, nothing)
    )
    acute = alone.lesion > 0
    assert acute.any()
    assert torch.equal(beside.lesion, alone.lesion)
    assert torch.equal(beside.adc[acute], alone.adc[acute])
    assert not torch.equal(beside.adc, alone.adc)


def test_signal_pile_up_forms_a_band_along_the_border(bank):
    """The band is bright near the border only, and equal in b0 and DWI, so the ADC is unchanged."""
    plain = _draw(bank, 0, lesion_free=1.0, mimics=0.0, artefacts=0.0)
    rim = Bump("rim", (0.0, -20.0, 40.0), (500.0, 500.0, 500.0), 1.0)
    banded = replace(plain.artefacts, rims=(rim,), rim_mm=3.0, rim_level=0.7)
    before, after = (
        tissue.build(replace(plain, artefacts=wrong), bank, "cpu")
        for wrong in (plain.artefacts, banded)
    )
    assert torch.equal(before.adc, after.adc)
    gain = (after.b0 / before.b0.clamp(min=1e-3)).numpy()
    inside = (before.brain > 0.5).numpy()
    depth = ndimage.distance_transform_edt(inside)
    assert np.median(gain[inside & (depth < 4)]) > 1.5
    assert np.median(gain[inside & (depth > 12)]) < 1.15


@pytest.mark.parametrize("wanted", [2.0, 20.0])
def test_segmented_volume_matches_the_cohort(bank, wanted):
    """The bright margin is included, so the infarct itself is smaller."""
    cohort = replace(
        load_cohort("test"), volume_ml=wanted, volume_log_sd=0.0, hyperacute=0.0, scattered=0.0
    )
    outlined = []
    for index in range(3):
        record = sampling.draw(cohort, bank, 12, index)
        scan = scanner.acquire(tissue.build(record, bank, "cpu"), record)
        grid = acquisition.grid(record.acquisition)
        outlined.append(float(scan.lesion.sum()) * grid.voxel_ml)
    assert np.median(outlined) == pytest.approx(wanted, rel=0.25)
    assert record.lesions[0].volume_ml < 0.95 * wanted


def test_infarct_is_bright_on_dwi_and_dark_on_adc(bank):
    cohort = replace(
        Cohort(), lesion_free=0.0, volume_ml=25.0, volume_log_sd=0.2, hyperacute=0, subacute=0
    )
    for index in range(3):
        scan = scanner.render(sampling.draw(cohort, bank, 8, index), bank)
        normal = scan.brain & ~scan.lesion & (scan.adc < 1.3e-3) & (scan.adc > 0.4e-3)
        assert scan.lesion.sum() > 1000
        assert scan.dwi[scan.lesion].mean() > 1.15 * scan.dwi[normal].mean()
        assert scan.adc[scan.lesion].mean() < 0.95 * scan.adc[normal].mean()


def test_lesion_free_scans_have_an_empty_mask(bank):
    for index in range(2):
        record = _draw(bank, index, lesion_free=1.0)
        assert record.lesions == ()
        scan = scanner.render(record, bank)
        assert not scan.lesion.any()
        assert scan.brain.any()


def test_noise_has_the_requested_level(record, bank):
    """In air, the magnitude is Rayleigh distributed with mean sigma sqrt(pi / 2)."""
    plan = replace(record.acquisition, snr=20.0)
    quiet = replace(record.artefacts, ghost=0.0, spike=None, moved_slices=(), dropped=())
    contrast = replace(record.contrast, b0=(0.0, *record.contrast.b0[1:]))
    record = replace(record, acquisition=plan, artefacts=quiet, contrast=contrast)
    native = scanner.acquire(tissue.build(record, bank, "cpu"), record)
    air = native.dwi[:8, :8, :]
    white = contrast.b0[Tissue.WHITE] * np.exp(-plan.bvalue * 1e-3 * contrast.adc[Tissue.WHITE])
    assert float(air.mean()) == pytest.approx(white / 20 * np.sqrt(np.pi / 2), rel=0.25)


def test_tissue_has_the_drawn_contrast(bank):
    record = _draw(bank, 3, lesion_free=1.0, mimics=0.0, artefacts=0.0)
    calm = replace(record.contrast, texture=0.0, adc_texture=0.0)
    record = replace(record, contrast=calm)
    head = tissue.build(record, bank, "cpu")
    values, counts = torch.unique(head.adc, return_counts=True)
    drawn = torch.tensor(calm.adc)
    common = values[counts > 5000]
    assert (torch.cdist(common[:, None], drawn[:, None]).min(dim=1).values < 1e-4).all()


def test_slice_positions_match_the_grid(record):
    plan = record.acquisition
    grid = acquisition.grid(plan)
    assert grid.shape[2] == plan.slices
    np.testing.assert_allclose(grid.spacing, [*plan.in_plane_mm, plan.spacing_mm])
    # The centre of the field of view is the centre of the MNI grid.
    middle = grid.affine @ [(grid.shape[0] - 1) / 2, (grid.shape[1] - 1) / 2, 0, 1]
    np.testing.assert_allclose(middle[:2], (-96 + 191 / 2, -132 + 223 / 2))


def test_mirrored_heads_swap_sides(bank):
    record = _draw(bank, 0, lesion_free=1.0, mimics=0.0, artefacts=0.0)
    flat = replace(
        record.pose, rotation_deg=(0, 0, 0), shift_mm=(0, 0, 0), scale=(1, 1, 1), elastic_mm=0.0
    )
    plain, mirrored = (
        tissue.build(
            replace(record, pose=replace(flat, mirrored=m), contrast=_calm(record.contrast)),
            bank,
            "cpu",
        )
        for m in (False, True)
    )
    # x = 0 mm is voxel 96, so voxels 96 + k and 96 - k are mirror images.
    assert torch.equal(plain.adc[1:], mirrored.adc[1:].flip(0))


def _calm(contrast):
    return replace(contrast, texture=0.0, adc_texture=0.0, atrophy=9.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_cpu_and_gpu_agree(record, scan, bank):
    on_gpu = scanner.render(record, bank, "cuda")
    brain = scan.true_brain
    for name in ("dwi", "b0", "adc"):
        one, other = getattr(scan, name)[brain], getattr(on_gpu, name).cpu()[brain]
        assert float(np.corrcoef(one, other)[0, 1]) > 0.999, name
    disagree = (scan.lesion != on_gpu.lesion.cpu()).sum()
    assert int(disagree) < 0.02 * int(scan.lesion.sum())


def test_test_cohorts_use_held_out_data(bank):
    for name in ("test", "not-visible", "hyperacute", "day-after"):
        assert load_cohort(name).split == "test"
    assert load_cohort("training").split == "train"
