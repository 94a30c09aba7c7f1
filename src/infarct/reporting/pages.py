"""The Jinja environment of all HTML pages: templates, shared style sheet and formats."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from infarct.core.units import format_probability, format_volume
from infarct.reporting.narrative import artery, side_first

TEMPLATES = Path(__file__).parent / "templates"
"""Folder of templates, style sheets and scripts."""


@lru_cache(maxsize=1)
def page_environment() -> Environment:
    """Return the environment for the templates in `reporting/templates`."""
    environment = Environment(
        loader=PackageLoader("infarct.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ml": format_volume,
        "chance": format_probability,
        "artery": artery,
        "side_first": side_first,
        "number": _number,
        "share": _share,
        "sentence": _sentence,
        "css_string": _css_string,
    }
    return environment


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    """Format a share with at most two significant digits."""
    if value is None:
        return "–"
    return f"{value:.0%}" if value >= 0.0995 or value == 0 else f"{value:.1%}"


def _sentence(message: str) -> str:
    return message if message.endswith(("?", ".", "!")) else f"{message}."


def _css_string(text: str) -> str:
    """Escape a text for a quoted CSS string, also within a style element."""
    return "".join(c if c.isalnum() else f"\\{ord(c):x} " for c in text)
