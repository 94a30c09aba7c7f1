import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from infarct.reporting.html_report import _OPTIONAL, _Columns, _numbers
from infarct.reporting.narrative import describe_confidence, impression, verdict
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


def test_written_files_match_the_schema(stored) -> None:
    check(stored.summary, SUMMARY)
    check(stored.manifest, MANIFEST)


def test_damaged_values_are_rejected_or_can_be_rendered(stored) -> None:
    audit = {
        "date_utc": "",
        "by": "",
        "reason": "",
        "previous_mask": "",
        "ml_before": 1,
        "ml_after": 2,
    }
    rendered = rejected = 0
    for summary in (stored.summary, {**stored.summary, "corrections": [audit]}):
        for at in places(summary):
            for value in DAMAGE:
                changed = damaged(summary, at, value)
                try:
                    check(changed, SUMMARY)
                except ValueError:
                    rejected += 1
                    continue
                complete = {**dict.fromkeys(_OPTIONAL), **changed}
                assert verdict(complete)
                assert describe_confidence(complete)
                assert impression(complete)
                assert _numbers(complete)
                assert _Columns.of(complete["lesions"])
                rendered += 1
    assert min(rendered, rejected) > 100


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested"),
        ('{"a":' * 100_000, "nested"),
        ('{"a": NaN}', "not a number"),
        ("[]", "expected an object, found a list"),
        ("{", "Expecting"),
        (f'{{"a": {"9" * 5000}}}', "digits"),
    ],
)
def test_text_other_than_a_json_object_is_rejected(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(text)


def test_error_names_the_first_wrong_key(stored) -> None:
    summary = json.loads(json.dumps(stored.summary))
    summary["lesions"][0]["side"] = "up"
    with pytest.raises(ValueError, match=r"lesions\[0\]\.side: expected left or right or bil"):
        check(summary, SUMMARY)
    with pytest.raises(ValueError, match="lesion_count"):
        check({**stored.summary, "lesion_count": 99}, SUMMARY)


def test_both_ratios_may_be_null_but_not_one_alone(stored) -> None:
    for null, reason in (
        (("dwi_ratio", "adc_ratio"), None),
        (("dwi_ratio", "adc_ratio", "mean_adc"), None),
        (("dwi_ratio",), "dwi_ratio is null"),
        (("adc_ratio", "mean_adc"), "adc_ratio is null"),
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
