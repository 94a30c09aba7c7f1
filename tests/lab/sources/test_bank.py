"""The bank: packing is lossless, and the training split is determined by name."""

import re

import numpy as np
import pytest

from infarct.core import assets
from infarct.core.errors import GeometryError, InputFileError
from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume, write
from infarct.lab.sources.bank import Background, Bank, pack_lesions, split_of_lesion
from infarct.lab.sources.packing import lesion_on_mni_grid, read_lesions
from infarct.lab.training.config import Recipe
from infarct.lab.training.sources import describe_stream


def _masks():
    rng = np.random.default_rng(0)
    for number in range(5):
        mask = np.zeros(MNI_GRID.shape, dtype=bool)
        x, y, z = rng.integers(20, 150, 3)
        mask[x : x + 9, y : y + 7, z : z + 5] = rng.random((9, 7, 5)) > 0.4
        yield f"lesion-{number}", mask


@pytest.fixture
def bank():
    rng = np.random.default_rng(1)
    background = Background(
        rng.random((8, 9, 10)).astype(np.float32),
        (rng.random((8, 9, 10)) * 3e-3).astype(np.float32),
        rng.random((8, 9, 10)) > 0.5,
        np.diag([0.5, 0.5, 0.25, 1.0]),
        1500.0,
    )
    head = rng.integers(0, 18, (6, 7, 8)).astype(np.uint8)
    return Bank({"a": head}, pack_lesions(_masks()), {"scanner": background})


def test_packing_lesions_is_lossless(bank):
    for name, mask in _masks():
        found = np.zeros_like(mask)
        part, (x, y, z) = bank.lesions.mask(name)
        a, b, c = part.shape
        found[x : x + a, y : y + b, z : z + c] = part
        np.testing.assert_array_equal(found, mask)


def test_empty_and_implausibly_large_lesions_are_skipped():
    empty = np.zeros(MNI_GRID.shape, dtype=bool)
    huge = np.zeros(MNI_GRID.shape, dtype=bool)
    huge[:100, :100, :50] = True
    assert len(pack_lesions([("empty", empty), ("huge", huge)])) == 0


def test_save_and_load_round_trip(bank, tmp_path):
    bank.save(tmp_path / "bank.npz")
    found = Bank.load(tmp_path / "bank.npz")
    np.testing.assert_array_equal(found.anatomies["a"], bank.anatomies["a"])
    assert list(found.lesions.names) == list(bank.lesions.names)
    np.testing.assert_array_equal(found.lesions.bits, bank.lesions.bits)
    one, other = found.backgrounds["scanner"], bank.backgrounds["scanner"]
    np.testing.assert_allclose(one.b0, other.b0, atol=1e-3)
    np.testing.assert_allclose(one.adc, other.adc, atol=1e-6)
    np.testing.assert_array_equal(one.brain, other.brain)
    assert one.bvalue == 1500.0


def test_missing_bank_error_names_the_command(tmp_path):
    with pytest.raises(InputFileError, match="infarct lab bank"):
        Bank.load(tmp_path / "none.npz")


def test_lesion_split_depends_only_on_the_name():
    # Fixed values: if these change, networks may have been trained on their test data.
    assert split_of_lesion("bwsrsub-1001_lesion") == "train"
    assert split_of_lesion("bwsrsub-1005_lesion") == "validation"
    names = [f"bwsrsub-{n}_lesion" for n in range(2000)]
    shares = [np.mean([split_of_lesion(n) == s for n in names]) for s in ("validation", "test")]
    np.testing.assert_allclose(shares, 0.1, atol=0.03)


def test_anatomy_splits_are_disjoint():
    heads = {f"training_seg_{n:02d}": np.zeros((1, 1, 1), np.uint8) for n in range(1, 20)}
    bank = Bank(heads, pack_lesions([]), {})
    train, validation, test = (set(bank.anatomies_of(s)) for s in ("train", "validation", "test"))
    assert train | validation | test == set(heads)
    assert not (train & validation or train & test or validation & test)
    assert validation
    assert test


def test_bank_is_saved_under_exactly_the_given_name(bank, tmp_path):
    bank.save(tmp_path / "mine")
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]
    assert list(Bank.load(tmp_path / "mine").anatomies) == ["a"]


def test_invalid_bank_error_names_the_file(bank, tmp_path):
    bank.save(tmp_path / "half.npz")
    whole = (tmp_path / "half.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "recipe.toml").write_text("network = 'FCN_CH2'")
    np.savez(tmp_path / "case.npz", image=np.zeros(3))
    np.save(tmp_path / "one.npy", np.zeros(3))
    for name in ("half.npz", "recipe.toml", "case.npz", "one.npy"):
        with pytest.raises(InputFileError, match=f"{name}: not a valid bank"):
            Bank.load(tmp_path / name)


def test_backgrounds_can_be_excluded(bank):
    assert bank.backgrounds_of("train") == ["scanner"]
    assert bank.without_backgrounds(["scanner"]).backgrounds_of("train") == []
    with pytest.raises(
        InputFileError, match="background skanner not found in the bank; available: scanner"
    ):
        bank.without_backgrounds(["scanner", "skanner"])
    without = bank.without_backgrounds(["scanner"])
    assert without.without_backgrounds(["scanner"]).backgrounds == {}


def test_stream_description_lists_only_the_training_data(tmp_path):
    heads = dict.fromkeys(("training_seg_01", "training_seg_06"), np.zeros((1, 1, 1), np.uint8))
    masks = [(f"bwsrsub-{n}_lesion", np.ones((2, 2, 2), bool)) for n in (1001, 1005)]
    Bank(heads, pack_lesions(masks), {}).save(tmp_path / "bank.npz")
    recipe = Recipe("FCN_CH2", stream={"leave_out": ["scanner"]})
    told = describe_stream(tmp_path / "bank.npz", recipe)
    assert "- anatomies (1): training_seg_01\n- real lesion masks: 1, in addition" in told
    held_out = "background scanner; 1 lesion masks for validation; training_seg_06, 0 lesion masks"
    assert f"backgrounds: none\n- held out: {held_out} for test\n" in told


def test_stream_description_of_brain_networks_has_no_background(tmp_path, bank):
    """`Stream.head_batches` uses no backgrounds."""
    bank.save(tmp_path / "bank.npz")
    for network, seen in (("BrainMask", "none"), ("FCN_CH2", "scanner")):
        told = describe_stream(tmp_path / "bank.npz", Recipe(network))
        assert f"backgrounds: {seen}\n" in told


@pytest.mark.parametrize(
    "card", sorted((assets.ROOT / "networks").glob("*.md")), ids=lambda card: card.stem
)
def test_shipped_model_cards_separate_training_and_held_out_data(card):
    data = card.read_text().split("## Data")[1].split("## Limits")[0]
    (learned,) = re.findall(r"- anatomies \((\d+)\): (.*)", data)
    names = learned[1].split(", ")
    held_out = re.findall(r"training_seg_\d+", data.split("- held out:")[1])
    everyone = Bank(dict.fromkeys([*names, *held_out], np.zeros((1, 1, 1), np.uint8)), None, {})
    assert int(learned[0]) == len(names) == 11
    assert names == everyone.anatomies_of("train")
    assert held_out == [*everyone.anatomies_of("validation"), *everyone.anatomies_of("test")]
    counted = re.findall(r"masks: (\d+)|(\d+) lesion masks for", data)
    assert sum(int(n or m) for n, m in counted) == 1293


def test_lesions_keep_their_hemisphere():
    data = np.zeros((157, 189, 136), dtype=np.uint8)
    affine = np.diag([-1.0, 1, 1, 1])
    affine[:3, 3] = (78, -112, -50)
    data[110, 100, 60] = 1
    mask = lesion_on_mni_grid(Volume(data, affine))
    world = MNI_GRID.affine @ [*np.argwhere(mask)[0], 1]
    np.testing.assert_allclose(world[:3], (78 - 110, -112 + 100, -50 + 60))
    assert mask.sum() == 1


@pytest.mark.parametrize("affine", [np.diag([2.0, 2, 2, 1]), np.diag([1.0, 1, 1.05, 1])])
def test_lesions_with_other_voxel_sizes_are_rejected_by_name(tmp_path, affine):
    write(Volume(np.ones((4, 4, 4), np.uint8), affine), tmp_path / "coarse.nii.gz", np.uint8)
    with pytest.raises(GeometryError, match=r"coarse\.nii\.gz: voxel axes are"):
        list(read_lesions([tmp_path / "coarse.nii.gz"]))
