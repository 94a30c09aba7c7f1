"""Tests of the inference engines, compared with a convolution in SciPy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy import ndimage

from infarct.core.errors import AssetError, MemoryShortageError, SettingError
from infarct.inference import backends

KERNEL = np.random.default_rng(0).normal(size=(3, 3, 3)).astype(np.float32)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Write a network with one zero-padded convolution and metadata."""
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "kernel"], ["answer"], pads=[1] * 6)],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, "x", "y", "z"])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(KERNEL[None, None], "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    entry = model.metadata_props.add()
    entry.key, entry.value = "word", "said"
    path = tmp_path / "network.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_every_engine_computes_the_same(
    network: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(backends.ENGINE, name)
    engine = backends.load(network, threads=1)
    rng = np.random.default_rng(1)
    for sides in ((9, 8, 7), (5, 12, 6)):
        image = rng.normal(size=sides).astype(np.float32)
        expected = ndimage.correlate(image, KERNEL, mode="constant")
        # bfloat16 keeps 8 bits, and 27 products are added.
        tolerance = 1e-5 if "float32" in engine.name or "f32" in engine.name else 0.1
        answer = engine.run(image[None, None])
        np.testing.assert_allclose(answer[0, 0], expected, atol=tolerance)
    assert engine.metadata["word"] == "said"


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_selu_follows_its_definition(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Klambauer et al. 2017, equation 2; OpenVINO gets an equivalent formulation."""
    sides = ["n", 1, "x", "y", "z"]
    graph = helper.make_graph(
        [helper.make_node("Selu", ["image"], ["x"]), helper.make_node("Selu", ["x"], ["answer"])],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "network.onnx")
    monkeypatch.setenv(backends.ENGINE, name)
    engine = backends.load(tmp_path / "network.onnx", threads=1)
    image = np.linspace(-6, 6, 120, dtype=np.float32).reshape(1, 1, 4, 5, 6)

    def selu(x: NDArray[np.float32]) -> NDArray[np.float32]:
        alpha, scale = 1.6732632423543772, 1.0507009873554805
        return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))

    tolerance = 1e-5 if engine.name.endswith(("float32", "f32")) else 0.05
    np.testing.assert_allclose(engine.run(image), selu(selu(image)), atol=tolerance)


def test_an_output_is_not_overwritten_by_the_next_run(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(backends.ENGINE, "openvino")
    engine = backends.load(network, threads=1)
    first = engine.run(np.ones((1, 1, 4, 4, 4), dtype=np.float32))
    kept = first.copy()
    engine.run(np.zeros((1, 1, 4, 4, 4), dtype=np.float32))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_cores_are_as_many_as_the_environment_allows(
    network: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(backends.ENGINE, name)
    monkeypatch.setenv("OMP_NUM_THREADS", "2,3")
    assert backends.load(network).threads == 2
    assert backends.load(network, threads=1).threads == 1


@pytest.mark.parametrize("said", ["abc", "0", "-1", "1.5", ",2", "99999999", "²"])
def test_an_invalid_number_of_threads_is_an_error(
    network: Path, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    with pytest.raises(SettingError, match=f"OMP_NUM_THREADS={said}: expected a number of threads"):
        backends.load(network)


@pytest.mark.parametrize("said", ["", " "])
def test_without_a_number_of_threads_all_cores_are_used(
    network: Path, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setattr(backends, "cores", lambda: 3)
    assert backends.load(network).threads == 3


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("Non-zero status code returned while running Conv node: std::bad_alloc"),
        RuntimeError("Failed to allocate memory for requested buffer of size 123"),
    ],
)
def test_lack_of_memory_is_reported_as_such(
    network: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setitem(backends._ENGINES, "onnxruntime", fail)
    with pytest.raises(MemoryShortageError, match="--model fcn-ch2-slices") as raised:
        backends.load(network)
    assert raised.value.exit_code == 11


def test_telemetry_is_off_before_onnxruntime_is_imported() -> None:
    code = (
        "import os, sys\n"
        "import infarct\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n"
    )
    set_otherwise = {**os.environ, "ORT_DISABLE_TELEMETRY": "0"}
    subprocess.run([sys.executable, "-c", code], env=set_otherwise, check=True)


def test_an_unavailable_engine_is_named(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backends.ENGINE, "abacus")
    with pytest.raises(
        AssetError, match="INFARCT_ENGINE=abacus: unknown engine; choose onnxruntime or"
    ):
        backends.load(network)
    monkeypatch.setenv(backends.ENGINE, "openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(AssetError, match=r"pip install '\.\[openvino\]'"):
        backends.load(network)
