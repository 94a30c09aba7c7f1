"""Receives uploaded files: limits, archives, and the role of each image.

Names of uploaded files and of the members of archives are only looked at to guess what an image
shows. They never become paths: files are stored under numbers and roles.
"""

from __future__ import annotations

import asyncio
import errno
import lzma
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from infarct.core.bids_names import read_name, stem_of
from infarct.core.errors import InputFileError, OutputError

ROLES = ("dwi", "b0", "adc", "brain", "bval")
"""Roles of NIfTI uploads; `bval` is the table of b-values of a 4D series."""

_SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd", ".bvals", ".bval")
_IMAGES = _SUFFIXES[:4]
_IGNORED = re.compile(
    r"(^|/)(\.|__MACOSX/|Thumbs\.db$)|\.(json|tsv|bvec|bvecs|txt|html|pdf|png|jpg)$", re.I
)
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    ValueError,
)
"""What the library raises for damaged archives, besides an `OSError` without a number."""

_WORDS: tuple[tuple[str, str], ...] = (
    ("brain", r"brain|skull.?strip"),
    ("adc", r"adc|apparent"),
    ("b0", r"b0(?!\d)|b=?0(?!\d)|bzero|nodif|s0map|sbref|_b_?0\b"),
    ("dwi", r"dwi|trace|b.?1000|diff|dti"),
)
"""Words in names that are not BIDS names, in order of precedence."""


@dataclass(frozen=True)
class Limits:
    """Limits of one upload.

    Attributes:
        size: Bytes, as sent and after unpacking.
        files: Number of files, including the members of archives.
        ratio: Largest ratio of unpacked to packed size of a member of an archive.
        seconds: Duration of the upload.
    """

    size: int = 4 * 2**30
    files: int = 20_000
    ratio: int = 200
    seconds: float = 900.0


@dataclass
class Received:
    """One stored file.

    Attributes:
        name: Name given by the browser or archive; used to guess the role, then forgotten.
        path: Where it is stored.
    """

    name: str
    path: Path


@dataclass
class Upload:
    """A finished upload.

    Attributes:
        fields: Text fields of the form.
        files: Stored files.
    """

    fields: dict[str, str] = field(default_factory=dict)
    files: list[Received] = field(default_factory=list)


class _Form:
    """Collects the parts of a multipart form, writing files as they arrive."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.upload = Upload()
        self.complete = False
        self._folder = folder
        self._limits = limits
        self._header = b""
        self._value = b""
        self._headers: dict[str, bytes] = {}
        self._field = ""
        self._text = b""
        self._stream: BinaryIO | None = None

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_header,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._start_part,
            "on_part_data": self._add_data,
            "on_part_end": self.close,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._headers, self._header, self._value, self._text = {}, b"", b"", b""

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header.decode("latin-1").lower()] = self._value
        self._header, self._value = b"", b""

    def _start_part(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" not in options:
            return
        number = len(self.upload.files)
        _check_count(number + 1, self._limits)
        path = self._folder / f"{number:06d}"
        name = options[b"filename"].decode("utf-8", "replace")
        self.upload.files.append(Received(name, path))
        self._stream = path.open("xb")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._stream is not None:
            self._stream.write(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > 65_536:
            raise InputFileError("a text field of the form is longer than 64 kB")

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        elif self._field:
            self.upload.fields[self._field] = self._text.decode("utf-8", "replace")
        self._field = ""

    def _finish(self) -> None:
        self.complete = True


async def receive(
    content_type: str, stream: AsyncIterator[bytes], folder: Path, limits: Limits
) -> Upload:
    """Store the files of a multipart form in a folder.

    Args:
        content_type: Header of the request, with the boundary.
        stream: Body of the request.
        folder: Existing empty folder.
        limits: What is accepted.

    Raises:
        InputFileError: If the form is damaged, truncated, or exceeds a limit.
        OutputError: If the disk is full.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise InputFileError("expected a form with files (multipart/form-data)")
    form = _Form(folder, limits)
    parser = MultipartParser(options[b"boundary"], form.callbacks())  # type: ignore[arg-type]
    total = 0
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in stream:
                total += len(chunk)
                _check_size(total, limits)
                await asyncio.to_thread(parser.write, chunk)
    except TimeoutError as error:
        raise InputFileError(
            f"the upload took longer than {limits.seconds:.0f} s and was stopped; try again"
        ) from error
    except MultipartParseError as error:
        raise InputFileError(f"the form is damaged ({error}); upload the files again") from error
    except OSError as error:
        raise disk_error(error) from error
    finally:
        form.close()
    if not form.complete:
        raise InputFileError("the upload ended before all files had arrived; upload them again")
    return form.upload


def disk_error(error: OSError) -> OutputError:
    """Return the error for a file that cannot be stored."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return OutputError("the disk is full; nothing was stored: free some space and try again")
    return OutputError(f"the files cannot be stored ({error.strerror or error})")


def unpack(upload: Upload, folder: Path, limits: Limits) -> Upload:
    """Replace the archives among the files by their members.

    Args:
        upload: Received files.
        folder: Folder for the members, which are stored under numbers.
        limits: What is accepted.

    Raises:
        InputFileError: If an archive is damaged, encrypted, or exceeds a limit.
        OutputError: If the disk is full.
    """
    files: list[Received] = []
    total = 0
    number = len(upload.files)
    for received in upload.files:
        if not _is_archive(received.path):
            files.append(received)
            continue
        try:
            with zipfile.ZipFile(received.path) as archive:
                members = [each for each in archive.infolist() if not each.is_dir()]
                _check_count(len(members), limits)
                for member in members:
                    if (member.external_attr >> 16) & 0o170000 == 0o120000:
                        raise InputFileError(
                            "the archive contains a symbolic link; pack the files themselves"
                        )
                    path = folder / f"{number:06d}"
                    number += 1
                    total = _extract(archive, member, path, total, limits)
                    files.append(Received(member.filename, path))
        except _DAMAGE as error:
            raise InputFileError(f"the zip archive is damaged ({error}); pack it again") from error
        except RuntimeError as error:
            raise InputFileError("the zip archive is encrypted; unpack it first") from error
        except OSError as error:
            if error.errno in {None, errno.EINVAL}:
                text = f"the zip archive is damaged ({error}); pack it again"
                raise InputFileError(text) from error
            raise disk_error(error) from error
        received.path.unlink()
    _check_count(len(files), limits)
    return Upload(upload.fields, files)


def _extract(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, total: int, limits: Limits
) -> int:
    """Unpack one member, counting the bytes that really come out; return the new total."""
    written = 0
    with archive.open(member) as source, path.open("xb") as target:
        while block := source.read(1 << 20):
            written += len(block)
            _check_size(total + written, limits)
            if written > 1 << 20 and written > limits.ratio * max(member.compress_size, 1):
                raise InputFileError(
                    f"a file in the archive is compressed more than {limits.ratio} times, which no "
                    "image is; nothing was stored"
                )
            target.write(block)
    return total + written


def _is_archive(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def _check_size(total: int, limits: Limits) -> None:
    if total > limits.size:
        raise InputFileError(
            f"the files are larger than {limits.size / 2**20:.0f} MiB, the limit of one upload; "
            "upload one scan at a time, without other series"
        )


def _check_count(count: int, limits: Limits) -> None:
    if count > limits.files:
        raise InputFileError(
            f"more than {limits.files} files, the limit of one upload; upload one study at a time"
        )


def arrange(upload: Upload, folder: Path, roles: Mapping[str, str]) -> dict[str, str]:
    """Give the stored files their roles.

    Args:
        upload: Stored files, without archives.
        folder: The folder they are in.
        roles: Roles that the user chose, by uploaded name; `ignore` leaves a file out.

    Returns:
        File name in `folder` by role, or `{"dicom": "dicom"}` if the upload is a DICOM folder.

    Raises:
        InputFileError: If there is no image, no DWI, or two files for a role.
    """
    images = [
        each for each in upload.files if _suffix(each.name) and not _IGNORED.search(each.name)
    ]
    if not any(_suffix(each.name) in _IMAGES for each in images):
        return _arrange_dicom(upload, folder)
    unknown = set(roles.values()) - {*ROLES, "ignore"}
    if unknown:
        raise InputFileError(f"unknown role {min(unknown)!r}; use {', '.join(ROLES)} or ignore")
    chosen: dict[str, Received] = {}
    names: dict[str, list[str]] = {}
    for each in images:
        role = roles.get(each.name) or guess_role(each.name, alone=len(images) == 1)
        if role in ROLES:
            names.setdefault(role, []).append(PurePosixPath(each.name).name)
            chosen[role] = each
    if twice := [role for role, found in names.items() if len(found) > 1]:
        role = twice[0]
        raise InputFileError(
            f"{len(names[role])} files look like the {_title(role)}: "
            f"{', '.join(sorted(names[role])[:5])}. Choose the role of each file"
        )
    if "dwi" not in chosen:
        found = ", ".join(sorted(PurePosixPath(each.name).name for each in images)[:8])
        raise InputFileError(
            f"none of the files can be recognised as the DWI by its name ({found}). Choose the "
            "role of each file"
        )
    stored = {}
    for role, each in chosen.items():
        name = f"{'dwi' if role == 'bval' else role}{_suffix(each.name)}"
        each.path.rename(folder / name)
        stored[role] = name
    for each in upload.files:
        each.path.unlink(missing_ok=True)
    return stored


def _arrange_dicom(upload: Upload, folder: Path) -> dict[str, str]:
    kept = [each for each in upload.files if not _IGNORED.search(each.name)]
    if not kept:
        raise InputFileError(
            "there is no image among the files; drop NIfTI files (DWI with b0 or ADC), a folder of "
            "DICOM files, or a zip of either"
        )
    if len(kept) == 1 and not _looks_like_dicom(kept[0].path):
        raise InputFileError(
            f"{PurePosixPath(kept[0].name).name} is neither a NIfTI image (.nii, .nii.gz) nor a "
            "DICOM file; drop NIfTI files, a folder of DICOM files, or a zip of either"
        )
    target = folder / "dicom"
    target.mkdir()
    for number, each in enumerate(kept):
        each.path.rename(target / f"{number:06d}")
    for each in upload.files:
        each.path.unlink(missing_ok=True)
    return {"dicom": "dicom"}


def _looks_like_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _suffix(name: str) -> str:
    lower = name.lower()
    return next((suffix for suffix in _SUFFIXES if lower.endswith(suffix)), "")


def guess_role(name: str, *, alone: bool = False) -> str:
    """Guess the role of a file from its name.

    Args:
        name: Name, possibly with folders.
        alone: Whether it is the only image: then it is the DWI (a 4D series).

    Returns:
        One of `ROLES`, or an empty string.
    """
    last = PurePosixPath(name.replace("\\", "/")).name
    if _suffix(last) in {".bval", ".bvals"}:
        return "bval"
    parsed = read_name(last)
    if parsed is not None and parsed.role is not None:
        return parsed.role if parsed.role in ROLES else ""
    stem = stem_of(last).lower()
    for role, words in _WORDS:
        if re.search(words, stem):
            return role
    return "dwi" if alone else ""


def _title(role: str) -> str:
    return {"dwi": "DWI", "adc": "ADC map", "brain": "brain mask", "bval": "b-value table"}.get(
        role, role
    )


def clear(folder: Path) -> None:
    """Delete a folder of uploaded files."""
    shutil.rmtree(folder, ignore_errors=True)
