"""Agreement statistics against published worked examples, and Passing-Bablok against other programs' output."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

from casa.qc.agreement import bland_altman, passing_bablok

#: Peak flow by two meters, l/min, first readings of 17 people: Bland & Altman 1986, Lancet 1:307, table.
WRIGHT = "494 395 516 434 476 557 413 442 650 433 417 656 267 478 178 423 427"
MINI = "512 430 520 428 500 600 364 380 658 445 432 626 260 477 259 350 451"

#: Serum and plasma creatinine, mg/dL, of 108 patients: the data set ``creatinine`` of the R package mcr (Roche, GPL-3).
CREATININE = """
0.82 0.79 1.83 1.62 1.39 1.36 0.81 1.3 1.72 1.88 3.23 3.35 1.23 1.06 1.37 1.34 1.72 1.56 0.96 0.94 0.76 0.69 1.15 1.16
0.95 0.71 1 0.83 1.52 1.44 1.56 1.26 2.45 2.36 1.85 1.9 0.89 0.95 0.82 0.77 1.01 0.82 0.96 0.88 3.38 3.42 1.31 1.15
1.1 0.96 1.26 1.12 1.15 1.02 1.2 1.29 1.01 0.87 1.33 1.13 0.87 0.82 1.66 1.33 1.41 1.14 1.08 0.93 1.17 1.09 1.77 1.89
1.33 1.57 1.23 1.29 1.21 1.13 1.2 1.11 1.49 1.61 0.89 0.79 1.09 1.19 1.03 0.96 1.07 1.25 0.89 0.87 1.39 1.36 0.96 0.86
1.06 1.03 1.17 0.86 0.9 0.8 1.39 1.22 0.91 0.86 2.28 2.25 0.9 0.87 1.34 1.3 1.32 1.04 1.02 0.92 1.04 1.01 1.27 1.21
1.08 1.11 1.1 1.21 1.39 1.54 1.07 0.99 0.79 0.79 1.02 1.06 0.94 1.02 1.99 2.15 0.7 0.56 0.84 1.01 0.66 0.59 1.1 1.17
0.9 0.82 2.06 2.09 1.31 1.44 1.03 1.22 1.61 1.77 1.52 1.6 1.11 1.13 0.85 1.06 1.2 1.38 1.09 1.24 1.27 1.29 2.06 2.08
1.21 1.31 0.77 0.82 1.06 1.28 1.02 1.15 1 1.04 1.47 1.51 0.97 1.13 1.7 1.84 1.78 1.94 0.93 1.32 0.92 1.36 1.59 1.88
0.68 0.73 0.7 0.78 1.08 1.01 0.83 0.9 1.17 1.3 0.98 0.96 0.77 0.61 0.91 1.27 1.1 1.05 0.8 1.12 0.85 0.72 0.82 0.87
"""

#: 102 pairs with many ties, with MedCalc's results: R. Wicklin, "Passing-Bablok regression in SAS", The DO Loop, 2022.
TIED = """
0.07 0.07 0.04 0.10 0.07 0.08 0.05 0.10 0.06 0.08 0.06 0.07 0.03 0.05 0.04 0.05 0.05 0.08 0.05 0.10 0.12 0.21 0.10 0.17
0.03 0.11 0.18 0.24 0.29 0.33 0.05 0.05 0.04 0.05 0.11 0.21 0.38 0.36 0.04 0.05 0.03 0.06 0.06 0.07 0.46 0.27 0.08 0.05
0.02 0.09 0.12 0.23 0.16 0.25 0.07 0.10 0.07 0.07 0.04 0.06 0.11 0.23 0.23 0.21 0.15 0.20 0.05 0.07 0.04 0.14 0.05 0.11
0.17 0.26 8.43 8.12 1.86 1.47 0.17 0.27 8.29 7.71 5.98 5.26 0.57 0.43 0.07 0.10 0.06 0.11 0.21 0.24 8.29 7.84 0.28 0.23
8.25 7.79 0.18 0.25 0.17 0.22 0.15 0.21 8.33 7.67 5.58 5.05 0.09 0.14 1.00 3.72 0.09 0.13 3.88 3.54 0.51 0.42 4.09 3.64
0.89 0.71 5.61 5.18 4.52 4.15 0.09 0.12 0.05 0.05 0.05 0.05 0.04 0.07 0.05 0.07 0.09 0.11 0.03 0.05 2.27 2.08 1.50 1.21
5.05 4.46 0.22 0.25 2.13 1.93 0.05 0.08 4.09 3.61 1.46 1.13 1.20 0.97 0.02 0.05 1.00 1.00 3.39 3.11 1.00 0.05 2.07 1.83
6.68 6.06 3.00 2.97 0.06 0.09 7.17 6.55 1.00 1.00 2.00 0.05 2.91 2.45 3.92 3.36 1.00 1.00 7.20 6.88 6.42 5.83 2.38 2.04
1.97 1.76 4.72 4.37 1.64 1.25 5.48 4.77 5.54 5.16 0.02 0.06
"""


def numbers(text: str) -> np.ndarray:
    return np.array(text.split(), np.float64)


def test_peak_flow_of_the_paper():
    found = bland_altman(numbers(MINI), numbers(WRIGHT))  # the paper takes Wright minus mini: -2.1 (SD 38.8)
    limits = found.limits
    assert (found.n, round(limits.bias, 1), round(limits.sd, 1)) == (17, -2.1, 38.8)
    assert limits.lower == pytest.approx(-79.7, abs=2)  # the paper's are 2 sd, not 1.96
    assert limits.upper == pytest.approx(75.5, abs=2)
    assert limits.bias - 2 * limits.sd == pytest.approx(-79.7, abs=0.06)
    assert limits.bias_interval == (pytest.approx(-22.0, abs=0.1), pytest.approx(17.8, abs=0.1))
    # The paper's approximate intervals are symmetric; the exact ones reach further outwards, and less far inwards.
    assert -135 < limits.lower_interval[0] < -114.3
    assert -60 < limits.lower_interval[1] < -45.1
    width = limits.upper_interval[1] - limits.upper_interval[0]
    assert width == pytest.approx(110.1 - 40.9, rel=0.1)


@pytest.mark.parametrize(("n", "factor"), [(10, 2.911), (20, 2.396), (30, 2.220), (50, 2.065)])
def test_the_noncentral_t_gives_the_tabled_tolerance_factors(n, factor):
    """One-sided 95 % / 95 % factors of normal tolerance limits, e.g. NIST/SEMATECH e-Handbook 7.2.6.3."""
    from scipy.special import nctdtrit

    assert nctdtrit(n - 1, 1.6448536 * math.sqrt(n), 0.95) / math.sqrt(n) == pytest.approx(factor, abs=6e-4)


def exact_passing_bablok(text: str) -> tuple[Fraction, Fraction, Fraction]:
    """Slope and its limits by the recipe of the paper, in exact fractions: no rounding makes or hides ties.

    Of an even number of slopes the smaller middle one.
    """
    words = text.split()
    pairs = [(Fraction(x), Fraction(y)) for x, y in zip(words[::2], words[1::2], strict=True)]
    slopes, below, vertical = [], 0, 0
    for (x1, y1), (x2, y2) in combinations(pairs, 2):
        dx, dy = x2 - x1, y2 - y1
        if (dx == 0 and dy == 0) or dx == -dy:
            continue
        if dx == 0:
            vertical += 1  # taken as plus infinity: the paper's sign of y1 - y2 gives the same shifted median
        else:
            slopes.append(dy / dx)
            below += dy / dx < -1
    slopes.sort()
    n, count = len(pairs), len(slopes) + vertical
    lowest = round((count - 1.959964 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)) / 2)
    return tuple(slopes[k + below - 1] for k in ((count + 1) // 2, lowest, count - lowest + 1))  # type: ignore[return-value]


@pytest.mark.parametrize("text", [CREATININE, TIED], ids=["creatinine", "tied"])
def test_real_data_with_many_ties_as_the_paper_says(text):
    both = numbers(text).reshape(-1, 2)
    found = passing_bablok(both[:, 0], both[:, 1])
    slope, low, high = (float(value) for value in exact_passing_bablok(text))
    assert found.slope_interval == (pytest.approx(low, rel=1e-12), pytest.approx(high, rel=1e-12))
    if found.slopes % 2:
        assert found.slope == pytest.approx(slope, rel=1e-12)
    else:
        assert slope <= found.slope < slope * 1.001
    residuals = both[:, 1] - found.slope * both[:, 0]
    assert found.intercept == pytest.approx(float(np.median(residuals)), abs=1e-12)


def test_creatinine_beside_mcr():
    """mcreg(method.reg="PaBa", method.ci="analytical") of the R package mcr.

    It counts half of the slopes of -1, of which there are 20 here, where the paper leaves them out, and takes means of
    neighbouring slopes as limits: its figures differ by a neighbour.
    """
    both = numbers(CREATININE).reshape(-1, 2)
    assert len(both) == 108
    found = passing_bablok(both[:, 0], both[:, 1])
    assert found.slope == pytest.approx(1.0880089, rel=1e-4)
    assert found.intercept == pytest.approx(-0.1171729, abs=2e-4)
    assert found.slope_interval == (pytest.approx(1.0, abs=1e-6), pytest.approx(1.173005, rel=1e-4))
    assert found.intercept_interval == (pytest.approx(-0.2001149, abs=1e-4), pytest.approx(-0.02, abs=1e-6))
    assert found.linear


def test_tied_pairs_beside_medcalc():
    """MedCalc does not say how it takes 104 vertical pairs and 37 slopes of -1: 0.9117 (0.8971 to 0.9310)."""
    both = numbers(TIED).reshape(-1, 2)
    assert len(both) == 102
    found = passing_bablok(both[:, 0], both[:, 1])
    assert found.slope == pytest.approx(0.9117, abs=3e-4)
    assert found.slope_interval == (pytest.approx(0.8971, abs=4e-3), pytest.approx(0.9310, abs=4e-3))
    assert found.intercept == pytest.approx(0.02860, abs=1e-3)
