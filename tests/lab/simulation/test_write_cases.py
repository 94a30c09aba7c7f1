"""Cases on disk: correct orientation, and agreement of preprocessing with the simulation."""

import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume, read
from infarct.core.resampling import resample
from infarct.evaluation.subjects import read_subjects
from infarct.lab.simulation import acquisition, sampling, scanner, tissue, write_cases
from infarct.lab.simulation.cohort import Cohort
from infarct.lab.simulation.write_cases import ADC_UNITS, Saving
from infarct.measurement.localization import locate
from infarct.preprocessing.case import CaseFiles
from infarct.preprocessing.load import open_case
from infarct.preprocessing.preprocess import preprocess
from infarct.preprocessing.templates import load_template

PLAIN = Saving(0.0, (1, 1), (0, 0, 0), (0, 0, 0), (0, 1, 2), (False,) * 3, "float32", 1e3, "mm2/s")


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flipped", [(False, True, False), (True, True, True)])
def test_reordered_axes_keep_world_coordinates(axes, flipped):
    rng = np.random.default_rng(0)
    data = rng.random((4, 5, 6)).astype(np.float32)
    affine = rng.normal(size=(4, 4))
    affine[3] = (0, 0, 0, 1)
    volume = write_cases.stored(data, affine, replace(PLAIN, axes=axes, flipped=flipped))
    for voxel in itertools.product(range(4), range(5), range(6)):
        world = affine @ [*voxel, 1]
        there = np.rint(np.linalg.inv(volume.affine) @ world)[:3].astype(int)
        assert volume.data[tuple(there)] == data[voxel]


@pytest.fixture(scope="module")
def case(bank, tmp_path_factory):
    """A rotated, scaled, shifted, oblique and flipped case: record, file conventions and folder."""
    cohort = replace(
        Cohort(), lesion_free=0, volume_ml=30, volume_log_sd=0.1, snr=(30, 60), in_plane_mm=(1, 1.5)
    )
    cohort = replace(cohort, thickness_mm=(4, 5), bvalues=(1000.0,), bvalue_weights=(1.0,))
    record = sampling.draw(cohort, bank, 4, 0)
    plan = replace(
        record.acquisition, first_mm=4.0, slices=int(165 / record.acquisition.spacing_mm)
    )
    record = replace(record, acquisition=plan)
    saving = Saving(
        5.0,
        (0.95, 1.04),
        (3, -6, 5),
        (8, 2, 0),
        (2, 0, 1),
        (True, False, True),
        "int16",
        4000.0,
        "1e-6 mm2/s",
    )
    folder = tmp_path_factory.mktemp("cases") / "case"
    write_cases.save_case(record, saving, bank, folder)
    return record, saving, folder


def _open(folder):
    dwi, b0, adc, brain = (folder / f"{k}.nii.gz" for k in ("dwi", "b0", "adc", "brain"))
    return open_case(CaseFiles(dwi, b0, adc, brain=brain))


def test_files_are_complete_and_consistent(case):
    record, _, folder = case
    images = {k: read(folder / f"{k}.nii.gz") for k in ("dwi", "b0", "adc", "lesion", "brain")}
    assert len({v.data.shape for v in images.values()}) == 1
    facts = json.loads((folder / "record.json").read_text())
    measured = images["lesion"].data.sum() * images["lesion"].grid.voxel_ml
    assert facts["lesion_ml"] == pytest.approx(measured, rel=1e-4)
    centre = images["lesion"].affine[:3] @ [*np.argwhere(images["lesion"].data).mean(axis=0), 1.0]
    # The head is shifted 3 mm to the right, and the slices are tilted slightly.
    assert facts["hemisphere"] == ("right" if centre[0] > 3 else "left")
    assert facts["bvalue"] == record.acquisition.bvalue
    assert facts["record"]["lesions"][0]["kind"] in ("hyperacute", "acute", "subacute")
    brain = images["brain"].data > 0
    median = np.median(images["adc"].data[brain]) / ADC_UNITS["1e-6 mm2/s"]
    assert 0.6e-3 < median < 1.2e-3


def test_preprocessed_case_matches_the_simulated_scan(case, bank):
    """The images agree after undoing the difference in registration."""
    record, saving, folder = case
    prepared = preprocess(_open(folder), load_template())
    scan = scanner.render(record, bank)
    world = write_cases.native_affine(record, saving) @ np.linalg.inv(
        acquisition.grid(record.acquisition).affine
    )
    lattice_from_found = np.linalg.inv(
        prepared.registration.mni_from_native @ world @ write_cases.scanner_from_mni(saving)
    )

    def there(image):
        volume = Volume(image.float().numpy(), MNI_GRID.affine)
        return resample(volume, MNI_GRID, lattice_from_found)

    brain = prepared.brain & (there(scan.true_brain) > 0.5)
    assert 2 * brain.sum() > 0.95 * (prepared.brain.sum() + int(scan.true_brain.sum()))
    for ours, theirs in ((scan.dwi, prepared.dwi), (scan.adc, prepared.adc)):
        assert np.corrcoef(there(ours)[brain], theirs[brain])[0, 1] > 0.95
    # Registration recovers the in-plane pose of the head to within millimetres.
    np.testing.assert_allclose(lattice_from_found[:2, :2], np.eye(2), atol=0.08)
    centre = lattice_from_found @ [0, -18, 10, 1]
    np.testing.assert_allclose(centre[:3], (0, -18, 10), atol=9)


def test_patients_with_invisible_infarcts_are_redrawn(bank, tmp_path, monkeypatch):
    cohort = replace(Cohort(), lesion_free=0.0, volume_ml=20.0, volume_log_sd=0.1)
    first = sampling.draw(cohort, bank, 4, 1)

    def seen(head, record):
        scan = acquire(head, record)
        hidden = record == first
        return replace(scan, lesion=scan.lesion & (not hidden))

    acquire = scanner.acquire
    monkeypatch.setattr(scanner, "acquire", seen)
    write_cases.make_case(cohort, bank, 4, 1, tmp_path / "case")
    facts = json.loads((tmp_path / "case/record.json").read_text())
    assert facts["lesion_ml"] > 0
    assert facts["record"]["seed"] == sampling.draw(cohort, bank, 4, 1 + write_cases.APART).seed
    monkeypatch.setattr(write_cases, "ATTEMPTS", 1)
    with pytest.raises(RuntimeError, match=r"none of 1 infarcts drawn .* is visible"):
        write_cases.make_case(cohort, bank, 4, 1, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_existing_cases_are_reused(case, bank, tmp_path, monkeypatch):
    record, _, folder = case
    made = []

    def make(*arguments):
        made.append(arguments[-1])
        shutil.copytree(folder, arguments[-1])

    monkeypatch.setattr(write_cases, "make_case", make)
    for _ in range(2):
        files = write_cases.ensure_case(Cohort(), bank, 4, 0, tmp_path / "case")
    assert made == [tmp_path / "case"]
    assert files.bvalue == record.acquisition.bvalue
    assert open_case(files).dwi.data.shape == read(folder / "lesion.nii.gz").data.shape


def test_subjects_table_is_readable_by_the_evaluation(case, bank, tmp_path):
    record, saving, folder = case
    shutil.copytree(folder, tmp_path / "cases" / folder.name)
    write_cases.write_subjects(tmp_path / "cases")
    subjects = read_subjects(tmp_path / "cases" / "subjects.tsv", [folder.name])
    assert subjects.value(folder.name, "cohort") == "training"
    assert subjects.value(folder.name, "hemisphere") in {"left", "right", "bilateral"}
    # Reference: the lesion in MNI space, before the transform to scanner space.
    drawn = tissue.build(record, bank, "cpu").lesion.numpy() > 0.5
    there = locate(drawn, MNI_GRID, np.eye(4)).territories[0].name
    assert subjects.value(folder.name, "territory") == there
    lesion = read(folder / "lesion.nii.gz")
    mni = write_cases.mni_from_native(saving) @ lesion.affine
    centre = mni[:3] @ [*np.argwhere(lesion.data).mean(axis=0), 1.0]
    expected = MNI_GRID.affine[:3] @ [*np.argwhere(drawn).mean(axis=0), 1.0]
    np.testing.assert_allclose(centre, expected, atol=2.0)
