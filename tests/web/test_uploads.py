from __future__ import annotations

import asyncio
import errno
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infarct.core.errors import InputFileError, OutputError
from infarct.web import uploads
from infarct.web.uploads import Limits, Received, Upload, arrange, guess_role, receive, unpack

SMALL = Limits(size=200_000, files=5, ratio=50)


def form(*parts: tuple[str, bytes], close: bool = True) -> bytes:
    body = b""
    for name, content in parts:
        head = f'--X\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body += head.encode() + content + b"\r\n"
    return body + (b"--X--\r\n" if close else b"")


def post(body: bytes, folder: Path, limits: Limits = SMALL, step: int = 1000) -> Upload:
    async def stream() -> AsyncIterator[bytes]:
        for at in range(0, len(body), step):
            yield body[at : at + step]

    return asyncio.run(receive("multipart/form-data; boundary=X", stream(), folder, limits))


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def test_files_arrive_unchanged_under_numbers(tmp_path) -> None:
    content = bytes(range(256)) * 40 + b"\r\n--Y\r\n--"
    upload = post(form(("a.nii", content), ("../../b.nii", b"second")), tmp_path, step=7)
    assert [each.name for each in upload.files] == ["a.nii", "../../b.nii"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000", "000001"]
    assert upload.files[0].path.read_bytes() == content
    assert upload.files[1].path.read_bytes() == b"second"
    assert not (tmp_path.parent / "b.nii").exists()


@pytest.mark.parametrize("length", [3, 60, 90, 5000])
def test_a_truncated_upload_is_refused(tmp_path, length: int) -> None:
    body = form(("a.nii", b"x" * 6000))[:length]
    with pytest.raises(InputFileError, match="ended before"):
        post(body, tmp_path)


def test_the_limits_hold(tmp_path) -> None:
    with pytest.raises(InputFileError, match="larger than"):
        post(form(("a.nii", b"x" * 300_000)), tmp_path)
    with pytest.raises(InputFileError, match="more than 5 files"):
        second = tmp_path / "second"
        second.mkdir()
        post(form(*((f"{n}.nii", b"") for n in range(6))), second)


def test_a_slow_upload_is_stopped(tmp_path) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield form(("a.nii", b"x"), close=False)
        await asyncio.Event().wait()

    with pytest.raises(InputFileError, match="longer than"):
        asyncio.run(
            receive("multipart/form-data; boundary=X", stream(), tmp_path, Limits(seconds=0.05))
        )


def test_other_bodies_are_refused(tmp_path) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b"{}"

    with pytest.raises(InputFileError, match="expected a form"):
        asyncio.run(receive("application/json", stream(), tmp_path, SMALL))
    with pytest.raises(InputFileError):
        post(b"no form at all" * 100, tmp_path)


def test_a_full_disk_is_named(tmp_path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(uploads._Form, "_add_data", full)
    with pytest.raises(OutputError, match="disk is full"):
        post(form(("a.nii", b"x")), tmp_path)


def test_members_of_an_archive_never_become_paths(tmp_path) -> None:
    home = tmp_path / "input"
    home.mkdir()
    names = ["../escaped.nii", "/absolute.nii", "a/../../b.nii", "C:\\c.nii"]
    upload = post(form(("all.zip", zipped(*((name, b"x") for name in names)))), home)
    done = unpack(upload, home, SMALL)
    assert [each.path.parent for each in done.files] == [home] * 4
    assert sorted(path.name for path in home.iterdir()) == [f"{n:06d}" for n in range(1, 5)]
    assert [path.name for path in tmp_path.iterdir()] == ["input"]


def test_archives_that_explode_are_refused(tmp_path) -> None:
    bomb = zipped(("a.nii", bytes(50_000_000)))
    upload = post(form(("bomb.zip", bomb)), tmp_path)
    with pytest.raises(InputFileError, match="compressed more than 50 times"):
        unpack(upload, tmp_path, Limits(ratio=50))


def test_the_size_counts_what_comes_out(tmp_path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.nii", bytes(300_000))
    # A header that lies about the size does not help.
    upload = post(form(("a.zip", stream.getvalue())), tmp_path)
    with pytest.raises(InputFileError, match="larger than"):
        unpack(upload, tmp_path, SMALL)


def test_links_and_encryption_in_archives_are_refused(tmp_path) -> None:
    link = zipfile.ZipInfo("a.nii")
    link.external_attr = 0o120777 << 16
    for number, content in enumerate((zipped((link, b"/etc/passwd")), _encrypted())):
        home = tmp_path / str(number)
        home.mkdir()
        upload = post(form(("a.zip", content)), home)
        with pytest.raises(InputFileError, match=r"symbolic link|encrypted"):
            unpack(upload, home, SMALL)


def _encrypted() -> bytes:
    content = bytearray(zipped(("a.nii", b"x" * 100)))
    for start in (content.find(b"PK\x03\x04") + 6, content.find(b"PK\x01\x02") + 8):
        content[start] |= 1
    return bytes(content)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_a_damaged_archive_is_refused_in_words(tmp_path_factory, noise: bytes, at: int) -> None:
    home = tmp_path_factory.mktemp("damaged")
    content = zipped(("a.nii", b"y" * 300), ("b.nii", b"z" * 300))
    content = content[:at] + noise + content[at + len(noise) :]
    received = Received("a.zip", home / "000000")
    received.path.write_bytes(b"PK\x03\x04" + content[4:])
    try:
        unpack(Upload({}, [received]), home, SMALL)
    except InputFileError as error:
        assert str(error)
    assert all(path.is_file() for path in home.iterdir())


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("sub-1_dwi.nii.gz", "dwi"),
        ("sub-1_rec-ADC_dwi.nii.gz", "adc"),
        ("sub-1_adc.nii.gz", "adc"),
        ("folder/DWI.nii", "dwi"),
        ("patient_b1000.nii.gz", "dwi"),
        ("patient_b0.nii.gz", "b0"),
        ("patient_ADC.nii", "adc"),
        ("brain_mask.nii.gz", "brain"),
        ("series.bval", "bval"),
        ("c:\\data\\b0.nii", "b0"),
        ("t1.nii.gz", ""),
    ],
)
def test_roles_are_guessed_from_names(name: str, role: str) -> None:
    assert guess_role(name) == role


def stored(folder: Path, *names: str) -> Upload:
    files = []
    for number, name in enumerate(names):
        path = folder / f"{number:06d}"
        path.write_bytes(name.encode())
        files.append(Received(name, path))
    return Upload({}, files)


def test_files_get_the_name_of_their_role(tmp_path) -> None:
    upload = stored(tmp_path, "p/dwi_surname.nii.gz", "p/b0.nii", "p/.DS_Store", "p/dwi.json")
    assert arrange(upload, tmp_path, {}) == {"dwi": "dwi.nii.gz", "b0": "b0.nii"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b0.nii", "dwi.nii.gz"]


def test_the_user_decides_when_names_do_not_tell(tmp_path) -> None:
    names = ("one.nii.gz", "two.nii.gz")
    with pytest.raises(InputFileError, match="role of each file"):
        arrange(stored(tmp_path, *names), tmp_path, {})
    roles = {"one.nii.gz": "adc", "two.nii.gz": "dwi"}
    assert arrange(stored(tmp_path, *names), tmp_path, roles) == {
        "adc": "adc.nii.gz",
        "dwi": "dwi.nii.gz",
    }
    assert (tmp_path / "dwi.nii.gz").read_bytes() == b"two.nii.gz"
    with pytest.raises(InputFileError, match="unknown role"):
        arrange(stored(tmp_path, *names), tmp_path, {"one.nii.gz": "../x"})


def test_two_files_for_one_role_are_refused(tmp_path) -> None:
    with pytest.raises(InputFileError, match="2 files look like the DWI"):
        arrange(stored(tmp_path, "a_dwi.nii.gz", "b_dwi.nii.gz"), tmp_path, {})


def test_other_files_are_taken_for_dicom(tmp_path) -> None:
    upload = stored(tmp_path, "DICOM/IM0001", "DICOM/IM0002", "DICOM/viewer.html")
    assert arrange(upload, tmp_path, {}) == {"dicom": "dicom"}
    assert sorted(path.name for path in (tmp_path / "dicom").iterdir()) == ["000000", "000001"]
    assert [path.name for path in tmp_path.iterdir()] == ["dicom"]


def test_a_single_file_of_another_kind_is_named(tmp_path) -> None:
    with pytest.raises(InputFileError, match=r"letter\.docx is neither"):
        arrange(stored(tmp_path, "letter.docx"), tmp_path, {})
