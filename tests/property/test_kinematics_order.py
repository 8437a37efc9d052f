"""The short cuts to medians and quantiles give NumPy's own values, to the last bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from casa.kinematics.order import median, medians_of_seven, quantile

SEEDS, LENGTHS = st.integers(0, 2**32 - 1), st.integers(1, 40)


@given(SEEDS, LENGTHS, st.booleans())
def test_the_median_is_numpys(seed: int, n: int, ties: bool):
    values = np.random.default_rng(seed).normal(size=n)
    values = np.round(values) if ties else values
    assert median(values) == np.median(values)


@given(SEEDS, LENGTHS, st.sampled_from([0.0, 0.3, 0.35, 0.5, 0.77, 1.0]))
def test_the_quantile_is_numpys(seed: int, n: int, part: float):
    rows = np.random.default_rng(seed).normal(size=(3, n))
    np.testing.assert_array_equal(quantile(rows, part), np.quantile(rows, part, axis=1))


@settings(deadline=None)  # the first call compiles
@given(SEEDS, LENGTHS)
def test_medians_of_seven_repeat_the_ends(seed: int, n: int):
    xy = np.random.default_rng(seed).normal(size=(n, 2))
    padded = np.pad(xy, ((3, 3), (0, 0)), mode="edge")
    expected = [np.median(padded[i : i + 7], axis=0) for i in range(n)]
    np.testing.assert_array_equal(medians_of_seven(xy), expected)
