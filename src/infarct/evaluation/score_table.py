"""Collects the scores of all tools and the groups of subjects for analysis and figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from infarct.evaluation.subject_scores import Measured
from infarct.evaluation.subjects import Stratum, Subjects, stratify

STRATA = ("territory", "volume", "hemisphere", "manufacturer", "field_strength", "race", "sex")
"""Variables by which the paper stratifies subjects, besides cohort and onset."""


@dataclass(frozen=True)
class Metric:
    """Name and display format of a score.

    Attributes:
        key: Field of `metrics.Scores`.
        title: Title in tables and on axes.
        decimals: Number of decimals shown.
        unit: Unit; empty for a ratio.
        higher_is_better: Whether higher values are better.
    """

    key: str
    title: str
    decimals: int = 2
    unit: str = ""
    higher_is_better: bool = True

    @property
    def label(self) -> str:
        """Title with unit, for axes and column headers."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


METRICS = (
    Metric("dice", "Dice"),
    Metric("precision", "Precision"),
    Metric("sensitivity", "Sensitivity"),
    Metric("fp_voxels", "False positives", 0, "voxels", higher_is_better=False),
    Metric("fn_voxels", "False negatives", 0, "voxels", higher_is_better=False),
    Metric("recognition_quality", "Lesion-wise F1"),
    Metric("hausdorff95_mm", "95% Hausdorff", 1, "mm", higher_is_better=False),
    Metric("absolute_difference_ml", "Volume error", 2, "ml", higher_is_better=False),
    Metric("lesion_count_difference", "Lesion count error", 1, "", higher_is_better=False),
)
BY_KEY = {metric.key: metric for metric in METRICS}


@dataclass(frozen=True)
class Group:
    """A group of subjects that are summarised together.

    Attributes:
        name: Display name.
        subjects: Subject names.
    """

    name: str
    subjects: tuple[str, ...]


@dataclass(frozen=True)
class Results:
    """All scores and groups of subjects.

    Attributes:
        tools: Tool names in the given order; the first is the tool under study.
        measured: Measurements by subject.
        table: Table of subjects.
        focus: Cohort used for strata, correlations and tests between strata; None for all subjects.
        raters: Name of the rater of each human reading, see `raters`.
    """

    tools: tuple[str, ...]
    measured: Mapping[str, Measured]
    table: Subjects
    focus: str | None = None
    raters: tuple[str, ...] = ()

    @cached_property
    def reference_ml(self) -> dict[str, float]:
        """Reference lesion volume by subject, ml."""
        first = self.tools[0]
        return {name: case.scores[first].reference_ml for name, case in self.measured.items()}

    @cached_property
    def with_lesion(self) -> tuple[str, ...]:
        """Subjects with a lesion in the reference."""
        return tuple(name for name, ml in self.reference_ml.items() if ml > 0)

    @cached_property
    def lesion_free(self) -> tuple[str, ...]:
        """Subjects with an empty reference."""
        return tuple(name for name, ml in self.reference_ml.items() if ml == 0)

    @cached_property
    def cohorts(self) -> Stratum:
        """The cohorts, in order of first appearance."""
        stratum = self.stratum("cohort", tuple(self.measured))
        order = dict.fromkeys(stratum.level_of.values())
        return Stratum(stratum.key, stratum.title, tuple(order), stratum.level_of)

    @cached_property
    def focused(self) -> Group:
        """Subjects with a lesion in the focus cohort."""
        if self.focus is None:
            return Group("All with a lesion", self.with_lesion)
        return Group(self.focus, tuple(self.cohorts.members(self.focus, self.with_lesion)))

    @cached_property
    def lesion_groups(self) -> tuple[Group, ...]:
        """All subjects with a lesion, each cohort, and the size classes of the focus cohort."""
        groups = [Group("All with a lesion", self.with_lesion), *self._by_cohort(self.with_lesion)]
        return (*(group for group in groups if group.subjects), *self.sizes)

    @cached_property
    def sizes(self) -> tuple[Group, ...]:
        """Size classes S, M and L of the focus cohort; names include the cohort if one is set."""
        sizes = self.stratum("volume", self.focused.subjects)
        of = "" if self.focus is None else f"{self.focus}: "
        return tuple(
            Group(of + level, tuple(sizes.members(level, self.focused.subjects)))
            for level in sizes.levels
        )

    @cached_property
    def lesion_free_groups(self) -> tuple[Group, ...]:
        """All lesion-free subjects, and each cohort."""
        if not self.lesion_free:
            return ()
        return Group("All without a lesion", self.lesion_free), *self._by_cohort(self.lesion_free)

    @cached_property
    def strata(self) -> tuple[Stratum, ...]:
        """Strata of the focus cohort that have at least two levels."""
        found = [self.stratum(key, self.focused.subjects) for key in (*STRATA, "onset")]
        return tuple(stratum for stratum in found if len(stratum.levels) >= 2)

    def stratum(self, key: str, names: Sequence[str]) -> Stratum:
        """Divide subjects into the levels of one variable."""
        return stratify(key, self.table, names, self.reference_ml)

    def values(self, tool: str, key: str, among: Iterable[str]) -> NDArray[np.float64]:
        """Return one score of one tool for the subjects in `among`, in this order."""
        return np.array(
            [getattr(self.measured[name].scores[tool], key) for name in among], dtype=np.float64
        )

    def _by_cohort(self, names: Sequence[str]) -> list[Group]:
        groups = [
            Group(level, tuple(self.cohorts.members(level, names))) for level in self.cohorts.levels
        ]
        groups = [group for group in groups if group.subjects]
        # A cohort that contains all subjects would repeat the row above it.
        return [group for group in groups if len(group.subjects) < len(names)]
