import time

import pytest

from infarct.journal import Journal


def test_steps_are_announced_and_timed_in_order() -> None:
    heard: list[str] = []
    journal = Journal(heard.append)
    with journal.step("first"):
        time.sleep(0.02)
    with journal.step("second"):
        pass
    with journal.step("first"):
        time.sleep(0.02)
    assert heard == ["first", "second", "first"]
    assert list(journal.seconds) == ["first", "second"]
    assert journal.seconds["first"] >= 0.04


def test_a_step_that_fails_is_not_timed() -> None:
    journal = Journal()
    with pytest.raises(ZeroDivisionError), journal.step("broken"):
        raise ZeroDivisionError
    assert journal.seconds == {}
