"""How well raters agree beyond chance: Fleiss' kappa of any categories, with its interval."""

from __future__ import annotations

import numpy as np

from casa.types import IntArray


def fleiss_kappa(counts: IntArray) -> float:
    """Fleiss' kappa of (n, k) counts of votes by category (Fleiss 1971, Psychol Bull 76:378).

    Items may have different numbers of votes; those with fewer than two say nothing and are left out. NaN where no
    item is left, or where all votes are of one category: then there is nothing to agree on beyond chance.
    """
    votes = np.asarray(counts, np.float64)
    votes = votes[votes.sum(axis=1) >= 2]
    if not len(votes):
        return float("nan")
    n = votes.sum(axis=1)
    agreed = ((votes**2).sum(axis=1) - n) / (n * (n - 1))
    chance = float(np.square(votes.sum(axis=0) / votes.sum()).sum())
    return float((agreed.mean() - chance) / (1 - chance)) if chance < 1 else float("nan")


def kappa_interval(
    counts: IntArray, n_samples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of `fleiss_kappa` over items; NaN where there is none."""
    counts = np.asarray(counts)
    if not len(counts):
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    draws = [fleiss_kappa(counts[rng.integers(len(counts), size=len(counts))]) for _ in range(n_samples)]
    draws = [kappa for kappa in draws if kappa == kappa]
    if not draws:
        return float("nan"), float("nan")
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
