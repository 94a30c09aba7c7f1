"""Computes the statistics of the paper from all scores; tables and JSON present them."""

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
"""Metrics that the paper compares between models in Supplementary Figures 3 and 4."""

STRATUM_METRICS = ("dice", "precision", "sensitivity", "fp_voxels", "fn_voxels")

CORRELATIONS = {
    "Dice, volume": ("reference_ml", "dice"),
    "Dice, κ DWI": ("dwi_ratio_reference", "dice"),
    "Dice, κ ADC": ("adc_ratio_reference", "dice"),
    "reference, predicted volume": ("reference_ml", "prediction_ml"),
    "reference, predicted κ DWI": ("dwi_ratio_reference", "dwi_ratio_prediction"),
    "reference, predicted κ ADC": ("adc_ratio_reference", "adc_ratio_prediction"),
}
"""Correlations of the paper: a reference feature with Dice, or with the predicted feature."""


@dataclass(frozen=True)
class Performance:
    """Performance of one tool in one group of subjects with a lesion.

    Attributes:
        tool: Tool name.
        group: Group name.
        n: Number of subjects.
        missing: Number of subjects without a prediction, which count as failures.
        detection: Subject detection rate: proportion with a non-empty prediction.
        touch: Proportion whose prediction shares at least one voxel with the lesion.
        summaries: Summary by metric key.
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
    """False positives of one tool in one group of lesion-free subjects.

    Attributes:
        tool: Tool name.
        group: Group name.
        n: Number of subjects.
        missing: Number of subjects without a prediction, which count as false positives.
        flagged: False-positive subject detection rate.
        fp_voxels: Predicted voxels per subject, over all subjects of the group.
        fp_ml: Predicted volume per subject, ml, over all subjects of the group.
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
    """Correlations and volume agreement of one tool in the focus cohort.

    Attributes:
        tool: Tool name.
        group: Group name.
        correlations: Spearman correlations, by key of `CORRELATIONS`.
        volume: Bias and limits of agreement of the volume, ml.
        volume_icc: Intraclass correlation of the volume, absolute agreement.
    """

    tool: str
    group: str
    correlations: Mapping[str, st.Correlation]
    volume: st.Agreement
    volume_icc: st.IntraclassCorrelation


@dataclass(frozen=True)
class Comparison:
    """Paired comparison of two tools on the same subjects.

    Attributes:
        group: Group name.
        metric: Metric key; "touched" or "detected" for proportions of subjects.
        first: Name of the first tool.
        second: Name of the second tool.
        difference: Mean of first minus second.
        interval: Bootstrap interval of the difference.
        test: Wilcoxon signed-rank test; McNemar's test for proportions.
        p_holm: P value corrected for all pairs of tools on this metric in this group.
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
    """Overall difference between tools: ANOVA across tools, as in the paper.

    Attributes:
        group: Group name.
        metric: Metric key.
        test: One-way ANOVA.
    """

    group: str
    metric: str
    test: st.Test


@dataclass(frozen=True)
class PairTest:
    """Comparison of two samples of one metric by ANOVA, as in the paper.

    Attributes:
        metric: Metric key.
        first: Name of the first sample: a tool, or a level of a stratum.
        second: Name of the second sample.
        difference: Mean of the first minus mean of the second.
        test: One-way ANOVA of the two samples, treated as independent as in the paper.
        p_holm: P value after Holm's correction for all pairs of this metric in this family.
        p_bonferroni: P value after Bonferroni correction for the same pairs.
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
    """Comparisons of all pairs of tools for one group and metric.

    Attributes:
        group: Group name.
        n: Number of subjects.
        metric: Metric key.
        pairs: Comparisons in the order of the tools; empty for one tool.
    """

    group: str
    n: int
    metric: str
    pairs: tuple[PairTest, ...]


@dataclass(frozen=True)
class LevelPairs:
    """Comparisons of all pairs of levels of a stratum, for one tool and metric.

    Attributes:
        tool: Tool name.
        stratum: Title of the stratum.
        metric: Metric key.
        pairs: Comparisons in the order of the levels.
    """

    tool: str
    stratum: str
    metric: str
    pairs: tuple[PairTest, ...]


@dataclass(frozen=True)
class StratumTest:
    """Comparison of one tool and metric across the levels of a stratum.

    Attributes:
        tool: Tool name.
        stratum: Title of the stratum.
        metric: Metric key.
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
    """All statistics of a report.

    Attributes:
        performance: Performance by tool and group of subjects with a lesion.
        false_alarms: False positives by tool and group of lesion-free subjects.
        relations: Correlations and volume agreement by tool.
        tools_tests: ANOVA across tools, by group and metric; empty for one tool.
        comparisons: Paired comparisons by group, metric and pair of tools.
        stratum_tests: ANOVA across levels, by tool, stratum and metric.
        tool_pairs: ANOVA of each pair of tools, by group and metric, as in the paper.
        level_pairs: ANOVA of each pair of levels, by stratum, metric and tool, as in the paper.
        raters: Inter-rater and intra-rater agreement.
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
    """Compute all statistics of a report.

    Args:
        results: Scores and groups.
        rng: Random generator for the bootstrap.
        resamples: Number of bootstrap resamples.
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
    """Compare all pairs of samples by ANOVA and correct for the number of pairs.

    Args:
        metric: Metric key.
        samples: Values by name; NaN values are ignored.

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
    requested = [(group, key) for group in results.lesion_groups for key in PAPER_METRICS]
    requested += [(group, "fp_voxels") for group in results.lesion_free_groups]
    return tuple(
        ToolPairs(
            group.name,
            len(group.subjects),
            key,
            pair_tests(
                key, {tool: results.values(tool, key, group.subjects) for tool in results.tools}
            ),
        )
        for group, key in requested
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
