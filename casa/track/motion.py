"""How heads move: the motion models of the bank, and their matrices over any time step.

The state of every model is ``[x, vx, ax, y, vy, ay]`` in px, px/s, px/s². Noise is white noise on the highest
derivative a model knows, integrated over the step, so it does not depend on the frame rate. For the derivatives it does
not know a model carries a prior, which a track takes with it when it changes to a model that knows them.

Source: Li & Jilkov, Survey of maneuvering target tracking, part I, IEEE T-AES 39 (2003).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from casa.config import TrackConfig
from casa.types import FloatArray

N_STATE = 6
X, VX, AX, Y, VY, AY = range(N_STATE)

#: Where a model's turn comes from.
NO_TURN, STATE_TURN, OWN_TURN = range(3)

#: One row a model, as the kernels read it: the fields of `MotionModel` but the name.
MODEL = np.dtype(
    [
        ("order", np.int64),
        ("density", np.float64),
        ("speed_sd", np.float64),
        ("acceleration_sd", np.float64),
        ("turn", np.int64),
        ("max_turn", np.float64),
        ("beat_sd", np.float64),
    ]
)


@dataclass(frozen=True)
class MotionModel:
    """One motion model.

    Parameters
    ----------
    name : as in the configuration.
    order : the highest derivative it knows: 0 rest, 1 constant velocity, 2 constant acceleration.
    density : spectral density of the white noise on the next one: px²/s (order 0), px²/s³ (1), px²/s⁵ (2).
    speed_sd_px_s, acceleration_sd_px_s2 : prior, per axis, of the derivatives it does not know; the latter also of
        the acceleration that a new track starts with.
    turn : NO_TURN; STATE_TURN the acceleration turns with the velocity at the rate the state itself implies
        (coordinated turn); OWN_TURN the velocity turns at the animal's own rate, learned over its track (circular
        swimmer).
    max_turn_rad_s : bound of that rate.
    beat_sd_px : the head beats about the path this model follows (sd per axis): it is seen that far from the path,
        again and again, without the path having moved.
    """

    name: str
    order: int
    density: float
    speed_sd_px_s: float = 0.0
    acceleration_sd_px_s2: float = 0.0
    turn: int = NO_TURN
    max_turn_rad_s: float = 0.0
    beat_sd_px: float = 0.0


def motion_models(config: TrackConfig) -> list[MotionModel]:
    """The models that a configuration names, in its order."""
    c, speed, acceleration = config, config.rest_speed_sd_px_s, config.acceleration_sd_px_s2
    circle_beat = c.circular_beat_sd_px
    known = [
        MotionModel("rest", 0, c.rest_density_px2_s, speed, acceleration),
        MotionModel("cv_low", 1, c.cv_low_density_px2_s3, 0.0, acceleration),
        MotionModel("cv_high", 1, c.cv_high_density_px2_s3, 0.0, acceleration),
        MotionModel("beat", 1, c.beat_density_px2_s3, 0.0, acceleration, beat_sd_px=c.beat_sd_px),
        MotionModel(
            "circular", 1, c.circular_density_px2_s3, 0.0, acceleration, OWN_TURN, c.max_turn_rad_s, circle_beat
        ),
        MotionModel("ca", 2, c.ca_density_px2_s5, 0.0, acceleration),
        MotionModel("ct", 2, c.ct_density_px2_s5, 0.0, acceleration, STATE_TURN, c.max_turn_rad_s),
    ]
    by_name = {model.name: model for model in known}
    return [by_name[name] for name in c.models]


def mode_weights(config: TrackConfig) -> tuple[float, ...]:
    """How likely each model is when the mode is drawn anew: rest less than the others, unless said."""
    return config.mode_weights or tuple(0.3 if name == "rest" else 1.0 for name in config.models)


def model_table(models: Sequence[MotionModel]) -> np.ndarray[Any, Any]:
    """(m,) of `MODEL`."""
    return np.array([astuple(model)[1:] for model in models], MODEL)


class ModeChain:
    """Which model a head follows: a continuous-time Markov chain.

    In mode i the mode is drawn anew at rate ``1 / redraw_s[i]``, with probabilities ``weights``. The generator
    ``G_ij = (r_j - delta_ij) / tau_i`` is made symmetric by ``D = diag(sqrt(r tau))``, so that the transition matrix
    ``expm(G dt)`` is two small products whatever ``dt`` is.
    """

    def __init__(self, weights: Sequence[float], redraw_s: Sequence[float]) -> None:
        r, tau = np.asarray(weights, np.float64), np.asarray(redraw_s, np.float64)
        self.weights: FloatArray = r / r.sum()
        generator = (self.weights[None] - np.eye(len(r))) / tau[:, None]
        d = np.sqrt(self.weights * tau)
        symmetric = d[:, None] * generator / d
        self._rate, vectors = np.linalg.eigh((symmetric + symmetric.T) / 2)
        self._left, self._right = vectors / d[:, None], vectors.T * d

    def transition(self, dt_s: float) -> FloatArray:
        """(m, m) probability that mode i has become mode j after ``dt_s``."""
        return np.maximum((self._left * np.exp(self._rate * dt_s)) @ self._right, 0.0)
