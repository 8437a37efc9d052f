"""Kinematics of a whole table of tracks, through the same accumulator that a running session uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from casa.config import KinematicsConfig
from casa.kinematics.accumulator import KinematicsAccumulator
from casa.types import Calibration, KinematicsTable, Summary, Tracks, TrackTable


def frames_of(table: TrackTable) -> Iterator[Tracks]:
    """A table as the Tracks of its frames, in order of time; a track ends with its last row."""
    order = np.lexsort((table.track_id, table.field, table.frame, table.t_ns))
    t = table.select(order)
    if not len(t):
        return
    new = (np.diff(t.t_ns) != 0) | (np.diff(t.frame) != 0) | (np.diff(t.field) != 0)
    starts = np.concatenate([[0], np.flatnonzero(new) + 1, [len(t)]])
    _, last_reversed = np.unique(t.track_id[::-1], return_index=True)
    is_last = np.zeros(len(t), bool)
    is_last[len(t) - 1 - last_reversed] = True
    half = np.stack([t.w_px, t.h_px], axis=1) / 2
    centre = np.stack([t.cx_px, t.cy_px], axis=1)
    measured = np.stack([t.x_measured_px, t.y_measured_px], axis=1)
    xyxy = np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)
    for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        rows = slice(start, stop)
        ids = t.track_id[rows]
        yield Tracks(
            frame=int(t.frame[start]),
            field=int(t.field[start]),
            t_ns=int(t.t_ns[start]),
            track_id=ids,
            xyxy=xyxy[rows],
            measured_xy_px=measured[rows],
            confidence=t.confidence[rows].astype(np.float32),
            predicted=t.predicted[rows],
            velocity_px_s=np.zeros((stop - start, 2)),
            ended_ids=ids[is_last[rows]],
        )


def analyse_tracks(
    table: TrackTable,
    config: KinematicsConfig | None = None,
    calibration: Calibration | None = None,
    frame_size_px: tuple[int, int] | None = None,
    n_frames: int | None = None,
) -> tuple[KinematicsTable, Summary]:
    """Kinematics of every track of a table, sorted by track, and of the field.

    Parameters
    ----------
    table : rows in any order. config, calibration, frame_size_px : as for ``KinematicsAccumulator``.
    n_frames : pictures that were looked at, for the mean number of heads; by default those from the table's first
        picture to its last, since pictures without a track have no row.
    """
    accumulator = KinematicsAccumulator(config, calibration, frame_size_px)
    parts = [accumulator.add(tracks) for tracks in frames_of(table)]
    seen = len(parts)
    parts.append(accumulator.finish())
    rows = KinematicsTable.concatenate(parts)
    summary = accumulator.summary()
    looked_at = n_frames if n_frames is not None else _pictures(table)
    if seen and looked_at > seen:
        part = seen / looked_at
        heads, concentration = summary.heads_per_frame, summary.concentration_m_per_ml
        summary = replace(
            summary,
            heads_per_frame=None if heads is None else heads * part,
            concentration_m_per_ml=None if concentration is None else concentration * part,
        )
    return rows.select(np.argsort(rows.track_id, kind="stable")), summary


def _pictures(table: TrackTable) -> int:
    """Pictures from the first to the last in a table, at its usual step."""
    index = np.unique(2 * table.frame + table.field)
    if len(index) < 2:
        return len(index)
    return int((index[-1] - index[0]) // np.median(np.diff(index))) + 1
