"""A simulated data set of graded clips: sperm, their clips and the panel's votes, all of it from two numbers.

Clip i of a seed is the same however many there are; clips come in samples (patients) of 15. Drawing the sperm and the
votes takes milliseconds a clip, the pictures a tenth of a second, in as many processes as wanted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from casa.lifeline import end_with
from casa.simulate.closeup import Field, clip_times_s, render_closeup, sample_closeup, sample_field
from casa.simulate.closeup_anatomy import DEFECT_NAMES, Sperm, quality
from casa.simulate.panel import (
    PANEL_LAW,
    PAPER_EXPERTS,
    RaterLaw,
    Raters,
    counts_of,
    expected_distribution,
    sample_raters,
    vote,
)

FloatArray = NDArray[np.float64]

CLIPS_PER_SAMPLE = 15
#: Changes with what the pictures look like or how they are voted on: data sets of another version are drawn anew.
PANEL_VERSION = 3
_FRESH_PANELS = 100
_MANY, _MANY_RATERS = 2**32, 4000  # a panel so large that its mean is everybody's


@dataclass(frozen=True, slots=True)
class SimulatedPanel:
    """n clips' truth and votes, without pictures.

    seed : of the clips. sample (n,) int64. um_per_px (n,). quality (n, 4) of motility, head, neck, tail. severity
    (n, 14) by `DEFECT_NAMES`. mode (n,) names. counts (n, 5) votes of the panel's 40 raters. expected (n, 5)
    distribution that infinitely many raters would give.
    """

    seed: int
    sample: NDArray[np.int64]
    um_per_px: FloatArray
    quality: FloatArray
    severity: FloatArray
    mode: tuple[str, ...]
    counts: NDArray[np.int64]
    expected: FloatArray

    def __len__(self) -> int:
        return len(self.sample)

    @property
    def distribution(self) -> FloatArray:
        """(n, 5) shares of the votes."""
        return self.counts / self.counts.sum(axis=1, keepdims=True)


def panel_raters(number: int = 0, count: int = PAPER_EXPERTS, law: RaterLaw = PANEL_LAW) -> Raters:
    """The raters of a panel: 0 is *the* panel, which votes on every simulated data set; others are fresh ones."""
    return sample_raters(count, np.random.default_rng([0x9A7E, number]), law)


def simulate_panel(n_clips: int, seed: int) -> SimulatedPanel:
    """Draw sperm and the panel's votes on them; no pictures."""
    drawn = [_drawn(seed, k) for k in range(n_clips)]
    duration = float(clip_times_s()[-1])
    values = np.array([quality(sperm, duration) for _, sperm in drawn]).reshape(n_clips, 4)
    raters = panel_raters()
    votes = [vote(values[k : k + 1], raters, np.random.default_rng([seed, 2, k]))[0] for k in range(n_clips)]
    return SimulatedPanel(
        seed=seed,
        sample=np.arange(n_clips) // CLIPS_PER_SAMPLE,
        um_per_px=np.array([field.um_per_px for field, _ in drawn]),
        quality=values,
        severity=np.array([sperm.severity for _, sperm in drawn]).reshape(n_clips, len(DEFECT_NAMES)),
        mode=tuple(sperm.mode.value for _, sperm in drawn),
        counts=counts_of(np.array(votes).reshape(n_clips, len(raters))),
        expected=expected_distribution(values, panel_raters(_MANY, _MANY_RATERS)),
    )


def fresh_panel_mse(true_quality: FloatArray, distribution: FloatArray, n_panels: int = _FRESH_PANELS) -> FloatArray:
    """(n_panels,) mean squared error of fresh panels of 40 raters against ``distribution`` (n, 5).

    As near as another panel comes to the votes of the first: what may be asked of a prediction. True quality is
    (n, 4).
    """
    errors = np.empty(n_panels)
    for k in range(n_panels):
        raters = panel_raters(k + 1)
        counts = counts_of(vote(true_quality, raters, np.random.default_rng([0xF7E5, k])))
        errors[k] = ((counts / len(raters) - distribution) ** 2).mean()
    return errors


def render_panel(
    n_clips: int, seed: int, workers: int = 1, advance: Callable[[], object] = lambda: None
) -> Iterator[tuple[NDArray[np.uint8], FloatArray]]:
    """Clip after clip: (16, 150, 150) uint8 pictures and (16, 2) places of their middles in the sample, px.

    ``workers`` processes draw them; ``advance`` is called after each.
    """
    if workers <= 1:
        for k in range(n_clips):
            yield _rendered((seed, k))
            advance()
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), end_with, (os.getpid(),)) as pool:
        for clip in pool.map(_rendered, [(seed, k) for k in range(n_clips)], chunksize=8):
            yield clip
            advance()


def _drawn(seed: int, k: int) -> tuple[Field, Sperm]:
    field = sample_field(np.random.default_rng([seed, 0, k // CLIPS_PER_SAMPLE]))
    return field, sample_closeup(field, _clip_seed(seed, k))


def _rendered(which: tuple[int, int]) -> tuple[NDArray[np.uint8], FloatArray]:
    field, sperm = _drawn(*which)
    return render_closeup(field, sperm, _clip_seed(*which))


def _clip_seed(seed: int, k: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, 1, k])
