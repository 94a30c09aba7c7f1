"""Runs trained networks on scans.

A network is one ONNX file that says itself what it reads and answers, so that nothing about it has
to be guessed here.

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
from infarct.inference.subvolumes import PHASES, STRIDE, brain_box, merge, split

METADATA_KEY = "infarct"
"""Under which an ONNX file keeps its contract, as JSON."""

TILE = 48
"""Longest side of a tile without its margin, voxels; decides memory, not results."""

Phases = Literal[1, 4, 16]


@dataclass(frozen=True)
class Contract:
    """What a network reads and answers.

    Attributes:
        name: Of its design, e.g. `DAGMNet_CH3`.
        answers: "lesion" on an interleaved sub-volume of the MNI grid, or "brain" on the whole head
            at 4 mm.
        channels: Its images, in order.
        scaled: For each channel whether it is scaled to mean 0 and SD 1: over the brain for a
            lesion network, over the whole volume for a brain network.
        divisor: What the axes of its input, or of its tiles without margin, are divisible by.
        margin: Voxels a tile brings on every side beyond those it is asked about; None for a
            network that must see the whole brain at once.
    """

    name: str
    answers: Literal["lesion", "brain"]
    channels: tuple[str, ...]
    scaled: tuple[bool, ...]
    divisor: int
    margin: int | None = None
    slices: bool = False

    def to_json(self) -> str:
        """Return what goes into the ONNX file."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Contract:
        """Read it back."""
        fields = json.loads(text)
        for name in ("channels", "scaled"):
            fields[name] = tuple(fields[name])
        return Contract(**fields)


@dataclass(frozen=True, eq=False)
class Network:
    """A network, loaded.

    Attributes:
        contract: What it reads and answers.
        engine: Computes it.
        sha256: Of its file, as it was loaded.
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
        threads: How many cores it may use; see `backends.load`.

    Raises:
        AssetError: If it cannot be loaded, does not say what it reads, or is being replaced.
    """
    digest = _digest(path)
    engine = backends.load(path, threads)
    if METADATA_KEY not in engine.metadata:
        raise AssetError(f"{path}: is ONNX but not one of our networks; export it again")
    if _digest(path) != digest:
        raise AssetError(f"{path}: was replaced while it was read; run the command again")
    return Network(Contract.from_json(engine.metadata[METADATA_KEY]), engine, digest)


def network_of(path: Path) -> Network:
    """Load a network once for all scans of a process, and again if its file has other content.

    Args:
        path: The ONNX file.

    Raises:
        AssetError: As for `open_network`.
    """
    # The engine is part of the key: it is chosen by the environment, which a program may change.
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
        raise AssetError(f"{path}: cannot be loaded ({error.strerror})") from error


def load_network(name: str) -> Network:
    """Load a network that ships with the package, once for all scans of a process.

    Args:
        name: As in its file name, such as `DAGMNet_CH3`.

    Raises:
        AssetError: If there is none, or its file is not the one that was shipped.
    """
    return network_of(assets.path(f"networks/{name}"))


def lesion_probability(
    network: Network, images: Mapping[str, Image], brain: Mask, phases: Phases = 16
) -> Image:
    """Map how likely each voxel is acute infarct.

    Args:
        network: Answers "lesion".
        images: (192, 224, 192) each: "DWI" and "ADC" normalised to their tissue peaks, "IS" as
            `classical.is_map` returns it. Others are ignored.
        brain: Same shape.
        phases: How many of the 16 interleaved sub-volumes are read. 16 as in the paper; 4 reads
            every column but each fourth slice of 1 mm, 1 every fourth voxel of those; what lies
            between is interpolated. What 4 lose: docs/decisions/export.md.

    Returns:
        (192, 224, 192) in 0 - 1, exactly 0 outside the brain.

    Raises:
        AssetError: If the network answers something else.
    """
    contract = expect_answer(network, "lesion")
    chosen = {16: PHASES, 4: _MIDDLE, 1: _MIDDLE[:1]}[phases]
    parts = {phase: k for k, phase in enumerate(PHASES)}
    channels = [split(images[name]) for name in contract.channels]
    brains = split(brain)
    answers = []
    for phase in chosen:
        k = parts[phase]
        planes = [
            zscore(channel[k], brains[k]) if scaled and brains[k].any() else channel[k] * brains[k]
            for channel, scaled in zip(channels, contract.scaled, strict=True)
        ]
        answers.append(run_part(network, np.stack(planes)[None], brains[k]))
    probability = _merge(np.stack(answers), phases)
    return np.where(brain, probability, 0.0).astype(np.float32)


_MIDDLE = tuple((i, j, 2) for i, j in product(range(STRIDE[0]), range(STRIDE[1])))
"""The four sub-volumes of the slices nearest to the middle of each stride of 4."""


def _merge(answers: NDArray[np.float32], phases: Phases) -> NDArray[np.float32]:
    """Put the answers of some sub-volumes back on the 1 mm grid."""
    if phases == 16:
        return merge(answers)
    x, y, z = answers.shape[1:]
    di, dj, dk = STRIDE
    if phases == 1:
        volume = stretch(stretch(answers[0], 0, di, 0.0), 1, dj, 0.0)
    else:
        volume = np.empty((x * di, y * dj, z), dtype=np.float32)
        for (i, j, _), answer in zip(_MIDDLE, answers, strict=True):
            volume[i::di, j::dj] = answer
    return stretch(volume, 2, dk, float(_MIDDLE[0][2]))


def stretch(
    values: NDArray[np.float32], axis: int, step: int, offset: float
) -> NDArray[np.float32]:
    """Interpolate linearly along one axis of samples that lie `step` voxels apart.

    Args:
        values: Sample n lies at voxel `offset + n * step`.
        axis: Which.
        step: Voxels between two samples.
        offset: Voxel of the first sample.

    Returns:
        `step` times as many values along `axis`; beyond the outer samples, theirs.
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
    """Run one sub-volume: the brain's box, at once or in tiles.

    Args:
        network: To run.
        image: (1, C, X, Y, Z).
        brain: (X, Y, Z); nothing is asked about voxels outside its box.

    Returns:
        (X, Y, Z), 0 beyond the box.
    """
    margin = network.contract.margin
    answer = np.zeros(brain.shape, dtype=np.float32)
    if margin is None:
        box = brain_box(brain, network.contract.divisor)
        answer[box] = network.run(np.ascontiguousarray(image[:, :, *box]))[0, 0]
        return answer
    # One divisor more at the far end: the last tile may have to be longer than what is left.
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
    """Cover the brain's box with tiles.

    Args:
        brain: (X, Y, Z).
        divisor: Of the sides of every tile.

    Yields:
        First voxel and the one beyond the last; the latter may lie beyond the volume by less than
        `divisor`.
    """
    if not brain.any():
        return
    longest = TILE // divisor * divisor
    sides = []
    for box in ndimage.find_objects(brain.astype(np.uint8))[0]:
        # From the same raster whatever the brain: a coarse path pools blocks of `divisor` voxels.
        starts = range(box.start // divisor * divisor, box.stop, longest)
        sides.append(
            [(a, a + min(longest, -((a - box.stop) // divisor) * divisor)) for a in starts]
        )
    for corners in product(*sides):
        yield tuple(a for a, _ in corners), tuple(b for _, b in corners)


def expect_answer(network: Network, answers: str) -> Contract:
    """Return what a network reads, if it answers what is wanted.

    Args:
        network: Any.
        answers: "lesion" or "brain".

    Raises:
        AssetError: If it answers something else.
    """
    if network.contract.answers != answers:
        raise AssetError(
            f"{network.contract.name} finds the {network.contract.answers}; "
            f"a network that finds the {answers} is needed"
        )
    if network.contract.slices:
        raise AssetError(
            f"{network.contract.name} reads measured slices, which `infarct segment` does not "
            "provide yet; use a network for interleaved sub-volumes"
        )
    return network.contract
