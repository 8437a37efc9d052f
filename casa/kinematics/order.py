"""Medians and quantiles of few finite numbers: the same values as NumPy's, whose checks take ten times as long."""

from __future__ import annotations

import numpy as np

from casa.kernels import kernel
from casa.types import FloatArray


def median(values: FloatArray) -> float:
    """The median of (n,) values, n >= 1, none of them NaN."""
    ordered, middle = np.sort(values), len(values) // 2
    if len(values) % 2:
        return float(ordered[middle])
    return float((ordered[middle - 1] + ordered[middle]) / 2)


def quantile(rows: FloatArray, part: float) -> FloatArray:
    """(m,) the quantile of each of (m, n) rows, between neighbours linearly (Hyndman & Fan 1996, definition 7)."""
    ordered = np.sort(rows, axis=1)
    at = part * (rows.shape[1] - 1)
    below = int(at)
    low, high = ordered[:, below], ordered[:, min(below + 1, rows.shape[1] - 1)]
    into = at - below
    return high - (high - low) * (1 - into) if into >= 0.5 else low + (high - low) * into


@kernel
def medians_of_seven(xy: FloatArray) -> FloatArray:
    """(n, 2): the median of each sample of (n, 2) positions and the three on either side, the ends repeated."""
    n = len(xy)
    out = np.empty((n, 2))
    seven = np.empty(7)
    for axis in range(2):
        for i in range(n):
            for k in range(7):
                value = xy[min(max(i + k - 3, 0), n - 1), axis]
                place = k
                while place > 0 and seven[place - 1] > value:
                    seven[place] = seven[place - 1]
                    place -= 1
                seven[place] = value
            out[i, axis] = seven[3]
    return out
