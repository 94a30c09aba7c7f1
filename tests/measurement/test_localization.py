import math
from dataclasses import replace

import numpy as np
import pytest

from infarct.core.geometry import Grid
from infarct.core.nifti import Volume
from infarct.measurement.atlas import Atlas, Entry, load_atlas
from infarct.measurement.localization import locate, look_up

THICK = np.diag([-1.5, 1.5, 5.0, 1.0])  # stored right to left
THICK[:3, 3] = (90.0, -125.0, -75.0)
SCAN = Grid((120, 140, 32), THICK)


def ball(grid: Grid, centre: tuple[float, float, float], radius: float, world=None) -> np.ndarray:
    """Return the voxels within `radius` mm of an MNI point, given `world` (mni_from_native)."""
    through = (np.eye(4) if world is None else world) @ grid.affine
    at = np.moveaxis(np.indices(grid.shape), 0, -1) @ through[:3, :3].T + through[:3, 3]
    return np.linalg.norm(at - centre, axis=-1) <= radius


def test_an_infarct_of_the_left_insula_is_in_the_left_mca_territory() -> None:
    lesion = ball(SCAN, (-40.0, 0.0, 5.0), 12.0)
    found = locate(lesion, SCAN, np.eye(4))
    first = found.territories[0]
    assert (first.name, first.side) == ("MCA", "left")
    assert first.share_of_lesion > 0.95
    assert {part.name for part in first.parts} <= {"MCA cortical", "MCA lenticulostriate"}
    assert found.pattern.dominant_territory == "MCA left"
    assert found.pattern.hemispheres == "left"
    assert (found.pattern.lesions, found.pattern.territories) == ("single", "single")
    assert found.lesions[0].compartment == "cortical"
    assert "insula" in {part.name for part in found.regions}


@pytest.mark.parametrize(
    ("centre", "territory", "compartment"),
    [
        ((11, -19, 7), "PCA right", "deep"),
        ((-27, -2, 3), "MCA left", "deep"),
        ((25, -60, -42), "VB right", "infratentorial"),
        ((-6, 40, 30), "ACA left", "cortical"),
    ],
)
def test_each_lesion_has_a_location(centre, territory: str, compartment: str) -> None:
    lesion = ball(SCAN, centre, 6.0)
    place = locate(lesion, SCAN, np.eye(4)).lesions[0]
    assert (place.territory, place.compartment) == (territory, compartment)


def test_tables_add_up_to_the_lesion_in_native_ml() -> None:
    lesion = ball(SCAN, (-30.0, -30.0, 20.0), 30.0) | ball(SCAN, (25.0, -60.0, -40.0), 9.0)
    found = locate(lesion, SCAN, np.eye(4))
    total = lesion.sum() * 1.5 * 1.5 * 5 / 1000
    for table in (found.territories, found.regions):
        assert sum(part.ml for part in table) == pytest.approx(total, rel=0.01)
        assert sum(part.share_of_lesion for part in table) == pytest.approx(1, rel=0.01)
        assert [part.ml for part in table] == sorted((p.ml for p in table), reverse=True)
        assert all(0 < part.share_of_part <= 1 for part in table)
    for major in found.territories:
        if major.parts:
            assert sum(part.ml for part in major.parts) == pytest.approx(major.ml)
    assert found.pattern.hemispheres == "left"  # the right one holds less than a tenth
    assert found.pattern.lesions == "multiple"


def test_ml_are_those_of_the_scan_whatever_the_size_of_the_head() -> None:
    # The head is 20% smaller than MNI along each axis, turned, and lies elsewhere in the scanner.
    turn, angle = np.eye(4), np.deg2rad(25.0)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    native_from_mni = turn @ np.diag([0.8, 0.8, 0.8, 1.0])
    native_from_mni[:3, 3] = (4.0, 300.0, -50.0)
    mni_from_native = np.linalg.inv(native_from_mni)
    affine = native_from_mni @ np.diag([2.5, 2.5, 2.5, 1.0])
    affine[:3, 3] = (native_from_mni @ [-90, -125, -75, 1])[:3]
    grid = Grid((73, 85, 65), affine)  # 2 mm: the columns of the affine are 2 mm long
    lesion = ball(grid, (-27.0, 0.0, 3.0), 9.0, mni_from_native)
    found = locate(lesion, grid, mni_from_native)
    part = next(p for p in found.regions if p.name == "lentiform")
    whole = look_up(np.zeros_like(lesion), load_atlas("regions"), grid, mni_from_native)
    index = next(e.index for e in whole.entries if (e.name, e.side) == ("lentiform", "left"))
    native_ml = 0.8**3 * (load_atlas("regions").labels.data == index).sum() * 8 / 1000
    assert whole.scanned[index] * 0.008 == pytest.approx(native_ml, rel=0.03)
    assert part.ml == pytest.approx(part.share_of_part * native_ml, rel=0.03)
    assert sum(p.ml for p in found.territories) == pytest.approx(lesion.sum() * 0.008)


def test_lesion_outside_the_atlas_gets_the_nearest_label() -> None:
    lesion = ball(SCAN, (-70.0, -30.0, 20.0), 5.0) & ~ball(SCAN, (0.0, -30.0, 20.0), 70.0)
    found = locate(lesion, SCAN, np.eye(4))
    assert found.territories[0].name == "MCA"
    assert found.territories[0].share_of_lesion == pytest.approx(1)
    outside = ball(SCAN, (-86.0, 60.0, 70.0), 4.0)
    nowhere = locate(outside, SCAN, np.eye(4))
    assert (nowhere.territories, nowhere.pattern.dominant_territory) == ((), "unknown")
    assert nowhere.lesions[0].compartment == "unknown"


def test_two_hemispheres_and_several_territories_are_reported() -> None:
    lesion = ball(SCAN, (-40.0, 0.0, 5.0), 8.0) | ball(SCAN, (10.0, -80.0, 3.0), 8.0)
    pattern = locate(lesion, SCAN, np.eye(4)).pattern
    assert pattern.hemispheres == "both"
    assert (pattern.lesions, pattern.territories) == ("multiple", "multiple")
    assert 0 <= pattern.border_zone_share < 0.3


def test_an_empty_mask_has_no_location() -> None:
    found = locate(np.zeros(SCAN.shape, bool), SCAN, np.eye(4))
    assert (found.territories, found.regions, found.lesions) == ((), (), ())
    pattern = found.pattern
    assert (pattern.hemispheres, pattern.lesions, pattern.territories) == ("none",) * 3
    assert pattern.dominant_territory == ""
    assert math.isnan(pattern.border_zone_share)


def test_a_custom_atlas_defines_the_table_of_territories() -> None:
    own = load_atlas("territories")
    halves = np.where(own.labels.data > 0, 1, 0).astype(np.uint16)
    halves[:, 49:] *= 2
    entries = (Entry(1, "back", "", "back"), Entry(2, "front", "", "front"))
    atlas = Atlas(Volume(halves, own.labels.affine), entries, "halves.nii.gz", "0", "1")
    lesion = ball(SCAN, (-40.0, 30.0, 15.0), 8.0)
    found = locate(lesion, SCAN, np.eye(4), atlas)
    assert [(p.name, p.side, p.parts) for p in found.territories] == [("front", "", ())]
    assert found.pattern.dominant_territory == "front"
    assert found.atlas is atlas
    assert replace(found.pattern, border_zone_share=0.0).territories == "single"
