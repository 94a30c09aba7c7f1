"""What each step of `infarct segment` costs on one scan: seconds, and the most memory held.

    python benchmarks/steps.py --dwi dwi.nii.gz [--b0 b0.nii.gz] [--adc adc.nii.gz]
        [--bvalue 1000] [--model ensemble]

Linux only: the peak that the kernel keeps for the process is set back before every step. What a
step holds includes what earlier ones left: images, networks, libraries.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from infarct.core.step_timer import StepProgress
from infarct.pipeline import RunRequest, run
from infarct.preprocessing.case import CaseFiles
from infarct.segmentation.models import DEFAULT

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peaks:
    """Listens to a run and records the time and the peak memory of each step.

    Attributes:
        seconds: Wall-clock seconds of each step.
        megabytes: Peak memory during each step, MB.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.megabytes: dict[str, float] = {}
        self._step = ""
        self._start = time.perf_counter()

    def __call__(self, progress: StepProgress) -> None:
        """End the previous step and start this one."""
        self.end()
        _CLEAR.write_text("5")
        self._step, self._start = progress.step, time.perf_counter()

    def end(self) -> None:
        """End the current step, if any."""
        if self._step:
            peak, seconds = _high_water_mark(), time.perf_counter() - self._start
            self.megabytes[self._step] = max(peak, self.megabytes.get(self._step, 0.0))
            self.seconds[self._step] = self.seconds.get(self._step, 0.0) + seconds


def _high_water_mark() -> float:
    line = next(row for row in _STATUS.read_text().splitlines() if row.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dwi", type=Path, required=True)
    parser.add_argument("--b0", type=Path)
    parser.add_argument("--adc", type=Path)
    parser.add_argument("--bvalue", type=float, default=1000.0)
    parser.add_argument("--model", default=DEFAULT)
    options = parser.parse_args()
    files = CaseFiles(options.dwi, options.b0, options.adc, options.bvalue)
    peaks = Peaks()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        run(RunRequest(files, Path(scratch) / "result", options.model), peaks)
    peaks.end()
    print("| step | seconds | MB |\n|---|---|---|")
    for step, seconds in peaks.seconds.items():
        print(f"| {step} | {seconds:.1f} | {peaks.megabytes[step]:.0f} |")
    whole = time.perf_counter() - start
    print(f"| in all | {whole:.1f} | {max(peaks.megabytes.values()):.0f} |")


if __name__ == "__main__":
    main()
