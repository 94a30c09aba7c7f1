"""The methods that tell lesion from brain, by name: networks, ensembles of them, classical maps."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from infarct.core import assets
from infarct.core.diffusion import Image
from infarct.core.errors import AssetError
from infarct.core.file_search import matching
from infarct.inference import backends
from infarct.inference.network import Phases, lesion_probability, network_of
from infarct.preprocessing.preprocess import Prepared
from infarct.segmentation.classical import t_score_mask
from infarct.segmentation.controls import load_healthy
from infarct.uncertainty.candidate_filter import CandidateFilter, find_filter

MODELS_FOLDER = "INFARCT_MODELS"
"""Environment variable: a folder of more networks, for whoever trains their own."""

FAST = "fast"
"""Stands where an operating point does: a network reads a quarter of the sub-volumes."""

BRIEF = "-brief"
"""Ends the name of a network that learned for minutes, like all of its kind, to compare designs."""

NETWORK = "dagmnet-ch3"
"""The network of the paper; the others are compared with it."""

ENSEMBLE = "ensemble"
ENSEMBLE_OF = {NETWORK: 0.6, "fcn-ch2": 0.4}
"""Networks whose weighted mean `ensemble` is: unlike each other in design and in what they read.
The first has the majority: what it alone is sure of is still outlined, and judged by both."""

BRAIN_NETWORK = "BrainMask"


Predictor = Callable[[Prepared, Image], Image]
"""Maps a prepared scan and its IS map to (192, 224, 192) values in 0 - 1. Two methods that one
network takes part in have the same reader, so that it need be asked but once."""


@dataclass(frozen=True)
class Model:
    """A method that outlines lesions.

    Attributes:
        name: As given to `--model`, the operating point included.
        title: For people.
        networks: ONNX files that answer; none for a classical method. The c-fuzzy map reads the
            scan beside a network.
        threshold: A voxel whose probability exceeds it is lesion.
        caution: What a reader of its outlines should know.
        readers: Whose weighted mean it is: each network, or the classical method itself.
        weights: Of the readers; they add up to 1.
        candidate_filter: Says how sure its outlines are; None of a method that was never
            calibrated.
        networks_sha256: Of the files, by name; the readers refuse others.
    """

    name: str
    title: str
    networks: tuple[Path, ...]
    threshold: float
    caution: str
    readers: tuple[Predictor, ...]
    weights: tuple[float, ...] = (1.0,)
    candidate_filter: CandidateFilter | None = None
    networks_sha256: Mapping[str, str] = field(default_factory=dict)


@lru_cache(maxsize=32)
def _predictor(network: Path, digest: str, phases: Phases) -> Predictor:
    """Return who asks a network; the same one for the same network."""
    return partial(_ask, network, digest, phases)


def _ask(file: Path, digest: str, phases: Phases, scan: Prepared, is_map: Image) -> Image:
    network = network_of(file)
    if network.sha256 != digest:
        # The calibration and the manifest speak of what was there when the run began.
        raise AssetError(f"{file}: was replaced during the run; run the command again")
    images = {"DWI": scan.dwi_normalised, "ADC": scan.adc_normalised, "IS": is_map}
    return lesion_probability(network, images, scan.brain, phases)


def _cfuzzy(_: Prepared, is_map: Image) -> Image:
    return is_map


def _tscore(scan: Prepared, _: Image) -> Image:
    mask = t_score_mask(scan.dwi_normalised, scan.adc_normalised, scan.brain, load_healthy())
    return mask.astype(np.float32)


_NETWORK = (
    "{training}: infarcts that are faint or below 1 ml can be "
    "missed, and bright artefacts outlined; confirm every outline by eye"
)
_TRAINED_ON = re.compile(r"^- Trained on (.+?):", re.MULTILINE)
"""How a model card says what a network was trained on."""

_RETRAINED = (
    "it was calibrated with other networks than these, and that no longer holds: "
    "`infarct lab calibrate` learns it anew"
)
_FAST = (
    "one in four slices of 1 mm was read and the others interpolated, so small infarcts are "
    "outlined less exactly than without `fast`, or left out; how sure it is was learned without it"
)
_BRIEFLY = (
    "a network that learned for minutes only, to compare designs, took part: by itself it is far "
    f"behind `{NETWORK}`"
)
_CLASSICAL = (
    "this method compares intensities only: bright artefacts at the skull base and the cortex are "
    "often outlined too, and small or faint infarcts missed; confirm every outline by eye"
)

_CLASSICAL_METHODS = {
    method.name: method
    for method in (
        Model("cfuzzy", "modified c-fuzzy map (no weights)", (), 0.5, _CLASSICAL, (_cfuzzy,)),
        Model(
            "tscore", "t-score against healthy brains (no weights)", (), 0.5, _CLASSICAL, (_tscore,)
        ),
    )
}

DEFAULT = ENSEMBLE


def lesion_networks() -> dict[str, Path]:
    """Return the ONNX file of every lesion network, by the name `--model` knows it by.

    Those that ship, and those in the folder that `INFARCT_MODELS` names. The name is that of the
    file in small letters, with `-` for `_`.

    Raises:
        AssetError: If a network in the folder has the name of one that ships.
    """
    shipped = {
        Path(asset.file).stem: assets.ROOT / asset.file
        for asset in assets.index().values()
        if asset.file.endswith(".onnx") and Path(asset.file).stem != BRAIN_NETWORK
    }
    own = {file.stem: file for file in _own_files()}
    named = {_spoken(stem): file for stem, file in shipped.items()}
    for stem, file in own.items():
        if _spoken(stem) in {*named, *_CLASSICAL_METHODS, ENSEMBLE}:
            raise AssetError(f"{file}: {_spoken(stem)} is the name of a method that ships; rename")
        named[_spoken(stem)] = file
    return named


def model_names() -> list[str]:
    """Return the name of every method there is, the usual one first, those for comparison last."""
    others = lesion_networks()
    brief = [name for name, file in others.items() if _is_brief(file)]
    rest = [name for name in others if name not in {NETWORK, *brief}]
    return [ENSEMBLE, NETWORK, *rest, *_CLASSICAL_METHODS, *brief]


def get_model(name: str) -> Model:
    """Return the method of that name.

    Args:
        name: One of `model_names()`, or several networks with commas between them: their mean.
            An operating point may follow after a colon, and so may `fast`, as in
            `ensemble:sensitive:fast`.

    Raises:
        AssetError: If there is none.
    """
    method, *manner = name.split(":")
    backends.check_settings()
    # The method first: where it does not exist, what follows it is not the mistake.
    members = {} if method in _CLASSICAL_METHODS else _members_of(method)
    points = [word for word in manner if word != FAST]
    if len(points) > 1 or len(set(manner)) < len(manner):
        raise AssetError(f"{name!r}: one operating point and {FAST!r} may follow, each once")
    point = points[0] if points else ""
    fast = FAST in manner
    candidate_filter = find_filter(method, point, own_folder())
    if method in _CLASSICAL_METHODS:
        if fast:
            raise AssetError(
                f"{method} is no network, and {FAST!r} applies only to those; leave it out"
            )
        return _CLASSICAL_METHODS[method]
    files = tuple(_checked(file) for file in members)
    digests = tuple(map(assets.sha256, files))
    cautions = [_NETWORK.format(training=_training(files))]
    if candidate_filter and candidate_filter.calibration.networks != digests:
        if point:
            raise AssetError(f"{method} has no operating point {point!r}; {_RETRAINED}")
        candidate_filter = None
        cautions.insert(0, _RETRAINED)
    if any(_is_brief(file) for file in files):
        cautions.insert(0, _BRIEFLY)
    if fast:
        cautions.insert(0, _FAST)
    return Model(
        name=name,
        title=_title_of(members),
        networks=files,
        threshold=0.5,
        caution="; ".join(cautions),
        readers=tuple(
            _predictor(file, digest, 4 if fast else 16)
            for file, digest in zip(files, digests, strict=True)
        ),
        weights=tuple(members.values()),
        candidate_filter=candidate_filter,
        networks_sha256=dict(zip((file.name for file in files), digests, strict=True)),
    )


def trained_on(network: Path) -> str:
    """Return what scans a network was trained on, as its model card says; empty if none says.

    Args:
        network: The ONNX file; the card lies beside it.
    """
    card = network.with_suffix(".md")
    if not card.is_file():
        return ""
    found = _TRAINED_ON.search(card.read_text(encoding="utf-8", errors="replace"))
    return found[1] if found else ""


def _training(networks: Sequence[Path]) -> str:
    scans = {network.stem: trained_on(network) for network in networks}
    if len(set(scans.values())) == 1:
        (one,) = set(scans.values())
        return f"trained on {one}" if one else "no model card says what scans it was trained on"
    said = (f"{stem} on {one or 'scans that no card names'}" for stem, one in scans.items())
    return f"trained on different scans ({', '.join(said)})"


def _members_of(method: str) -> dict[Path, float]:
    """Return the networks a name stands for, each with its weight in their mean."""
    networks = lesion_networks()
    names = method.split(",")
    if method == ENSEMBLE:
        return {networks[name]: weight for name, weight in ENSEMBLE_OF.items()}
    for name in names:
        known = model_names()
        if name not in known:
            raise AssetError(f"there is no model called {name!r}; there are: {', '.join(known)}")
        if name not in networks:
            raise AssetError(
                f"{name} is not a network, and only those are averaged: {', '.join(networks)}"
            )
        if names.count(name) > 1:
            raise AssetError(f"{name} is named twice; networks to average: {', '.join(networks)}")
    return {networks[name]: 1 / len(names) for name in names}


def _title_of(members: Mapping[Path, float]) -> str:
    """Say which networks a method asks, and with what weights if they differ."""
    if len(members) == 1:
        (file,) = members
        brief = ", trained for minutes, to compare designs only" if _is_brief(file) else ""
        return f"{file.stem}, a network{brief}"
    if len(set(members.values())) == 1:
        return f"the mean of {' and '.join(file.stem for file in members)}"
    shares = (f"{share:.0%} {file.stem}" for file, share in members.items())
    return f"the weighted mean of {' and '.join(shares)}"


def _spoken(stem: str) -> str:
    return stem.lower().replace("_", "-")


def _is_brief(file: Path) -> bool:
    return file.is_relative_to(assets.ROOT) and _spoken(file.stem).endswith(BRIEF)


def own_folder() -> Path | None:
    """Return the folder of one's own networks and their calibrations, if there is one.

    Raises:
        AssetError: If `INFARCT_MODELS` names what is no folder.
    """
    folder = os.environ.get(MODELS_FOLDER)
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise AssetError(f"{MODELS_FOLDER} names {folder}, which is no folder; correct or unset it")
    return Path(folder)


def _own_files() -> list[Path]:
    folder = own_folder()
    return matching(folder, "*.onnx") if folder else []


def _checked(file: Path) -> Path:
    """Return the path of a network; of one that ships, after its content was checked."""
    return assets.path(f"networks/{file.stem}") if file.is_relative_to(assets.ROOT) else file
