"""Detect, segment and measure acute ischemic stroke lesions on diffusion MRI.

>>> import infarct
>>> result = infarct.segment("dwi.nii.gz", b0="b0.nii.gz")  # doctest: +SKIP
>>> result.measurements.lesion_volume_ml  # doctest: +SKIP
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infarct.core.errors import (
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
    from infarct.core.findings import Finding, FindingCode
    from infarct.core.nifti import Volume
    from infarct.measurement.volumetry import Lesion, Measurements
    from infarct.pipeline import RunRequest, run, segment, segment_case
    from infarct.preprocessing.case import Case, CaseFiles
    from infarct.preprocessing.load import open_case
    from infarct.reporting.writer import write_results
    from infarct.segmentation.result import Segmentation

# onnxruntime 1.29 and later sends telemetry and writes to the home directory unless this is set
# before it is imported. This package is always imported first; child processes inherit the value.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# Imported on first access, so that `import infarct` and `infarct --help` are fast.
_MODULES = {
    "AssetError": "core.errors",
    "Case": "preprocessing.case",
    "CaseFiles": "preprocessing.case",
    "ContentError": "core.errors",
    "Finding": "core.findings",
    "FindingCode": "core.findings",
    "GeometryError": "core.errors",
    "InfarctError": "core.errors",
    "InputFileError": "core.errors",
    "Lesion": "measurement.volumetry",
    "Measurements": "measurement.volumetry",
    "MemoryShortageError": "core.errors",
    "OutputError": "core.errors",
    "RegistrationError": "core.errors",
    "RunRequest": "pipeline",
    "Segmentation": "segmentation.result",
    "SettingError": "core.errors",
    "Volume": "core.nifti",
    "open_case": "preprocessing.load",
    "run": "pipeline",
    "segment": "pipeline",
    "segment_case": "pipeline",
    "write_results": "reporting.writer",
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
    "RunRequest",
    "Segmentation",
    "SettingError",
    "Volume",
    "open_case",
    "run",
    "segment",
    "segment_case",
    "write_results",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"infarct.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'infarct' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
