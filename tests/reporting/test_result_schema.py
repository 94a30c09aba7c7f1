import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from infarct.reporting.html_report import _OPTIONAL, _Columns, _numbers
from infarct.reporting.narrative import certainty, impression, verdict
from infarct.reporting.result_schema import MANIFEST, SUMMARY, check, parse

REMOVED = object()
DAMAGE = (REMOVED, None, "x", "", -1, 10**30, 1e300, True, [], {}, [None], {"a": None}, [[]])


def places(content: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside: Any = ()
    if isinstance(content, dict):
        inside = content.items()
    elif isinstance(content, list):
        inside = enumerate(content[:1])
    for key, value in inside:
        yield (*at, key)
        yield from places(value, (*at, key))


def damaged(content: Any, at: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(content)
    inner = changed
    for key in at[:-1]:
        inner = inner[key]
    if value is REMOVED:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return changed


def test_what_is_written_has_the_shape(stored) -> None:
    check(stored.summary, SUMMARY)
    check(stored.manifest, MANIFEST)


def test_every_damaged_value_is_refused_or_can_be_told(stored) -> None:
    audit = {"date_utc": "", "by": "", "reason": "", "kept_as": "", "ml_before": 1, "ml_after": 2}
    told = refused = 0
    for summary in (stored.summary, {**stored.summary, "corrections": [audit]}):
        for at in places(summary):
            for value in DAMAGE:
                changed = damaged(summary, at, value)
                try:
                    check(changed, SUMMARY)
                except ValueError:
                    refused += 1
                    continue
                whole = {**dict.fromkeys(_OPTIONAL), **changed}
                assert verdict(whole)
                assert certainty(whole)
                assert impression(whole)
                assert _numbers(whole)
                assert _Columns.of(whole["lesions"])
                told += 1
    assert min(told, refused) > 100


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested"),
        ('{"a":' * 100_000, "nested"),
        ('{"a": NaN}', "not a number"),
        ("[]", "an object is expected"),
        ("{", "Expecting"),
        (f'{{"a": {"9" * 5000}}}', "digits"),
    ],
)
def test_texts_that_are_no_json_object_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(text)


def test_the_first_wrong_key_is_named(stored) -> None:
    summary = json.loads(json.dumps(stored.summary))
    summary["lesions"][0]["side"] = "up"
    with pytest.raises(ValueError, match=r"lesions\[0\]\.side: left or right or bilateral"):
        check(summary, SUMMARY)
    with pytest.raises(ValueError, match="lesion_count"):
        check({**stored.summary, "lesion_count": 99}, SUMMARY)


def test_a_lesion_that_leaves_no_normal_tissue_has_a_mean_but_no_ratios(stored) -> None:
    for null, reason in (
        (("kappa_dwi", "kappa_adc"), None),
        (("kappa_dwi", "kappa_adc", "mean_adc"), None),
        (("kappa_dwi",), "kappa_dwi is null"),
        (("kappa_adc", "mean_adc"), "kappa_adc is null"),
        (("mean_adc",), "mean_adc is null"),
    ):
        summary = copy.deepcopy(stored.summary)
        summary["lesions"][0] |= dict.fromkeys(null)
        if reason is None:
            check(summary, SUMMARY)
            assert impression({**dict.fromkeys(_OPTIONAL), **summary})
        else:
            with pytest.raises(ValueError, match=rf"lesions\[0\]\.{reason}"):
                check(summary, SUMMARY)
