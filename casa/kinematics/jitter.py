"""Localisation jitter: how large it is, and a path without the length it adds.

A head is found a fraction of a pixel beside where it is, anew in each picture. That adds to every step and so to VCL,
most where the step is short. Jitter is white: its power is the same at all frequencies up to half the frame rate,
whereas swimming is slow and a beat is a line with a harmonic or two. Both functions rest on that.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.fft import dct, idct

from casa.kinematics.paths import usual_step
from casa.types import FloatArray, IntArray

#: Samples of the stretches in which the noise floor is looked for; the shorter where there is no longer one.
LONG_STRETCH, SHORT_STRETCH = 64, 32
#: Which quantile over the frequencies of a stretch is taken for the floor, and what part of the mean power it is in
#: white noise on average, by length of the stretch. Chi-squared with 4 degrees of freedom (two axes, real and imaginary
#: part) has 0.618; with the few frequencies of a stretch, next ones alike under a Hann window, simulation gives these.
_FLOOR_QUANTILE = 0.35
_FLOOR_OF_MEAN = {LONG_STRETCH: 0.6465, SHORT_STRETCH: 0.674}
#: The field's value counts like so many stretches of a track's own.
_FIELD_WEIGHT = 0.3
#: A band is kept where its power exceeds the jitter's by this many of the jitter's standard deviations; beside such a
#: band, which leaks into it, fewer will do.
_SIGNIFICANT, _SIGNIFICANT_BESIDE = 3.0, 1.0
#: Width of the bands, in parts of the sampling rate.
_BAND = 0.04
#: A run of samples is cut where more pictures than this are missing.
_LONGEST_FILL = 8


def noise_floor_px2(stretches: FloatArray) -> FloatArray:
    """Variance per axis of the white part of stretches of track, px².

    Parameters
    ----------
    stretches : (m, k, 2) positions at even times without gaps, px.

    Returns
    -------
    (m,) the floor of the Hann periodogram of both axes over the upper three quarters of the band: a quantile that a
    beat and its harmonic, a few bins wide, hardly move.
    """
    n = stretches.shape[1]
    ramp = np.linspace(-1, 1, n)
    basis, _ = np.linalg.qr(np.stack([ramp**0, ramp, ramp**2, ramp**3], axis=1))
    flat = stretches - basis @ (basis.T @ stretches)
    window = np.hanning(n + 2)[1:-1]
    power = np.abs(np.fft.rfft(flat * window[:, None], axis=1)) ** 2 / (window**2).sum()
    high = power[:, n // 8 : n // 2].mean(axis=2)
    return np.quantile(high, _FLOOR_QUANTILE, axis=1) / _FLOOR_OF_MEAN[n]


def jitter_of_track(index: IntArray, xy: FloatArray, field_px: float) -> float:
    """Sd per axis of the jitter of one track, px: its own noise floor, drawn towards the field's.

    Parameters
    ----------
    index : (n,) picture numbers. xy : (n, 2) positions, px. field_px : of the whole field, NaN where unknown.

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
        own_px = float(np.sqrt(floors.mean()))
        if not np.isfinite(field_px) or field_px <= 0 or own_px <= 0:
            return own_px
        weight = len(floors) / (len(floors) + _FIELD_WEIGHT)
        return float(np.exp(weight * np.log(own_px) + (1 - weight) * np.log(field_px)))
    return float(np.nan_to_num(field_px))


def _quiet_run(position: IntArray, t_s: FloatArray, xy: FloatArray, sigma_px: float) -> FloatArray:
    """``remove_jitter`` for a run without long gaps; ``position`` counts pictures from 0."""
    n = int(position[-1]) + 1
    degree = min(3, len(xy) // 8 + 1)
    centre, scale = (t_s[0] + t_s[-1]) / 2, max((t_s[-1] - t_s[0]) / 2, 1e-12)
    basis = np.vander((t_s - centre) / scale, degree + 1)
    trend = basis @ np.linalg.solve(basis.T @ basis, basis.T @ xy)
    rest = xy - trend
    if n != len(xy):
        at = np.arange(n)
        rest = np.stack([np.interp(at, position, rest[:, axis]) for axis in (0, 1)], axis=1)
    spectrum = np.asarray(dct(rest, type=2, norm="ortho", axis=0))
    width = max(3, round(2 * n * _BAND))
    starts = np.arange(0, max(n - width // 2, 1), width)
    power = np.add.reduceat((spectrum**2).sum(axis=1), starts)
    terms = 2.0 * np.diff(np.append(starts, n))
    noise = sigma_px**2 * (len(xy) / n)
    excess = power - noise * terms
    deviation = noise * np.sqrt(2 * terms)
    sure = excess > _SIGNIFICANT * deviation
    beside = np.zeros_like(sure)
    beside[1:] |= sure[:-1]
    beside[:-1] |= sure[1:]
    keep = sure | (beside & (excess > _SIGNIFICANT_BESIDE * deviation))
    gain = np.sqrt(np.where(keep, excess, 0.0) / np.maximum(power, 1e-300))
    spectrum *= np.repeat(gain, np.diff(np.append(starts, n)))[:, None]
    quiet: FloatArray = np.asarray(idct(spectrum, type=2, norm="ortho", axis=0), np.float64)
    return trend + quiet[position]


def remove_jitter(index: IntArray, t_s: FloatArray, xy: FloatArray, sigma_px: float) -> FloatArray:
    """The path with the power of white jitter taken out, (n, 2) px.

    Parameters
    ----------
    index : (n,) picture numbers. t_s : (n,) times. xy : (n, 2) measured positions, px.
    sigma_px : sd of the jitter per axis, px.

    Spectral subtraction on the cosine transform of the path about a cubic trend: in each band (4 % of the sampling
    rate) the power the jitter has on average is subtracted where the rest is significant, and the band is emptied
    where it is not. What remains has in expectation the swimmer's own power at each frequency, so its length is the
    swimmer's; and a cell that does not beat gets the length of its slow path alone, which amounts to a longer
    sampling chord just where the short one would measure noise.
    """
    if sigma_px <= 0 or len(xy) < 4:
        return xy
    position = np.rint((index - index[0]) / usual_step(index)).astype(np.int64)
    cuts = np.flatnonzero(np.diff(position) > _LONGEST_FILL) + 1
    out = xy.copy()
    for run in np.split(np.arange(len(xy)), cuts):
        if len(run) >= 4:
            out[run] = _quiet_run(position[run] - position[run[0]], t_s[run], xy[run], sigma_px)
    return out
