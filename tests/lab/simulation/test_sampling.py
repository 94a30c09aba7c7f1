"""Drawing records: reproducibility, agreement with Table 1 of the paper, and cohort settings."""

from dataclasses import replace

import numpy as np
import pytest

from infarct.core.diffusion import Mask
from infarct.core.errors import InputFileError
from infarct.core.geometry import MNI_GRID
from infarct.lab.simulation import cohort as cohorts
from infarct.lab.simulation import sampling
from infarct.lab.simulation.cohort import Cohort, load_cohort
from infarct.lab.simulation.lesion_shapes import LOW_MM, SITES
from infarct.lab.sources.bank import Bank, pack_lesions

BANK = Bank({"head": np.zeros((2, 2, 2), np.uint8)}, pack_lesions([]), {})

TABLE_1_ML = {
    "test": (1.09, 4.62, 27.84),
    "hyperacute": (1.44, 7.15, 28.36),
    "day-after": (3.21, 17.48, 64.43),
}


def _records(name, count=1000):
    return [sampling.draw(load_cohort(name), BANK, 3, i) for i in range(count)]


def test_same_seed_and_index_give_the_same_record():
    one, other = (sampling.draw(Cohort(), BANK, 3, 8) for _ in range(2))
    assert one == other
    assert one != sampling.draw(Cohort(), BANK, 3, 9)
    assert one != sampling.draw(Cohort(), BANK, 4, 8)


@pytest.mark.parametrize("name", TABLE_1_ML)
def test_volumes_follow_table_1(name):
    infarcts = np.array([sum(s.volume_ml for s in r.lesions) for r in _records(name)])
    volumes = sampling.OUTLINED_FACTOR * infarcts**sampling.OUTLINED_POWER
    quartiles = np.percentile(volumes, [25, 50, 75])
    np.testing.assert_allclose(np.log(quartiles), np.log(TABLE_1_ML[name]), atol=0.35)


def _mask(z: int) -> Mask:
    mask = np.zeros(MNI_GRID.shape, dtype=bool)
    mask[120:132, 90:102, z : z + 8] = True
    return mask


def test_skull_base_infarcts_follow_the_cohort_setting():
    # The lattice starts at z = -72 mm.
    masks = {
        f"{place}-{k}": _mask(z) for place, z in (("low", 20), ("high", 110)) for k in range(9)
    }
    bank = replace(BANK, lesions=pack_lesions(masks.items()))
    plain = replace(load_cohort("training"), lesion_free=0.0, scattered=0.0, embolic=0.0)
    for low, least, most in ((0.0, 0.2, 0.5), (0.5, 0.6, 0.8), (1.0, 1.0, 1.0)):
        cohort = replace(plain, low=low)
        spots = [sampling.draw(cohort, bank, 3, k).lesions[0] for k in range(200)]
        places = [spot.source or SITES[spot.site].centre_mm[2] < LOW_MM for spot in spots]
        is_low = [place is True or str(place).startswith("low") for place in places]
        assert least <= np.mean(is_low) <= most
    assert {spot.site for spot in spots} >= {"temporal-base", "cerebellum", "pons", ""}
    assert max(spot.volume_ml for spot in spots) < sampling.MOST_LOW_ML


def test_training_has_small_lesions_and_lesion_free_scans():
    records = _records("training")
    free = np.mean([not r.lesions for r in records])
    assert 0.24 < free < 0.32
    volumes = np.array([sum(s.volume_ml for s in r.lesions) for r in records if r.lesions])
    assert np.mean(volumes < 1.7) > 0.3


def test_not_visible_cohort_has_mimics_but_no_infarcts():
    records = _records("not-visible", 200)
    assert not any(r.lesions for r in records)
    assert np.mean([bool(r.mimics) for r in records]) > 0.25


def test_mimics_and_artefacts_can_be_disabled():
    plain = replace(Cohort(), mimics=0.0, artefacts=0.0)
    for index in range(50):
        record = sampling.draw(plain, BANK, 0, index)
        assert not record.mimics
        assert not record.tracts
        assert record.white_spots is None
        wrong = record.artefacts
        assert not (wrong.coils or wrong.susceptibility or wrong.ghost)
        assert not (wrong.pile_up or wrong.rims)


def test_synthetic_lesions_are_at_their_site():
    for record in _records("test", 200):
        for spot in record.lesions:
            site = SITES[spot.site]
            low, high = site.ml
            assert low <= spot.volume_ml <= high
            apart = (np.abs(spot.centre_mm[0]) - site.centre_mm[0]) / site.spread_mm[0]
            assert abs(apart) < 6


def test_slices_are_within_the_lattice():
    for record in _records("training", 300):
        plan = record.acquisition
        assert plan.slices >= 10
        assert plan.first_mm + plan.spacing_mm * (plan.slices - 1) <= 191


def test_cohort_files_are_validated(tmp_path, monkeypatch):
    (tmp_path / "odd.toml").write_text("lesion_colour = 3\n")
    monkeypatch.setattr(cohorts.resources, "files", lambda _: tmp_path)
    with pytest.raises(InputFileError, match="lesion_colour"):
        load_cohort("odd")
    with pytest.raises(InputFileError, match="odd"):
        load_cohort("absent")


def test_every_bundled_cohort_loads():
    names = ["calibration", "day-after", "embolic", "hyperacute", "not-visible", "test", "training"]
    assert cohorts.cohort_names() == names
    for name in names:
        assert load_cohort(name).name == name


@pytest.mark.parametrize("name", ["training", "test", "hyperacute"])
def test_every_infarct_has_sufficient_contrast(name):
    cohort = replace(
        load_cohort(name), lesion_free=0.0, hyperacute=1.0, subacute=0.0, late=0.0, volume_ml=0.2
    )
    for index in range(60):
        record = sampling.draw(cohort, BANK, 5, index)
        b = record.acquisition.bvalue
        for spot in record.lesions:
            gain = spot.b0_gain * np.exp(b * sampling.NORMAL_ADC * (1 - spot.adc_gain))
            assert gain >= sampling.FAINTEST - 1e-9


def test_embolic_cohort_has_showers_of_small_foci():
    records = _records("embolic", 200)
    counts = np.array([len(r.lesions) for r in records])
    assert counts.min() >= sampling.FEWEST_EMBOLI
    assert counts.max() <= sampling.MOST_EMBOLI
    assert np.median(counts) > 8
    volumes = np.array([s.volume_ml for r in records for s in r.lesions])
    least, most = sampling.EMBOLUS_ML
    assert volumes.min() >= least
    assert volumes.max() <= most
    assert 0.5 < np.mean(volumes < 0.1) < 0.9
    isotropic = [r.acquisition.spacing_mm == r.acquisition.in_plane_mm[0] for r in records]
    assert 0.4 < np.mean(isotropic) < 0.6
    sides = [{s.centre_mm[0] > 0 for s in r.lesions} for r in records]
    assert 0.1 < np.mean([len(side) == 2 for side in sides]) < 0.5
    assert not any(len(r.lesions) > 6 for r in _records("test", 200))


def test_training_has_showers_late_infarcts_rims_and_thin_slices():
    records = _records("training", 600)
    infarcts = [r for r in records if r.lesions]
    assert 0.1 < np.mean([len(r.lesions) > 6 for r in infarcts]) < 0.2
    late = [r for r in infarcts if r.lesions[0].kind == "late"]
    assert 0.03 < len(late) / len(infarcts) < 0.1
    assert any(spot.b0_gain < 1 for r in late for spot in r.lesions)
    thin = [r.acquisition.spacing_mm < 2.4 for r in records]
    assert 0.2 < np.mean(thin) < 0.45
    low = [r for r in infarcts if r.lesions[0].centre_mm[2] < LOW_MM]
    touching = [
        any(
            np.linalg.norm(np.subtract(rim.centre_mm, r.lesions[0].centre_mm)) < 12
            for rim in r.artefacts.rims
        )
        for r in low
    ]
    assert np.mean(touching) > 0.5


def test_reader_thresholds_vary_without_changing_other_parameters():
    records = _records("test", 100)
    habits = np.array([(r.habit.small, r.habit.large) for r in records])
    assert habits.min(axis=0) == pytest.approx((0.15, 0.3), abs=0.02)
    assert habits.max(axis=0) == pytest.approx((0.3, 0.5), abs=0.02)
    other = replace(load_cohort("test"), small_outlined_from=(0.5, 0.5))
    same = sampling.draw(other, BANK, 3, 0)
    assert replace(same, habit=records[0].habit) == records[0]
