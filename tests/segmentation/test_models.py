"""Methods by name: bundled, user-provided and averaged."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from infarct.core import assets
from infarct.core.errors import AssetError, SettingError
from infarct.core.geometry import MNI_GRID
from infarct.inference.network import open_network
from infarct.segmentation.inputs import MethodInputs
from infarct.segmentation.models import (
    BRIEF,
    DEFAULT,
    ENSEMBLE,
    ENSEMBLE_OF,
    MODELS_FOLDER,
    NETWORK,
    get_model,
    left_out_networks,
    lesion_networks,
    model_names,
    trained_on,
)
from infarct.segmentation.postprocess import AS_IN_THE_PAPER


def test_every_method_is_available_by_name() -> None:
    assert DEFAULT in model_names()
    for name in model_names():
        method = get_model(name)
        assert method.name == name
        assert 0 < method.threshold < 1
        assert bool(method.networks) == (name not in {"cfuzzy", "tscore"})


@pytest.mark.parametrize("options", ["", ":sensitive", ":bold", ":bold:bold"])
@pytest.mark.parametrize(
    ("name", "wrong"), [("magic", "magic"), ("", ""), ("dagmnet-ch3,magic", "magic")]
)
def test_error_names_the_unknown_method_and_lists_the_available(
    name: str, wrong: str, options: str
) -> None:
    with pytest.raises(AssetError, match=f"no model called '{wrong}'; available: .*cfuzzy"):
        get_model(name + options)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dagmnet-ch3,dagmnet-ch3", "dagmnet-ch3 is given twice"),
        ("fcn-ch2-slices,cfuzzy:sensitive", "cfuzzy is not a network"),
        ("ensemble,fcn-ch2-slices", "ensemble is not a network"),
    ],
)
def test_only_different_networks_can_be_averaged(name: str, reason: str) -> None:
    with pytest.raises(AssetError, match=reason):
        get_model(name)


@pytest.mark.parametrize("name", ["cfuzzy", DEFAULT])
def test_invalid_engine_settings_are_reported_early(name, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "abc")
    with pytest.raises(SettingError, match="OMP_NUM_THREADS=abc: expected a number of threads"):
        get_model(name)


def test_operating_point_follows_a_colon() -> None:
    assert get_model(DEFAULT).candidate_filter.point == "balanced"
    specific = get_model(f"{DEFAULT}:specific")
    assert specific.name == f"{DEFAULT}:specific"
    assert (
        specific.candidate_filter.least_probability
        > get_model(DEFAULT).candidate_filter.least_probability
    )
    with pytest.raises(AssetError, match="available: sensitive, balanced, specific"):
        get_model(f"{DEFAULT}:bold")
    with pytest.raises(AssetError, match="the method is not calibrated"):
        get_model("cfuzzy:specific")


def test_ensemble_combines_different_networks() -> None:
    ensemble = get_model(ENSEMBLE)
    equal = get_model(",".join(ENSEMBLE_OF))
    assert ensemble.networks == equal.networks
    assert ensemble.weights == tuple(ENSEMBLE_OF.values())
    assert sum(ensemble.weights) == pytest.approx(1) == sum(equal.weights)
    assert next(iter(ENSEMBLE_OF.values())) > 0.5
    assert len(set(equal.weights)) == 1
    contracts = [open_network(file).contract for file in ensemble.networks]
    assert len({contract.name for contract in contracts}) == len(contracts) > 1
    assert len({contract.channels for contract in contracts}) > 1


def test_briefly_trained_networks_have_a_caution() -> None:
    brief = [name for name in model_names() if name.endswith(BRIEF)]
    assert brief
    for name in [*brief, f"{NETWORK},{brief[0]}"]:
        assert "trained for only minutes" in get_model(name).caution
    for name in (NETWORK, ENSEMBLE):
        assert "trained for only minutes" not in get_model(name).caution


def test_user_networks_are_found_and_averaged(tmp_path, monkeypatch) -> None:
    shutil.copyfile(assets.path("networks/DAGMNet_CH3"), tmp_path / "My_Net.onnx")
    monkeypatch.setenv(MODELS_FOLDER, str(tmp_path))
    assert lesion_networks()["my-net"] == tmp_path / "My_Net.onnx"
    both = get_model(f"{NETWORK},my-net")
    assert [file.stem for file in both.networks] == ["DAGMNet_CH3", "My_Net"]
    assert both.candidate_filter is None


def test_calibration_is_valid_only_for_its_network(tmp_path, monkeypatch) -> None:
    network = tmp_path / "Mine.onnx"
    shutil.copyfile(assets.path("networks/FCN_CH2_slices"), network)
    monkeypatch.setenv(MODELS_FOLDER, str(tmp_path))
    learned = get_model("fcn-ch2-slices").candidate_filter.calibration
    kept = tmp_path / "mine.calibration.json"
    kept.write_text(replace(learned, model="mine").to_json())
    assert get_model("mine:specific").candidate_filter.calibration.model == "mine"
    shutil.copyfile(assets.path("networks/FCN_CH2_brief"), network)
    assert get_model("mine").candidate_filter is None
    assert "the calibration does not match these weights" in get_model("mine").caution
    with pytest.raises(AssetError, match="run `infarct lab calibrate` to recalibrate"):
        get_model("mine:specific")


def test_network_replaced_during_a_run_is_rejected(tmp_path, monkeypatch, quick) -> None:
    network = tmp_path / "Mine.onnx"
    shutil.copyfile(assets.path("networks/FCN_CH2_brief"), network)
    monkeypatch.setenv(MODELS_FOLDER, str(tmp_path))
    method = get_model("mine")
    assert method.networks_sha256 == {"Mine.onnx": assets.sha256(network)}
    monkeypatch.setattr(
        "infarct.segmentation.models.lesion_probability", lambda network, *_: network
    )
    inputs = MethodInputs(quick.case, quick.prepared)
    (first,) = (predictor(inputs).data for predictor in method.predictors)
    assert first.sha256 == assets.sha256(network)
    # Different content with the same size and time stamps.
    times = network.stat()
    content = bytearray(network.read_bytes())
    content[len(content) // 2] ^= 1
    network.write_bytes(content)
    os.utime(network, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(AssetError, match="replaced during the run"):
        method.predictors[0](inputs)
    (again,) = (predictor(inputs).data for predictor in get_model("mine").predictors)
    assert again.sha256 == assets.sha256(network) != first.sha256


def test_calibration_is_reloaded_when_its_content_changes(tmp_path, monkeypatch) -> None:
    shutil.copyfile(assets.path("networks/FCN_CH2_slices"), tmp_path / "Mine.onnx")
    monkeypatch.setenv(MODELS_FOLDER, str(tmp_path))
    learned = get_model("fcn-ch2-slices").candidate_filter.calibration
    kept = tmp_path / "mine.calibration.json"
    for scans in (200, 300):
        kept.write_text(replace(learned, scans=scans).to_json())
        candidate_filter = get_model("mine").candidate_filter
        assert candidate_filter.calibration.scans == scans
        assert (candidate_filter.file, candidate_filter.sha256) == (kept.name, assets.sha256(kept))


def test_training_data_are_read_from_the_model_card(tmp_path, monkeypatch) -> None:
    for file in lesion_networks().values():
        assert trained_on(file) == "synthetic scans"
    for stem in ("Mine", "Other"):
        shutil.copyfile(assets.path("networks/FCN_CH2_brief"), tmp_path / f"{stem}.onnx")
    monkeypatch.setenv(MODELS_FOLDER, str(tmp_path))
    assert "training data are not documented: " in get_model("mine").caution
    (tmp_path / "Mine.md").write_text("# Mine\n\n- Trained on real cases: its scores\n")
    assert get_model("mine").caution.startswith("trained on real cases: faint infarcts")
    caution = get_model("fcn-ch2-slices,mine,other").caution
    assert "FCN_CH2_slices on synthetic scans, Mine on real cases" in caution
    assert "Other on undocumented scans" in caution


def test_title_names_the_networks_and_weights() -> None:
    pair = "DAGMNet_CH3_slices and {}FCN_CH2_slices"
    assert get_model(ENSEMBLE).title == f"the weighted mean of 60% {pair.format('40% ')}"
    assert get_model(",".join(ENSEMBLE_OF)).title == f"the mean of {pair.format('')}"
    assert "to compare designs only" in get_model("unet-ch3-brief").title


def test_an_own_network_cannot_pass_for_one_that_ships(tmp_path, monkeypatch) -> None:
    (tmp_path / "dagmnet-ch3.onnx").touch()
    monkeypatch.setenv(MODELS_FOLDER, str(tmp_path))
    with pytest.raises(AssetError, match="rename"):
        model_names()
    monkeypatch.setenv(MODELS_FOLDER, str(tmp_path / "absent"))
    with pytest.raises(AssetError, match="which is not a folder"):
        model_names()


@pytest.fixture
def as_from_the_wheel(tmp_path, monkeypatch):
    """The bundled files without those that the wheel leaves out; returns the complete folder."""
    complete, installed = assets.ROOT, tmp_path / "installed"
    for asset in assets.index().values():
        if not asset.source_only:
            (installed / asset.file).parent.mkdir(parents=True, exist_ok=True)
            (installed / asset.file).symlink_to(complete / asset.file)
    monkeypatch.setattr(assets, "ROOT", installed)
    return complete


def test_networks_that_the_wheel_leaves_out_are_not_offered(as_from_the_wheel) -> None:
    assert model_names() == [ENSEMBLE, *ENSEMBLE_OF, "cfuzzy", "tscore"]
    assert {NETWORK, f"unet-ch2{BRIEF}"} <= set(left_out_networks())
    assert not {*left_out_networks(), "brainmask"} & set(model_names())
    for name in model_names():
        assert get_model(name).name == name
    for name in (NETWORK, f"{NETWORK}:specific", f"fcn-ch2-slices,{NETWORK}"):
        with pytest.raises(
            AssetError, match=f"{NETWORK} is not part of .* copy .* {MODELS_FOLDER}"
        ):
            get_model(name)


def test_a_network_that_the_wheel_leaves_out_may_be_in_the_users_folder(
    as_from_the_wheel, tmp_path, monkeypatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setenv(MODELS_FOLDER, str(folder))
    networks = as_from_the_wheel / "networks"
    for stem in ("DAGMNet_CH3", "UNet_CH2_brief"):
        shutil.copyfile(networks / f"{stem}.onnx", folder / f"{stem}.onnx")
    assert get_model(f"{NETWORK}:specific").candidate_filter.point == "specific"
    assert model_names().index(NETWORK) < model_names().index("cfuzzy")
    assert "trained for only minutes" in get_model("unet-ch2-brief").caution
    shutil.copyfile(networks / "UNet_CH2_brief.onnx", folder / "DAGMNet_CH3.onnx")
    with pytest.raises(AssetError, match="is not the network dagmnet-ch3 of this version; rename"):
        get_model(NETWORK)


def test_networks_run_on_the_slices_or_the_sub_volumes_they_were_trained_on(
    quick, monkeypatch
) -> None:
    inputs = MethodInputs(quick.case, quick.prepared)
    calls = []

    def on_sub_volumes(network, images, brain):
        calls.append((network.contract.name, brain.shape))
        return np.zeros(brain.shape, np.float32)

    def on_slices(network, slices):
        calls.append((network.contract.name, slices.brain.shape))
        return slices.is_map

    monkeypatch.setattr("infarct.segmentation.models.lesion_probability", on_sub_volumes)
    monkeypatch.setattr("infarct.segmentation.measured_slices.lesion_probability", on_slices)
    for name in (ENSEMBLE, NETWORK):
        for predictor in get_model(name).predictors:
            predictor(inputs)
    lattice = inputs.slices.grid.shape
    assert lattice[2] < MNI_GRID.shape[2]
    assert calls == [
        ("DAGMNet_CH3_slices", lattice),
        ("FCN_CH2_slices", lattice),
        ("DAGMNet_CH3", MNI_GRID.shape),
    ]


def test_masks_of_the_papers_methods_are_cleaned_as_in_the_paper() -> None:
    for name in (NETWORK, "cfuzzy", "tscore", f"{NETWORK},{next(iter(ENSEMBLE_OF))}"):
        method = get_model(name)
        assert not method.on_slices
        assert (method.threshold, method.cleaning) == (0.5, AS_IN_THE_PAPER)
    assert get_model(ENSEMBLE).on_slices
    assert get_model(ENSEMBLE).cleaning.smallest_mm3 > 0
