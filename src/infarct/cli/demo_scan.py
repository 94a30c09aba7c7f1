"""The bundled synthetic scan, and a score against its true lesion mask."""

from __future__ import annotations

from infarct.core import assets
from infarct.core.diffusion import USUAL_BVALUE
from infarct.core.nifti import read
from infarct.evaluation.metrics import Overlap, overlap
from infarct.preprocessing.case import CaseFiles
from infarct.segmentation.result import Segmentation


def demo_files() -> CaseFiles:
    """Return the files of the synthetic scan."""
    return CaseFiles(assets.path("demo/dwi"), assets.path("demo/b0"), bvalue=USUAL_BVALUE)


def overlap_with_truth(result: Segmentation) -> Overlap:
    """Compare a segmentation of the synthetic scan with its true lesion.

    Args:
        result: Segmentation of `demo_files()`.
    """
    return overlap(read(assets.path("demo/lesion")).data > 0.5, result.lesion.data)


def score(result: Segmentation) -> str:
    """Compare a segmentation of the synthetic scan with its true lesion, in one sentence.

    Args:
        result: Segmentation of `demo_files()`.
    """
    truth = read(assets.path("demo/lesion"))
    agreement = overlap_with_truth(result)
    true_ml = float((truth.data > 0.5).sum()) * truth.grid.voxel_ml
    return (
        f"True lesion volume of this synthetic scan: {true_ml:.2f} ml; segmented: "
        f"{result.measurements.lesion_volume_ml:.2f} ml. Dice {agreement.dice:.2f}, "
        f"precision {agreement.precision:.2f}, sensitivity {agreement.sensitivity:.2f}."
    )
