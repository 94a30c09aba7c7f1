"""Schema of `summary.json` and `manifest.json`, validated whenever a result is read.

These files can be edited or damaged. Missing keys and wrong types are reported here, so that code
that uses a result can rely on its structure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LARGEST = 1e12
"""Largest accepted number; far above any volume, ratio or count of a scan."""


@dataclass(frozen=True)
class _Maybe:
    """A value that may be null."""

    pattern: Any


@dataclass(frozen=True)
class _Table:
    """An object with arbitrary keys."""

    pattern: Any


_NUMBER, _INTEGER, _TEXT, _BOOLEAN = float, int, str, bool
_POINT = (_NUMBER, _NUMBER, _NUMBER)
_FINDINGS = [{"code": _TEXT, "message": _TEXT}]
_SHARES = {"side": _Maybe(_TEXT), "ml": _NUMBER, "share_of_lesion": _Maybe(_NUMBER)}
_TERRITORY = {"name": _TEXT, **_SHARES, "share_of_territory": _Maybe(_NUMBER)}
_SCORE = _Maybe({"score": _INTEGER, "side": _Maybe(_TEXT), "affected": [_TEXT], "rule": _TEXT})
_RATIOS = {"dwi_ratio": _Maybe(_NUMBER), "adc_ratio": _Maybe(_NUMBER)}
_MEANS = {**_RATIOS, "mean_adc": _Maybe(_NUMBER)}

SUMMARY: dict[str, Any] = {
    **{"lesion_volume_ml": _NUMBER, "lesion_count": _INTEGER, "left_ml": _NUMBER},
    **{"right_ml": _NUMBER, "intracranial_volume_ml": _NUMBER, **_MEANS},
    "lesions": [
        {
            **{"label": _INTEGER, "volume_ml": _NUMBER, "slices": _INTEGER, **_MEANS},
            **{"side": ("left", "right", "bilateral"), "mean_probability": _Maybe(_NUMBER)},
            **{"centroid_mm": _POINT, "centroid_mni_mm": _POINT, "probability": _Maybe(_NUMBER)},
            **{"territory": _Maybe(_TEXT), "compartment": _Maybe(_TEXT), "region?": _Maybe(_TEXT)},
        }
    ],
    **{"warnings": _FINDINGS, "notes": _FINDINGS},
    **{"method": _TEXT, "model": _TEXT, "threshold": _NUMBER, "brain_method": _TEXT},
    "bvalue_s_per_mm2": _NUMBER,
    "territories?": _Maybe([{**_TERRITORY, "side": _TEXT, "subterritories?": [_TERRITORY]}]),
    "regions?": _Maybe([{"name": _TEXT, **_SHARES, "share_of_region": _Maybe(_NUMBER)}]),
    "pattern?": _Maybe(_Table(_Maybe((_TEXT, _NUMBER)))),
    **{"aspects?": _SCORE, "pc_aspects?": _SCORE},
    "confidence?": _Maybe(
        {
            "infarct_probability?": _Maybe(_NUMBER),
            "volume_interval_ml?": _Maybe((_NUMBER, _NUMBER)),
            "volume_interval_probability?": _NUMBER,
            "failure_probability?": _Maybe(_NUMBER),
            "rejected?": {"candidates": _INTEGER, "ml": _NUMBER},
            "calibration?": _Maybe(
                {"learned_from": _TEXT, "scans": _INTEGER, "with_infarct": _INTEGER}
            ),
            "second_method?": _Maybe(
                {
                    **{"model": _TEXT, "volume_ml": _NUMBER, "agrees": _Maybe(_BOOLEAN)},
                    "differs_at_mm?": _Maybe(_POINT),
                }
            ),
        }
    ),
    "corrections?": [
        {
            **{"date_utc": _TEXT, "by": _TEXT, "reason": _TEXT, "previous_mask": _TEXT},
            **{"ml_before": _NUMBER, "ml_after": _NUMBER},
        }
    ],
}
"""The keys that the report and `recompute` use; other keys are allowed."""

MANIFEST: dict[str, Any] = {
    **{"infarct": _TEXT, "model": _TEXT, "python": _TEXT, "created": _TEXT},
    **{"libraries": _Table(_TEXT), "command": _Maybe([_TEXT])},
    "territories": {"file": _TEXT, "sha256": _TEXT, "names_sha256?": _Maybe(_TEXT)},
    "case?": {"id": _TEXT, "scan_date?": _Maybe(_TEXT), "links?": _Maybe(_Table(_TEXT))},
    "cohort?": {"id": _TEXT},
    "inputs": _Table({"file": _TEXT, "sha256": _TEXT}),
    **{"outputs?": _Maybe(_Table(_TEXT)), "elsewhere?": _Maybe(_Table(_TEXT))},
}


def parse(text: str) -> dict[str, Any]:
    """Parse a JSON text that must contain an object.

    Raises:
        ValueError: If the text is not valid JSON, is nested too deeply, is not an object, or
            contains NaN or Infinity.
    """
    try:
        content = json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, found {_type_name(content)}")
    return content


def check(content: Mapping[str, Any], pattern: Mapping[str, Any]) -> None:
    """Check that an object has the keys and types of a schema.

    Args:
        content: The parsed object.
        pattern: `SUMMARY` or `MANIFEST`.

    Raises:
        ValueError: Names the first key that is missing or has the wrong type.
    """
    _check(content, pattern, "")
    if pattern is SUMMARY:
        _check_agreement(content)


def _check_agreement(summary: Mapping[str, Any]) -> None:
    lesions = summary["lesions"]
    if summary["lesion_count"] != len(lesions):
        raise ValueError(
            f"lesion_count is {summary['lesion_count']}, but lesions has {len(lesions)} entries"
        )
    for index, lesion in enumerate(lesions):
        # Without normal tissue outside the mask both ratios are undefined, but not the mean.
        missing = [key for key in _RATIOS if lesion[key] is None]
        if len(missing) == 1:
            raise ValueError(f"lesions[{index}].{missing[0]} is null, but the other ratio is not")
        if not missing and lesion["mean_adc"] is None:
            raise ValueError(f"lesions[{index}].mean_adc is null, but the ratios are not")
    for index, part in enumerate(summary.get("territories") or []):
        if lesions and part["share_of_lesion"] is None:
            raise ValueError(f"territories[{index}].share_of_lesion is null, but there are lesions")
    confidence = summary.get("confidence") or {}
    if confidence.get("volume_interval_ml") and "volume_interval_probability" not in confidence:
        raise ValueError("confidence.volume_interval_probability is missing")


def _check(content: Any, pattern: Any, where: str) -> None:
    if isinstance(pattern, _Maybe):
        if content is not None:
            _check(content, pattern.pattern, where)
    elif isinstance(pattern, _Table):
        _expect(isinstance(content, dict), content, "an object", where)
        for key, value in content.items():
            _check(value, pattern.pattern, f"{where}.{key}")
    elif isinstance(pattern, Mapping):
        _expect(isinstance(content, dict), content, "an object", where)
        for key, each in pattern.items():
            name = key.removesuffix("?")
            place = f"{where}.{name}".lstrip(".")
            if name in content:
                _check(content[name], each, place)
            elif name == key:
                raise ValueError(f"{place} is missing")
    elif isinstance(pattern, list):
        _expect(isinstance(content, list), content, "a list", where)
        for index, value in enumerate(content):
            _check(value, pattern[0], f"{where}[{index}]")
    elif isinstance(pattern, tuple):
        _check_tuple(content, pattern, where)
    else:
        expected = {
            **{_NUMBER: "a number", _INTEGER: "an integer"},
            **{_TEXT: "a string", _BOOLEAN: "a boolean"},
        }
        _expect(_is(content, pattern), content, expected[pattern], where)


def _check_tuple(content: Any, pattern: tuple[Any, ...], where: str) -> None:
    """Check for one of several strings or types, or for a list of fixed length."""
    if isinstance(pattern[0], str):
        _expect(content in pattern, content, " or ".join(pattern), where)
    elif isinstance(content, list):
        _expect(len(content) == len(pattern), content, f"a list of length {len(pattern)}", where)
        for value, each in zip(content, pattern, strict=True):
            _check(value, each, where)
    else:
        # A tuple of equal types describes a list, one of different types describes alternatives.
        mixed = len(set(pattern)) > 1
        expected = "a string or a number" if mixed else f"a list of length {len(pattern)}"
        _expect(mixed and any(_is(content, each) for each in pattern), content, expected, where)


def _is(content: Any, kind: Any) -> bool:
    if kind is _TEXT or kind is _BOOLEAN:
        return isinstance(content, kind)
    if isinstance(content, bool) or not isinstance(
        content, int if kind is _INTEGER else int | float
    ):
        return False
    return math.isfinite(content) and abs(content) <= _LARGEST


def _expect(holds: bool, content: Any, expected: str, where: str) -> None:
    if not holds:
        raise ValueError(f"{where or 'content'}: expected {expected}, found {_type_name(content)}")


def _type_name(content: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return kinds.get(type(content), "null" if content is None else "a number out of range")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number")
