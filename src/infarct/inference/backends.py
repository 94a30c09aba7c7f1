"""Inference engines: onnxruntime, or optionally OpenVINO; no other module imports them.

On processors with bfloat16 arithmetic, OpenVINO takes less than half the time. Its output differs
by rounding, so it is used only on request.
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

# Errors are raised as exceptions; without this they would also be printed to stderr.
ort.set_default_logger_severity(4)
# In case onnxruntime was imported before this package set ORT_DISABLE_TELEMETRY.
ort.disable_telemetry_events()

ENGINE = "INFARCT_ENGINE"
"""Environment variable: name of the engine; `onnxruntime` if unset."""

THREADS = "OMP_NUM_THREADS"
"""Environment variable: number of threads for a network."""

_MOST_THREADS = 1024

USUAL = "onnxruntime, float32"
"""Default engine and precision."""

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Maps a batch (N, C, X, Y, Z) to the first output of a network, (N, 1, X, Y, Z)."""


@dataclass(frozen=True, eq=False)
class Engine:
    """A network loaded by an inference engine.

    Attributes:
        name: Name of the engine and its precision, such as `onnxruntime, float32`.
        metadata: Metadata of the ONNX file, by key.
        threads: Number of threads, as reported by the engine.
        run: Runs the network.
        version: Version of the engine.
    """

    name: str
    metadata: dict[str, str]
    threads: int
    run: Run
    version: str

    def record(self) -> dict[str, str]:
        """Return the entry for the manifest, since engine, version and precision affect rounding.

        Returns:
            `name`, `version` and `precision`.
        """
        name, _, precision = self.name.partition(", ")
        return {"name": name, "version": self.version, "precision": precision}


def load(path: Path | str, threads: int | None = None) -> Engine:
    """Load a network with the engine selected by the environment.

    Args:
        path: The ONNX file.
        threads: Number of threads; if None, the value of OMP_NUM_THREADS or, if that is not set,
            the number of available cores.

    Returns:
        The loaded network.

    Raises:
        AssetError: If there is no such engine, or the file cannot be loaded.
        MemoryShortageError: If there is not enough memory; running the network may also raise it.
        SettingError: If OMP_NUM_THREADS is not a valid number of threads.
    """
    wanted = check_settings()
    threads = threads or _threads_allowed() or cores()
    try:
        with _memory_checked():
            return _ENGINES[wanted](str(path), threads)
    except ModuleNotFoundError:
        raise AssetError(
            f"{ENGINE}={wanted}: the engine is not installed; run pip install '.[{wanted}]' in "
            "your clone"
        ) from None
    except MemoryShortageError:
        raise
    except Exception as error:  # both raise many kinds, documented nowhere
        raise AssetError(
            f"{path}: cannot be loaded ({error}); reinstall, or export the network again"
        ) from error


def check_settings() -> str:
    """Check the environment variables that select the engine and its threads.

    Returns:
        The name of the engine.

    Raises:
        AssetError: If there is no such engine.
        SettingError: If OMP_NUM_THREADS is not a valid number of threads.
    """
    wanted = os.environ.get(ENGINE) or "onnxruntime"
    if wanted not in _ENGINES:
        raise AssetError(
            f"{ENGINE}={wanted}: unknown engine; choose {' or '.join(_ENGINES)}, or unset it"
        )
    _threads_allowed()
    return wanted


def _threads_allowed() -> int | None:
    """Return the number of threads set by OMP_NUM_THREADS; None if unset."""
    value = os.environ.get(THREADS, "")
    # A list such as 4,2 is for nested levels; the first number is the outermost level.
    first = value.partition(",")[0].strip()
    if not first and not value.strip():
        return None
    if not (first.isascii() and first.isdigit() and 0 < int(first) <= _MOST_THREADS):
        raise SettingError(
            f"{THREADS}={value}: expected a number of threads from 1 to {_MOST_THREADS}; "
            "correct or unset it"
        )
    return int(first)


@contextmanager
def _memory_checked() -> Iterator[None]:
    """Convert engine errors caused by lack of memory to `MemoryShortageError`."""
    try:
        yield
    except Exception as error:  # both raise many kinds, documented nowhere
        if is_shortage(error):
            raise MemoryShortageError from error
        raise


def _onnxruntime(path: str, threads: int) -> Engine:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # Waiting threads would take the cores from the steps that run at the same time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # An arena would keep the largest memory each network ever needed until the end of the run.
    options.enable_cpu_mem_arena = False
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
        # Otherwise several processes would all be pinned to the first core.
        "ENABLE_CPU_PINNING": False,
    }
    compiled = core.compile_model(model, "CPU", settings)
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    entries = model.get_rt_info(["framework"]).value if model.has_rt_info(["framework"]) else {}
    metadata = {key: str(value) for key, value in entries.items()}

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with _memory_checked():
            # Copied, because the next run reuses the array.
            return np.array(compiled(batch)[0])

    used = int(compiled.get_property("INFERENCE_NUM_THREADS"))
    return Engine(f"OpenVINO, {precision}", metadata, used, run, openvino.get_version())


def _import_openvino() -> Any:
    """Import OpenVINO without its telemetry.

    `import openvino` writes an identifier to the home directory and sends an event to Google
    Analytics; only a file in the home directory can disable that. If the package
    `openvino_telemetry` cannot be imported, OpenVINO uses its own stub instead.
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
    """Replace each SELU by a scaled ELU, which OpenVINO fuses with the preceding convolution.

    OpenVINO computes SELU separately and in float32, which takes a fifth of the total time.
    """
    for selu in [node for node in model.get_ops() if node.get_type_name() == "Selu"]:
        image, alpha, scale = (entry.get_source_output() for entry in selu.inputs())
        elu = openvino.opset13.elu(image, float(alpha.get_node().get_data().item()))
        openvino.utils.replace_node(selu, openvino.opset13.multiply(elu, scale))


_ENGINES = {"onnxruntime": _onnxruntime, "openvino": _openvino}
