"""Statistics of the evaluation, each verified against R or a published worked example.

Undefined values (NaN) are excluded, and every result reports the number of values used. Statistics
that cannot be computed (too few values, zero variance) are NaN and raise no exception, so that a
report on three subjects is still complete.

References:
    Liu et al. 2021, Methods, "Evaluation of efficiency" and "Statistical significance testing".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import ndtr

Z = 1.96
"""Half-width of a 95% confidence interval in standard errors, as in the paper."""

_LEVEL = float(2 * ndtr(Z) - 1)


@dataclass(frozen=True)
class Interval:
    """A 95% confidence interval; NaN if undefined."""

    low: float
    high: float


UNKNOWN = Interval(math.nan, math.nan)


def defined(values: ArrayLike) -> NDArray[np.float64]:
    """Return the values that are not NaN, as floats."""
    array = np.asarray(values, dtype=np.float64)
    kept: NDArray[np.float64] = array[~np.isnan(array)]
    return kept


def _defined_pairs(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    both = np.column_stack([np.asarray(x, float), np.asarray(y, float)])
    both = both[~np.isnan(both).any(axis=1)]
    return both[:, 0], both[:, 1]


@dataclass(frozen=True)
class Summary:
    """Location and spread of a sample.

    Attributes:
        n: Number of defined values.
        mean: Arithmetic mean.
        sd: Sample standard deviation (n - 1).
        median: Second quartile.
        q1: First quartile.
        q3: Third quartile.
        interval: Bootstrap interval of the mean; NaN if not requested.
    """

    n: int
    mean: float
    sd: float
    median: float
    q1: float
    q3: float
    interval: Interval = UNKNOWN


def summarise(
    values: ArrayLike, rng: np.random.Generator | None = None, resamples: int = 2000
) -> Summary:
    """Summarise a sample.

    Args:
        values: Numbers; NaN values are ignored.
        rng: Random generator for the bootstrap; without it no interval is computed.
        resamples: Number of bootstrap resamples.
    """
    x = defined(values)
    if x.size == 0:
        return Summary(0, *(math.nan,) * 5)
    q1, median, q3 = (float(q) for q in np.percentile(x, [25, 50, 75]))
    sd = float(x.std(ddof=1)) if x.size > 1 else math.nan
    interval = UNKNOWN if rng is None else bootstrap_mean(x, rng, resamples)
    return Summary(int(x.size), float(x.mean()), sd, median, q1, q3, interval)


def bootstrap_mean(values: ArrayLike, rng: np.random.Generator, resamples: int = 2000) -> Interval:
    """Compute a bias-corrected and accelerated (BCa) bootstrap interval of the mean.

    BCa is used because Dice is bounded and skewed.

    References:
        Efron 1987, J Am Stat Assoc 82, 171-185.
    """
    x = defined(values)
    if x.size < 3:
        return UNKNOWN
    least, spread = float(x.min()), float(np.ptp(x))
    if spread == 0:
        return Interval(least, least)
    result = stats.bootstrap(
        ((x - least) / spread,),  # avoids underflow in squared differences
        np.mean,
        n_resamples=resamples,
        batch=max(1, 2_000_000 // x.size),
        confidence_level=_LEVEL,
        method="BCa",
        rng=rng,
    )
    return Interval(*(least + spread * float(end) for end in result.confidence_interval))


@dataclass(frozen=True)
class Rate:
    """A proportion of subjects.

    Attributes:
        hits: Number of subjects that meet the criterion.
        n: Number of subjects.
        rate: hits / n.
        interval: Wilson score interval.
    """

    hits: int
    n: int
    rate: float
    interval: Interval


def rate(hits: ArrayLike) -> Rate:
    """Return the proportion of True values, as in the subject detection rate (SDR) of the paper.

    Args:
        hits: (n,) bool.

    References:
        Liu et al. 2021, Eq. 13. Interval: Wilson 1927 with z = 1.96. It remains valid at 0 and 1,
        where p +- z SE has zero width (Brown, Cai and DasGupta 2001).
    """
    flags = np.asarray(hits, dtype=bool)
    if flags.size == 0:
        return Rate(0, 0, math.nan, UNKNOWN)
    count = int(flags.sum())
    interval = stats.binomtest(count, flags.size).proportion_ci(_LEVEL, method="wilson")
    return Rate(count, flags.size, count / flags.size, Interval(interval.low, interval.high))


@dataclass(frozen=True)
class Correlation:
    """A rank correlation.

    Attributes:
        n: Number of pairs with both values defined.
        rho: Spearman's rank correlation coefficient, -1 to 1.
        interval: Confidence interval by Fisher's transformation.
        p: Two-sided P value of no correlation.
    """

    n: int
    rho: float
    interval: Interval
    p: float


def spearman(x: ArrayLike, y: ArrayLike) -> Correlation:
    """Compute Spearman's correlation with the interval tanh(atanh(rho) +- z / sqrt(n - 3)).

    The interval is undefined (NaN) if all ranks agree.

    References:
        Liu et al. 2021, Methods: scipy.stats, Fisher's transformation, z score = 1.96.
    """
    x, y = _defined_pairs(x, y)
    if x.size < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(int(x.size), math.nan, UNKNOWN, math.nan)
    rho, p = (float(part) for part in stats.spearmanr(x, y))
    agree = math.isclose(abs(rho), 1)
    if agree:
        # Exact P: proportion of permutations of y with perfect rank agreement in either direction.
        as_well = math.prod(math.factorial(n) for n in np.unique(x, return_counts=True)[1])
        p = min(1.0, 2 * as_well / math.factorial(x.size))
    if agree or x.size == 3:
        return Correlation(int(x.size), rho, UNKNOWN, p)
    half = Z / math.sqrt(x.size - 3)
    low, high = math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)
    return Correlation(int(x.size), rho, Interval(low, high), p)


@dataclass(frozen=True)
class Test:
    """Result of a hypothesis test of no difference.

    Attributes:
        name: Name of the test.
        statistic: Test statistic: F, chi-square or W.
        p: Two-sided P value; NaN if the test cannot be computed.
    """

    __test__ = False  # prevents pytest from collecting this class

    name: str
    statistic: float
    p: float


def anova(groups: Sequence[ArrayLike]) -> Test:
    """Test whether group means differ: one-way ANOVA.

    Args:
        groups: One sample per group; groups with fewer than two values are ignored.
    """
    samples = [x for x in map(defined, groups) if x.size >= 2]
    if len(samples) < 2 or all(np.ptp(x) == 0 for x in samples):
        return Test("ANOVA", math.nan, math.nan)
    f, p = stats.f_oneway(*samples)
    return Test("ANOVA", float(f), float(p))


def chi_square(counts: ArrayLike) -> Test:
    """Chi-square test of proportions between groups, with Yates' correction for 2 x 2 tables.

    Args:
        counts: (levels, groups) numbers of subjects; empty rows and columns are ignored.

    References:
        Liu et al. 2021: scipy.stats.chi2_contingency with default settings.
    """
    table = np.asarray(counts, dtype=float)
    if table.size:
        table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    if min(table.shape) < 2:
        return Test("chi-square", math.nan, math.nan)
    result = stats.chi2_contingency(table)
    return Test("chi-square", float(result.statistic), float(result.pvalue))


def wilcoxon(x: ArrayLike, y: ArrayLike) -> Test:
    """Test whether paired values differ: Wilcoxon signed-rank test without zero differences.

    Exact for up to 50 pairs without ties, by permutation for up to 13 pairs with ties, otherwise
    by normal approximation.
    """
    x, y = _defined_pairs(x, y)
    # Round beyond measurement precision: equal differences may differ in the last bits.
    difference = np.round(x - y, 12)
    difference = difference[difference != 0]
    if x.size == 0:
        return Test("Wilcoxon", math.nan, math.nan)
    if difference.size == 0:
        return Test("Wilcoxon", 0.0, 1.0)
    result = stats.wilcoxon(difference)
    return Test("Wilcoxon", float(result.statistic), float(result.pvalue))


def mcnemar(x: ArrayLike, y: ArrayLike) -> Test:
    """Test whether paired binary outcomes differ: McNemar's exact test.

    Args:
        x: (n,) bool, outcomes of one tool.
        y: (n,) bool, outcomes of the other tool on the same subjects.
    """
    first, second = np.asarray(x, bool), np.asarray(y, bool)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    if first.size == 0:
        return Test("McNemar", math.nan, math.nan)
    p = stats.binomtest(only_first, discordant).pvalue if discordant else 1.0
    return Test("McNemar", float(min(only_first, only_second)), float(p))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Correct p values for multiple comparisons; controls the family-wise error rate.

    Args:
        p: (n,) p values; NaN values remain NaN and are not counted.

    References:
        Holm 1979, Scand J Stat 6, 65-70.
    """
    values = np.asarray(p, dtype=np.float64)
    corrected = np.full_like(values, math.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    steps = values[order] * np.arange(order.size, 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


@dataclass(frozen=True)
class Agreement:
    """Agreement of a measurement with a reference (Bland and Altman).

    Attributes:
        n: Number of pairs.
        bias: Mean of measured minus reference, in the unit of the measurements.
        bias_interval: Confidence interval of the bias.
        sd: Standard deviation of the differences.
        lower: Lower limit of agreement, bias - 1.96 SD.
        lower_interval: Confidence interval of the lower limit.
        upper: Upper limit of agreement, bias + 1.96 SD.
        upper_interval: Confidence interval of the upper limit.
    """

    n: int
    bias: float
    bias_interval: Interval
    sd: float
    lower: float
    lower_interval: Interval
    upper: float
    upper_interval: Interval


def bland_altman(reference: ArrayLike, measured: ArrayLike) -> Agreement:
    """Compute bias and limits of agreement.

    References:
        Bland and Altman 1986, Lancet 327, 307-310: intervals by Student's t, with standard errors
        s / sqrt(n) of the bias and sqrt(3) s / sqrt(n) of the limits.
    """
    reference, measured = _defined_pairs(reference, measured)
    difference = measured - reference
    n = int(difference.size)
    if n < 2:
        bias = float(difference[0]) if n else math.nan
        return Agreement(n, bias, UNKNOWN, math.nan, math.nan, UNKNOWN, math.nan, UNKNOWN)
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    half = float(stats.t.ppf((1 + _LEVEL) / 2, n - 1)) * sd / math.sqrt(n)

    def around(centre: float, width: float) -> Interval:
        return Interval(centre - width, centre + width)

    lower, upper = bias - Z * sd, bias + Z * sd
    wide = math.sqrt(3) * half
    return Agreement(
        n, bias, around(bias, half), sd, lower, around(lower, wide), upper, around(upper, wide)
    )


@dataclass(frozen=True)
class IntraclassCorrelation:
    """Proportion of the variance of ratings that is due to differences between subjects.

    Attributes:
        n: Number of subjects.
        icc: Two-way random effects, absolute agreement, single rating: ICC(2,1), or ICC(A,1).
        interval: Confidence interval, see `icc`.
    """

    n: int
    icc: float
    interval: Interval


def icc(ratings: ArrayLike) -> IntraclassCorrelation:
    """Compute the intraclass correlation of absolute agreement.

    Args:
        ratings: (n, k) ratings of n subjects by k raters; subjects with NaN are ignored.

    References:
        Shrout and Fleiss 1979, Psychol Bull 86, 420-428, ICC(2,1);
        McGraw and Wong 1996, Psychol Methods 1, 30-46, Table 7 (interval).
    """
    x = np.asarray(ratings, dtype=np.float64)
    x = x[~np.isnan(x).any(axis=1)]
    n, k = x.shape
    if n < 2 or np.ptp(x) == 0:
        return IntraclassCorrelation(n, math.nan, UNKNOWN)
    if np.ptp(x, axis=1).max() == 0:
        return IntraclassCorrelation(n, 1.0, Interval(1.0, 1.0))
    rows, columns = x.mean(axis=1, keepdims=True), x.mean(axis=0, keepdims=True)
    between_rows = k * ((rows - x.mean()) ** 2).sum() / (n - 1)
    between_columns = n * ((columns - x.mean()) ** 2).sum() / (k - 1)
    residual = ((x - rows - columns + x.mean()) ** 2).sum() / ((n - 1) * (k - 1))
    with np.errstate(all="ignore"):  # zero variance between subjects gives 0/0 = NaN
        total = between_rows + (k - 1) * residual + k * (between_columns - residual) / n
        value = (between_rows - residual) / total
        a = k * value / (n * (1 - value))
        b = 1 + k * value * (n - 1) / (n * (1 - value))
        error = a * between_columns + b * residual
        freedom = error**2 / (
            (a * between_columns) ** 2 / (k - 1) + (b * residual) ** 2 / ((n - 1) * (k - 1))
        )
        tail = (1 + _LEVEL) / 2
        f_low, f_high = stats.f.ppf(tail, n - 1, freedom), stats.f.ppf(tail, freedom, n - 1)
        noise = k * between_columns + (k * n - k - n) * residual
        low = n * (between_rows - f_low * residual) / (f_low * noise + n * between_rows)
        high = n * (f_high * between_rows - residual) / (noise + n * f_high * between_rows)
    return IntraclassCorrelation(n, float(value), Interval(float(low), float(high)))
