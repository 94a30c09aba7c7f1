"""Apply segmentation methods to a preprocessed scan, before candidate filter and measurement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from infarct.core.diffusion import Image, Mask
from infarct.core.geometry import MNI_GRID, Affine
from infarct.core.nifti import Volume
from infarct.core.resampling import resample
from infarct.core.step_timer import StepTimer
from infarct.measurement.volumetry import MeasurementImages
from infarct.preprocessing.case import Case
from infarct.preprocessing.preprocess import Prepared, restore
from infarct.segmentation.inputs import MethodInputs
from infarct.segmentation.measured_slices import MeasuredSlices
from infarct.segmentation.models import Model, Predictor, get_model
from infarct.segmentation.postprocess import outline
from infarct.uncertainty.candidate_features import Evidence

SECOND_METHOD = "cfuzzy"


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
        probability_mni: Lesion probability in MNI space, on the grid that the method reads: the
            measured slices or the 1 mm MNI grid.
        is_map_mni: Modified c-fuzzy map on the same grid, computed for every method.
        slices: The scan on its measured slices.
    """

    probability: Image
    disagreement: Image | None
    candidates: Mask
    second: Mask | None
    probability_mni: Volume
    is_map_mni: Volume
    slices: MeasuredSlices


def predict(
    case: Case, prepared: Prepared, model: Model, timer: StepTimer | None = None
) -> Prediction:
    """Apply a method to a scan; for networks also the c-fuzzy map as second method.

    Args:
        case: Input images.
        prepared: The preprocessed scan.
        model: Method to apply.
        timer: Records the duration of each step.
    """
    (prediction,) = predict_several(case, prepared, [model], timer)
    return prediction


def predict_several(
    case: Case,
    prepared: Prepared,
    models: Iterable[Model],
    timer: StepTimer | None = None,
) -> Iterator[Prediction]:
    """Apply several methods to a scan; networks that they share are computed once.

    Args:
        case: Input images.
        prepared: The preprocessed scan.
        models: Methods to apply.
        timer: Records the duration of each step.

    Yields:
        The prediction of each method, in order.
    """
    timer = timer or StepTimer()
    inputs = MethodInputs(case, prepared)
    maps: dict[Predictor, Volume] = {}
    by_second: dict[bool, Mask] = {}
    for model in models:
        with timer.step("cfuzzy map"):
            is_map = inputs.is_map(on_slices=model.on_slices)
        with timer.step("segment"):
            for predictor in model.predictors:
                if predictor not in maps:
                    maps[predictor] = predictor(inputs)
            members = _on_one_grid([maps[predictor] for predictor in model.predictors])
            images = [member.data for member in members]
            weights = np.array(model.weights, dtype=np.float32)
            mean = members[0].like(np.asarray(np.average(images, axis=0, weights=weights)))
            probability = restore(mean, case, prepared.registration)
            candidates = _mask(probability, case, prepared, model)
            disagreement = None
            if len(members) > 1:
                spread = members[0].like(np.std(images, axis=0, dtype=np.float32))
                disagreement = restore(spread, case, prepared.registration)
        second = None
        if model.networks:
            if model.on_slices not in by_second:
                with timer.step("second method"):
                    is_map_native = restore(is_map, case, prepared.registration)
                    mask = _mask(is_map_native, case, prepared, get_model(SECOND_METHOD))
                    by_second[model.on_slices] = mask
            second = by_second[model.on_slices]
        yield Prediction(probability, disagreement, candidates, second, mean, is_map, inputs.slices)


def _mask(probability: Image, case: Case, prepared: Prepared, method: Model) -> Mask:
    voxel_mm3 = case.dwi.grid.voxel_ml * 1000
    return outline(
        probability,
        method.threshold,
        prepared.brain_native,
        case.slice_axis,
        method.cleaning,
        voxel_mm3,
    )


def _on_one_grid(maps: Sequence[Volume]) -> Sequence[Volume]:
    """Return the maps unchanged if they share a grid; otherwise resampled to the MNI grid."""
    if all(one.data.shape == maps[0].data.shape for one in maps):
        return maps
    return [Volume(resample(one, MNI_GRID), MNI_GRID.affine) for one in maps]


def measurement_images(
    case: Case, prepared: Prepared, prediction: Prediction, mni_from_native: Affine | None = None
) -> MeasurementImages:
    """Collect the images that lesions are measured on, all on the grid of the DWI.

    Args:
        case: Input images.
        prepared: The preprocessed scan.
        prediction: Output of a method.
        mni_from_native: (4, 4) scanner coordinates -> MNI mm, used for sides and locations; the
            in-plane transform of the preprocessing if None.
    """
    place = prepared.registration.mni_from_native if mni_from_native is None else mni_from_native
    return MeasurementImages(
        dwi=case.dwi.data,
        adc=case.adc.data,
        probability=prediction.probability,
        brain=prepared.brain_native,
        grid=case.dwi.grid,
        mni_from_native=place,
    )


def candidate_evidence(
    case: Case, prepared: Prepared, prediction: Prediction, mni_from_native: Affine | None = None
) -> Evidence | None:
    """Collect the input of the candidate filter; None for classical methods.

    Args:
        case: Input images.
        prepared: The preprocessed scan.
        prediction: Output of a method.
        mni_from_native: As for `measurement_images`.
    """
    if prediction.second is None:
        return None

    slices = prediction.slices

    def opposite(image: Image) -> Image:
        # Columns of the lattice lie symmetrically about the midsagittal plane.
        mirrored = Volume(np.ascontiguousarray(image[::-1]), slices.grid.affine)
        return restore(mirrored, case, prepared.registration)

    return Evidence(
        scan=measurement_images(case, prepared, prediction, mni_from_native),
        candidates=prediction.candidates,
        second=prediction.second,
        opposite_dwi=opposite(slices.dwi),
        opposite_adc=opposite(slices.adc),
        slice_axis=case.slice_axis,
    )
