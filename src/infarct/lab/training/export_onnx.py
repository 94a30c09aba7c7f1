"""Exports weights as an ONNX file with its SHA-256 and a model card."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Mapping
from copy import deepcopy
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from infarct.core import assets
from infarct.core.atomic_write import atomic_file
from infarct.core.errors import AssetError, OutputError
from infarct.inference.network import METADATA_KEY, Contract, open_network
from infarct.lab.networks import DESIGNS, Design
from infarct.lab.networks.deepmedic import DeepMedic
from infarct.lab.training import model_card
from infarct.lab.training.checkpoint import Weights, read_weights, write_weights
from infarct.lab.training.log import draw_curve

OPSET = 20
"""Version of the ONNX operator set; supported by onnxruntime since 1.17."""

_RAW = {"IS", "spacing"}
"""Channels that are not scaled; all others are scaled to mean 0 and SD 1."""


TOLERANCE = 1e-3
"""Largest difference in probability that rounding the weights may cause."""


def export(
    weights: Path,
    out: Path,
    stem: str,
    *,
    licence: str = model_card.UNDECIDED,
    overwrite: bool = False,
) -> list[Path]:
    """Export a network as ONNX, check it against torch, and write its model card.

    Args:
        weights: `weights.pt`, `best.pt` or `last.pt` of a run; log and data description are read
            from the same folder.
        out: Output folder.
        stem: Name of the files.
        licence: Licence of the network, for the model card.
        overwrite: Whether to replace an existing network.

    Returns:
        The ONNX file, the model card and, if there is a log, the curve.

    Raises:
        AssetError: If the outputs of onnxruntime and torch differ by more than `TOLERANCE`; an
            existing network is then kept.
        InputFileError: If the weights file is invalid.
        OutputError: If the folder cannot be created, the name contains a folder, or the network
            exists.
    """
    trained = read_weights(weights)
    network = trained.network()
    if Path(stem).name != stem:
        raise OutputError(f"{stem!r} is not a file name; give the folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot create the folder ({error})") from error
    path = out / f"{stem}.onnx"
    there = [
        file.name for end in ("onnx", "md", "png", "pt") if (file := out / f"{stem}.{end}").exists()
    ]
    if there and not overwrite:
        raise OutputError(
            f"{out} already contains {', '.join(there)}; choose another --name or add --overwrite"
        )
    with atomic_file(path) as draft:
        onnx.save(to_onnx(network, trained.recipe.network), draft, "protobuf")
        difference = largest_difference(trained, draft)
        if not difference <= TOLERANCE:  # NaN (weights beyond float16) also fails
            raise AssetError(
                f"the exported network differs from torch by {difference:.1e} (limit {TOLERANCE}); "
                "its weights exceed the range of float16. Train with rate.weight_decay"
            )
    written = [path]
    run = weights.parent
    if (run / "log.csv").is_file():
        draw_curve(run / "log.csv", out / f"{stem}.png")
        written.append(out / f"{stem}.png")
    facts = model_card.Facts(path, assets.sha256(path), difference, licence)
    with atomic_file(out / f"{stem}.md") as draft:
        draft.write_text(model_card.write(trained, run, facts), encoding="utf-8")
    return [*written, out / f"{stem}.md"]


def ship(
    weights: Path,
    stem: str,
    out: Path = assets.ROOT,
    *,
    start: bool = True,
    overwrite: bool = False,
) -> list[Path]:
    """Export a network into the package.

    Args:
        weights: As for `export`.
        stem: Name of the network in the runtime, such as `DAGMNet_CH3`.
        out: Data folder of the package.
        start: Whether to ship the weights for fine-tuning as well.
        overwrite: Whether to replace an existing network.

    Returns:
        The files, which are all registered in `assets.json`.
    """
    files = export(weights, out / "networks", stem, licence=model_card.LICENCE, overwrite=overwrite)
    trained = read_weights(weights)
    recipe = trained.recipe
    if start:
        # Not a copy of the file: a checkpoint also contains training scans.
        file = out / "networks" / f"{stem}.pt"
        public = model_card.without_folders(recipe)
        files += write_weights(file, public, trained.position, trained.network(), whole=True)
    scans = model_card.learned_from(recipe)
    if not recipe.cases.folder:
        scans += ", no patient scans"
    for file in files:
        name = f"networks/{stem}" if file.suffix == ".onnx" else f"networks/{file.name}"
        source = f"trained on {scans}; see the model card {stem}.md"
        where = file.relative_to(out).as_posix()
        assets.register_asset(
            assets.Asset(name, where, assets.sha256(file), model_card.LICENCE, source)
        )
    return files


def largest_difference(trained: Weights, path: Path) -> float:
    """Return the largest difference in probability between an ONNX file and torch.

    Args:
        trained: Float32 weights.
        path: The ONNX file.
    """
    network = open_network(path)
    design = DESIGNS[trained.recipe.network]
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, len(design.channels), *input_shape(design), generator=generator)
    with torch.no_grad():
        expected = Answer(trained.network()).eval()(image).numpy()
    return float(np.abs(network.run(image.numpy()) - expected).max())


class Answer(nn.Module):
    """The network as exported: one probability map, no side outputs.

    Args:
        network: In evaluation mode.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return probabilities (N, 1, X, Y, Z); for DeepMedic, of the tile without its margin."""
        if isinstance(self.network, DeepMedic):
            return torch.sigmoid(self.network.answer_tile(image))
        return torch.sigmoid(self.network(image)[0])


def fold(network: nn.Module) -> tuple[nn.Module, dict[str, Tensor]]:
    """Fold batch normalisations into the preceding convolutions.

    Args:
        network: In evaluation mode.

    Returns:
        A folded copy, and the factors of the output channels of each kernel, by kernel name.
    """
    folded = deepcopy(network).eval()
    scales = {}
    for name, block in folded.named_modules():
        if isinstance(block, nn.SELU):
            block.inplace = False  # otherwise exported as two operators
        if isinstance(block, nn.Sequential):
            for k, (first, second) in enumerate(pairwise(block)):
                if isinstance(first, nn.Conv3d) and isinstance(second, nn.BatchNorm3d):
                    spread = (second.get_buffer("running_var") + second.eps).sqrt()
                    scales[f"{name}.{k}.weight"] = (second.weight / spread).detach()
                    block[k] = fuse_conv_bn_eval(first, second)
                    block[k + 1] = nn.Identity()
    return folded, scales


def contract_of(name: str) -> Contract:
    """Return the contract of a design: what the runtime needs to know about its inputs."""
    design = DESIGNS[name]
    return Contract(
        name=name,
        answers=design.answers,
        channels=design.channels,
        scaled=tuple(channel not in _RAW for channel in design.channels),
        divisor=design.divisor,
        margin=design.margin,
        slices=design.slices,
    )


def input_shape(design: Design) -> tuple[int, int, int]:
    """Return the input shape (voxels, including margins) used for tracing the network."""
    x, y, z = design.shape
    if design.margin is None:
        return (x, y, z)
    side = 2 * design.margin + 4 * design.divisor
    return (side, side, side)


def to_onnx(network: nn.Module, name: str, half: bool = True) -> onnx.ModelProto:
    """Convert a network to ONNX.

    Args:
        network: Network with its weights.
        name: Key of its design.
        half: Whether to store weights as float16. They are converted to float32 when the network is
            loaded; all arithmetic stays float32.

    Returns:
        The model with its contract as metadata. The batch size is 1. The sides of the input are
        free, except for a brain network.
    """
    design = DESIGNS[name]
    image = torch.zeros(1, len(design.channels), *input_shape(design))
    folded, scales = fold(network)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / "network.onnx"
        # The exporter emits deprecation warnings and complains about a missing torchvision.
        warnings.simplefilter("ignore", FutureWarning)
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            Answer(folded).eval(),
            (image,),
            path,
            input_names=["image"],
            output_names=["probability"],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        model = onnx.load(path)
    strip(model)
    if design.answers == "lesion":
        free_sides(model)
    if half:
        halve(model, scales)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, contract_of(name).to_json()
    onnx.checker.check_model(model)
    return model


def halve(model: onnx.ModelProto, scales: Mapping[str, Tensor]) -> None:
    """Store kernels as float16, followed by a cast to float32; changes the model in place.

    Exact for the weights of `checkpoint.rounded`: a kernel with a folded normalisation is stored
    unscaled, and scaled when the file is loaded.

    Args:
        model: Model with float32 kernels.
        scales: Factors of the kernels, from `fold`.
    """
    widen = []
    for tensor in list(model.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        name, half = tensor.name, f"{tensor.name}_half"
        kernel = numpy_helper.to_array(tensor)
        cast = helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT)
        widen.append(cast)
        scale = scales.get(name.removeprefix("network."))
        if scale is not None:
            factor = scale.numpy().reshape(-1, *[1] * (kernel.ndim - 1))
            kernel = kernel / np.where(factor == 0, 1, factor)
            cast.output[0] = f"{name}_trained"
            model.graph.initializer.append(numpy_helper.from_array(factor, f"{name}_scale"))
            inputs = [cast.output[0], f"{name}_scale"]
            widen.append(helper.make_node("Mul", inputs, [name]))
        tensor.CopyFrom(numpy_helper.from_array(kernel.astype(np.float16), half))
    nodes = [*widen, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def free_sides(model: onnx.ModelProto) -> None:
    """Make the sides of the input and output symbolic; changes the model in place.

    The network is traced at one fixed size, because symbolic tracing takes ten times as long. Tests
    with boxes and tiles of other sizes check that the result does not depend on the traced size.
    """
    for value in (*model.graph.input, *model.graph.output):
        for axis, dim in zip("xyz", value.type.tensor_type.shape.dim[2:], strict=True):
            dim.dim_param = f"{value.name}_{axis}"


def strip(model: onnx.ModelProto) -> None:
    """Remove traces of this machine from the model: source lines, paths and value shapes."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    model.doc_string = ""
    for part in (*model.graph.node, *model.graph.initializer, *model.functions):
        part.doc_string = ""
        del part.metadata_props[:]
