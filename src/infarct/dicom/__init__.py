"""From DICOM to a case, and from a result to DICOM.

>>> from pathlib import Path
>>> from infarct import dicom, segment_case
>>> with dicom.opened_folder(Path("study")) as found:  # doctest: +SKIP
...     result = segment_case(found.open())
"""

from infarct.errors import AssetError

try:
    import dcm2niix  # noqa: F401
    import highdicom  # noqa: F401
    import pydicom  # noqa: F401
except ImportError as error:
    raise AssetError(
        f"DICOM needs packages that are not installed ({error.name}); "
        "install them: pip install 'infarct[dicom]'"
    ) from error

from infarct.dicom.folder import DicomCase, check_outside, opened_folder
from infarct.dicom.objects import DicomObjects, make_objects, write_objects
from infarct.dicom.series import Series, find_series
from infarct.dicom.sources import SourceImages, source_images

__all__ = [
    "DicomCase",
    "DicomObjects",
    "Series",
    "SourceImages",
    "check_outside",
    "find_series",
    "make_objects",
    "opened_folder",
    "source_images",
    "write_objects",
]
