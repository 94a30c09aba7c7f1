"""The segmentation result of one scan."""

from __future__ import annotations

from dataclasses import dataclass

from infarct.core.findings import Finding
from infarct.core.nifti import Volume
from infarct.measurement.anatomy import Anatomy
from infarct.measurement.volumetry import Measurements
from infarct.preprocessing.case import Case
from infarct.preprocessing.preprocess import Prepared
from infarct.preprocessing.registration import Refinement
from infarct.segmentation.models import Model
from infarct.uncertainty.candidate_filter import FilteredLesions
from infarct.uncertainty.second_method import MethodComparison


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The segmentation result of one scan.

    Attributes:
        case: Input images.
        prepared: The scan on the MNI grid.
        model: Method that segmented the lesions.
        lesion: Lesion mask, bool, on the grid of the DWI.
        probability: Lesion probability, 0 - 1, same grid.
        disagreement: SD of the probabilities over the networks of an ensemble, same grid; None for
            a single network or a classical method.
        brain: Brain mask, bool, same grid.
        probability_mni: Lesion probability in MNI space, on the measured slices or the 1 mm MNI
            grid, whichever the method reads.
        is_map_mni: Modified c-fuzzy map on the same grid, computed for every method.
        measurements: Volumes and contrast, in total and per lesion.
        filtered: Output of the candidate filter; None if the method is not calibrated.
        anatomy: Territories, regions and scores.
        second_method: Result of the second method (c-fuzzy map); None for classical methods.
        second_mask: Lesion mask of the second method, bool, on the grid of the DWI; None for
            classical methods.
        refinement: Refined transform to MNI space for anatomical look-up.
        findings: Notes and warnings, in the order of the checks.
        seconds: Wall-clock time of each step, seconds.
        engine: Inference engine: `name`, `version`, `precision`.
    """

    case: Case
    prepared: Prepared
    model: Model
    lesion: Volume
    probability: Volume
    disagreement: Volume | None
    brain: Volume
    probability_mni: Volume
    is_map_mni: Volume
    measurements: Measurements
    filtered: FilteredLesions | None
    anatomy: Anatomy
    second_method: MethodComparison | None
    second_mask: Volume | None
    refinement: Refinement
    findings: tuple[Finding, ...]
    seconds: dict[str, float]
    engine: dict[str, str]
