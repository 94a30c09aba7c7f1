"""Checks that each image is of the stated type: DWI, b0 or ADC map.

The checks use the contrast of fluid, which is dark on a DWI, an exponential ADC and a map of
fractional anisotropy, and bright on a b0 and an ADC map. Only ranks and percentiles are compared,
so that units and scaling do not matter. Rationale: docs/explanation/decisions/0024-image-checks.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from infarct.core.diffusion import Image, Mask
from infarct.core.errors import ContentError
from infarct.core.findings import Finding, FindingCode

_MOST_VOXELS, _LEAST_VOXELS = 20000, 500

_SAME = 0.98
"""Rank correlation above which one image was computed from the other."""

_SAME_SIGNAL = 1e-3
"""Largest ln(b0 / DWI) of identical images; in tissue at b = 500 s/mm^2 it is 0.4."""

_LEAST_TAIL, _DOUBTFUL_TAIL = 1.2, 2.0
"""Ratio of the distances from the median to percentiles 97 and 3. Fluid extends the upper tail of
an ADC map: 3.0 to 9.3 on twelve scans; 0.3 to 1.4 on DWI, exponential ADC and anisotropy (2.3 on a
DWI with a large infarct)."""

_SWAPPED_TAIL = 0.36
"""The same ratio for ln(b0 / DWI) if DWI and b0 are swapped: 0.11 to 0.33."""

_LEAST_FOLLOWS, _DOUBTFUL_FOLLOWS = 0.5, 0.7
"""Rank correlation of DWI and b0 in voxels of similar attenuation: 0.86 to 0.97 on twelve scans. An
ADC map as b0, or an exponential ADC or anisotropy map as DWI, gives at most 0.54."""

_LEAST_ALIKE, _USUALLY_ALIKE, _BEYOND_TISSUE = 0.8, 0.9, 0.5
"""Rank correlation of DWI and b0 among the quarter of voxels whose attenuation is closest to the
most frequent one. True pairs reach at least 0.94, and 0.85 in noisy scans of atrophic brains, where
fluid in most voxels lowers the correlation in `tissue` to 0.16. Wrong pairs reach 0.86, but then
their correlation in tissue is less than 0.5 lower."""

_BOTH_BRIGHT, _UNRELATED = 0.15, -0.1
"""Rank correlation of DWI and ADC: -0.66 to -0.30 on twelve scans; of b0 and ADC at least 0.26, of
DWI and b0 at least 0.08."""

_SIGNAL_AGAIN = 0.3
"""The same in tissue: -0.31 to 0.08; of DWI and b0 0.32 to 0.63."""

_OPPOSED = -0.25
"""Rank correlation of DWI and ADC where the ADC is high: -0.87 to -0.53; at least -0.44 if either
image is of another type."""

_Values = NDArray[np.float64]


@dataclass(frozen=True)
class _Relation:
    """Relation of an image with dark fluid to one with bright fluid.

    Attributes:
        tail: Relative extent of the upper tail of the diffusion measure.
        overall: Rank correlation of the two images in the brain.
        tissue: The same for voxels with intermediate diffusion.
        fluid: Rank correlation with the diffusion measure for voxels with high diffusion.
        alike: Rank correlation of the two images among voxels of nearly equal diffusion.
    """

    tail: float
    overall: float
    tissue: float
    fluid: float
    alike: float


def check_types(dwi: Image, b0: Image | None, adc: Image | None, brain: Mask) -> list[Finding]:
    """Check that the given images are a DWI, a b0 and an ADC map.

    Args:
        dwi: (X, Y, Z) given as DWI, 0 where there is no signal.
        b0: (X, Y, Z) given as b0, or None.
        adc: (X, Y, Z) given as ADC map in any unit, or None.
        brain: (X, Y, Z) brain mask.

    Returns:
        A warning if a type is doubtful.

    Raises:
        ContentError: If an image is of another type; the message names the likely type.
    """
    doubts = []
    # The b0 first: the ADC check cannot detect that DWI and b0 are swapped.
    if b0 is not None:
        doubts += _check_b0(*_sample(dwi, b0, brain))
    if adc is not None:
        doubts += _check_adc(*_sample(dwi, adc, brain))
    if not doubts:
        return []
    text = f"{doubts[0]}: check that the correct files were given as DWI, b0 and ADC"
    return [Finding(FindingCode.IMAGE_TYPE, "warning", text)]


def _check_adc(dwi: _Values, adc: _Values) -> list[str]:
    """Check a DWI against an ADC map."""
    if dwi.size < _LEAST_VOXELS:
        return []
    same = _rank_correlation(dwi, adc)
    if same > _SAME:
        raise ContentError(
            "DWI and ADC are the same image, or one was computed from the other; "
            "give the ADC map, on which fluid is bright, as --adc"
        )
    if same < -_SAME:
        raise ContentError(
            "the image given as DWI is a function of the ADC map: it is an exponential ADC (eADC), "
            "not a DWI; give the image with b = 1000 s/mm^2 or similar as --dwi"
        )
    seen = _relate(dwi, adc, adc)
    if seen.tail < _LEAST_TAIL:
        if _tail(dwi) > _DOUBTFUL_TAIL and seen.overall < 0:
            raise ContentError(
                "DWI and ADC appear to be swapped: fluid is bright on the image given as DWI and "
                "dark on the one given as ADC; swap --dwi and --adc"
            )
        likely = (
            "an exponential ADC (eADC) or a DWI"
            if seen.overall > _BOTH_BRIGHT
            else "a map of fractional anisotropy (FA), an exponential ADC (eADC) or a DWI"
        )
        raise ContentError(
            f"ADC: fluid is dark on this image, but bright on an ADC map; it is probably {likely}; "
            "give the ADC map as --adc, or the b0 as --b0"
        )
    if seen.overall > _BOTH_BRIGHT or (seen.tissue > _SIGNAL_AGAIN and seen.overall > _UNRELATED):
        if _tail(dwi) < _LEAST_TAIL or seen.overall < _BOTH_BRIGHT:
            raise ContentError(
                "the image given as ADC varies like the one given as DWI: one of the two is "
                "probably the b0; give the b0 as --b0, and the ADC map, on which fluid is bright, "
                "as --adc"
            )
        raise ContentError(
            "fluid is bright on the image given as DWI, but dark on a DWI; the image may be the "
            "b0 or an ADC map: give the image with b = 1000 s/mm^2 or similar as --dwi"
        )
    if seen.overall > _UNRELATED:
        return [
            f"DWI and ADC are only weakly related (rank correlation {seen.overall:.2f}, normally "
            "-0.5)"
        ]
    if seen.tail < _DOUBTFUL_TAIL or seen.fluid > _OPPOSED:
        return ["fluid on the image given as ADC is less bright than expected of an ADC map"]
    return []


def _check_b0(dwi: _Values, b0: _Values) -> list[str]:
    """Check a DWI against a b0."""
    if dwi.size < _LEAST_VOXELS:
        return []
    attenuation = np.log(b0 / dwi)
    seen = _relate(dwi, b0, attenuation)
    if np.abs(attenuation).max() < _SAME_SIGNAL:
        raise ContentError(
            "DWI and b0 are the same image; give the image without diffusion weighting as --b0"
        )
    if np.ptp(attenuation) < _SAME_SIGNAL:
        return []
    least_alike = min(_USUALLY_ALIKE, max(_LEAST_ALIKE, seen.tissue + _BEYOND_TISSUE))
    related = seen.alike >= least_alike
    if seen.overall < _UNRELATED and seen.tissue < _DOUBTFUL_FOLLOWS and not related:
        likely = (
            "the image given as DWI is probably an ADC map, and the one given as b0 a DWI; or the "
            "image given as DWI is an exponential ADC (eADC)"
            if seen.tail < _LEAST_TAIL
            else "the image given as b0 is probably an ADC map, or the one given as DWI an "
            "exponential ADC (eADC) or a map of fractional anisotropy (FA)"
        )
        raise ContentError(
            f"one of the images given as DWI and b0 is dark where the other is bright: {likely}; "
            "check --dwi and --b0"
        )
    if seen.tail < _LEAST_TAIL:
        raise ContentError(
            f"{_likely_if_fluid_is_bright(seen, dwi, b0)}; give the image with b = 1000 s/mm^2 or "
            "similar as --dwi and the one without diffusion weighting as --b0"
        )
    if seen.tissue < _LEAST_FOLLOWS and not related:
        likely = (
            "the image given as DWI is probably an exponential ADC (eADC) or a map of fractional "
            "anisotropy (FA), or the image given as b0 is an ADC map"
        )
        raise ContentError(
            f"DWI and b0 are not signals of the same scan (rank correlation {seen.tissue:.2f} in "
            f"tissue, normally 0.9): {likely}; check --dwi and --b0"
        )
    if seen.tissue < _DOUBTFUL_FOLLOWS and not related:
        return [
            f"DWI and b0 agree poorly (rank correlation {seen.tissue:.2f} in tissue, normally "
            "0.9); one may be log-scaled or from another scan"
        ]
    if seen.tail < _DOUBTFUL_TAIL or seen.fluid > _OPPOSED:
        return ["the signal loss of fluid from b0 to DWI is smaller than expected"]
    return []


def _likely_if_fluid_is_bright(seen: _Relation, dwi: _Values, b0: _Values) -> str:
    """Name the likely types if fluid is as bright on the given DWI as on the given b0."""
    if seen.tail < _SWAPPED_TAIL and _tail(b0) < _LEAST_TAIL:
        return (
            "DWI and b0 appear to be swapped: fluid is bright on the image given as DWI and dark "
            "on the one given as b0; or the image given as DWI is an ADC map"
        )
    if _tail(dwi) > _DOUBTFUL_TAIL or seen.tail < _SWAPPED_TAIL:
        return (
            "fluid is bright on the image given as DWI, but dark on a DWI; it is probably an ADC "
            "map, or DWI and b0 are swapped"
        )
    return (
        "fluid is not brighter on the image given as b0 than on the one given as DWI: one of the "
        "two is probably an exponential ADC (eADC), a map of fractional anisotropy (FA), "
        "standardised or log-scaled, or they are swapped"
    )


def _sample(first: Image, second: Image, brain: Mask) -> tuple[_Values, _Values]:
    """Return an even sample of brain voxels in which both images are positive."""
    where = np.flatnonzero(brain & (first > 0) & (second > 0))
    where = where[:: max(1, where.size // _MOST_VOXELS)]
    return first.ravel()[where].astype(np.float64), second.ravel()[where].astype(np.float64)


def _relate(dwi: _Values, other: _Values, diffusion: _Values) -> _Relation:
    """Relate a DWI to another image, given a measure of diffusion."""
    low, high, fluid = np.percentile(diffusion, [10, 60, 70])
    tissue = (diffusion > low) & (diffusion < high)
    above = diffusion > fluid
    distance = np.abs(diffusion - _most_frequent(diffusion))
    near = distance <= np.percentile(distance, 25)
    return _Relation(
        tail=_tail(diffusion),
        overall=_rank_correlation(dwi, other),
        tissue=_rank_correlation(dwi[tissue], other[tissue]),
        fluid=_rank_correlation(dwi[above], diffusion[above]),
        alike=_rank_correlation(dwi[near], other[near]),
    )


def _most_frequent(values: _Values) -> float:
    """Return the mode, from a smoothed histogram without the extreme values."""
    counts, edges = np.histogram(values, 60, tuple(np.percentile(values, [2, 98])))
    highest = int(np.convolve(counts, np.ones(5), "same").argmax())
    return float(edges[highest] + edges[highest + 1]) / 2


def _tail(values: _Values) -> float:
    low, middle, high = np.percentile(values, [3, 50, 97])
    return float((high - middle) / max(middle - low, 1e-12))


def _rank_correlation(a: _Values, b: _Values) -> float:
    """Return Spearman's correlation; 0 if one of the two is constant."""
    if a.size < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(stats.spearmanr(a, b).statistic)
