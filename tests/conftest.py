"""A head to test on, painted from the shipped template: small, quick, and with a known lesion."""

from __future__ import annotations

import fcntl
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import nibabel as nib
import numpy as np
import pytest
from hypothesis import settings
from scipy import ndimage

from infarct.core.geometry import Grid
from infarct.core.nifti import Volume
from infarct.core.resampling import resample
from infarct.measurement.volumetry import MeasurementImages
from infarct.pipeline import segment_case
from infarct.preprocessing.case import CaseFiles
from infarct.preprocessing.load import open_case
from infarct.preprocessing.templates import load_template
from infarct.reporting.reader import Stored, read_stored
from infarct.reporting.writer import write_results
from infarct.segmentation.result import Segmentation
from infarct.uncertainty.candidate_features import Evidence

T = TypeVar("T")

# A busy machine is slow; that is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

DATA = Path(os.environ.get("INFARCT_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the development data, which is no part of the project."""
    if not (DATA / "real").is_dir():
        pytest.skip(f"development data not found at {DATA} (set INFARCT_DATA)")
    return DATA


@dataclass(frozen=True, eq=False)
class Head:
    """A painted scan on its native grid: axial slices of 5 mm, 2 mm in the plane.

    Attributes:
        dwi: Signal at b = 1000.
        b0: Signal.
        adc: mm^2/s.
        lesion: bool.
        brain: bool.
        affine: voxel -> world.
    """

    dwi: np.ndarray
    b0: np.ndarray
    adc: np.ndarray
    lesion: np.ndarray
    brain: np.ndarray
    affine: np.ndarray

    def save(self, folder: Path, **images: np.ndarray) -> dict[str, Path]:
        """Write dwi, b0 and adc (or what is given) as NIfTI and return the paths by role."""
        folder.mkdir(parents=True, exist_ok=True)
        chosen = images or {"dwi": self.dwi, "b0": self.b0, "adc": self.adc}
        paths = {}
        for name, data in chosen.items():
            image = nib.Nifti1Image(data.astype(np.float32), self.affine)
            image.set_qform(self.affine, code=1)
            image.set_sform(self.affine, code=1)
            paths[name] = folder / f"{name}.nii.gz"
            image.to_filename(paths[name])
        return paths


@pytest.fixture(scope="session")
def head() -> Head:
    """Paint a head with an infarct of some 20 ml in the left hemisphere, moved off the template."""
    return paint_head(lesion_centre=(-38.0, -15.0, 22.0))


class Once:
    """Makes what is costly once for all processes that test side by side: the first to ask does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, make: Callable[[Path], T]) -> T:
        """Return what `make` made, here or elsewhere, in a folder that it may fill."""
        kept = self.folder / f"{name}.pickle"
        with (self.folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.is_file():
                kept.write_bytes(pickle.dumps(make(self.folder / name)))
        made: T = pickle.loads(kept.read_bytes())
        return made


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Share between the processes of this run."""
    own = tmp_path_factory.getbasetemp()
    return Once(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(scope="session")
def segmentation(head: Head, once: Once) -> Segmentation:
    """Segment the painted head once for all who only look at the result."""
    return once("segmentation", lambda to: segment_case(open_case(CaseFiles(**head.save(to)))))


@pytest.fixture(scope="session")
def quick(head: Head, once: Once) -> Segmentation:
    """Segment it by its intensities alone, for all who ask about the road and not the method."""
    return once("quick", lambda to: segment_case(open_case(CaseFiles(**head.save(to))), "cfuzzy"))


@pytest.fixture(scope="session")
def written(segmentation: Segmentation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the result once; a test that changes it works on a copy."""
    out = tmp_path_factory.mktemp("results") / "case"
    return write_results(segmentation, out, command=["segment", "--dwi", "surname/dwi.nii.gz"])


@pytest.fixture(scope="session")
def stored(written: Path) -> Stored:
    """Read the written result back."""
    return read_stored(written)


_HOLD = """
import sys
from pathlib import Path
from infarct.core.atomic_write import reserved
with reserved(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held_elsewhere() -> Callable[[Path], AbstractContextManager[None]]:
    """Let another process hold a result folder, as one that is working on it does."""

    @contextmanager
    def hold(folder: Path) -> Iterator[None]:
        command = [sys.executable, "-c", _HOLD, str(folder)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
            assert other.stdout is not None
            assert other.stdin is not None
            assert other.stdout.readline() == "held\n"
            yield
            other.stdin.close()

    return hold


@pytest.fixture
def evidence() -> Evidence:
    """A firm spot, of which a second reader sees half, and a faint one on both sides."""
    shape = (20, 20, 6)
    dwi, adc = np.full(shape, 100.0, np.float32), np.full(shape, 0.8e-3, np.float32)
    probability = np.zeros(shape, np.float32)
    probability[2:6, 2:6, 1:3], probability[12:14, 12:14, 4] = 0.95, 0.55
    opposite_dwi, opposite_adc = dwi.copy(), adc.copy()
    dwi[probability > 0] = 200.0
    opposite_dwi[12:14, 12:14, 4] = 200.0
    adc[probability > 0.9] = 0.4e-3
    second = np.zeros(shape, bool)
    second[2:6, 2:6, 1] = True
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    scan = MeasurementImages(
        dwi, adc, probability, np.ones(shape, bool), Grid(shape, affine), np.eye(4)
    )
    return Evidence(scan, probability > 0.5, second, opposite_dwi, opposite_adc, 2)


@pytest.fixture(scope="session")
def healthy_head() -> Head:
    """Paint the same head without a lesion."""
    return paint_head(lesion_centre=None)


def paint_head(lesion_centre: tuple[float, float, float] | None) -> Head:
    """Paint fluid, tissue, lesion, scalp and noise from the b0 template.

    Args:
        lesion_centre: MNI mm, or None for a healthy head.
    """
    rng = np.random.default_rng(7)
    template = load_template()
    # The scanner's world: the head is a little larger than the template, turned and shifted.
    turn = np.deg2rad(4.0)
    native_from_mni = np.eye(4)
    native_from_mni[:2, :2] = [
        [0.97 * np.cos(turn), -0.94 * np.sin(turn)],
        [0.97 * np.sin(turn), 0.94 * np.cos(turn)],
    ]
    native_from_mni[:3, 3] = (3.0, 9.0, -12.0)
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    affine[:3, 3] = (-110.0, -130.0, -90.0)
    grid = Grid((112, 128, 34), affine)
    mni_from_native = np.linalg.inv(native_from_mni)

    def at(image: np.ndarray) -> np.ndarray:
        volume = Volume(image.astype(np.float32), template.b0.affine)
        return resample(volume, grid, mni_from_native)

    share = at(template.brain)
    contrast = at(template.b0.data)
    brain = share > 0.5
    fluid = np.clip((contrast - 1.35) / 1.15, 0, 1) * brain
    adc = np.where(brain, 0.78e-3 + fluid * 2.1e-3, 0.0)
    b0 = np.where(brain, 300.0 * contrast, 0.0)
    lesion = np.zeros(grid.shape, bool)
    if lesion_centre is not None:
        where = np.indices(grid.shape).reshape(3, -1)
        world = affine[:3, :3] @ where + affine[:3, 3:]
        mni = mni_from_native[:3, :3] @ world + mni_from_native[:3, 3:]
        apart = np.linalg.norm((mni.T - lesion_centre) / (16.0, 20.0, 16.0), axis=1)
        lesion = (apart < 1).reshape(grid.shape) & brain & (fluid < 0.3)
        adc = np.where(lesion, adc * 0.55, adc)
        b0 = np.where(lesion, b0 * 1.2, b0)
    gap = ndimage.binary_dilation(brain, np.ones((7, 7, 1)))
    scalp = ndimage.binary_dilation(gap, np.ones((5, 5, 1))) & ~gap
    b0 = np.where(scalp, 130.0, b0)
    adc = np.where(scalp, 1.2e-3, adc)
    dwi = b0 * np.exp(-1000.0 * adc)
    dwi, b0 = (np.abs(s + rng.normal(0, 4.0, s.shape)) + 0.5 for s in (dwi, b0))
    adc = np.log(b0 / dwi) / 1000.0
    return Head(dwi, b0, adc, lesion, brain, affine)
