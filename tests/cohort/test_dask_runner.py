"""Runs the documented SLURM script with a fake queue."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import dask
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.filterwarnings("ignore:Port 8787 is already in use")
def test_the_slurm_recipe_writes_a_job_script_that_starts_one_bounded_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("dask_jobqueue")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is needed to make a certificate")
    page = (ROOT / "docs" / "how-to" / "clusters.md").read_text()
    (setup,) = re.findall(r"```sh\n(umask.*?)```", page, flags=re.DOTALL)
    environment = subprocess.run(
        ["bash", "-c", f"{setup}\nenv"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (tmp_path / "infarct-tls" / "key.pem").stat().st_mode & 0o077 == 0
    pairs = [line.split("=", 1) for line in environment.splitlines() if line.startswith("DASK_")]
    # Dask reads these variables when it is imported.
    tls = {name[5:].lower().replace("__", "."): value for name, value in pairs}
    assert len(tls) == 8
    queue = tmp_path / "bin"
    queue.mkdir()
    submit = f'cp "$1" {tmp_path}/job-$$.sh && echo "Submitted batch job $$"'
    for name, action in {"sbatch": submit, "scancel": "true"}.items():
        (queue / name).write_text(f"#!/bin/sh\n{action}\n")
        (queue / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{queue}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    (recipe,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, object] = {}
    try:
        with dask.config.set(tls):
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
        assert f"--tls-key {tmp_path}/infarct-tls/key.pem" in script
    assert re.search(r"^tls://[\d.]+:\d+$", capsys.readouterr().out.strip())
