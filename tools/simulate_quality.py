"""How often control charts, intervals and the test of linearity err, and how soon charts tell: the figures of
docs/quality.md and docs/decisions/016-quality.md.

python tools/simulate_quality.py [--series 250] [--studies 8000]
"""

from __future__ import annotations

import argparse

import numpy as np

from casa.qc.agreement import bland_altman, passing_bablok
from casa.qc.rules import REJECTING, ewma, westgard

#: Runs that are watched after the baseline.
WATCHED = 100


def control(n_baseline: int, shift_sd: float, n_series: int) -> tuple[float, float]:
    """Share of runs out of control, and runs until the first alarm (median), for a mean that is off by ``shift_sd``."""
    rng = np.random.default_rng(0)
    out, first = 0, []
    for _ in range(n_series):
        baseline = rng.normal(0, 1, n_baseline)
        deviations = ((rng.normal(shift_sd, 1, WATCHED) - baseline.mean()) / baseline.std(ddof=1)).tolist()
        alarms = [
            abs(z) > limit or any(rule in REJECTING for rule in rules)
            for rules, (z, limit) in zip(westgard(deviations), ewma(deviations, n_baseline), strict=True)
        ]
        out += sum(alarms)
        first.append(alarms.index(True) + 1 if True in alarms else WATCHED + 1)
    return out / (n_series * WATCHED), float(np.median(first))


def agreement(n_pairs: int, n_studies: int) -> dict[str, float]:
    """Share of studies of two equal methods whose 95 % interval holds the truth, by figure."""
    rng = np.random.default_rng(5)
    sd = 4.0
    end = 1.959964 * sd * np.sqrt(2)
    inside: dict[str, int] = {}
    for _ in range(n_studies):
        truth = rng.uniform(5, 95, n_pairs)
        first, second = truth + rng.normal(0, sd, n_pairs), truth + rng.normal(0, sd, n_pairs)
        line, limits = passing_bablok(first, second), bland_altman(first, second).limits
        for name, (low, high), value in (
            ("slope", line.slope_interval, 1.0),
            ("intercept", line.intercept_interval, 0.0),
            ("bias", limits.bias_interval, 0.0),
            ("lower limit of agreement", limits.lower_interval, -end),
            ("upper limit of agreement", limits.upper_interval, end),
        ):
            inside[name] = inside.get(name, 0) + (low <= value <= high)
    return {name: count / n_studies for name, count in inside.items()}


def linearity(n: int, bend: float, grows: bool, n_studies: int) -> tuple[float, float]:
    """Share of studies whose line is refused: by the paper's limit, and by that of Kolmogorov and Smirnov."""
    rng = np.random.default_rng(1)
    paper = usual = 0
    for _ in range(n_studies):
        truth = rng.uniform(5, 95, n)
        sd = 0.08 * truth if grows else 4.0
        first, second = truth + rng.normal(0, 1, n) * sd, truth + rng.normal(0, 1, n) * sd
        found = passing_bablok(first, second + 100 * bend * ((truth - 50) / 50) ** 2)
        paper += not found.linear
        usual += found.cusum > 1.36 * np.sqrt(n)
    return paper / n_studies, usual / n_studies


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--series", type=int, default=250)
    parser.add_argument("--studies", type=int, default=8000)
    arguments = parser.parse_args()
    count = arguments.series
    for name, share in agreement(40, arguments.studies).items():
        print(f"{arguments.studies} studies of 40 pairs: {name}, the interval holds the truth in {100 * share:.1f} %")
    for n_baseline in (20, 10_000):
        for shift in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0):
            share, first = control(n_baseline, shift, count)
            print(f"baseline {n_baseline}, off by {shift} SD: {100 * share:.1f} % of runs out, first after {first:g}")
    for n in (20, 40, 100):
        for bend, grows in ((0.0, False), (0.0, True), (0.1, False), (0.2, False)):
            paper, usual = linearity(n, bend, grows, count)
            scatter = "growing" if grows else "even"
            print(f"{n} pairs, bend {bend}, {scatter} scatter: refused {100 * paper:.1f} % (K-S: {100 * usual:.1f})")


if __name__ == "__main__":
    main()
