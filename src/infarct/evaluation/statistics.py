"""Statistics of the evaluation; each is checked against R or a published worked example.

Values that are undefined (NaN) are left out, and every result says how many went in. What cannot be
computed (too few values, no spread) is NaN, never an exception: a report of three subjects is thin,
not broken.

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
"""Half-width of every 95% interval in standard errors, as in the paper."""

_LEVEL = float(2 * ndtr(Z) - 1)


@dataclass(frozen=True)
class Interval:
    """A 95% confidence interval; NaN where it is undefined."""

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
    """The middle and the spread of a sample.

    Attributes:
        n: Values that were defined.
        mean: Arithmetic mean.
        sd: Sample standard deviation (n - 1).
        median: Second quartile.
        q1: First quartile.
        q3: Third quartile.
        interval: Bootstrap interval of the mean; unknown where none was asked for.
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
        values: Numbers; NaN are left out.
        rng: Source of the bootstrap; no interval is made without it.
        resamples: Number of bootstrap samples.
    """
    x = defined(values)
    if x.size == 0:
        return Summary(0, *(math.nan,) * 5)
    q1, median, q3 = (float(q) for q in np.percentile(x, [25, 50, 75]))
    sd = float(x.std(ddof=1)) if x.size > 1 else math.nan
    interval = UNKNOWN if rng is None else bootstrap_mean(x, rng, resamples)
    return Summary(int(x.size), float(x.mean()), sd, median, q1, q3, interval)


def bootstrap_mean(values: ArrayLike, rng: np.random.Generator, resamples: int = 2000) -> Interval:
    """Bootstrap the mean: bias-corrected and accelerated, because Dice is bounded and skewed.

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
        ((x - least) / spread,),  # squares of differences that are next to nothing would be nothing
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
    """A share of subjects.

    Attributes:
        hits: Subjects that count.
        n: Subjects in all.
        rate: hits / n.
        interval: Wilson's.
    """

    hits: int
    n: int
    rate: float
    interval: Interval


def rate(hits: ArrayLike) -> Rate:
    """Return the share of subjects that are hits, as in the paper's subject detection rate (SDR).

    Args:
        hits: (n,) bool.

    References:
        Liu et al. 2021, Eq. 13. Interval: Wilson 1927 with z = 1.96; it stays honest at 0 and 1,
        where p +- z SE has no width (Brown, Cai and DasGupta 2001).
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
        n: Pairs where both were defined.
        rho: Spearman's, -1 - 1.
        interval: By Fisher's transformation.
        p: Of no correlation, two-sided.
    """

    n: int
    rho: float
    interval: Interval
    p: float


def spearman(x: ArrayLike, y: ArrayLike) -> Correlation:
    """Correlate ranks; interval tanh(atanh(rho) +- z / sqrt(n - 3)), unknown where all ranks agree.

    References:
        Liu et al. 2021, Methods: scipy.stats, Fisher's transformation, z score = 1.96.
    """
    x, y = _defined_pairs(x, y)
    if x.size < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(int(x.size), math.nan, UNKNOWN, math.nan)
    rho, p = (float(part) for part in stats.spearmanr(x, y))
    agree = math.isclose(abs(rho), 1)
    if agree:
        # No approximation holds: of all orders of y, those that fit as well, rising or falling.
        as_well = math.prod(math.factorial(n) for n in np.unique(x, return_counts=True)[1])
        p = min(1.0, 2 * as_well / math.factorial(x.size))
    if agree or x.size == 3:
        return Correlation(int(x.size), rho, UNKNOWN, p)
    half = Z / math.sqrt(x.size - 3)
    low, high = math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)
    return Correlation(int(x.size), rho, Interval(low, high), p)


@dataclass(frozen=True)
class Test:
    """A test of no difference.

    Attributes:
        name: What was computed.
        statistic: F, chi-square or W.
        p: Two-sided; NaN where the test cannot be made.
    """

    __test__ = False  # not a test case, whatever its name makes pytest think

    name: str
    statistic: float
    p: float


def anova(groups: Sequence[ArrayLike]) -> Test:
    """Test whether means differ between groups: one-way ANOVA.

    Args:
        groups: One sample per group; groups of fewer than two values are left out.
    """
    samples = [x for x in map(defined, groups) if x.size >= 2]
    if len(samples) < 2 or all(np.ptp(x) == 0 for x in samples):
        return Test("ANOVA", math.nan, math.nan)
    f, p = stats.f_oneway(*samples)
    return Test("ANOVA", float(f), float(p))


def chi_square(counts: ArrayLike) -> Test:
    """Test whether shares differ between groups, with Yates' correction for 2 x 2 tables.

    Args:
        counts: (levels, groups) numbers of subjects; empty rows and columns are left out.

    References:
        Liu et al. 2021: scipy.stats.chi2_contingency, as it comes.
    """
    table = np.asarray(counts, dtype=float)
    if table.size:
        table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    if min(table.shape) < 2:
        return Test("chi-square", math.nan, math.nan)
    result = stats.chi2_contingency(table)
    return Test("chi-square", float(result.statistic), float(result.pvalue))


def wilcoxon(x: ArrayLike, y: ArrayLike) -> Test:
    """Test whether paired values differ: Wilcoxon's signed ranks, pairs without difference dropped.

    Exact for up to 50 pairs without ties, by permutation for up to 13 with ties, else normal.
    """
    x, y = _defined_pairs(x, y)
    # To more digits than any measure has: equal differences of thirds, say, are not equal bits.
    difference = np.round(x - y, 12)
    difference = difference[difference != 0]
    if x.size == 0:
        return Test("Wilcoxon", math.nan, math.nan)
    if difference.size == 0:
        return Test("Wilcoxon", 0.0, 1.0)
    result = stats.wilcoxon(difference)
    return Test("Wilcoxon", float(result.statistic), float(result.pvalue))


def mcnemar(x: ArrayLike, y: ArrayLike) -> Test:
    """Test whether paired yes-no answers differ: McNemar's test, exact.

    Args:
        x: (n,) bool, one tool's answers.
        y: (n,) bool, the other's, on the same subjects.
    """
    first, second = np.asarray(x, bool), np.asarray(y, bool)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    if first.size == 0:
        return Test("McNemar", math.nan, math.nan)
    p = stats.binomtest(only_first, discordant).pvalue if discordant else 1.0
    return Test("McNemar", float(min(only_first, only_second)), float(p))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Correct p values for their number; keeps the chance of any false alarm below 5%.

    Args:
        p: (n,) p values; NaN stay NaN and do not count.

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
    """How far a measurement lies from a reference (Bland and Altman).

    Attributes:
        n: Pairs.
        bias: Mean of measured minus reference, in their unit.
        bias_interval: Of the bias.
        sd: Of the differences.
        lower: bias - 1.96 SD, the lower limit of agreement.
        lower_interval: Of the lower limit.
        upper: bias + 1.96 SD.
        upper_interval: Of the upper limit.
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
    """How much of the variance of ratings lies between subjects.

    Attributes:
        n: Subjects.
        icc: Two-way random, absolute agreement, single rating: ICC(2,1), or ICC(A,1).
        interval: See `icc`.
    """

    n: int
    icc: float
    interval: Interval


def icc(ratings: ArrayLike) -> IntraclassCorrelation:
    """Compute the intraclass correlation of absolute agreement.

    Args:
        ratings: (n, k) of n subjects by k raters; subjects with a NaN are left out.

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
    with np.errstate(all="ignore"):  # ratings without variance between subjects give 0/0: NaN
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
