import re
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from infarct.cli.console import _PLAIN, Pace, busy, describe_outcome, live_progress, show_result
from infarct.cohort.jobs import Outcome
from infarct.core.findings import Finding
from infarct.core.step_timer import StepProgress
from infarct.pipeline import _STEPS


def test_a_result_is_printed_with_lesions_warnings_and_report(
    segmentation, capsys: pytest.CaptureFixture[str]
) -> None:
    doubt = Finding("brain-cropped", "warning", "the brain is cut off [at] the first slice")
    show_result(replace(segmentation, findings=(doubt,)), Path("out"), 83.4)
    text = capsys.readouterr().out
    assert re.search(r"acute lesion in the left MCA territory, \d+ ml|lesions? .*volume", text)
    assert "check: the brain is cut off [at] the first slice" in text
    assert "report.html (83 s)" in text
    assert "next: review the report; to correct the mask: infarct recompute out" in text


def test_singular_and_plural() -> None:
    one = Outcome("a", "done", volume_ml=0.5, lesions=1, warnings=1)
    assert describe_outcome(one) == "a: 0.50 ml, 1 lesion, 1 warning"
    assert "0 lesions" in describe_outcome(replace(one, lesions=0))


def test_without_a_terminal_there_is_a_line_for_each_finished_step(capsys) -> None:
    with live_progress() as listener:
        listener(StepProgress("register", 2, 13))
        assert capsys.readouterr().err == ""
        listener(StepProgress("a new step", 3, 13))
        said = capsys.readouterr().err
        assert re.fullmatch(r"step 2 of 13, registering to the template: \d+\.\d s\n", said)
    assert capsys.readouterr().err.startswith("step 3 of 13, a new step: ")


def test_a_step_that_fails_is_not_reported_as_finished(capsys) -> None:
    with pytest.raises(ValueError, match="broken"), live_progress() as listener:
        listener(StepProgress("register", 2, 13))
        raise ValueError("broken")
    assert "register" not in capsys.readouterr().err


def test_every_step_of_a_run_has_a_plain_name() -> None:
    assert {*_STEPS, "convert"} <= {*_PLAIN}


def test_a_command_without_steps_says_what_it_does(capsys) -> None:
    with busy("packing"):
        assert capsys.readouterr().err == "packing ...\n"
    assert re.fullmatch(r"packing: \d+\.\d s\n", capsys.readouterr().err)


def test_remaining_time_counts_only_the_cases_run_now() -> None:
    old = Outcome("a", "done", volume_ml=0.0, lesions=0, warnings=0, fresh=False)
    pace = Pace(start=0.0)
    with mock.patch("time.monotonic", return_value=100.0):
        assert pace.left(old, 12) == ""
        # 100 s for one case, and ten are left.
        assert pace.left(replace(old, fresh=True), 12) == "about 17 min left"
        assert pace.left(replace(old, fresh=True), 3) == ""
    assert pace.done == 3
