"""The recipe for SLURM, run as it is printed, with a stand-in for the queue."""

import re
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.filterwarnings("ignore:Port 8787 is already in use")
def test_the_slurm_recipe_writes_a_job_script_that_starts_one_bounded_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("dask_jobqueue")
    queue = tmp_path / "bin"
    queue.mkdir()
    submit = f'cp "$1" {tmp_path}/job-$$.sh && echo "Submitted batch job $$"'
    for name, action in {"sbatch": submit, "scancel": "true"}.items():
        (queue / name).write_text(f"#!/bin/sh\n{action}\n")
        (queue / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{queue}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "cohorts.md").read_text()
    (recipe,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, object] = {}
    try:
        exec(recipe.replace("jobs=40", "jobs=2"), names)
        for _ in range(1200):
            jobs = sorted(tmp_path.glob("job-*.sh"))
            if len(jobs) == 2:
                break
            time.sleep(0.1)
    finally:
        if "cluster" in names:
            names["cluster"].close()
    assert len(jobs) == 2
    for job in jobs:
        script = job.read_text()
        assert subprocess.run(["bash", "-n", str(job)], check=False).returncode == 0
        assert "#SBATCH -p normal" in script
        assert "#SBATCH -t 08:00:00" in script
        assert re.search(r"^#SBATCH --mem=3G", script, flags=re.MULTILINE)
        assert "#SBATCH --cpus-per-task=1" in script
        assert "export OMP_NUM_THREADS=1" in script
        assert "--nthreads 1 --memory-limit 2.79GiB" in script
        assert "--lifetime 7h30m" in script
    assert re.search(r"^tcp://[\d.]+:\d+$", capsys.readouterr().out.strip())
