"""Intervals and order statistics of figures. Knows nothing of recordings or of how figures are shown."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Z_95 = 1.959964
#: Counts less likely than this by Poisson's law are taken to differ by more than chance.
DISPERSION_P = 0.2


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles of ``n`` finite values."""

    n: int
    median: float
    q1: float
    q3: float


def effective_count(weights: NDArray[np.float64]) -> float:
    """Kish's effective number of equally weighted units, (sum w)^2 / sum w^2; 0 where there is no weight.

    Motility percentages weigh tracks by their time in view: a hundred glimpses and one long track tell less
    than 101 sperm would.
    """
    total = float(np.sum(weights))
    return total * total / float(np.sum(np.square(weights))) if total > 0 else 0.0


def wilson_percent(percent: float, n: float) -> tuple[float, float] | None:
    """Wilson's 95 % score interval of a percentage seen in ``n`` (not necessarily whole) units; None for n < 1."""
    if not n >= 1:
        return None
    p = min(max(percent / 100, 0.0), 1.0)
    z2 = _Z_95 * _Z_95
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z_95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)


def poisson_interval(count: float) -> tuple[float, float]:
    """Exact 95 % interval of a Poisson mean after ``count`` (a mean count may be fractional) was seen."""
    from scipy.special import gammaincinv

    low = float(gammaincinv(count, 0.025)) if count > 0 else 0.0
    return low, float(gammaincinv(count + 1, 0.975))


def counts_interval(counts: NDArray[np.float64], sizes: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the sum that is to be expected of ``counts`` (n,), made in parts of ``sizes`` (n,).

    It is Poisson's, exact. Where three or more counts differ by more than his law lets them, Student's over the parts
    is taken if it is wider: by the index of dispersion (Fisher 1925; chi-square of n - 1 degrees) at ``DISPERSION_P``.
    """
    total, n = float(np.sum(counts)), len(counts)
    low, high = poisson_interval(total)
    if n < 3 or total == 0:
        return low, high
    from scipy.special import chdtrc, stdtrit

    expected = total * sizes / float(np.sum(sizes))
    if float(chdtrc(n - 1, float(np.sum((counts - expected) ** 2 / expected)))) >= DISPERSION_P:
        return low, high
    half = float(stdtrit(n - 1, 0.975)) * math.sqrt(float(np.sum((counts - expected) ** 2)) * n / (n - 1))
    return min(low, max(total - half, 0.0)), max(high, total + half)


def spread(values: NDArray[np.float64]) -> Spread | None:
    """Median and quartiles of the finite values; None where there are none."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return None
    q1, median, q3 = (float(q) for q in np.percentile(finite, [25, 50, 75]))
    return Spread(int(finite.size), median, q1, q3)


def nice_step(span: float, about: int) -> float:
    """A step of 1, 2 or 5 times a power of ten that divides ``span`` into about ``about`` parts, not many more."""
    if not (math.isfinite(span) and span > 0):
        return 1.0
    raw = span / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
