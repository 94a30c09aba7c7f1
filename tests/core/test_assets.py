import json
import tomllib
from pathlib import Path

import pytest

from infarct.core import assets
from infarct.core.errors import AssetError


def test_every_bundled_file_is_listed_and_intact() -> None:
    listed = {asset.file for asset in assets.index().values()}
    for name in assets.index():
        assert assets.path(name).is_file()
    on_disk = {
        file.relative_to(assets.ROOT).as_posix()
        for kind in ("templates", "demo", "networks")
        for file in (assets.ROOT / kind).glob("*")
    }
    assert on_disk <= listed


def test_every_asset_names_licence_and_source() -> None:
    for asset in assets.index().values():
        assert asset.licence
        assert len(asset.source) > 20


def test_an_unknown_name_lists_the_known_names() -> None:
    with pytest.raises(AssetError, match="templates/b0"):
        assets.path("templates/nothing")


def test_a_changed_file_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "ROOT", tmp_path)
    monkeypatch.setattr(assets, "_INDEX", tmp_path / "assets.json")
    file = tmp_path / "thing.bin"
    file.write_bytes(b"as shipped")
    row = assets.Asset("thing", "thing.bin", assets.sha256(file), "Apache-2.0", "made for this")
    assets.register_asset(row)
    assert assets.path("thing") == file
    file.write_bytes(b"changed")
    with pytest.raises(AssetError, match="reinstall"):
        assets.path("thing")
    (tmp_path / "assets.json").write_text("[")
    with pytest.raises(AssetError, match="damaged"):
        assets.index()


def test_the_wheel_leaves_out_what_the_index_calls_source_only() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    targets = project["tool"]["hatch"]["build"]["targets"]
    assert targets["wheel"]["exclude"] == list(assets.SOURCE_ONLY)
    assert "sdist" not in targets


def test_the_wheel_has_what_the_default_method_needs() -> None:
    installed = {asset.file for asset in assets.index().values() if not asset.source_only}
    for stem in ("DAGMNet_CH3_slices", "FCN_CH2_slices", "BrainMask"):
        assert {f"networks/{stem}.onnx", f"networks/{stem}.md"} <= installed
    # Weights hardly compress, so the size of the files limits that of the wheel.
    assert sum((assets.ROOT / file).stat().st_size for file in installed) < 32_000_000


def test_a_file_that_the_wheel_leaves_out_can_be_added(tmp_path, monkeypatch) -> None:
    original = assets.path("networks/BrainMask.pt")
    monkeypatch.setattr(assets, "ROOT", tmp_path)
    wanted = tmp_path / "networks" / "BrainMask.pt"
    with pytest.raises(AssetError, match=r"not part of this .*; copy .* to ") as caught:
        assets.path("networks/BrainMask.pt")
    assert "src/infarct/data/networks/BrainMask.pt of a clone" in str(caught.value)
    assert str(caught.value).endswith(str(wanted))
    wanted.parent.mkdir()
    wanted.write_bytes(original.read_bytes())
    assert assets.path("networks/BrainMask.pt") == wanted
    wanted.write_bytes(b"changed")
    with pytest.raises(AssetError, match="has changed; reinstall"):
        assets.path("networks/BrainMask.pt")
    with pytest.raises(AssetError, match="missing or has changed; reinstall"):
        assets.path("templates/b0")


def test_templates_do_not_exceed_their_size_limit() -> None:
    size = sum(file.stat().st_size for file in (assets.ROOT / "templates").iterdir())
    assert size < 6_000_000
    demo = sum(file.stat().st_size for file in (assets.ROOT / "demo").iterdir())
    assert demo < 2_000_000
    note = json.loads(assets.path("templates/note").read_text())
    assert note["n"] == len(note["scans"])
