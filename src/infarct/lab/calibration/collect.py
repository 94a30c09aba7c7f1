"""What a method finds on synthetic scans of heads that training never sees, kept as numbers.

Every case takes the whole road of a user's scan: saved as some scanner would, read, placed,
outlined. What is kept of it are a few numbers, one JSON file for each case, so that a broken run
goes on and a fit takes a second.
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
"""In the folder of the cases and in that of each method's rows: what they were made from."""

_TRUE_SHARE = 0.25
"""A candidate is an infarct if so much of it is, or if it holds so much of one."""


@dataclass(frozen=True)
class Row:
    """What is kept of one case.

    Attributes:
        case: Its name.
        true_ml: Volume of the infarcts; 0 without.
        candidates: `FEATURES` of each candidate, largest first.
        candidate_ml: Volume of each.
        is_infarct: Whether each is one.
        peak_logit: From `candidate_features.peak_of`.
        spread_ml: From `candidate_features.spread_of`.
    """

    case: str
    true_ml: float
    candidates: tuple[tuple[float, ...], ...]
    candidate_ml: tuple[float, ...]
    is_infarct: tuple[bool, ...]
    peak_logit: float
    spread_ml: tuple[float, float]

    @property
    def infarct(self) -> NDArray[np.bool_]:
        """Which candidates are infarcts."""
        return np.array(self.is_infarct, dtype=bool)


@dataclass(frozen=True)
class Order:
    """One case to be made.

    Attributes:
        bank: File of the bank.
        seed: Of the series.
        index: Of the case in it.
        models: Methods to ask.
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
    """Yield the rows of every case, by method, from several processes; none is made twice.

    Args:
        orders: The cases.
        workers: Processes.

    Raises:
        InputFileError: If the folder holds rows of another bank, of other healthy statistics or of
            another network of that name.
    """
    for out, bank, models in dict.fromkeys((each.out, each.bank, each.models) for each in orders):
        _claim(out, bank, models)
    # The workers share the cores; they read this when they start.
    os.environ["OMP_NUM_THREADS"] = str(max(1, cores() // workers))
    with ProcessPoolExecutor(workers, initializer=quiet_for_good) as pool:
        for job in as_completed([pool.submit(make_rows, order) for order in orders]):
            yield job.result()


def _claim(out: Path, bank: Path, models: Sequence[str]) -> None:
    """Make sure that the rows of a folder are of this bank and of these networks."""
    # A fit stamps the networks of today on what it learns from the rows.
    advice = "calibrate into another folder"
    claim(out / NOTE, made_from(bank), advice, used=any(out.glob(f"*/{COHORT}-*.json")))
    for model in models:
        used = any((out / model).glob(f"{COHORT}-*.json"))
        claim(out / model / NOTE, networks_of(model), advice, used=used)


def networks_of(model: str) -> dict[str, str]:
    """Return the sha256 of each network of a method, by the name of its file."""
    return {network.name: sha256(network) for network in get_model(model).networks}


def make_rows(order: Order) -> dict[str, Row]:
    """Make one case, ask the methods about it, and keep what the fit needs."""
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
    open_work = [model for model in order.models if model not in rows]
    readings = predict_several(case, prepared, map(get_model, open_work))
    for model, reading in zip(open_work, readings, strict=True):
        rows[model] = row_of(case, prepared, reading, reference)
        write_row(rows[model], kept[model])
    return rows


def row_of(case: Case, prepared: Prepared, reading: Prediction, reference: Mask) -> Row:
    """Keep of a case what the fit needs.

    Args:
        case: The scan; the folder of its DWI gives the name.
        prepared: The same, prepared.
        reading: What the method made of it.
        reference: The infarcts, on the grid of the DWI.

    Raises:
        InputFileError: If the method is no network.
    """
    evidence = candidate_evidence(case, prepared, reading)
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
        peak_logit=peak_of(scan),
        spread_ml=spread_of(scan),
    )


def write_row(row: Row, path: Path) -> None:
    """Write a row as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as draft:
        draft.write_text(json.dumps(asdict(row)) + "\n", encoding="utf-8")


def read_row(path: Path) -> Row:
    """Read a row back."""
    table = json.loads(path.read_text(encoding="utf-8"))
    table["candidates"] = tuple(tuple(row) for row in table["candidates"])
    for name in ("candidate_ml", "is_infarct", "spread_ml"):
        table[name] = tuple(table[name])
    return Row(**table)


def true_candidates(candidates: Mask, reference: Mask) -> NDArray[np.bool_]:
    """Tell which candidates are infarcts, largest first.

    Args:
        candidates: (X, Y, Z) bool.
        reference: Same shape.
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
