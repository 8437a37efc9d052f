"""The tracker: ByteTrack's association in stages over the IMM bank, one call a frame.

A track is tentative until enough detections confirm it, confirmed while it is seen, and lost while it is missed;
a lost track is put out with its predicted box for a while, then kept without being put out, then ends. Output
for a frame depends on that frame and earlier ones alone. This module knows no source, table or graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from casa.config import TrackConfig
from casa.errors import InputError
from casa.track.associate import assign, pairs_in_reach
from casa.track.imm import VX, VY, ImmBank, MotionModel, X, Y
from casa.types import BoolArray, Detections, FloatArray, IntArray, Tracks

_NO_IDS = np.empty(0, np.int64)


def motion_models(config: TrackConfig) -> list[MotionModel]:
    """The models that a configuration names, in its order."""
    sd = config.acceleration_sd_px_s2
    known = {
        "cv_low": MotionModel("cv_low", 1, config.cv_low_density_px2_s3, sd),
        "cv_high": MotionModel("cv_high", 1, config.cv_high_density_px2_s3, sd),
        "ca": MotionModel("ca", 2, config.ca_density_px2_s5, sd),
        "ct": MotionModel("ct", 2, config.ct_density_px2_s5, sd, turn=True, max_turn_rad_s=config.ct_max_turn_rad_s),
    }
    return [known[name] for name in config.models]


@dataclass
class TrackerCounters:
    """What the tracker has seen and refused; for the recording and for whoever looks for trouble."""

    frames: int = 0
    refused_frames: int = 0  # time did not advance
    bad_boxes: int = 0  # not finite, or without area
    restarts: int = 0  # gaps so long that every track ended
    tracks: int = 0  # confirmed so far


@dataclass
class _Clean:
    """The usable detections of a frame, the track on the last axis as in the bank."""

    xy: FloatArray  # (2, m) centres
    log_size: FloatArray  # (2, m) log width and height
    confidence: FloatArray  # (m,)


class Tracker:
    """Tracks detections frame by frame.

    Parameters
    ----------
    config : see `TrackConfig`; every default comes from the ablation in docs/tracker.md.
    """

    def __init__(self, config: TrackConfig | None = None) -> None:
        self.config = config = config or TrackConfig()
        self.counters = TrackerCounters()
        models = motion_models(config)
        self._bank = ImmBank(models, config.mode_weights or (1.0,) * len(models), config.mode_redraw_s)
        self._t_ns: int | None = None
        self._next_id = 1
        self._id = np.empty(0, np.int64)  # 0 while tentative
        self._match = np.empty(0, np.int64)  # detection of the current frame, -1 where missed
        self._hits = np.empty(0, np.int64)
        self._confidence_sum = np.empty(0)
        self._born_ns = np.empty(0, np.int64)
        self._hit_ns = np.empty(0, np.int64)
        self._log_size = np.empty((2, 0))
        self._size_variance = np.empty(0)

    def __len__(self) -> int:
        """Tracks alive, tentative ones too."""
        return len(self._id)

    def update(self, d: Detections) -> Tracks:
        """Take the detections of the next frame (none is a frame too) and put out its tracks.

        Raises
        ------
        InputError : the frame's time is not later than the last one's. The tracker is as before, so that the
            next good frame is tracked with the true time step.
        """
        c = self.config
        if self._t_ns is not None and d.t_ns <= self._t_ns:
            self.counters.refused_frames += 1
            raise InputError(
                f"frame {d.frame}: its time {d.t_ns / 1e9:.6f} s is not later than the last frame's "
                f"{self._t_ns / 1e9:.6f} s; speeds would be wrong: repair the timestamps or give a frame rate"
            )
        clean = self._clean(d)
        ended = _NO_IDS
        if self._t_ns is not None and len(self._id):
            dt_s = (d.t_ns - self._t_ns) / 1e9
            if dt_s > c.max_miss_s:
                self.counters.restarts += 1
                ended = self._keep(np.zeros(len(self._id), bool))
            else:
                self._bank.predict(dt_s)
                self._size_variance = self._size_variance + c.size_drift_per_sqrt_s**2 * dt_s
        self._t_ns = d.t_ns
        self.counters.frames += 1
        track, detection = self._associate(clean)
        self._correct(track, detection, clean, d.t_ns)
        ended = np.concatenate([ended, self._end_missed(d.t_ns)])
        return self._put_out(d, clean, ended)

    def finish(self) -> IntArray:
        """End every track; the ids of those that had been put out."""
        return self._keep(np.zeros(len(self._id), bool))

    def _clean(self, d: Detections) -> _Clean:
        """The detections of tracked classes that are boxes, in float64; the others are counted."""
        c = self.config
        xyxy = d.xyxy.astype(np.float64)
        size = xyxy[:, 2:] - xyxy[:, :2]
        good = np.isfinite(xyxy).all(axis=1) & np.isfinite(d.confidence)
        good &= (size > 0).all(axis=1)
        self.counters.bad_boxes += int(len(good) - np.count_nonzero(good))
        good &= d.confidence >= np.float32(c.low_confidence)
        good &= np.isin(d.class_id, c.classes) if len(c.classes) > 1 else d.class_id == c.classes[0]
        if not good.all():
            xyxy, size = xyxy[good], size[good]
        centre = (xyxy[:, :2] + xyxy[:, 2:]) / 2
        return _Clean(
            np.ascontiguousarray(centre.T),
            np.log(size.T),
            d.confidence[good].astype(np.float64),
        )

    def _pair_costs(self, clean: _Clean) -> tuple[IntArray, IntArray, FloatArray]:
        """Gated pairs of tracks and detections, and what each would cost.

        cost = d² + spread_weight ln(det S / R²) + size_weight s² + iou_weight (1 - IoU)
               + confidence_weight (1 - confidence)

        with d the Mahalanobis distance to the predicted centre under S = predicted covariance + R, and s the
        size mismatch in the same measure.
        """
        c = self.config
        mean, covariance = self._bank.position_moments()
        variance = c.measurement_sd_px**2
        xx, xy, yy = covariance[0] + variance, covariance[1], covariance[2] + variance
        reach = np.minimum(np.sqrt(c.gate_d2 * np.maximum(xx, yy)), c.max_reach_px)
        track, detection = pairs_in_reach(mean, reach, clean.xy)
        det = xx * yy - xy * xy
        dx, dy = clean.xy[:, detection] - mean[:, track]
        d2 = (yy[track] * dx * dx - 2 * xy[track] * dx * dy + xx[track] * dy * dy) / det[track]
        near = d2 <= c.gate_d2
        track, detection, d2 = track[near], detection[near], d2[near]
        cost = d2 + (c.spread_weight * np.log(det / variance**2))[track]
        if c.size_weight:
            mismatch = clean.log_size[:, detection] - self._log_size[:, track]
            size_variance = 2 * c.size_noise**2 + self._size_variance[track]
            cost += c.size_weight * (mismatch[0] ** 2 + mismatch[1] ** 2) / size_variance
        if c.iou_weight:
            half_t, half_d = np.exp(self._log_size) / 2, np.exp(clean.log_size) / 2
            low = np.maximum((mean - half_t)[:, track], (clean.xy - half_d)[:, detection])
            high = np.minimum((mean + half_t)[:, track], (clean.xy + half_d)[:, detection])
            common = np.prod(np.maximum(high - low, 0.0), axis=0)
            area = 4 * (np.prod(half_t, axis=0)[track] + np.prod(half_d, axis=0)[detection]) - common
            cost += c.iou_weight * (1.0 - common / area)
        cost += c.confidence_weight * (1.0 - clean.confidence[detection])
        return track, detection, cost

    def _associate(self, clean: _Clean) -> tuple[IntArray, IntArray]:
        """Matched tracks and detections, in three stages (ByteTrack, Zhang et al. 2022).

        Confirmed tracks take high-confidence detections first; those left over take low-confidence ones;
        tentative tracks take what is left of the high-confidence ones.
        """
        n, m = len(self._id), clean.xy.shape[1]
        if n == 0 or m == 0:
            return _NO_IDS, _NO_IDS
        track, detection, cost = self._pair_costs(clean)
        confirmed = self._id > 0
        high = clean.confidence >= self.config.high_confidence
        free_t, free_d = np.ones(n, bool), np.ones(m, bool)
        found_t, found_d = [], []
        for of_track, of_detection in ((confirmed, high), (confirmed, ~high), (~confirmed, high)):
            pairs = np.flatnonzero((of_track & free_t)[track] & (of_detection & free_d)[detection])
            t, d, _ = assign(track[pairs], detection[pairs], cost[pairs], self.config.cost_limit)
            free_t[t] = False
            free_d[d] = False
            found_t.append(t)
            found_d.append(d)
        return np.concatenate(found_t), np.concatenate(found_d)

    def _correct(self, track: IntArray, detection: IntArray, clean: _Clean, t_ns: int) -> None:
        """Filter the matched tracks, confirm those with enough evidence, and start new ones."""
        c = self.config
        variance = c.measurement_sd_px**2
        self._match = np.full(len(self._id), -1)
        self._match[track] = detection
        if len(track):
            self._bank.update(track, clean.xy[:, detection], np.full(len(track), variance))
            size_noise = c.size_noise**2
            gain = self._size_variance[track] / (self._size_variance[track] + size_noise)
            self._log_size[:, track] += gain * (clean.log_size[:, detection] - self._log_size[:, track])
            self._size_variance[track] *= 1.0 - gain
            self._hits[track] += 1
            self._confidence_sum[track] += clean.confidence[detection]
            self._hit_ns[track] = t_ns
        fresh = clean.confidence >= c.new_track_confidence
        fresh[detection] = False
        self._start(np.flatnonzero(fresh), clean, t_ns)
        ready = (self._id == 0) & (self._hit_ns == t_ns) & (self._hits >= c.confirm_hits)
        ready &= self._confidence_sum >= c.confirm_confidence
        ready &= t_ns - self._born_ns >= c.confirm_age_s * 1e9
        rows = np.flatnonzero(ready)
        if len(rows):
            self._id[rows] = np.arange(self._next_id, self._next_id + len(rows))
            self._next_id += len(rows)
            self.counters.tracks += len(rows)

    def _start(self, detection: IntArray, clean: _Clean, t_ns: int) -> None:
        k = len(detection)
        if k == 0:
            return
        c = self.config
        self._bank.append(
            clean.xy[:, detection], np.full(k, c.measurement_sd_px**2), c.initial_speed_sd_px_s
        )
        self._id = np.concatenate([self._id, np.zeros(k, np.int64)])
        self._match = np.concatenate([self._match, detection])
        self._hits = np.concatenate([self._hits, np.ones(k, np.int64)])
        self._confidence_sum = np.concatenate([self._confidence_sum, clean.confidence[detection]])
        self._born_ns = np.concatenate([self._born_ns, np.full(k, t_ns)])
        self._hit_ns = np.concatenate([self._hit_ns, np.full(k, t_ns)])
        self._log_size = np.concatenate([self._log_size, clean.log_size[:, detection]], axis=1)
        self._size_variance = np.concatenate([self._size_variance, np.full(k, c.size_noise**2)])

    def _keep(self, keep: BoolArray) -> IntArray:
        """Drop the tracks that are not kept; the ids of the dropped ones that had been put out."""
        rows = np.flatnonzero(keep)
        if len(rows) == len(keep):
            return _NO_IDS
        ended = self._id[~keep & (self._id > 0)]
        self._bank.take(rows)
        for name in ("_id", "_match", "_hits", "_confidence_sum", "_born_ns", "_hit_ns", "_size_variance"):
            setattr(self, name, getattr(self, name)[rows])
        self._log_size = self._log_size[:, rows]
        return ended

    def _end_missed(self, t_ns: int) -> IntArray:
        c = self.config
        missed_s = (t_ns - self._hit_ns) / 1e9
        return self._keep(missed_s <= np.where(self._id > 0, c.max_miss_s, c.tentative_miss_s))

    def _put_out(self, d: Detections, clean: _Clean, ended: IntArray) -> Tracks:
        """The confirmed tracks that were seen, and those missed for a short while whose place is still known."""
        c = self.config
        covariance = self._bank.position_moments()[1]
        sd_px = np.sqrt(np.maximum((covariance[0] + covariance[2]) / 2, 0.0))
        size_px = np.exp(self._log_size.mean(axis=0))
        seen = self._match >= 0
        shown = seen | (
            (d.t_ns - self._hit_ns <= c.max_predicted_s * 1e9) & (sd_px <= c.max_predicted_sd_of_size * size_px)
        )
        rows = np.flatnonzero(shown & (self._id > 0))
        rows = rows[np.argsort(self._id[rows])]
        state = self._bank.mean_state()[:, rows]
        centre = state[(X, Y), :]
        half = np.exp(self._log_size[:, rows]) / 2
        predicted = ~seen[rows]
        match = self._match[rows]
        measured = np.full((len(rows), 2), np.nan)
        confidence = np.zeros(len(rows), np.float32)
        measured[~predicted] = clean.xy.T[match[~predicted]]
        confidence[~predicted] = clean.confidence[match[~predicted]]
        return Tracks(
            frame=d.frame,
            t_ns=d.t_ns,
            field=d.field,
            track_id=self._id[rows],
            xyxy=np.concatenate([centre - half, centre + half]).T.astype(np.float32),
            measured_xy_px=measured,
            confidence=confidence,
            predicted=predicted,
            velocity_px_s=state[(VX, VY), :].T,
            ended_ids=ended,
        )
