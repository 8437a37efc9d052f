"""How often the concentration's 95 % interval holds the truth, and how wide it is: the figures of docs/samples.md.

Heads of each field are drawn by Poisson's law about a mean that varies from field to field (gamma distribution, by its
coefficient of variation, 0 for an evenly mixed sample): `casa.statistics.counts_interval` is made of the heads of all.

python tools/simulate_concentration.py [--studies 10000]
"""

from __future__ import annotations

import argparse

import numpy as np

from casa.statistics import counts_interval, poisson_interval

FIELDS, VARIATIONS = (3, 5, 10), (0.0, 0.1, 0.2, 0.4)


def coverage(
    n_fields: int, heads: float, variation: float, n_studies: int, seed: int = 0
) -> tuple[float, float, float]:
    """Share of intervals that hold the truth, the same of Poisson's alone, and mean width over that of Poisson's."""
    rng = np.random.default_rng(seed)
    size = (n_studies, n_fields)
    means = heads * (rng.gamma(variation**-2, variation**2, size) if variation else np.ones(size))
    truth, sizes = n_fields * heads, np.ones(n_fields)
    held = plain = 0
    ratio = 0.0
    for counts in rng.poisson(means).astype(np.float64):
        (low, high), (least, most) = counts_interval(counts, sizes), poisson_interval(float(counts.sum()))
        held += low <= truth <= high
        plain += least <= truth <= most
        ratio += (high - low) / (most - least)
    return held / n_studies, plain / n_studies, ratio / n_studies


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=10_000)
    count = parser.parse_args().studies
    for heads in (10.0, 40.0, 100.0):
        for n_fields in FIELDS:
            for variation in VARIATIONS:
                held, plain, ratio = coverage(n_fields, heads, variation, count)
                print(
                    f"{n_fields} fields of {heads:g} heads, varying by {100 * variation:g} %: holds the truth in "
                    f"{100 * held:.1f} % (Poisson's alone {100 * plain:.1f}), {ratio:.2f} times as wide as Poisson's"
                )


if __name__ == "__main__":
    main()
