"""How well a prediction agrees with its reference, in one subject.

What an empty or a missing mask scores is decided here, once, and used everywhere:

- **Both empty.** Nothing to find and nothing found: every score is 1, the distance 0.
- **One empty.** All of it is wrong: every score is 0, also the precision of a silent tool (0/0),
  which could else raise its mean by outlining nothing. No surface to measure from: the distance is
  the diagonal of the image, a large but finite penalty, as in the BraTS challenges.
- **Prediction missing.** Scored as an empty mask, except that it never counts as right: scores are
  0 whatever the reference, and detection is wrong (a lesion counts as missed, a lesion-free subject
  as falsely flagged). This is the intention-to-diagnose rule of Schuetz et al., BMJ 2012;345:e6717.
- The contrast of an empty mask is undefined (NaN); tables count how many were defined.

Tables of performance average over subjects whose reference holds a lesion, and report false alarms
over the others, so the 1 of two empty masks never flatters a mean.
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
"""Least intersection over union at which two outlines are the same lesion."""

_TYPICAL_ADC = 0.8e-3
_ANY_TOUCH = generate_binary_structure(3, 3)
_FACE_TOUCH = generate_binary_structure(3, 1)


@dataclass(frozen=True)
class Overlap:
    """Voxels two masks share and do not share.

    Attributes:
        tp: In both, voxels.
        fp: In the prediction only, voxels.
        fn: In the reference only, voxels.

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

    def _ratio(self, part: int, whole: int) -> float:
        if whole > 0:
            return part / whole
        return 1.0 if self.tp + self.fp + self.fn == 0 else 0.0


def overlap(reference: Mask, prediction: Mask) -> Overlap:
    """Count shared and unshared voxels of two masks of the same shape."""
    if reference.shape != prediction.shape:
        raise ValueError(f"masks of shapes {reference.shape} and {prediction.shape} do not compare")
    shared = int(np.count_nonzero(reference & prediction))
    return Overlap(
        tp=shared,
        fp=int(np.count_nonzero(prediction)) - shared,
        fn=int(np.count_nonzero(reference)) - shared,
    )


def dice(reference: Mask, prediction: Mask) -> float:
    """Return the Dice score of two masks of the same shape; 1 where both are empty."""
    return overlap(reference, prediction).dice


@dataclass(frozen=True)
class LesionMatch:
    """Lesions found, invented and missed.

    Attributes:
        tp: Pairs of one reference and one predicted lesion that are the same.
        fp: Predicted lesions without a partner.
        fn: Reference lesions without a partner.
    """

    tp: int
    fp: int
    fn: int

    @property
    def recognition_quality(self) -> float:
        """The lesion-wise F1 score; the empty-mask policy holds for it too."""
        return Overlap(self.tp, self.fp, self.fn).dice


def match_lesions(reference: Mask, prediction: Mask, least_iou: float = LESION_IOU) -> LesionMatch:
    """Pair the lesions of two masks one to one, best overlap first.

    A lesion is a 26-connected component.

    Args:
        reference: (X, Y, Z).
        prediction: Same shape.
        least_iou: Intersection over union from which two lesions are the same.

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
    """Measure how far apart two outlines are: the 95% Hausdorff distance.

    The larger of the two directed 95th percentiles, between centres of surface voxels (those with
    a face on the outside), in world space.

    Args:
        reference: (X, Y, Z).
        prediction: Same shape.
        affine: (4, 4) voxel -> world, mm.

    Returns:
        mm; 0 where both are empty, the diagonal of the image where one is.

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
    """Return where the voxels with a face on the outside lie, (N, 3) mm from the first voxel."""
    surface = mask & ~binary_erosion(mask, _FACE_TOUCH)
    positions: np.ndarray = np.argwhere(surface) @ affine[:3, :3].T
    return positions


def contrast(image: Image, lesion: Mask, tissue: Mask) -> float:
    """Return kappa, the mean intensity of a lesion over that of normal brain tissue.

    Args:
        image: (X, Y, Z) DWI or ADC as measured, not shifted to mean 0.
        lesion: Same shape.
        tissue: Same shape, from `normal_tissue`.

    Returns:
        Unitless; NaN where there is no lesion or no tissue.

    References:
        Liu et al. 2021, Methods, "Evaluation of efficiency".
    """
    if not lesion.any() or not tissue.any():
        return math.nan
    normal = float(image[tissue].mean(dtype=np.float64))
    return float(image[lesion].mean(dtype=np.float64)) / normal if normal > 0 else math.nan


def normal_tissue(brain: Mask, lesion: Mask, adc: Image | None) -> Mask:
    """Outline normal brain tissue: brain without the lesion and, given the ADC, without fluid.

    Args:
        brain: (X, Y, Z).
        lesion: Same shape.
        adc: Same shape, in mm^2/s or those times a power of 10; tissue is as in `quality`.
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
    """What the contrast of a lesion is measured on; all on the grid of the masks.

    Attributes:
        brain: (X, Y, Z).
        dwi: (X, Y, Z) signal, or None.
        adc: (X, Y, Z), or None.
        reach: (X, Y, Z), where both of them reach; everywhere if None.
    """

    brain: Mask
    dwi: Image | None
    adc: Image | None
    reach: Mask | None = None


@dataclass(frozen=True)
class Scores:
    """Everything measured on one prediction.

    Attributes:
        missing: No prediction was there; scored by the policy of this room.
        dice: 0 - 1.
        precision: 0 - 1.
        sensitivity: 0 - 1.
        fp_voxels: Voxels in the prediction only.
        fn_voxels: Voxels in the reference only.
        detected: Anything was outlined: a hit where there is a lesion, a false alarm elsewhere.
        touched: The outline shares a voxel with the reference: found in the right place.
        reference_ml: Volume of the reference.
        prediction_ml: Volume of the prediction.
        absolute_difference_ml: Between the two volumes.
        reference_lesions: 26-connected components.
        prediction_lesions: 26-connected components.
        lesion_count_difference: Absolute.
        recognition_quality: Lesion-wise F1, see `match_lesions`.
        hausdorff95_mm: See `hausdorff95_mm`.
        kappa_dwi_reference: Lesion over normal tissue, see `contrast`; NaN if unknown.
        kappa_dwi_prediction: The same, by the prediction.
        kappa_adc_reference: The same in ADC, by the reference.
        kappa_adc_prediction: The same in ADC, by the prediction.
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
    kappa_dwi_reference: float
    kappa_dwi_prediction: float
    kappa_adc_reference: float
    kappa_adc_prediction: float


def score(
    reference: Mask, prediction: Mask | None, affine: Affine, images: Images | None = None
) -> Scores:
    """Measure everything on one prediction.

    Args:
        reference: (X, Y, Z).
        prediction: Same shape; None where the tool left none.
        affine: (4, 4) voxel -> world, mm.
        images: To measure contrast on; without them kappas are NaN.
    """
    missing = prediction is None
    outline = np.zeros_like(reference) if prediction is None else prediction
    voxels = overlap(reference, outline)
    # Everything but the contrast lies in the box around both masks; most of an image is outside.
    box = _box(reference | outline)
    lesions = match_lesions(reference[box], outline[box])
    n_reference, n_prediction = lesions.tp + lesions.fn, lesions.tp + lesions.fp
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0
    reference_ml = (voxels.tp + voxels.fn) * voxel_ml
    prediction_ml = (voxels.tp + voxels.fp) * voxel_ml
    right = 0.0 if missing else 1.0
    apart = hausdorff95_mm(reference, outline, affine)
    kappa_reference, kappa_prediction = _kappas(images, reference), _kappas(images, outline)
    return Scores(
        missing=missing,
        dice=right * voxels.dice,
        precision=right * voxels.precision,
        sensitivity=right * voxels.sensitivity,
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
        recognition_quality=right * lesions.recognition_quality,
        hausdorff95_mm=_diagonal_mm(reference.shape, affine) if missing else apart,
        kappa_dwi_reference=kappa_reference[0],
        kappa_dwi_prediction=kappa_prediction[0],
        kappa_adc_reference=kappa_reference[1],
        kappa_adc_prediction=kappa_prediction[1],
    )


def _box(mask: Mask) -> tuple[slice, ...]:
    """Return the smallest box that holds a mask; one voxel where it is empty."""
    sides = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        seen = np.flatnonzero(mask.any(axis=others))
        sides.append(slice(seen[0], seen[-1] + 1) if seen.size else slice(0, 1))
    return tuple(sides)


def _kappas(images: Images | None, lesion: Mask) -> tuple[float, float]:
    """Return kappa in DWI and ADC; each mask is measured as if it were the only one."""
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
