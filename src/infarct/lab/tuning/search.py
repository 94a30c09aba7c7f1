"""Grid search over the settings of the classical methods, cross-validated on synthetic scans.

Scores are of the bare outlines on the MNI grid. Closing, filling and the removal of small clusters
are left out: they happen on the scan's own grid, and are the same for all settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from infarct.core.atomic_write import atomic_file
from infarct.core.diffusion import Mask
from infarct.core.errors import InputFileError
from infarct.evaluation.statistics import bootstrap_mean
from infarct.lab.provenance import claim
from infarct.lab.simulation.controls import lesion_free_scans
from infarct.lab.sources.bank import Bank, digest
from infarct.lab.sources.templates import STATISTICS, healthy_statistics, icbm_tissue
from infarct.lab.training.data_loader import SEEDS_APART
from infarct.lab.training.stream import SMALLEST_BRAIN, Stream, StreamSettings
from infarct.lab.training.torch_features import healthy_at_1mm
from infarct.lab.tuning.grids import (
    FWHM,
    METHODS,
    SETTINGS,
    Scores,
    Settings,
    keep,
    load_pool,
    read_lesion_voxels,
    score_points,
)
from infarct.segmentation.classical import Healthy

Key = tuple[str, ...]
"""A method and its settings, as the cells of a table."""

_FOLD_SCORES = ("dice_others", "dice", "false_ml", "paper_dice", "paper_false_ml")
_TOP = 4
"""Configurations listed, as in the paper's Supplementary Table 2."""

_TOP_SCORES = ("dice_mean", "dice_sd", "net_overlap_mean", "net_overlap_sd", "false_ml")
_PAGE = """\
{cases} synthetic scans of the training cohort, seed {seed}, compared with {controls} lesion-free
scans smoothed at the same FWHM. Dice: mean of the {n} with a lesion; false ml: mean of the others.
Held out: each of {folds} folds under the best settings of the others.

| method | settings | Dice | false ml | Dice, held out | false ml, held out | gain, held out |
|---|---|---|---|---|---|---|"""
_TOP_PAGE = """
The {top} configurations with the highest Dice, as mean (SD). Net Overlap is the share of the
reference lesion that is outlined.

| method | rank | settings | Dice | Net Overlap | false ml |
|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Plan:
    """What is searched, and on what.

    Attributes:
        cases: Scans of the training cohort.
        seed: Of the scans, and of how they are dealt into folds.
        folds: Of the cross-validation.
        methods: Names in `METHODS`.
        controls: Lesion-free scans that the scans are compared with.
    """

    cases: int = 60
    seed: int = 0
    folds: int = 5
    methods: tuple[str, ...] = tuple(METHODS)
    controls: int = 60


def deal(lesion: Mask, folds: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Deal cases into folds, so that all have about as many with a lesion, and without.

    Args:
        lesion: (C,) which cases have one.
        folds: How many.
        rng: Shuffles.

    Returns:
        (C,) fold of each case, from 0.
    """
    order = rng.permutation(len(lesion))
    order = np.concatenate([order[lesion[order]], order[~lesion[order]]])
    fold = np.empty(len(lesion), dtype=np.intp)
    fold[order] = np.arange(len(lesion)) % folds
    return fold


def best(scores: Scores, lesion: Mask) -> int:
    """Return the row of the highest Dice; among equals, that which outlines least falsely.

    Args:
        scores: (S, C) of each setting and case, first row of `Pool.score`.
        lesion: (C,) which cases have one.
    """
    return int(_ranked(scores, lesion)[0])


def _ranked(scores: Scores, lesion: Mask) -> NDArray[np.intp]:
    dice, false_ml = scores[:, lesion].sum(axis=1), scores[:, ~lesion].sum(axis=1)
    ranked: NDArray[np.intp] = np.lexsort((false_ml, -dice))
    return ranked


@dataclass(frozen=True, eq=False)
class Found:
    """What the search of one method found.

    Attributes:
        keys: Of the S settings.
        scores: (S, C) of each setting and case, first row of `Pool.score`.
        paper: Row of the paper's settings.
        best: Row of the best on all cases.
        chosen: (K,) rows of the best on all cases but those of one fold.
        held_out: (C,) scores of each case under the settings chosen without its fold.
    """

    keys: list[Key]
    scores: Scores
    paper: int
    best: int
    chosen: NDArray[np.intp]
    held_out: Scores


def cross_validate(
    keys: list[Key], scores: Scores, paper: int, lesion: Mask, fold: NDArray[np.intp]
) -> Found:
    """Choose settings on all folds but one, and score that one; then choose on all.

    Args:
        keys: Of the S settings.
        scores: (S, C) of each setting and case, first row of `Pool.score`.
        paper: Row of the paper's settings.
        lesion: (C,) which cases have a lesion.
        fold: (C,) of each case, from `deal`.
    """
    others = [fold != left_out for left_out in range(fold.max() + 1)]
    chosen = np.array([best(scores[:, rest], lesion[rest]) for rest in others])
    held_out = scores[chosen[fold], np.arange(len(fold))]
    return Found(keys, scores, paper, best(scores, lesion), chosen, held_out)


def run(bank: Path | None, out: Path, plan: Plan) -> Path:
    """Search the grids; what an earlier run left in the folder is not done again.

    Args:
        bank: To draw scans from; None for the ICBM brain alone.
        out: Gets `controls.npz`, mean and SD of the lesion-free scans; `search.tsv`, every setting
            and case; `folds.tsv`; `top.tsv`, the best configurations; `search.md`, the outcome.
        plan: What to search.

    Returns:
        `search.md`.

    Raises:
        InputFileError: If the folder holds other scans, or too few scans have a lesion.
    """
    source = Bank.load(bank) if bank else Bank.from_icbm()
    stream = Stream(source, StreamSettings(), plan.seed)
    facts = {
        "bank": digest(bank),
        "cases": plan.cases,
        "seed": plan.seed,
        "controls": plan.controls,
    }
    claim(out / "scans.json", facts, "search into another folder")
    healthy = _controls(source, plan, out / "controls.npz")
    files = _render(stream, plan.cases, healthy, out / "cases")
    lesion = read_lesion_voxels(files) > 0
    if lesion.sum() < plan.folds:
        raise InputFileError(
            f"{lesion.sum()} of {plan.cases} scans have a lesion, fewer than {plan.folds} folds; "
            "ask for more cases, into another folder"
        )
    table = out / "search.tsv"
    done = _resume(table, lesion)
    for name in plan.methods:
        method = METHODS[name]
        points = [point for point in method.settings() if _key(name, point) not in done]
        scored = score_points(method, points, lambda fwhm: load_pool(files, fwhm, plan.controls))
        for point, scores in track(scored, name, len(points), console=Console(stderr=True)):
            with table.open("a", encoding="utf-8") as rows:
                rows.write(_line(_key(name, point), scores, lesion) + "\n")
    return _conclude(out, plan, _resume(table, lesion), lesion)


def _conclude(out: Path, plan: Plan, done: Mapping[Key, Scores], lesion: Mask) -> Path:
    """Write `folds.tsv` and `search.md` from the scores, and return the latter."""
    rng = np.random.default_rng(plan.seed)
    fold = deal(lesion, plan.folds, rng)
    rows = [["method", "fold", *SETTINGS, *_FOLD_SCORES]]
    page = [_PAGE.format(**asdict(plan), n=lesion.sum())]
    top = [["method", "rank", *SETTINGS, *_TOP_SCORES]]
    top_page = [_TOP_PAGE.format(top=_TOP)]
    for name in plan.methods:
        keys = [_key(name, point) for point in METHODS[name].settings()]
        paper = keys.index(_key(name, METHODS[name].paper))
        scores = np.stack([done[key] for key in keys])
        found = cross_validate(keys, scores[:, 0], paper, lesion, fold)
        rows += _fold_rows(found, lesion, fold)
        page += _page_rows(found, lesion, rng)
        for rank, row in enumerate(_ranked(scores[:, 0], lesion)[:_TOP], start=1):
            numbers = _top_scores(scores[row], lesion)
            top.append([name, str(rank), *keys[row][1:], *(f"{x:.6g}" for x in numbers)])
            dice, dice_sd, covered, covered_sd, false_ml = (f"{x:.3f}" for x in numbers)
            said = f"{dice} ({dice_sd}) | {covered} ({covered_sd}) | {false_ml}"
            top_page.append(f"| {name} | {rank} | {_spelled(keys[row])} | {said} |")
    _write_lines(out / "folds.tsv", ["\t".join(row) for row in rows])
    _write_lines(out / "top.tsv", ["\t".join(row) for row in top])
    return _write_lines(out / "search.md", [*page, *top_page])


def _top_scores(scores: Scores, lesion: Mask) -> tuple[float, ...]:
    """Return the columns `_TOP_SCORES` from the (2, C) scores of one setting."""
    both = scores[:, lesion]
    spread = both.std(axis=1, ddof=1) if lesion.sum() > 1 else np.full(2, np.nan)
    pairs = zip(both.mean(axis=1), spread, strict=True)
    return (*(float(x) for pair in pairs for x in pair), _means(scores[0], lesion)[1])


def _write_lines(path: Path, lines: Iterable[str]) -> Path:
    """Write a file that is whole or not there, and return its path."""
    with atomic_file(path) as draft:
        draft.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def _controls(bank: Bank, plan: Plan, file: Path) -> dict[float, Healthy]:
    """Return the healthy statistics at every FWHM of the grids, rendering the controls once."""
    if not file.is_file():
        # Other heads than those searched on: the stream draws its own by the plan's seed.
        scans = lesion_free_scans(bank, plan.controls, plan.seed + SEEDS_APART)
        shown = track(scans, "controls", plan.controls, console=Console(stderr=True))
        statistics = healthy_statistics(shown, icbm_tissue(), FWHM)
        flat: dict[str, Any] = {
            f"{fwhm:g}-{name}": image
            for fwhm, named in statistics.items()
            for name, image in named.items()
        }
        with atomic_file(file) as draft, draft.open("wb") as opened:
            np.savez_compressed(opened, **flat)
    with np.load(file) as kept:
        arrays = {name: kept[name] for name in kept.files}
    return {
        fwhm: healthy_at_1mm(
            {name: arrays[f"{fwhm:g}-{name}"] for name in STATISTICS}, plan.controls
        )
        for fwhm in FWHM
    }


def _render(
    stream: Stream, cases: int, healthy: Mapping[float, Healthy], folder: Path
) -> list[Path]:
    """Return the files of all cases, rendering those that are not there yet."""
    folder.mkdir(exist_ok=True)

    def rendered() -> Iterator[Path]:
        for number in count():
            file = folder / f"{number:04d}.npz"
            if not file.is_file():
                scan = stream.scan(number)
                if int(scan.brain.sum()) < SMALLEST_BRAIN:
                    continue
                part = folder / "part.npz"
                np.savez(part, **keep(scan, healthy))
                part.replace(file)
            yield file

    return list(track(islice(rendered(), cases), "scans", cases, console=Console(stderr=True)))


def _key(name: str, settings: Settings) -> Key:
    values = asdict(settings)
    return (name, *(f"{values[s]:g}" if s in values else "n/a" for s in SETTINGS))


def _line(key: Key, scores: Scores, lesion: Mask) -> str:
    numbers = (*_means(scores[0], lesion), scores[1, lesion].mean(), *scores[0], *scores[1, lesion])
    return "\t".join([*key, *(f"{x:.6g}" for x in numbers)])


def _means(scores: Scores, lesion: Mask) -> tuple[float, float]:
    """Return the mean Dice of the cases with a lesion, and the mean false ml of the others."""
    false_ml = scores[~lesion]
    return float(scores[lesion].mean()), float(false_ml.mean()) if false_ml.size else math.nan


def _resume(table: Path, lesion: Mask) -> dict[Key, Scores]:
    """Read the scores there are, and leave a table of whole lines to go on with."""
    width = 1 + len(SETTINGS)
    cases = [f"{'dice' if has else 'false_ml'}_{n}" for n, has in enumerate(lesion)]
    covered = [f"net_overlap_{n}" for n in np.flatnonzero(lesion)]
    header = ["method", *SETTINGS, "dice", "false_ml", "net_overlap", *cases, *covered]
    lines = table.read_text(encoding="utf-8").splitlines(True) if table.is_file() else []
    # A run that was killed may have left half a line.
    cells = [line.split() for line in lines[1:] if line.endswith("\n")]
    done = {}
    for row in (row for row in cells if len(row) == len(header)):
        numbers = np.array(row[width + 3 :], dtype=float)
        scores = np.full((2, len(lesion)), np.nan)
        scores[0], scores[1, lesion] = numbers[: len(lesion)], numbers[len(lesion) :]
        done[tuple(row[:width])] = scores
    rows = [_line(key, scores, lesion) for key, scores in done.items()]
    _write_lines(table, ["\t".join(header), *rows])
    return done


def _fold_rows(found: Found, lesion: Mask, fold: NDArray[np.intp]) -> Iterator[list[str]]:
    """Yield the rows of `folds.tsv` about one method."""
    for number, row in enumerate(found.chosen):
        here, others = fold == number, fold != number
        numbers = (
            _means(found.scores[row, others], lesion[others])[0],
            *_means(found.held_out[here], lesion[here]),
            *_means(found.scores[found.paper, here], lesion[here]),
        )
        key = found.keys[row]
        yield [key[0], str(number + 1), *key[1:], *(f"{x:.6g}" for x in numbers)]


def _spelled(key: Key) -> str:
    """Write the settings of a point as text."""
    pairs = zip(SETTINGS, key[1:], strict=True)
    return ", ".join(f"{setting} {cell}" for setting, cell in pairs if cell != "n/a")


def _page_rows(found: Found, lesion: Mask, rng: np.random.Generator) -> Iterator[str]:
    """Yield the rows of `search.md` about one method: the paper's settings, and the best."""
    paper = found.scores[found.paper]
    gain = (found.held_out - paper)[lesion]
    interval = bootstrap_mean(gain, rng)
    said = f"{gain.mean():+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
    rows = (("paper", found.paper, paper, ""), ("best here", found.best, found.held_out, said))
    for title, row, held_out, end in rows:
        name, settings = found.keys[row][0], _spelled(found.keys[row])
        means = (*_means(found.scores[row], lesion), *_means(held_out, lesion))
        numbers = " | ".join(f"{x:.3f}" for x in means)
        yield f"| {name}, {title} | {settings} | {numbers} | {end} |"
