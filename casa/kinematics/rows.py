"""From the samples of one track to its row: what is summed piece by piece, and the ratios at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from casa.config import KinematicsConfig
from casa.kinematics.grade import Limits, main_grade, time_by_grade, window_edges
from casa.kinematics.jitter import Jitter, remove_jitter
from casa.kinematics.paths import PathSums, add_gaps, average_path, cut_at_long_gaps, find_gaps, measure_path
from casa.types import Calibration, FloatArray, IntArray, KinematicsFlag, KinematicsTable

#: Below this rate ALH and BCF are not trustworthy; half a percent of slack, so that 49.99 images/s count as 50.
TRUSTED_RATE_HZ = 50.0 * 0.995


@dataclass(slots=True)
class TrackSums:
    """What is kept of a track: sums over the pieces measured so far, never its samples."""

    px: PathSums = field(default_factory=PathSums)
    um: PathSums = field(default_factory=PathSums)
    seconds_by_grade: FloatArray = field(default_factory=lambda: np.zeros(4))
    n_samples: int = 0
    start_ns: int = 0
    end_ns: int = 0
    first_px: FloatArray = field(default_factory=lambda: np.full(2, np.nan))
    last_px: FloatArray = field(default_factory=lambda: np.full(2, np.nan))
    jitter_corrected: bool = False
    drift_corrected: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """Samples of one track to be measured together.

    index (n,) picture numbers; t_ns (n,) times; xy_px (n, 2) measured positions with the drift taken out if it is to
    be. jitter: as estimated or told. correct: whether the speeds are corrected for it.
    """

    index: IntArray
    t_ns: IntArray
    xy_px: FloatArray
    jitter: Jitter
    correct: bool


def limits_of(config: KinematicsConfig) -> Limits:
    """The grading limits of a configuration."""
    return Limits(config.grade_window_s, config.min_duration_s, config.immotile_vap_um_s, config.immotile_vcl_um_s)


def measure_piece(
    sums: TrackSums, piece: Piece, config: KinematicsConfig, calibration: Calibration | None, last: bool
) -> int:
    """Add a piece to a track's sums.

    Returns
    -------
    The sample at which the next piece begins (and this one ended): the end of the last whole grading window, or for
    the ``last`` piece the last sample. A piece ends and the next begins at the same sample, so no step is lost.
    """
    t_s = (piece.t_ns - piece.t_ns[0]) / 1e9
    gap = find_gaps(piece.index, t_s)
    runs = cut_at_long_gaps(t_s, gap)
    quiet = remove_jitter(piece.index, t_s, piece.xy_px, piece.jitter)
    path = quiet if piece.correct else piece.xy_px
    windows = [
        window_edges(t_s[first:stop], config.grade_window_s, whole_track=last or stop < len(t_s))
        for first, stop in runs
    ]
    end = len(t_s) - 1
    if not last:
        first = runs[-1][0]
        end = first + windows[-1][-1][1] if windows[-1] else (first or end)
        runs[-1] = (first, end + 1)

    if sums.n_samples == 0:
        sums.start_ns, sums.first_px, sums.n_samples = int(piece.t_ns[0]), path[0].copy(), 1
    sums.n_samples += end
    sums.end_ns, sums.last_px = int(piece.t_ns[end]), path[end].copy()
    sums.jitter_corrected |= piece.correct and piece.jitter.sigma_px > 0
    if end == 0:
        return 0

    window_s = config.average_window_ms / 1e3
    scale = None if calibration is None else np.array([calibration.um_per_px_x, calibration.um_per_px_y])
    square = scale is not None and scale[0] == scale[1]
    px, um = PathSums(), PathSums()
    for (first, stop), edges in zip(runs, windows, strict=True):
        if stop - first < 2:
            continue
        times, xy, missed = t_s[first:stop], path[first:stop], gap[first : stop - 1]
        mean = average_path(times, xy, window_s)
        px.add(measure_path(times, xy, missed, mean, window_s))
        if scale is None:
            continue
        if not square:
            um.add(measure_path(times, xy * scale, missed, mean * scale, window_s))
        still = quiet[first:stop]
        still_mean = mean if path is quiet else average_path(times, still, window_s)
        sums.seconds_by_grade += time_by_grade(
            times, xy * scale, still * scale, still_mean * scale, edges, limits_of(config)
        )
    t_s, path, gap = t_s[: end + 1], path[: end + 1], gap[:end]
    add_gaps(px, t_s, path, gap)
    sums.px.add(px)
    if square and scale is not None:
        sums.um.add(px.scaled(float(scale[0])))
    elif scale is not None:
        add_gaps(um, t_s, path * scale, gap)
        sums.um.add(um)
    return end


def _speed(length: float, duration_s: float) -> float:
    return length / duration_s if duration_s > 0 else np.nan


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else np.nan


def row_of(track_id: int, sums: TrackSums, config: KinematicsConfig, calibration: Calibration | None) -> dict[str, Any]:
    """One row of a KinematicsTable, by column."""
    duration_s = (sums.end_ns - sums.start_ns) / 1e9
    moved = sums.last_px - sums.first_px
    px, um = sums.px, sums.um
    row: dict[str, Any] = {
        "track_id": track_id,
        "n_frames": sums.n_samples,
        "t_start_ns": sums.start_ns,
        "duration_s": duration_s,
        "vcl_px_s": px.curvilinear_velocity(),
        "vsl_px_s": _speed(float(np.hypot(*moved)), duration_s),
        "vap_px_s": px.average_path_velocity(),
        "bcf_hz": px.beat_cross_frequency_hz(),
        "motility_grade": main_grade(sums.seconds_by_grade),
        "time_by_grade_s": sums.seconds_by_grade,
    }
    row["alh_mean_px"], row["alh_max_px"] = px.lateral_head_displacement()
    vcl, vsl, vap, shape = row["vcl_px_s"], row["vsl_px_s"], row["vap_px_s"], px
    if calibration is not None:
        vcl, vap, shape = um.curvilinear_velocity(), um.average_path_velocity(), um
        across = moved * np.array([calibration.um_per_px_x, calibration.um_per_px_y])
        vsl = _speed(float(np.hypot(*across)), duration_s)
        row["vcl_um_s"], row["vsl_um_s"], row["vap_um_s"] = vcl, vsl, vap
        row["alh_mean_um"], row["alh_max_um"] = um.lateral_head_displacement()
        row["bcf_hz"] = um.beat_cross_frequency_hz()
    else:
        row |= dict.fromkeys(("vcl_um_s", "vsl_um_s", "vap_um_s", "alh_mean_um", "alh_max_um"), np.nan)
    row["mad_deg"] = shape.mean_turn_deg()
    row["lin"], row["str"], row["wob"] = _ratio(vsl, vcl), _ratio(vsl, vap), _ratio(vap, vcl)
    row["flags"] = _flags(sums, row, config, calibration)
    return row


def _flags(sums: TrackSums, row: dict[str, Any], config: KinematicsConfig, calibration: Calibration | None) -> int:
    flag = KinematicsFlag
    bits = 0
    duration_s = row["duration_s"]
    rate_hz = sums.px.rate_hz()
    if duration_s < config.grade_window_s * 0.98:
        bits |= flag.SHORT
    if rate_hz < TRUSTED_RATE_HZ:
        bits |= flag.LOW_FRAME_RATE
    if sums.px.n_gaps:
        bits |= flag.GAPS
    if calibration is None:
        bits |= flag.UNCALIBRATED
    if row["bcf_hz"] > rate_hz / 4:
        bits |= flag.BCF_NEAR_NYQUIST
    if sums.jitter_corrected:
        bits |= flag.JITTER_CORRECTED
    if sums.drift_corrected:
        bits |= flag.DRIFT_CORRECTED
    if not np.isfinite(row["vap_px_s"]):
        bits |= flag.TOO_FEW_POINTS
    return bits


def table_of(rows: list[dict[str, Any]]) -> KinematicsTable:
    """The rows as a table, in order."""
    if not rows:
        return KinematicsTable.empty()
    return KinematicsTable(
        **{name: np.array([row[name] for row in rows]) for name in KinematicsTable.empty().columns()}
    )
