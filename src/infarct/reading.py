"""What a method makes of a prepared scan, before anything is judged or measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from infarct.case import Case
from infarct.classical import is_map
from infarct.evidence import Evidence
from infarct.grid import Affine
from infarct.intensity import Image, Mask
from infarct.journal import Journal
from infarct.postprocess import outline
from infarct.prepare import Prepared, restore
from infarct.quantify import Scan
from infarct.segmenters import Reader, Segmenter, get_segmenter
from infarct.templates import load_healthy

SECOND_READER = "cfuzzy"


@dataclass(frozen=True, eq=False)
class Reading:
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


def read_scan(
    case: Case, prepared: Prepared, segmenter: Segmenter, journal: Journal | None = None
) -> Reading:
    """Ask a method about a scan, and beside a network the c-fuzzy map.

    Args:
        case: The scan.
        prepared: The same, from `prepare`.
        segmenter: The method.
        journal: Told of the steps.
    """
    (reading,) = read_by_several(case, prepared, [segmenter], journal)
    return reading


def read_by_several(
    case: Case,
    prepared: Prepared,
    segmenters: Iterable[Segmenter],
    journal: Journal | None = None,
) -> Iterator[Reading]:
    """Ask several methods about a scan; what two of them rest on is computed once.

    Args:
        case: The scan.
        prepared: The same, from `prepare`.
        segmenters: The methods.
        journal: Told of the steps.

    Yields:
        What each of them says, in their order.
    """
    journal = journal or Journal()
    brain = prepared.brain_native
    with journal.step("is map"):
        scan = (prepared.dwi_normalised, prepared.adc_normalised, prepared.brain)
        is_map_mni = is_map(*scan, load_healthy())
    maps: dict[Reader, Image] = {}
    by_second: Mask | None = None
    for segmenter in segmenters:
        with journal.step("outline"):
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
            with journal.step("second reader"):
                theirs = restore(is_map_mni, case, prepared.registration)
                threshold = get_segmenter(SECOND_READER).threshold
                by_second = outline(theirs, threshold, brain, case.slice_axis)
        second = by_second if segmenter.networks else None
        yield Reading(probability, disagreement, candidates, second, probability_mni, is_map_mni)


def native_scan(
    case: Case, prepared: Prepared, reading: Reading, mni_from_native: Affine | None = None
) -> Scan:
    """Put together what outlines are measured on, all on the grid of the DWI.

    Args:
        case: The scan.
        prepared: The same, prepared.
        reading: What a method made of it.
        mni_from_native: (4, 4) what sides and places go by, as good as it gets: an affine. The
            in-plane transform of the preparation if None.
    """
    place = prepared.registration.mni_from_native if mni_from_native is None else mni_from_native
    return Scan(
        dwi=case.dwi.data,
        adc=case.adc.data,
        probability=reading.probability,
        brain=prepared.brain_native,
        grid=case.dwi.grid,
        mni_from_native=place,
    )


def evidence_of(
    case: Case, prepared: Prepared, reading: Reading, mni_from_native: Affine | None = None
) -> Evidence | None:
    """Put together what the candidates of a network are judged by; None of another method.

    Args:
        case: The scan.
        prepared: The same, prepared.
        reading: What a method made of it.
        mni_from_native: As for `native_scan`.
    """
    if reading.second is None:
        return None

    def opposite(image_mni: Image) -> Image:
        return restore(image_mni[::-1], case, prepared.registration)

    return Evidence(
        scan=native_scan(case, prepared, reading, mni_from_native),
        candidates=reading.candidates,
        second=reading.second,
        opposite_dwi=opposite(prepared.dwi),
        opposite_adc=opposite(prepared.adc),
        slice_axis=case.slice_axis,
    )
