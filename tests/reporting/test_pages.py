"""Formats and styles that all pages share."""

import re

from infarct.reporting.pages import page_environment


def test_shares_have_at_most_two_significant_digits() -> None:
    share = page_environment().filters["share"]
    assert [share(v) for v in (None, 0.0, 0.004, 0.0123, 0.098, 0.436, 1.0)] == [
        *("\N{EN DASH}", "0%", "0.4%", "1.2%", "9.8%", "44%", "100%"),
    ]


def test_css_strings_cannot_end_their_string_or_element() -> None:
    escaped = page_environment().filters["css_string"]('a"b</style>\\')
    assert re.fullmatch(r"(\w|\\[0-9a-f]+ )*", escaped)
    assert escaped.startswith("a\\22 b")


def test_every_style_variable_is_documented() -> None:
    environment = page_environment()
    style = environment.loader.get_source(environment, "style.css")[0]
    comment = style[: style.index("*/")]
    defined = set(re.findall(r"(--[\w-]+):", style))
    assert defined == set(re.findall(r"--[\w-]+", comment))
