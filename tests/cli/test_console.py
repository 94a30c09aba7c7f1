import re
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from infarct.cli.console import describe_outcome, live_progress, show_result
from infarct.cohort.jobs import Outcome
from infarct.core.findings import Finding
from infarct.core.step_timer import StepProgress


def test_a_result_is_printed_with_lesions_warnings_and_report(
    segmentation, capsys: pytest.CaptureFixture[str]
) -> None:
    doubt = Finding("brain-cropped", "warning", "the brain is cut off [at] the first slice")
    show_result(replace(segmentation, findings=(doubt,)), Path("out"))
    text = capsys.readouterr().out
    assert re.search(r"acute lesions? segmented on the left, .*volume", text)
    assert "check: the brain is cut off [at] the first slice" in text
    assert "report.html" in text


def test_singular_and_plural() -> None:
    one = Outcome("a", "done", volume_ml=0.5, lesions=1, warnings=1)
    assert describe_outcome(one) == "a: 0.50 ml, 1 lesion, 1 warning"
    assert "0 lesions" in describe_outcome(replace(one, lesions=0))


def test_progress_shows_the_step_and_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    with mock.patch("rich.status.Status.update") as update, live_progress() as listener:
        listener(StepProgress("register", 2, 13))
        listener(StepProgress("a new step", 3, 13))
    shown = [call.args[0] for call in update.call_args_list]
    assert shown == ["registering to the template (step 2 of 13)", "a new step (step 3 of 13)"]
