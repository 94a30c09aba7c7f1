import pytest

from infarct.core.units import format_names, format_probability, format_volume


@pytest.mark.parametrize(
    ("volume", "said"),
    [
        (114.23, "114.2 ml"),
        (9.996, "10.0 ml"),
        (9.994, "9.99 ml"),
        (4.435, "4.43 ml"),
        (0.0863, "0.086 ml"),
        (0.00512, "0.005 ml"),
        (0.0003, "0.0003 ml"),
        (0.0, "0.00 ml"),
    ],
)
def test_small_volumes_keep_their_digits(volume: float, said: str) -> None:
    assert format_volume(volume) == said


def test_no_probability_is_certainty() -> None:
    said = [format_probability(p) for p in (0.9959, 0.97, 0.04, 0.004)]
    assert said == ["over 99%", "97%", "4%", "below 1%"]
    assert format_probability(None) == "\N{EN DASH}"


def test_long_lists_of_names_are_cut_and_counted() -> None:
    assert format_names([]) == ""
    assert format_names(["a", "b"], most=2) == "a, b"
    assert format_names(["a", "b", "c", "d"], most=2) == "a, b and 2 more"
