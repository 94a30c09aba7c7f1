"""Table 1 of the paper: study population and balance between cohorts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from infarct.evaluation import statistics as st
from infarct.evaluation.score_table import Results
from infarct.evaluation.subjects import ONSET_LEVELS, TITLES
from infarct.evaluation.tables import Table, median_iqr, p_value, share

_MAJOR_SHARE = 0.05
_EARLY = ("<2 h", "2-6 h")

Members = Mapping[str, Sequence[str]]
"""Subjects by cohort."""

Row = tuple[str, ...]


def cohort_table(results: Results) -> Table:
    """Describe the cohorts and test whether their characteristics differ.

    References:
        Liu et al. 2021, Table 1 and Supplementary Table 1: ANOVA for continuous variables,
        chi-square test for categorical ones. Race and manufacturer: major groups only (here at
        least 5% of subjects). Onset: below 6 h versus 6 h or more.
    """
    everyone = tuple(results.measured)
    cohorts: Members = {
        level: results.cohorts.members(level, everyone) for level in results.cohorts.levels
    } or {"All subjects": everyone}
    lesioned: Members = {
        name: [subject for subject in members if results.reference_ml[subject] > 0]
        for name, members in cohorts.items()
    }
    with_lesion = (share(len(lesioned[name]), len(all_)) for name, all_ in cohorts.items())
    rows: list[Row] = [
        ("Subjects", *(str(len(members)) for members in cohorts.values()), ""),
        ("With a lesion", *with_lesion, ""),
        *_numbers(TITLES["age"], _of(results, "age"), cohorts, 1),
        *_categories(results, "sex", cohorts),
        *_categories(results, "race", cohorts),
        *_numbers(TITLES["nihss"], _of(results, "nihss"), cohorts, 1),
        *_categories(results, "onset", cohorts),
        *_categories(results, "hemisphere", lesioned),
        *_categories(results, "territory", lesioned),
        *_by_territory(results, "Lesion volume, ml", "reference_ml", lesioned),
        *_by_territory(results, "Lesion contrast in DWI", "dwi_ratio_reference", lesioned),
        *_by_territory(results, "Lesion contrast in ADC", "adc_ratio_reference", lesioned),
        *_categories(results, "manufacturer", cohorts),
        *_categories(results, "field_strength", cohorts),
        *_numbers("Voxel height/width, mm", _voxel_mm(results, largest=False), cohorts),
        *_numbers("Voxel thickness, mm", _voxel_mm(results, largest=True), cohorts),
    ]
    notes = []
    elsewhere = len(everyone) - sum(len(members) for members in cohorts.values())
    if elsewhere:
        notes.append(
            f"Excluded from all columns because the cohort is unknown: {elsewhere} subjects."
        )
    if len(cohorts) > 1:
        notes.append(
            "p: difference between cohorts; one-way ANOVA for continuous variables, chi-square "
            "test for categorical ones (race and manufacturer: groups with at least 5% of "
            "subjects; onset: below 6 h versus 6 h or more)."
        )
    else:
        rows = [row[:-1] for row in rows]
    notes.append("Continuous variables: median [IQR]. Categorical variables: count (percentage).")
    header = ("", *cohorts, *(("p",) if len(cohorts) > 1 else ()))
    return Table("table1_cohort", "Table 1. Study population", header, tuple(rows), tuple(notes))


def _numbers(
    title: str, value: Callable[[str], float], members: Members, decimals: int = 2
) -> list[Row]:
    samples = [[value(subject) for subject in names] for names in members.values()]
    summaries = [st.summarise(sample) for sample in samples]
    if not any(summary.n for summary in summaries):
        return []
    cells = (median_iqr(summary, decimals) for summary in summaries)
    return [(title, *cells, p_value(st.anova(samples).p))]


def _categories(results: Results, key: str, members: Members) -> list[Row]:
    stratum = results.stratum(key, [subject for names in members.values() for subject in names])
    if not stratum.levels:
        return []
    counts = np.array(
        [
            [len(stratum.members(level, names)) for names in members.values()]
            for level in stratum.levels
        ]
    )
    sizes = [len(names) for names in members.values()]
    missing = np.array(sizes) - counts.sum(axis=0)
    test = st.chi_square(_compared(key, stratum.levels, counts))
    rows: list[Row] = [(stratum.title, *("" for _ in members), p_value(test.p))]
    for level, row in zip((*stratum.levels, "missing"), (*counts, missing), strict=True):
        if row.any():
            shares = (share(int(count), n) for count, n in zip(row, sizes, strict=True))
            rows.append((f"   {level}", *shares, ""))
    return rows


def _compared(key: str, levels: Sequence[str], counts: np.ndarray) -> np.ndarray:
    """Return the counts to be tested, as in Supplementary Table 1 of the paper."""
    if key == "onset" and set(levels) <= set(ONSET_LEVELS):
        early = np.isin(levels, _EARLY)
        return np.stack([counts[early].sum(axis=0), counts[~early].sum(axis=0)])
    if key in ("race", "manufacturer"):
        major: np.ndarray = counts[counts.sum(axis=1) >= _MAJOR_SHARE * counts.sum()]
        return major
    return counts


def _by_territory(results: Results, title: str, key: str, members: Members) -> list[Row]:
    tool = results.tools[0]  # reference values do not depend on the tool

    def value(subject: str) -> float:
        return float(getattr(results.measured[subject].scores[tool], key))

    territories = results.stratum("territory", results.with_lesion)
    rows = _numbers(title, value, members)
    for level in territories.levels:
        of_level = {name: territories.members(level, names) for name, names in members.items()}
        rows += _numbers(f"   {level}", value, of_level)
    return rows


def _of(results: Results, column: str) -> Callable[[str], float]:
    return lambda subject: results.table.number(subject, column)


def _voxel_mm(results: Results, largest: bool) -> Callable[[str], float]:
    def value(subject: str) -> float:
        steps = sorted(results.measured[subject].spacing)
        return steps[2] if largest else (steps[0] + steps[1]) / 2

    return value
