"""Inference with trained networks.

A network is a single ONNX file whose metadata describe its inputs and outputs.

References:
    Liu et al. 2021, Methods, "The dimension of the inputs and predicts", "BrainMask network".
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from infarct.core import assets
from infarct.core.diffusion import Image, Mask
from infarct.core.errors import AssetError
from infarct.core.normalisation import zscore
from infarct.inference import backends
from infarct.inference.backends import Engine
from infarct.inference.subvolumes import PHASES, brain_box, merge, split

METADATA_KEY = "infarct"
"""Metadata key of the contract in an ONNX file, stored as JSON."""

TILE = 48
"""Longest side of a tile without its margin, voxels; affects memory use, not results."""


@dataclass(frozen=True)
class Contract:
    """Description of the inputs and outputs of a network.

    Attributes:
        name: Name of the architecture, e.g. `DAGMNet_CH3`.
        answers: Predicted structure: "lesion" on an interleaved sub-volume of the MNI grid, or
            "brain" on the complete head at 4 mm.
        channels: Names of the input images, in order.
        scaled: Whether each channel is scaled to mean 0 and SD 1: over the brain for a lesion
            network, over the full volume for a brain network.
        divisor: Required divisor of the input axes, or of the axes of a tile without margin.
        margin: Margin of a tile on every side, voxels; None for a network that needs the complete
            brain at once.
        slices: Whether the network takes measured slices instead of sub-volumes.
    """

    name: str
    answers: Literal["lesion", "brain"]
    channels: tuple[str, ...]
    scaled: tuple[bool, ...]
    divisor: int
    margin: int | None = None
    slices: bool = False

    def to_json(self) -> str:
        """Return the contract as JSON, for the metadata of an ONNX file."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Contract:
        """Return the contract stored by `to_json`."""
        fields = json.loads(text)
        for name in ("channels", "scaled"):
            fields[name] = tuple(fields[name])
        return Contract(**fields)


@dataclass(frozen=True, eq=False)
class Network:
    """A loaded network.

    Attributes:
        contract: Inputs and outputs of the network.
        engine: Inference engine.
        sha256: SHA-256 of its file at the time of loading.
    """

    contract: Contract
    engine: Engine
    sha256: str

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities (N, 1, X, Y, Z) for a batch (N, C, X, Y, Z)."""
        return self.engine.run(image)


def open_network(path: Path | str, threads: int | None = None) -> Network:
    """Load a network.

    Args:
        path: The ONNX file.
        threads: Number of threads; see `backends.load`.

    Raises:
        AssetError: If the file cannot be loaded, has no contract, or is being replaced.
    """
    digest = _digest(path)
    engine = backends.load(path, threads)
    if METADATA_KEY not in engine.metadata:
        raise AssetError(
            f"{path}: is not an infarct network (metadata {METADATA_KEY!r} not found); export it "
            "with infarct"
        )
    if _digest(path) != digest:
        raise AssetError(f"{path}: was replaced while it was read; run the command again")
    return Network(Contract.from_json(engine.metadata[METADATA_KEY]), engine, digest)


def network_of(path: Path) -> Network:
    """Load a network once per process, and again if the content of its file has changed.

    Args:
        path: The ONNX file.

    Raises:
        AssetError: As for `open_network`.
    """
    # The engine is part of the key, because a program may change the environment variable.
    return _network_of(_digest(path), os.environ.get(backends.ENGINE, ""), path)


@lru_cache(maxsize=8)
def _network_of(digest: str, _: str, path: Path) -> Network:
    network = open_network(path)
    if network.sha256 != digest:
        raise AssetError(f"{path}: was replaced while it was read; run the command again")
    return network


def _digest(path: Path | str) -> str:
    try:
        return assets.sha256(Path(path))
    except OSError as error:
        raise AssetError(
            f"{path}: cannot be loaded ({error.strerror}); check the path and its permissions"
        ) from error


def load_network(name: str) -> Network:
    """Load a bundled network, once per process.

    Args:
        name: Name of the network, such as `DAGMNet_CH3`.

    Raises:
        AssetError: If there is no such network, or its file is missing or has changed.
    """
    return network_of(assets.path(f"networks/{name}"))


def lesion_probability(network: Network, images: Mapping[str, Image], brain: Mask) -> Image:
    """Compute the probability of acute infarct for each voxel, from 16 interleaved sub-volumes.

    Args:
        network: A network whose `answers` is "lesion".
        images: (192, 224, 192) each: "DWI" and "ADC" normalised to their tissue peaks, "IS" as
            returned by `classical.is_map`. Others are ignored.
        brain: (192, 224, 192) brain mask.

    Returns:
        (192, 224, 192) in 0 - 1, exactly 0 outside the brain.

    Raises:
        AssetError: If the network does not predict lesions, or takes measured slices.
    """
    contract = expect_answer(network, "lesion")
    if contract.slices:
        raise AssetError(
            f"{contract.name} takes measured slices, not interleaved sub-volumes; run it with "
            "`infarct.segmentation.measured_slices.lesion_probability`"
        )
    channels = [split(images[name]) for name in contract.channels]
    brains = split(brain)
    answers = []
    for k in range(len(PHASES)):
        planes = [
            zscore(channel[k], brains[k]) if scaled and brains[k].any() else channel[k] * brains[k]
            for channel, scaled in zip(channels, contract.scaled, strict=True)
        ]
        answers.append(run_part(network, np.stack(planes)[None], brains[k]))
    probability = merge(np.stack(answers))
    return np.where(brain, probability, 0.0).astype(np.float32)


def stretch(
    values: NDArray[np.float32], axis: int, step: int, offset: float
) -> NDArray[np.float32]:
    """Interpolate linearly along one axis between samples that are `step` voxels apart.

    Args:
        values: Samples; sample n is located at voxel `offset + n * step`.
        axis: Axis to interpolate along.
        step: Distance between two samples, voxels.
        offset: Voxel of the first sample.

    Returns:
        `step` times as many values along `axis`; constant beyond the outer samples.
    """
    count = values.shape[axis]
    at = np.clip((np.arange(count * step) - offset) / step, 0, count - 1)
    low = np.minimum(at.astype(int), max(count - 2, 0))
    shape = [1] * values.ndim
    shape[axis] = -1
    share = (at - low).astype(np.float32).reshape(shape)
    below, above = values.take(low, axis), values.take(np.minimum(low + 1, count - 1), axis)
    stretched: NDArray[np.float32] = below + share * (above - below)
    return stretched


def run_part(network: Network, image: NDArray[np.float32], brain: Mask) -> NDArray[np.float32]:
    """Run a network on the bounding box of the brain in a sub-volume, at once or in tiles.

    Args:
        network: Network to run.
        image: (1, C, X, Y, Z) input.
        brain: (X, Y, Z) brain mask; voxels outside its bounding box are not computed.

    Returns:
        (X, Y, Z) probability, 0 outside the box.
    """
    margin = network.contract.margin
    answer = np.zeros(brain.shape, dtype=np.float32)
    if margin is None:
        box = brain_box(brain, network.contract.divisor)
        answer[box] = network.run(np.ascontiguousarray(image[:, :, *box]))[0, 0]
        return answer
    # Padded by one more divisor at the far end, because the last tile may exceed the volume.
    far = margin + network.contract.divisor
    padded = np.pad(image, [(0, 0), (0, 0), *[(margin, far)] * 3])
    for start, stop in tiles(brain, network.contract.divisor):
        reach = tuple(slice(a, b + 2 * margin) for a, b in zip(start, stop, strict=True))
        tile = network.run(np.ascontiguousarray(padded[:, :, *reach]))[0, 0]
        inside = tuple(
            slice(a, min(b, n)) for a, b, n in zip(start, stop, brain.shape, strict=True)
        )
        answer[inside] = tile[tuple(slice(0, s.stop - s.start) for s in inside)]
    return answer


Corner = tuple[int, ...]


def tiles(brain: Mask, divisor: int) -> Iterator[tuple[Corner, Corner]]:
    """Cover the bounding box of the brain with tiles.

    Args:
        brain: (X, Y, Z) brain mask.
        divisor: Required divisor of the sides of every tile.

    Yields:
        First voxel, and end voxel (exclusive), which may exceed the volume by less than `divisor`.
    """
    if not brain.any():
        return
    longest = TILE // divisor * divisor
    sides = []
    for box in ndimage.find_objects(brain.astype(np.uint8))[0]:
        # Aligned to multiples of `divisor`, so that pooling blocks do not depend on the brain.
        starts = range(box.start // divisor * divisor, box.stop, longest)
        sides.append(
            [(a, a + min(longest, -((a - box.stop) // divisor) * divisor)) for a in starts]
        )
    for corners in product(*sides):
        yield tuple(a for a, _ in corners), tuple(b for _, b in corners)


def expect_answer(network: Network, answers: str) -> Contract:
    """Return the contract of a network after checking what it predicts.

    Args:
        network: Network to check.
        answers: Required prediction, "lesion" or "brain".

    Raises:
        AssetError: If the network predicts something else.
    """
    if network.contract.answers != answers:
        raise AssetError(
            f"{network.contract.name} segments the {network.contract.answers}; "
            f"give a network that segments the {answers}"
        )
    return network.contract
