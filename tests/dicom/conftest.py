"""A visit with everything a scanner saves: diffusion in several forms, maps, anatomy, litter."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from dicom_scanner import (
    ADC,
    ANATOMY,
    FA,
    SMALL,
    TRACE,
    Plane,
    Protocol,
    Study,
    noise,
    save_classic,
)


@pytest.fixture(scope="session")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a visit of one patient: a folder tree with the patient's name, as CDs have it."""
    folder = tmp_path_factory.mktemp("visit") / "Roe_Jane"
    study = Study.new("SIEMENS")
    anatomy, weighted = noise(500), [(1000, noise(400, seed=s)) for s in (1, 2, 3)]
    save_classic(folder / "a", study, Protocol(2, "t1_mprage", ANATOMY), SMALL, [(None, anatomy)])
    b0 = noise(900)
    save_classic(folder / "b", study, Protocol(4, "ep2d_diff_3"), SMALL, [(0, b0), *weighted])
    save_classic(
        folder / "c", study, Protocol(5, "ep2d_diff_TRACEW", TRACE), SMALL, [(1000, noise(400))]
    )
    save_classic(
        folder / "c", study, Protocol(6, "ep2d_diff_ADC", ADC), SMALL, [(None, noise(800))]
    )
    save_classic(folder / "c", study, Protocol(7, "ep2d_diff_FA", FA), SMALL, [(None, noise(300))])
    (folder / "README.TXT").write_text("a CD for Roe^Jane")
    return folder


@dataclass(frozen=True)
class Run:
    """One run of `infarct segment --dicom --dicom-out`.

    Attributes:
        folder: What was read.
        out: What was written.
        before: Time stamps of everything in the folder before the run.
        stdout: What the terminal showed.
        stderr: The same.
    """

    folder: Path
    out: Path
    before: dict[Path, int]
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def run(head, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Scan the painted head on a Siemens, b0 and three directions, and run the command once."""
    folder = tmp_path_factory.mktemp("scanned") / "Roe_Jane_PAT-4711"
    study = Study.new("SIEMENS")
    # The head lies on a RAS grid; a scanner saves rows from front to back, columns to the left.
    corner = head.affine @ [*(n - 1 for n in head.dwi.shape[:2]), 0, 1]
    plane = Plane((-corner[0], -corner[1], corner[2]))
    b0, dwi = (
        np.clip(10 * image[::-1, ::-1].transpose(2, 1, 0), 0, 65535).astype(np.uint16)
        for image in (head.b0, head.dwi)
    )
    directions = [(1000, (dwi * factor).astype(np.uint16)) for factor in (1.1, 1.0, 1 / 1.1)]
    save_classic(folder, study, Protocol(4, "ep2d_diff"), plane, [(0, b0), *directions])
    save_classic(folder, study, Protocol(2, "t1_mprage", ANATOMY), SMALL, [(None, noise(500))])
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    out = folder.parent / "out"
    command = [sys.executable, "-W", "error", "-m", "infarct", "segment", "--dicom", str(folder)]
    done = subprocess.run(
        [*command, "--out", str(out), "--dicom-out"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Run(folder, out, before, done.stdout, done.stderr)
