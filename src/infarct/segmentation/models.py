"""Segmentation methods by name: networks, ensembles of networks, and classical methods."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np

from infarct.core import assets
from infarct.core.errors import AssetError
from infarct.core.file_search import matching
from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume
from infarct.inference import backends
from infarct.inference.network import expect_answer, lesion_probability, network_of
from infarct.segmentation import measured_slices
from infarct.segmentation.classical import t_score_mask
from infarct.segmentation.controls import load_healthy
from infarct.segmentation.inputs import MethodInputs
from infarct.segmentation.postprocess import AS_IN_THE_PAPER, Cleaning
from infarct.uncertainty.candidate_filter import CandidateFilter, find_filter

MODELS_FOLDER = "INFARCT_MODELS"
"""Environment variable with a folder of additional networks, such as fine-tuned ones."""

BRIEF = "-brief"
"""Name suffix of networks that were trained for only minutes, to compare designs."""

NETWORK = "dagmnet-ch3"
"""The network of the paper, on 16 interleaved sub-volumes, and the reference for the others."""

ENSEMBLE = "ensemble"
ENSEMBLE_OF = {"dagmnet-ch3-slices": 0.6, "fcn-ch2-slices": 0.4}
"""Networks of `ensemble` with their weights. They read the measured slices and differ in
architecture and input channels. The first has the majority, so that lesions with a high probability
in this network alone are kept."""

BRAIN_NETWORK = "BrainMask"


Predictor = Callable[[MethodInputs], Volume]
"""Maps the inputs of a scan to probabilities, 0 - 1, in MNI space: on the measured slices for
networks that read them, otherwise on the 1 mm MNI grid. Methods that share a network share its
predictor, so that the network runs only once."""

THRESHOLD = 0.5

SLICES_THRESHOLD = 0.4
SLICES_CLEANING = Cleaning(closing=False, smallest_pixels=1, smallest_mm3=4.0)
"""Mask of networks for measured slices, chosen on validation scans; see
docs/explanation/decisions/0026-measured-slices.md."""


@dataclass(frozen=True)
class Model:
    """A segmentation method.

    Attributes:
        name: Name as given to `--model`, including the operating point.
        title: Human-readable description.
        networks: ONNX files; empty for classical methods. For networks, the c-fuzzy map serves as
            second method.
        caution: Known limitations, reported as a note.
        predictors: Predictors that are averaged: one per network, or the classical method.
        weights: Weights of the predictors; their sum is 1.
        candidate_filter: Candidate filter with calibrated confidence; None if the method is not
            calibrated.
        networks_sha256: SHA-256 of each network file, by name; other contents are rejected.
    """

    name: str
    title: str
    networks: tuple[Path, ...]
    caution: str
    predictors: tuple[Predictor, ...]
    weights: tuple[float, ...] = (1.0,)
    candidate_filter: CandidateFilter | None = None
    networks_sha256: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def on_slices(self) -> bool:
        """Whether all its networks read the measured slices."""
        # Read from the files, so that networks with any name work.
        return bool(self.networks) and all(
            network_of(file).contract.slices for file in self.networks
        )

    @property
    def threshold(self) -> float:
        """Voxels with a higher probability are lesion."""
        return SLICES_THRESHOLD if self.on_slices else THRESHOLD

    @property
    def cleaning(self) -> Cleaning:
        """How the thresholded mask is cleaned."""
        return SLICES_CLEANING if self.on_slices else AS_IN_THE_PAPER


@lru_cache(maxsize=32)
def _predictor(network: Path, digest: str) -> Predictor:
    """Return the predictor of a network; the same object for the same network."""
    return partial(_run_network, network, digest)


def _run_network(file: Path, digest: str, inputs: MethodInputs) -> Volume:
    network = network_of(file)
    if network.sha256 != digest:
        # Calibration and manifest describe the file that was present at the start of the run.
        raise AssetError(f"{file} was replaced during the run; run the command again")
    if expect_answer(network, "lesion").slices:
        return measured_slices.lesion_probability(network, inputs.slices)
    scan = inputs.prepared
    images = {"DWI": scan.dwi_normalised, "ADC": scan.adc_normalised, "IS": inputs.is_map_mni}
    return Volume(lesion_probability(network, images, scan.brain), MNI_GRID.affine)


def _cfuzzy(inputs: MethodInputs) -> Volume:
    return inputs.is_map(on_slices=False)


def _tscore(inputs: MethodInputs) -> Volume:
    scan = inputs.prepared
    mask = t_score_mask(scan.dwi_normalised, scan.adc_normalised, scan.brain, load_healthy())
    return Volume(mask.astype(np.float32), MNI_GRID.affine)


_NETWORK = (
    "{training}: faint infarcts and infarcts below 1 ml can be missed, and bright artefacts can be "
    "segmented; review every lesion visually"
)
_TRAINED_ON = re.compile(r"^- Trained on (.+?):", re.MULTILINE)
"""Line of a model card that names the training data."""

_RETRAINED = (
    "the calibration does not match these weights; run `infarct lab calibrate` to recalibrate"
)
_BRIEFLY_TRAINED = (
    "one of the networks was trained for only minutes, to compare designs; on its own it is far "
    f"less accurate than `{NETWORK}`"
)
_CLASSICAL = (
    "this method compares intensities only: it often segments bright artefacts at the skull base "
    "and the cortex, and misses small or faint infarcts; review every lesion visually"
)

_CLASSICAL_METHODS = {
    method.name: method
    for method in (
        Model("cfuzzy", "modified c-fuzzy map (no weights)", (), _CLASSICAL, (_cfuzzy,)),
        Model(
            "tscore",
            "t-score against lesion-free brains (no weights)",
            (),
            _CLASSICAL,
            (_tscore,),
        ),
    )
}

DEFAULT = ENSEMBLE


def lesion_networks() -> dict[str, Path]:
    """Return the ONNX file of every lesion network, by its `--model` name.

    Includes the bundled networks and those in the folder given by `INFARCT_MODELS`. The name is the
    file name in lower case, with `_` replaced by `-`. A network that the wheel leaves out may be in
    that folder too.

    Raises:
        AssetError: If another network in the folder has the name of a bundled method.
    """
    listed = _listed_networks()
    networks = {
        name: asset.location
        for name, asset in listed.items()
        if asset.location.is_file() or not asset.source_only
    }
    for file in _own_files():
        name = _model_name(file.stem)
        left_out = name in listed and name not in networks
        if left_out and assets.sha256(file) != listed[name].sha256:
            raise AssetError(f"{file} is not the network {name} of this version; rename the file")
        if name in {*networks, *_CLASSICAL_METHODS, ENSEMBLE}:
            raise AssetError(f"{file}: {name} is the name of a bundled method; rename the file")
        networks[name] = file
    return networks


def left_out_networks() -> list[str]:
    """Return the names of the networks that this installation lacks because the wheel does."""
    return [name for name in _listed_networks() if name not in lesion_networks()]


def _listed_networks() -> dict[str, assets.Asset]:
    """Return every lesion network of the index of bundled files, by its `--model` name."""
    return {
        _model_name(Path(asset.file).stem): asset
        for asset in assets.index().values()
        if asset.file.endswith(".onnx") and Path(asset.file).stem != BRAIN_NETWORK
    }


def model_names() -> list[str]:
    """Return the names of all methods: the default first, briefly trained networks last."""
    others = lesion_networks()
    brief = [name for name, file in others.items() if _is_brief(file)]
    first = [*ENSEMBLE_OF, *(name for name in [NETWORK] if name in others)]
    rest = [name for name in others if name not in {*first, *brief}]
    return [ENSEMBLE, *first, *rest, *_CLASSICAL_METHODS, *brief]


def get_model(name: str) -> Model:
    """Return a method by name.

    Args:
        name: One of `model_names()`, or several network names separated by commas, which are
            averaged. An operating point may follow after a colon, as in `ensemble:sensitive`.

    Raises:
        AssetError: If there is no such method or operating point, or a file is damaged.
    """
    method, _, point = name.partition(":")
    backends.check_settings()
    # Check the method first: if it does not exist, its options do not matter.
    members = {} if method in _CLASSICAL_METHODS else _members_of(method)
    candidate_filter = find_filter(method, point, own_folder())
    if method in _CLASSICAL_METHODS:
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
        cautions.insert(0, _BRIEFLY_TRAINED)
    return Model(
        name=name,
        title=_title_of(members),
        networks=files,
        caution="; ".join(cautions),
        predictors=tuple(
            _predictor(file, digest) for file, digest in zip(files, digests, strict=True)
        ),
        weights=tuple(members.values()),
        candidate_filter=candidate_filter,
        networks_sha256=dict(zip((file.name for file in files), digests, strict=True)),
    )


def trained_on(network: Path) -> str:
    """Return the training data of a network as stated in its model card; empty if not stated.

    Args:
        network: The ONNX file; the model card is in the same folder.
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
        return f"trained on {one}" if one else "the training data are not documented"
    parts = (f"{stem} on {one or 'undocumented scans'}" for stem, one in scans.items())
    return f"trained on different scans ({', '.join(parts)})"


def _members_of(method: str) -> dict[Path, float]:
    """Return the networks of a method, each with its weight."""
    networks = lesion_networks()
    names = method.split(",")
    if method == ENSEMBLE:
        return {networks[name]: weight for name, weight in ENSEMBLE_OF.items()}
    for name in names:
        known = model_names()
        if name in left_out_networks():
            raise AssetError(
                f"{name} is not part of this installation; "
                f"{assets.how_to_get(_listed_networks()[name])}, "
                f"or to a folder of yours and set {MODELS_FOLDER} to that folder"
            )
        if name not in known:
            raise AssetError(f"there is no model called {name!r}; available: {', '.join(known)}")
        if name not in networks:
            raise AssetError(
                f"{name} is not a network, and only networks can be averaged: {', '.join(networks)}"
            )
        if names.count(name) > 1:
            raise AssetError(f"{name} is given twice; available networks: {', '.join(networks)}")
    return {networks[name]: 1 / len(names) for name in names}


def _title_of(members: Mapping[Path, float]) -> str:
    """Describe the networks of a method, with their weights if they differ."""
    if len(members) == 1:
        (file,) = members
        brief = ", briefly trained to compare designs only" if _is_brief(file) else ""
        return f"{file.stem} network{brief}"
    if len(set(members.values())) == 1:
        return f"the mean of {' and '.join(file.stem for file in members)}"
    shares = (f"{share:.0%} {file.stem}" for file, share in members.items())
    return f"the weighted mean of {' and '.join(shares)}"


def _model_name(stem: str) -> str:
    return stem.lower().replace("_", "-")


def _is_brief(file: Path) -> bool:
    name = _model_name(file.stem)
    return name.endswith(BRIEF) and name in _listed_networks()


def own_folder() -> Path | None:
    """Return the folder with the user's networks and calibrations, None if it is not set.

    Raises:
        AssetError: If `INFARCT_MODELS` is not a folder.
    """
    folder = os.environ.get(MODELS_FOLDER)
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise AssetError(
            f"{MODELS_FOLDER} is set to {folder}, which is not a folder; correct or unset it"
        )
    return Path(folder)


def _own_files() -> list[Path]:
    folder = own_folder()
    return matching(folder, "*.onnx") if folder else []


def _checked(file: Path) -> Path:
    """Return the path of a network; for bundled networks, after verifying the checksum."""
    return assets.path(f"networks/{file.stem}") if file.is_relative_to(assets.ROOT) else file
