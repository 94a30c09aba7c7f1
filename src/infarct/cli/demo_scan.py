"""The bundled synthetic scan, and a score against its true lesion mask."""

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
    """Compare a segmentation of the synthetic scan with its true lesion, in one sentence.

    Args:
        result: Segmentation of `demo_files()`.
    """
    truth = read(assets.path("demo/lesion"))
    lesion = truth.data > 0.5
    agreement = overlap(lesion, result.lesion.data)
    true_ml = float(lesion.sum()) * truth.grid.voxel_ml
    return (
        f"True lesion volume of this synthetic scan: {true_ml:.2f} ml; segmented: "
        f"{result.measurements.lesion_volume_ml:.2f} ml. Dice {agreement.dice:.2f}, "
        f"precision {agreement.precision:.2f}, sensitivity {agreement.sensitivity:.2f}."
    )
