"""A study with several diffusion series, maps, anatomy and a file that is not DICOM."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_scanner import (
    ADC,
    ANATOMY,
    FA,
    SMALL,
    TRACE,
    Protocol,
    Study,
    noise,
    save_classic,
)


@pytest.fixture(scope="session")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save the study of one patient in a folder named after the patient, as on a CD."""
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
