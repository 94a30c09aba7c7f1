"""Timing and progress of processing steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StepProgress:
    """The step that a run has reached.

    Attributes:
        step: Name of the step that starts now.
        number: Number of this step, from 1.
        total: Number of steps of the run.
    """

    step: str
    number: int
    total: int


Listener = Callable[[StepProgress], None]
"""Function that is called with each step as it starts."""


@dataclass
class StepTimer:
    """Times named steps.

    Attributes:
        listener: Called with each step as it starts, for example to show progress.
        planned: Names of the steps of the run, for their total number.
        seconds: Wall-clock seconds of every finished step, in order. Steps that finished before
            the timer was created may be given.
    """

    listener: Listener = lambda _: None
    planned: Sequence[str] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    _started: list[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._started = list(self.seconds)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the body as a step with this name."""
        if name not in self._started:
            self._started.append(name)
        total = max(len(self.planned), len(self._started))
        self.listener(StepProgress(name, self._started.index(name) + 1, total))
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
