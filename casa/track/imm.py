"""A bank of interacting multiple models (IMM), all tracks at once.

The state of every model is ``[x, vx, ax, y, vy, ay]`` in px, px/s, px/s². Arrays keep the track on the last axis,
so that each step is a handful of NumPy calls however many tracks there are; the symmetric 6 x 6 covariances
are kept as their 21 upper entries. Mode probabilities are handled as log-likelihoods, so that an outlier far
from every model cannot make them 0/0. This module knows nothing of detections, tracks or frames.

The modes follow a continuous-time Markov chain: at rate ``1 / mode_redraw_s`` the mode is drawn anew with the
probabilities ``mode_weights``, which gives over a step of ``dt``

    pi_ij = e^(-dt/tau) delta_ij + (1 - e^(-dt/tau)) r_j

whatever ``dt`` is (two steps of ``dt/2`` equal one of ``dt``), and lets the mixing step be done in O(models).

References: Blom & Bar-Shalom 1988; Bar-Shalom, Li & Kirubarajan 2001, ch. 11.6; Li & Jilkov 2003 for the models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from filterpy.common import Q_continuous_white_noise

from casa.errors import InputError
from casa.types import FloatArray, IntArray

N_STATE = 6
X, VX, AX, Y, VY, AY = range(N_STATE)

#: Row and column of the 21 packed entries of a symmetric 6 x 6 matrix, and where entry (i, j) is packed.
PACK_ROW, PACK_COLUMN = np.triu_indices(N_STATE)
_OFF_DIAGONAL = (PACK_ROW != PACK_COLUMN).astype(np.float64)
UNPACK = np.zeros((N_STATE, N_STATE), np.int64)
UNPACK[PACK_ROW, PACK_COLUMN] = UNPACK[PACK_COLUMN, PACK_ROW] = np.arange(len(PACK_ROW))
_DERIVATIVE = np.array([0, 1, 2, 0, 1, 2])
#: Powers of dt of the entries of F and of its packed congruence, where those are not 0.
_F_POWER = np.maximum(_DERIVATIVE[None] - _DERIVATIVE[:, None], 0)
_PACKED_DERIVATIVE = _DERIVATIVE[PACK_ROW] + _DERIVATIVE[PACK_COLUMN]
_CONGRUENCE_POWER = np.maximum(_PACKED_DERIVATIVE[None] - _PACKED_DERIVATIVE[:, None], 0)
_LOG_2PI = float(np.log(2 * np.pi))
#: Measurement variance that stands for none at all: it moves no state and no covariance by a bit of a float64.
_VAST = 1e40
_XX, _XY, _YY = UNPACK[X, X], UNPACK[X, Y], UNPACK[Y, Y]
_POSITION_ENTRIES = np.array([_XX, _XY, _YY])


def _both_axes(axis: FloatArray) -> FloatArray:
    """(3, 3) for one axis -> (6, 6) for both."""
    both = np.zeros((N_STATE, N_STATE))
    both[:3, :3] = both[3:, 3:] = axis
    return both


@dataclass(frozen=True)
class MotionModel:
    """One motion model; position noise comes from white noise on the highest derivative it knows.

    Parameters
    ----------
    name : as in the configuration.
    order : 1 constant velocity, 2 constant acceleration.
    density : spectral density of the noise: px²/s³ on the acceleration (order 1), px²/s⁵ on the jerk (order 2).
    acceleration_sd_px_s2 : what an order-1 model says of the acceleration it does not have. It is the prior an
        order-2 model starts from when a track changes to it.
    turn : the acceleration turns with the velocity (coordinated turn) at the rate the state itself implies.
    max_turn_rad_s : bound of that rate.
    beat_sd_px : the head beats about the path this model follows (sd per axis): it is seen that far from the path,
        again and again, without the path having moved.
    """

    name: str
    order: int
    density: float
    acceleration_sd_px_s2: float = 0.0
    turn: bool = False
    max_turn_rad_s: float = 0.0
    beat_sd_px: float = 0.0

    def transition(self, dt_s: float) -> FloatArray:
        """(6, 6) transition matrix F; for a turning model the one without turn."""
        axis = np.array([[1.0, dt_s, dt_s**2 / 2], [0.0, 1.0, dt_s], [0.0, 0.0, 1.0]])
        if self.order == 1:
            axis[:, 2] = 0.0
        return _both_axes(axis)

    def noise(self, dt_s: float) -> FloatArray:
        """(6, 6) process noise Q, integrated over the step, so that it does not depend on the frame rate."""
        axis = np.zeros((3, 3))
        if self.order == 1:
            axis[:2, :2] = Q_continuous_white_noise(2, dt_s, self.density)
            axis[2, 2] = self.acceleration_sd_px_s2**2
        else:
            axis[:] = Q_continuous_white_noise(3, dt_s, self.density)
        return _both_axes(axis)


def turn_rate_rad_s(state: FloatArray, max_rad_s: float, min_speed_px_s: float = 10.0) -> FloatArray:
    """(n,) turning rate that (6, n) states imply: the acceleration across the velocity, over the speed."""
    vx, vy = state[VX], state[VY]
    speed2 = np.maximum(vx * vx + vy * vy, min_speed_px_s**2)
    return np.clip((vx * state[AY] - vy * state[AX]) / speed2, -max_rad_s, max_rad_s)


def turn_transition(turn_rad_s: FloatArray, dt_s: float) -> FloatArray:
    """(n, 6, 6) transition matrices of a coordinated turn: each axis obeys jerk = -turn² velocity."""
    angle = turn_rad_s * dt_s
    s, c = np.sin(angle), np.cos(angle)
    f = np.zeros((len(turn_rad_s), N_STATE, N_STATE))
    for p, v, a in ((X, VX, AX), (Y, VY, AY)):
        f[:, p, p] = 1.0
        f[:, p, v] = f[:, v, a] = dt_s * np.sinc(angle / np.pi)
        f[:, p, a] = dt_s**2 / 2 * np.sinc(angle / (2 * np.pi)) ** 2
        f[:, v, v] = f[:, a, a] = c
        f[:, a, v] = -turn_rad_s * s
    return f


def _packed_congruence(f: FloatArray) -> FloatArray:
    """(m, 6, 6) F -> (m, 21, 21) T with pack(F P F') = T pack(P)."""
    i, j = PACK_ROW[:, None], PACK_COLUMN[:, None]
    r, c = PACK_ROW[None], PACK_COLUMN[None]
    return f[:, i, r] * f[:, j, c] + f[:, i, c] * f[:, j, r] * _OFF_DIAGONAL


def _noise_power(model: MotionModel) -> IntArray:
    """(21,) powers of dt of the entries of a model's packed Q."""
    power = np.maximum(2 * model.order + 1 - _PACKED_DERIVATIVE, 0)
    if model.order == 1:
        power[_PACKED_DERIVATIVE > 2] = 0
        power[[UNPACK[AX, AX], UNPACK[AY, AY]]] = 0
    return power


def pack(matrices: FloatArray) -> FloatArray:
    """(..., 6, 6) symmetric -> (..., 21)."""
    return matrices[..., PACK_ROW, PACK_COLUMN]


class ImmBank:
    """The filters of all tracks.

    Parameters
    ----------
    models : the motion models, m of them.
    mode_weights : (m,) how likely each is when the mode is drawn anew; made to sum to 1.
    mode_redraw_s : mean time between two draws.

    Attributes
    ----------
    x : (m, 6, n) states. p : (m, 21, n) packed covariances. mu : (m, n) mode probabilities.
    """

    def __init__(self, models: Sequence[MotionModel], mode_weights: Sequence[float], mode_redraw_s: float) -> None:
        if not models or len(models) != len(mode_weights) or min(mode_weights) <= 0:
            raise InputError(f"expected one positive mode weight for each of {len(models)} models, got {mode_weights}")
        self.models = tuple(models)
        self.weights = np.asarray(mode_weights, np.float64) / np.sum(mode_weights)
        self.mode_redraw_s = mode_redraw_s
        m = len(models)
        self.x = np.empty((m, N_STATE, 0))
        self.p = np.empty((m, len(PACK_ROW), 0))
        self.mu = np.empty((m, 0))
        self._unit_f = np.stack([model.transition(1.0) for model in models])
        self._unit_congruence = _packed_congruence(self._unit_f)
        self._unit_q = pack(np.stack([model.noise(1.0) for model in models]))
        self._q_power = np.stack([_noise_power(model) for model in models])
        self._beat_variance = np.array([model.beat_sd_px**2 for model in models])[:, None]
        self._acceleration_variance = np.array([model.acceleration_sd_px_s2**2 for model in models])[:, None]
        self._turning = [k for k, model in enumerate(self.models) if model.turn]
        self._step_of: tuple[float, FloatArray, FloatArray, FloatArray] | None = None

    def __len__(self) -> int:
        return self.mu.shape[1]

    def _step(self, dt_s: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """F (m, 6, 6), its packed congruence (m, 21, 21) and packed Q (m, 21, 1) of a step, kept for the next.

        Every entry is a monomial in dt, so the matrices at dt = 1 and a table of powers give them all.
        """
        if self._step_of is None or self._step_of[0] != dt_s:
            power = dt_s ** np.arange(6.0)
            f = self._unit_f * power[_F_POWER]
            congruence = self._unit_congruence * power[_CONGRUENCE_POWER]
            q = self._unit_q * power[self._q_power]
            self._step_of = (dt_s, f, congruence, q[:, :, None])
        return self._step_of[1:]

    def _mix(self, dt_s: float) -> tuple[FloatArray, FloatArray]:
        """Mixed states and covariances each model starts the step from; ``mu`` becomes the predicted one."""
        keep = np.exp(-dt_s / self.mode_redraw_s)
        redraw = (1.0 - keep) * self.weights[:, None]
        predicted = keep * self.mu + redraw
        own = (keep * self.mu / predicted)[:, None]  # share of the model's own past in its mixture
        common = (redraw / predicted)[:, None]  # share of the whole bank's past
        mean = np.einsum("mn,mkn->kn", self.mu, self.x)
        delta = self.x - mean
        spread = delta.take(PACK_ROW, axis=1)
        spread *= delta.take(PACK_COLUMN, axis=1)
        whole = np.einsum("mn,mkn->kn", self.mu, self.p + spread)
        spread *= own * (1.0 - own)
        spread += own * self.p
        spread += common * whole
        delta *= own
        delta += mean
        self.mu = predicted
        return delta, spread

    def predict(self, dt_s: float) -> None:
        """Advance every track by ``dt_s`` seconds (> 0)."""
        x, p = self._mix(dt_s)
        f, congruence, q = self._step(dt_s)
        self.x = f @ x
        self.p = congruence @ p
        for k in self._turning:
            turning = turn_transition(turn_rate_rad_s(x[k], self.models[k].max_turn_rad_s), dt_s)
            full = p[k].T[:, UNPACK]
            moved = turning @ full @ turning.transpose(0, 2, 1)
            self.x[k] = (turning @ x[k].T[:, :, None])[:, :, 0].T
            self.p[k] = pack(moved).T
        self.p += q

    def position_moments(self) -> tuple[FloatArray, FloatArray]:
        """(2, n) mean position of the heads and (3, n) its covariance (xx, xy, yy), over all models, beats included."""
        position = self.x[:, ::3]
        mean = np.einsum("mn,mkn->kn", self.mu, position)
        delta = position - mean
        second = self.p.take(_POSITION_ENTRIES, axis=1)
        second += delta.take((0, 0, 1), axis=1) * delta.take((0, 1, 1), axis=1)
        second[:, ::2] += self._beat_variance[:, :, None]
        return mean, np.einsum("mn,mkn->kn", self.mu, second)

    def mean_state(self) -> FloatArray:
        """(6, n) mean state over all models; the path's, where the head beats about it."""
        return np.einsum("mn,mkn->kn", self.mu, self.x)

    def head(self, rows: IntArray, z_px: FloatArray, variance_px2: float) -> FloatArray:
        """(2, k) where the heads of the tracks ``rows`` are, given where they were just measured (2, k).

        A beating model takes of the distance between its path and the measurement what its beat explains:
        E[head | z, path] = path + beat² / (beat² + R) (z - path).
        """
        share = variance_px2 / (self._beat_variance + variance_px2)
        return z_px + np.einsum("mn,mkn->kn", self.mu[:, rows] * share, self.x[:, ::3, rows] - z_px)

    def update(self, z_px: FloatArray, variance_px2: FloatArray) -> FloatArray:
        """Correct every track by where it was measured.

        A missed track has an infinite measurement variance: it keeps its prediction and its predicted mode
        probabilities, since a miss tells no model apart.

        Parameters
        ----------
        z_px : (2, n), anything finite where missed. variance_px2 : (n,) measurement variance per axis.

        Returns
        -------
        (n,) log-likelihood of each measurement under the whole bank; 0 where missed.
        """
        x, p = self.x, self.p
        missed = np.isinf(variance_px2)
        variance = np.where(missed, _VAST, variance_px2) + self._beat_variance
        # Cholesky factor of S = H P H' + R, written out for 2 x 2
        l_xx = np.sqrt(p[:, _XX] + variance)
        l_xy = p[:, _XY] / l_xx
        l_yy = np.sqrt(p[:, _YY] + variance - l_xy * l_xy)
        e_x = (z_px[0] - x[:, X]) / l_xx
        e_y = (z_px[1] - x[:, Y] - l_xy * e_x) / l_yy
        u = np.empty((2, *x.shape))
        np.divide(p.take(UNPACK[X], axis=1), l_xx[:, None], out=u[0])
        np.divide(p.take(UNPACK[Y], axis=1) - l_xy[:, None] * u[0], l_yy[:, None], out=u[1])
        product = u.take(PACK_ROW, axis=2)
        product *= u.take(PACK_COLUMN, axis=2)
        p -= product[0]
        p -= product[1]
        x += u[0] * e_x[:, None]
        x += u[1] * e_y[:, None]
        log_weight = np.log(l_xx * l_yy)
        log_weight += 0.5 * (e_x * e_x + e_y * e_y)
        log_weight = np.where(missed, 0.0, -log_weight)
        highest = log_weight.max(axis=0)
        mu = self.mu * np.exp(log_weight - highest)
        total = mu.sum(axis=0)
        self.mu = mu / total
        return np.where(missed, 0.0, highest + np.log(total) - _LOG_2PI)

    def take(self, rows: IntArray) -> None:
        """Keep only the tracks ``rows``, in that order."""
        # `take` and not an index: that would put the track first in memory, and every later step would be slower
        self.x, self.p, self.mu = (a.take(rows, axis=-1) for a in (self.x, self.p, self.mu))

    def append(self, z_px: FloatArray, position_variance_px2: FloatArray, speed_sd_px_s: float) -> None:
        """Add tracks that start at measured positions (2, k), at rest but for ``speed_sd_px_s`` per axis."""
        k, m = z_px.shape[1], len(self.models)
        x = np.zeros((m, N_STATE, k))
        x[:, X], x[:, Y] = z_px
        p = np.zeros((m, len(PACK_ROW), k))
        p[:, _XX] = p[:, _YY] = position_variance_px2
        p[:, UNPACK[VX, VX]] = p[:, UNPACK[VY, VY]] = speed_sd_px_s**2
        p[:, UNPACK[AX, AX]] = p[:, UNPACK[AY, AY]] = self._acceleration_variance
        self.x = np.concatenate([self.x, x], axis=2)
        self.p = np.concatenate([self.p, p], axis=2)
        self.mu = np.concatenate([self.mu, np.repeat(self.weights[:, None], k, axis=1)], axis=1)
