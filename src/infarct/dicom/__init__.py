"""Read a case from DICOM and write results as DICOM.

>>> from pathlib import Path
>>> from infarct import dicom, segment_case
>>> with dicom.opened_folder(Path("study")) as found:  # doctest: +SKIP
...     result = segment_case(found.open())
"""

from infarct.core.errors import AssetError

try:
    import dcm2niix  # noqa: F401
    import highdicom  # noqa: F401
    import pydicom  # noqa: F401
except ImportError as error:
    raise AssetError(
        f"DICOM support requires packages that are not installed ({error.name}); "
        "run: pip install '.[dicom]' in your clone"
    ) from error

from infarct.dicom.export import DicomObjects, make_objects, write_objects
from infarct.dicom.series import Series, find_series
from infarct.dicom.source_images import SourceImages, find_source_images
from infarct.dicom.study import DicomCase, check_outside, opened_folder

__all__ = [
    "DicomCase",
    "DicomObjects",
    "Series",
    "SourceImages",
    "check_outside",
    "find_series",
    "find_source_images",
    "make_objects",
    "opened_folder",
    "write_objects",
]
