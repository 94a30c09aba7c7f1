"""The ASPECTS and PC-ASPECTS regions."""

import numpy as np

from infarct.lab.atlases.aspects import GROUPS, draw
from infarct.lab.atlases.atlas_files import HALF, two_sided
from infarct.measurement.atlas import load_atlas


def left_of(name: str) -> dict[str, np.ndarray]:
    atlas = load_atlas(name)  # type: ignore[arg-type]
    left = atlas.labels.data[:HALF]
    return {e.name: left == e.index for e in atlas.entries if e.side == "left"}


def test_shipped_map_matches_the_rules() -> None:
    drawn = draw(left_of("regions"), left_of("territories"))
    assert np.array_equal(two_sided(drawn, list(GROUPS)), load_atlas("aspects").labels.data)


def test_regions_do_not_overlap_and_stay_in_their_territory() -> None:
    drawn = draw(left_of("regions"), left_of("territories"))
    assert np.sum(list(drawn.values()), axis=0).max() == 1
    territories = left_of("territories")
    mca = territories["MCA cortical"] | territories["MCA lenticulostriate"]
    for name in ("M1", "M2", "M3", "M4", "M5", "M6"):
        assert not (drawn[name] & ~mca).any()
        assert 25 < drawn[name].sum() * 8 / 1000 < 120  # ml
