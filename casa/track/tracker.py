"""The tracker: ByteTrack's association in stages over the IMM bank, one call a frame.

A track is tentative until enough detections confirm it, confirmed while it is seen, and lost while it is missed;
a lost track is put out with its predicted box for a while, then kept without being put out, then ends. Output
for a frame depends on that frame and earlier ones alone. This module knows no source, table or graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from casa.config import TrackConfig
from casa.errors import FrameError
from casa.kernels import kernel
from casa.track.associate import assign
from casa.track.cost import pair_costs, usable_detections
from casa.track.imm import ImmBank
from casa.track.motion import mode_weights, motion_models
from casa.track.population import TRACK, begin, settings_of, with_room
from casa.types import BoolArray, Detections, FloatArray, IntArray, Tracks

#: Tracks there is room for at first.
_ROOM = 64
_NO_IDS = np.empty(0, np.int64)


@dataclass
class TrackerCounters:
    """What the tracker has seen, refused and corrected; for the recording and for whoever looks for trouble."""

    frames: int = 0
    refused_frames: int = 0  # time did not advance
    missing_frames: int = 0  # numbers left out between one frame and the next
    misnumbered_frames: int = 0  # later than the frame before, but with the same or a lower number
    bad_boxes: int = 0  # not finite, or without area
    boxes_outside: int = 0  # centre outside the field
    restarts: int = 0  # gaps so long that every track ended
    tracks: int = 0  # confirmed so far


@kernel
def _advance(tracks, mean, covariance, settings, dt, field):
    """What a step of ``dt`` does to the tracks: sizes wander, misses are forgotten, centres leave the field."""
    c = settings[0]
    for k in range(len(tracks)):
        tracks[k].size_variance += c.size_drift_per_sqrt_s**2 * dt
        tracks[k].predicted_sd_px = np.sqrt((covariance[k, 0] + covariance[k, 2]) / 2)
        x, y = mean[k, 0], mean[k, 1]
        tracks[k].outside = x < field[0] or y < field[1] or x > field[2] or y > field[3]


@kernel
def _stage(track, detection, cost, tracks, confidence, taken, limit, confirmed, low, high):
    """The pairs of free tracks, confirmed or not, and free detections with ``low <= confidence < high``."""
    chosen = np.empty(len(track), np.int64)
    n = 0
    for k in range(len(track)):
        t, d = tracks[track[k]], detection[k]
        free = t.match < 0 and not taken[d] and cost[k] <= limit
        if free and (t.track_id > 0) == confirmed and low <= confidence[d] < high:
            chosen[n] = k
            n += 1
    chosen = chosen[:n]
    return track[chosen], detection[chosen], cost[chosen]


@kernel
def _match(tracks, taken, track, detection):
    """Note which detection is which track's."""
    for k in range(len(track)):
        tracks[track[k]].match = detection[k]
        taken[detection[k]] = True


@kernel
def _correct(tracks, xy, log_size, confidence, t_ns, dt, settings):
    """Filter the sizes of matched tracks, and note who was seen where and who was missed."""
    c = settings[0]
    keep = np.exp(-dt / c.miss_rate_s)
    for k in range(len(tracks)):
        t = tracks[k]
        missed = t.match < 0
        t.miss_rate = keep * t.miss_rate + (1.0 - keep) * missed
        if missed:
            continue
        gain = t.size_variance / (t.size_variance + c.size_noise**2)
        t.log_w += gain * (log_size[t.match, 0] - t.log_w)
        t.log_h += gain * (log_size[t.match, 1] - t.log_h)
        t.size_variance *= 1.0 - gain
        t.hits += 1
        t.confidence_sum += confidence[t.match]
        t.hit_ns = t_ns
        t.last_x, t.last_y = xy[t.match, 0], xy[t.match, 1]


@kernel
def _ready(tracks, t_ns, settings):
    """The tentative tracks that were just seen and have evidence enough."""
    c = settings[0]
    ready = np.empty(len(tracks), np.int64)
    n = 0
    for k in range(len(tracks)):
        t = tracks[k]
        evidence = t.hits >= c.confirm_hits and t.confidence_sum >= c.confirm_confidence
        if t.track_id == 0 and t.match >= 0 and evidence and t_ns - t.born_ns >= c.confirm_age_s * 1e9:
            ready[n] = k
            n += 1
    return ready[:n]


@kernel
def _alive(tracks, t_ns, settings):
    """Which tracks go on: those not missed for too long, which is less for tentative, young and outside ones."""
    c = settings[0]
    alive = np.empty(len(tracks), np.bool_)
    for k in range(len(tracks)):
        t = tracks[k]
        limit_s = c.tentative_miss_s
        if t.track_id > 0:
            limit_s = min(c.max_miss_s, c.tentative_miss_s + c.miss_per_age * (t.hit_ns - t.born_ns) / 1e9)
            if t.outside:
                limit_s = min(limit_s, c.max_outside_s)
        alive[k] = (t_ns - t.hit_ns) / 1e9 <= limit_s
    return alive


@kernel
def _shown(tracks, t_ns, settings):
    """The confirmed tracks that were seen, or missed for a short while with a place known and in the field, by id."""
    c = settings[0]
    shown = np.empty(len(tracks), np.int64)
    n = 0
    for k in range(len(tracks)):
        t = tracks[k]
        short = t_ns - t.hit_ns <= min(c.max_predicted_s * 1e9, c.predicted_per_age * (t.hit_ns - t.born_ns))
        size = np.exp((t.log_w + t.log_h) / 2)
        known = t.predicted_sd_px <= c.max_predicted_sd_of_size * size and not t.outside
        if t.track_id > 0 and (t.match >= 0 or (short and known)):
            place = n  # ids are nearly in order already
            while place > 0 and tracks[shown[place - 1]].track_id > t.track_id:
                shown[place] = shown[place - 1]
                place -= 1
            shown[place] = k
            n += 1
    return shown[:n]


@kernel
def _boxes(tracks, rows, centre, xy, confidence):
    """Ids (k,), boxes (k, 4) to put out, measured centres (k, 2), confidences (k,) and whether predicted (k,)."""
    k = len(rows)
    ids = np.empty(k, np.int64)
    boxes, measured = np.empty((k, 4), np.float32), np.empty((k, 2))
    of_match, predicted = np.empty(k, np.float32), np.empty(k, np.bool_)
    for i in range(k):
        t = tracks[rows[i]]
        ids[i] = t.track_id
        w, h = np.exp(t.log_w), np.exp(t.log_h)
        boxes[i, 0], boxes[i, 2] = centre[i, 0] - w / 2, centre[i, 0] + w / 2
        boxes[i, 1], boxes[i, 3] = centre[i, 1] - h / 2, centre[i, 1] + h / 2
        predicted[i] = t.match < 0
        if t.match < 0:
            measured[i, 0] = measured[i, 1] = np.nan
            of_match[i] = 0.0
        else:
            measured[i, 0], measured[i, 1] = xy[t.match, 0], xy[t.match, 1]
            of_match[i] = confidence[t.match]
    return ids, boxes, measured, of_match, predicted


@dataclass(frozen=True, slots=True)
class _Usable:
    """The usable detections of a frame."""

    xy: FloatArray  # (m, 2) centres
    log_size: FloatArray  # (m, 2) log width and height
    confidence: FloatArray  # (m,)


class Tracker:
    """Tracks detections frame by frame.

    Parameters
    ----------
    config : see `TrackConfig`; the defaults come from the ablation in docs/tracker.md.
    frame_size_px : (width, height) of the pictures. With it, a track whose predicted centre has left the field is not
        put out and ends, and detections outside the field are counted and left out.
    every_nth : only every n-th frame is given; those between are not counted as missing.
    """

    def __init__(
        self, config: TrackConfig | None = None, frame_size_px: tuple[int, int] | None = None, every_nth: int = 1
    ) -> None:
        self.config = config = config or TrackConfig()
        self._every_nth = every_nth
        self.counters = TrackerCounters()
        redraw_s = config.mode_redraw_s if config.mode_redraws_s is None else config.mode_redraws_s
        self._bank = ImmBank(motion_models(config), mode_weights(config), redraw_s)
        self._settings = settings_of(config)
        self._classes = np.array(config.classes, np.int64)
        self._field = np.array([-np.inf, -np.inf, np.inf, np.inf])
        if frame_size_px is not None:
            self._field[:] = 0.0, 0.0, *frame_size_px
        self._room = np.zeros(_ROOM, TRACK)
        self._tracks = self._room[:0]
        self._last: tuple[int, int] | None = None  # frame and field
        self._t_ns: int | None = None
        self._next_id = 1

    def __len__(self) -> int:
        """Tracks alive, tentative ones too."""
        return len(self._tracks)

    def update(self, d: Detections) -> Tracks:
        """Take the detections of the next frame (none is a frame too) and put out its tracks.

        Raises
        ------
        FrameError : the frame's time is not later than the last one's. The tracker is as before, so that the
            next good frame is tracked over the true time step.
        """
        step_s = self._step_s(d)
        usable = self._usable(d)
        ended = [_NO_IDS]
        if step_s > self.config.max_miss_s and len(self._tracks):
            self.counters.restarts += 1
            ended.append(self.finish())
        taken = np.zeros(len(usable.confidence), np.bool_)
        if len(self._tracks):
            self._bank.predict(step_s)
            self._associate(usable, taken, step_s)
            self._bank.update(self._tracks["match"], usable.xy, self.config.measurement_sd_px**2)
            _correct(self._tracks, usable.xy, usable.log_size, usable.confidence, d.t_ns, step_s, self._settings)
        self._start(taken, usable, d.t_ns)
        self._confirm(usable, d.t_ns)
        ended.append(self._keep(_alive(self._tracks, d.t_ns, self._settings)))
        self._t_ns, self._last = d.t_ns, (d.frame, d.field)
        self.counters.frames += 1
        return self._put_out(d, usable, np.concatenate(ended))

    def finish(self) -> IntArray:
        """End every track; gives the ids of those that had been put out."""
        return self._keep(np.zeros(len(self._tracks), bool))

    def _step_s(self, d: Detections) -> float:
        """Time since the last frame, 0 for the first; odd frame numbers are counted."""
        if self._t_ns is None or self._last is None:
            return 0.0
        if d.t_ns <= self._t_ns:
            self.counters.refused_frames += 1
            raise FrameError(
                f"frame {d.frame}: its time {d.t_ns / 1e9:.6f} s is not later than the last frame's "
                f"{self._t_ns / 1e9:.6f} s and speeds would be wrong: repair the timestamps, or give a frame rate"
            )
        if (d.frame, d.field) <= self._last:
            self.counters.misnumbered_frames += 1
        self.counters.missing_frames += max((d.frame - self._last[0]) // self._every_nth - 1, 0)
        return (d.t_ns - self._t_ns) / 1e9

    def _usable(self, d: Detections) -> _Usable:
        """The detections of tracked classes that are boxes in the field; the rest is counted."""
        *columns, bad, outside = usable_detections(
            d.xyxy, d.confidence, d.class_id, self._classes, np.float32(self.config.low_confidence), self._field
        )
        self.counters.bad_boxes += bad
        self.counters.boxes_outside += outside
        return _Usable(*columns)

    def _associate(self, usable: _Usable, taken: BoolArray, step_s: float) -> None:
        """Match tracks and detections in three stages (ByteTrack, Zhang et al. 2022).

        Confirmed tracks take high-confidence detections first; those left over take low-confidence ones;
        tentative tracks take what is left of the high-confidence ones.
        """
        c, tracks = self.config, self._tracks
        mean, covariance = self._bank.position_moments()
        tracks["match"] = -1
        _advance(tracks, mean, covariance, self._settings, step_s, self._field)
        by_x = usable.xy[:, 0].argsort(kind="stable")
        track, detection, cost = pair_costs(
            tracks, mean, covariance, usable.xy, usable.log_size, usable.confidence, by_x, self._settings
        )
        high = c.high_confidence
        for confirmed, least, below in ((True, high, np.inf), (True, 0.0, high), (False, high, np.inf)):
            pairs = _stage(
                track, detection, cost, tracks, usable.confidence, taken, c.cost_limit, confirmed, least, below
            )
            _match(tracks, taken, *assign(*pairs, c.cost_limit, len(tracks), len(taken)))

    def _start(self, taken: BoolArray, usable: _Usable, t_ns: int) -> None:
        """Start a tentative track from every confident detection that no track took."""
        c = self.config
        rows = np.flatnonzero((usable.confidence >= c.new_track_confidence) & ~taken)
        if len(rows):
            self._bank.append(usable.xy[rows], c.measurement_sd_px**2, c.initial_speed_sd_px_s)
            n = len(self._tracks)
            self._room = with_room(self._room, len(self._bank))
            begin(self._room, n, rows, usable.xy, usable.log_size, usable.confidence, t_ns, self._settings)
            self._tracks = self._room[: len(self._bank)]

    def _confirm(self, usable: _Usable, t_ns: int) -> None:
        """Give an id to each tentative track that is ready for one."""
        rows = _ready(self._tracks, t_ns, self._settings)
        if len(rows):
            # by place, so that the order in which a detector lists its boxes does not name the tracks
            x, y = usable.xy[self._tracks["match"][rows]].T
            rows = rows[np.lexsort((y, x))]
            self._tracks["track_id"][rows] = np.arange(self._next_id, self._next_id + len(rows))
            self._next_id += len(rows)
            self.counters.tracks += len(rows)

    def _keep(self, keep: BoolArray) -> IntArray:
        """Drop the tracks that are not kept; gives the ids of the dropped ones that had been put out."""
        if keep.all():
            return _NO_IDS
        ended = self._tracks["track_id"][~keep]
        self._bank.keep(keep)
        self._room[: len(self._bank)] = self._tracks[keep]
        self._tracks = self._room[: len(self._bank)]
        return np.sort(ended[ended > 0])

    def _put_out(self, d: Detections, usable: _Usable, ended: IntArray) -> Tracks:
        """The tracks to show, in order of their ids."""
        tracks = self._tracks
        rows = _shown(tracks, d.t_ns, self._settings)
        centre, velocity = self._bank.heads(rows, tracks["match"], usable.xy, self.config.measurement_sd_px**2)
        ids, boxes, measured, confidence, predicted = _boxes(tracks, rows, centre, usable.xy, usable.confidence)
        return Tracks(
            frame=d.frame,
            t_ns=d.t_ns,
            field=d.field,
            track_id=ids,
            xyxy=boxes,
            measured_xy_px=measured,
            confidence=confidence,
            predicted=predicted,
            velocity_px_s=velocity,
            ended_ids=ended,
        )
