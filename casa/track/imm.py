"""A bank of interacting multiple models (IMM): one filter of each motion model for every track.

The steps are those of the textbook, track by track, compiled: mixing, prediction, correction, mode probabilities. Mode
probabilities are weighed by log-likelihoods, so an outlier far from every model cannot make them 0/0. This module
knows nothing of detections, frames or ids.

References: Blom & Bar-Shalom, IEEE T-AC 33 (1988); Bar-Shalom, Li & Kirubarajan, Estimation with Applications to
Tracking and Navigation (2001), ch. 11.6.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from casa.errors import InputError
from casa.kernels import kernel
from casa.track.motion import (
    AX,
    AY,
    N_STATE,
    NO_TURN,
    OWN_TURN,
    STATE_TURN,
    VX,
    VY,
    ModeChain,
    MotionModel,
    X,
    Y,
    model_table,
)
from casa.track.population import with_room
from casa.types import BoolArray, FloatArray, IntArray

_AXES = ((X, VX, AX), (Y, VY, AY))
#: Tracks there is room for at first.
_ROOM = 64
_LOG_2PI = float(np.log(2 * np.pi))
#: A track slower than this implies no turning rate.
_MIN_TURNING_SPEED_PX_S = 10.0
#: Time over which a track's own turning rate is learned, and the path length (in speed² s) before it is believed.
_TURN_MEMORY_S = 1.0
_TURN_PRIOR_PX2_S = 300.0


@kernel
def turn_rate_rad_s(x, max_rad_s):
    """Turning rate that a state (6,) implies: the acceleration across the velocity, over the speed."""
    speed2 = max(x[VX] ** 2 + x[VY] ** 2, _MIN_TURNING_SPEED_PX_S**2)
    rate = (x[VX] * x[AY] - x[VY] * x[AX]) / speed2
    return min(max(rate, -max_rad_s), max_rad_s)


@kernel
def set_transition(model, dt, turn, f):
    """Write the transition matrix F (6, 6) of a model over ``dt``; ``turn`` in rad/s, where the model turns."""
    for r in range(N_STATE):
        for k in range(N_STATE):
            f[r, k] = 0.0
    angle = turn * dt
    s, c = np.sin(angle), np.cos(angle)
    s_w = dt if abs(angle) < 1e-6 else s / turn  # sin(w dt) / w
    c_w = dt * angle / 2 if abs(angle) < 1e-4 else (1.0 - c) / turn  # (1 - cos(w dt)) / w
    c_w2 = dt * dt / 2 if abs(angle) < 1e-4 else (1.0 - c) / turn**2
    for p, v, a in _AXES:
        f[p, p] = 1.0
        if model.order == 1:
            f[p, v], f[v, v] = dt, 1.0
        elif model.order == 2 and model.turn == NO_TURN:
            f[p, v], f[p, a], f[v, v], f[v, a], f[a, a] = dt, dt * dt / 2, 1.0, dt, 1.0
        elif model.order == 2:  # each axis obeys jerk = -turn² velocity
            f[p, v], f[p, a], f[v, v], f[v, a], f[a, v], f[a, a] = s_w, c_w2, c, s_w, -turn * s, c
    if model.turn == OWN_TURN:  # the velocity turns, and the acceleration is that of the circle
        f[X, VX], f[X, VY], f[Y, VX], f[Y, VY] = s_w, -c_w, c_w, s_w
        f[VX, VX], f[VX, VY], f[VY, VX], f[VY, VY] = c, -s, s, c
        f[AX, VX], f[AX, VY], f[AY, VX], f[AY, VY] = -turn * s, -turn * c, turn * c, -turn * s


@kernel
def set_noise(model, dt, q):
    """Write the process noise Q (6, 6) of a model over ``dt``: white noise, and priors of what it does not know."""
    for r in range(N_STATE):
        for k in range(N_STATE):
            q[r, k] = 0.0
    d = model.density
    for p, v, a in _AXES:
        if model.order == 0:
            q[p, p] = d * dt
            q[v, v] = model.speed_sd**2
        elif model.order == 1:
            q[p, p], q[v, v] = d * dt**3 / 3, d * dt
            q[p, v] = q[v, p] = d * dt**2 / 2
        else:
            q[p, p], q[v, v], q[a, a] = d * dt**5 / 20, d * dt**3 / 3, d * dt
            q[p, v] = q[v, p] = d * dt**4 / 8
            q[p, a] = q[a, p] = d * dt**3 / 6
            q[v, a] = q[a, v] = d * dt**2 / 2
        if model.order < 2:
            q[a, a] = model.acceleration_sd**2


@kernel
def _mix(x, p, mu, pi, x0, p0, c):
    """Mixed state x0_j and covariance P0_j that each model starts the step from, and c_j, its predicted probability.

    c_j = sum_i pi_ij mu_i;  w_ij = pi_ij mu_i / c_j;  x0_j = sum_i w_ij x_i;
    P0_j = sum_i w_ij (P_i + (x_i - x0_j)(x_i - x0_j)')
    """
    m = len(mu)
    for j in range(m):
        c[j] = 0.0
        for i in range(m):
            c[j] += pi[i, j] * mu[i]
        for r in range(N_STATE):
            x0[j, r] = 0.0
            for i in range(m):
                x0[j, r] += pi[i, j] * mu[i] / c[j] * x[i, r]
            for s in range(N_STATE):
                p0[j, r, s] = 0.0
        for i in range(m):
            w = pi[i, j] * mu[i] / c[j]
            for r in range(N_STATE):
                w_d = w * (x[i, r] - x0[j, r])
                for s in range(N_STATE):
                    p0[j, r, s] += w * p[i, r, s] + w_d * (x[i, s] - x0[j, s])


@kernel
def _propagate(f, q, x0, p0, x, p, fp):
    """Prediction: x = F x0, P = F P0 F' + Q."""
    for r in range(N_STATE):
        x[r] = 0.0
        for s in range(N_STATE):
            x[r] += f[r, s] * x0[s]
            fp[r, s] = 0.0
        for k in range(N_STATE):
            if f[r, k] != 0.0:
                for s in range(N_STATE):
                    fp[r, s] += f[r, k] * p0[k, s]
    for r in range(N_STATE):
        for s in range(r, N_STATE):
            total = q[r, s]
            for k in range(N_STATE):
                total += fp[r, k] * f[s, k]
            p[r, s] = p[s, r] = total


@kernel
def _predict(x, p, mu, turn, models, pi, dt):
    """One step of ``dt`` for every track, in place: mixing, then prediction."""
    n, m = mu.shape
    x0, p0, c = np.empty((m, N_STATE)), np.empty((m, N_STATE, N_STATE)), np.empty(m)
    f, q, fp = np.empty((m, N_STATE, N_STATE)), np.empty((m, N_STATE, N_STATE)), np.empty((N_STATE, N_STATE))
    for j in range(m):
        set_transition(models[j], dt, 0.0, f[j])
        set_noise(models[j], dt, q[j])
    for k in range(n):
        _mix(x[k], p[k], mu[k], pi, x0, p0, c)
        for j in range(m):
            limit = models[j].max_turn
            if models[j].turn == STATE_TURN:
                set_transition(models[j], dt, turn_rate_rad_s(x0[j], limit), f[j])
            elif models[j].turn == OWN_TURN:
                own = turn[k, 0] / (turn[k, 1] + _TURN_PRIOR_PX2_S)
                set_transition(models[j], dt, min(max(own, -limit), limit), f[j])
            _propagate(f[j], q[j], x0[j], p0[j], x[k, j], p[k, j], fp)
            mu[k, j] = c[j]


@kernel
def _correct(x, p, z_x, z_y, r):
    """Kalman correction of one filter, in place, by a position with variance ``r`` per axis; its log-likelihood.

    S = H P H' + R;  K = P H' / S;  x = x + K (z - H x);  P = P - K H P
    """
    s_xx, s_xy, s_yy = p[X, X] + r, p[X, Y], p[Y, Y] + r
    det = s_xx * s_yy - s_xy * s_xy
    e_x, e_y = z_x - x[X], z_y - x[Y]
    i_xx, i_xy, i_yy = s_yy / det, -s_xy / det, s_xx / det  # inverse of S
    d2 = e_x * (i_xx * e_x + i_xy * e_y) + e_y * (i_xy * e_x + i_yy * e_y)
    h_x, h_y = np.empty(N_STATE), np.empty(N_STATE)  # P H'
    for k in range(N_STATE):
        h_x[k], h_y[k] = p[k, X], p[k, Y]
    for k in range(N_STATE):
        k_x = h_x[k] * i_xx + h_y[k] * i_xy
        k_y = h_x[k] * i_xy + h_y[k] * i_yy
        x[k] += k_x * e_x + k_y * e_y
        for s in range(N_STATE):
            p[k, s] -= k_x * h_x[s] + k_y * h_y[s]
    return -0.5 * (d2 + np.log(det)) - _LOG_2PI


@kernel
def _update(x, p, mu, models, match, z, r, likelihood):
    """Correct every matched track, in place: mu_j = c_j L_j / sum; the log of the sum goes to ``likelihood``."""
    n, m = mu.shape
    log_l = np.empty(m)
    for k in range(n):
        likelihood[k] = 0.0
        if match[k] < 0:
            continue
        highest = -np.inf
        for j in range(m):
            log_l[j] = _correct(x[k, j], p[k, j], z[match[k], 0], z[match[k], 1], r + models[j].beat_sd ** 2)
            highest = max(highest, log_l[j])
        total = 0.0
        for j in range(m):
            mu[k, j] *= np.exp(log_l[j] - highest)
            total += mu[k, j]
        for j in range(m):
            mu[k, j] /= total
        likelihood[k] = highest + np.log(total)


@kernel
def _learn_turn(x, mu, turn, dt):
    """Learn each track's own turning rate, turn[:, 0] / turn[:, 1] rad/s; old turns are forgotten."""
    keep = np.exp(-dt / _TURN_MEMORY_S)
    for k in range(len(mu)):
        vx = vy = 0.0
        for j in range(mu.shape[1]):
            vx += mu[k, j] * x[k, j, VX]
            vy += mu[k, j] * x[k, j, VY]
        turn[k, 0] = keep * turn[k, 0] + turn[k, 2] * vy - turn[k, 3] * vx
        turn[k, 1] = keep * turn[k, 1] + (vx * vx + vy * vy) * dt
        turn[k, 2], turn[k, 3] = vx, vy


@kernel
def _moments(x, p, mu, models):
    """Mean (n, 2) and covariance (n, 3: xx, xy, yy) of the heads' positions over all models, beats included."""
    n, m = mu.shape
    mean, covariance = np.zeros((n, 2)), np.zeros((n, 3))
    for k in range(n):
        for j in range(m):
            mean[k, 0] += mu[k, j] * x[k, j, X]
            mean[k, 1] += mu[k, j] * x[k, j, Y]
        for j in range(m):
            d_x, d_y, beat2 = x[k, j, X] - mean[k, 0], x[k, j, Y] - mean[k, 1], models[j].beat_sd ** 2
            covariance[k, 0] += mu[k, j] * (p[k, j, X, X] + d_x * d_x + beat2)
            covariance[k, 1] += mu[k, j] * (p[k, j, X, Y] + d_x * d_y)
            covariance[k, 2] += mu[k, j] * (p[k, j, Y, Y] + d_y * d_y + beat2)
    return mean, covariance


@kernel
def _heads(x, mu, models, rows, match, z, r):
    """Positions of the heads (k, 2) and velocities of their paths (k, 2), for the tracks ``rows``."""
    xy, velocity = np.zeros((len(rows), 2)), np.zeros((len(rows), 2))
    for k in range(len(rows)):
        row = rows[k]
        seen = match[row]
        for j in range(mu.shape[1]):
            weight, state = mu[row, j], x[row, j]
            share = 1.0  # of the distance between path and measurement, what is not explained by the beat
            if seen >= 0:
                share = r / (models[j].beat_sd ** 2 + r)
                xy[k, 0] += weight * (1.0 - share) * z[seen, 0]
                xy[k, 1] += weight * (1.0 - share) * z[seen, 1]
            xy[k, 0] += weight * share * state[X]
            xy[k, 1] += weight * share * state[Y]
            velocity[k, 0] += weight * state[VX]
            velocity[k, 1] += weight * state[VY]
    return xy, velocity


@kernel
def _begin(x, p, mu, first, xy, models, weights, position_variance, speed_sd):
    """Write new filters from row ``first`` on, at positions (k, 2)."""
    for k in range(len(xy)):
        row = first + k
        for j in range(len(models)):
            mu[row, j] = weights[j]
            for r in range(N_STATE):
                x[row, j, r] = 0.0
                for s in range(N_STATE):
                    p[row, j, r, s] = 0.0
            x[row, j, X], x[row, j, Y] = xy[k, 0], xy[k, 1]
            for i, v, a in _AXES:
                p[row, j, i, i] = position_variance
                p[row, j, v, v] = (speed_sd if models[j].order > 0 else models[j].speed_sd) ** 2
                p[row, j, a, a] = models[j].acceleration_sd ** 2


class ImmBank:
    """The filters of all tracks.

    Parameters
    ----------
    models : the motion models, m of them.
    mode_weights : (m,) how likely each is when the mode is drawn anew.
    mode_redraw_s : mean time between two draws; one for all, or one for each model.

    Attributes
    ----------
    x : (n, m, 6) states. p : (n, m, 6, 6) covariances. mu : (n, m) mode probabilities.
    """

    def __init__(
        self, models: Sequence[MotionModel], mode_weights: Sequence[float], mode_redraw_s: float | Sequence[float]
    ) -> None:
        redraw_s = [mode_redraw_s] * len(models) if isinstance(mode_redraw_s, int | float) else list(mode_redraw_s)
        for name, values in (("mode weight", mode_weights), ("mode redraw time", redraw_s)):
            if not models or len(models) != len(values) or min(values) <= 0:
                raise InputError(f"expected one positive {name} for each of {len(models)} models, got {tuple(values)}")
        m = len(models)
        self.chain = ModeChain(mode_weights, redraw_s)
        self._models = model_table(models)
        self._learns = any(model.turn == OWN_TURN for model in models)
        self._n = 0
        #: Room for more tracks than there are: x, p, mu, and what is known of each track's own turning rate.
        self._room = [np.empty((_ROOM, *shape)) for shape in ((m, N_STATE), (m, N_STATE, N_STATE), (m,), (4,))]
        self._show()
        self._dt_s = 0.0

    def __len__(self) -> int:
        return self._n

    def _show(self) -> None:
        self.x, self.p, self.mu, self._turn = (a[: self._n] for a in self._room)

    def predict(self, dt_s: float) -> None:
        """Advance every track by ``dt_s`` seconds (> 0)."""
        self._dt_s = dt_s
        _predict(self.x, self.p, self.mu, self._turn, self._models, self.chain.transition(dt_s), dt_s)

    def position_moments(self) -> tuple[FloatArray, FloatArray]:
        """(n, 2) mean position of the heads and (n, 3) its covariance (xx, xy, yy), over all models, beats included."""
        return _moments(self.x, self.p, self.mu, self._models)

    def update(self, match: IntArray, z_px: FloatArray, variance_px2: float) -> FloatArray:
        """Correct the tracks by where they were measured.

        A missed track keeps its prediction and its predicted mode probabilities, since a miss tells no model apart.

        Parameters
        ----------
        match : (n,) which measurement is the track's, -1 where it was missed. z_px : (k, 2) measurements.
        variance_px2 : of a measurement, per axis.

        Returns
        -------
        (n,) log-likelihood of each track's measurement under all its models; 0 where missed.
        """
        likelihood = np.empty(len(self))
        match = np.ascontiguousarray(match)  # a column of records is contiguous for one track alone: two types
        _update(self.x, self.p, self.mu, self._models, match, z_px, variance_px2, likelihood)
        if self._learns:
            _learn_turn(self.x, self.mu, self._turn, self._dt_s)
        return likelihood

    def heads(
        self, rows: IntArray, match: IntArray, z_px: FloatArray, variance_px2: float
    ) -> tuple[FloatArray, FloatArray]:
        """(k, 2) where the heads of the tracks ``rows`` are, and (k, 2) the velocities of their paths.

        Where a head was just measured, a beating model takes of the distance between its path and the measurement what
        its beat explains: E[head | z, path] = path + beat² / (beat² + R) (z - path). Other parameters as in `update`.
        """
        return _heads(self.x, self.mu, self._models, rows, np.ascontiguousarray(match), z_px, variance_px2)

    def keep(self, keep: BoolArray) -> None:
        """Drop the tracks where ``keep`` (n,) is False; the others stay in order."""
        before, self._n = self._n, int(np.count_nonzero(keep))
        for array in self._room:
            array[: self._n] = array[:before][keep]
        self._show()

    def append(self, z_px: FloatArray, position_variance_px2: float, speed_sd_px_s: float) -> None:
        """Add tracks that start at measured positions (k, 2), at rest but for ``speed_sd_px_s`` per axis."""
        first, self._n = self._n, self._n + len(z_px)
        self._room = [with_room(array, self._n) for array in self._room]
        self._show()
        start = position_variance_px2, speed_sd_px_s
        _begin(self.x, self.p, self.mu, first, z_px, self._models, self.chain.weights, *start)
        self._turn[first:] = 0.0
