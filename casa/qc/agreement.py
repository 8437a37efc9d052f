"""Whether two methods agree: Bland and Altman's limits of agreement, and Passing and Bablok's regression.

Sources: Bland & Altman 1986, Lancet 1:307, and 1999, Stat Methods Med Res 8:135; exact intervals of the limits after
Carkeet 2015, Optom Vis Sci 92:e71; Passing & Bablok 1983, J Clin Chem Clin Biochem 21:709. Knows nothing of files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from casa.errors import CasaError, InputError
from casa.types import FloatArray

Interval = tuple[float, float]
#: Pairs below which nothing is computed, and below which the results are said to be rough (CLSI EP09 asks for 40).
MIN_PAIRS, FEW_PAIRS = 10, 40
_Z = 1.959963984540054
#: Differences below this part of the values come of writing decimals in binary, and are none.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Limits:
    """Mean difference and 95 % limits of agreement, each with its 95 % interval; of logarithms turned back: ratios."""

    bias: float
    bias_interval: Interval
    sd: float
    lower: float
    lower_interval: Interval
    upper: float
    upper_interval: Interval


@dataclass(frozen=True, slots=True)
class BlandAltman:
    """Differences (second method minus first) of n pairs.

    ``slope`` is that of the difference on the mean (proportional bias, with interval and p); ``ratio`` holds the limits
    of second over first where all values are positive, else None.
    """

    n: int
    limits: Limits
    slope: float
    slope_interval: Interval
    slope_p: float
    ratio: Limits | None


@dataclass(frozen=True, slots=True)
class PassingBablok:
    """The line second = intercept + slope * first, with 95 % intervals.

    ``slopes`` counts the slopes between pairs, ``tau`` is Kendall's (without ties it is his tau-a). ``cusum`` is the
    largest sum of scores along the line, ``cusum_limit`` what it may be at 5 %; ``linear`` says whether it stays below.
    """

    n: int
    slopes: int
    slope: float
    slope_interval: Interval
    intercept: float
    intercept_interval: Interval
    tau: float
    cusum: float
    cusum_limit: float

    @property
    def linear(self) -> bool:
        """Whether nothing speaks against a straight line at the 5 % level."""
        return self.cusum <= self.cusum_limit


def check_pairs(first: FloatArray, second: FloatArray) -> None:
    """Raise InputError where there are too few pairs, numbers that are none, or no spread to compare over."""
    if len(first) != len(second):
        raise InputError(f"expected as many values of one method as of the other, got {len(first)} and {len(second)}")
    if len(first) < MIN_PAIRS:
        raise InputError(f"{len(first)} pairs: at least {MIN_PAIRS} are needed (40 or more are better)")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("a value is not a finite number")
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        raise InputError("all values of a method are equal: there is nothing to compare over")


def bland_altman(first: FloatArray, second: FloatArray) -> BlandAltman:
    """Limits of agreement of the differences second - first; both (n,). InputError as `check_pairs`."""
    check_pairs(first, second)
    difference, mean = second - first, (first + second) / 2
    n = len(difference)
    spread = mean - mean.mean()
    slope, error = 0.0, 0.0
    if (sxx := float(spread @ spread)) > 0:
        slope = float(spread @ difference) / sxx
        residual = difference - difference.mean() - slope * spread
        error = math.sqrt(float(residual @ residual) / (n - 2) / sxx)
    half = _student(n - 2) * error
    ratio = None
    if (first > 0).all() and (second > 0).all():
        ratio = _exponential(_limits(np.log(second) - np.log(first)))
    return BlandAltman(
        n, _limits(difference), slope, (slope - half, slope + half), _student_p(slope, error, n - 2), ratio
    )


def _limits(difference: FloatArray) -> Limits:
    """Mean and mean -+ 1.96 sd with exact intervals of normal differences (Carkeet 2015).

    sqrt(n) (mean + 1.96 sigma - m) / s has a noncentral t distribution; the lower limit's is the mirror image.
    """
    from scipy.special import nctdtrit

    n = len(difference)
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    half = _student(n - 1) * sd / math.sqrt(n)
    near, far = (float(nctdtrit(n - 1, _Z * math.sqrt(n), p)) * sd / math.sqrt(n) for p in (0.025, 0.975))
    return Limits(
        bias, (bias - half, bias + half), sd,
        bias - _Z * sd, (bias - far, bias - near),
        bias + _Z * sd, (bias + near, bias + far),
    )  # fmt: skip


def _exponential(limits: Limits) -> Limits:
    """Limits of logarithms as ratios; ``sd`` stays that of the logarithms."""
    turned = {
        name: tuple(math.exp(v) for v in value) if isinstance(value, tuple) else math.exp(value)
        for name in ("bias", "bias_interval", "lower", "lower_interval", "upper", "upper_interval")
        for value in (getattr(limits, name),)
    }
    return Limits(sd=limits.sd, **turned)  # type: ignore[arg-type]


def _student(degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))


def _student_p(value: float, error: float, degrees: int) -> float:
    """Two-sided p of value / error."""
    from scipy.special import stdtr

    if error == 0:
        return 1.0 if value == 0 else 0.0
    return 2 * float(stdtr(degrees, -abs(value / error)))


def passing_bablok(first: FloatArray, second: FloatArray) -> PassingBablok:
    """Regression without assumptions on errors or outliers; both (n,).

    The slopes between all pairs of points are taken as angles from -45 to 135 degrees, in which their median is the
    paper's shifted median: slopes below -1 come after the vertical ones. As in the paper, pairs that are equal in
    both methods and slopes of exactly -1 are left out, and pairs equal in the first method alone are vertical.
    Of an even number of slopes the middle is the mean of two angles: exchanged methods give the inverse line. The
    interval of the intercept follows from the slope's alone and is somewhat short: 91 % of 40 pairs held the truth.

    Raises
    ------
    InputError : as `check_pairs`. CasaError : the methods do not rise together, so that there is no such line.
    """
    check_pairs(first, second)
    n = len(first)
    i, j = np.triu_indices(n, 1)
    dx, dy = first[j] - first[i], second[j] - second[i]
    tiny = _ROUNDING * max(float(np.abs(first).max()), float(np.abs(second).max()))
    dx[np.abs(dx) <= tiny], dy[np.abs(dy) <= tiny] = 0.0, 0.0
    used = ~((dx == 0) & (dy == 0)) & (np.abs(dx + dy) > tiny)
    angle = np.arctan2(dy[used], dx[used])
    angle = np.sort(np.where(angle <= -np.pi / 4, angle + np.pi, np.where(angle > 0.75 * np.pi, angle - np.pi, angle)))
    count, spread = len(angle), math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    concordance = float(np.sign(dx * dy).sum())
    lowest = round((count - _Z * spread) / 2)
    middle = float((angle[(count - 1) // 2] + angle[count // 2]) / 2) if count else math.pi
    if lowest < 1 or concordance <= _Z * spread or middle >= np.pi / 2:
        raise CasaError(
            f"the two methods do not rise together (Kendall's tau {2 * concordance / (n * (n - 1)):.2f} of {n} pairs): "
            "no line between them means anything"
        )
    low, high = float(angle[lowest - 1]), float(angle[count - lowest])
    slope, slopes = math.tan(middle), (math.tan(low), math.tan(high) if high < np.pi / 2 - 1e-12 else math.inf)
    intercept = float(np.median(second - slope * first))
    highest = float(np.median(second - slopes[0] * first))
    least = float(np.median(second - slopes[1] * first)) if math.isfinite(slopes[1]) else -math.inf
    cusum, limit = _cusum(first, second, slope, intercept)
    tau = 2 * concordance / (n * (n - 1))
    return PassingBablok(n, count, slope, slopes, intercept, (least, highest), tau, cusum, limit)


def _cusum(first: FloatArray, second: FloatArray, slope: float, intercept: float) -> Interval:
    """The test of linearity: the largest sum of scores of points in their order along the line, and its 5 % limit.

    Each of l points above the line scores sqrt(L / l), each of L below it -sqrt(l / L), one on the line 0.
    """
    residual = second - intercept - slope * first
    tiny = _ROUNDING * max(float(np.abs(first).max()) * abs(slope), float(np.abs(second).max()), abs(intercept))
    above, below = residual > tiny, residual < -tiny
    n_above, n_below = int(above.sum()), int(below.sum())
    if n_above == 0 or n_below == 0:
        return 0.0, 1.36
    score = np.where(above, math.sqrt(n_below / n_above), np.where(below, -math.sqrt(n_above / n_below), 0.0))
    along = (first + slope * (second - intercept)) / math.sqrt(1 + slope**2)
    return float(np.abs(np.cumsum(score[np.argsort(along, kind="stable")])).max()), 1.36 * math.sqrt(n_below + 1)
