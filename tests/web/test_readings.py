from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from tests.web.conftest import CASE

from infarct.core.errors import InputFileError
from infarct.web.editing import pack
from infarct.web.readings import Readings, compare, summarise_readings


def write(path, *voxels: tuple[int, int, int]) -> str:
    mask = np.zeros((10, 10, 4), np.uint8)
    for voxel in voxels:
        mask[voxel] = 1
    nib.Nifti1Image(mask, np.diag([2.0, 2.0, 5.0, 1.0])).to_filename(path)
    return str(path)


def test_two_different_readers_and_no_more(tmp_path) -> None:
    readings = Readings(tmp_path)
    first = readings.join("scan", " Anna ", hide_automatic=True)
    assert readings.get("scan").status == "0 of 2 readings"
    for name in ("anna", "ANNA", "Anna ", ""):
        with pytest.raises(InputFileError):
            readings.join("scan", name, hide_automatic=True)
    # The first reader has decided what is hidden.
    second = readings.join("scan", "Ben", hide_automatic=False)
    assert readings.get("scan").hide_automatic
    with pytest.raises(InputFileError, match="two readers already"):
        readings.join("scan", "Cleo", hide_automatic=True)
    assert first.key != second.key
    assert first.key not in str(readings.get("scan").public())
    assert (readings.number_of("scan", first.key), readings.number_of("scan", second.key)) == (0, 1)
    with pytest.raises(InputFileError, match="has not started"):
        readings.number_of("scan", "")


def test_a_submitted_mask_is_final_and_the_third_reader_is_another(tmp_path) -> None:
    readings = Readings(tmp_path)
    keys = [readings.join("scan", name, hide_automatic=True).key for name in ("Anna", "Ben")]
    with pytest.raises(InputFileError, match="both masks must be submitted"):
        readings.check_adjudicator("scan", "Cleo")
    for number, key in enumerate(keys):
        assert readings.get("scan").blinds
        assert readings.check_open("scan", key) == number
        readings.submit("scan", number)
        with pytest.raises(InputFileError, match="no longer be changed"):
            readings.check_open("scan", key)
    assert not readings.get("scan").blinds
    assert readings.get("scan").status == "to be adjudicated"
    with pytest.raises(InputFileError, match="third reader"):
        readings.check_adjudicator("scan", "ben")
    readings.check_adjudicator("scan", "Cleo")
    readings.adjudicate("scan", "Cleo")
    with pytest.raises(InputFileError, match="has decided"):
        readings.check_adjudicator("scan", "Dora")


def test_a_damaged_record_does_not_unblind(tmp_path) -> None:
    readings = Readings(tmp_path)
    readings.join("scan", "Anna", hide_automatic=True)
    (tmp_path / "scan" / "reading.json").write_text("{")
    with pytest.raises(InputFileError, match="damaged"):
        readings.get("scan")


def test_the_agreement_is_that_of_the_formula(tmp_path) -> None:
    first = write(tmp_path / "1.nii.gz", (1, 1, 1), (1, 2, 1), (1, 3, 1))
    second = write(tmp_path / "2.nii.gz", (1, 2, 1), (1, 3, 1), (1, 4, 1), (1, 5, 1), (1, 6, 1))
    found = compare(tmp_path / "1.nii.gz", tmp_path / "2.nii.gz")
    assert found["dice"] == pytest.approx(2 * 2 / (3 + 5))
    assert found["first_ml"] == pytest.approx(3 * 0.02)
    assert found["difference_ml"] == pytest.approx(2 * 0.02)
    empty = write(tmp_path / "3.nii.gz")
    known = [
        {"dice": 0.8, "first_ml": a, "second_ml": b, "difference_ml": b - a}
        for a, b in ((9.0, 2.0), (6.0, 1.0), (8.0, 4.0), (7.0, 1.0), (10.0, 5.0), (6.0, 2.0))
    ]
    done = summarise_readings([[empty, empty]], known)
    assert done["summary"]["scans"] == 7
    assert done["summary"]["both_empty"] == 1
    assert done["summary"]["mean_dice"] == pytest.approx(0.8)
    # Judges 1 and 2 of Shrout and Fleiss 1979, computed by hand from the mean squares:
    # subjects 4.9, judges 80.08, residual 0.883.
    ratings = np.array([(k["first_ml"], k["second_ml"]) for k in known])
    rows = 2 * ((ratings.mean(1) - ratings.mean()) ** 2).sum() / 5
    columns = 6 * ((ratings.mean(0) - ratings.mean()) ** 2).sum()
    total = ((ratings - ratings.mean()) ** 2).sum()
    residual = (total - 5 * rows - columns) / 5
    icc = (rows - residual) / (rows + residual + 2 * (columns - residual) / 6)
    assert done["summary"]["icc"] == pytest.approx(icc)
    del first, second


def start(client, reader: str, *, hide: bool = True) -> dict[str, str]:
    body = {"reader": reader, "hide_automatic": hide}
    return client.post(f"/api/scans/{CASE}/reading", json=body).json()


HIDDEN = [
    "mask",
    "mask?which=automatic",
    "thumbnail.jpg",
    "report",
    "images/probability.nii.gz",
    "files/lesion_mask.nii.gz",
    "files/summary.json",
    "result.zip",
]


def test_the_whole_double_reading(client, root) -> None:
    mask = np.asarray(nib.load(root / "case" / "lesion_mask.nii.gz").dataobj) > 0
    smaller = mask.copy()
    smaller[tuple(np.argwhere(mask)[0])] = False
    anna = start(client, "Anna")
    # From now on, nothing shows what the method found: neither the row nor any file.
    row = client.get("/api/scans").json()["scans"][0]
    assert row["blinded"]
    assert not {"volume", "lesions", "probability", "interval", "version"} & row.keys()
    assert "lesion_list" not in client.get(f"/api/scans/{CASE}").json()
    for path in HIDDEN:
        assert client.get(f"/api/scans/{CASE}/{path}").status_code == 423, path
    save = {"labels": pack(mask), "version": "x", "by": "Eve", "reason": "around the blinding"}
    assert client.put(f"/api/scans/{CASE}/mask", json=save).status_code == 423
    assert client.get(f"/api/scans/{CASE}/images/dwi.nii.gz").status_code == 200
    ben = start(client, "Ben", hide=False)
    place = f"/api/scans/{CASE}/reading"
    bad = client.put(place, json={"labels": pack(mask[1:]), "key": anna["key"]})
    assert bad.status_code == 422
    assert client.put(place, json={"labels": pack(mask), "key": "guess"}).status_code == 422
    done = client.put(place, json={"labels": pack(mask), "key": anna["key"]}).json()
    assert [bool(each["submitted"]) for each in done["readers"]] == [True, False]
    assert done["blinded"]
    for which in ("1", "2"):
        assert client.get(f"{place}/{which}").status_code == 423
    done = client.put(place, json={"labels": pack(smaller), "key": ben["key"]}).json()
    count = int(mask.sum())
    assert done["complete"]
    assert done["agreement"]["dice"] == pytest.approx(2 * (count - 1) / (2 * count - 1))
    assert client.get(f"{place}/1").json()["labels"] == pack(mask)
    assert client.get(f"{place}/2").json()["labels"] == pack(smaller)
    assert client.get(f"{place}/3").status_code == 404
    assert client.get(f"/api/scans/{CASE}/report").status_code == 200
    version = client.get(f"/api/scans/{CASE}/mask").json()["version"]
    decision = {"labels": pack(smaller), "version": version, "by": "Cleo", "reason": "vessel"}
    for by in ("anna", "BEN"):
        refused = client.post(f"/api/scans/{CASE}/adjudication", json={**decision, "by": by})
        assert refused.status_code == 422
    done = client.post(f"/api/scans/{CASE}/adjudication", json=decision).json()
    assert done["double_reading"]["adjudicated_by"] == "Cleo"
    assert done["correction"]["reason"] == "adjudication of the readings of Anna and Ben: vessel"
    table = client.get("/api/readings").json()
    assert table["summary"]["scans"] == 1
    assert table["scans"][0]["name"] == "case"
