"""Collects the candidates of a method on synthetic scans of heads not used for training.

Every case passes through the complete pipeline: saved as by a scanner, read, registered and
segmented. A few numbers are stored per case, as one JSON file, so that an interrupted run can
continue and fitting takes a second.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from infarct.core.assets import sha256
from infarct.core.atomic_write import atomic_file
from infarct.core.diffusion import Mask
from infarct.core.errors import InputFileError
from infarct.core.machine import cores
from infarct.core.nifti import read
from infarct.core.process_setup import quiet_for_good
from infarct.inference.network import load_network
from infarct.lab.provenance import claim
from infarct.lab.simulation import write_cases
from infarct.lab.simulation.cohort import load_cohort
from infarct.lab.sources.bank import Bank, made_from
from infarct.measurement.volumetry import measure, pieces
from infarct.preprocessing.case import Case
from infarct.preprocessing.load import open_case
from infarct.preprocessing.preprocess import Prepared, preprocess
from infarct.preprocessing.templates import load_template
from infarct.segmentation.models import BRAIN_NETWORK, get_model
from infarct.segmentation.predict import Prediction, candidate_evidence, predict_several
from infarct.uncertainty.candidate_features import features, peak_of, spread_of

COHORT = "calibration"

NOTE = "made-from.json"
"""Record of the origin of the files, in the folder of the cases and in that of each method."""

_TRUE_SHARE = 0.25
"""A candidate is an infarct if this fraction of it is infarct, or if it covers this fraction of
one."""


@dataclass(frozen=True)
class Row:
    """Numbers stored for one case.

    Attributes:
        case: Name of the case.
        true_ml: Volume of the infarcts; 0 for lesion-free scans.
        candidates: `FEATURES` of each candidate, largest first.
        candidate_ml: Volume of each candidate.
        is_infarct: Whether each candidate is an infarct.
        overlap_ml: Volume of each candidate that is infarct.
        peak_logit: From `candidate_features.peak_of`.
        spread_ml: From `candidate_features.spread_of`.
    """

    case: str
    true_ml: float
    candidates: tuple[tuple[float, ...], ...]
    candidate_ml: tuple[float, ...]
    is_infarct: tuple[bool, ...]
    overlap_ml: tuple[float, ...]
    peak_logit: float
    spread_ml: tuple[float, float]

    @property
    def infarct(self) -> NDArray[np.bool_]:
        """Whether each candidate is an infarct, as an array."""
        return np.array(self.is_infarct, dtype=bool)


@dataclass(frozen=True)
class Order:
    """One case to simulate and segment.

    Attributes:
        bank: File of the bank.
        seed: Random seed of the cohort.
        index: Index of the case in the cohort.
        models: Names of the methods.
        out: Folder of cases and rows.
    """

    bank: Path
    seed: int
    index: int
    models: tuple[str, ...]
    out: Path


@lru_cache(maxsize=1)
def _load_bank(path: Path) -> Bank:
    return Bank.load(path)


def collect(orders: Sequence[Order], workers: int) -> Iterator[dict[str, Row]]:
    """Yield the rows of every case, by method, from several processes; existing rows are reused.

    Args:
        orders: The cases.
        workers: Number of processes.

    Raises:
        InputFileError: If the folder contains rows from another bank, other healthy statistics or
            another network of the same name.
    """
    for out, bank, models in dict.fromkeys((each.out, each.bank, each.models) for each in orders):
        _claim(out, bank, models)
    # Divides the cores among the workers, which read the variable when they start.
    os.environ["OMP_NUM_THREADS"] = str(max(1, cores() // workers))
    with ProcessPoolExecutor(workers, initializer=quiet_for_good) as pool:
        for job in as_completed([pool.submit(make_rows, order) for order in orders]):
            yield job.result()


def _claim(out: Path, bank: Path, models: Sequence[str]) -> None:
    """Check that the rows of a folder belong to this bank and these networks."""
    # A fit stores the checksums of the current networks in the calibration.
    advice = "calibrate into another folder"
    claim(out / NOTE, made_from(bank), advice, used=any(out.glob(f"*/{COHORT}-*.json")))
    for model in models:
        used = any((out / model).glob(f"{COHORT}-*.json"))
        claim(out / model / NOTE, networks_of(model), advice, used=used)


def networks_of(model: str) -> dict[str, str]:
    """Return the SHA-256 of each network of a method, by file name."""
    return {network.name: sha256(network) for network in get_model(model).networks}


def make_rows(order: Order) -> dict[str, Row]:
    """Simulate one case, segment it with each method, and store the rows for the fit."""
    name = f"{COHORT}-{order.seed:04d}-{order.index:04d}"
    kept = {model: order.out / model / f"{name}.json" for model in order.models}
    rows = {model: read_row(path) for model, path in kept.items() if path.is_file()}
    if len(rows) == len(kept):
        return rows
    folder = order.out / "cases" / name
    bank = _load_bank(order.bank)
    case = open_case(
        write_cases.ensure_case(load_cohort(COHORT), bank, order.seed, order.index, folder)
    )
    prepared = preprocess(case, load_template(), load_network(BRAIN_NETWORK))
    reference = read(folder / "lesion.nii.gz").data > 0
    missing = [model for model in order.models if model not in rows]
    predictions = predict_several(case, prepared, map(get_model, missing))
    for model, prediction in zip(missing, predictions, strict=True):
        rows[model] = row_of(case, prepared, prediction, reference)
        write_row(rows[model], kept[model])
    return rows


def row_of(case: Case, prepared: Prepared, prediction: Prediction, reference: Mask) -> Row:
    """Return the numbers of a case that the fit needs.

    Args:
        case: The scan; the folder of its DWI gives the name.
        prepared: The preprocessed scan.
        prediction: Prediction of the method.
        reference: Reference mask of the infarcts, on the grid of the DWI.

    Raises:
        InputFileError: If the method is not a network.
    """
    evidence = candidate_evidence(case, prepared, prediction)
    if evidence is None:
        raise InputFileError("only networks can be calibrated; name a network")
    scan, candidates = evidence.scan, evidence.candidates
    measured = measure(candidates, scan, case.slice_axis)
    return Row(
        case=case.files.dwi.parent.name,
        true_ml=float(reference.sum()) * scan.grid.voxel_ml,
        candidates=tuple(features(evidence, measured)),
        candidate_ml=tuple(one.volume_ml for one in measured.lesions),
        is_infarct=tuple(bool(x) for x in true_candidates(candidates, reference)),
        overlap_ml=tuple(overlaps_ml(candidates, reference, scan.grid.voxel_ml)),
        peak_logit=peak_of(scan),
        spread_ml=spread_of(scan),
    )


def write_row(row: Row, path: Path) -> None:
    """Write a row as JSON, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as draft:
        draft.write_text(json.dumps(asdict(row)) + "\n", encoding="utf-8")


def read_row(path: Path) -> Row:
    """Read a row written by `write_row`."""
    table = json.loads(path.read_text(encoding="utf-8"))
    table["candidates"] = tuple(tuple(row) for row in table["candidates"])
    for name in ("candidate_ml", "is_infarct", "overlap_ml", "spread_ml"):
        table[name] = tuple(table[name])
    return Row(**table)


def overlaps_ml(candidates: Mask, reference: Mask, voxel_ml: float) -> list[float]:
    """Return the volume that each candidate shares with the reference, largest candidate first.

    Args:
        candidates: (X, Y, Z) bool, mask of all candidates.
        reference: Same shape, reference mask of the infarcts.
        voxel_ml: Volume of a voxel, ml.
    """
    found = pieces(candidates)
    counts = np.bincount(found[reference], minlength=int(found.max(initial=0)) + 1)
    return [float(count) * voxel_ml for count in counts[1:]]


def true_candidates(candidates: Mask, reference: Mask) -> NDArray[np.bool_]:
    """Return which candidates are infarcts, largest first.

    Args:
        candidates: (X, Y, Z) bool, mask of all candidates.
        reference: Same shape, reference mask of the infarcts.

    Returns:
        (N,) bool for the N connected components of `candidates`.
    """
    found, true = pieces(candidates), pieces(reference)
    labels = np.arange(1, found.max(initial=0) + 1)
    share = np.asarray(ndimage.mean(reference, found, labels))
    sizes = np.bincount(true.ravel())
    holds = np.zeros(len(labels), dtype=bool)
    for k in labels:
        inside = np.bincount(true[found == k], minlength=len(sizes))
        holds[k - 1] = bool((inside[1:] >= _TRUE_SHARE * sizes[1:]).any()) if len(sizes) > 1 else 0
    return np.asarray((share >= _TRUE_SHARE) | holds)
