"""Uploading, jobs and downloads over HTTP."""

from __future__ import annotations

import io
import json
import time
import zipfile

import nibabel as nib
import numpy as np
import pytest
from tests.web.conftest import CASE, PORT, TOKEN

from infarct.web import uploads
from infarct.web.editing import pack
from infarct.web.security import Access
from infarct.web.site import Settings
from infarct.web.store import scan_id


def jobs_left(root) -> list[str]:
    return sorted(path.name for path in (root / ".infarct-web" / "jobs").iterdir())


def post(client, *files: tuple[str, bytes], **fields: str):
    parts = [("files", each) for each in files]
    return client.post("/api/scans", data={"model": "cfuzzy", **fields}, files=parts)


def test_what_is_refused_leaves_nothing(client, root, head, tmp_path) -> None:
    dwi = head.save(tmp_path / "in", dwi=head.dwi)["dwi"].read_bytes()
    for files, fields, words in (
        ([("letter.docx", b"x")], {}, "neither a NIfTI image"),
        ([("dwi.nii.gz", dwi)], {}, "DWI alone"),
        ([("dwi.nii.gz", dwi[:5000]), ("b0.nii.gz", dwi)], {}, "dwi.nii.gz"),
        ([("dwi.nii.gz", dwi), ("b0.nii.gz", dwi)], {"name": "../x"}, "cannot be the name"),
        ([("dwi.nii.gz", dwi), ("b0.nii.gz", dwi)], {"model": "none"}, "no model called"),
        ([("dwi.nii.gz", dwi)], {"roles": "[]"}, "JSON object"),
        ([("scan.zip", b"PK\x03\x04 damaged")], {}, "damaged"),
    ):
        response = post(client, *files, **fields)
        assert response.status_code == 422, words
        assert words in response.json()["error"]
        assert str(root) not in response.json()["error"]
        assert jobs_left(root) == []


def test_the_limit_holds_before_a_byte_is_stored(root, serve) -> None:
    limits = uploads.Limits(size=1000)
    client = serve(Settings(root, Access(PORT, token=TOKEN), limits))
    response = post(client, ("dwi.nii.gz", bytes(2000)))
    assert response.status_code == 422
    assert "limit of one upload" in response.json()["error"]
    assert jobs_left(root) == []


def test_a_full_disk_is_named_and_leaves_nothing(client, root, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(uploads._Form, "_add_data", full)
    response = post(client, ("dwi.nii.gz", bytes(2000)))
    assert response.status_code == 507
    assert "disk is full" in response.json()["error"]
    assert jobs_left(root) == []


def test_a_scan_from_upload_to_download(client, root, head, tmp_path) -> None:
    paths = head.save(tmp_path / "in")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for role in ("dwi", "b0"):
            archive.write(paths[role], f"Surname^Given/{role}.nii.gz")
    response = post(client, ("all.zip", stream.getvalue()), name="scan-a")
    assert response.status_code == 201, response.text
    body = response.json()
    assert body["id"] == scan_id("scan-a")
    assert body["preview"]
    while True:
        row = client.get(f"/api/scans/{body['id']}").json()
        if row["state"] not in {"queued", "running"}:
            break
        time.sleep(0.2)
    assert row["state"] == "done", row
    # Measured as on the command line, and nothing of the upload is left.
    lesion = np.asarray(nib.load(root / "scan-a" / "lesion_mask.nii.gz").dataobj) > 0
    assert 2 * (lesion & head.lesion).sum() / (lesion.sum() + head.lesion.sum()) > 0.7
    job = root / ".infarct-web" / "jobs" / "scan-a"
    while json.loads((job / "job.json").read_text())["state"] == "running":
        # The result appears a moment before the process ends.
        time.sleep(0.05)
    while (job / "input").exists():
        time.sleep(0.05)
    for path in root.rglob("*"):
        if path.is_file() and path.suffix in {".json", ".tsv", ".html", ".txt"}:
            assert "Surname" not in path.read_text(errors="replace"), path
    packed = client.get(f"/api/scans/{body['id']}/result.zip")
    with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
        assert archive.testzip() is None
        stored = archive.read("scan-a/lesion_mask.nii.gz")
    assert stored == (root / "scan-a" / "lesion_mask.nii.gz").read_bytes()


def test_saving_over_http(client, root) -> None:
    place = f"/api/scans/{CASE}/mask"
    before = client.get(place).json()
    mask = np.asarray(nib.load(root / "case" / "lesion_mask.nii.gz").dataobj) > 0
    assert before["labels"] == pack(mask)
    mask[0, 0, 0] = True
    edit = {"labels": pack(mask), "version": before["version"], "by": "Anna", "reason": "test"}
    saved = client.put(place, json=edit)
    assert saved.status_code == 200, saved.text
    after = client.get(place).json()
    assert after["version"] == saved.json()["version"] != before["version"]
    assert after["labels"] == pack(mask)
    assert client.get(f"{place}?which=automatic").json()["labels"] == before["labels"]
    # The second editor, who opened the same version.
    second = client.put(place, json={**edit, "by": "Ben"})
    assert second.status_code == 409
    assert "nothing was overwritten" in second.json()["error"]
    assert client.get(place).json() == after
    audit = client.get(f"/api/scans/{CASE}/files/audit.tsv").text
    assert audit.count("\n") == 2
    assert "Anna" in audit


def test_results_are_never_deleted(client, root) -> None:
    job = root / ".infarct-web" / "jobs" / "case"
    job.mkdir()
    assert client.delete(f"/api/scans/{CASE}").status_code == 404
    assert (root / "case" / "summary.json").is_file()


def test_the_thumbnail_follows_the_mask(visitor) -> None:
    response = visitor.get(f"/api/scans/{CASE}/thumbnail.jpg")
    assert response.content[:3] == b"\xff\xd8\xff"


def test_events_carry_the_worklist(visitor) -> None:
    site = visitor.app._app.state.site

    async def first() -> str:
        async for event in site.events():
            return event
        raise AssertionError

    event = visitor.portal.call(first)
    assert event.startswith("event: worklist\ndata: ")
    assert json.loads(event.split("data: ")[1])[0]["id"] == CASE


@pytest.mark.parametrize("name", ["dwi", "b0", "adc", "probability"])
def test_images_of_the_viewer(visitor, name: str) -> None:
    response = visitor.get(f"/api/scans/{CASE}/images/{name}.nii.gz")
    assert response.status_code == 200
    assert response.content[:2] == b"\x1f\x8b"
    assert visitor.get(f"/api/scans/{CASE}/images/other.nii.gz").status_code == 404
