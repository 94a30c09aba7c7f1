"""Apply segmentation methods to a preprocessed scan, before candidate filter and measurement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from infarct.core.diffusion import Image, Mask
from infarct.core.geometry import Affine
from infarct.core.step_timer import StepTimer
from infarct.measurement.volumetry import MeasurementImages
from infarct.preprocessing.case import Case
from infarct.preprocessing.preprocess import Prepared, restore
from infarct.segmentation.classical import is_map
from infarct.segmentation.controls import load_healthy
from infarct.segmentation.models import Model, Predictor, get_model
from infarct.segmentation.postprocess import outline
from infarct.uncertainty.candidate_features import Evidence

SECOND_READER = "cfuzzy"


@dataclass(frozen=True, eq=False)
class Prediction:
    """Output of a segmentation method.

    Attributes:
        probability: (X, Y, Z) on the grid of the DWI, 0 - 1; for an ensemble the weighted mean.
        disagreement: Same shape, SD over the networks of an ensemble, 0 - 0.5; None for a single
            network or a classical method.
        candidates: Same shape, bool, lesion candidates before the candidate filter.
        second: Same shape, bool, lesion mask of the second method (c-fuzzy map); None for classical
            methods.
        probability_mni: (192, 224, 192) lesion probability on the MNI grid.
        is_map_mni: (192, 224, 192) modified c-fuzzy map, computed for every method.
    """

    probability: Image
    disagreement: Image | None
    candidates: Mask
    second: Mask | None
    probability_mni: Image
    is_map_mni: Image


def predict(
    case: Case, prepared: Prepared, segmenter: Model, timer: StepTimer | None = None
) -> Prediction:
    """Apply a method to a scan; for networks also the c-fuzzy map as second method.

    Args:
        case: Input images.
        prepared: The preprocessed scan.
        segmenter: Method to apply.
        timer: Records the duration of each step.
    """
    (reading,) = predict_several(case, prepared, [segmenter], timer)
    return reading


def predict_several(
    case: Case,
    prepared: Prepared,
    segmenters: Iterable[Model],
    timer: StepTimer | None = None,
) -> Iterator[Prediction]:
    """Apply several methods to a scan; networks that they share are computed once.

    Args:
        case: Input images.
        prepared: The preprocessed scan.
        segmenters: Methods to apply.
        timer: Records the duration of each step.

    Yields:
        The prediction of each method, in order.
    """
    timer = timer or StepTimer()
    brain = prepared.brain_native
    with timer.step("cfuzzy map"):
        scan = (prepared.dwi_normalised, prepared.adc_normalised, prepared.brain)
        is_map_mni = is_map(*scan, load_healthy())
    maps: dict[Predictor, Image] = {}
    by_second: Mask | None = None
    for segmenter in segmenters:
        with timer.step("segment"):
            for reader in segmenter.readers:
                if reader not in maps:
                    maps[reader] = reader(prepared, is_map_mni)
            members = [maps[reader] for reader in segmenter.readers]
            weights = np.array(segmenter.weights, dtype=np.float32)
            probability_mni: Image = np.asarray(np.average(members, axis=0, weights=weights))
            probability = restore(probability_mni, case, prepared.registration)
            candidates = outline(probability, segmenter.threshold, brain, case.slice_axis)
            disagreement = None
            if len(members) > 1:
                spread = np.std(members, axis=0, dtype=np.float32)
                disagreement = restore(spread, case, prepared.registration)
        if segmenter.networks and by_second is None:
            with timer.step("second method"):
                is_map_native = restore(is_map_mni, case, prepared.registration)
                threshold = get_model(SECOND_READER).threshold
                by_second = outline(is_map_native, threshold, brain, case.slice_axis)
        second = by_second if segmenter.networks else None
        yield Prediction(probability, disagreement, candidates, second, probability_mni, is_map_mni)


def measurement_images(
    case: Case, prepared: Prepared, reading: Prediction, mni_from_native: Affine | None = None
) -> MeasurementImages:
    """Collect the images that lesions are measured on, all on the grid of the DWI.

    Args:
        case: Input images.
        prepared: The preprocessed scan.
        reading: Output of a method.
        mni_from_native: (4, 4) scanner coordinates -> MNI mm, used for sides and locations; the
            in-plane transform of the preprocessing if None.
    """
    place = prepared.registration.mni_from_native if mni_from_native is None else mni_from_native
    return MeasurementImages(
        dwi=case.dwi.data,
        adc=case.adc.data,
        probability=reading.probability,
        brain=prepared.brain_native,
        grid=case.dwi.grid,
        mni_from_native=place,
    )


def candidate_evidence(
    case: Case, prepared: Prepared, reading: Prediction, mni_from_native: Affine | None = None
) -> Evidence | None:
    """Collect the input of the candidate filter; None for classical methods.

    Args:
        case: Input images.
        prepared: The preprocessed scan.
        reading: Output of a method.
        mni_from_native: As for `measurement_images`.
    """
    if reading.second is None:
        return None

    def opposite(image_mni: Image) -> Image:
        return restore(image_mni[::-1], case, prepared.registration)

    return Evidence(
        scan=measurement_images(case, prepared, reading, mni_from_native),
        candidates=reading.candidates,
        second=reading.second,
        opposite_dwi=opposite(prepared.dwi),
        opposite_adc=opposite(prepared.adc),
        slice_axis=case.slice_axis,
    )
