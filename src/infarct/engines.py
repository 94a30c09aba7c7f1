"""What computes a network: onnxruntime, or OpenVINO for who asks for it; nothing else imports them.

OpenVINO is worth its size where the processor has bfloat16 arithmetic: there it takes less than
half the time. Its answers differ by rounding, so it is never chosen by itself.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from infarct.errors import AssetError

ENGINE = "INFARCT_ENGINE"
"""Environment variable: the name of an engine; `onnxruntime` if it is not set."""

USUAL = "onnxruntime, float32"
"""What computes where nothing else is asked for."""

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Takes a batch (N, C, X, Y, Z) to the first answer of a network, (N, 1, X, Y, Z)."""


@dataclass(frozen=True, eq=False)
class Engine:
    """A network, loaded.

    Attributes:
        name: Of the engine and its precision, such as `onnxruntime, float32`.
        metadata: What the ONNX file says about itself, by key.
        threads: How many cores it may use, as the engine says.
        run: Runs the network.
        version: Of the engine.
    """

    name: str
    metadata: dict[str, str]
    threads: int
    run: Run
    version: str

    def record(self) -> dict[str, str]:
        """Return what the manifest records: another engine, version or precision rounds otherwise.

        Returns:
            `name`, `version` and `precision`.
        """
        name, _, precision = self.name.partition(", ")
        return {"name": name, "version": self.version, "precision": precision}


def load(path: Path | str, threads: int | None = None) -> Engine:
    """Load a network with the engine the environment names.

    Args:
        path: The ONNX file.
        threads: How many cores it may use; if None, what OMP_NUM_THREADS says, as for every other
            library, else all this process may run on.

    Raises:
        AssetError: If there is no such engine, or the file cannot be loaded.
    """
    wanted = os.environ.get(ENGINE) or "onnxruntime"
    if wanted not in _ENGINES:
        raise AssetError(f"{ENGINE}={wanted}: the engines are {' and '.join(_ENGINES)}")
    # Who runs many of us side by side divides the cores by this name.
    allowed = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    try:
        return _ENGINES[wanted](str(path), threads or int(allowed or _cores()))
    except ModuleNotFoundError:
        raise AssetError(
            f"{ENGINE}={wanted}, which is not installed: pip install 'infarct[{wanted}]'"
        ) from None
    except Exception as error:  # both raise many kinds, documented nowhere
        raise AssetError(
            f"{path}: cannot be loaded ({error}); reinstall or export again"
        ) from error


def _onnxruntime(path: str, threads: int) -> Engine:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0].name

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        answer: NDArray[np.float32] = session.run(None, {image: batch})[0]
        return answer

    metadata = dict(session.get_modelmeta().custom_metadata_map)
    used = session.get_session_options().intra_op_num_threads
    return Engine(USUAL, metadata, used, run, ort.__version__)


def _openvino(path: str, threads: int) -> Engine:
    openvino = importlib.import_module("openvino")
    core = openvino.Core()
    model = core.read_model(path)
    _fuse_selu(openvino, model)
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        # Or several processes side by side would all sit on the first core.
        "ENABLE_CPU_PINNING": False,
    }
    compiled = core.compile_model(model, "CPU", settings)
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    entries = model.get_rt_info(["framework"]).value if model.has_rt_info(["framework"]) else {}
    metadata = {key: str(value) for key, value in entries.items()}

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        # A copy: the array belongs to the next run.
        return np.array(compiled(batch)[0])

    used = int(compiled.get_property("INFERENCE_NUM_THREADS"))
    return Engine(f"OpenVINO, {precision}", metadata, used, run, openvino.get_version())


def _fuse_selu(openvino: Any, model: Any) -> None:
    """Write each SELU as the scaled ELU it is: OpenVINO fuses that with the convolution before it.

    SELU itself it computes apart and in float32, in a fifth of the time of a network.
    """
    for selu in [node for node in model.get_ops() if node.get_type_name() == "Selu"]:
        image, alpha, scale = (entry.get_source_output() for entry in selu.inputs())
        elu = openvino.opset13.elu(image, float(alpha.get_node().get_data().item()))
        openvino.utils.replace_node(selu, openvino.opset13.multiply(elu, scale))


_ENGINES = {"onnxruntime": _onnxruntime, "openvino": _openvino}


def _cores() -> int:
    """Count the cores this process may run on; a container or a cluster may grant only some."""
    granted = getattr(os, "sched_getaffinity", None)
    return len(granted(0)) if granted else os.cpu_count() or 1
