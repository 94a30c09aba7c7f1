"""Tests of inference with tiny ONNX files whose output is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy import ndimage

from infarct.core.errors import AssetError
from infarct.core.normalisation import zscore
from infarct.core.resampling import shrink
from infarct.inference import network as inference
from infarct.inference.network import (
    METADATA_KEY,
    Contract,
    Network,
    lesion_probability,
    open_network,
    stretch,
    tiles,
)
from infarct.inference.subvolumes import split
from infarct.preprocessing.brain_network import brain_mask

LESION = Contract("Sum", "lesion", ("DWI", "ADC", "IS"), (True, True, False), 8)


def convolution(folder: Path, contract: Contract, kernel: NDArray[np.float64]) -> Network:
    """A network that is one convolution without padding; kernel (channels, x, y, z)."""
    path = folder / "network.onnx"
    sides: list[str | int] = ["n", len(kernel), "x", "y", "z"]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "kernel"], ["probability"])],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(kernel[None].astype(np.float32), "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, contract.to_json()
    onnx.save(model, path)
    return open_network(path, threads=1)


def passing(folder: Path, contract: Contract, *weights: float) -> Network:
    """A network that returns the weighted sum of its channels."""
    return convolution(folder, contract, np.array(weights).reshape(-1, 1, 1, 1))


def scan(shape: tuple[int, int, int], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return {name: rng.random(shape).astype(np.float32) for name in ("DWI", "ADC", "IS", "b0")}


def test_sixteen_phases_restore_every_voxel(tmp_path: Path) -> None:
    images, shape = scan((16, 32, 32)), (16, 32, 32)
    brain = np.random.default_rng(1).random(shape) < 0.7
    answer = lesion_probability(passing(tmp_path, LESION, 0, 0, 1), images, brain)
    np.testing.assert_array_equal(answer, np.where(brain, images["IS"], 0))


def test_dwi_and_adc_are_scaled_in_the_brain_of_each_sub_volume(tmp_path: Path) -> None:
    images = scan((8, 8, 16))
    brain = np.random.default_rng(1).random((8, 8, 16)) < 0.7
    answer = lesion_probability(passing(tmp_path, LESION, 2, -3, 0), images, brain)
    for part, dwi, adc, inside in zip(
        *(split(x) for x in (answer, images["DWI"], images["ADC"], brain)), strict=True
    ):
        expected = 2 * zscore(dwi, inside) - 3 * zscore(adc, inside)
        np.testing.assert_allclose(part, expected, atol=1e-5)


def test_a_brain_absent_from_some_sub_volumes_gives_zero_not_nan(tmp_path: Path) -> None:
    brain = np.zeros((8, 8, 16), dtype=bool)
    brain[4, 4, 8] = True
    answer = lesion_probability(passing(tmp_path, LESION, 1, 1, 1), scan(brain.shape), brain)
    assert np.isfinite(answer).all()
    assert not answer[~brain].any()


def test_only_the_bounding_box_of_the_brain_is_computed(tmp_path: Path) -> None:
    network = passing(tmp_path, LESION, 0, 0, 1)
    shown = []

    class Watched:
        contract = LESION

        @staticmethod
        def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
            shown.append(image.shape)
            return network.run(image)

    images, brain = scan((96, 96, 192)), np.zeros((96, 96, 192), dtype=bool)
    brain[20:50, 26:34, 100:190] = True
    answer = lesion_probability(Watched(), images, brain)  # type: ignore[arg-type]
    np.testing.assert_array_equal(answer, np.where(brain, images["IS"], 0))
    assert set(shown) == {(1, 3, 24, 16, 24)}


@pytest.mark.parametrize("tile", [3, 7, 100])
def test_tiles_give_the_same_result_as_the_full_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tile: int
) -> None:
    monkeypatch.setattr(inference, "TILE", tile)
    contract = Contract("Mean", "lesion", ("IS",), (False,), divisor=3, margin=2)
    network = convolution(tmp_path, contract, np.full((1, 5, 5, 5), 1 / 125))
    images = scan((32, 40, 48))
    brain = np.zeros((32, 40, 48), dtype=bool)
    brain[3:30, 5:40, 10:41] = True
    answer = lesion_probability(network, images, brain)
    for part, is_map, inside in zip(*map(split, (answer, images["IS"], brain)), strict=True):
        whole = ndimage.uniform_filter(is_map * inside, 5, mode="constant")
        np.testing.assert_allclose(part, whole * inside, atol=1e-6)


def test_tiles_cover_the_box_of_the_brain_once() -> None:
    brain = np.zeros((50, 70, 31), dtype=bool)
    brain[2:50, 10:66, 0:31] = True
    covered = np.zeros((60, 80, 40), dtype=int)
    for start, stop in tiles(brain, 3):
        assert all(a % 3 == b % 3 == 0 for a, b in zip(start, stop, strict=True))
        covered[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] += 1
    assert covered.max() == 1
    assert covered[2:50, 10:66, 0:31].all()
    assert not list(tiles(np.zeros((4, 4, 4), dtype=bool), 3))


def test_stretch_undoes_what_sampling_did_to_a_line() -> None:
    line = np.arange(40, dtype=np.float32)
    back = stretch(line[2::4], 0, 4, 2.0)
    np.testing.assert_allclose(back[2:-1], line[2:-1], rtol=1e-6)
    np.testing.assert_array_equal(back[:3], 2.0)


def test_shrink_then_stretch_keeps_a_slope_in_its_place() -> None:
    ramp = np.broadcast_to(np.arange(32, dtype=np.float32)[:, None, None], (32, 8, 8))
    back = stretch(shrink(ramp, 4), 0, 4, 1.5)
    np.testing.assert_allclose(back[2:-2, 0, 0], ramp[2:-2, 0, 0], atol=1e-5)


def test_brain_mask_is_the_central_part_filled_and_one_voxel_wider(tmp_path: Path) -> None:
    x, y, z = np.meshgrid(*(np.arange(n) for n in (192, 224, 192)), indexing="ij", sparse=True)
    radius = np.sqrt((x - 96.0) ** 2 + (y - 112.0) ** 2 + (z - 96.0) ** 2)
    eye = (x - 96.0) ** 2 + (y - 205.0) ** 2 + (z - 60.0) ** 2 < 12**2
    # Open at the top and bottom, as ventricles are in a slab.
    tube = (x - 96.0) ** 2 + (y - 112.0) ** 2 < 12**2
    head = ((radius < 60) & ~tube) | eye
    images = {"DWI": head.astype(np.float32), "b0": np.zeros(head.shape, dtype=np.float32)}
    contract = Contract("Threshold", "brain", ("DWI", "b0"), (False, False), 8)
    mask = brain_mask(passing(tmp_path, contract, 1, 0), images)
    assert mask.shape == head.shape
    assert mask[96, 112, 96]
    assert not mask[96, 205, 60]
    wider = radius < 61
    assert 2 * (mask & wider).sum() / (mask.sum() + wider.sum()) > 0.98


def test_brain_network_sees_the_whole_head_scaled(tmp_path: Path) -> None:
    contract = Contract("Threshold", "brain", ("DWI", "b0"), (True, True), 8)
    network = passing(tmp_path, contract, 0.5, 0.5)
    rng = np.random.default_rng(0)
    images = {
        name: rng.normal(500, 9, (192, 224, 192)).astype(np.float32) for name in ("DWI", "b0")
    }
    for image in images.values():
        image[60:130, 70:150, 60:130] += 1000
    mask = brain_mask(network, images)
    again = brain_mask(network, {name: 7 * image + 3 for name, image in images.items()})
    np.testing.assert_array_equal(mask, again)
    assert mask[95, 110, 95]
    assert mask.mean() < 0.1


def test_a_file_that_is_not_a_network_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(AssetError, match="cannot be loaded"):
        open_network(path)
    with pytest.raises(AssetError, match="cannot be loaded"):
        open_network(tmp_path / "absent.onnx")


def test_a_foreign_network_is_rejected(tmp_path: Path) -> None:
    passing(tmp_path, LESION, 1, 0, 0)
    model = onnx.load(tmp_path / "network.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "network.onnx")
    with pytest.raises(AssetError, match="is not an infarct network"):
        open_network(tmp_path / "network.onnx")


def test_a_brain_network_is_rejected_for_lesions(tmp_path: Path) -> None:
    contract = Contract("BrainMask", "brain", ("DWI", "b0"), (True, True), 8)
    network = passing(tmp_path, contract, 1, 0)
    with pytest.raises(AssetError, match="BrainMask segments the brain"):
        lesion_probability(network, scan((8, 8, 16)), np.ones((8, 8, 16), dtype=bool))


def test_a_contract_survives_a_round_trip() -> None:
    assert Contract.from_json(LESION.to_json()) == LESION


def test_a_network_for_measured_slices_is_rejected_for_sub_volumes(tmp_path: Path) -> None:
    contract = replace(LESION, name="Slices", slices=True)
    images, brain = scan((16, 32, 32)), np.ones((16, 32, 32), bool)
    with pytest.raises(AssetError, match="Slices takes measured slices"):
        lesion_probability(passing(tmp_path, contract, 0, 0, 1), images, brain)
