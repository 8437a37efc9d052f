"""What a series says: limits from its first runs, the rules each later run breaks, and breaks where something changed.

The first ``n_baseline`` runs of a segment give mean and sd (where a certificate gives them, these are taken), by which
later runs are judged. A changed network, setting, scale or control ends a segment: the next figures cannot be judged by
the old limits, and what the change did to the mean is said instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from casa.errors import InputError
from casa.qc.rules import REJECTING, ewma, westgard
from casa.qc.series import CHARTED, CHARTED_WITHOUT_SCALE, FIGURES, Run, changes

#: Runs that a baseline is made of: 20 is usual, and fewer than 5 say nothing about a scatter.
BASELINE, MIN_BASELINE = 20, 5
#: Differences below this part of the mean are no difference: the least sd of a series that repeats itself exactly.
_RESOLUTION = 1e-6


@dataclass(frozen=True, slots=True)
class Point:
    """A run in a chart. ``state``: "baseline", "in", "warning" or "out"; ``deviation_sd`` is None before there are
    limits; ``rules`` are Westgard's, and "drift" where the moving average is beyond its limit.
    """

    run: Run
    value: float
    deviation_sd: float | None
    rules: tuple[str, ...]
    ewma_sd: float | None
    ewma_limit_sd: float | None
    state: str


@dataclass(frozen=True, slots=True)
class Segment:
    """Runs under one setup. ``mean`` and ``sd`` are None until the baseline is whole; ``changed`` is what began it.

    ``step`` is how the mean of its first runs differs from that of the segment before, with its 95 % interval.
    """

    points: tuple[Point, ...]
    mean: float | None
    sd: float | None
    n_baseline: int
    changed: tuple[str, ...]
    step: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True)
class Chart:
    """One figure of a series."""

    figure: str
    unit: str
    segments: tuple[Segment, ...]

    @property
    def points(self) -> tuple[Point, ...]:
        """All points, oldest first."""
        return tuple(point for segment in self.segments for point in segment.points)

    @property
    def alarm(self) -> bool:
        """Whether the newest run is out."""
        return self.points[-1].state == "out"


def check_options(figures: Sequence[str], n_baseline: int) -> None:
    """Raise InputError for a figure that no run ever has, or a baseline of too few runs."""
    if n_baseline < MIN_BASELINE:
        raise InputError(f"--baseline {n_baseline}: expected at least {MIN_BASELINE} runs")
    for name in figures:
        if name not in FIGURES:
            raise InputError(f"--figure {name}: is none; there are {', '.join(FIGURES)}")


def evaluate(runs: Sequence[Run], figures: Sequence[str] = (), n_baseline: int = BASELINE) -> list[Chart]:
    """The charts of a series; ``figures`` by name, by default the usual ones that the newest run has.

    Raises
    ------
    InputError : a figure that is not known, or in no run; a baseline of too few runs.
    """
    check_options(figures, n_baseline)
    known = [name for name in FIGURES if any(run.figures.get(name) is not None for run in runs)]
    for name in figures:
        if name not in known:
            raise InputError(f"--figure {name}: is in no run of this series; there are {', '.join(known)}")
    usual = [name for name in CHARTED if name in known] or list(CHARTED_WITHOUT_SCALE)
    gone = [name for name in figures or usual if name in known and runs[-1].figures.get(name) is None]
    if gone:
        raise InputError(
            f"{', '.join(gone)}: known of earlier runs and not of the newest; add it again with what is missing "
            "(--calibration?), or begin anew with casa qc break and chart others with --figure"
        )
    wanted = list(figures) or usual
    return [_chart(runs, name, n_baseline) for name in wanted]


def _chart(runs: Sequence[Run], figure: str, n_baseline: int) -> Chart:
    groups: list[tuple[list[str], list[Run]]] = []
    for i, run in enumerate(runs):
        changed = changes(runs[i - 1], run) if i else []
        if not groups or changed:
            groups.append((changed, []))
        if run.figures.get(figure) is not None:
            groups[-1][1].append(run)
    segments: list[Segment] = []
    for changed, group in groups:
        if group:
            segments.append(_segment(group, figure, n_baseline, changed, segments[-1] if segments else None))
    return Chart(figure, FIGURES[figure], tuple(segments))


def _segment(
    runs: Sequence[Run], figure: str, n_baseline: int, changed: Sequence[str], before: Segment | None
) -> Segment:
    values = [float(run.figures[figure] or 0.0) for run in runs]
    targets = [run.targets.get(figure) for run in runs]
    certified = [target for target in targets if target is not None]
    n = 0 if certified else n_baseline
    mean = sd = None
    if certified:
        mean, sd = certified[-1]
        deviations = [(value - centre) / scatter for value, (centre, scatter) in zip(values, certified, strict=True)]
    elif len(values) >= n_baseline:
        mean, sd = float(np.mean(values[:n])), float(np.std(values[:n], ddof=1))
        deviations = [(value - mean) / max(sd, _RESOLUTION * abs(mean), 1e-12) for value in values]
    else:
        deviations = []
    judged = deviations[n:]
    rules, averages = westgard(judged), ewma(judged, n if n else 10**9)
    points = []
    for i, (run, value) in enumerate(zip(runs, values, strict=True)):
        deviation = deviations[i] if deviations else None
        if i < n or deviation is None:
            points.append(Point(run, value, deviation, (), None, None, "baseline"))
            continue
        z, limit = averages[i - n]
        broken = rules[i - n] + (("drift",) if abs(z) > limit else ())
        out = any(rule in REJECTING or rule == "drift" for rule in broken)
        points.append(Point(run, value, deviation, broken, z, limit, "out" if out else "warning" if broken else "in"))
    step = _step([p.value for p in before.points], values[:n_baseline]) if before else None
    return Segment(tuple(points), mean, sd, n, tuple(changed), step)


def _step(before: Sequence[float], after: Sequence[float]) -> tuple[float, float, float] | None:
    """How far the mean moved, with Welch's 95 % interval; None where one side has fewer than 2 runs."""
    if min(len(before), len(after)) < 2:
        return None
    from scipy.special import stdtrit

    parts = [float(np.var(side, ddof=1)) / len(side) for side in (before, after)]
    step, variance = float(np.mean(after) - np.mean(before)), sum(parts)
    if variance == 0:
        return step, step, step
    degrees = variance**2 / sum(p**2 / (len(side) - 1) for p, side in zip(parts, (before, after), strict=True))
    half = float(stdtrit(degrees, 0.975)) * math.sqrt(variance)
    return step, step - half, step + half
