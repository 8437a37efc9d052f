"""How well grade distributions were predicted: the paper's measures (Fujii et al. 2023, section 5.1), with intervals.

Distributions are (n, 5) float64, best grade first. Plain NumPy: what is reported does not depend on a network's
library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from casa.cells import EXPERT_GRADES
from casa.errors import InputError
from casa.types import FloatArray, IntArray

#: Names of the scores, in the order of the paper's Table 2.
SCORES = ("mse", "js", "ba_1st", "ba_2nd", "ba_3rd", "ba_4th", "ba_5th", "ba_mean")


def squared_errors(found: FloatArray, true: FloatArray) -> FloatArray:
    """Mean squared difference over the grades, one value a clip (Eq. 12)."""
    return np.mean((found - true) ** 2, axis=-1)


def js_divergences(found: FloatArray, true: FloatArray) -> FloatArray:
    """Jensen-Shannon divergence in nats, one value a clip (Eq. 14, 15)."""
    middle = (found + true) / 2
    return (_kl(found, middle) + _kl(true, middle)) / 2


def _kl(p: FloatArray, q: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, p * np.log(p / q), 0.0).sum(axis=-1)


def grades_by_votes(distribution: FloatArray) -> IntArray:
    """(n, 5) indices of grades, the most selected first; of grades with equal votes the better one comes first."""
    return np.argsort(-np.asarray(distribution), axis=-1, kind="stable")


def balanced_accuracy(found: IntArray, true: IntArray) -> float:
    """Mean recall over the grades that occur in ``true``; both (n,) indices of grades."""
    return float(np.mean([np.mean(found[true == grade] == grade) for grade in np.unique(true)]))


def scores(found: FloatArray, true: FloatArray) -> dict[str, float]:
    """``SCORES`` of predicted distributions: mean MSE and JS divergence, balanced accuracies as fractions of the
    grade that most, second most, ... experts gave, and the mean of these five.

    Raises
    ------
    InputError : shapes differ, there is no clip, or a row is no distribution.
    """
    found, true = _distributions(found, "predicted"), _distributions(true, "true")
    if found.shape != true.shape:
        raise InputError(f"{len(found)} predicted distributions, {len(true)} true ones: one for each clip is needed")
    return _scores(found, true, grades_by_votes(found), grades_by_votes(true))


def _scores(found: FloatArray, true: FloatArray, found_order: IntArray, true_order: IntArray) -> dict[str, float]:
    accuracies = [balanced_accuracy(found_order[:, n], true_order[:, n]) for n in range(len(EXPERT_GRADES))]
    values = [squared_errors(found, true).mean(), js_divergences(found, true).mean(), *accuracies, np.mean(accuracies)]
    return dict(zip(SCORES, map(float, values), strict=True))


def _distributions(values: FloatArray, what: str) -> FloatArray:
    values = np.asarray(values, np.float64)
    n = len(EXPERT_GRADES)
    if values.ndim != 2 or values.shape[1] != n or len(values) == 0:
        raise InputError(f"{what} distributions: expected (clips, {n}) with at least one clip, got {values.shape}")
    bad = ~(np.isfinite(values).all(axis=1) & (values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) < 1e-4))
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(f"{what} distribution of clip {row + 1}: {values[row].tolist()} is none (>= 0, sum 1)")
    return values


def bootstrap_intervals(
    found: FloatArray | Sequence[FloatArray],
    true: FloatArray,
    n_samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of ``SCORES``: clips are drawn with replacement.

    ``found`` may be one (n, 5) array or several of the same clips (one a seed), whose scores are averaged within each
    draw. A draw of clips is the same for all: the interval is about other clips, not about other trainings.
    """
    runs = [_distributions(f, "predicted") for f in ([found] if isinstance(found, np.ndarray) else found)]
    true = _distributions(true, "true")
    orders, true_order = [grades_by_votes(run) for run in runs], grades_by_votes(true)
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(n_samples):
        rows = rng.integers(len(true), size=len(true))
        of_runs = [
            list(_scores(run[rows], true[rows], order[rows], true_order[rows]).values())
            for run, order in zip(runs, orders, strict=True)
        ]
        draws.append(np.mean(of_runs, axis=0))
    edges = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return {name: (float(low), float(high)) for name, low, high in zip(SCORES, *edges, strict=True)}


def paired_difference(
    first: FloatArray, second: FloatArray, n_samples: int = 5000, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of ``first - second``, both (n,) of the same clips, and its bootstrap interval: (mean, low, high)."""
    difference = np.asarray(first) - np.asarray(second)
    rows = np.random.default_rng(seed).integers(len(difference), size=(n_samples, len(difference)))
    low, high = np.quantile(difference[rows].mean(axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(difference.mean()), float(low), float(high)


def prior(true: FloatArray) -> FloatArray:
    """(5,) mean distribution of the clips trained on: what can be said of a clip without looking at it."""
    return _distributions(true, "true").mean(axis=0)


def share_of_way(mse: float, prior_mse: float, floor_mse: float) -> float:
    """How much of the way from the prior's MSE to that of a fresh panel was gone: 0 the prior, 1 the panel."""
    return (prior_mse - mse) / (prior_mse - floor_mse)


@dataclass(frozen=True, slots=True)
class KruskalWallis:
    """Statistic H, its p value, and the p values of pairs of models."""

    h: float
    p: float
    pairs: dict[tuple[str, str], float]


def kruskal_wallis(values: Mapping[str, Sequence[float] | NDArray[np.float64]]) -> KruskalWallis:
    """Kruskal-Wallis test that scores of models (one value a fold or run each) come from one distribution.

    Raises
    ------
    InputError : fewer than two models, or a model with fewer than two values.
    """
    from scipy.stats import kruskal

    if len(values) < 2 or min(len(v) for v in values.values()) < 2:
        raise InputError("Kruskal-Wallis: needs two models or more, with two values or more each")
    names = list(values)

    def test(chosen: Sequence[str]) -> tuple[float, float]:
        groups = [np.asarray(values[name], np.float64) for name in chosen]
        if np.ptp(np.concatenate(groups)) == 0:  # all the same: nothing speaks for a difference
            return 0.0, 1.0
        result = kruskal(*groups)
        return float(result.statistic), float(result.pvalue)

    h, p = test(names)
    pairs = {(a, b): test((a, b))[1] for i, a in enumerate(names) for b in names[i + 1 :]}
    return KruskalWallis(h, p, pairs)
