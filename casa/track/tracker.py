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
from casa.track.population import Population
from casa.types import BoolArray, Detections, FloatArray, IntArray, Tracks

_NO_IDS = np.empty(0, np.int64)


def motion_models(config: TrackConfig) -> list[MotionModel]:
    """The models that a configuration names, in its order."""
    sd = config.acceleration_sd_px_s2
    known = {
        "cv_low": MotionModel("cv_low", 1, config.cv_low_density_px2_s3, sd),
        "cv_high": MotionModel("cv_high", 1, config.cv_high_density_px2_s3, sd),
        "beat": MotionModel("beat", 1, config.beat_density_px2_s3, sd, beat_sd_px=config.beat_sd_px),
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


@dataclass(frozen=True, slots=True)
class _Usable:
    """The usable detections of a frame, the detection on the last axis."""

    xy: FloatArray  # (2, m) centres
    log_size: FloatArray  # (2, m) log width and height
    confidence: FloatArray  # (m,)


class Tracker:
    """Tracks detections frame by frame.

    Parameters
    ----------
    config : see `TrackConfig`; the defaults come from the ablation in docs/tracker.md.
    """

    def __init__(self, config: TrackConfig | None = None) -> None:
        self.config = config = config or TrackConfig()
        self.counters = TrackerCounters()
        models = motion_models(config)
        self._bank = ImmBank(models, config.mode_weights or (1.0,) * len(models), config.mode_redraw_s)
        self._tracks = Population.empty()
        self._t_ns: int | None = None
        self._next_id = 1

    def __len__(self) -> int:
        """Tracks alive, tentative ones too."""
        return len(self._tracks)

    def update(self, d: Detections) -> Tracks:
        """Take the detections of the next frame (none is a frame too) and put out its tracks.

        Raises
        ------
        InputError : the frame's time is not later than the last one's. The tracker is as before, so that the
            next good frame is tracked over the true time step.
        """
        step_s = self._step_s(d)
        usable = self._usable(d)
        ended = [_NO_IDS]
        if step_s > self.config.max_miss_s and len(self._tracks):
            self.counters.restarts += 1
            ended.append(self.finish())
        track = detection = _NO_IDS
        if len(self._tracks):
            self._bank.predict(step_s)
            self._tracks.size_variance += self.config.size_drift_per_sqrt_s**2 * step_s
            track, detection = self._associate(usable)
            self._correct(track, detection, usable, d.t_ns, step_s)
        self._start(detection, usable, d.t_ns)
        self._confirm(usable, d.t_ns)
        ended.append(self._end_missed(d.t_ns))
        self._t_ns = d.t_ns
        self.counters.frames += 1
        return self._put_out(d, usable, np.concatenate(ended))

    def finish(self) -> IntArray:
        """End every track; gives the ids of those that had been put out."""
        return self._keep(np.zeros(len(self._tracks), bool))

    def _step_s(self, d: Detections) -> float:
        """Time since the last frame, 0 for the first."""
        if self._t_ns is None:
            return 0.0
        if d.t_ns <= self._t_ns:
            self.counters.refused_frames += 1
            raise InputError(
                f"frame {d.frame}: its time {d.t_ns / 1e9:.6f} s is not later than the last frame's "
                f"{self._t_ns / 1e9:.6f} s and speeds would be wrong: repair the timestamps, or give a frame rate"
            )
        return (d.t_ns - self._t_ns) / 1e9

    def _usable(self, d: Detections) -> _Usable:
        """The detections of tracked classes that are boxes, in float64; what is no box is counted."""
        c = self.config
        xyxy = d.xyxy.T.astype(np.float64)
        size = xyxy[2:] - xyxy[:2]
        with np.errstate(invalid="ignore"):
            box = (size > 0).all(axis=0) & np.isfinite(xyxy.sum(axis=0)) & np.isfinite(d.confidence)
        self.counters.bad_boxes += len(box) - int(np.count_nonzero(box))
        box &= d.confidence >= np.float32(c.low_confidence)
        of_class = d.class_id == c.classes[0]
        for other in c.classes[1:]:
            of_class |= d.class_id == other
        box &= of_class
        confidence = d.confidence.astype(np.float64)
        if not box.all():
            xyxy, size, confidence = xyxy[:, box], size[:, box], confidence[box]
        return _Usable((xyxy[:2] + xyxy[2:]) / 2, np.log(size), confidence)

    def _pair_costs(self, usable: _Usable) -> tuple[IntArray, IntArray, FloatArray]:
        """Gated pairs of tracks and detections, and what each would cost.

        cost = (nu + 2) ln(1 + d²/nu) + spread_weight ln(det S / R²) + size_weight s² + iou_weight (1 - IoU)
               + miss_weight miss_rate - confidence_weight ln(confidence)

        d is the Mahalanobis distance to the predicted centre under S = predicted covariance + R; the first two
        terms are -2 times the log-density of Student's t with nu = ``cost_tail`` degrees of freedom (Lange, Little
        & Taylor 1989), whose tail forgives the turn that no model foresaw. s is the size mismatch over its sd.
        """
        c, tracks = self.config, self._tracks
        mean, covariance = self._bank.position_moments()
        tracks.predicted_sd_px = np.sqrt((covariance[0] + covariance[2]) / 2)
        variance = c.measurement_sd_px**2
        xx, xy, yy = covariance[0] + variance, covariance[1], covariance[2] + variance
        reach = np.minimum(np.sqrt(c.gate_d2 * np.maximum(xx, yy)), c.max_reach_px)
        track, detection = pairs_in_reach(mean, reach, usable.xy)
        det = xx * yy - xy * xy
        dx, dy = usable.xy.take(detection, axis=1) - mean.take(track, axis=1)
        a, b, g = (yy / det)[track], (xy / det)[track], (xx / det)[track]
        d2 = (a * dx - 2 * b * dy) * dx + g * dy * dy
        near = np.flatnonzero(d2 <= c.gate_d2)
        track, detection, d2 = track[near], detection[near], d2[near]
        of_track = c.spread_weight * np.log(det / variance**2) + c.miss_weight * tracks.miss_rate
        of_detection = -c.confidence_weight * np.log(np.maximum(usable.confidence, 1e-3))
        cost = (c.cost_tail + 2) * np.log1p(d2 / c.cost_tail) + of_track[track] + of_detection[detection]
        if c.size_weight:
            mismatch = usable.log_size[:, detection] - tracks.log_size[:, track]
            scale = c.size_weight / (2 * c.size_noise**2 + tracks.size_variance)
            cost += scale[track] * (mismatch * mismatch).sum(axis=0)
        if c.iou_weight:
            half_t, half_d = np.exp(tracks.log_size) / 2, np.exp(usable.log_size) / 2
            low = np.maximum((mean - half_t)[:, track], (usable.xy - half_d)[:, detection])
            high = np.minimum((mean + half_t)[:, track], (usable.xy + half_d)[:, detection])
            common = np.maximum(high - low, 0.0).prod(axis=0)
            union = 4 * (half_t.prod(axis=0)[track] + half_d.prod(axis=0)[detection]) - common
            cost += c.iou_weight * (1.0 - common / union)
        return track, detection, cost

    def _associate(self, usable: _Usable) -> tuple[IntArray, IntArray]:
        """Matched tracks and detections, in three stages (ByteTrack, Zhang et al. 2022).

        Confirmed tracks take high-confidence detections first; those left over take low-confidence ones;
        tentative tracks take what is left of the high-confidence ones.
        """
        track, detection, cost = self._pair_costs(usable)
        confirmed = (self._tracks.track_id > 0)[track]
        high = (usable.confidence >= self.config.high_confidence)[detection]
        free_t, free_d = np.ones(len(self._tracks), bool), np.ones(len(usable.confidence), bool)
        found_t, found_d = [], []
        for stage in (confirmed & high, confirmed & ~high, ~confirmed & high):
            if found_t:
                stage &= free_t[track] & free_d[detection]
            pairs = np.flatnonzero(stage)
            if len(pairs) == 0:
                continue
            t, d = assign(track[pairs], detection[pairs], cost[pairs], self.config.cost_limit)
            free_t[t] = False
            free_d[d] = False
            found_t.append(t)
            found_d.append(d)
        if not found_t:
            return _NO_IDS, _NO_IDS
        return np.concatenate(found_t), np.concatenate(found_d)

    def _correct(self, track: IntArray, detection: IntArray, usable: _Usable, t_ns: int, step_s: float) -> None:
        """Filter the matched tracks' centres and sizes, and note who was missed."""
        c, tracks = self.config, self._tracks
        keep = np.exp(-step_s / c.miss_rate_s)
        tracks.match = np.full(len(tracks), -1)
        tracks.match[track] = detection
        tracks.miss_rate = keep * tracks.miss_rate + (1.0 - keep) * (tracks.match < 0)
        if len(track) == 0:
            return
        centre, centre_variance = np.zeros((2, len(tracks))), np.full(len(tracks), np.inf)
        centre[:, track] = usable.xy[:, detection]
        centre_variance[track] = c.measurement_sd_px**2
        self._bank.update(centre, centre_variance)
        variance = tracks.size_variance[track]
        gain = variance / (variance + c.size_noise**2)
        tracks.log_size[:, track] += gain * (usable.log_size[:, detection] - tracks.log_size[:, track])
        tracks.size_variance[track] = (1.0 - gain) * variance
        tracks.hits[track] += 1
        tracks.confidence_sum[track] += usable.confidence[detection]
        tracks.hit_ns[track] = t_ns

    def _start(self, matched: IntArray, usable: _Usable, t_ns: int) -> None:
        """Start a tentative track from every confident detection that no track took."""
        c = self.config
        fresh = usable.confidence >= c.new_track_confidence
        fresh[matched] = False
        rows = np.flatnonzero(fresh)
        if len(rows) == 0:
            return
        self._bank.append(usable.xy[:, rows], np.full(len(rows), c.measurement_sd_px**2), c.initial_speed_sd_px_s)
        self._tracks.extend(
            Population.born(
                rows, usable.confidence[rows], t_ns, usable.log_size[:, rows], c.size_noise**2, c.new_track_miss_rate
            )
        )

    def _confirm(self, usable: _Usable, t_ns: int) -> None:
        """Give an id to each tentative track that was just seen and has evidence enough."""
        c, tracks = self.config, self._tracks
        ready = (tracks.track_id == 0) & (tracks.match >= 0) & (tracks.hits >= c.confirm_hits)
        ready &= tracks.confidence_sum >= c.confirm_confidence
        ready &= t_ns - tracks.born_ns >= c.confirm_age_s * 1e9
        rows = np.flatnonzero(ready)
        if len(rows):
            # by place, so that the order in which a detector lists its boxes does not name the tracks
            x, y = usable.xy[:, tracks.match[rows]]
            rows = rows[np.lexsort((y, x))]
            tracks.track_id[rows] = np.arange(self._next_id, self._next_id + len(rows))
            self._next_id += len(rows)
            self.counters.tracks += len(rows)

    def _end_missed(self, t_ns: int) -> IntArray:
        """End the tracks that were missed for too long, tentative ones sooner and young ones too."""
        c, tracks = self.config, self._tracks
        missed_s = (t_ns - tracks.hit_ns) / 1e9
        limit_s = np.minimum(c.max_miss_s, c.tentative_miss_s + c.miss_per_age * (tracks.hit_ns - tracks.born_ns) / 1e9)
        return self._keep(missed_s <= np.where(tracks.track_id > 0, limit_s, c.tentative_miss_s))

    def _keep(self, keep: BoolArray) -> IntArray:
        """Drop the tracks that are not kept; gives the ids of the dropped ones that had been put out."""
        rows = np.flatnonzero(keep)
        if len(rows) == len(keep):
            return _NO_IDS
        ended = self._tracks.track_id[~keep]
        self._bank.take(rows)
        self._tracks.take(rows)
        return np.sort(ended[ended > 0])

    def _put_out(self, d: Detections, usable: _Usable, ended: IntArray) -> Tracks:
        """The confirmed tracks that were seen, and those missed for a short while whose place is still known."""
        c, tracks = self.config, self._tracks
        seen = tracks.match >= 0
        missed_ns = d.t_ns - tracks.hit_ns
        shown = missed_ns <= np.minimum(c.max_predicted_s * 1e9, c.predicted_per_age * (tracks.hit_ns - tracks.born_ns))
        shown &= tracks.predicted_sd_px <= c.max_predicted_sd_of_size * np.exp(tracks.log_size.mean(axis=0))
        rows = np.flatnonzero((tracks.track_id > 0) & (seen | shown))
        rows = rows[np.argsort(tracks.track_id[rows])]
        predicted = ~seen[rows]
        hit = np.flatnonzero(~predicted)
        match = tracks.match[rows[hit]]
        state = self._bank.mean_state()[:, rows]
        centre = state[(X, Y), :]
        centre[:, hit] = self._bank.head(rows[hit], usable.xy[:, match], c.measurement_sd_px**2)
        half = np.exp(tracks.log_size[:, rows]) / 2
        measured = np.full((len(rows), 2), np.nan)
        measured[hit] = usable.xy[:, match].T
        confidence = np.zeros(len(rows), np.float32)
        confidence[hit] = usable.confidence[match]
        return Tracks(
            frame=d.frame,
            t_ns=d.t_ns,
            field=d.field,
            track_id=tracks.track_id[rows],
            xyxy=np.concatenate([centre - half, centre + half]).T.astype(np.float32),
            measured_xy_px=measured,
            confidence=confidence,
            predicted=predicted,
            velocity_px_s=state[(VX, VY), :].T,
            ended_ids=ended,
        )
