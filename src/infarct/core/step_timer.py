"""What happened on the way: the steps and their seconds, told to whoever listens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class StepTimer:
    """Times named steps.

    Attributes:
        listener: Called with the name of each step as it starts; a progress display, say.
        seconds: Wall-clock seconds of every step that ended, in order.
    """

    listener: Callable[[str], None] = lambda _: None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Run the body as a step of that name."""
        self.listener(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
