"""The methods that tell lesion from brain, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from infarct.classical import t_score_mask
from infarct.errors import AssetError
from infarct.inference import lesion_probability, load_network
from infarct.intensity import Image
from infarct.prepare import Prepared
from infarct.templates import load_healthy


@dataclass(frozen=True)
class Segmenter:
    """A method that outlines lesions.

    Attributes:
        name: As given to `--model`.
        title: For people.
        trained: Whether it is a network; the c-fuzzy map then reads the scan beside it.
        threshold: A voxel whose probability exceeds it is lesion.
        caution: What a reader of its outlines should know, or empty.
        lesion_probability: Maps a prepared scan and its IS map to (192, 224, 192) values in 0 - 1.
    """

    name: str
    title: str
    trained: bool
    threshold: float
    caution: str
    lesion_probability: Callable[[Prepared, Image], Image]


def _dagmnet_ch3(scan: Prepared, is_map: Image) -> Image:
    images = {"DWI": scan.dwi_normalised, "ADC": scan.adc_normalised, "IS": is_map}
    return lesion_probability(load_network("DAGMNet_CH3"), images, scan.brain)


def _cfuzzy(_: Prepared, is_map: Image) -> Image:
    return is_map


def _tscore(scan: Prepared, _: Image) -> Image:
    mask = t_score_mask(scan.dwi_normalised, scan.adc_normalised, scan.brain, load_healthy())
    return mask.astype(np.float32)


_NETWORK = (
    "this network learned from synthetic scans: infarcts below 1 ml can be missed, and bright "
    "artefacts outlined; confirm every outline by eye"
)
_CLASSICAL = (
    "this method compares intensities only: bright artefacts at the skull base and the cortex are "
    "often outlined too, and small or faint infarcts missed; confirm every outline by eye"
)

SEGMENTERS = {
    method.name: method
    for method in (
        Segmenter("dagmnet-ch3", "DAGMNet on DWI, ADC and IS", True, 0.5, _NETWORK, _dagmnet_ch3),
        Segmenter("cfuzzy", "modified c-fuzzy map (no weights)", False, 0.5, _CLASSICAL, _cfuzzy),
        Segmenter(
            "tscore", "t-score against healthy brains (no weights)", False, 0.5, _CLASSICAL, _tscore
        ),
    )
}
"""Every method there is, by name."""

DEFAULT = "dagmnet-ch3"


def get_segmenter(name: str) -> Segmenter:
    """Return the method of that name.

    Raises:
        AssetError: If there is none.
    """
    if name not in SEGMENTERS:
        known = ", ".join(SEGMENTERS)
        raise AssetError(f"there is no model called {name!r}; there are: {known}")
    return SEGMENTERS[name]
