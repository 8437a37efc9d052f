"""Smoothing of finished paths: a bank of Kalman smoothers (Rauch, Tung & Striebel 1965), one pass each way.

Each model is constant velocity with continuous white acceleration noise; a beating head is one whose place is spread
about the path. Every model smooths the whole path, and each row takes from each model as much as it explains the
measurements around that row: so a sperm may beat for a while and rest afterwards. This module knows no table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from casa.kernels import kernel
from casa.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class SmootherModel:
    """Acceleration noise of the path (px²/s³) and spread of the head about it (sd per axis, px)."""

    density_px2_s3: float
    spread_sd_px: float = 0.0


@kernel
def _smooth_cv(
    t_s: FloatArray,
    xy: FloatArray,
    density: float,
    spread_variance: float,
    variance: float,
    speed_variance: float,
    centre: FloatArray,
    centre_variance: FloatArray,
    log_likelihood: FloatArray,
) -> None:
    """One model over one path of n rows, in place.

    ``centre`` (n, 2), ``centre_variance`` and ``log_likelihood`` (n,) are filled. ``xy`` (n, 2) is NaN where nothing
    was measured; the first row is measured. Both axes share their covariance.
    """
    n = len(t_s)
    r = variance + spread_variance
    state = np.empty((n, 4))  # x, vx, y, vy
    p = np.empty((n, 3))  # var(x), cov(x, v), var(v)
    ahead = np.empty((n, 4))
    q = np.empty((n, 3))
    for i in range(n):
        if i == 0:
            x, vx, y, vy = xy[0, 0], 0.0, xy[0, 1], 0.0
            a, b, c = r, 0.0, speed_variance
            ahead[0] = (x, vx, y, vy)
            q[0] = (a, b, c)
            log_likelihood[0] = 0.0
        else:
            dt = t_s[i] - t_s[i - 1]
            x, vx, y, vy = x + dt * vx, vx, y + dt * vy, vy
            a, b, c = (
                a + 2.0 * dt * b + dt * dt * c + density * dt**3 / 3.0,
                b + dt * c + density * dt * dt / 2.0,
                c + density * dt,
            )
            ahead[i] = (x, vx, y, vy)
            q[i] = (a, b, c)
            log_likelihood[i] = 0.0
            if not np.isnan(xy[i, 0]):
                s = a + r
                ex, ey = xy[i, 0] - x, xy[i, 1] - y
                log_likelihood[i] = -np.log(s) - 0.5 * (ex * ex + ey * ey) / s
                k, m = a / s, b / s
                x, vx, y, vy = x + k * ex, vx + m * ex, y + k * ey, vy + m * ey
                a, b, c = (1.0 - k) * a, (1.0 - k) * b, c - m * b
        state[i] = (x, vx, y, vy)
        p[i] = (a, b, c)
    for i in range(n - 1, -1, -1):
        if i < n - 1:
            dt = t_s[i + 1] - t_s[i]
            # gain G = P F' Q⁻¹, F = [[1, dt], [0, 1]]
            f0, f1, f2, f3 = p[i, 0] + dt * p[i, 1], p[i, 1], p[i, 1] + dt * p[i, 2], p[i, 2]
            det = q[i + 1, 0] * q[i + 1, 2] - q[i + 1, 1] ** 2
            i0, i1, i2 = q[i + 1, 2] / det, -q[i + 1, 1] / det, q[i + 1, 0] / det
            g0, g1 = f0 * i0 + f1 * i1, f0 * i1 + f1 * i2
            g2, g3 = f2 * i0 + f3 * i1, f2 * i1 + f3 * i2
            for axis in (0, 2):
                e0 = state[i + 1, axis] - ahead[i + 1, axis]
                e1 = state[i + 1, axis + 1] - ahead[i + 1, axis + 1]
                state[i, axis] += g0 * e0 + g1 * e1
                state[i, axis + 1] += g2 * e0 + g3 * e1
            d0, d1, d2 = p[i + 1, 0] - q[i + 1, 0], p[i + 1, 1] - q[i + 1, 1], p[i + 1, 2] - q[i + 1, 2]
            h0, h1 = g0 * d0 + g1 * d1, g0 * d1 + g1 * d2
            h2, h3 = g2 * d0 + g3 * d1, g2 * d1 + g3 * d2
            p[i, 0] += h0 * g0 + h1 * g1
            p[i, 1] += h0 * g2 + h1 * g3
            p[i, 2] += h2 * g2 + h3 * g3
        centre[i, 0], centre[i, 1] = state[i, 0], state[i, 2]
        centre_variance[i] = p[i, 0] + spread_variance
        if spread_variance > 0.0 and not np.isnan(xy[i, 0]):
            # the head, of which the measurement says more than the path does
            k = spread_variance / r
            centre[i, 0] += k * (xy[i, 0] - state[i, 0])
            centre[i, 1] += k * (xy[i, 1] - state[i, 2])
            centre_variance[i] = k * variance + (1.0 - k) ** 2 * p[i, 0]


@kernel
def filter_ends(
    t_s: FloatArray,
    xy: FloatArray,
    log_size: FloatArray,
    first: IntArray,
    last: IntArray,
    density: FloatArray,
    spread_variance: FloatArray,
    variance: float,
    speed_variance: float,
    memory_s: float,
    size_variance: float,
    size_density: float,
    state: FloatArray,
    covariance: FloatArray,
    evidence: FloatArray,
    size: FloatArray,
    size_end_variance: FloatArray,
) -> None:
    """Filter pieces of paths from row ``first`` (m,) to row ``last`` (m,), backward in time where that is lower.

    In place, for every piece at its last row: ``state`` (m, models, 4) x, vx, y, vy; ``covariance`` (m, models, 3)
    var(x), cov(x, v), var(v), of the path; ``evidence`` (m, models) log-likelihood of late; ``size`` (m, 2) log
    width and height and ``size_end_variance`` (m,). Every row is measured.
    """
    for j in range(len(first)):
        step = 1 if last[j] >= first[j] else -1
        for k in range(len(density)):
            r = variance + spread_variance[k]
            x, vx, y, vy = xy[first[j], 0], 0.0, xy[first[j], 1], 0.0
            a, b, c = r, 0.0, speed_variance
            total = 0.0
            for i in range(first[j] + step, last[j] + step, step):
                dt = t_s[i] - t_s[i - step]
                long = abs(dt)
                x, y = x + dt * vx, y + dt * vy
                a, b, c = (
                    a + 2.0 * dt * b + dt * dt * c + density[k] * long**3 / 3.0,
                    b + dt * c + density[k] * dt * long / 2.0,
                    c + density[k] * long,
                )
                s = a + r
                ex, ey = xy[i, 0] - x, xy[i, 1] - y
                total = total * np.exp(-long / memory_s) - np.log(s) - 0.5 * (ex * ex + ey * ey) / s
                g, m = a / s, b / s
                x, vx, y, vy = x + g * ex, vx + m * ex, y + g * ey, vy + m * ey
                a, b, c = (1.0 - g) * a, (1.0 - g) * b, c - m * b
            state[j, k] = (x, vx, y, vy)
            covariance[j, k] = (a, b, c)
            evidence[j, k] = total
        width, height = log_size[first[j]]
        v = size_variance
        for i in range(first[j] + step, last[j] + step, step):
            v += size_density * abs(t_s[i] - t_s[i - step])
            g = v / (v + size_variance)
            width, height = width + g * (log_size[i, 0] - width), height + g * (log_size[i, 1] - height)
            v *= 1.0 - g
        size[j] = (width, height)
        size_end_variance[j] = v


@kernel
def _spread_evidence(t_s: FloatArray, log_likelihood: FloatArray, memory_s: float, weight: FloatArray) -> None:
    """(models, n) log-likelihoods -> ``weight`` (models, n): summed over the rows around, older ones counting less."""
    models, n = log_likelihood.shape
    for k in range(models):
        total = 0.0
        for i in range(n):
            if i > 0:
                total *= np.exp(-(t_s[i] - t_s[i - 1]) / memory_s)
            total += log_likelihood[k, i]
            weight[k, i] = total
        total = 0.0
        for i in range(n - 1, -1, -1):
            if i < n - 1:
                total = (total + log_likelihood[k, i + 1]) * np.exp(-(t_s[i + 1] - t_s[i]) / memory_s)
            weight[k, i] += total
    for i in range(n):
        top = weight[:, i].max()
        total = 0.0
        for k in range(models):
            weight[k, i] = np.exp(weight[k, i] - top)
            total += weight[k, i]
        for k in range(models):
            weight[k, i] /= total


@kernel
def _smooth_walk(t_s: FloatArray, value: FloatArray, variance: float, density: float) -> None:
    """Smooth ``value`` (n,), a random walk seen with noise, in place; NaN where nothing was measured, the first is."""
    n = len(t_s)
    p = np.empty(n)
    x, a = value[0], variance
    p[0] = a
    for i in range(1, n):
        a += density * (t_s[i] - t_s[i - 1])
        if not np.isnan(value[i]):
            k = a / (a + variance)
            x += k * (value[i] - x)
            a *= 1.0 - k
        value[i] = x
        p[i] = a
    for i in range(n - 2, -1, -1):
        g = p[i] / (p[i] + density * (t_s[i + 1] - t_s[i]))
        value[i] += g * (value[i + 1] - value[i])


def smooth_path(
    t_s: FloatArray,
    xy_px: FloatArray,
    models: tuple[SmootherModel, ...],
    variance_px2: float,
    speed_sd_px_s: float,
    memory_s: float,
) -> tuple[FloatArray, FloatArray]:
    """Smoothed centres (n, 2), px, and their variance per axis (n,), px².

    Parameters
    ----------
    t_s : (n,) rising times. xy_px : (n, 2) measured centres, NaN rows where nothing was measured; the first is.
    variance_px2 : localisation noise. speed_sd_px_s : prior of the speed. memory_s : over which a model is judged.
    """
    n, m = len(t_s), len(models)
    centre, variance = np.empty((m, n, 2)), np.empty((m, n))
    log_likelihood, weight = np.empty((m, n)), np.empty((m, n))
    for k, model in enumerate(models):
        _smooth_cv(t_s, xy_px, model.density_px2_s3, model.spread_sd_px**2, variance_px2, speed_sd_px_s**2,
                   centre[k], variance[k], log_likelihood[k])  # fmt: skip
    _spread_evidence(t_s, log_likelihood, memory_s, weight)
    mixed = np.einsum("mn,mnk->nk", weight, centre)
    apart = ((centre - mixed) ** 2).mean(axis=2)
    return mixed, np.einsum("mn,mn->n", weight, variance + apart)


def smooth_size(t_s: FloatArray, size: FloatArray, noise: float, drift_per_sqrt_s: float) -> FloatArray:
    """Smoothed widths and heights: (n, 2) px, NaN rows where nothing was measured; the first is.

    ``noise`` of a measured size and its wander are fractions, as the tracker's ``size_noise``.
    """
    smoothed = np.log(size.T)
    for row in smoothed:
        _smooth_walk(t_s, row, noise**2, drift_per_sqrt_s**2)
    return np.exp(smoothed.T)
