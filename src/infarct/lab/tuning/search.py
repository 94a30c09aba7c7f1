"""Grid search over the settings of the classical methods, cross-validated on synthetic scans.

The raw masks on the MNI grid are scored. Closing, hole filling and the removal of small clusters
are omitted because they operate on the native grid and do not depend on the settings.
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
"""A method and its settings, as table cells."""

_FOLD_SCORES = ("dice_others", "dice", "false_ml", "paper_dice", "paper_false_ml")
_TOP = 4
"""Number of configurations listed, as in Supplementary Table 2 of the paper."""

_TOP_SCORES = ("dice_mean", "dice_sd", "net_overlap_mean", "net_overlap_sd", "false_ml")
_PAGE = """\
{cases} synthetic scans of the training cohort, seed {seed}, compared with {controls} lesion-free
scans smoothed with the same FWHM. Dice: mean over the {n} scans with a lesion. False ml: mean false
positive volume of the other scans. Held out: each of {folds} folds is scored with the settings that
are best on the other folds.

| method | settings | Dice | false ml | Dice, held out | false ml, held out | gain, held out |
|---|---|---|---|---|---|---|"""
_TOP_PAGE = """
The {top} configurations with the highest Dice, as mean (SD). Net Overlap is the fraction of the
reference lesion that is segmented.

| method | rank | settings | Dice | Net Overlap | false ml |
|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Plan:
    """Settings of a search.

    Attributes:
        cases: Number of scans from the training cohort.
        seed: Seed of the scans and of the assignment to folds.
        folds: Number of cross-validation folds.
        methods: Names in `METHODS`.
        controls: Number of lesion-free scans in the healthy statistics.
    """

    cases: int = 60
    seed: int = 0
    folds: int = 5
    methods: tuple[str, ...] = tuple(METHODS)
    controls: int = 60


def deal(lesion: Mask, folds: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Assign cases to folds at random, stratified by the presence of a lesion.

    Args:
        lesion: (C,) bool, cases with a lesion.
        folds: Number of folds.
        rng: Random generator for the shuffle.

    Returns:
        (C,) fold of each case, starting at 0.
    """
    order = rng.permutation(len(lesion))
    order = np.concatenate([order[lesion[order]], order[~lesion[order]]])
    fold = np.empty(len(lesion), dtype=np.intp)
    fold[order] = np.arange(len(lesion)) % folds
    return fold


def best(scores: Scores, lesion: Mask) -> int:
    """Return the row with the highest Dice; ties go to the smallest false positive volume.

    Args:
        scores: (S, C) score of each setting and case, first row of `Pool.score`.
        lesion: (C,) bool, cases with a lesion.
    """
    return int(_ranked(scores, lesion)[0])


def _ranked(scores: Scores, lesion: Mask) -> NDArray[np.intp]:
    dice, false_ml = scores[:, lesion].sum(axis=1), scores[:, ~lesion].sum(axis=1)
    ranked: NDArray[np.intp] = np.lexsort((false_ml, -dice))
    return ranked


@dataclass(frozen=True, eq=False)
class Found:
    """Search result of one method.

    Attributes:
        keys: Keys of the S settings.
        scores: (S, C) score of each setting and case, first row of `Pool.score`.
        paper: Row of the settings in the paper.
        best: Row of the best settings on all cases.
        chosen: (K,) rows of the best settings without each fold.
        held_out: (C,) score of each case with the settings chosen without its fold.
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
    """Choose settings without each fold and score them on it; then choose settings on all cases.

    Args:
        keys: Keys of the S settings.
        scores: (S, C) score of each setting and case, first row of `Pool.score`.
        paper: Row of the settings in the paper.
        lesion: (C,) bool, cases with a lesion.
        fold: (C,) fold of each case, result of `deal`.
    """
    others = [fold != left_out for left_out in range(fold.max() + 1)]
    chosen = np.array([best(scores[:, rest], lesion[rest]) for rest in others])
    held_out = scores[chosen[fold], np.arange(len(fold))]
    return Found(keys, scores, paper, best(scores, lesion), chosen, held_out)


def run(bank: Path | None, out: Path, plan: Plan) -> Path:
    """Search the grids; results of an interrupted run are reused.

    Args:
        bank: Bank to draw scans from; None for the ICBM brain alone.
        out: Output folder for `controls.npz` (mean and SD of the lesion-free scans), `search.tsv`
            (scores of every setting and case), `folds.tsv`, `top.tsv` (best configurations) and
            `search.md` (summary).
        plan: Settings of the search.

    Returns:
        The path of `search.md`.

    Raises:
        InputFileError: If the folder contains results of other scans, or too few scans have a
            lesion.
    """
    source = Bank.load(bank) if bank else Bank.from_icbm()
    stream = Stream(source, StreamSettings(), plan.seed)
    facts = {
        "bank": digest(bank),
        "cases": plan.cases,
        "seed": plan.seed,
        "controls": plan.controls,
    }
    claim(out / "scans.json", facts, "choose another output folder")
    healthy = _controls(source, plan, out / "controls.npz")
    files = _render(stream, plan.cases, healthy, out / "cases")
    lesion = read_lesion_voxels(files) > 0
    if lesion.sum() < plan.folds:
        raise InputFileError(
            f"{lesion.sum()} of {plan.cases} scans have a lesion, fewer than {plan.folds} folds; "
            "increase the number of cases and choose another output folder"
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
    return _write_results(out, plan, _resume(table, lesion), lesion)


def _write_results(out: Path, plan: Plan, done: Mapping[Key, Scores], lesion: Mask) -> Path:
    """Write `folds.tsv`, `top.tsv` and `search.md` from the scores; return the path of the last."""
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
            cells = f"{dice} ({dice_sd}) | {covered} ({covered_sd}) | {false_ml}"
            top_page.append(f"| {name} | {rank} | {_format_settings(keys[row])} | {cells} |")
    _write_lines(out / "folds.tsv", ["\t".join(row) for row in rows])
    _write_lines(out / "top.tsv", ["\t".join(row) for row in top])
    return _write_lines(out / "search.md", [*page, *top_page])


def _top_scores(scores: Scores, lesion: Mask) -> tuple[float, ...]:
    """Return the values of the columns `_TOP_SCORES` from the (2, C) scores of one setting."""
    both = scores[:, lesion]
    spread = both.std(axis=1, ddof=1) if lesion.sum() > 1 else np.full(2, np.nan)
    pairs = zip(both.mean(axis=1), spread, strict=True)
    return (*(float(x) for pair in pairs for x in pair), _means(scores[0], lesion)[1])


def _write_lines(path: Path, lines: Iterable[str]) -> Path:
    """Write a file atomically and return its path."""
    with atomic_file(path) as draft:
        draft.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def _controls(bank: Bank, plan: Plan, file: Path) -> dict[float, Healthy]:
    """Return the healthy statistics at every FWHM; render the controls only once."""
    if not file.is_file():
        # Use a different seed, so that the controls are not the scans of the search.
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
    """Return the files of all cases; render missing ones."""
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
    """Return the mean Dice of cases with a lesion and the mean false positive ml of the others."""
    false_ml = scores[~lesion]
    return float(scores[lesion].mean()), float(false_ml.mean()) if false_ml.size else math.nan


def _resume(table: Path, lesion: Mask) -> dict[Key, Scores]:
    """Read the existing scores and rewrite the table without incomplete lines."""
    width = 1 + len(SETTINGS)
    cases = [f"{'dice' if has else 'false_ml'}_{n}" for n, has in enumerate(lesion)]
    covered = [f"net_overlap_{n}" for n in np.flatnonzero(lesion)]
    header = ["method", *SETTINGS, "dice", "false_ml", "net_overlap", *cases, *covered]
    lines = table.read_text(encoding="utf-8").splitlines(True) if table.is_file() else []
    # An interrupted run may have left an incomplete line.
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
    """Yield the rows of `folds.tsv` for one method."""
    for number, row in enumerate(found.chosen):
        here, others = fold == number, fold != number
        numbers = (
            _means(found.scores[row, others], lesion[others])[0],
            *_means(found.held_out[here], lesion[here]),
            *_means(found.scores[found.paper, here], lesion[here]),
        )
        key = found.keys[row]
        yield [key[0], str(number + 1), *key[1:], *(f"{x:.6g}" for x in numbers)]


def _format_settings(key: Key) -> str:
    """Format the settings of a grid point."""
    pairs = zip(SETTINGS, key[1:], strict=True)
    return ", ".join(f"{setting} {cell}" for setting, cell in pairs if cell != "n/a")


def _page_rows(found: Found, lesion: Mask, rng: np.random.Generator) -> Iterator[str]:
    """Yield the rows of `search.md` for one method: settings of the paper and best settings."""
    paper = found.scores[found.paper]
    gain = (found.held_out - paper)[lesion]
    interval = bootstrap_mean(gain, rng)
    gain_text = f"{gain.mean():+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
    rows = (("paper", found.paper, paper, ""), ("best here", found.best, found.held_out, gain_text))
    for title, row, held_out, end in rows:
        name, settings = found.keys[row][0], _format_settings(found.keys[row])
        means = (*_means(found.scores[row], lesion), *_means(held_out, lesion))
        numbers = " | ".join(f"{x:.3f}" for x in means)
        yield f"| {name}, {title} | {settings} | {numbers} | {end} |"
