"""ONNX export: same outputs, small weights, no local paths."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn

from infarct.core import assets
from infarct.core.errors import AssetError, InputFileError, OutputError
from infarct.inference.network import lesion_probability, open_network
from infarct.lab.networks import DESIGNS, build
from infarct.lab.training import checkpoint, export_onnx, model_card
from infarct.lab.training.checkpoint import (
    Position,
    make_learner,
    read_weights,
    rounded,
    write_weights,
)
from infarct.lab.training.config import CasesSettings, Recipe
from infarct.lab.training.export_onnx import Answer, contract_of, fold, halve, input_shape, to_onnx
from infarct.segmentation.models import trained_on


def trained(name: str, features: int | None = 4) -> nn.Module:
    """Return a network with random batch normalisation statistics."""
    torch.manual_seed(0)
    network = build(name, None if name == "DeepMedic" else features)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            module.momentum = 1.0
    # One forward pass, so that the running statistics match the data.
    side = 32 if DESIGNS[name].slices else 16  # packing halves the sides
    network(torch.randn(2, len(DESIGNS[name].channels), side, side, 8))
    return network.eval()


def probe(name: str) -> torch.Tensor:
    shape = (1, len(DESIGNS[name].channels), *input_shape(DESIGNS[name]))
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [name for name in DESIGNS if name != "DeepMedic"])
def test_onnx_and_torch_outputs_agree(tmp_path: Path, name: str) -> None:
    network, image = trained(name), probe(name)
    model = to_onnx(network, name, half=False)
    for weights, tolerance in ((network, 1e-4), (rounded(network), 1e-3)):
        onnx.save(model, tmp_path / "network.onnx")
        with torch.no_grad():
            expected = Answer(weights)(image).numpy()
        assert expected.std() > 0.01
        loaded = open_network(tmp_path / "network.onnx")
        np.testing.assert_allclose(loaded.run(image.numpy()), expected, atol=tolerance, rtol=0)
        assert loaded.contract.slices == DESIGNS[name].slices
        if loaded.contract.answers == "lesion":
            box = image[:, :, 8:72, :96, 8:48].contiguous()
            with torch.no_grad():
                expected = Answer(weights)(box).numpy()
            np.testing.assert_allclose(loaded.run(box.numpy()), expected, atol=tolerance, rtol=0)
        halve(model, fold(network)[1])


def test_deepmedic_in_tiles_of_any_size_equals_torch_on_the_volume(tmp_path: Path) -> None:
    network = rounded(trained("DeepMedic"))
    path = tmp_path / "network.onnx"
    onnx.save(to_onnx(network, "DeepMedic"), path)
    brain = np.zeros((32, 32, 48), dtype=bool)
    brain[6:26, 6:28, 4:44] = True
    rng = np.random.default_rng(0)
    images = {n: rng.normal(size=brain.shape).astype(np.float32) for n in ("DWI", "ADC")}
    answer = lesion_probability(open_network(path), images, brain)

    def whole(image: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(network(image)[0])

    class Whole:
        contract = replace(contract_of("DeepMedic"), margin=None)

        @staticmethod
        def run(image: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return whole(torch.from_numpy(image)).numpy()

    expected = lesion_probability(Whole(), images, brain)  # type: ignore[arg-type]
    # Interpolation reaches one voxel beyond the box, where tiles are 0.
    inner = (slice(8, 24), slice(8, 26), slice(10, 40))
    np.testing.assert_allclose(answer[inner], expected[inner], atol=1e-3)


def test_folding_batch_normalisation_preserves_the_output() -> None:
    network, image = trained("DAGMNet_CH2"), torch.randn(1, 2, 16, 16, 8)
    folded, _ = fold(network)
    assert not any(isinstance(m, nn.BatchNorm3d) for m in folded.modules())
    with torch.no_grad():
        for a, b in zip(network(image), folded(image), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_the_file_is_half_the_size_and_has_a_contract_but_no_local_paths() -> None:
    network = trained("UNet_CH2", 8)
    whole = to_onnx(network, "UNet_CH2", half=False)
    half = onnx.ModelProto()
    half.CopyFrom(whole)
    halve(half, fold(network)[1])
    assert half.ByteSize() < 0.53 * whole.ByteSize()
    kernels = [t for t in half.graph.initializer if len(t.dims) > 1]
    assert kernels
    assert all(t.data_type == TensorProto.FLOAT16 for t in kernels if not t.name.endswith("_scale"))
    contract = json.loads(half.metadata_props[0].value)
    assert contract["channels"] == ["DWI", "ADC"]
    assert contract["scaled"] == [True, True]
    for trace in (b"site-packages", b"/src/", b"infarct/lab", b".py"):
        assert trace not in half.SerializeToString()


@pytest.mark.parametrize("name", DESIGNS)
def test_contracts_scale_all_but_the_is_map(name: str) -> None:
    contract = contract_of(name)
    assert dict(zip(contract.channels, contract.scaled, strict=True)).get("IS", False) is False
    assert sum(contract.scaled) == 2
    assert contract.answers == ("brain" if name == "BrainMask" else "lesion")


def test_export_writes_network_and_model_card(tmp_path: Path) -> None:
    recipe = Recipe("BrainMask", features=4, seed=11, note="Made for a test.")
    position = Position(step=5, samples=20, seconds=12.0)
    write_weights(tmp_path / "weights.pt", recipe, position, trained("BrainMask"))
    path, page = export_onnx.export(tmp_path / "weights.pt", tmp_path / "out", "brain")
    card = page.read_text()
    for fact in (
        assets.sha256(path),
        "Made for a test.",
        "seed | 11",
        "20 volumes",
        "licence | not stated",
    ):
        assert fact in card
    assert "| licence | not stated: chosen by whoever trained the network |" in card
    recipe_in_card = json.loads(card.split("```json")[1].split("```")[0])
    assert recipe_in_card["features"] == 4
    loaded = open_network(path)
    assert loaded.contract == contract_of("BrainMask")
    expected = Answer(read_weights(tmp_path / "weights.pt").network())(probe("BrainMask"))
    np.testing.assert_allclose(
        loaded.run(probe("BrainMask").numpy()), expected.detach().numpy(), atol=1e-3
    )


@pytest.mark.parametrize("end", ["onnx", "md", "png", "pt"])
def test_a_network_is_replaced_only_with_overwrite(tmp_path: Path, end: str) -> None:
    recipe = Recipe("BrainMask", features=4)
    write_weights(tmp_path / "weights.pt", recipe, Position(), trained("BrainMask"))
    out = tmp_path / "out"
    out.mkdir()
    (out / f"brain.{end}").write_bytes(b"theirs")
    (out / "brain2.onnx").touch()
    with pytest.raises(OutputError, match=rf"already contains brain\.{end}; choose another --name"):
        export_onnx.export(tmp_path / "weights.pt", out, "brain")
    assert (out / f"brain.{end}").read_bytes() == b"theirs"
    export_onnx.export(tmp_path / "weights.pt", out, "brain", overwrite=True)
    assert (out / "brain.onnx").stat().st_size > 1000


def test_shipped_files_are_registered_and_can_be_fine_tuned_even_from_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "PIECE_BYTES", 20_000)
    monkeypatch.setattr(assets, "register_asset", (listed := []).append)
    network = trained("BrainMask")
    recipe = Recipe("BrainMask", features=4, start="folder/of/someone/brain.pt")
    assert len(write_weights(tmp_path / "weights.pt", recipe, Position(), network)) > 1
    files = export_onnx.ship(tmp_path / "weights.pt", "Brain", tmp_path / "package")
    assert [file.suffix for file in files] == [".onnx", ".md", ".pt"]
    assert [asset.name for asset in listed] == [f"networks/Brain{e}" for e in ("", ".md", ".pt")]
    for asset in listed:
        assert assets.sha256(tmp_path / "package" / asset.file) == asset.sha256
    assert read_weights(files[-1]).recipe.start == "brain.pt"
    assert "someone" not in files[1].read_text()
    back = read_weights(files[-1]).weights
    for name, tensor in rounded(network).state_dict().items():
        assert torch.equal(back[name], tensor)


def test_a_network_can_ship_without_weights_for_fine_tuning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "register_asset", (listed := []).append)
    write_weights(
        tmp_path / "weights.pt", Recipe("BrainMask", features=4), Position(), trained("BrainMask")
    )
    files = export_onnx.ship(tmp_path / "weights.pt", "Brain", tmp_path / "package", start=False)
    assert [file.suffix for file in files] == [".onnx", ".md"]
    assert len(listed) == len(list((tmp_path / "package" / "networks").iterdir())) == 2


def test_training_on_real_cases_is_stated_and_no_case_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "register_asset", (listed := []).append)
    monkeypatch.setattr(export_onnx, "export", lambda *_, **__: [])
    recipe = Recipe("FCN_CH2", features=2, cases=CasesSettings("cases"))
    run, package = tmp_path / "run", tmp_path / "package"
    for folder in (run, package / "networks"):
        folder.mkdir(parents=True)
    learner = make_learner(recipe, 0, "cpu")
    shelf = {"stream": {"shelf": [torch.ones(8)]}}
    checkpoint.save(run / "last.pt", checkpoint.Run(recipe), learner, [shelf])
    (file,) = export_onnx.ship(run / "last.pt", "Mine", package)
    assert torch.load(file, weights_only=True).keys() == {"recipe", "position", "weights"}
    assert listed[0].source.startswith("trained on synthetic scans and real cases; see")
    for cases, said in ((recipe.cases, "scans and real cases:"), (CasesSettings(), "scans:")):
        trained = read_weights(file)
        trained = replace(trained, recipe=replace(recipe, cases=cases))
        page = model_card.write(trained, run, model_card.Facts(file, "", 0.0))
        assert f"- Trained on synthetic {said}" in page
        # The runtime parses this line.
        (run / "mine.md").write_text(page)
        assert trained_on(run / "mine.onnx") == f"synthetic {said.removesuffix(':')}"


def test_weights_outside_the_float16_range_are_rejected(tmp_path: Path) -> None:
    network = build("BrainMask", 4)
    with torch.no_grad():
        network.answer.weight.fill_(1e5)  # beyond float16
        network.answer.weight[0, ::2] = -1e5
    write_weights(tmp_path / "weights.pt", Recipe("BrainMask", features=4), Position(), network)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "brain.onnx").write_bytes(b"the good one")
    with pytest.raises(AssetError, match="differs from torch"):
        export_onnx.export(tmp_path / "weights.pt", tmp_path / "out", "brain", overwrite=True)
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [b"the good one"]


@pytest.mark.parametrize(
    "content",
    [
        {"conv.weight": torch.ones(3)},
        {"weights": {}, "recipe": {"network": "Nobody"}, "position": {}},
        [torch.ones(3)],
        torch.ones(3),
    ],
    ids=["state dict", "unknown network", "list", "tensor"],
)
def test_files_without_weights_are_rejected(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(InputFileError):
        export_onnx.export(tmp_path / "weights.pt", tmp_path / "out", "brain")
    assert not (tmp_path / "out").exists()


def test_weights_of_another_network_are_rejected(tmp_path: Path) -> None:
    recipe = Recipe("BrainMask", features=8)
    write_weights(tmp_path / "weights.pt", recipe, Position(), trained("BrainMask", 4))
    with pytest.raises(InputFileError, match="do not match BrainMask"):
        export_onnx.export(tmp_path / "weights.pt", tmp_path / "out", "brain")


def test_an_impossible_output_folder_is_an_error(tmp_path: Path) -> None:
    recipe = Recipe("BrainMask", features=4)
    write_weights(tmp_path / "weights.pt", recipe, Position(), trained("BrainMask"))
    for out, stem in (("weights.pt", "brain"), ("out", "deep/brain")):
        with pytest.raises(OutputError):
            export_onnx.export(tmp_path / "weights.pt", tmp_path / out, stem)


@pytest.mark.parametrize(
    "name", ["DAGMNet_CH3", "DAGMNet_CH3_slices", "FCN_CH2_slices", "BrainMask"]
)
def test_bundled_onnx_file_computes_the_bundled_weights(name: str) -> None:
    trained_weights = read_weights(assets.path(f"networks/{name}.pt"))
    design = DESIGNS[name]
    # A brain network reads whole heads only; a lesion network any size that it can divide.
    sides = design.shape if design.answers == "brain" else (16, 32, 16)
    generator = torch.Generator().manual_seed(4)
    image = 0.3 * torch.randn(1, len(design.channels), *sides, generator=generator)
    block = image[:, :, 6:10, 8:14, 6:10]  # bright on DWI, dark on ADC: probable infarct
    block += torch.tensor([4.0, -2.0, 1.0])[: len(design.channels)].view(1, -1, 1, 1, 1)
    with torch.no_grad():
        expected = Answer(rounded(trained_weights.network()))(image).numpy()
    found = open_network(assets.path(f"networks/{name}"), threads=1).run(image.numpy())
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-3, rtol=0)
