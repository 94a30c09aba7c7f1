"""Metrics of agreement between a predicted and a reference mask in one subject.

The scores of empty and missing masks are defined here and used everywhere:

- **Both masks empty.** The prediction is correct: every score is 1 and the distance is 0.
- **One mask empty.** The prediction is wrong: every score is 0. This includes the precision of an
  empty prediction (0/0); otherwise a tool could raise its mean by predicting nothing. The distance
  is the diagonal of the image, a large but finite penalty, as in the BraTS challenges.
- **Prediction missing.** Scored as an empty mask that never counts as correct: scores are 0 for any
  reference, and detection is wrong (a lesion counts as missed, a lesion-free subject as a false
  positive). This is the intention-to-diagnose rule of Schuetz et al., BMJ 2012;345:e6717.
- The contrast of an empty mask is undefined (NaN); tables report the number of defined values.

Performance tables average over subjects with a lesion in the reference. False positives in
lesion-free subjects are reported separately, so the score of 1 for two empty masks never raises a
mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, generate_binary_structure, label
from scipy.spatial import KDTree

from infarct.core.diffusion import TISSUE_ADC, Image, Mask
from infarct.core.geometry import Affine

LESION_IOU = 0.25
"""Minimum intersection over union at which two components count as the same lesion."""

_TYPICAL_ADC = 0.8e-3
_ANY_TOUCH = generate_binary_structure(3, 3)
_FACE_TOUCH = generate_binary_structure(3, 1)


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of the overlap of two masks.

    Attributes:
        tp: Voxels in both masks.
        fp: Voxels in the prediction only.
        fn: Voxels in the reference only.

    References:
        Liu et al. 2021, Eq. 10-12.
    """

    tp: int
    fp: int
    fn: int

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FN + FP)."""
        return self._ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return self._ratio(self.tp, self.tp + self.fp)

    @property
    def sensitivity(self) -> float:
        """TP / (TP + FN)."""
        return self._ratio(self.tp, self.tp + self.fn)

    def _ratio(self, numerator: int, denominator: int) -> float:
        if denominator > 0:
            return numerator / denominator
        return 1.0 if self.tp + self.fp + self.fn == 0 else 0.0


def overlap(reference: Mask, prediction: Mask) -> Overlap:
    """Count true positive, false positive and false negative voxels.

    Args:
        reference: (X, Y, Z).
        prediction: Same shape.

    Raises:
        ValueError: If the shapes differ.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"masks have different shapes: {reference.shape} and {prediction.shape}")
    shared = int(np.count_nonzero(reference & prediction))
    return Overlap(
        tp=shared,
        fp=int(np.count_nonzero(prediction)) - shared,
        fn=int(np.count_nonzero(reference)) - shared,
    )


def dice(reference: Mask, prediction: Mask) -> float:
    """Return the Dice score of two masks of the same shape; 1 if both are empty."""
    return overlap(reference, prediction).dice


@dataclass(frozen=True)
class LesionMatch:
    """Lesion counts after matching.

    Attributes:
        tp: Matched pairs of one reference and one predicted lesion.
        fp: Predicted lesions without a match.
        fn: Reference lesions without a match.
    """

    tp: int
    fp: int
    fn: int

    @property
    def recognition_quality(self) -> float:
        """Lesion-wise F1 score; the same rules for empty masks apply."""
        return Overlap(self.tp, self.fp, self.fn).dice


def match_lesions(reference: Mask, prediction: Mask, least_iou: float = LESION_IOU) -> LesionMatch:
    """Match the lesions of two masks one to one, in order of decreasing overlap.

    A lesion is a 26-connected component.

    Args:
        reference: (X, Y, Z).
        prediction: Same shape.
        least_iou: Minimum intersection over union of a match.

    References:
        Recognition quality of Kirillov et al. 2019, as panoptica matches it
        (Kofler et al. 2023, arXiv:2312.02608: naive threshold matching).
    """
    reference_labels, n_reference = label(reference, _ANY_TOUCH)
    predicted_labels, n_prediction = label(prediction, _ANY_TOUCH)
    both = reference & prediction
    pairs, shared = np.unique(
        np.stack([reference_labels[both], predicted_labels[both]]), axis=1, return_counts=True
    )
    reference_sizes = np.bincount(reference_labels.ravel(), minlength=n_reference + 1)
    predicted_sizes = np.bincount(predicted_labels.ravel(), minlength=n_prediction + 1)
    iou = shared / (reference_sizes[pairs[0]] + predicted_sizes[pairs[1]] - shared)
    taken_reference: set[int] = set()
    taken_prediction: set[int] = set()
    for index in np.argsort(-iou, kind="stable"):
        r, p = (int(side) for side in pairs[:, index])
        if iou[index] < least_iou:
            break
        if r not in taken_reference and p not in taken_prediction:
            taken_reference.add(r)
            taken_prediction.add(p)
    tp = len(taken_reference)
    return LesionMatch(tp=tp, fp=n_prediction - tp, fn=n_reference - tp)


def hausdorff95_mm(reference: Mask, prediction: Mask, affine: Affine) -> float:
    """Compute the 95% Hausdorff distance between two masks.

    The larger of the two directed 95th percentiles of the distance between centres of surface
    voxels (voxels with an outer face), in world space.

    Args:
        reference: (X, Y, Z).
        prediction: Same shape.
        affine: (4, 4) voxel -> world, mm.

    Returns:
        Distance, mm; 0 if both masks are empty, the diagonal of the image if only one is.

    References:
        Maier-Hein et al., Metrics reloaded, Nat Methods 2024.
    """
    empty = not reference.any(), not prediction.any()
    if all(empty):
        return 0.0
    if any(empty):
        return _diagonal_mm(reference.shape, affine)
    box = _box(reference | prediction)
    surfaces = [_surface_mm(mask[box], affine) for mask in (reference, prediction)]
    there, _ = KDTree(surfaces[1]).query(surfaces[0])
    back, _ = KDTree(surfaces[0]).query(surfaces[1])
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def _diagonal_mm(shape: tuple[int, ...], affine: Affine) -> float:
    return float(np.linalg.norm(affine[:3, :3] @ np.array(shape, dtype=float)))


def _surface_mm(mask: Mask, affine: Affine) -> np.ndarray:
    """Return the positions of voxels with an outer face, (N, 3) mm relative to the first voxel."""
    surface = mask & ~binary_erosion(mask, _FACE_TOUCH)
    positions: np.ndarray = np.argwhere(surface) @ affine[:3, :3].T
    return positions


def contrast(image: Image, lesion: Mask, tissue: Mask) -> float:
    """Return kappa, the mean intensity of a lesion divided by that of normal brain tissue.

    Args:
        image: (X, Y, Z) DWI or ADC as measured, not shifted to mean 0.
        lesion: Same shape.
        tissue: Same shape, from `normal_tissue`.

    Returns:
        Dimensionless; NaN without lesion or tissue.

    References:
        Liu et al. 2021, Methods, "Evaluation of efficiency".
    """
    if not lesion.any() or not tissue.any():
        return math.nan
    normal = float(image[tissue].mean(dtype=np.float64))
    return float(image[lesion].mean(dtype=np.float64)) / normal if normal > 0 else math.nan


def normal_tissue(brain: Mask, lesion: Mask, adc: Image | None) -> Mask:
    """Segment normal brain tissue: brain without lesion and, if an ADC map is given, without CSF.

    Args:
        brain: (X, Y, Z).
        lesion: Same shape.
        adc: Same shape, mm^2/s times any power of 10, or None. Tissue limits: `TISSUE_ADC`.
    """
    tissue = brain & ~lesion
    if adc is None or not tissue.any():
        return tissue
    median = float(np.median(adc[tissue]))
    if not median > 0:
        return tissue
    unit = 10.0 ** round(math.log10(median / _TYPICAL_ADC))
    low, high = TISSUE_ADC
    return tissue & (adc > low * unit) & (adc < high * unit)


@dataclass(frozen=True, eq=False)
class Images:
    """Images for the measurement of lesion contrast, on the grid of the masks.

    Attributes:
        brain: (X, Y, Z) brain mask.
        dwi: (X, Y, Z) signal, or None.
        adc: (X, Y, Z) in mm^2/s times any power of 10, or None.
        reach: (X, Y, Z) common field of view of DWI and ADC; everywhere if None.
    """

    brain: Mask
    dwi: Image | None
    adc: Image | None
    reach: Mask | None = None


@dataclass(frozen=True)
class Scores:
    """All scores of one prediction.

    Attributes:
        missing: Whether the prediction is missing; for its scores see this module.
        dice: 0 - 1.
        precision: 0 - 1.
        sensitivity: 0 - 1.
        fp_voxels: Voxels in the prediction only.
        fn_voxels: Voxels in the reference only.
        detected: Whether the prediction is non-empty: a true positive in a subject with a lesion, a
            false positive in a lesion-free subject.
        touched: Whether the prediction shares at least one voxel with the reference.
        reference_ml: Volume of the reference, ml.
        prediction_ml: Volume of the prediction, ml.
        absolute_difference_ml: Absolute difference of the two volumes, ml.
        reference_lesions: Number of 26-connected components of the reference.
        prediction_lesions: Number of 26-connected components of the prediction.
        lesion_count_difference: Absolute difference of the two numbers.
        recognition_quality: Lesion-wise F1 score, see `match_lesions`.
        hausdorff95_mm: 95% Hausdorff distance, mm, see `hausdorff95_mm`.
        dwi_ratio_reference: DWI contrast of the reference, see `contrast`; NaN if unknown.
        dwi_ratio_prediction: DWI contrast of the prediction.
        adc_ratio_reference: ADC contrast of the reference.
        adc_ratio_prediction: ADC contrast of the prediction.
    """

    missing: bool
    dice: float
    precision: float
    sensitivity: float
    fp_voxels: int
    fn_voxels: int
    detected: bool
    touched: bool
    reference_ml: float
    prediction_ml: float
    absolute_difference_ml: float
    reference_lesions: int
    prediction_lesions: int
    lesion_count_difference: int
    recognition_quality: float
    hausdorff95_mm: float
    dwi_ratio_reference: float
    dwi_ratio_prediction: float
    adc_ratio_reference: float
    adc_ratio_prediction: float


def score(
    reference: Mask, prediction: Mask | None, affine: Affine, images: Images | None = None
) -> Scores:
    """Compute all scores of one prediction.

    Args:
        reference: (X, Y, Z).
        prediction: Same shape; None if the prediction is missing.
        affine: (4, 4) voxel -> world, mm.
        images: Images for the contrast; without them the kappa values are NaN.
    """
    missing = prediction is None
    predicted = np.zeros_like(reference) if prediction is None else prediction
    voxels = overlap(reference, predicted)
    # Lesions are matched in the bounding box of both masks, which is much smaller than the image.
    box = _box(reference | predicted)
    lesions = match_lesions(reference[box], predicted[box])
    n_reference, n_prediction = lesions.tp + lesions.fn, lesions.tp + lesions.fp
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0
    reference_ml = (voxels.tp + voxels.fn) * voxel_ml
    prediction_ml = (voxels.tp + voxels.fp) * voxel_ml
    credit = 0.0 if missing else 1.0
    distance_mm = hausdorff95_mm(reference, predicted, affine)
    kappa_reference, kappa_prediction = _kappas(images, reference), _kappas(images, predicted)
    return Scores(
        missing=missing,
        dice=credit * voxels.dice,
        precision=credit * voxels.precision,
        sensitivity=credit * voxels.sensitivity,
        fp_voxels=voxels.fp,
        fn_voxels=voxels.fn,
        detected=n_reference == 0 if missing else n_prediction > 0,
        touched=voxels.tp > 0,
        reference_ml=reference_ml,
        prediction_ml=prediction_ml,
        absolute_difference_ml=abs(prediction_ml - reference_ml),
        reference_lesions=n_reference,
        prediction_lesions=n_prediction,
        lesion_count_difference=abs(n_prediction - n_reference),
        recognition_quality=credit * lesions.recognition_quality,
        hausdorff95_mm=_diagonal_mm(reference.shape, affine) if missing else distance_mm,
        dwi_ratio_reference=kappa_reference[0],
        dwi_ratio_prediction=kappa_prediction[0],
        adc_ratio_reference=kappa_reference[1],
        adc_ratio_prediction=kappa_prediction[1],
    )


def _box(mask: Mask) -> tuple[slice, ...]:
    """Return the bounding box of a mask; one voxel if the mask is empty."""
    sides = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        seen = np.flatnonzero(mask.any(axis=others))
        sides.append(slice(seen[0], seen[-1] + 1) if seen.size else slice(0, 1))
    return tuple(sides)


def _kappas(images: Images | None, lesion: Mask) -> tuple[float, float]:
    """Return kappa in DWI and ADC, with normal tissue defined by this mask alone."""
    if images is None:
        return math.nan, math.nan
    brain = images.brain
    if images.reach is not None:
        brain, lesion = brain & images.reach, lesion & images.reach
    tissue = normal_tissue(brain, lesion, images.adc)
    dwi, adc = (
        math.nan if image is None else contrast(image, lesion, tissue)
        for image in (images.dwi, images.adc)
    )
    return dwi, adc
