"""Checks an uploaded scan exactly as a run does, and draws its first picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from infarct.core.errors import InfarctError
from infarct.core.findings import Finding
from infarct.core.nifti import Volume
from infarct.preprocessing.case import CaseFiles
from infarct.preprocessing.load import open_case
from infarct.reporting.radiological_view import radiological_spacing, to_radiological
from infarct.segmentation.models import get_model

_SLICES = 5
"""Slices in the picture of an upload."""

_HEIGHT = 180
"""Height of the picture, pixels."""


def check_input(folder: str, files: Mapping[str, str], model: str) -> dict[str, Any]:
    """Read and check an uploaded scan as `infarct segment` does.

    Args:
        folder: Folder of the uploaded files.
        files: File name by role; `{"dicom": NAME}` for a DICOM folder.
        model: Method.

    Returns:
        `findings` (level and message), `dicom_out` (whether DICOM objects can be written) and
        `preview`, a PNG in base64.

    Raises:
        InfarctError: If the scan would be rejected, with the message of the command line.
    """
    get_model(model)
    home = Path(folder)
    if "dicom" in files:
        return _check_dicom(home / files["dicom"])
    case = open_case(case_files(home, files))
    return {
        "findings": _listed(case.findings),
        "dicom_out": False,
        "preview": preview(case.dwi),
    }


def case_files(folder: Path, files: Mapping[str, str]) -> CaseFiles:
    """Return the paths of a NIfTI upload; the b-values lie next to the DWI."""
    paths = {role: folder / name for role, name in files.items() if role != "bval"}
    return CaseFiles(**paths)  # type: ignore[arg-type]


def _check_dicom(folder: Path) -> dict[str, Any]:
    # Loaded here because DICOM is an extra.
    from infarct.dicom.source_images import find_source_images  # noqa: PLC0415
    from infarct.dicom.study import opened_folder  # noqa: PLC0415

    with opened_folder(folder) as found:
        case = found.open()
        findings = _listed(case.findings)
        try:
            find_source_images(found.choice, keep_identity=False)
        except InfarctError as error:
            text = f"no DICOM SEG will be written: {error}"
            findings.append({"level": "note", "message": text})
            return {"findings": findings, "dicom_out": False, "preview": preview(case.dwi)}
        return {"findings": findings, "dicom_out": True, "preview": preview(case.dwi)}


def _listed(findings: Iterable[Finding]) -> list[dict[str, str]]:
    return [{"level": each.level, "message": each.message} for each in findings]


def preview(dwi: Volume) -> str:
    """Draw axial slices through the middle of the DWI, in radiological convention.

    Args:
        dwi: DWI, axes in any order.

    Returns:
        PNG in base64.
    """
    data = to_radiological(dwi.data, dwi.affine)
    width_mm, height_mm, _ = radiological_spacing(dwi.affine) * data.shape
    depth = data.shape[2]
    chosen = np.unique(np.linspace(0.35 * depth, 0.75 * depth, _SLICES).astype(int))
    window = float(np.percentile(data[data > 0], 99.5)) if (data > 0).any() else 1.0
    tile = (max(1, round(_HEIGHT * width_mm / height_mm)), _HEIGHT)
    picture = Image.new("L", (tile[0] * len(chosen), _HEIGHT))
    for index, z in enumerate(chosen):
        grey = np.clip(data[:, ::-1, min(z, depth - 1)].T / window, 0, 1) * 255
        slice_ = Image.fromarray(np.ascontiguousarray(grey).astype(np.uint8))
        picture.paste(slice_.resize(tile), (index * tile[0], 0))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()
