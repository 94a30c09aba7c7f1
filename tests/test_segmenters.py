import pytest

from infarct.errors import AssetError
from infarct.segmenters import DEFAULT, SEGMENTERS, get_segmenter


def test_every_method_is_found_by_its_name() -> None:
    assert DEFAULT in SEGMENTERS
    for name, method in SEGMENTERS.items():
        assert get_segmenter(name) is method
        assert method.name == name
        assert 0 < method.threshold < 1


def test_an_unknown_method_lists_the_known() -> None:
    with pytest.raises(AssetError, match="cfuzzy"):
        get_segmenter("magic")
