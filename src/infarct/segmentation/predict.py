"""What a method makes of a prepared scan, before anything is judged or measured."""

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
    """What a method says.

    Attributes:
        probability: (X, Y, Z) on the grid of the DWI, 0 - 1; the weighted mean of an ensemble.
        disagreement: Same shape, SD over the networks of an ensemble, 0 - .5; None of one method.
        candidates: bool, same shape: what is outlined before it is judged.
        second: bool, same shape: what the c-fuzzy map outlines beside a network; None beside a
            classical method.
        probability_mni: (192, 224, 192).
        is_map_mni: (192, 224, 192) the modified c-fuzzy map, whatever the method.
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
    """Ask a method about a scan, and beside a network the c-fuzzy map.

    Args:
        case: The scan.
        prepared: The same, from `prepare`.
        segmenter: The method.
        timer: Told of the steps.
    """
    (reading,) = predict_several(case, prepared, [segmenter], timer)
    return reading


def predict_several(
    case: Case,
    prepared: Prepared,
    segmenters: Iterable[Model],
    timer: StepTimer | None = None,
) -> Iterator[Prediction]:
    """Ask several methods about a scan; what two of them rest on is computed once.

    Args:
        case: The scan.
        prepared: The same, from `prepare`.
        segmenters: The methods.
        timer: Told of the steps.

    Yields:
        What each of them says, in their order.
    """
    timer = timer or StepTimer()
    brain = prepared.brain_native
    with timer.step("is map"):
        scan = (prepared.dwi_normalised, prepared.adc_normalised, prepared.brain)
        is_map_mni = is_map(*scan, load_healthy())
    maps: dict[Predictor, Image] = {}
    by_second: Mask | None = None
    for segmenter in segmenters:
        with timer.step("outline"):
            for reader in segmenter.readers:
                if reader not in maps:
                    maps[reader] = reader(prepared, is_map_mni)
            opinions = [maps[reader] for reader in segmenter.readers]
            weights = np.array(segmenter.weights, dtype=np.float32)
            probability_mni: Image = np.asarray(np.average(opinions, axis=0, weights=weights))
            probability = restore(probability_mni, case, prepared.registration)
            candidates = outline(probability, segmenter.threshold, brain, case.slice_axis)
            disagreement = None
            if len(opinions) > 1:
                spread = np.std(opinions, axis=0, dtype=np.float32)
                disagreement = restore(spread, case, prepared.registration)
        if segmenter.networks and by_second is None:
            with timer.step("second reader"):
                theirs = restore(is_map_mni, case, prepared.registration)
                threshold = get_model(SECOND_READER).threshold
                by_second = outline(theirs, threshold, brain, case.slice_axis)
        second = by_second if segmenter.networks else None
        yield Prediction(probability, disagreement, candidates, second, probability_mni, is_map_mni)


def measurement_images(
    case: Case, prepared: Prepared, reading: Prediction, mni_from_native: Affine | None = None
) -> MeasurementImages:
    """Put together what outlines are measured on, all on the grid of the DWI.

    Args:
        case: The scan.
        prepared: The same, prepared.
        reading: What a method made of it.
        mni_from_native: (4, 4) what sides and places go by, as good as it gets: an affine. The
            in-plane transform of the preparation if None.
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
    """Put together what the candidates of a network are judged by; None of another method.

    Args:
        case: The scan.
        prepared: The same, prepared.
        reading: What a method made of it.
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
