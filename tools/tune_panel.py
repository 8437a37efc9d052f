"""Find the constants of the simulated expert panel (casa.simulate.panel): ``python tools/tune_panel.py``.

The law of the raters is fitted so that, on many simulated sperm (of a seed that no data set uses), the shares of clips
by the grade that most of the panel's 40 raters give are those of Fujii et al. 2023, Table 1, and the mean squared
error of the mean distribution is ``--prior-mse`` (which the paper does not give: its worst network has 1.8e-2). Prints
the law and what it leads to; constants are then written by hand.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from scipy.optimize import differential_evolution

from casa.simulate.panel import PAPER_COUNTS, RaterLaw, counts_of, vote
from casa.simulate.panel_clips import panel_raters, simulate_panel


def distribution(quality: np.ndarray, law: RaterLaw, panel: int) -> np.ndarray:
    """(n, 5) shares of a panel's votes."""
    raters = panel_raters(panel, law=law)
    return counts_of(vote(quality, raters, np.random.default_rng([1, panel]))) / len(raters)


def shares(distribution: np.ndarray) -> np.ndarray:
    """(5,) shares of clips by the grade with most votes."""
    return np.bincount(np.argmax(distribution, axis=1), minlength=5) / len(distribution)


def law_of(x: np.ndarray) -> RaterLaw:
    """Highest threshold, three gaps, noise, bias."""
    thresholds = x[0] - np.concatenate([[0], np.cumsum(x[1:4])])
    return replace(RaterLaw(), thresholds=tuple(map(float, thresholds)), noise=float(x[4]), bias=float(x[5]))


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1_000_003, help="of the sperm that are fitted to")
    parser.add_argument("--prior-mse", type=float, default=0.021)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    quality = simulate_panel(args.clips, args.seed).quality
    wanted = np.array(PAPER_COUNTS) / sum(PAPER_COUNTS)

    def cost(x: np.ndarray) -> float:
        d = distribution(quality, law_of(x), 0)
        of_counts = np.square(np.sqrt(shares(d)) - np.sqrt(wanted)).sum()
        return float(100 * of_counts + 3 * np.log(d.var(axis=0).mean() / args.prior_mse) ** 2)

    bounds = [(0.6, 0.95), (0.05, 0.35), (0.1, 0.6), (0.02, 0.3), (0.04, 0.25), (0.02, 0.12)]
    found = differential_evolution(cost, bounds, maxiter=args.rounds, popsize=8, rng=0, polish=False)
    d, fresh = (distribution(quality, law_of(found.x), panel) for panel in (0, 1))
    print(law_of(found.x))
    print("clips by grade, of 615:", np.round(615 * shares(d), 1), "wanted", PAPER_COUNTS)
    print("mean distribution:", np.round(d.mean(axis=0), 3))
    print(f"MSE of the mean distribution {d.var(axis=0).mean():.4f}, of a fresh panel {((d - fresh) ** 2).mean():.4f}")


if __name__ == "__main__":
    main()
