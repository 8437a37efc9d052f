"""Where tracks were in the last seconds, for those who look on: trails, speeds and grades of the moment.

These figures are for display: they are of one second, unsmoothed and not corrected for jitter. What is recorded and
reported comes from `casa.kinematics`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from casa.bus.messages import UNGRADED
from casa.kinematics.grade import PROGRESSIVE_UM_S, RAPID_UM_S
from casa.types import Float32Array, FloatArray, IntArray, Tracks

_WINDOW_NS = 10**9
_MAX_POINTS = 512
_COUNT_NS = 250_000_000  # time by grade is counted this often
_AVERAGE_NS = 10**8  # of the path by which a still head is told from one that beats


@dataclass(frozen=True, slots=True, eq=False)
class Trails:
    """Of the tracks of one frame, in their order.

    xy_px (m, 2) float32, track after track, oldest first; length (n,) int32; vcl_px_s, vsl_px_s (n,) float32, NaN where
    seen for less than ``min_duration_s``; grade (n,) uint8.
    """

    xy_px: Float32Array
    length: NDArray[np.int32]
    vcl_px_s: Float32Array
    vsl_px_s: Float32Array
    grade: NDArray[np.uint8]


class TrailStore:
    """Keeps the last points of each track, in fixed memory a track; a track that is put out no more is forgotten.

    Parameters
    ----------
    trail_s : how long a trail is. fps_hz : nominal, for the size of the store.
    um_per_px : None leaves everything ungraded.
    min_duration_s : a track seen for less has no speeds and no grade yet.
    still_um : a head whose average path stays within it for a second, in each direction, is immotile (grade d).
    """

    def __init__(
        self, trail_s: float, fps_hz: float, um_per_px: float | None, min_duration_s: float, still_um: float
    ) -> None:
        self._n_points = int(np.clip(np.ceil(max(trail_s, 1.1) * fps_hz * 1.1), 8, _MAX_POINTS))
        self._trail_ns = round(trail_s * 1e9)
        self._um_per_px = um_per_px
        self._min_ns = round(min_duration_s * 1e9)
        self._still_um = still_um
        self._slot_of: dict[int, int] = {}
        self._free: list[int] = []
        self._xy = np.empty((0, self._n_points, 2), np.float32)
        self._t_ns = np.empty((0, self._n_points), np.int64)
        self._n = np.empty(0, np.int64)
        self._slots: IntArray = np.empty(0, np.int64)
        self._now_ns = 0
        self._counted_ns: int | None = None
        self.seconds_by_grade = np.zeros(4)  # (4,) track-seconds in grades a to d so far

    def add(self, tracks: Tracks) -> None:
        """Take the tracks of a frame."""
        ids = tracks.track_id.tolist()
        for key in self._slot_of.keys() - set(ids):
            self._free.append(self._slot_of.pop(key))
        new = [key for key in ids if key not in self._slot_of]
        if len(new) > len(self._free):
            self._grow(len(new) - len(self._free))
        for key in new:
            slot = self._slot_of[key] = self._free.pop()
            self._n[slot] = 0
        slots = np.array([self._slot_of[key] for key in ids], np.int64)
        at = self._n[slots] % self._n_points
        centre = (tracks.xyxy[:, :2] + tracks.xyxy[:, 2:]) / 2
        measured = tracks.measured_xy_px
        self._xy[slots, at] = np.where(np.isnan(measured), centre, measured)
        self._t_ns[slots, at] = tracks.t_ns
        self._n[slots] += 1
        self._slots, self._now_ns = slots, tracks.t_ns
        if self._counted_ns is None:
            self._counted_ns = tracks.t_ns
        elif self._um_per_px is not None and tracks.t_ns - self._counted_ns >= _COUNT_NS:
            grade = self.trails().grade
            counts = np.bincount(grade[grade != UNGRADED], minlength=4)
            self.seconds_by_grade = self.seconds_by_grade + counts * ((tracks.t_ns - self._counted_ns) / 1e9)
            self._counted_ns = tracks.t_ns

    def path(self, track_id: int) -> tuple[IntArray, FloatArray] | None:
        """(n,) times in ns and (n, 2) positions in px that are kept of a track; None for one that is not in view."""
        slot = self._slot_of.get(track_id)
        if slot is None:
            return None
        n = int(min(self._n[slot], self._n_points))
        order = (int(self._n[slot]) - n + np.arange(n)) % self._n_points
        return self._t_ns[slot, order].copy(), self._xy[slot, order].astype(np.float64)

    def _grow(self, n: int) -> None:
        old, more = len(self._n), max(n, 64)
        self._xy = np.concatenate([self._xy, np.zeros((more, self._n_points, 2), np.float32)])
        self._t_ns = np.concatenate([self._t_ns, np.zeros((more, self._n_points), np.int64)])
        self._n = np.concatenate([self._n, np.zeros(more, np.int64)])
        self._free.extend(range(old, old + more))

    def trails(self) -> Trails:
        """The trails of the tracks added last, in their order."""
        slots, now_ns = self._slots, self._now_ns
        n = self._n[slots]
        # each row: its points, oldest first, the newest last
        order = (n[:, None] - self._n_points + np.arange(self._n_points)) % self._n_points
        there = np.arange(self._n_points) >= self._n_points - n[:, None]
        xy, age = self._xy[slots[:, None], order], now_ns - self._t_ns[slots[:, None], order]
        shown = there & (age <= self._trail_ns)
        window = there & (age <= _WINDOW_NS)
        first = np.argmax(window, axis=1)
        rows = np.arange(len(slots))
        took_ns = age[rows, first] if len(slots) else np.empty(0, np.int64)
        known = took_ns >= self._min_ns
        took_s = np.where(known, took_ns / 1e9, np.nan)
        steps = np.hypot(*np.moveaxis(np.diff(xy, axis=1), 2, 0)) if len(slots) else np.empty((0, self._n_points - 1))
        along = np.where(window[:, :-1], steps, 0).sum(axis=1)
        net = np.hypot(*(xy[:, -1] - xy[rows, first]).T) if len(slots) else np.empty(0)
        vsl = (net / took_s).astype(np.float32)
        grade = np.full(len(slots), UNGRADED, np.uint8)
        if self._um_per_px is not None and known.any():
            um_s = vsl * self._um_per_px
            spread_um = self._spread(xy, age, window) * self._um_per_px
            chosen = np.select(
                [um_s >= RAPID_UM_S, um_s >= PROGRESSIVE_UM_S, spread_um >= self._still_um], [0, 1, 2], 3
            )
            grade[known] = chosen[known]
        return Trails(xy[shown], shown.sum(axis=1).astype(np.int32), (along / took_s).astype(np.float32), vsl, grade)

    def _spread(self, xy: Float32Array, age: IntArray, window: NDArray[np.bool_]) -> Float32Array:
        """(n,) px: how far apart the running mean of the path gets in the window, in x or in y."""
        interval_ns = np.median(age[:, -2] - age[:, -1]) if self._n_points > 1 else 0
        width = int(np.clip(round(_AVERAGE_NS / max(float(interval_ns), 1e6)), 1, self._n_points // 2))
        total = np.cumsum(np.pad(xy, ((0, 0), (1, 0), (0, 0))), axis=1, dtype=np.float64)
        mean = (total[:, width:] - total[:, :-width]) / width
        inside = window[:, : mean.shape[1], None]  # the window of the mean's first point
        high = np.where(inside, mean, -np.inf).max(axis=1)
        low = np.where(inside, mean, np.inf).min(axis=1)
        return np.where(np.isfinite(high), high - low, 0).max(axis=1).astype(np.float32)
