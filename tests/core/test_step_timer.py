import time

import pytest

from infarct.core.step_timer import StepTimer


def test_steps_are_announced_and_timed_in_order() -> None:
    heard: list[str] = []
    timer = StepTimer(heard.append)
    with timer.step("first"):
        time.sleep(0.02)
    with timer.step("second"):
        pass
    with timer.step("first"):
        time.sleep(0.02)
    assert heard == ["first", "second", "first"]
    assert list(timer.seconds) == ["first", "second"]
    assert timer.seconds["first"] >= 0.04


def test_a_step_that_fails_is_not_timed() -> None:
    timer = StepTimer()
    with pytest.raises(ZeroDivisionError), timer.step("broken"):
        raise ZeroDivisionError
    assert timer.seconds == {}
