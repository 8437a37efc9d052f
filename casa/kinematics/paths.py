"""The definitions: what a sampled head path measures (WHO 2021, 4.5.1.4), in whatever unit the path comes in.

Every window is a time, so that nothing depends on the frame rate but what the definition itself makes depend on it.
Pure functions of arrays; this module knows nothing of tracks, calibrations or noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from casa.kinematics.order import median
from casa.types import BoolArray, FloatArray, IntArray

#: A step in time longer than this many usual ones is a gap even where no frame number is missing.
_GAP_FACTOR = 2.5
#: A gap longer than this is not bridged: where the head was in the meantime is anybody's guess.
LONGEST_BRIDGE_S = 0.5
#: Offsets from the average path smaller than this part of the path's extent are arithmetic, not a beat.
_OFFSET_TOLERANCE = 1e-7


@dataclass(slots=True)
class PathSums:
    """Sums over a path, or a piece of one: pieces of one track are added, ratios are taken at the end.

    Lengths are in the path's own unit, times in s, angles in degrees. ``riser_*`` are of half width.
    """

    curve_length: float = 0.0
    curve_time_s: float = 0.0
    average_length: float = 0.0
    average_time_s: float = 0.0
    crossings: int = 0
    crossing_time_s: float = 0.0
    riser_sum: float = 0.0
    riser_max: float = 0.0
    n_risers: int = 0
    turn_sum_deg: float = 0.0
    n_turns: int = 0
    n_gaps: int = 0
    n_whole_steps: int = 0
    whole_time_s: float = 0.0

    def add(self, other: PathSums) -> None:
        """Take in the sums of another piece of the same track."""
        riser_max = max(self.riser_max, other.riser_max)
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.riser_max = riser_max

    def scaled(self, factor: float) -> PathSums:
        """The sums of the same path in another unit."""
        return replace(
            self,
            curve_length=self.curve_length * factor,
            average_length=self.average_length * factor,
            riser_sum=self.riser_sum * factor,
            riser_max=self.riser_max * factor,
        )

    def rate_hz(self) -> float:
        """Sampling rate over the steps that are no gaps."""
        return self.n_whole_steps / self.whole_time_s if self.whole_time_s > 0 else np.nan

    def curvilinear_velocity(self) -> float:
        """VCL, unit/s."""
        return self.curve_length / self.curve_time_s if self.curve_time_s > 0 else np.nan

    def average_path_velocity(self) -> float:
        """VAP, unit/s."""
        return self.average_length / self.average_time_s if self.average_time_s > 0 else np.nan

    def beat_cross_frequency_hz(self) -> float:
        """BCF: crossings of the average path a second."""
        return self.crossings / self.crossing_time_s if self.crossing_time_s > 0 else np.nan

    def lateral_head_displacement(self) -> tuple[float, float]:
        """ALH mean and max, full width (twice the riser)."""
        if self.n_risers == 0:
            return np.nan, np.nan
        return 2 * self.riser_sum / self.n_risers, 2 * self.riser_max

    def mean_turn_deg(self) -> float:
        """MAD, degrees."""
        return self.turn_sum_deg / self.n_turns if self.n_turns else np.nan


def find_gaps(index: IntArray, t_s: FloatArray) -> BoolArray:
    """Which of the n - 1 steps between samples span missed pictures.

    Parameters
    ----------
    index : (n,) picture numbers of the samples, increasing.
    t_s : (n,) their times.

    A step is a gap where more pictures lie between its ends than ``usual_step``, or where it takes more than 2.5 times
    the median (a camera that lost pictures without numbering them).
    """
    if len(index) < 3:
        return np.zeros(max(len(index) - 1, 0), bool)
    times = t_s[1:] - t_s[:-1]
    return (index[1:] - index[:-1] > 1.5 * usual_step(index)) | (times > _GAP_FACTOR * median(times))


def usual_step(index: IntArray) -> int:
    """By how much the picture number rises where nothing was missed.

    A low quantile: a head that comes and goes at the rim of the field is missed more often than not.
    """
    steps = np.sort(index[1:] - index[:-1])
    return max(int(steps[len(steps) // 10]), 1) if len(steps) else 1


def cut_at_long_gaps(t_s: FloatArray, gap: BoolArray) -> list[tuple[int, int]]:
    """The runs of samples between gaps of more than 0.5 s, as (first, last + 1)."""
    cuts = np.flatnonzero(gap & (np.diff(t_s) > LONGEST_BRIDGE_S)) + 1
    edges = [0, *cuts.tolist(), len(t_s)]
    return list(pairwise(edges))


def average_path(t_s: FloatArray, xy: FloatArray, window_s: float) -> FloatArray:
    """The running mean of the path over a centred window, (n, 2), at the times of the samples.

    The mean is the integral of the polyline through the samples over the window, divided by its length, so irregular
    times weigh as they should and the result hardly depends on the frame rate. Towards the ends the window shrinks
    about its centre: the average path begins and ends where the path does.
    """
    n = len(t_s)
    if n < 3:
        return xy.copy()
    half = np.minimum(window_s / 2, np.minimum(t_s - t_s[0], t_s[-1] - t_s))
    steps = t_s[1:] - t_s[:-1]
    integral = np.zeros((n, 2))
    np.cumsum(0.5 * (xy[1:] + xy[:-1]) * steps[:, None], axis=0, out=integral[1:])
    edges = np.concatenate([t_s - half, t_s + half])
    at = np.clip(np.searchsorted(t_s, edges, side="right") - 1, 0, n - 2)
    into = (edges - t_s[at])[:, None]
    slope = (xy[at + 1] - xy[at]) / steps[at][:, None]
    values = integral[at] + into * (xy[at] + 0.5 * into * slope)
    inner = half > 0
    mean = xy.copy()
    mean[inner] = (values[n:] - values[:n])[inner] / (2 * half[inner])[:, None]
    return mean


def step_lengths(xy: FloatArray) -> FloatArray:
    """(n - 1,) lengths of the steps of a path."""
    step = xy[1:] - xy[:-1]
    return np.hypot(step[:, 0], step[:, 1])


def offsets(xy: FloatArray, mean: FloatArray) -> FloatArray:
    """(n,) signed perpendicular offset of the path from the average path, positive to its right (y down)."""
    if len(xy) < 2:
        return np.zeros(len(xy))
    tangent = np.gradient(mean, axis=0)
    length = np.hypot(tangent[:, 0], tangent[:, 1])
    across = xy - mean
    turned = tangent[:, 0] * across[:, 1] - tangent[:, 1] * across[:, 0]
    return np.divide(turned, length, out=np.zeros(len(xy)), where=length > 0)


def half_waves(offset: FloatArray, tolerance: float) -> tuple[int, FloatArray]:
    """Crossings of the average path, and the riser (largest offset) of each half wave between two crossings."""
    sign = np.sign(np.where(np.abs(offset) > tolerance, offset, 0.0))
    known = np.flatnonzero(sign)
    if len(known) < 2:
        return 0, np.empty(0)
    crossings = np.flatnonzero(np.diff(sign[known])) + 1
    if len(crossings) < 2:
        return len(crossings), np.empty(0)
    starts = known[crossings]
    return len(crossings), np.maximum.reduceat(np.abs(offset), starts)[:-1]


def turning_angles_deg(xy: FloatArray, gap: BoolArray) -> FloatArray:
    """Absolute angles between following steps, degrees; steps across gaps and steps of no length have none."""
    step = xy[1:] - xy[:-1]
    moved = (np.hypot(step[:, 0], step[:, 1]) > 0) & ~gap
    both = moved[1:] & moved[:-1]
    before, after = step[:-1][both], step[1:][both]
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    dot = (before * after).sum(axis=1)
    return np.degrees(np.abs(np.arctan2(cross, dot)))


def measure_path(t_s: FloatArray, xy: FloatArray, gap: BoolArray, mean: FloatArray, window_s: float) -> PathSums:
    """Sums of a run of n >= 2 samples without a long gap.

    Parameters
    ----------
    t_s : (n,) times, strictly increasing. xy : (n, 2) positions. gap : (n - 1,) steps that span missed pictures.
    mean : (n, 2) of ``average_path``. window_s : its window.

    VAP, ALH and BCF are of that part of the run where the window is whole. Gaps are left out of the curvilinear
    length and its time; ``add_gaps`` puts them in.
    """
    sums = PathSums()
    sums.curve_length, sums.curve_time_s = float(step_lengths(xy)[~gap].sum()), float(np.diff(t_s)[~gap].sum())
    sums.n_whole_steps, sums.whole_time_s = int((~gap).sum()), sums.curve_time_s

    turns = turning_angles_deg(xy, gap)
    sums.turn_sum_deg, sums.n_turns = float(turns.sum()), len(turns)

    tolerance_s = 1e-6
    inner = np.flatnonzero((t_s - t_s[0] >= window_s / 2 - tolerance_s) & (t_s[-1] - t_s >= window_s / 2 - tolerance_s))
    if len(inner) < 2:
        return sums
    first, last = inner[0], inner[-1] + 1
    sums.average_length = float(step_lengths(mean[first:last]).sum())
    sums.average_time_s = float(t_s[last - 1] - t_s[first])
    if len(inner) >= 3:
        offset = offsets(xy, mean)[first:last]
        extent = float(np.abs(xy - xy[0]).max())
        sums.crossings, risers = half_waves(offset, _OFFSET_TOLERANCE * extent)
        sums.crossing_time_s = sums.average_time_s
        if len(risers):
            sums.riser_sum, sums.riser_max, sums.n_risers = float(risers.sum()), float(risers.max()), len(risers)
    return sums


def add_gaps(sums: PathSums, t_s: FloatArray, xy: FloatArray, gap: BoolArray) -> None:
    """Let the gaps of a piece of track count towards its VCL.

    A gap counts with the longer of its chord and what the mean speed of the piece's measured steps would make of its
    time: the chord alone would leave the beat out, and without the chord VCL could fall below VSL.
    """
    sums.n_gaps += int(gap.sum())
    if not gap.any():
        return
    speed = sums.curve_length / sums.curve_time_s if sums.curve_time_s > 0 else 0.0
    times, lengths = np.diff(t_s)[gap], step_lengths(xy)[gap]
    sums.curve_length += float(np.maximum(lengths, speed * times).sum())
    sums.curve_time_s += float(times.sum())
