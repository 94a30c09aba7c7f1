"""Run one scan with progress on the terminal."""

from __future__ import annotations

import time

from infarct.cli.console import live_progress, show_result
from infarct.pipeline import RunRequest, run
from infarct.segmentation.result import Segmentation


def run_and_show(request: RunRequest) -> Segmentation:
    """Segment a scan, write its results, and print a summary."""
    assert request.out is not None
    start = time.monotonic()
    with live_progress() as listener:
        result = run(request, listener)
    show_result(result, request.out, time.monotonic() - start)
    return result
