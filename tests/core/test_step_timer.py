import time

import pytest

from infarct.core.step_timer import StepProgress, StepTimer


def test_steps_are_announced_and_timed_in_order() -> None:
    heard: list[StepProgress] = []
    timer = StepTimer(heard.append, ("first", "second"))
    with timer.step("first"):
        time.sleep(0.02)
    with timer.step("second"):
        pass
    with timer.step("first"):
        time.sleep(0.02)
    assert heard == [
        StepProgress("first", 1, 2),
        StepProgress("second", 2, 2),
        StepProgress("first", 1, 2),
    ]
    assert list(timer.seconds) == ["first", "second"]
    assert timer.seconds["first"] >= 0.04


def test_a_step_that_fails_is_not_timed() -> None:
    timer = StepTimer()
    with pytest.raises(ZeroDivisionError), timer.step("broken"):
        raise ZeroDivisionError
    assert timer.seconds == {}


def test_steps_done_before_count_and_unplanned_steps_extend_the_total() -> None:
    heard: list[StepProgress] = []
    timer = StepTimer(heard.append, ("convert", "read"), {"convert": 1.5})
    for name in ("read", "extra"):
        with timer.step(name):
            pass
    assert heard == [StepProgress("read", 2, 2), StepProgress("extra", 3, 3)]
    assert list(timer.seconds) == ["convert", "read", "extra"]
    assert timer.seconds["convert"] == 1.5
