"""Simulated experts: what a panel of raters, each with an eye and a measure of their own, says of a sperm's quality.

The true quality of a sperm is four numbers (`casa.simulate.closeup_anatomy.quality`). Rater r makes one number of them,
``s = (1 - worst_r) w_r . q + worst_r min(q) + e``, e normal with the rater's own noise, and gives the grade whose
thresholds it lies between. Constants are tuned so that 615 clips and 40 raters have the statistics of Fujii et al.
2023, Table 1; ``tools/tune_panel.py`` found them. All of it is simulated; nobody has looked at these clips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from casa.cells import EXPERT_GRADES

FloatArray = NDArray[np.float64]

#: What the paper's data set has: clips, experts, and clips by the grade that most experts gave.
PAPER_CLIPS, PAPER_EXPERTS, PAPER_COUNTS = 615, 40, (45, 194, 356, 9, 11)


@dataclass(frozen=True, slots=True)
class RaterLaw:
    """How raters differ. thresholds : between A|B, B|C, C|D, D|E of the mean rater, on the scale of qualities.
    noise : median of a rater's noise from clip to clip; noise_spread of its logarithm. bias : sd of a rater's severity,
    the same for all thresholds. gap_spread : sd of the logarithm of the gaps between thresholds. weight : mean weights
    of motility, head, neck and tail. concentration : of the raters' weights about them (Dirichlet). worst : shape of
    the beta distribution of the weight of the worst part.
    """

    thresholds: tuple[float, float, float, float] = (0.8375, 0.5771, 0.2155, 0.0319)
    noise: float = 0.1722
    noise_spread: float = 0.35
    bias: float = 0.0419
    gap_spread: float = 0.25
    weight: tuple[float, float, float, float] = (0.38, 0.30, 0.13, 0.19)
    concentration: float = 8.0
    worst: tuple[float, float] = (2.0, 4.0)


#: The panel's law, as tuned.
PANEL_LAW = RaterLaw()


@dataclass(frozen=True, slots=True)
class Raters:
    """r raters: weight (r, 4), worst (r,), thresholds (r, 4) from A|B down to D|E, noise (r,)."""

    weight: FloatArray
    worst: FloatArray
    thresholds: FloatArray
    noise: FloatArray

    def __len__(self) -> int:
        return len(self.noise)


def sample_raters(count: int, rng: np.random.Generator, law: RaterLaw = PANEL_LAW) -> Raters:
    """Draw raters."""
    weight = rng.dirichlet(law.concentration * np.array(law.weight), count)
    first, gaps = law.thresholds[0], -np.diff(law.thresholds)
    own_gaps = gaps * np.exp(rng.normal(0, law.gap_spread, (count, 3)))
    # Gaps widen and narrow about the middle of the scale, where most sperm are.
    top = first + rng.normal(0, law.bias, count) + (own_gaps[:, 0] - gaps[0])
    thresholds = np.concatenate([top[:, None], top[:, None] - np.cumsum(own_gaps, axis=1)], axis=1)
    return Raters(
        weight=weight,
        worst=rng.beta(*law.worst, count),
        thresholds=thresholds,
        noise=law.noise * np.exp(rng.normal(0, law.noise_spread, count)),
    )


def impressions(quality: FloatArray, raters: Raters) -> FloatArray:
    """(n, r) what each rater makes of each sperm's quality (n, 4), before noise."""
    return (1 - raters.worst) * (quality @ raters.weight.T) + raters.worst * quality.min(axis=1)[:, None]


def vote(quality: FloatArray, raters: Raters, rng: np.random.Generator) -> NDArray[np.int64]:
    """(n, r) grades given, 0 (A) to 4 (E)."""
    seen = impressions(quality, raters)
    seen = seen + rng.standard_normal(seen.shape) * raters.noise
    return (seen[..., None] < raters.thresholds).sum(axis=-1)


def expected_distribution(quality: FloatArray, raters: Raters) -> FloatArray:
    """(n, 5) mean distribution over the noise of these raters, exactly; many of them stand for infinitely many."""
    from scipy.special import ndtr

    seen = impressions(quality, raters)
    below = ndtr((raters.thresholds[None] - seen[..., None]) / raters.noise[:, None]).mean(axis=1)
    edges = np.concatenate([np.zeros((len(below), 1)), 1 - below, np.ones((len(below), 1))], axis=1)
    return np.diff(edges, axis=1)


def counts_of(grades: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n, 5) votes by grade from (n, r) grades."""
    return np.stack([(grades == k).sum(axis=1) for k in range(len(EXPERT_GRADES))], axis=1)
