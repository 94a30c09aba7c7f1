"""Predictions of a method: the mean of its networks and their disagreement."""

from dataclasses import replace

import numpy as np

from infarct.core.geometry import MNI_GRID
from infarct.core.nifti import Volume
from infarct.preprocessing.preprocess import restore
from infarct.segmentation.inputs import MethodInputs
from infarct.segmentation.models import Predictor, get_model
from infarct.segmentation.predict import (
    candidate_evidence,
    measurement_images,
    predict,
    predict_several,
)


def test_predictions_are_averaged_and_their_disagreement_is_kept(segmentation) -> None:
    case, prepared = segmentation.case, segmentation.prepared
    high, low = (
        Volume(np.where(prepared.brain, level, 0.0).astype(np.float32), MNI_GRID.affine)
        for level in (0.9, 0.3)
    )
    predictors = (lambda _: high, lambda _: low)
    pair = replace(get_model("cfuzzy"), predictors=predictors, weights=(0.75, 0.25))
    reading = predict(case, prepared, pair)
    brain = Volume(prepared.brain.astype(np.float32), MNI_GRID.affine)
    inside = restore(brain, case, prepared.registration) > 0.999
    np.testing.assert_allclose(reading.probability[inside], 0.75, atol=1e-3)
    np.testing.assert_allclose(reading.disagreement[inside], 0.3, atol=1e-3)
    assert reading.candidates[inside & prepared.brain_native].mean() > 0.99


def test_network_shared_by_two_methods_runs_once(segmentation) -> None:
    case, prepared = segmentation.case, segmentation.prepared
    calls = []

    def constant(value: float) -> Predictor:
        def predictor(_: MethodInputs) -> Volume:
            calls.append(value)
            return Volume(np.full(MNI_GRID.shape, value, np.float32), MNI_GRID.affine)

        return predictor

    high, low = constant(0.9), constant(0.3)
    alone = replace(get_model("cfuzzy"), predictors=(high,))
    pair = replace(alone, predictors=(high, low), weights=(0.5, 0.5))
    both = list(predict_several(case, prepared, [alone, pair]))
    assert calls == [0.9, 0.3]
    for together, method in zip(both, (alone, pair), strict=True):
        by_itself = predict(case, prepared, method)
        np.testing.assert_array_equal(together.probability, by_itself.probability)
        np.testing.assert_array_equal(together.candidates, by_itself.candidates)
        assert (together.disagreement is None) == (by_itself.disagreement is None)


def test_single_classical_method_has_no_disagreement(segmentation) -> None:
    reading = predict(segmentation.case, segmentation.prepared, get_model("cfuzzy"))
    assert reading.disagreement is None
    assert reading.second is None


def test_measurement_images_share_one_grid(segmentation) -> None:
    reading = predict(segmentation.case, segmentation.prepared, get_model("tscore"))
    scan = measurement_images(segmentation.case, segmentation.prepared, reading)
    shapes = {scan.dwi.shape, scan.adc.shape, scan.probability.shape, scan.brain.shape}
    assert shapes == {scan.grid.shape}


def test_opposite_images_are_mirrored(segmentation) -> None:
    case, prepared = segmentation.case, segmentation.prepared
    reading = predict(case, prepared, get_model("cfuzzy"))
    assert candidate_evidence(case, prepared, reading) is None
    reading = replace(reading, second=reading.candidates)
    found = candidate_evidence(case, prepared, reading)
    lesion = segmentation.lesion.data
    # The painted head is symmetric except for its infarct on the left.
    assert case.dwi.data[lesion].mean() > 1.3 * found.opposite_dwi[lesion].mean()
    assert case.adc.data[lesion].mean() < 0.8 * found.opposite_adc[lesion].mean()
