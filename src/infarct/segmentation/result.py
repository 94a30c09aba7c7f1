"""The result for one scan."""

from __future__ import annotations

from dataclasses import dataclass

from infarct.core.diffusion import Image
from infarct.core.findings import Finding
from infarct.core.nifti import Volume
from infarct.measurement.anatomy import Anatomy
from infarct.measurement.volumetry import Measurements
from infarct.preprocessing.case import Case
from infarct.preprocessing.preprocess import Prepared
from infarct.preprocessing.registration import Refinement
from infarct.segmentation.models import Model
from infarct.uncertainty.candidate_filter import FilteredLesions
from infarct.uncertainty.second_reader import SecondReading


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The result for one scan.

    Attributes:
        case: What came in.
        prepared: The scan on the MNI grid.
        segmenter: The method that outlined the lesions.
        lesion: bool mask on exactly the grid of the DWI.
        probability: 0 - 1, same grid.
        disagreement: SD of the probabilities over the networks of an ensemble, same grid; None of
            one method.
        brain: bool, same grid.
        probability_mni: (192, 224, 192).
        is_map_mni: (192, 224, 192) the modified c-fuzzy map, whatever the method.
        measurements: Volumes, contrast, each lesion.
        filtered: How sure it is; None of a method that was never calibrated.
        anatomy: Territories, regions, scores.
        second_reading: What the c-fuzzy map outlines beside a network; None beside a classical
            method.
        refinement: Where the scan lies for looking up anatomy.
        findings: Notes and warnings, in the order they arose.
        seconds: Wall-clock seconds of each step.
        engine: What computed the networks: `name`, `version`, `precision`.
    """

    case: Case
    prepared: Prepared
    segmenter: Model
    lesion: Volume
    probability: Volume
    disagreement: Volume | None
    brain: Volume
    probability_mni: Image
    is_map_mni: Image
    measurements: Measurements
    filtered: FilteredLesions | None
    anatomy: Anatomy
    second_reading: SecondReading | None
    refinement: Refinement
    findings: tuple[Finding, ...]
    seconds: dict[str, float]
    engine: dict[str, str]
