import pytest

from infarct.core.units import (
    format_duration,
    format_names,
    format_probability,
    format_volume,
)


@pytest.mark.parametrize(
    ("volume", "said"),
    [
        (114.53, "115 ml"),
        (9.96, "10 ml"),
        (9.94, "9.9 ml"),
        (4.435, "4.4 ml"),
        (0.0863, "0.086 ml"),
        (0.00512, "0.0051 ml"),
        (0.0003, "0.0003 ml"),
        (0.0, "0 ml"),
    ],
)
def test_volumes_have_two_significant_digits_below_ten_millilitres(
    volume: float, said: str
) -> None:
    assert format_volume(volume) == said


def test_no_probability_is_certainty() -> None:
    said = [format_probability(p) for p in (0.9959, 0.97, 0.04, 0.004)]
    assert said == ["over 99%", "97%", "4%", "below 1%"]
    assert format_probability(None) == "\N{EN DASH}"


def test_long_lists_of_names_are_cut_and_counted() -> None:
    assert format_names([]) == ""
    assert format_names(["a", "b"], most=2) == "a, b"
    assert format_names(["a", "b", "c", "d"], most=2) == "a, b and 2 more"


def test_durations_have_their_natural_unit() -> None:
    said = [format_duration(seconds) for seconds in (4.4, 99, 100, 5400, 32_400, 172_800)]
    assert said == ["4 s", "99 s", "2 min", "90 min", "9 h", "2 days"]
