import numpy as np
import pytest

from infarct.core.geometry import Grid
from infarct.core.resampling import resample
from infarct.measurement.aspects import ASPECTS_RULE, Rule, score
from infarct.measurement.atlas import load_atlas
from infarct.measurement.localization import Part

ATLAS = load_atlas("aspects")
GRID = ATLAS.labels.grid


def region(name: str, side: str) -> np.ndarray:
    index = next(e.index for e in ATLAS.entries if (e.name, e.side) == (name, side))
    return ATLAS.labels.data == index


def some_of(mask: np.ndarray, share: float) -> np.ndarray:
    at = np.argwhere(mask)[: round(share * mask.sum())]
    part = np.zeros_like(mask)
    part[tuple(at.T)] = True
    return part


def test_a_complete_mca_infarct_scores_zero() -> None:
    names = [e.name for e in ATLAS.entries if (e.group, e.side) == ("ASPECTS", "left")]
    lesion = np.logical_or.reduce([region(name, "left") for name in names])
    anterior, posterior = score(lesion, GRID, np.eye(4))
    assert anterior is not None
    assert (anterior.score, anterior.side, len(anterior.affected)) == (0, "left", 10)
    assert posterior is not None
    assert (posterior.score, posterior.affected, posterior.side) == (10, (), "")


def test_empty_slices_count_as_not_scanned() -> None:
    lesion = region("insula", "left")
    scanned = np.zeros(GRID.shape, bool)
    scanned[:, :, 30:60] = True
    assert score(lesion, GRID, np.eye(4)) != (None, None)
    assert score(lesion, GRID, np.eye(4), scanned) == (None, None)


@pytest.mark.parametrize("territory", ["ACA", "VB brainstem"])
def test_an_infarct_outside_all_regions_costs_no_point(territory: str) -> None:
    """The atlas of a score omits some of the brain on purpose: ACA, medulla."""
    atlas = load_atlas("territories")
    found = [e.index for e in atlas.entries if e.name == territory and e.side in {"left", ""}]
    fed = np.isin(resample(atlas.labels, GRID, np.eye(4), labels=True), found)
    lesion = fed & (ATLAS.labels.data == 0)
    assert lesion.sum() * GRID.voxel_ml > 1
    anterior, posterior = score(lesion, GRID, np.eye(4))
    assert anterior is not None
    assert posterior is not None
    assert (anterior.score, posterior.score) == (10, 10)


def test_the_worse_side_is_scored() -> None:
    lesion = region("insula", "right") | region("M5", "right") | region("caudate", "left")
    anterior = score(lesion, GRID, np.eye(4))[0]
    assert anterior is not None
    assert (anterior.score, anterior.side, anterior.affected) == (8, "right", ("M5", "insula"))
    # M6 is larger than the caudate.
    one_each = region("caudate", "left") | region("M6", "right")
    tied = score(one_each, GRID, np.eye(4))[0]
    assert tied is not None
    assert (tied.score, tied.side) == (9, "right")


def test_a_region_is_affected_from_a_fifth_or_three_ml() -> None:
    insula, parietal = region("insula", "left"), region("M6", "left")
    scores = [
        score(lesion, GRID, np.eye(4))[0].score  # type: ignore[union-attr]
        for lesion in (some_of(insula, 0.19), some_of(insula, 0.21), some_of(parietal, 0.04))
    ]
    assert scores == [10, 9, 9]  # 4% of M6 are 3.6 ml
    assert "20%" in str(ASPECTS_RULE)
    assert not Rule(0.2, 3.0).holds(Part("M6", "left", "ASPECTS", 2.9, 0.19, 1.0))


def test_brainstem_regions_count_once_for_two_points() -> None:
    pons = region("pons", "left") | region("pons", "right")
    posterior = score(pons | region("thalamus", "left"), GRID, np.eye(4))[1]
    assert posterior is not None
    assert posterior.score == 7
    assert posterior.affected == ("pons", "thalamus left")
    assert posterior.side == "both"


def test_a_small_infarct_across_the_midline_of_the_pons_counts() -> None:
    halves = [region("pons", side) for side in ("left", "right")]
    middle = sum(half.sum() for half in halves) * GRID.voxel_ml
    across = [some_of(half, 0.3 / middle * 2) for half in halves]  # 0.3 ml in each
    both = score(across[0] | across[1], GRID, np.eye(4))[1]
    one = score(across[0], GRID, np.eye(4))[1]
    assert both is not None
    assert one is not None
    assert (both.score, both.affected, both.side) == (8, ("pons",), "both")
    assert (one.score, one.side) == (10, "")
    # All of one side and a voxel of the other.
    aside = score(halves[0] | some_of(halves[1], 0.02), GRID, np.eye(4))[1]
    assert aside is not None
    assert aside.side == "left"


def test_no_score_without_a_lesion_or_where_the_scan_ends() -> None:
    assert score(np.zeros(GRID.shape, bool), GRID, np.eye(4)) == (None, None)
    affine = GRID.affine.copy()
    affine[2, 3] += 2 * 34  # from z = -5 mm up
    upper = Grid((*GRID.shape[:2], 44), affine)
    lesion = region("M5", "left")[:, :, 34:]
    assert score(lesion, upper, np.eye(4))[1] is None
    anterior, _ = score(region("insula", "left"), GRID, np.eye(4))
    assert anterior is not None


def test_thick_slices_score_the_same() -> None:
    affine = GRID.affine @ np.diag([1, 1, 3.0, 1])  # 6 mm
    affine[2, 3] += 1.0
    thick = Grid((*GRID.shape[:2], 26), affine)
    lesion = region("lentiform", "left") | region("insula", "left") | region("M2", "left")
    fine, coarse = score(lesion, GRID, np.eye(4))[0], score(lesion[:, :, ::3], thick, np.eye(4))[0]
    assert fine is not None
    assert coarse is not None
    assert fine.score == coarse.score == pytest.approx(7)
