"""Methods by name: those that ship, one's own, several together."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from infarct.core import assets
from infarct.core.errors import AssetError, SettingError
from infarct.inference.network import open_network
from infarct.segmentation.models import (
    BRIEF,
    DEFAULT,
    ENSEMBLE,
    ENSEMBLE_OF,
    MODELS_FOLDER,
    NETWORK,
    get_model,
    lesion_networks,
    model_names,
    trained_on,
)


def test_every_method_is_found_by_its_name() -> None:
    assert DEFAULT in model_names()
    for name in model_names():
        method = get_model(name)
        assert method.name == name
        assert 0 < method.threshold < 1
        assert bool(method.networks) == (name not in {"cfuzzy", "tscore"})


@pytest.mark.parametrize("manner", ["", ":sensitive", ":fast", ":bold:fast", ":bold:bold"])
@pytest.mark.parametrize(
    ("name", "wrong"), [("magic", "magic"), ("", ""), ("dagmnet-ch3,magic", "magic")]
)
def test_an_unknown_method_is_named_and_the_known_are_listed(
    name: str, wrong: str, manner: str
) -> None:
    with pytest.raises(AssetError, match=f"there is no model called '{wrong}'; .*cfuzzy"):
        get_model(name + manner)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dagmnet-ch3,dagmnet-ch3", "dagmnet-ch3 is named twice"),
        ("fcn-ch2,cfuzzy:sensitive", "cfuzzy is not a network"),
        ("ensemble,fcn-ch2", "ensemble is not a network"),
    ],
)
def test_only_different_networks_are_averaged(name: str, reason: str) -> None:
    with pytest.raises(AssetError, match=reason):
        get_model(name)


@pytest.mark.parametrize("name", ["cfuzzy", DEFAULT])
def test_wrong_settings_of_the_engine_are_told_before_any_work(name, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "abc")
    with pytest.raises(SettingError, match="OMP_NUM_THREADS=abc: a number of threads"):
        get_model(name)


def test_an_operating_point_follows_after_a_colon() -> None:
    assert get_model(DEFAULT).candidate_filter.point == "balanced"
    specific = get_model(f"{DEFAULT}:specific")
    assert specific.name == f"{DEFAULT}:specific"
    assert (
        specific.candidate_filter.least_probability
        > get_model(DEFAULT).candidate_filter.least_probability
    )
    with pytest.raises(AssetError, match="sensitive, balanced, specific"):
        get_model(f"{DEFAULT}:bold")
    with pytest.raises(AssetError, match="never calibrated"):
        get_model("cfuzzy:specific")


def test_fast_stands_beside_an_operating_point() -> None:
    fast = get_model(f"{DEFAULT}:fast")
    assert fast.candidate_filter == get_model(DEFAULT).candidate_filter
    assert "interpolated" in fast.caution
    for name in (f"{DEFAULT}:fast:specific", f"{DEFAULT}:specific:fast"):
        both = get_model(name)
        assert both.candidate_filter.point == "specific"
        assert both.caution == fast.caution
    for wrong in ("specific:balanced", "fast:fast"):
        with pytest.raises(AssetError, match="each once"):
            get_model(f"{DEFAULT}:{wrong}")
    with pytest.raises(AssetError, match="no network"):
        get_model("cfuzzy:fast")


def test_the_ensemble_is_of_unlike_networks_the_usual_one_among_them() -> None:
    together = get_model(ENSEMBLE)
    assert NETWORK in ENSEMBLE_OF
    alike = get_model(",".join(ENSEMBLE_OF))
    assert together.networks == alike.networks
    assert together.weights == tuple(ENSEMBLE_OF.values())
    assert sum(together.weights) == pytest.approx(1) == sum(alike.weights)
    assert ENSEMBLE_OF[NETWORK] > 0.5
    assert len(set(alike.weights)) == 1
    contracts = [open_network(file).contract for file in together.networks]
    assert len({contract.name for contract in contracts}) == len(contracts) > 1
    assert len({contract.channels for contract in contracts}) > 1


def test_who_uses_a_briefly_trained_network_is_told() -> None:
    brief = [name for name in model_names() if name.endswith(BRIEF)]
    assert brief
    for name in [*brief, f"{NETWORK},{brief[0]}"]:
        assert "learned for minutes" in get_model(name).caution
    for name in (NETWORK, ENSEMBLE):
        assert "learned for minutes" not in get_model(name).caution


def test_own_networks_are_found_and_averaged(tmp_path, monkeypatch) -> None:
    shutil.copyfile(assets.path("networks/DAGMNet_CH3"), tmp_path / "My_Net.onnx")
    monkeypatch.setenv(MODELS_FOLDER, str(tmp_path))
    assert lesion_networks()["my-net"] == tmp_path / "My_Net.onnx"
    both = get_model(f"{NETWORK},my-net")
    assert [file.stem for file in both.networks] == ["DAGMNet_CH3", "My_Net"]
    assert both.candidate_filter is None


def test_a_calibration_holds_for_the_network_it_was_learned_of(tmp_path, monkeypatch) -> None:
    network = tmp_path / "Mine.onnx"
    shutil.copyfile(assets.path("networks/FCN_CH2"), network)
    monkeypatch.setenv(MODELS_FOLDER, str(tmp_path))
    learned = get_model("fcn-ch2").candidate_filter.calibration
    kept = tmp_path / "mine.calibration.json"
    kept.write_text(replace(learned, model="mine").to_json())
    assert get_model("mine:specific").candidate_filter.calibration.model == "mine"
    shutil.copyfile(assets.path("networks/FCN_CH2_brief"), network)
    assert get_model("mine").candidate_filter is None
    assert "calibrated with other networks" in get_model("mine").caution
    with pytest.raises(AssetError, match="learns it anew"):
        get_model("mine:specific")


def test_a_network_replaced_during_a_run_is_not_certified(tmp_path, monkeypatch, quick) -> None:
    network = tmp_path / "Mine.onnx"
    shutil.copyfile(assets.path("networks/FCN_CH2_brief"), network)
    monkeypatch.setenv(MODELS_FOLDER, str(tmp_path))
    method = get_model("mine")
    assert method.networks_sha256 == {"Mine.onnx": assets.sha256(network)}
    monkeypatch.setattr(
        "infarct.segmentation.models.lesion_probability", lambda network, *_: network
    )
    (first,) = (reader(quick.prepared, quick.is_map_mni) for reader in method.readers)
    assert first.sha256 == assets.sha256(network)
    # Another content, of the same length and time: only the content tells.
    times = network.stat()
    content = bytearray(network.read_bytes())
    content[len(content) // 2] ^= 1
    network.write_bytes(content)
    os.utime(network, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(AssetError, match="replaced during the run"):
        method.readers[0](quick.prepared, quick.is_map_mni)
    (again,) = (reader(quick.prepared, quick.is_map_mni) for reader in get_model("mine").readers)
    assert again.sha256 == assets.sha256(network) != first.sha256


def test_a_calibration_is_read_anew_when_its_content_changes(tmp_path, monkeypatch) -> None:
    shutil.copyfile(assets.path("networks/FCN_CH2"), tmp_path / "Mine.onnx")
    monkeypatch.setenv(MODELS_FOLDER, str(tmp_path))
    learned = get_model("fcn-ch2").candidate_filter.calibration
    kept = tmp_path / "mine.calibration.json"
    for scans in (200, 300):
        kept.write_text(replace(learned, scans=scans).to_json())
        candidate_filter = get_model("mine").candidate_filter
        assert candidate_filter.calibration.scans == scans
        assert (candidate_filter.file, candidate_filter.sha256) == (kept.name, assets.sha256(kept))


def test_what_a_network_was_trained_on_is_what_its_card_says(tmp_path, monkeypatch) -> None:
    for file in lesion_networks().values():
        assert trained_on(file) == "synthetic scans"
    for stem in ("Mine", "Other"):
        shutil.copyfile(assets.path("networks/FCN_CH2_brief"), tmp_path / f"{stem}.onnx")
    monkeypatch.setenv(MODELS_FOLDER, str(tmp_path))
    assert "no model card says" in get_model("mine").caution
    (tmp_path / "Mine.md").write_text("# Mine\n\n- Trained on real cases: its scores\n")
    assert get_model("mine").caution.startswith("trained on real cases: infarcts")
    said = get_model("fcn-ch2,mine,other").caution
    assert "FCN_CH2 on synthetic scans, Mine on real cases, Other on scans that no card" in said


def test_titles_say_what_to_cite() -> None:
    assert get_model(ENSEMBLE).title == "the weighted mean of 60% DAGMNet_CH3 and 40% FCN_CH2"
    assert get_model(",".join(ENSEMBLE_OF)).title == "the mean of DAGMNet_CH3 and FCN_CH2"
    assert "to compare designs only" in get_model("unet-ch3-brief").title


def test_an_own_network_cannot_pass_for_one_that_ships(tmp_path, monkeypatch) -> None:
    (tmp_path / "dagmnet-ch3.onnx").touch()
    monkeypatch.setenv(MODELS_FOLDER, str(tmp_path))
    with pytest.raises(AssetError, match="rename"):
        model_names()
    monkeypatch.setenv(MODELS_FOLDER, str(tmp_path / "absent"))
    with pytest.raises(AssetError, match="no folder"):
        model_names()


@pytest.mark.parametrize(("manner", "read"), [("", 16), (":fast", 4)])
def test_every_network_answers_once(quick, monkeypatch, manner: str, read: int) -> None:
    asked = []

    def answer(network, images, brain, phases):
        asked.append(phases)
        return np.zeros(brain.shape, np.float32)

    monkeypatch.setattr("infarct.segmentation.models.lesion_probability", answer)
    method = get_model(DEFAULT + manner)
    maps = [reader(quick.prepared, quick.is_map_mni) for reader in method.readers]
    assert len(maps) == len(method.networks)
    assert asked == [read] * len(method.networks)
