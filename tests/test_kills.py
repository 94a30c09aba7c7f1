"""SIGKILL while results are written and corrected: complete or absent, and no leftovers."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time

import pytest

from infarct.core.atomic_write import reserved
from infarct.reporting.reader import AUDIT, FILES, OUTLINE, list_files, read_stored
from infarct.reporting.writer import write_results

SCRIPT = """
import pickle
import sys
from pathlib import Path

from infarct.reporting.recompute import recompute
from infarct.reporting.writer import write_results

out, mask = Path(sys.argv[1]), Path(sys.argv[2])
result = pickle.loads(Path(sys.argv[3]).read_bytes())
print("ready", flush=True)
while True:
    write_results(result, out, overwrite_corrected=True)
    recompute(out, mask, by="killed")
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_run_leaves_a_complete_result_or_none(quick, once, tmp_path, seed: int) -> None:
    rng = random.Random(seed)
    out, mask = tmp_path / "results" / "out", tmp_path / "mask.nii.gz"
    write_results(quick, out)
    shutil.copyfile(out / OUTLINE, mask)
    if seed % 2:
        shutil.rmtree(out)
    command = [sys.executable, "-c", SCRIPT, *map(str, (out, mask, once.folder / "quick.pickle"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.0, 6.0))
        process.kill()
    with reserved(out):
        # As any next run on it does first.
        assert [
            path for path in out.parent.iterdir() if path.name not in {"out", ".out.lock"}
        ] == []
    assert [path.name for path in out.parent.iterdir()] == ["out"] * out.exists()
    if out.exists():
        stored = read_stored(out)
        assert stored.manifest[FILES] == list_files(out)
        assert (out / AUDIT).is_file() == bool(stored.summary.get("corrections"))
