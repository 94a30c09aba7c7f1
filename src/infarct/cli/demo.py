"""A synthetic scan that ships with the package, with its true lesion: try it, and score it."""

from __future__ import annotations

from infarct.core import assets
from infarct.core.diffusion import USUAL_BVALUE
from infarct.core.nifti import read
from infarct.evaluation.metrics import overlap
from infarct.preprocessing.case import CaseFiles
from infarct.segmentation.result import Segmentation


def demo_files() -> CaseFiles:
    """Return the files of the synthetic scan."""
    return CaseFiles(assets.path("demo/dwi"), assets.path("demo/b0"), bvalue=USUAL_BVALUE)


def score(result: Segmentation) -> str:
    """Say in one sentence how close an outline of the synthetic scan came to its true lesion.

    Args:
        result: Of a segmentation of `demo_files()`.
    """
    truth = read(assets.path("demo/lesion"))
    lesion = truth.data > 0.5
    agreement = overlap(lesion, result.lesion.data)
    true_ml = float(lesion.sum()) * truth.grid.voxel_ml
    return (
        f"The true lesion of this synthetic scan holds {true_ml:.2f} ml, "
        f"{result.measurements.lesion_volume_ml:.2f} ml were outlined: Dice {agreement.dice:.2f}, "
        f"precision {agreement.precision:.2f}, sensitivity {agreement.sensitivity:.2f}."
    )
