"""Find, outline and measure acute ischemic stroke lesions on diffusion MRI.

>>> import infarct
>>> result = infarct.segment("dwi.nii.gz", b0="b0.nii.gz")  # doctest: +SKIP
>>> result.measurements.lesion_volume_ml  # doctest: +SKIP
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infarct.case import Case, CaseFiles, open_case
    from infarct.errors import (
        AssetError,
        ContentError,
        GeometryError,
        InfarctError,
        InputFileError,
        MemoryShortageError,
        OutputError,
        RegistrationError,
        SettingError,
    )
    from infarct.face import segment
    from infarct.findings import Finding, FindingCode
    from infarct.pipeline import Segmentation, segment_case
    from infarct.quantify import Lesion, Measurements
    from infarct.report import write_results
    from infarct.volume import Volume

# onnxruntime 1.29 and later sends telemetry and writes to the home directory unless this is set
# before it is imported. Every process of ours imports this package first; children inherit it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# Loaded when first asked for, so that `import infarct` and `infarct --help` cost nothing.
_ROOMS = {
    "AssetError": "errors",
    "Case": "case",
    "CaseFiles": "case",
    "ContentError": "errors",
    "Finding": "findings",
    "FindingCode": "findings",
    "GeometryError": "errors",
    "InfarctError": "errors",
    "InputFileError": "errors",
    "Lesion": "quantify",
    "Measurements": "quantify",
    "MemoryShortageError": "errors",
    "OutputError": "errors",
    "RegistrationError": "errors",
    "Segmentation": "pipeline",
    "SettingError": "errors",
    "Volume": "volume",
    "open_case": "case",
    "segment": "face",
    "segment_case": "pipeline",
    "write_results": "report",
}

__all__ = [
    "AssetError",
    "Case",
    "CaseFiles",
    "ContentError",
    "Finding",
    "FindingCode",
    "GeometryError",
    "InfarctError",
    "InputFileError",
    "Lesion",
    "Measurements",
    "MemoryShortageError",
    "OutputError",
    "RegistrationError",
    "Segmentation",
    "SettingError",
    "Volume",
    "open_case",
    "segment",
    "segment_case",
    "write_results",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return getattr(import_module(f"infarct.{_ROOMS[name]}"), name)
    raise AttributeError(f"module 'infarct' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
