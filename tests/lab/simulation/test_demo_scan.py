"""Selection of the bundled demo scan."""

from __future__ import annotations

from pathlib import Path

import pytest

from infarct.core import assets
from infarct.lab.simulation import demo_scan
from infarct.lab.sources.bank import Bank


def test_first_suitable_case_is_added_to_the_assets(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_case(record: object, saving: object, bank: Bank, case: Path) -> None:
        case.mkdir()
        for name in ("dwi", "b0", "lesion"):
            (case / f"{name}.nii.gz").write_bytes(case.name.encode())

    monkeypatch.setattr(assets, "ROOT", tmp_path)
    monkeypatch.setattr(assets, "_INDEX", tmp_path / "assets.json")
    monkeypatch.setattr(demo_scan.Bank, "from_icbm", lambda: bank)
    monkeypatch.setattr(demo_scan, "_has_typical_protocol", lambda record: bool(record.lesions))
    monkeypatch.setattr(demo_scan, "save_case", save_case)
    monkeypatch.setattr(demo_scan, "_has_obvious_infarct", lambda case: case.name.endswith("2"))
    home = demo_scan.make_demo_scan(5)
    assert (home / "dwi.nii.gz").read_text().endswith("2")
    asset = assets.index()["demo/dwi"]
    assert asset.sha256 == assets.sha256(home / "dwi.nii.gz")
    assert "--seed 5" in asset.source


def test_error_if_no_case_is_suitable(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_scan.Bank, "from_icbm", lambda: bank)
    monkeypatch.setattr(demo_scan, "_TRIES", 3)
    monkeypatch.setattr(demo_scan, "_has_typical_protocol", lambda _: False)
    with pytest.raises(RuntimeError, match="choose another seed"):
        demo_scan.make_demo_scan(5)
