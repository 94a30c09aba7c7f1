"""Figures and tables: colours, sizes, orientation and completeness."""

from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from blobs import AFFINE, SHAPE
from disk import save
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from scipy.stats import norm

from infarct.core.normalisation import TissuePeak
from infarct.evaluation.analysis import analyse
from infarct.evaluation.cohort_table import _compared
from infarct.evaluation.costs import Cost
from infarct.evaluation.figures import (
    _signal_density,
    box_plots,
    dice_densities,
    normalisation,
    scatter,
    volume_agreement,
)
from infarct.evaluation.gallery import gallery, pick
from infarct.evaluation.metrics import score
from infarct.evaluation.plot_style import colours, looks
from infarct.evaluation.plot_style import save as save_figure
from infarct.evaluation.score_table import Results
from infarct.evaluation.subject_scores import Case, Histogram, Measured
from infarct.evaluation.subjects import ONSET_LEVELS, Stratum, Subjects
from infarct.evaluation.table_figure import draw_table
from infarct.evaluation.tables import performance_table

EIGHT = tuple("ABCDEFGH")
ONE = np.ones((2, 2, 2), bool)

# Machado, Oliveira and Fernandes 2009, severity 1: linear RGB as seen with red and green blindness.
PROTANOPIA = np.array(
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]
)
DEUTERANOPIA = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)


def invented(n: int, tools: tuple[str, ...], healthy: int = 0) -> Results:
    """Return invented scores of n subjects; the last `healthy` subjects are lesion-free."""
    rng = np.random.default_rng(0)
    template = score(ONE, ONE, np.eye(4))
    measured = {}
    for number in range(n):
        ml = 0.0 if number >= n - healthy else float(rng.lognormal(1.5, 1.5))
        scores = {}
        for tool in tools:
            dice = float(rng.beta(4, 2)) if ml else 0.0
            found = dice > 0.45
            scores[tool] = replace(
                template,
                dice=dice * found,
                precision=dice * found,
                fp_voxels=int(rng.integers(0, 500)),
                touched=found,
                reference_ml=ml,
                prediction_ml=ml * float(rng.lognormal(0, 0.2)),
            )
        measured[f"s{number:04d}"] = Measured(f"s{number:04d}", (1.0, 1.0, 5.0), scores, None)
    return Results(tools, measured, Subjects({}, ()))


def lightness_and_hue(colour: str, eyes: np.ndarray) -> np.ndarray:
    """Return CIE L*a*b* of a colour for a given colour vision."""
    srgb = np.array(to_rgb(colour))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(eyes @ linear, 0, 1)
    xyz_from_rgb = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = np.cbrt(xyz_from_rgb @ seen / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", [np.eye(3), PROTANOPIA, DEUTERANOPIA], ids=["all", "red", "green"])
def test_eight_colours_are_distinguishable_with_any_colour_vision(eyes: np.ndarray) -> None:
    lab = [lightness_and_hue(colour, eyes) for colour in colours(EIGHT).values()]
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(lab, 2)) > 15


@pytest.mark.parametrize("part", ["hatch", "dash"])
def test_tools_of_the_same_colour_differ_in_hatch_and_dash(part: str) -> None:
    tools = [f"tool {number}" for number in range(32)]
    seen = {(look.colour, getattr(look, part)) for look in looks(tools).values()}
    assert len(seen) == len(tools)


def test_a_figure_of_thousands_of_subjects_is_a_small_file(tmp_path: Path) -> None:
    results = invented(3000, ("A",))
    strata = results.stratum("volume", results.with_lesion)
    analysis = analyse(invented(50, ("A",)), np.random.default_rng(0), resamples=20)
    for name, figure in (
        ("box", box_plots(results, strata, results.with_lesion)),
        ("scatter", scatter(results, analysis)),
    ):
        save_figure(figure, tmp_path / name)
        assert (tmp_path / f"{name}.svg").stat().st_size < 600_000, name


def test_boxes_are_as_wide_for_eight_tools_as_for_two() -> None:
    def inches_per_box(tools: tuple[str, ...]) -> float:
        results = invented(40, tools)
        stratum = results.stratum("volume", results.with_lesion)
        figure = box_plots(results, stratum, results.with_lesion)
        return figure.get_figwidth() / (len(stratum.levels) * len(tools))

    assert inches_per_box(EIGHT) > 0.25
    assert inches_per_box(("A", "B")) > 0.25


def test_group_labels_do_not_overlap(tmp_path: Path) -> None:
    results = invented(20, ("A",))
    makers = ("SIEMENS Healthineers", "GE MEDICAL SYSTEMS", "Philips Medical Systems", "Canon")
    level_of = {name: makers[i % 4] for i, name in enumerate(results.with_lesion)}
    stratum = Stratum("manufacturer", "Scanner manufacturer", makers, level_of)
    figure = box_plots(results, stratum, results.with_lesion, "test")
    save_figure(figure, tmp_path / "makers")
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[-1].get_xticklabels()]
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))
    assert figure.get_suptitle() == "Scanner manufacturer: test"


def test_a_dollar_sign_in_a_tool_name_is_printed_literally(tmp_path: Path) -> None:
    results = invented(6, (r"p$\frac$",))
    stratum = results.stratum("volume", results.with_lesion)
    analysis = analyse(results, np.random.default_rng(0), resamples=20)
    histogram = Histogram(np.arange(200), np.linspace(10, 400, 201), TissuePeak(150.0, 20.0, True))
    for number, figure in enumerate(
        (
            dice_densities(results, [results.focused]),
            box_plots(results, stratum, results.with_lesion),
            scatter(results, analysis),
            volume_agreement(results, analysis),
            normalisation({"s0000": histogram}, [stratum]),
        )
    ):
        save_figure(figure, tmp_path / f"dollar-{number}")
        written = [text.get_text() for text in figure.findobj(Text)]
        assert not any("math" in text for text in written), written


def test_identical_scores_are_drawn_as_a_vertical_line() -> None:
    results = invented(30, ("A", "B"))
    for case in results.measured.values():
        case.scores["A"] = replace(case.scores["A"], dice=0.0)
    (panel, *_) = dice_densities(results, [results.focused]).axes
    alike, other = panel.get_lines()
    assert set(alike.get_xdata()) == {0.0}
    assert np.trapezoid(other.get_ydata(), other.get_xdata()) == pytest.approx(1.0, abs=0.01)
    assert 1 < panel.get_ylim()[1] < 20


def test_signal_densities_integrate_to_one_on_both_scales() -> None:
    edges = np.linspace(0, 400, 201)
    counts = np.rint(1e5 * norm.pdf((edges[:-1] + edges[1:]) / 2, 150, 20)).astype(int)
    one = Histogram(counts, edges, TissuePeak(150.0, 20.0, converged=True))
    signals, scores = np.geomspace(8, 400, 2001), np.linspace(-6, 10, 2001)
    measured = np.trapezoid(_signal_density(one, signals, False), np.log(signals))
    normalised = np.trapezoid(_signal_density(one, scores, True), scores)
    assert measured == pytest.approx(1, abs=0.01)
    assert normalised == pytest.approx(1, abs=0.01)


def test_dice_densities_integrate_to_one() -> None:
    results = invented(200, ("A",))
    (panel, *_) = dice_densities(results, [results.focused]).axes
    (line,) = panel.get_lines()
    assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(1.0, abs=0.01)


def test_a_group_too_small_for_a_density_shows_each_subject_in_the_row_of_its_tool() -> None:
    results = invented(3, EIGHT)
    (panel,) = dice_densities(results, [results.focused]).axes[:1]
    assert [label.get_text() for label in panel.get_yticklabels()] == list(EIGHT)
    for row, (tool, line) in enumerate(zip(EIGHT, panel.get_lines(), strict=True)):
        assert np.array_equal(line.get_xdata(), results.values(tool, "dice", results.with_lesion))
        assert set(line.get_ydata()) == {row}


@pytest.mark.parametrize("longer", ["", " with a name as long as this one"])
def test_the_legend_fits_into_the_figure(longer: str, tmp_path: Path) -> None:
    results = invented(3, tuple(name + longer for name in EIGHT))
    stratum = results.stratum("volume", results.with_lesion)
    members = (stratum.members(level, results.with_lesion) for level in stratum.levels)
    of_one_level = next(names for names in members if names)
    figure = box_plots(results, stratum, of_one_level)
    save_figure(figure, tmp_path / "narrow")
    (legend,) = figure.legends
    extent, page = legend.get_window_extent(), figure.bbox
    assert page.x0 <= extent.x0 < extent.x1 <= page.x1
    assert page.y0 <= extent.y0 < extent.y1 <= page.y1


def test_every_column_of_bland_altman_plots_has_tick_labels() -> None:
    results = invented(20, tuple("ABCDEFG"))
    figure = volume_agreement(results, analyse(results, np.random.default_rng(0), resamples=20))
    labelled = [axes.xaxis.get_tick_params()["labelbottom"] for axes in figure.axes[:7]]
    assert labelled == [False] * 3 + [True] * 4


def test_the_gallery_selects_the_subjects_it_names() -> None:
    results = invented(60, ("A", "B"), healthy=10)
    scores = {name: case.scores["A"] for name, case in results.measured.items()}
    picked = {chosen.why: chosen.subject for chosen in pick(results)}
    assert set(picked) == {"best", "median", "worst", "missed", "false positive"}
    touched = [s.dice for s in scores.values() if s.touched]
    assert scores[picked["best"]].dice == max(touched)
    assert scores[picked["worst"]].dice == min(touched)
    assert sorted(touched)[(len(touched) - 1) // 2] == scores[picked["median"]].dice
    assert not scores[picked["missed"]].touched
    assert scores[picked["missed"]].reference_ml > 0
    assert scores[picked["false positive"]].reference_ml == 0


def test_a_false_positive_is_shown_at_the_prediction_of_the_first_tool(tmp_path: Path) -> None:
    """Another tool may have a larger prediction elsewhere."""
    none, few, many = (np.zeros(SHAPE, bool) for _ in range(3))
    few[2:4, 2:4, 1] = True
    many[1:8, 1:8, 3] = True
    for name, mask in (("none", none), ("few", few), ("many", many)):
        save(tmp_path / f"{name}.nii.gz", mask, AFFINE)
    dwi = np.broadcast_to(np.arange(1.0, SHAPE[2] + 1), SHAPE).astype(np.float32)
    save(tmp_path / "dwi.nii.gz", dwi, AFFINE)
    results = invented(1, ("A", "B"))
    predictions = {"A": tmp_path / "few.nii.gz", "B": tmp_path / "many.nii.gz"}
    case = Case("s0000", tmp_path / "none.nii.gz", predictions, dwi=tmp_path / "dwi.nii.gz")
    shown = gallery(results, pick(results), {"s0000": case}).axes[0].get_images()[0].get_array()
    assert shown is not None
    assert np.allclose(shown, 2 / SHAPE[2], atol=0.01)


def test_an_image_with_nan_background_is_shown(tmp_path: Path) -> None:
    lesion = np.zeros(SHAPE, bool)
    lesion[15:20, 15:20, 3] = True
    dwi = np.where(lesion, 200, 100).astype(np.float32)
    dwi[:5] = np.nan
    save(tmp_path / "lesion.nii.gz", lesion, AFFINE)
    save(tmp_path / "dwi.nii.gz", dwi, AFFINE)
    path = tmp_path / "lesion.nii.gz"
    results = invented(1, ("A",))
    case = Case("s0000", path, {"A": path}, dwi=tmp_path / "dwi.nii.gz")
    shown = gallery(results, pick(results), {"s0000": case}).axes[0].get_images()[0].get_array()
    assert shown is not None
    assert np.isfinite(shown).all()
    assert shown.max() == pytest.approx(1)


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_the_gallery_uses_the_radiological_convention(
    tmp_path: Path, flips: tuple[int, int, int]
) -> None:
    affine = AFFINE @ np.diag([*flips, 1.0])
    world = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij")) * np.reshape(
        flips, (3, 1, 1, 1)
    )
    left, front = world[0] < np.median(world[0]), world[1] > np.median(world[1])
    lesion = left & front
    lesion[:, :, 1:] = False
    save(tmp_path / "lesion.nii.gz", lesion, affine)
    save(tmp_path / "dwi.nii.gz", np.where(lesion, 200, 100).astype(np.float32), affine)
    path = tmp_path / "lesion.nii.gz"
    results = invented(1, ("A",))
    case = Case("s0000", path, {"A": path}, dwi=tmp_path / "dwi.nii.gz")
    shown = gallery(results, pick(results), {"s0000": case}).axes[0].get_images()[0].get_array()
    assert shown is not None
    middle_row, middle_column = (size // 2 for size in shown.shape)
    assert shown[:middle_row, middle_column + 1 :].mean() > 0.9
    assert shown[middle_row + 1 :].mean() < 0.6
    assert shown[:, : middle_column - 1].mean() < 0.6


def test_a_drawn_table_contains_every_cell() -> None:
    analysis = analyse(invented(20, ("A", "B")), np.random.default_rng(0), resamples=20)
    table = performance_table(analysis, {"A": Cost(parameters=2_300_000, seconds=41.0)})
    drawn = {text.get_text().strip() for text in draw_table(table).texts}
    cells = {cell.strip() for row in table.rows for cell in row}
    assert cells <= drawn
    assert "2,300,000" in drawn


def test_onset_is_tested_below_and_above_six_hours() -> None:
    counts = np.array([[1, 2], [10, 20], [3, 5], [100, 200], [7, 9]])
    assert _compared("onset", ONSET_LEVELS, counts).tolist() == [[11, 22], [110, 214]]
    assert _compared("onset", ("morning", "night"), counts[:2]).tolist() == counts[:2].tolist()


def test_only_major_groups_of_race_and_manufacturer_are_tested() -> None:
    counts = np.array([[60, 35], [3, 2], [2, 2]])  # shares of .913, .048 and .038
    levels = ("a", "b", "c")
    for key in ("race", "manufacturer"):
        assert _compared(key, levels, counts).tolist() == [[60, 35]]
    assert _compared("sex", levels, counts).tolist() == counts.tolist()
    exact = np.array([[57, 38], [3, 2]])  # 5% exactly counts as major
    assert _compared("race", levels[:2], exact).tolist() == exact.tolist()
