"""Real cases in training: found in data sets, prepared, and mixed into the stream."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from infarct.core.errors import InputFileError
from infarct.core.nifti import Volume, write
from infarct.lab.training import prepare_real_cases
from infarct.lab.training.config import CasesSettings
from infarct.lab.training.prepare_real_cases import find, prepare_cases
from infarct.lab.training.real_cases import Mixed, RealBatch

DATA = Path(os.environ.get("INFARCT_DATA", Path(__file__).parents[4] / "shared/data"))


class Synthetic:
    """A stream of empty volumes that counts them."""

    def __init__(self) -> None:
        self.made = 0

    def batches(self) -> Iterator[RealBatch]:
        """Make batches of zeros."""
        while True:
            self.made += 1
            yield RealBatch(torch.zeros(1, 3, 8, 8, 4), *(torch.zeros(1, 1, 8, 8, 4),) * 2)

    head_batches = batches

    def state_dict(self) -> dict[str, Any]:
        """Return the count."""
        return {"made": self.made}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the count."""
        self.made = state["made"]


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Two cases of ones and twos, lesion in the left half."""
    for k in (1, 2):
        lesion = np.zeros((1, 16, 16, 16), dtype=bool)
        lesion[:, :8] = True
        image = np.full((3, 16, 16, 16), k, dtype=np.float16)
        np.savez(tmp_path / f"case{k}.npz", image=image, lesion=lesion, brain=lesion | True)
    return tmp_path


def test_real_and_synthetic_batches_have_the_requested_proportion(prepared: Path) -> None:
    mixed = Mixed(Synthetic(), CasesSettings(str(prepared), 0.25), batch=2, seed=0)
    drawn = list(islice(mixed.batches(), 200))
    real = [b for b in drawn if b.image.any()]
    assert 30 < len(real) < 70
    assert {int(x) for b in real for x in b.image[:, 0, 0, 0, 0]} == {1, 2}
    sides = {bool(b.lesion[0, 0, 0, 0, 0]) for b in real}
    assert sides == {True, False}
    assert all(b.image.shape == (2, 3, 8, 8, 4) for b in real)
    assert all(b.lesion.mean() == 0.5 for b in real)


def test_a_mixed_stream_resumes_exactly(prepared: Path) -> None:
    whole = Mixed(Synthetic(), CasesSettings(str(prepared), 0.5), batch=1, seed=3)
    stream = whole.batches()
    for _ in range(5):
        next(stream)
    state = whole.state_dict()
    rest = [next(stream) for _ in range(10)]
    again = Mixed(Synthetic(), CasesSettings(str(prepared), 0.5), batch=1, seed=99)
    again.load_state_dict(state)
    for a, b in zip(rest, again.batches(), strict=False):
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.lesion, b.lesion)


def test_a_folder_without_cases_is_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="prepare-cases"):
        Mixed(Synthetic(), CasesSettings(str(tmp_path)), batch=1, seed=0)
    with pytest.raises(InputFileError, match="mask"):
        list(prepare_cases(tmp_path, tmp_path / "out"))


def test_cases_are_found_in_isles_and_bids_layouts(tmp_path: Path) -> None:
    for name in (
        "sub-1/ses-1/dwi/sub-1_ses-1_dwi.nii.gz",
        "sub-1/ses-1/dwi/sub-1_ses-1_adc.nii.gz",
        "derivatives/sub-1/ses-1/sub-1_ses-1_msk.nii.gz",
        "sub-2/dwi/sub-2_dwi.nii.gz",
        "sub-2/dwi/sub-2_b0.nii.gz",
        "sub-2/dwi/sub-2_lesion_mask.nii.gz",
        "sub-3/dwi/sub-3_dwi.nii.gz",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    first, second = find(tmp_path)
    assert (first.name, second.name) == ("sub-1_ses-1", "sub-2")
    assert first.files.adc is not None
    assert first.files.b0 is None
    assert second.files.b0 is not None
    assert first.lesion.name == "sub-1_ses-1_msk.nii.gz"
    assert second.lesion.name == "sub-2_lesion_mask.nii.gz"


def test_cases_are_found_in_one_folder_per_case(tmp_path: Path) -> None:
    for name in ("a/dwi", "a/adc", "a/lesion_manual", "b/2/dwi", "b/2/b0", "b/2/mask", "c/dwi"):
        (tmp_path / f"{name}.nii.gz").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.nii.gz").touch()
    first, second = find(tmp_path)
    assert (first.name, second.name) == ("a", "b-2")
    assert first.files.adc == tmp_path / "a/adc.nii.gz"
    assert second.files.b0 == tmp_path / "b/2/b0.nii.gz"
    assert second.files.adc is None
    assert first.lesion.name == "lesion_manual.nii.gz"
    (tmp_path / "c/lesion.nii.gz").touch()
    (tmp_path / "c/lesion2.nii.gz").touch()
    with pytest.raises(InputFileError, match="several masks"):
        list(find(tmp_path))


def test_a_scan_with_two_masks_is_an_error(tmp_path: Path) -> None:
    for name in ("sub-1_dwi", "one/sub-1_msk", "other/sub-1_msk"):
        (tmp_path / f"{name}.nii.gz").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.nii.gz").touch()
    with pytest.raises(InputFileError, match=r"one/sub-1_msk.*other/sub-1_msk"):
        list(find(tmp_path))


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace preprocessing by a stand-in for a case of 4 x 4 x 4 voxels on the MNI grid."""
    image = np.random.default_rng(0).random((4, 4, 4))
    prepared = SimpleNamespace(
        registration=SimpleNamespace(mni_from_native=np.eye(4)),
        dwi_normalised=image,
        adc_normalised=image,
        brain=np.indices((4, 4, 4))[0] < 3,
    )
    dwi = Volume(image, np.eye(4))
    monkeypatch.setattr(prepare_real_cases, "MNI_GRID", dwi.grid)
    monkeypatch.setattr(prepare_real_cases, "open_case", lambda _: SimpleNamespace(dwi=dwi))
    monkeypatch.setattr(prepare_real_cases, "preprocess", lambda *_: prepared)
    monkeypatch.setattr(prepare_real_cases, "is_map", lambda *_: image)
    for asset in ("load_template", "load_healthy", "load_network"):
        monkeypatch.setattr(prepare_real_cases, asset, lambda *_: None)
    (tmp_path / "set").mkdir()
    (tmp_path / "set/dwi.nii.gz").touch()
    draw(tmp_path, np.full((4, 4, 4), 1))
    return tmp_path


def draw(folder: Path, mask: np.ndarray, shift: float = 0.0) -> None:
    affine = np.eye(4)
    affine[0, 3] = shift
    write(Volume(mask.astype(np.uint8), affine), folder / "set/lesion.nii.gz", "uint8")


def test_a_case_that_could_not_be_written_is_prepared_again(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any, **_: Any) -> None:
        np.savez(file, image=np.zeros(3))
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(KeyboardInterrupt):
        list(prepare_cases(stand_in / "set", stand_in / "out"))
    assert not list((stand_in / "out").glob("*.npz"))


def test_every_nonzero_label_is_lesion_and_the_grid_must_match(stand_in: Path) -> None:
    mask = np.zeros((4, 4, 4))
    mask[1, 1, 1:3] = 1
    outside = np.zeros((4, 4, 4))
    outside[3] = 1
    kept = []
    for k, drawn in enumerate((mask, mask * 255, mask * 3)):
        draw(stand_in, drawn, shift=k / 50)  # rounding of headers
        ((_, said),) = prepare_cases(stand_in / "set", stand_in / f"out{k}")
        assert said == "prepared"
        with np.load(next((stand_in / f"out{k}").glob("*.npz"))) as file:
            kept.append(file["lesion"])
    assert all((lesion[0] == (mask > 0)).all() for lesion in kept)
    for drawn, shift, why in (
        (mask, 5.0, "grid differs"),
        (outside, 0.0, "no lesion voxel inside the brain"),
    ):
        draw(stand_in, drawn, shift)
        ((_, said),) = prepare_cases(stand_in / "set", stand_in / "away")
        assert said.startswith("skipped: ")
        assert why in said


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the development data, see INFARCT_DATA")
def test_a_prepared_case_keeps_its_lesion_and_is_normalised_as_network_input(
    tmp_path: Path,
) -> None:
    source, folder = DATA / "real/isles22-case0009", tmp_path / "set"
    folder.mkdir()
    for role, name in (("dwi", "dwi"), ("adc", "adc"), ("msk", "lesion_manual")):
        shutil.copy(source / f"{name}.nii.gz", folder / f"sub-9_{role}.nii.gz")
    assert list(prepare_cases(folder, tmp_path / "out")) == [("sub-9", "prepared")]
    assert list(prepare_cases(folder, tmp_path / "out")) == [("sub-9", "already prepared")]
    with np.load(tmp_path / "out/sub-9.npz") as file:
        image, lesion, brain = (file[k] for k in ("image", "lesion", "brain"))
    assert lesion.sum() / 1000 == pytest.approx(4.2, rel=0.2)
    inside = image[:, brain[0]].astype(float)
    assert inside[:2].mean(axis=1) == pytest.approx([0, 0], abs=0.01)
    assert inside[:2].std(axis=1) == pytest.approx([1, 1], abs=0.01)
    assert not image[:, ~brain[0]].any()
    assert image[0, lesion[0]].mean() > 2
    assert image[1, lesion[0]].mean() < 0
