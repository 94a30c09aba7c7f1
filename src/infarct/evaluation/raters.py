"""Inter-rater and intra-rater agreement of human lesion masks.

A rater whose name is given twice read the scans twice. Two readings by the same rater form an
intra-rater pair; readings by different raters form an inter-rater pair. Scans with two empty
readings are counted but excluded from Dice. If only one reading is empty, Dice is 0.

References:
    Liu et al. 2021, Methods, "Lesion delineation": inter-rater Dice .76, intra-rater Dice .79.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from infarct.evaluation import statistics as st
from infarct.evaluation.score_table import Results

INTER, INTRA = "inter-rater", "intra-rater"


@dataclass(frozen=True)
class RaterAgreement:
    """Agreement of two readings, or of all pairs of one kind.

    Attributes:
        kind: `INTER` or `INTRA`.
        first: Name of the first reading; "all pairs" in the pooled row.
        second: Name of the second reading; empty in the pooled row.
        scans: Number of scans with both readings; in the pooled row, number of pairs of readings.
        both_empty: Number of these in which both readings are empty.
        dice: Dice of the remaining scans.
        volume: Volume difference of the remaining scans, second minus first, ml; None in the pooled
            row.
        volume_icc: Intraclass correlation of these volumes, absolute agreement; None in the pooled
            row.
    """

    kind: str
    first: str
    second: str
    scans: int
    both_empty: int
    dice: st.Summary
    volume: st.Agreement | None
    volume_icc: st.IntraclassCorrelation | None


def reading_names(raters: Sequence[str]) -> list[str]:
    """Return a name for each reading: the rater, numbered if the rater read more than once."""
    often, seen = Counter(raters), Counter[str]()
    names = []
    for rater in raters:
        seen[rater] += 1
        names.append(rater if often[rater] == 1 else f"{rater}, reading {seen[rater]}")
    return names


def rater_agreement(
    results: Results, rng: np.random.Generator, resamples: int = 2000
) -> tuple[RaterAgreement, ...]:
    """Compute the agreement of every pair of readings, and of all inter- and intra-rater pairs.

    Args:
        results: Scores; `Results.raters` contains the rater of each reading.
        rng: Random generator for the bootstrap.
        resamples: Number of bootstrap resamples.
    """
    names = reading_names(results.raters)
    found: dict[str, list[RaterAgreement]] = {INTER: [], INTRA: []}
    pooled: dict[str, list[float]] = {INTER: [], INTRA: []}
    for i, j in combinations(range(len(names)), 2):
        kind = INTRA if results.raters[i] == results.raters[j] else INTER
        both = [c.readings[i, j] for c in results.measured.values() if (i, j) in c.readings]
        drawn = [pair for pair in both if pair.first_ml or pair.second_ml]
        volumes = np.array([(pair.first_ml, pair.second_ml) for pair in drawn]).reshape(-1, 2)
        dice = [pair.dice for pair in drawn]
        pooled[kind] += dice
        found[kind].append(
            RaterAgreement(
                kind=kind,
                first=names[i],
                second=names[j],
                scans=len(both),
                both_empty=len(both) - len(drawn),
                dice=st.summarise(dice, rng, resamples),
                volume=st.bland_altman(*volumes.T),
                volume_icc=st.icc(volumes),
            )
        )
    rows: list[RaterAgreement] = []
    for kind, pairs in found.items():
        rows += pairs
        if len(pairs) > 1:
            scans, empty = (
                sum(getattr(pair, name) for pair in pairs) for name in ("scans", "both_empty")
            )
            of_all = st.summarise(pooled[kind], rng, resamples)
            rows.append(RaterAgreement(kind, "all pairs", "", scans, empty, of_all, None, None))
    return tuple(rows)
