"""Localisation jitter: how large it is, and a path without the length it adds.

A head is found a fraction of a pixel beside where it is. That adds to every step and so to VCL, most where the step is
short. Most of it is new in each picture, so white: of the same power at all frequencies up to half the frame rate. What
a detector makes of slowly changing surroundings is on top of that, and falls with the square of the frequency. Swimming
is slow and a beat is a line with a harmonic or two, so between the lines the noise lies bare.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import dct, idct

from casa.kinematics.order import median, medians_of_seven, quantile
from casa.kinematics.paths import usual_step
from casa.types import BoolArray, FloatArray, IntArray

#: Samples of the stretches in which the noise floor is looked for; the shorter where there is no longer one.
LONG_STRETCH, SHORT_STRETCH = 64, 32
#: Which quantile over the frequencies of a stretch is taken for the floor, and what part of the mean power it is in
#: white noise on average, by length of the stretch. Chi-squared with 4 degrees of freedom (two axes, real and imaginary
#: part) has 0.618; with the few frequencies of a stretch, next ones alike under a Hann window, simulation gives these.
_FLOOR_QUANTILE = 0.35
_FLOOR_OF_MEAN = {LONG_STRETCH: 0.6465, SHORT_STRETCH: 0.674}
#: Where the noise that falls with frequency is looked for: above what turning does, below most beats.
_WANDER_HZ = np.linspace(3.0, 6.5, 8)
#: Which quantile over stretches is noise there (the slow cells' share of a field), and its part of the mean power.
_WANDER_QUANTILE, _WANDER_OF_MEAN = 0.3, 0.549
_HIGHEST_CORNER_HZ, _LOWEST_WANDER_HZ = 8.0, 1.5
#: By so much a track's jitter may differ from the field's; more is motion that has no line in its spectrum.
_TRACKS_DIFFER = 2.5
#: The field's value counts like so many stretches of a track's own.
_FIELD_WEIGHT = 0.3
#: A band is kept where its power exceeds the jitter's by this many of the jitter's standard deviations; beside such a
#: band, which leaks into it, fewer will do.
_SIGNIFICANT, _SIGNIFICANT_BESIDE = 3.5, 1.0
#: Width of the bands, in parts of the sampling rate.
_BAND = 0.04
#: Times further from even than this part of a frame interval are allowed for.
_EVEN = 0.02
#: Samples of the blocks that are worked on one by one.
_BLOCK = 100
#: A run of samples is cut where more pictures than this are missing.
_LONGEST_FILL = 8
#: A slip of the detector: this many times further from its neighbours than samples of the track usually are, and than
#: the jitter is, in at most so many of the samples around it.
_SLIP_TIMES, _SLIP_SAMPLES = 6.0, 3


@dataclass(frozen=True, slots=True)
class Jitter:
    """Noise of positions: power per axis sigma_px² (1 + (corner_hz / f)²) at frequency f.

    ``sigma_px`` is the sd per axis of the white part, NaN where unknown; ``corner_hz`` where the rest equals it.
    """

    sigma_px: float = float("nan")
    corner_hz: float = 0.0


def _periodogram(stretches: FloatArray) -> FloatArray:
    """(m, k // 2 + 1) Hann periodogram of (m, k, 2) positions about cubics, mean of both axes, px².

    White noise of variance v has v at all frequencies.
    """
    basis, window = _cubics_and_window(stretches.shape[1])
    flat = stretches - basis @ (basis.T @ stretches)
    power = np.abs(np.fft.rfft(flat * window[:, None], axis=1)) ** 2 / (window**2).sum()
    return power.mean(axis=2)


@cache
def _cubics_and_window(n: int) -> tuple[FloatArray, FloatArray]:
    """(n, 4) orthonormal basis of the cubics over n samples, and the Hann window (n,)."""
    ramp = np.linspace(-1, 1, n)
    basis, _ = np.linalg.qr(np.stack([ramp**0, ramp, ramp**2, ramp**3], axis=1))
    return basis, np.hanning(n + 2)[1:-1]


@cache
def _trend_basis(n: int) -> FloatArray:
    """(n, <= 4) orthonormal basis of the trend of a block of n samples: a cubic, of few samples less."""
    basis, _ = np.linalg.qr(np.vander(np.linspace(-1, 1, n), min(3, n // 8 + 1) + 1))
    return basis


def noise_floor_px2(stretches: FloatArray) -> FloatArray:
    """Variance per axis of the white part of stretches of track, px².

    Parameters
    ----------
    stretches : (m, k, 2) positions at even times without gaps, px; k is LONG_STRETCH or SHORT_STRETCH.

    Returns
    -------
    (m,) the floor of the Hann periodogram of both axes over the upper three quarters of the band: a quantile that a
    beat and its harmonic, a few bins wide, hardly move.
    """
    n = stretches.shape[1]
    return quantile(_periodogram(stretches)[:, n // 8 : n // 2], _FLOOR_QUANTILE) / _FLOOR_OF_MEAN[n]


def noise_samples(stretches: FloatArray, rate_hz: FloatArray) -> FloatArray:
    """(m, 1 + 8) px²: the noise floor of (m, k, 2) stretches, and their power at eight frequencies from 3 to 6.5 Hz.

    ``rate_hz`` (m,) is their sampling rate; the power is NaN at frequencies it does not resolve.
    """
    n = stretches.shape[1]
    power = _periodogram(stretches)
    at = _WANDER_HZ / rate_hz[:, None] * n
    below = np.clip(at.astype(np.int64), 0, n // 2 - 1)
    part = at - below
    row = np.arange(len(stretches))[:, None]
    between = (1 - part) * power[row, below] + part * power[row, below + 1]
    between[at > n * 0.45] = np.nan
    return np.concatenate([noise_floor_px2(stretches)[:, None], between], axis=1)


def jitter_of_field(samples: FloatArray) -> Jitter:
    """The jitter of a field from the ``noise_samples`` of its tracks."""
    white = float(np.median(samples[:, 0]))
    known = samples[:, 1:][:, ~np.isnan(samples[:, 1:]).any(axis=0)]
    corner2 = 0.0
    if white > 0 and known.shape[1]:
        quiet = np.quantile(known, _WANDER_QUANTILE, axis=0) / _WANDER_OF_MEAN
        # the median over frequencies: a beat that many cells share is in a few of them
        corner2 = float(np.median((quiet / white - 1) * _WANDER_HZ[: known.shape[1]] ** 2))
    return Jitter(float(np.sqrt(white)), float(np.sqrt(np.clip(corner2, 0.0, _HIGHEST_CORNER_HZ**2))))


def jitter_of_track(index: IntArray, xy: FloatArray, field: Jitter) -> Jitter:
    """The jitter of one track: its own noise floor drawn towards the field's, and the field's corner.

    Parameters
    ----------
    index : (n,) picture numbers. xy : (n, 2) positions, px. field : of the whole field.

    Heads out of focus or at the rim are found less exactly than others. A track without a stretch long enough gets
    the field's value; one with k stretches its own with weight k / (k + 0.3), which is how little such a floor scatters
    beside how much tracks differ.
    """
    cuts = np.flatnonzero(np.diff(index) != usual_step(index)) + 1
    edges = [0, *cuts.tolist(), len(index)]
    runs = [xy[first:stop] for first, stop in pairwise(edges)]
    for length in (LONG_STRETCH, SHORT_STRETCH):
        stretches = [run[: len(run) // length * length].reshape(-1, length, 2) for run in runs if len(run) >= length]
        if not stretches:
            continue
        floors = noise_floor_px2(np.concatenate(stretches))
        if not field.sigma_px > 0:
            break
        low, high = field.sigma_px / _TRACKS_DIFFER, field.sigma_px * _TRACKS_DIFFER
        own_px = float(np.clip(np.sqrt(median(floors)), low, high))
        weight = len(floors) / (len(floors) + _FIELD_WEIGHT)
        return Jitter(float(own_px**weight * field.sigma_px ** (1 - weight)), field.corner_hz)
    return field


def find_slips(xy: FloatArray, sigma_px: float) -> BoolArray:
    """(n,) bool: samples where the detector took something else for the head for a moment.

    A slip is far from the median of the seven samples about it, measured by how far the track's samples usually are and
    by the jitter, and stands nearly alone: where many samples are far, the cell has begun to swim otherwise.
    """
    n = len(xy)
    if n < 15:
        return np.zeros(n, bool)
    away = np.hypot(*(xy - medians_of_seven(xy)).T)
    far = away > _SLIP_TIMES * max(median(away), sigma_px)
    far[:3] = far[-3:] = False
    if not far.any():
        return far
    crowd = np.convolve(far, np.ones(15), mode="same")
    return far & (crowd <= _SLIP_SAMPLES)


def _smooth(values: FloatArray) -> FloatArray:
    """Mean over eleven samples of (n, k) values; a straight course stays as it is, also at the ends."""
    reach = 5
    before, after = 2 * values[0] - values[reach:0:-1], 2 * values[-1] - values[-2 : -reach - 2 : -1]
    whole = np.concatenate([before, values, after])
    return sliding_window_view(whole, 2 * reach + 1, axis=0).mean(axis=2)


def _moved_by_uneven_times(t_s: FloatArray, xy: FloatArray) -> FloatArray | None:
    """(n, 2) how far each position is ahead because its picture was taken late; None where times are even."""
    if len(t_s) < 12:
        return None
    early = _smooth(t_s[:, None])
    late_s = t_s - early[:, 0]
    if np.abs(late_s).max() < _EVEN * (t_s[-1] - t_s[0]) / (len(t_s) - 1):
        return None
    return np.gradient(_smooth(xy), early[:, 0], axis=0) * late_s[:, None]


def _quiet_run(position: IntArray, t_s: FloatArray, xy: FloatArray, jitter: Jitter) -> FloatArray:
    """``remove_jitter`` for a run without long gaps; ``position`` counts pictures from 0.

    The run is worked on in blocks that overlap by half and are faded into each other: what disturbs a track for a
    moment must not be taken for its beat all along.
    """
    n = int(position[-1]) + 1
    ahead = _moved_by_uneven_times(t_s, xy) if n == len(xy) else None
    even = xy if ahead is None else xy - ahead
    measured = np.ones(n)
    if n != len(xy):
        at = np.arange(n)
        even = np.stack([np.interp(at, position, xy[:, axis]) for axis in (0, 1)], axis=1)
        measured = np.bincount(position, minlength=n).astype(np.float64)
    length = min(n, _BLOCK)
    starts = np.unique(np.append(np.arange(0, n - length, _BLOCK // 2), n - length))
    rows = starts[:, None] + np.arange(length)
    rate_hz = (n - 1) / (t_s[-1] - t_s[0])
    quiet = _quiet_blocks(even[rows], measured[rows].mean(axis=1), rate_hz, jitter)
    weight = np.minimum(np.arange(length) + 0.5, length - np.arange(length) - 0.5)
    total, weights = np.zeros((n, 2)), np.zeros(n)
    for start, block in zip(starts.tolist(), quiet, strict=True):
        total[start : start + length] += weight[:, None] * block
        weights[start : start + length] += weight
    path = (total / weights[:, None])[position]
    return path if ahead is None else path + ahead


def _quiet_blocks(blocks: FloatArray, measured: FloatArray, rate_hz: float, jitter: Jitter) -> FloatArray:
    """Spectral subtraction for (m, k, 2) blocks at even times; ``measured`` (m,) is the part that was not filled in."""
    k = blocks.shape[1]
    basis = _trend_basis(k)
    trend = basis @ (basis.T @ blocks)
    spectrum = np.asarray(dct(blocks - trend, type=2, norm="ortho", axis=1))
    width = max(3, round(2 * k * _BAND))
    starts = np.arange(0, max(k - width // 2, 1), width)
    widths = np.diff(np.append(starts, k)).astype(np.int64)
    power = np.add.reduceat((spectrum**2).sum(axis=2), starts, axis=1)
    frequency_hz = np.maximum(np.arange(k) * rate_hz / (2 * k), _LOWEST_WANDER_HZ)
    noise = jitter.sigma_px**2 * (1 + (jitter.corner_hz / frequency_hz) ** 2)
    expected = measured[:, None] * 2 * np.add.reduceat(noise, starts)
    excess = power - expected
    deviation = expected / np.sqrt(widths)
    sure = excess > _SIGNIFICANT * deviation
    beside = np.zeros_like(sure)
    beside[:, 1:] |= sure[:, :-1]
    beside[:, :-1] |= sure[:, 1:]
    keep = sure | (beside & (excess > _SIGNIFICANT_BESIDE * deviation))
    gain = np.sqrt(np.where(keep, excess, 0.0) / np.maximum(power, 1e-300))
    spectrum *= np.repeat(gain, widths, axis=1)[:, :, None]
    return trend + np.asarray(idct(spectrum, type=2, norm="ortho", axis=1), np.float64)


def remove_jitter(index: IntArray, t_s: FloatArray, xy: FloatArray, jitter: Jitter) -> FloatArray:
    """The path with slips mended and the power of the jitter taken out, (n, 2) px.

    Parameters
    ----------
    index : (n,) picture numbers. t_s : (n,) times. xy : (n, 2) measured positions, px.
    jitter : of this track; an unknown or no sigma leaves the path as it is.

    Slips (``find_slips``) are put on the line between their neighbours. Then spectral subtraction on the cosine
    transform of the path about a cubic trend: in each band (4 % of the sampling rate) the power the jitter has on
    average is subtracted where the rest is significant, and the band is emptied where it is not. What remains has in
    expectation the swimmer's own power at each frequency, so its length is the swimmer's; and a cell that does not beat
    gets the length of its slow path alone, which amounts to a longer sampling chord just where the short one would
    measure noise.
    """
    if not jitter.sigma_px > 0 or len(xy) < 4:
        return xy
    slip = find_slips(xy, jitter.sigma_px)
    if slip.any():
        xy = np.stack([np.interp(t_s, t_s[~slip], xy[~slip, axis]) for axis in (0, 1)], axis=1)
    position = np.rint((index - index[0]) / usual_step(index)).astype(np.int64)
    cuts = np.flatnonzero(np.diff(position) > _LONGEST_FILL) + 1
    out = xy.copy()
    for run in np.split(np.arange(len(xy)), cuts):
        if len(run) >= 4:
            out[run] = _quiet_run(position[run] - position[run[0]], t_s[run], xy[run], jitter)
    return out
