"""Kinematics of a running session: tracks go in frame by frame, a row comes out when a track has ended.

Memory does not grow with time: samples of ended tracks are dropped, and a track that stays in view has what came
before its last seconds summed up. Time is cut into epochs of one second; a track that ended is measured when its
last epoch has passed, with the jitter and the drift known by then, so that the same tracks give the same rows
whether they come live, from a table, or with their end told early or late. They are measured a few a frame in the
epoch after it: all at once would hold up one frame a second.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

from casa.config import KinematicsConfig
from casa.kernels import kernel
from casa.kinematics.buffers import TrackBuffers
from casa.kinematics.drift import DriftPath, common_velocity
from casa.kinematics.grade import motility_percent
from casa.kinematics.jitter import LONG_STRETCH, SHORT_STRETCH, Jitter, jitter_of_field, jitter_of_track, noise_samples
from casa.kinematics.rows import Piece, TrackSums, measure_piece, row_of, table_of
from casa.types import Calibration, Float32Array, KinematicsFlag, KinematicsTable, Summary, Tracks

EPOCH_S = 1.0
#: Velocities of this many epochs together make the estimate of the drift.
_DRIFT_EPOCHS = 3
#: Cells within this of each other, in um/s, drift alike; in px/s where there is no scale.
_DRIFT_SPREAD_UM_S = 4.0
_DRIFT_SPREAD_PX_S = 10.0
#: Stretches of track kept for the estimate of the jitter: the newest ones.
_STRETCHES_KEPT = 512
_MIN_STRETCHES = 3
#: Ended tracks are measured one a frame, and one more for each so many that wait.
_WAITING_A_ROW = 16
#: A track not seen for so long at the end of an epoch has ended, or is in a gap.
_STILL_SEEN_S = 0.1


class KinematicsAccumulator:
    """Measures tracks as they end, and the field as a whole.

    Parameters
    ----------
    config : windows, limits, and whether jitter and drift are corrected for.
    calibration : scale and chamber; None leaves um columns NaN, tracks ungraded and the concentration unknown.
    frame_size_px : (width, height) of the pictures, for the concentration; None leaves it unknown.
    """

    def __init__(
        self,
        config: KinematicsConfig | None = None,
        calibration: Calibration | None = None,
        frame_size_px: tuple[int, int] | None = None,
    ) -> None:
        self._config = config if config is not None else KinematicsConfig()
        self._calibration = calibration
        self._frame_size_px = frame_size_px
        self._buffers = TrackBuffers()
        self._sums: dict[int, TrackSums] = {}
        self._ended: dict[int, None] = {}
        self._ready: dict[int, None] = {}  # ended, and their last epoch has passed
        self._drift = DriftPath(EPOCH_S)
        self._velocities: list[Any] = []
        self._noise = np.empty((0, 9))
        self._jitter: list[Jitter] = []
        self._start_ns = 0
        self._last_ns = 0
        self._n_frames = 0
        self._n_heads = 0
        self._n_tracks = 0
        self._seconds_by_grade = np.zeros(4)
        self._bits = 0
        self._finished = False
        self._no_rows = KinematicsTable.empty()

    def add(self, tracks: Tracks) -> KinematicsTable:
        """Take the tracks of one frame, in order of time; gives the rows that have become ready."""
        if self._n_frames == 0:
            self._start_ns = tracks.t_ns
        rows = self._close_epochs(tracks.t_ns)
        rows += self._rows_of_ready(1 + len(self._ready) // _WAITING_A_ROW)
        self._n_frames += 1
        self._last_ns = tracks.t_ns
        self._n_heads += self._heads_in_frame(tracks)
        index = 2 * tracks.frame + tracks.field
        full = self._buffers.append(tracks.track_id, index, tracks.t_ns, tracks.measured_xy_px)
        if len(full):
            by_slot = {slot: key for key, slot in self._buffers.slot_of.items()}
            for slot in full.tolist():
                self._measure(by_slot[slot], slot, last=False)
        for key in tracks.ended_ids.tolist():
            if key in self._buffers.slot_of and key not in self._ready:
                self._ended[key] = None
        return table_of(rows) if rows else self._no_rows

    def finish(self) -> KinematicsTable:
        """The rows of the tracks that are left; nothing can be added after."""
        rows = self._rows_of_ready(len(self._ready))
        length_s = (self._last_ns - self._start_ns) / 1e9 - len(self._jitter) * EPOCH_S
        if not self._finished and self._n_frames:
            self._finished = True
            self._close_epoch(max(length_s, 0.0))
        return table_of(rows + [self._row(key) for key in list(self._buffers.slot_of)])

    def summary(self) -> Summary:
        """The figures of the field, of all rows given so far."""
        calibration, config = self._calibration, self._config
        heads = self._n_heads / self._n_frames if self._n_frames else None
        concentration = None
        if heads is not None and calibration is not None and self._frame_size_px and calibration.chamber_depth_um:
            width_px, height_px = self._frame_size_px
            area_um2 = width_px * calibration.um_per_px_x * height_px * calibration.um_per_px_y
            # one head in one um^3 (1e-12 mL) is 1e12 in a mL, 1e6 millions
            concentration = heads / (area_um2 * calibration.chamber_depth_um) * 1e6 * calibration.chamber_factor
        jitter_px = self._jitter[-1].sigma_px if self._jitter else np.nan
        names = [name for name, bit in vars(KinematicsFlag).items() if isinstance(bit, int) and bit & self._bits]
        return Summary(
            n_tracks=self._n_tracks,
            heads_per_frame=heads,
            concentration_m_per_ml=concentration,
            motility_percent=motility_percent(self._seconds_by_grade),
            graded_time_s=float(self._seconds_by_grade.sum()),
            drift_px_s=self._drift.mean_rate,
            jitter_px=jitter_px if np.isfinite(jitter_px) else None,
            jitter_corrected=bool(self._bits & KinematicsFlag.JITTER_CORRECTED),
            drift_corrected=config.drift and self._drift.mean_rate is not None,
            flags=tuple(name.lower() for name in names),
        )

    def _heads_in_frame(self, tracks: Tracks) -> int:
        """Tracks whose head is in the picture; one that was missed for a moment is still there."""
        if self._frame_size_px is None:
            return len(tracks)
        return int(_count_inside(tracks.xyxy, *self._frame_size_px))

    def _close_epochs(self, t_ns: int) -> list[dict[str, Any]]:
        passed, rows = self._epoch_of(t_ns), []
        if len(self._jitter) < passed:
            rows = self._rows_of_ready(len(self._ready))  # with the jitter and the drift of their own epoch
        while len(self._jitter) < passed:
            self._close_epoch(EPOCH_S)
        self._find_ready()
        return rows

    def _close_epoch(self, length_s: float) -> None:
        self._velocities = [*self._velocities, self._buffers.epoch_velocities(0.5 * EPOCH_S)][-_DRIFT_EPOCHS:]
        scale = 1.0
        if self._calibration is not None:
            scale = (self._calibration.um_per_px_x * self._calibration.um_per_px_y) ** 0.5
        spread = _DRIFT_SPREAD_PX_S if self._calibration is None else _DRIFT_SPREAD_UM_S / scale
        rate = common_velocity(np.concatenate(self._velocities), spread, len(self._velocities))
        self._drift.close_epoch(rate, length_s)
        begun_ns = self._start_ns + round(len(self._jitter) * EPOCH_S * 1e9)
        ends_ns = begun_ns + round((length_s - _STILL_SEEN_S) * 1e9)
        stretches = self._buffers.even_stretches(LONG_STRETCH, SHORT_STRETCH, begun_ns, ends_ns)
        for length in (LONG_STRETCH, SHORT_STRETCH):
            alike = [(xy, rate_hz) for xy, rate_hz in stretches if len(xy) == length]
            if alike:
                new = noise_samples(np.array([xy for xy, _ in alike]), np.array([rate_hz for _, rate_hz in alike]))
                self._noise = np.concatenate([self._noise, new])[-_STRETCHES_KEPT:]
        self._jitter.append(jitter_of_field(self._noise) if len(self._noise) >= _MIN_STRETCHES else Jitter())

    def _find_ready(self) -> None:
        """Ended tracks whose last epoch has passed are ready to be measured."""
        for key in list(self._ended):
            slot = self._buffers.slot_of[key]
            last_ns = int(self._buffers.t_ns[slot, self._buffers.n[slot] - 1])
            if self._epoch_of(last_ns) < len(self._jitter):
                del self._ended[key]
                self._ready[key] = None

    def _rows_of_ready(self, n: int) -> list[dict[str, Any]]:
        first = list(islice(self._ready, n))
        for key in first:
            del self._ready[key]
        return [self._row(key) for key in first]

    def _epoch_of(self, t_ns: int) -> int:
        return int((t_ns - self._start_ns) // int(EPOCH_S * 1e9))

    def _measure(self, track_id: int, slot: int, last: bool) -> None:
        index, t_ns, xy = self._buffers.samples(slot)
        config = self._config
        sums = self._sums.setdefault(track_id, TrackSums())
        if config.drift and self._drift.mean_rate is not None:
            xy = xy - self._drift.displacement((t_ns - self._start_ns) / 1e9)
            sums.drift_corrected = True
        epoch = min(self._epoch_of(int(t_ns[-1])), len(self._jitter) - 1)
        field = self._jitter[epoch] if epoch >= 0 else Jitter()
        told = config.jitter_px
        jitter = jitter_of_track(index, xy, field) if told in ("auto", 0) else Jitter(float(told))
        piece = Piece(index, t_ns, xy, jitter, correct=told != 0)
        end = measure_piece(sums, piece, config, self._calibration, last)
        self._buffers.drop_before(slot, end)

    def _row(self, track_id: int) -> dict[str, Any]:
        self._measure(track_id, self._buffers.slot_of[track_id], last=True)
        self._buffers.release(track_id)
        sums = self._sums.pop(track_id)
        row = row_of(track_id, sums, self._config, self._calibration)
        self._n_tracks += 1
        self._seconds_by_grade += sums.seconds_by_grade
        self._bits |= row["flags"]
        return row


@kernel
def _count_inside(xyxy: Float32Array, width_px: int, height_px: int) -> int:
    """How many of (n, 4) boxes have their centre in the picture."""
    count = 0
    for i in range(len(xyxy)):
        x = (xyxy[i, 0] + xyxy[i, 2]) / np.float32(2)
        y = (xyxy[i, 1] + xyxy[i, 3]) / np.float32(2)
        count += 0 <= x < width_px and 0 <= y < height_px
    return count
