"""The job scripts of the cluster page, run with a stand-in for infarct."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "docs" / "examples" / "cluster"


@pytest.fixture
def submit(tmp_path, monkeypatch):
    """Return a function that runs a job script for one number of the array."""
    for label in ("01", "02", "A3"):
        (tmp_path / "in put" / f"sub-{label}").mkdir(parents=True)
    program = tmp_path / "bin" / "infarct"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s|" "$OMP_NUM_THREADS" "$@"\n')
    program.chmod(0o755)
    bids, out = str(tmp_path / "in put"), str(tmp_path / "out")

    def run(system: str, number: int) -> subprocess.CompletedProcess[str]:
        variable = {"slurm": "SLURM_ARRAY_TASK_ID", "sge": "SGE_TASK_ID", "pbs": "PBS_ARRAY_INDEX"}
        environment = {
            **os.environ,
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            variable[system]: str(number),
            **({"SLURM_SUBMIT_DIR": str(SCRIPTS)} if system == "slurm" else {}),
            **({"PBS_O_WORKDIR": str(SCRIPTS), "BIDS_DIR": bids, "OUT_DIR": out}),
        }
        command = ["bash", str(SCRIPTS / f"{system}.sh"), *([] if system == "pbs" else [bids, out])]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, cwd=SCRIPTS
        )

    return run


@pytest.mark.parametrize("system", ["slurm", "sge", "pbs"])
def test_each_number_processes_one_participant(submit, tmp_path, system: str) -> None:
    done = [submit(system, number) for number in (1, 2, 3)]
    bids, out = tmp_path / "in put", tmp_path / "out"
    assert [each.stdout for each in done] == [
        f"1|bids|{bids}|{out}|participant|--participant-label|{label}|--workers|1|"
        for label in ("01", "02", "A3")
    ]
    late = submit(system, 4)
    assert late.returncode == 2
    assert "no participant number 4" in late.stderr
