"""The paper's battery of statistics over all scores, as numbers; tables and JSON show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from infarct.evaluation import statistics as st
from infarct.evaluation.raters import RaterAgreement, rater_agreement
from infarct.evaluation.score_table import METRICS, Group, Results

PAIRED_METRICS = (
    *("dice", "precision", "sensitivity", "recognition_quality"),
    *("hausdorff95_mm", "absolute_difference_ml"),
)
PAPER_METRICS = ("dice", "precision", "sensitivity", "fp_voxels", "fn_voxels")
"""What the paper compares between models, in its Supplementary Figures 3 and 4."""

STRATUM_METRICS = ("dice", "precision", "sensitivity", "fp_voxels", "fn_voxels")

CORRELATIONS = {
    "Dice, volume": ("reference_ml", "dice"),
    "Dice, κ DWI": ("kappa_dwi_reference", "dice"),
    "Dice, κ ADC": ("kappa_adc_reference", "dice"),
    "reference, predicted volume": ("reference_ml", "prediction_ml"),
    "reference, predicted κ DWI": ("kappa_dwi_reference", "kappa_dwi_prediction"),
    "reference, predicted κ ADC": ("kappa_adc_reference", "kappa_adc_prediction"),
}
"""What the paper correlates: a feature of the reference with Dice, or with that of the outline."""


@dataclass(frozen=True)
class Performance:
    """One tool on one group of subjects with a lesion.

    Attributes:
        tool: Its name.
        group: The group's name.
        n: Subjects.
        missing: Those without a prediction, counted as failures.
        detection: Subject detection rate: anything was outlined.
        touch: Subjects where the outline shares a voxel with the lesion.
        summaries: By key of metric.
    """

    tool: str
    group: str
    n: int
    missing: int
    detection: st.Rate
    touch: st.Rate
    summaries: Mapping[str, st.Summary]


@dataclass(frozen=True)
class FalseAlarms:
    """One tool on one group of subjects without a lesion.

    Attributes:
        tool: Its name.
        group: The group's name.
        n: Subjects.
        missing: Those without a prediction, counted as falsely flagged.
        flagged: False-positive subject detection rate.
        fp_voxels: Voxels outlined, over all subjects of the group.
        fp_ml: Volume outlined, ml, over all subjects of the group.
    """

    tool: str
    group: str
    n: int
    missing: int
    flagged: st.Rate
    fp_voxels: st.Summary
    fp_ml: st.Summary


@dataclass(frozen=True)
class Relations:
    """Correlations and agreement of one tool over the subjects in focus.

    Attributes:
        tool: Its name.
        group: The group's name.
        correlations: Spearman's, by the keys of `CORRELATIONS`.
        volume: Bias and limits of agreement of the volume, ml.
        volume_icc: Absolute agreement of the volume.
    """

    tool: str
    group: str
    correlations: Mapping[str, st.Correlation]
    volume: st.Agreement
    volume_icc: st.IntraclassCorrelation


@dataclass(frozen=True)
class Comparison:
    """Two tools on the same subjects.

    Attributes:
        group: The group's name.
        metric: Key of the metric; "touched" or "detected" for the share of subjects.
        first: One tool.
        second: The other.
        difference: Mean of first minus second.
        interval: Its bootstrap interval.
        test: Wilcoxon's signed ranks; McNemar's for shares.
        p_holm: Corrected for the pairs of tools compared on this metric in this group.
    """

    group: str
    metric: str
    first: str
    second: str
    difference: float
    interval: st.Interval
    test: st.Test
    p_holm: float


@dataclass(frozen=True)
class ToolsTest:
    """Whether tools differ at all, as in the paper: ANOVA across tools.

    Attributes:
        group: The group's name.
        metric: Key of the metric.
        test: One-way ANOVA.
    """

    group: str
    metric: str
    test: st.Test


@dataclass(frozen=True)
class PairTest:
    """Two samples of one metric compared by ANOVA, as in the paper.

    Attributes:
        metric: Key of the metric.
        first: Name of one sample: a tool, or a level of a stratum.
        second: Name of the other.
        difference: Mean of the first minus mean of the second.
        test: One-way ANOVA of the two; the subjects are taken as independent, as in the paper.
        p_holm: Corrected after Holm for all pairs of this metric in this family.
        p_bonferroni: Corrected after Bonferroni for the same.
    """

    metric: str
    first: str
    second: str
    difference: float
    test: st.Test
    p_holm: float
    p_bonferroni: float


@dataclass(frozen=True)
class ToolPairs:
    """Every pair of tools on one group and metric.

    Attributes:
        group: The group's name.
        n: Subjects.
        metric: Key of the metric.
        pairs: In the order of the tools; empty for one tool.
    """

    group: str
    n: int
    metric: str
    pairs: tuple[PairTest, ...]


@dataclass(frozen=True)
class LevelPairs:
    """Every pair of levels of a stratum, for one tool and metric.

    Attributes:
        tool: Its name.
        stratum: Title of the stratum.
        metric: Key of the metric.
        pairs: In the order of the levels.
    """

    tool: str
    stratum: str
    metric: str
    pairs: tuple[PairTest, ...]


@dataclass(frozen=True)
class StratumTest:
    """One tool and metric across the levels of one stratum.

    Attributes:
        tool: Its name.
        stratum: Title of the stratum.
        metric: Key of the metric.
        levels: Summary by level.
        test: One-way ANOVA across levels.
    """

    tool: str
    stratum: str
    metric: str
    levels: Mapping[str, st.Summary]
    test: st.Test


@dataclass(frozen=True)
class Analysis:
    """All numbers of a report.

    Attributes:
        performance: By tool and group with a lesion.
        false_alarms: By tool and group without a lesion.
        relations: By tool.
        tools_tests: By group and metric; empty for one tool.
        comparisons: By group, metric and pair of tools.
        stratum_tests: By tool, stratum and metric.
        tool_pairs: The paper's ANOVA of each pair of tools, by group and metric.
        level_pairs: The paper's ANOVA of each pair of levels, by stratum, metric and tool.
        raters: How far raters agree with each other and with themselves.
    """

    performance: tuple[Performance, ...]
    false_alarms: tuple[FalseAlarms, ...]
    relations: tuple[Relations, ...]
    tools_tests: tuple[ToolsTest, ...]
    comparisons: tuple[Comparison, ...]
    stratum_tests: tuple[StratumTest, ...]
    tool_pairs: tuple[ToolPairs, ...] = ()
    level_pairs: tuple[LevelPairs, ...] = ()
    raters: tuple[RaterAgreement, ...] = ()


def analyse(results: Results, rng: np.random.Generator, resamples: int = 2000) -> Analysis:
    """Compute everything a report shows.

    Args:
        results: Scores and groups.
        rng: Source of the bootstrap.
        resamples: Number of bootstrap samples.
    """
    groups, free = results.lesion_groups, results.lesion_free_groups
    comparisons: list[Comparison] = []
    for group in groups:
        for key in PAIRED_METRICS:
            comparisons += _compare(results, group, key, rng, resamples)
        comparisons += _compare(results, group, "touched", rng, resamples)
    for group in free:
        comparisons += _compare(results, group, "detected", rng, resamples)
    return Analysis(
        performance=tuple(
            _performance(results, tool, group, rng, resamples)
            for group in groups
            for tool in results.tools
        ),
        false_alarms=tuple(
            _false_alarms(results, tool, group, rng, resamples)
            for group in free
            for tool in results.tools
        ),
        relations=tuple(_relations(results, tool) for tool in results.tools),
        tools_tests=tuple(
            ToolsTest(
                group.name,
                key,
                st.anova([results.values(tool, key, group.subjects) for tool in results.tools]),
            )
            for group in groups
            for key in PAIRED_METRICS
            if len(results.tools) > 1
        ),
        comparisons=tuple(comparisons),
        stratum_tests=_stratum_tests(results),
        tool_pairs=_tool_pairs(results),
        level_pairs=_level_pairs(results),
        raters=rater_agreement(results, rng, resamples),
    )


def _performance(
    results: Results, tool: str, group: Group, rng: np.random.Generator, resamples: int
) -> Performance:
    def of(key: str) -> np.ndarray:
        return results.values(tool, key, group.subjects)

    return Performance(
        tool=tool,
        group=group.name,
        n=len(group.subjects),
        missing=int(of("missing").sum()),
        detection=st.rate(of("detected")),
        touch=st.rate(of("touched")),
        summaries={metric.key: st.summarise(of(metric.key), rng, resamples) for metric in METRICS},
    )


def _false_alarms(
    results: Results, tool: str, group: Group, rng: np.random.Generator, resamples: int
) -> FalseAlarms:
    def of(key: str) -> np.ndarray:
        return results.values(tool, key, group.subjects)

    return FalseAlarms(
        tool=tool,
        group=group.name,
        n=len(group.subjects),
        missing=int(of("missing").sum()),
        flagged=st.rate(of("detected")),
        fp_voxels=st.summarise(of("fp_voxels"), rng, resamples),
        fp_ml=st.summarise(of("prediction_ml"), rng, resamples),
    )


def _relations(results: Results, tool: str) -> Relations:
    group = results.focused
    volumes = [
        results.values(tool, key, group.subjects) for key in ("reference_ml", "prediction_ml")
    ]
    return Relations(
        tool=tool,
        group=group.name,
        correlations={
            name: st.spearman(*(results.values(tool, key, group.subjects) for key in keys))
            for name, keys in CORRELATIONS.items()
        },
        volume=st.bland_altman(*volumes),
        volume_icc=st.icc(np.column_stack(volumes)),
    )


def _compare(
    results: Results, group: Group, key: str, rng: np.random.Generator, resamples: int
) -> list[Comparison]:
    scores = {tool: results.values(tool, key, group.subjects) for tool in results.tools}
    test = st.mcnemar if key in ("touched", "detected") else st.wilcoxon
    pairs = list(combinations(results.tools, 2))
    tests = [test(scores[first], scores[second]) for first, second in pairs]
    corrected = st.holm([each.p for each in tests])
    return [
        Comparison(
            group=group.name,
            metric=key,
            first=first,
            second=second,
            difference=float((scores[first] - scores[second]).mean()),
            interval=st.bootstrap_mean(scores[first] - scores[second], rng, resamples),
            test=each,
            p_holm=float(p),
        )
        for (first, second), each, p in zip(pairs, tests, corrected, strict=True)
    ]


def _stratum_tests(results: Results) -> tuple[StratumTest, ...]:
    found = []
    for stratum in results.strata:
        members = {
            level: stratum.members(level, results.focused.subjects) for level in stratum.levels
        }
        for tool in results.tools:
            for key in STRATUM_METRICS:
                samples = {
                    level: results.values(tool, key, names) for level, names in members.items()
                }
                levels = {level: st.summarise(sample) for level, sample in samples.items()}
                test = st.anova(list(samples.values()))
                found.append(StratumTest(tool, stratum.title, key, levels, test))
    return tuple(found)


def pair_tests(metric: str, samples: Mapping[str, np.ndarray]) -> tuple[PairTest, ...]:
    """Compare every pair of samples by ANOVA, and correct for the number of pairs.

    Args:
        metric: Key of the metric.
        samples: Values by name; NaN are left out.

    References:
        Liu et al. 2021, "Statistical significance testing", Supplementary Fig. 3 and 4.
    """
    names = list(combinations(samples, 2))
    tests = [st.anova([samples[first], samples[second]]) for first, second in names]
    p = np.array([test.p for test in tests])
    known = int(np.isfinite(p).sum())
    mean = {name: st.summarise(values).mean for name, values in samples.items()}
    return tuple(
        PairTest(metric, first, second, mean[first] - mean[second], test, float(holm), float(bonf))
        for (first, second), test, holm, bonf in zip(
            names, tests, st.holm(p), np.minimum(p * known, 1.0), strict=True
        )
    )


def _tool_pairs(results: Results) -> tuple[ToolPairs, ...]:
    asked = [(group, key) for group in results.lesion_groups for key in PAPER_METRICS]
    asked += [(group, "fp_voxels") for group in results.lesion_free_groups]
    return tuple(
        ToolPairs(
            group.name,
            len(group.subjects),
            key,
            pair_tests(
                key, {tool: results.values(tool, key, group.subjects) for tool in results.tools}
            ),
        )
        for group, key in asked
        if len(results.tools) > 1
    )


def _level_pairs(results: Results) -> tuple[LevelPairs, ...]:
    found = []
    for stratum in results.strata:
        members = {
            level: stratum.members(level, results.focused.subjects) for level in stratum.levels
        }
        for key in PAPER_METRICS:
            for tool in results.tools:
                samples = {level: results.values(tool, key, who) for level, who in members.items()}
                pairs = pair_tests(key, samples)
                found.append(LevelPairs(tool, stratum.title, key, pairs))
    return tuple(found)
