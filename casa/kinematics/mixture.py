"""Mixtures of Gaussians with full covariances, fitted by expectation maximisation (Dempster, Laird & Rubin 1977).

In plain NumPy, since the library that has them takes longer to import than most fits do. Points are expected to be
standardised. The same points, number of groups and seed give the same mixture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from casa.types import FloatArray, IntArray

#: Added to each variance: a group of points that lie on a line has a covariance too.
_LEAST_VARIANCE = 1e-2
_STEPS, _SETTLED = 200, 1e-4
_LLOYD_STEPS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """k Gaussians in d dimensions: weight (k,), mean (k, d), whitening (k, d, d) the inverse Cholesky factors."""

    weight: FloatArray
    mean: FloatArray
    whitening: FloatArray

    def log_parts(self, points: FloatArray) -> FloatArray:
        """(n, k) logarithm of each group's weight times its density at each point."""
        white = (points[None] - self.mean[:, None]) @ self.whitening.transpose(0, 2, 1)
        log_density = -0.5 * (white**2).sum(axis=2) - 0.5 * points.shape[1] * np.log(2 * np.pi)
        log_volume = np.log(np.diagonal(self.whitening, axis1=1, axis2=2)).sum(axis=1)
        return np.log(self.weight) + log_volume + log_density.T

    def chances(self, points: FloatArray) -> FloatArray:
        """(n, k) probability of each group for each point."""
        parts = self.log_parts(points)
        return np.exp(parts - _log_sum(parts)[:, None])

    def label(self, points: FloatArray) -> IntArray:
        """(n,) the likeliest group of each point."""
        return self.log_parts(points).argmax(axis=1).astype(np.int64)

    def log_likelihood(self, points: FloatArray) -> float:
        """Of all points together."""
        return float(_log_sum(self.log_parts(points)).sum())

    def bic(self, points: FloatArray) -> float:
        """Bayesian information criterion (Schwarz 1978); lower is better."""
        k, d = self.mean.shape
        return (k * (d + d * (d + 1) / 2) + k - 1) * np.log(len(points)) - 2 * self.log_likelihood(points)

    def completed_likelihood(self, points: FloatArray) -> float:
        """BIC plus twice the entropy of the assignments (Biernacki, Celeux & Govaert 2000); lower is better."""
        sure = np.clip(self.chances(points), 1e-300, 1.0)
        return self.bic(points) - 2 * float(np.sum(sure * np.log(sure)))


def fit_mixture(points: FloatArray, k: int, rng: np.random.Generator, starts: int = 3) -> Mixture:
    """The likeliest of the mixtures of k groups that climbing from ``starts`` beginnings leads to; points (n, d)."""
    found = [_climb(points, _begin(points, k, rng)) for _ in range(starts if k > 1 else 1)]
    return max(found, key=lambda mixture: mixture.log_likelihood(points))


def _begin(points: FloatArray, k: int, rng: np.random.Generator) -> FloatArray:
    """(n, k) memberships to begin with: k-means from seeds far from each other (Arthur & Vassilvitskii 2007)."""
    seeds = points[[rng.integers(len(points))]]
    while len(seeds) < k:
        square = _squares(points, seeds).min(axis=1)
        whole = square.sum()
        seeds = np.vstack([seeds, points[rng.choice(len(points), p=square / whole if whole > 0 else None)]])
    for _ in range(_LLOYD_STEPS):
        member = np.eye(k)[_squares(points, seeds).argmin(axis=1)]
        count = member.sum(axis=0)[:, None]
        seeds = np.where(count > 0, member.T @ points / np.maximum(count, 1), seeds)
    return np.eye(k)[_squares(points, seeds).argmin(axis=1)]


def _squares(points: FloatArray, centres: FloatArray) -> FloatArray:
    return ((points[:, None] - centres[None]) ** 2).sum(axis=2)


def _climb(points: FloatArray, member: FloatArray) -> Mixture:
    """Turn memberships into Gaussians and Gaussians into memberships until the likelihood settles."""
    before = -np.inf
    mixture = _from_members(points, member)
    for _ in range(_STEPS):
        parts = mixture.log_parts(points)
        whole = _log_sum(parts)
        reached = float(whole.mean())
        if reached - before < _SETTLED:
            break
        before = reached
        mixture = _from_members(points, np.exp(parts - whole[:, None]))
    return mixture


def _from_members(points: FloatArray, member: FloatArray) -> Mixture:
    count = member.sum(axis=0) + 1e-9
    mean = member.T @ points / count[:, None]
    away = points[None] - mean[:, None]
    covariance = (away * member.T[:, :, None]).transpose(0, 2, 1) @ away / count[:, None, None]
    covariance += _LEAST_VARIANCE * np.eye(points.shape[1])
    return Mixture(count / count.sum(), mean, np.linalg.inv(np.linalg.cholesky(covariance)))


def _log_sum(parts: FloatArray) -> FloatArray:
    """(n,) logarithm of the sum of exp over groups."""
    top = parts.max(axis=1)
    return top + np.log(np.exp(parts - top[:, None]).sum(axis=1))
