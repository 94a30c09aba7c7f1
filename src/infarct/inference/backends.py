"""What computes a network: onnxruntime, or OpenVINO for who asks for it; nothing else imports them.

OpenVINO is worth its size where the processor has bfloat16 arithmetic: there it takes less than
half the time. Its answers differ by rounding, so it is never chosen by itself.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from infarct.core.errors import AssetError, MemoryShortageError, SettingError, is_shortage
from infarct.core.machine import cores

# Its errors are raised as exceptions; on stderr they would appear a second time.
ort.set_default_logger_severity(4)
# In case a program imported onnxruntime before this package set ORT_DISABLE_TELEMETRY.
ort.disable_telemetry_events()

ENGINE = "INFARCT_ENGINE"
"""Environment variable: the name of an engine; `onnxruntime` if it is not set."""

THREADS = "OMP_NUM_THREADS"
"""Environment variable: how many threads a network may use."""

_MOST_THREADS = 1024

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
        MemoryShortageError: If the memory does not suffice; running the network may raise it too.
        SettingError: If OMP_NUM_THREADS is not a number of threads.
    """
    wanted = check_settings()
    threads = threads or _threads_allowed() or cores()
    try:
        with _memory_checked():
            return _ENGINES[wanted](str(path), threads)
    except ModuleNotFoundError:
        raise AssetError(
            f"{ENGINE}={wanted}, which is not installed: pip install 'infarct[{wanted}]'"
        ) from None
    except MemoryShortageError:
        raise
    except Exception as error:  # both raise many kinds, documented nowhere
        raise AssetError(
            f"{path}: cannot be loaded ({error}); reinstall or export again"
        ) from error


def check_settings() -> str:
    """Check the environment variables that choose the engine and its threads.

    Returns:
        The name of the engine.

    Raises:
        AssetError: If there is no such engine.
        SettingError: If OMP_NUM_THREADS is not a number of threads.
    """
    wanted = os.environ.get(ENGINE) or "onnxruntime"
    if wanted not in _ENGINES:
        raise AssetError(
            f"{ENGINE}={wanted}: the engines are {' and '.join(_ENGINES)}; correct or unset it"
        )
    _threads_allowed()
    return wanted


def _threads_allowed() -> int | None:
    """Return what OMP_NUM_THREADS allows, by which programs divide the cores; None if unset."""
    said = os.environ.get(THREADS, "")
    # A list such as 4,2 is for nested levels; the first is the outermost.
    first = said.partition(",")[0].strip()
    if not first and not said.strip():
        return None
    if not (first.isascii() and first.isdigit() and 0 < int(first) <= _MOST_THREADS):
        raise SettingError(
            f"{THREADS}={said}: a number of threads from 1 to {_MOST_THREADS} is expected; "
            "correct or unset it"
        )
    return int(first)


@contextmanager
def _memory_checked() -> Iterator[None]:
    """Raise `MemoryShortageError` for what the engines raise where memory runs out."""
    try:
        yield
    except Exception as error:  # both raise many kinds, documented nowhere
        if is_shortage(error):
            raise MemoryShortageError from error
        raise


def _onnxruntime(path: str, threads: int) -> Engine:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0].name

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with _memory_checked():
            answer: NDArray[np.float32] = session.run(None, {image: batch})[0]
        return answer

    metadata = dict(session.get_modelmeta().custom_metadata_map)
    used = session.get_session_options().intra_op_num_threads
    return Engine(USUAL, metadata, used, run, ort.__version__)


def _openvino(path: str, threads: int) -> Engine:
    openvino = _import_openvino()
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
        with _memory_checked():
            # A copy: the array belongs to the next run.
            return np.array(compiled(batch)[0])

    used = int(compiled.get_property("INFERENCE_NUM_THREADS"))
    return Engine(f"OpenVINO, {precision}", metadata, used, run, openvino.get_version())


def _import_openvino() -> Any:
    """Import OpenVINO without its telemetry.

    `import openvino` writes an identifier to the home directory and sends an event to Google
    Analytics; no setting but a file in the home directory prevents that. Where the package
    `openvino_telemetry` cannot be imported, OpenVINO uses a stub of its own instead.
    """
    name = "openvino_telemetry"
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before


def _fuse_selu(openvino: Any, model: Any) -> None:
    """Write each SELU as the scaled ELU it is: OpenVINO fuses that with the convolution before it.

    SELU itself it computes apart and in float32, in a fifth of the time of a network.
    """
    for selu in [node for node in model.get_ops() if node.get_type_name() == "Selu"]:
        image, alpha, scale = (entry.get_source_output() for entry in selu.inputs())
        elu = openvino.opset13.elu(image, float(alpha.get_node().get_data().item()))
        openvino.utils.replace_node(selu, openvino.opset13.multiply(elu, scale))


_ENGINES = {"onnxruntime": _onnxruntime, "openvino": _openvino}
