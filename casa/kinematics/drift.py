"""Drift of the whole field: the velocity that the cells which do not swim share.

A mean or median over all tracks is moved by every swimmer; immotile cells and debris all move alike, so their common
velocity is where velocities lie densest.
"""

from __future__ import annotations

import numpy as np

from casa.types import FloatArray

#: Fewer cells than this (one may be missing in a later epoch), or a smaller part of the field, that move alike are
#: taken for chance.
_MIN_CELLS = 3
_MIN_PART = 0.15
#: The drift is known where it was found in at least this part of the time.
_MIN_KNOWN = 0.5


def common_velocity(velocity: FloatArray, bandwidth: float, n_epochs: int = 1) -> FloatArray | None:
    """The densest point of a cloud of velocities, or None where no point is dense.

    Parameters
    ----------
    velocity : (n, 2) velocities of the tracks of a field over about a second each.
    bandwidth : how far immotile cells spread about their common velocity, in the same unit.
    n_epochs : how many times a track can be among them: one straight swimmer is no crowd, however often measured.

    Returns
    -------
    (2,) median velocity of the cells within the bandwidth of the densest one, iterated; None where fewer than
    about three cells, or less than 15 % of the field, move alike.
    """
    n = len(velocity)
    fewest = 1 + (_MIN_CELLS - 1) * n_epochs
    if n < fewest:
        return None
    apart = ((velocity[:, None, :] - velocity[None, :, :]) ** 2).sum(axis=2)
    density = np.exp(-apart / (2 * (bandwidth / 2) ** 2)).sum(axis=1)
    centre = velocity[int(np.argmax(density))]
    near = np.zeros(n, bool)
    for _ in range(5):
        near = ((velocity - centre) ** 2).sum(axis=1) < bandwidth**2
        if not near.any():
            return None
        centre = np.median(velocity[near], axis=0)
    if near.sum() < max(fewest, _MIN_PART * n):
        return None
    return centre


class DriftPath:
    """How far the field has drifted by a time: one velocity an epoch, integrated.

    Epochs without an estimate go on with the velocity of the one before (at first 0).
    """

    def __init__(self, epoch_s: float) -> None:
        self._epoch_s = epoch_s
        self._rates: list[FloatArray] = []
        self._at_start: list[FloatArray] = [np.zeros(2)]
        self._known_s = self._all_s = 0.0
        self._known = np.zeros(2)

    def close_epoch(self, rate: FloatArray | None, length_s: float | None = None) -> None:
        """Take the velocity (px/s) of the epoch that has passed, None where there was no estimate."""
        length_s = self._epoch_s if length_s is None else length_s
        self._all_s += length_s
        if rate is not None:
            self._known += rate * length_s
            self._known_s += length_s
        kept = rate if rate is not None else (self._rates[-1] if self._rates else np.zeros(2))
        self._rates.append(kept)
        self._at_start.append(self._at_start[-1] + kept * self._epoch_s)

    def displacement(self, t_s: FloatArray) -> FloatArray:
        """(n, 2) px: where the field has drifted to at times (n,) counted from the first frame."""
        epoch = np.clip((t_s // self._epoch_s).astype(np.int64), 0, len(self._rates))
        rates = np.array([*self._rates, self._rates[-1] if self._rates else np.zeros(2)])
        return np.array(self._at_start)[epoch] + rates[epoch] * (t_s - epoch * self._epoch_s)[:, None]

    @property
    def mean_rate(self) -> tuple[float, float] | None:
        """Mean velocity over the epochs that had an estimate, px/s; None where most had none.

        Swimmers that happen to go one way for a second are no drift: that lasts.
        """
        if self._known_s <= 0 or self._known_s < _MIN_KNOWN * self._all_s:
            return None
        return float(self._known[0] / self._known_s), float(self._known[1] / self._known_s)
