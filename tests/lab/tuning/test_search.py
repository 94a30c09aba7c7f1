"""The search: no leakage from held-out folds, and interrupted runs resume without loss."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from infarct.cli.commands.lab import app
from infarct.core.errors import InputFileError, OutputError
from infarct.core.geometry import MNI_GRID
from infarct.lab.simulation.scanner import SimulatedScan
from infarct.lab.sources.bank import Bank, pack_lesions
from infarct.lab.sources.templates import STATISTICS
from infarct.lab.tuning import search
from infarct.lab.tuning.grids import FWHM, METHODS, SETTINGS, Pool
from infarct.lab.tuning.search import Plan, best, cross_validate, deal, run
from infarct.preprocessing.templates import TEMPLATE_GRID
from infarct.segmentation.classical import Healthy

PLAN = Plan(cases=6, folds=2, methods=("cfuzzy",))


class Painted:
    """A stream of small painted scans that can be interrupted."""

    def __init__(self, scans: list[SimulatedScan]) -> None:
        self.scans = scans
        self.rendered: list[int] = []
        self.breaks_at = -1

    def __call__(self, *_: object) -> Painted:
        """Open the stream."""
        return self

    def scan(self, index: int) -> SimulatedScan:
        """Return a scan."""
        if index == self.breaks_at:
            raise KeyboardInterrupt
        self.rendered.append(index)
        return self.scans[index]


@pytest.fixture
def stream(
    painted_scans: list[SimulatedScan], painted_healthy: Healthy, monkeypatch: pytest.MonkeyPatch
) -> Painted:
    """Replace the simulator by painted scans and reduce the grid to eight points."""
    stream = Painted(painted_scans)
    monkeypatch.setattr(search, "Stream", stream)
    monkeypatch.setattr(search, "SMALLEST_BRAIN", 1000)
    monkeypatch.setattr(search, "_controls", lambda *_: dict.fromkeys(FWHM, painted_healthy))
    monkeypatch.setattr(search.Bank, "from_icbm", lambda: None)
    few = {name: (value,) for name, value in vars(METHODS["cfuzzy"].paper).items()}
    few = {name: few[name] for name in METHODS["cfuzzy"].grid} | {"alpha_dwi": (0.5, 1.5)}
    monkeypatch.setitem(METHODS, "cfuzzy", replace(METHODS["cfuzzy"], grid=few))
    return stream


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_best_has_the_highest_dice_and_ties_go_to_fewer_false_positives() -> None:
    lesion = np.array([True, True, False])
    # Multiples of 1/8 are exact, so ties are exact.
    dice = np.array([[4, 2], [3, 4], [5, 2], [1, 5]]) / 8
    scores = np.column_stack([dice, [1.0, 9.0, 2.0, 0.0]])
    assert best(scores, lesion) == 2
    assert best(scores[:, :2], lesion[:2]) == 1


def test_folds_are_balanced() -> None:
    lesion = np.arange(37) % 3 > 0
    fold = deal(lesion, 5, np.random.default_rng(1))
    for group in (fold[lesion], fold[~lesion]):
        assert np.ptp(np.bincount(group, minlength=5)) <= 1
    assert (fold == deal(lesion, 5, np.random.default_rng(1))).all()
    assert (fold != deal(lesion, 5, np.random.default_rng(2))).any()


def test_settings_are_chosen_without_the_scored_fold() -> None:
    """Each of two settings is good on one fold only, so both score poorly when held out."""
    fold = np.array([0, 0, 1, 1])
    scores = np.array([[0.9, 0.9, 0.1, 0.2], [0.3, 0.2, 0.9, 0.9]])
    lesion = np.ones(4, dtype=bool)
    found = cross_validate([("a",), ("b",)], scores, 0, lesion, fold)
    assert found.chosen.tolist() == [1, 0]
    assert found.held_out.tolist() == [0.3, 0.2, 0.1, 0.2]
    assert found.best == 1


def test_output_tables_are_consistent(tmp_path: Path, stream: Painted) -> None:
    page = run(None, tmp_path, PLAN).read_text()
    scored, folds = rows(tmp_path / "search.tsv"), rows(tmp_path / "folds.tsv")
    assert len(scored) == 8
    assert len(folds) == PLAN.folds
    lesions = [name for name in scored[0] if name.startswith("dice_")]
    for row in scored:
        mean = np.mean([float(row[name]) for name in lesions])
        assert float(row["dice"]) == pytest.approx(mean, abs=1e-5)
    settings = METHODS["cfuzzy"].paper
    (paper,) = (r for r in scored if float(r["fwhm"]) == 2 and float(r["alpha_dwi"]) == 1.5)
    assert float(paper["lambda_dwi"]) == settings.lambda_dwi
    assert f"{float(paper['dice']):.3f}" in page
    assert f"{max(float(row['dice']) for row in scored):.3f}" in page
    # Recompute the top four from the table of all grid points.
    tops, falsely = rows(tmp_path / "top.tsv"), [n for n in scored[0] if n.startswith("false_ml_")]
    wanted = sorted(
        scored,
        key=lambda r: (-sum(float(r[n]) for n in lesions), sum(float(r[n]) for n in falsely)),
    )
    assert [row["rank"] for row in tops] == ["1", "2", "3", "4"]
    covered = [name for name in scored[0] if name.startswith("net_overlap_")]
    assert len(covered) == len(lesions)
    for row, source in zip(tops, wanted, strict=False):
        assert [row[s] for s in SETTINGS] == [source[s] for s in SETTINGS]
        for title, names in (("dice", lesions), ("net_overlap", covered)):
            values = np.array([float(source[name]) for name in names])
            assert float(row[f"{title}_mean"]) == pytest.approx(values.mean(), abs=1e-5)
            assert float(row[f"{title}_sd"]) == pytest.approx(values.std(ddof=1), abs=1e-5)
        assert f"{float(row['net_overlap_mean']):.3f} ({float(row['net_overlap_sd']):.3f})" in page
        # Dice is 2 TP / (A + B) and Net Overlap TP / A, so Net Overlap is at least Dice / 2.
        assert all(
            float(source[c]) >= float(source[d]) / 2 for c, d in zip(covered, lesions, strict=True)
        )
    # Each fold has two lesions, so the mean over folds equals the overall mean.
    assert np.mean([float(row["paper_dice"]) for row in folds]) == pytest.approx(
        float(paper["dice"]), abs=1e-5
    )


def test_interrupted_search_resumes(
    tmp_path: Path, stream: Painted, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(None, tmp_path / "whole", PLAN).parent
    out = tmp_path / "broken"
    stream.rendered.clear()
    stream.breaks_at = 4
    with pytest.raises(KeyboardInterrupt):
        run(None, out, PLAN)
    stream.breaks_at = -1
    calls: list[int] = []
    score = Pool.score

    def interrupted_score(pool: Pool, outlined: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return score(pool, outlined)

    monkeypatch.setattr(Pool, "score", interrupted_score)
    with pytest.raises(KeyboardInterrupt):
        run(None, out, PLAN)
    assert stream.rendered == [0, 1, 2, 3, 4, 5]
    table = out / "search.tsv"
    # Interrupted while writing: incomplete last line.
    table.write_text(table.read_text() + table.read_text().splitlines()[-1][:40])
    run(None, out, PLAN)
    assert stream.rendered == [0, 1, 2, 3, 4, 5]
    assert len(calls) == 4 + 1 + 4
    for name in ("search.tsv", "folds.tsv", "top.tsv", "search.md"):
        assert (out / name).read_text() == (whole / name).read_text()


def test_controls_are_smoothed_at_every_fwhm_and_rendered_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def controls(_: object, count: int, seed: int) -> Iterator[str]:
        asked.append((count, seed))
        return iter(["scan"] * count)

    def statistics(
        scans: Iterable[str], tissue: object, widths: Sequence[float]
    ) -> dict[float, dict[str, np.ndarray]]:
        assert len(list(scans)) == 7
        shape = TEMPLATE_GRID.shape
        return {w: {n: np.full(shape, w, np.float32) for n in STATISTICS} for w in widths}

    monkeypatch.setattr(search, "lesion_free_scans", controls)
    monkeypatch.setattr(search, "healthy_statistics", statistics)
    monkeypatch.setattr(search, "icbm_tissue", lambda: None)
    plan = replace(PLAN, controls=7)
    for _ in range(2):
        found = search._controls(Bank({}, pack_lesions([]), {}), plan, tmp_path / "controls.npz")
        assert list(found) == list(FWHM)
        for fwhm, healthy in found.items():
            assert healthy.n == 7
            assert healthy.dwi_sd.shape == MNI_GRID.shape
            assert np.unique(healthy.dwi_sd) == pytest.approx([fwhm])
    assert len(asked) == 1
    assert asked[0] != (7, plan.seed)  # not the scans of the search


def test_output_folder_of_another_seed_is_rejected(tmp_path: Path, stream: Painted) -> None:
    run(None, tmp_path, PLAN)
    with pytest.raises(InputFileError, match="choose another output folder"):
        run(None, tmp_path, replace(PLAN, seed=1))


def test_incomplete_scans_json_and_unwritable_folder_are_rejected(
    tmp_path: Path, stream: Painted
) -> None:
    (tmp_path / "scans.json").write_text('{"bank"')
    with pytest.raises(InputFileError, match="choose another output folder"):
        run(None, tmp_path, PLAN)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        run(None, tmp_path / "file", PLAN)


def test_more_folds_than_lesions_are_rejected(tmp_path: Path, stream: Painted) -> None:
    with pytest.raises(InputFileError, match="increase the number of cases"):
        run(None, tmp_path, replace(PLAN, folds=5))


def test_method_without_a_grid_is_a_usage_error(tmp_path: Path) -> None:
    command = ["search", "--out", str(tmp_path / "out"), "--method", "unet"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert not (tmp_path / "out").exists()
