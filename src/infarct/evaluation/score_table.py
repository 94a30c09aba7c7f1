"""All scores of all tools, and which group each subject is in: what is analysed and drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from infarct.evaluation.subject_scores import Measured
from infarct.evaluation.subjects import Stratum, Subjects, stratify

STRATA = ("territory", "volume", "hemisphere", "manufacturer", "field_strength", "race", "sex")
"""Beside cohort and onset: what the paper divides the subjects by."""


@dataclass(frozen=True)
class Metric:
    """How a score is called and shown.

    Attributes:
        key: Its field in `metrics.Scores`.
        title: In tables and on axes.
        decimals: How many are shown.
        unit: Empty for a ratio.
        higher_is_better: Its direction.
    """

    key: str
    title: str
    decimals: int = 2
    unit: str = ""
    higher_is_better: bool = True

    @property
    def label(self) -> str:
        """Title and unit, for an axis."""
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
    """Subjects that are averaged over together.

    Attributes:
        name: As shown.
        subjects: Their names.
    """

    name: str
    subjects: tuple[str, ...]


@dataclass(frozen=True)
class Results:
    """Every score, and the groups the subjects fall into.

    Attributes:
        tools: In the order they were given; the first is the one under study.
        measured: Numbers of each subject, by its name.
        table: What else is known about the subjects.
        focus: Cohort that strata, correlations and tests between strata are about; None for all.
        raters: Who made each of the human readings, see `raters`.
    """

    tools: tuple[str, ...]
    measured: Mapping[str, Measured]
    table: Subjects
    focus: str | None = None
    raters: tuple[str, ...] = ()

    @cached_property
    def reference_ml(self) -> dict[str, float]:
        """Lesion volume by subject, ml."""
        first = self.tools[0]
        return {name: case.scores[first].reference_ml for name, case in self.measured.items()}

    @cached_property
    def with_lesion(self) -> tuple[str, ...]:
        """Subjects whose reference holds a lesion."""
        return tuple(name for name, ml in self.reference_ml.items() if ml > 0)

    @cached_property
    def lesion_free(self) -> tuple[str, ...]:
        """Subjects whose reference is empty."""
        return tuple(name for name, ml in self.reference_ml.items() if ml == 0)

    @cached_property
    def cohorts(self) -> Stratum:
        """The cohorts, in the order the subjects come."""
        stratum = self.stratum("cohort", tuple(self.measured))
        order = dict.fromkeys(stratum.level_of.values())
        return Stratum(stratum.key, stratum.title, tuple(order), stratum.level_of)

    @cached_property
    def focused(self) -> Group:
        """Subjects with a lesion, of the cohort in focus."""
        if self.focus is None:
            return Group("All with a lesion", self.with_lesion)
        return Group(self.focus, tuple(self.cohorts.members(self.focus, self.with_lesion)))

    @cached_property
    def lesion_groups(self) -> tuple[Group, ...]:
        """All with a lesion, each cohort of them, and S, M and L of those in focus."""
        groups = [Group("All with a lesion", self.with_lesion), *self._by_cohort(self.with_lesion)]
        return (*(group for group in groups if group.subjects), *self.sizes)

    @cached_property
    def sizes(self) -> tuple[Group, ...]:
        """S, M and L of those in focus; the cohort is named where there is one."""
        sizes = self.stratum("volume", self.focused.subjects)
        of = "" if self.focus is None else f"{self.focus}: "
        return tuple(
            Group(of + level, tuple(sizes.members(level, self.focused.subjects)))
            for level in sizes.levels
        )

    @cached_property
    def lesion_free_groups(self) -> tuple[Group, ...]:
        """All without a lesion, and each cohort of them."""
        if not self.lesion_free:
            return ()
        return Group("All without a lesion", self.lesion_free), *self._by_cohort(self.lesion_free)

    @cached_property
    def strata(self) -> tuple[Stratum, ...]:
        """The ways to divide those in focus that are known and hold two groups or more."""
        found = [self.stratum(key, self.focused.subjects) for key in (*STRATA, "onset")]
        return tuple(stratum for stratum in found if len(stratum.levels) >= 2)

    def stratum(self, key: str, names: Sequence[str]) -> Stratum:
        """Divide some subjects by one property."""
        return stratify(key, self.table, names, self.reference_ml)

    def values(self, tool: str, key: str, among: Iterable[str]) -> NDArray[np.float64]:
        """Return one score of one tool for some subjects, in their order."""
        return np.array(
            [getattr(self.measured[name].scores[tool], key) for name in among], dtype=np.float64
        )

    def _by_cohort(self, names: Sequence[str]) -> list[Group]:
        groups = [
            Group(level, tuple(self.cohorts.members(level, names))) for level in self.cohorts.levels
        ]
        groups = [group for group in groups if group.subjects]
        # A single cohort that holds everyone would only repeat the row above it.
        return [group for group in groups if len(group.subjects) < len(names)]
