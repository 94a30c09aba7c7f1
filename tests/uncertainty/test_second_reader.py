"""Agreement between two methods and the findings about disagreement."""

import numpy as np
import pytest

from infarct.uncertainty.second_reader import compare_readers, second_reader_findings


def masks_of(first: slice, second: slice) -> tuple[np.ndarray, np.ndarray]:
    masks = np.zeros((2, 40, 5, 5), dtype=bool)
    masks[0, first], masks[1, second] = True, True
    return masks[0], masks[1]


@pytest.mark.parametrize(
    ("first", "second", "agrees", "levels"),
    [
        (slice(0), slice(0), True, []),
        (slice(0, 10), slice(0, 29), True, []),
        (slice(0, 10), slice(0, 31), False, ["note"]),
        (slice(0), slice(0, 10), False, ["note"]),
        (slice(0, 10), slice(0), False, ["warning"]),
        (slice(0, 10), slice(0, 3), False, ["warning"]),
        (slice(0, 10), slice(20, 30), False, ["warning"]),
        (slice(0, 5), slice(20, 40), False, ["warning"]),
    ],
)
def test_methods_agree_on_empty_or_overlapping_masks_of_similar_volume(
    first, second, agrees, levels
) -> None:
    one, other = masks_of(first, second)
    reading = compare_readers(one, other, 0.01, "cfuzzy")
    assert reading.agrees is agrees
    findings = second_reader_findings(reading, float(one.sum()) * 0.01)
    assert [finding.level for finding in findings] == levels


def test_volumes_are_in_millilitres() -> None:
    reading = compare_readers(*masks_of(slice(0, 10), slice(5, 25)), 0.01, "cfuzzy")
    assert reading.volume_ml == pytest.approx(20 * 25 * 0.01)
    assert reading.overlap_ml == pytest.approx(5 * 25 * 0.01)
    message = second_reader_findings(
        compare_readers(*masks_of(slice(0, 10), slice(0)), 0.01, "cfuzzy"), 2.5
    )
    assert "2.50 ml" in message[0].message
