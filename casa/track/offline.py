"""The offline pass: finished tracks cut where they were in doubt, joined anew, smoothed, short misses filled.

Online, a tracker decides with what it has seen so far. Here the whole path is known on both sides of every miss, so
each piece between two long misses is joined to the piece that motion backward and forward, size and time fit best, by
one global assignment. Measured centres are kept as they are, which kinematics use; boxes are smoothed, for identity
and display. Where tracks met without a miss the online decision stands: to cut there was tried, and lost more than it
won (docs/tracker.md). All limits are in px and seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from casa.config import OfflineConfig, TrackConfig
from casa.track.associate import assign
from casa.track.smooth import SmootherModel, filter_ends, smooth_path, smooth_size
from casa.track.table import pictures
from casa.types import DetectionTable, FloatArray, IntArray, TrackTable

#: Spread of the log width and height of different heads (sd per axis).
_SIZE_SPREAD = 0.15
#: A measured centre is that of a detection of its picture this near, px: boxes were rounded to single precision.
_SAME_PX = 0.02
#: Without the frame's size its edges are taken from what was detected, which so few tracks do not tell.
_TRACKS_THAT_TELL_EDGES = 10


@dataclass(frozen=True, slots=True, eq=False)
class PictureTimes:
    """Every picture that was looked at, in order of time: frame, field, t_ns (n,) int64."""

    frame: IntArray
    field: IntArray
    t_ns: IntArray

    @classmethod
    def of_detections(cls, table: DetectionTable) -> PictureTimes:
        """The pictures of a table of detections, with those in which nothing was found (`casa.track.pictures`)."""
        seen = np.array([(p.frame, p.field, p.t_ns) for p in pictures(table)], np.int64).reshape(-1, 3)
        return cls(*seen.T)

    def including(self, tracks: TrackTable) -> PictureTimes:
        """These and the pictures of a table of tracks, each time once."""
        t_ns, rows = np.unique(np.concatenate([self.t_ns, tracks.t_ns]), return_index=True)
        frame, field = np.concatenate([self.frame, tracks.frame]), np.concatenate([self.field, tracks.field])
        return PictureTimes(frame[rows], field[rows], t_ns)


@dataclass(frozen=True, slots=True, eq=False)
class _Paths:
    """Measured rows sorted by piece and time, and the pieces as first and last rows."""

    t_s: FloatArray  # (n,)
    xy: FloatArray  # (n, 2)
    size: FloatArray  # (n, 2)
    track_id: IntArray  # (n,)
    first: IntArray  # (m,)
    last: IntArray  # (m,)


def refine(
    tracks: TrackTable,
    detections: DetectionTable | None = None,
    times: PictureTimes | None = None,
    *,
    track: TrackConfig | None = None,
    offline: OfflineConfig | None = None,
    frame_size_px: tuple[int, int] | None = None,
) -> TrackTable:
    """Refined tracks, sorted by track and time.

    Parameters
    ----------
    tracks : online tracks. detections : what they were made from, for the measured sizes; None: sizes are the online
        boxes'. times : every picture looked at; by default those of ``detections`` and ``tracks``.
    track : noise of the detections; the tracker's own. frame_size_px : (width, height); by default the range of the
        measured centres.

    Returns
    -------
    TrackTable : from each track's first measured row to its last; measured centres and confidences as given, boxes
        smoothed, filled misses ``predicted``. A track has the online id of its first piece, and a piece that was
        cut off an id above all online ones.
    """
    track, offline = track or TrackConfig(), offline or OfflineConfig()
    measured = tracks.select(~tracks.predicted)
    measured = measured.select(np.lexsort((measured.t_ns, measured.track_id)))
    if len(measured) == 0:
        return measured
    if times is None:
        none = np.empty(0, np.int64)
        times = PictureTimes(none, none, none) if detections is None else PictureTimes.of_detections(detections)
    times = times.including(tracks)
    paths = _cut(measured, _measured_sizes(measured, detections), offline)
    track_id, piece = _join(paths, track, offline, _edges(measured, frame_size_px))
    row_piece = np.repeat(np.arange(len(paths.first)), paths.last - paths.first + 1)
    order = np.lexsort((measured.t_ns, piece[row_piece], track_id[row_piece]))
    whole = track_id[row_piece][order]
    bounds = np.flatnonzero(np.diff(whole, prepend=-1, append=-1))
    models = _models(offline.densities_px2_s3, track)
    parts = [
        _smooth(measured.select(order[a:b]), paths.size[order[a:b]], int(whole[a]), times, models, track, offline)
        for a, b in pairwise(bounds.tolist())
    ]
    return TrackTable.concatenate(parts)


def _models(densities_px2_s3: tuple[float, ...], track: TrackConfig) -> tuple[SmootherModel, ...]:
    steady = tuple(SmootherModel(density) for density in densities_px2_s3)
    return (*steady, SmootherModel(track.beat_density_px2_s3, track.beat_sd_px))


def _models_to_join(track: TrackConfig) -> tuple[SmootherModel, ...]:
    """The tracker's own: a gap says too little to tell more models apart."""
    return _models((track.cv_low_density_px2_s3, track.cv_high_density_px2_s3), track)


def _measured_sizes(measured: TrackTable, detections: DetectionTable | None) -> FloatArray:
    """(n, 2) width and height of the detection that each row measured, or else of the row's own box."""
    size = np.stack([measured.w_px, measured.h_px], axis=1)
    if detections is None:
        return size
    apart = 10 * (1 + np.abs(measured.x_measured_px).max())
    detections = detections.select((np.abs(detections.cx_px) < apart) & np.isfinite(detections.cy_px))  # NaN is not
    if len(detections) == 0:
        return size
    from scipy.spatial import KDTree

    _, picture = np.unique(np.concatenate([detections.t_ns, measured.t_ns]), return_inverse=True)
    n = len(detections)
    tree = KDTree(np.stack([picture[:n] * apart, detections.cx_px, detections.cy_px], axis=1))
    query = np.stack([picture[n:] * apart, measured.x_measured_px, measured.y_measured_px], axis=1)
    distance, row = tree.query(query, distance_upper_bound=_SAME_PX)
    found = np.flatnonzero(np.isfinite(distance))
    size[found] = np.stack([detections.w_px, detections.h_px], axis=1)[np.asarray(row)[found]]
    return size


def _edges(measured: TrackTable, frame_size_px: tuple[int, int] | None) -> FloatArray:
    """(4,) left, top, right, bottom that heads leave the field by, px; infinite where they cannot be told."""
    if frame_size_px is not None:
        return np.array([0.0, 0.0, *frame_size_px])
    if len(np.unique(measured.track_id)) < _TRACKS_THAT_TELL_EDGES:
        return np.array([-np.inf, -np.inf, np.inf, np.inf])
    x, y = measured.x_measured_px, measured.y_measured_px
    return np.array([x.min(), y.min(), x.max(), y.max()])


def _cut(measured: TrackTable, size: FloatArray, offline: OfflineConfig) -> _Paths:
    """Cut every track at its long misses."""
    t_s = measured.t_ns / 1e9
    new = (np.diff(measured.track_id) != 0) | (np.diff(t_s) > offline.cut_miss_s)
    first = np.concatenate([[0], np.flatnonzero(new) + 1])
    xy = np.stack([measured.x_measured_px, measured.y_measured_px], axis=1)
    return _Paths(t_s, xy, size, measured.track_id, first, np.append(first[1:], len(t_s)) - 1)


@dataclass(frozen=True, slots=True, eq=False)
class _Ends:
    """Every piece at one of its ends, as `filter_ends` gives it."""

    state: FloatArray
    covariance: FloatArray
    evidence: FloatArray
    log_size: FloatArray
    size_variance: FloatArray


def _ends(paths: _Paths, track: TrackConfig, offline: OfflineConfig, *, late: bool) -> _Ends:
    models = _models_to_join(track)
    first, last = (paths.first, paths.last) if late else (paths.last, paths.first)
    m, k = len(first), len(models)
    ends = _Ends(np.empty((m, k, 4)), np.empty((m, k, 3)), np.empty((m, k)), np.empty((m, 2)), np.empty(m))
    filter_ends(
        paths.t_s, paths.xy, np.log(paths.size), first, last,
        np.array([model.density_px2_s3 for model in models]), np.array([model.spread_sd_px**2 for model in models]),
        track.measurement_sd_px**2, track.initial_speed_sd_px_s**2, offline.memory_s,
        track.size_noise**2, track.size_drift_per_sqrt_s**2,
        ends.state, ends.covariance, ends.evidence, ends.log_size, ends.size_variance,
    )  # fmt: skip
    return ends


def _join(paths: _Paths, track: TrackConfig, offline: OfflineConfig, edges: FloatArray) -> tuple[IntArray, IntArray]:
    """Join pieces: (m,) track id of every piece, and (m,) its place among the pieces of its track."""
    ends, starts = _ends(paths, track, offline, late=True), _ends(paths, track, offline, late=False)
    end_s, start_s = paths.t_s[paths.last], paths.t_s[paths.first]
    early, late = _pairs_in_time(end_s, start_s, offline.max_gap_s)
    gap_s = start_s[late] - end_s[early]
    end_xy, start_xy = paths.xy[paths.last], paths.xy[paths.first]
    near = np.hypot(*(start_xy[late] - end_xy[early]).T) <= offline.reach_px + offline.reach_px_s * gap_s
    early, late, gap_s = early[near], late[near], gap_s[near]
    extent = edges[2:] - edges[:2] if np.isfinite(edges).all() else np.ptp(paths.xy, axis=0) + 1.0
    gain = _motion_gain(ends, starts, early, late, gap_s, track, offline, float(extent.prod()))
    gain += _size_gain(ends, starts, early, late, gap_s, track)
    gain -= offline.miss_weight_per_s * gap_s
    of_end, of_start = paths.track_id[paths.last], paths.track_id[paths.first]
    same = (of_end[early] == of_start[late]) & (late == early + 1)
    gain += offline.same_track_gain * same
    room = np.minimum(_room(end_xy, edges)[early], _room(start_xy, edges)[late])
    at_edge = room < offline.edge_of_size * np.exp(ends.log_size[early].mean(axis=1))
    gain -= np.where(at_edge, np.where(same, offline.edge_loss_same_track, np.inf), 0.0)
    early, late = assign(early, late, -gain, offline.join_limit, len(end_s), len(end_s))
    following = np.full(len(end_s), -1)
    following[early] = late
    heads = np.setdiff1d(np.arange(len(end_s)), late)
    heads = heads[np.lexsort((heads, start_s[heads]))]
    track_id, place = np.zeros(len(end_s), np.int64), np.zeros(len(end_s), np.int64)
    taken, fresh = set(), int(paths.track_id.max()) + 1
    for head in heads.tolist():
        own = int(of_start[head])
        if own in taken:
            own, fresh = fresh, fresh + 1
        taken.add(own)
        piece, count = head, 0
        while piece >= 0:
            track_id[piece], place[piece] = own, count
            piece, count = int(following[piece]), count + 1
    return track_id, place


def _pairs_in_time(end_s: FloatArray, start_s: FloatArray, max_gap_s: float) -> tuple[IntArray, IntArray]:
    """Pairs of pieces of which the second starts after the first has ended, ``max_gap_s`` later at most."""
    order = np.argsort(start_s, kind="stable")
    low = np.searchsorted(start_s[order], end_s, "right")
    count = np.searchsorted(start_s[order], end_s + max_gap_s, "right") - low
    count = np.maximum(count, 0)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(np.arange(len(end_s)), count), order[np.repeat(low, count) + within]


def _room(xy: FloatArray, edges: FloatArray) -> FloatArray:
    """(n,) distance to the nearest edge of the field, px."""
    return np.minimum(xy - edges[:2], edges[2:] - xy).min(axis=1)


def _motion_gain(
    ends: _Ends, starts: _Ends, early: IntArray, late: IntArray, gap_s: FloatArray,
    track: TrackConfig, offline: OfflineConfig, area_px2: float,
) -> FloatArray:  # fmt: skip
    """(p,) log of how much likelier place and velocity are of one head than of two.

    One head: the state before the gap, moved over it, and the state after it, filtered backward, differ by what both
    and the gap are uncertain of, in the mixture of the models weighted as both sides bear them out. Two: the second
    starts anywhere in the field with any velocity.
    """
    weight = ends.evidence[early] + starts.evidence[late]
    weight = np.exp(weight - weight.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    dt = gap_s[:, None]
    density = np.array([model.density_px2_s3 for model in _models_to_join(track)])
    end, start = ends.state[early], starts.state[late]
    before, after = np.moveaxis(ends.covariance[early], 2, 0), np.moveaxis(starts.covariance[late], 2, 0)
    xx = before[0] + 2 * dt * before[1] + dt**2 * before[2] + density * dt**3 / 3 + after[0]
    xv = before[1] + dt * before[2] + density * dt**2 / 2 + after[1]
    vv = before[2] + density * dt + after[2]
    det = xx * vv - xv * xv
    free = offline.speed_sd_px_s**2 + after[2]
    log_ratio = np.full(det.shape, np.log(area_px2 / (2 * np.pi)))
    for axis in (0, 2):
        dx = start[..., axis] - end[..., axis] - dt * end[..., axis + 1]
        dv = start[..., axis + 1] - end[..., axis + 1]
        log_ratio -= 0.5 * (np.log(det) + (vv * dx * dx - 2 * xv * dx * dv + xx * dv * dv) / det)
        log_ratio += 0.5 * (np.log(free) + start[..., axis + 1] ** 2 / free)
    top = log_ratio.max(axis=1, keepdims=True)
    return top[:, 0] + np.log((weight * np.exp(log_ratio - top)).sum(axis=1))


def _size_gain(
    ends: _Ends, starts: _Ends, early: IntArray, late: IntArray, gap_s: FloatArray, track: TrackConfig
) -> FloatArray:
    """(p,) log of how much likelier width and height are of one head than of two."""
    variance = ends.size_variance[early] + starts.size_variance[late] + track.size_drift_per_sqrt_s**2 * gap_s
    free = variance + 2 * _SIZE_SPREAD**2
    mismatch = ((ends.log_size[early] - starts.log_size[late]) ** 2).sum(axis=1)
    return np.log(free / variance) - 0.5 * mismatch * (1 / variance - 1 / free)


def _smooth(
    rows: TrackTable, size: FloatArray, track_id: int, times: PictureTimes, models: tuple[SmootherModel, ...],
    track: TrackConfig, offline: OfflineConfig,
) -> TrackTable:  # fmt: skip
    """One track with smoothed boxes, from its first measured row to its last, every picture between them."""
    at = np.searchsorted(times.t_ns, rows.t_ns)
    here = slice(int(at[0]), int(at[-1]) + 1)
    n, at = here.stop - here.start, at - at[0]
    t_s = (times.t_ns[here] - rows.t_ns[0]) / 1e9
    xy, wh, confidence = np.full((n, 2), np.nan), np.full((n, 2), np.nan), np.zeros(n)
    xy[at] = np.stack([rows.x_measured_px, rows.y_measured_px], axis=1)
    wh[at], confidence[at] = size, rows.confidence
    predicted = np.ones(n, bool)
    predicted[at] = False
    centre, variance = smooth_path(
        t_s, xy, models, track.measurement_sd_px**2, track.initial_speed_sd_px_s, offline.memory_s
    )
    wh = smooth_size(t_s, wh, track.size_noise, track.size_drift_per_sqrt_s)
    known = ~predicted | (np.sqrt(variance) <= offline.max_sd_of_size * wh.mean(axis=1))
    return TrackTable(
        frame=times.frame[here], field=times.field[here], t_ns=times.t_ns[here],
        track_id=np.full(n, track_id), cx_px=centre[:, 0], cy_px=centre[:, 1], w_px=wh[:, 0], h_px=wh[:, 1],
        x_measured_px=xy[:, 0], y_measured_px=xy[:, 1], confidence=confidence, predicted=predicted,
    ).select(known)  # fmt: skip
