import struct

import pytest
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from infarct.dicom.elements import (
    as_number,
    as_numbers,
    as_tuple,
    comparable_name,
    first_item,
    get_integer,
    get_value,
    printable_text,
    sequence_items,
    tag_value,
)


def test_a_missing_or_damaged_element_reads_as_missing() -> None:
    data = Dataset()
    data.Rows = 64
    data.SliceThickness = "5"
    data["SliceThickness"]._value = "five"
    assert (
        get_value(data, "Rows") == tag_value(data, Tag("Rows")) == get_integer(data, "Rows") == 64
    )
    assert get_value(data, "Columns") is tag_value(data, Tag("Columns")) is None
    assert get_integer(data, "Columns") == get_integer(data, "SliceThickness") == 0


def test_an_element_that_is_not_a_sequence_has_no_items() -> None:
    data, item = Dataset(), Dataset()
    item.Rows = 64
    data.SourceImageSequence = [item]
    data.Rows = 64
    assert sequence_items(data, "SourceImageSequence") == [item]
    assert first_item(data, "SourceImageSequence") == item
    assert sequence_items(data, "Rows") == []
    assert first_item(data, "Rows") == Dataset()


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *(("1.5", 1.5), (2, 2.0), (struct.pack("<d", 800.0), 800.0)),
        *((None, None), ("abc", None), ("nan", None), (float("inf"), None), (b"\0" * 7, None)),
    ],
)
def test_only_finite_numbers_are_numbers(value: object, number: float | None) -> None:
    assert as_number(value) == number


def test_values_of_any_multiplicity_are_read_alike() -> None:
    assert as_tuple(None) == ()
    assert as_tuple("DERIVED") == ("DERIVED",)
    assert as_tuple(["DERIVED", "PRIMARY"]) == ("DERIVED", "PRIMARY")
    assert as_numbers(["1", 2]) == (1.0, 2.0)
    assert as_numbers(["1", "x"]) is as_numbers([]) is as_numbers(None) is None


def test_text_has_no_control_characters_and_names_compare_equal() -> None:
    assert printable_text("\x1b[31mdiff\u202etxt \x07") == "[31mdifftxt"
    assert comparable_name("ROE^JANE^^^") == comparable_name("Roe^Jane ") == "roe jane"
