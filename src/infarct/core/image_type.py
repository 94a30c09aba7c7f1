"""Checks that each image is of the type it was given as: DWI, b0 or ADC map.

Fluid decides. It is dark on a DWI, bright on a b0 and an ADC map, dark on an exponential ADC and on
a map of fractional anisotropy. Only ranks and percentiles are compared, so that units and scaling
do not matter. Why so: docs/decisions/image-types.md.
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
"""Rank correlation of two images of which one was computed from the other."""

_LEAST_TAIL, _DOUBTFUL_TAIL = 1.2, 2.0
"""Distance of percentile 97 from the median over that of percentile 3. Fluid stretches the upper
side of an ADC: 3.0 to 9.3 on twelve scans; .3 to 1.4 on DWI, exponential ADC and anisotropy (2.3 on
a DWI with a large infarct)."""

_SWAPPED_TAIL = 0.36
"""The same of ln(b0 / DWI) where the two are swapped: .11 to .33."""

_LEAST_FOLLOWS, _DOUBTFUL_FOLLOWS = 0.5, 0.7
"""Rank correlation of DWI and b0 where the attenuation is alike: .86 to .97 on twelve scans. An ADC
as b0, an exponential ADC or anisotropy as DWI: at most .54."""

_BOTH_BRIGHT, _UNRELATED = 0.15, -0.1
"""Rank correlation of DWI and ADC: -.30 to -.66 on twelve scans, .26 and more of b0 and ADC."""

_SIGNAL_AGAIN = 0.3
"""The same in tissue: -.31 to .08; of a DWI and a b0 .32 to .63."""

_OPPOSED = -0.25
"""Rank correlation of DWI and ADC where the ADC is high: -.53 to -.87; -.44 and more if either is
another image."""

_Values = NDArray[np.float64]


@dataclass(frozen=True)
class _Relation:
    """How an image that should show fluid dark relates to one that should show it bright.

    Attributes:
        tail: How far fluid stretches the upper side of the second.
        overall: Rank correlation of the two in the brain.
        tissue: Of those with middling values of the second.
        fluid: Of those with high values of the second.
    """

    tail: float
    overall: float
    tissue: float
    fluid: float


def check_types(dwi: Image, b0: Image | None, adc: Image | None, brain: Mask) -> list[Finding]:
    """Check that the images given are a DWI, a b0 and an ADC map.

    Args:
        dwi: (X, Y, Z) given as DWI, 0 where there is no signal.
        b0: (X, Y, Z) given as b0, or None.
        adc: (X, Y, Z) given as ADC map in any unit, or None.
        brain: (X, Y, Z).

    Returns:
        A warning if it is doubtful.

    Raises:
        ContentError: If an image is of another type; the message names the likely one.
    """
    doubts = []
    # The b0 first: if it was swapped with the DWI, the ADC map cannot tell.
    if b0 is not None:
        doubts += _check_b0(*_sample(dwi, b0, brain))
    if adc is not None:
        doubts += _check_adc(*_sample(dwi, adc, brain))
    if not doubts:
        return []
    text = f"{doubts[0]}: check that DWI, b0 and ADC are what they were given as"
    return [Finding(FindingCode.IMAGE_TYPE, "warning", text)]


def _check_adc(dwi: _Values, adc: _Values) -> list[str]:
    """Check a DWI against an ADC map."""
    if dwi.size < _LEAST_VOXELS:
        return []
    same = _rank_correlation(dwi, adc)
    if same > _SAME:
        raise ContentError(
            "DWI and ADC are one and the same image, or one was computed from the other; "
            "give the ADC map, in which fluid is bright, as --adc"
        )
    if same < -_SAME:
        raise ContentError(
            "the image given as DWI can be computed from the ADC map: it is an exponential ADC "
            "(eADC), not a DWI; give the image of b = 1000 s/mm^2 or so as --dwi"
        )
    seen = _relate(dwi, adc, adc)
    if seen.tail < _LEAST_TAIL:
        if _tail(dwi) > _DOUBTFUL_TAIL and seen.overall < 0:
            raise ContentError(
                "DWI and ADC look swapped: fluid is bright on the image given as DWI and dark on "
                "the one given as ADC; exchange --dwi and --adc"
            )
        likely = (
            "an exponential ADC (eADC) or a DWI"
            if seen.overall > _BOTH_BRIGHT
            else "a map of fractional anisotropy (FA), an exponential ADC (eADC) or a DWI"
        )
        raise ContentError(
            f"ADC: fluid is dark on this image and bright on any ADC map; it is probably {likely}; "
            "give the ADC map as --adc, or the b0 as --b0"
        )
    if seen.overall > _BOTH_BRIGHT or (seen.tissue > _SIGNAL_AGAIN and seen.overall > _UNRELATED):
        if _tail(dwi) < _LEAST_TAIL or seen.overall < _BOTH_BRIGHT:
            raise ContentError(
                "ADC: the contrast of this image is that of a signal, not of an ADC map; it is "
                "probably the b0: give it as --b0"
            )
        raise ContentError(
            "fluid is bright on the image given as DWI as well as on the ADC map, and it is dark "
            "on any DWI: is it the b0, or an ADC map? give the image of b = 1000 s/mm^2 "
            "or so as --dwi"
        )
    if seen.overall > _UNRELATED:
        return [f"DWI and ADC are hardly related (rank correlation {seen.overall:.2f}, usual -.5)"]
    if seen.tail < _DOUBTFUL_TAIL or seen.fluid > _OPPOSED:
        return ["fluid does not stand out on the image given as ADC as it does on an ADC map"]
    return []


def _check_b0(dwi: _Values, b0: _Values) -> list[str]:
    """Check a DWI against a b0."""
    if dwi.size < _LEAST_VOXELS:
        return []
    attenuation = np.log(b0 / dwi)
    seen = _relate(dwi, b0, attenuation)
    if np.ptp(attenuation) < 1e-3:
        return []
    if seen.tail < _LEAST_TAIL:
        if seen.tail < _SWAPPED_TAIL:
            raise ContentError(
                "DWI and b0 look swapped: fluid is bright on the image given as DWI and dark on "
                "the one given as b0; exchange --dwi and --b0"
            )
        likely = (
            "fluid is bright on the image given as DWI, and it is dark on any DWI: it is probably "
            "an ADC map or a b0"
            if _tail(dwi) > _DOUBTFUL_TAIL
            else "fluid is not brighter on the image given as b0 than on the one given as DWI: one "
            "of the two is probably an exponential ADC (eADC), a map of fractional anisotropy (FA) "
            "or standardised or log-scaled, or they are swapped"
        )
        raise ContentError(
            f"{likely}; give the image of b = 1000 s/mm^2 or so as --dwi and that without "
            "diffusion weighting as --b0"
        )
    if seen.tissue < _LEAST_FOLLOWS:
        likely = (
            "the image given as DWI is probably an exponential ADC (eADC) or a map of fractional "
            "anisotropy (FA), or the one given as b0 an ADC map"
        )
        raise ContentError(
            f"DWI and b0 are not signals of one scan (rank correlation {seen.tissue:.2f} where "
            f"they should be alike, usual .9): {likely}; check --dwi and --b0"
        )
    if seen.tissue < _DOUBTFUL_FOLLOWS:
        return [
            f"DWI and b0 agree little (rank correlation {seen.tissue:.2f} where they should be "
            "alike, usual .9); one may be log-scaled or of another scan"
        ]
    if seen.tail < _DOUBTFUL_TAIL or seen.fluid > _OPPOSED:
        return ["fluid does not lose signal from b0 to DWI as it does in a brain"]
    return []


def _sample(first: Image, second: Image, brain: Mask) -> tuple[_Values, _Values]:
    """Return some voxels of the brain in which both images have a value, evenly spread."""
    where = np.flatnonzero(brain & (first > 0) & (second > 0))
    where = where[:: max(1, where.size // _MOST_VOXELS)]
    return first.ravel()[where].astype(np.float64), second.ravel()[where].astype(np.float64)


def _relate(dwi: _Values, other: _Values, diffusion: _Values) -> _Relation:
    """Relate a DWI to another image, by a measure of how far water diffuses."""
    low, high, fluid = np.percentile(diffusion, [10, 60, 70])
    tissue = (diffusion > low) & (diffusion < high)
    above = diffusion > fluid
    return _Relation(
        tail=_tail(diffusion),
        overall=_rank_correlation(dwi, other),
        tissue=_rank_correlation(dwi[tissue], other[tissue]),
        fluid=_rank_correlation(dwi[above], diffusion[above]),
    )


def _tail(values: _Values) -> float:
    low, middle, high = np.percentile(values, [3, 50, 97])
    return float((high - middle) / max(middle - low, 1e-12))


def _rank_correlation(a: _Values, b: _Values) -> float:
    """Return Spearman's correlation; 0 where one of the two does not vary."""
    if a.size < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(stats.spearmanr(a, b).statistic)
