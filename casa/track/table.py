"""Tracking a whole table of detections, with the very code that tracks online.

Frame numbers that are missing from the table are frames in which nothing was found: they pass too, at the time
between their neighbours, so that short misses are bridged in a table as they are online.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from casa.config import TrackConfig
from casa.errors import InputError
from casa.progress import Progress
from casa.track.tracker import Tracker, TrackerCounters
from casa.types import Detections, DetectionTable, Tracks, TrackTable, centre_size_to_boxes

#: A longer run of missing frames than this many seconds is a pause of the recording: its frames are not made up.
MAX_FILLED_GAP_S = 10.0
#: Frames closer than this many ns are no recording's: frame numbers that leap so are wrong.
_MIN_STEP_NS = 100_000


def pictures(table: DetectionTable) -> Iterator[Detections]:
    """The table's pictures in order of time, the empty ones between them too.

    Raises
    ------
    InputError : two frames at one time, one picture at two times, or frame numbers that run back as time goes on,
        or that leap by more than any camera takes in that time.
    """
    order = np.lexsort((table.field, table.frame, table.t_ns))
    frame, field, t_ns = table.frame[order], table.field[order], table.t_ns[order]
    boxes = centre_size_to_boxes(np.stack([table.cx_px, table.cy_px, table.w_px, table.h_px], axis=1))[order]
    with np.errstate(over="ignore"):  # infinite in single precision: the tracker counts it as no box
        boxes = boxes.astype(np.float32)
    confidence, class_id = table.confidence[order], table.class_id[order]
    change = (np.diff(frame) != 0) | (np.diff(field) != 0) | (np.diff(t_ns) != 0)
    starts = np.concatenate([[0], np.flatnonzero(change) + 1, [len(frame)]]) if len(frame) else np.zeros(1, np.int64)
    previous: tuple[int, int, int] | None = None
    for start, end in pairwise(starts.tolist()):
        now = int(frame[start]), int(field[start]), int(t_ns[start])
        if previous is not None:
            if now[2] <= previous[2]:
                raise InputError(
                    f"frames {previous[0]} and {now[0]} have the same time, {now[2] / 1e9:.6f} s: repair t_s, or "
                    "remove it and give the frame rate"
                )
            if now[:2] <= previous[:2]:
                raise InputError(
                    f"frame {now[0]} at {now[2] / 1e9:.6f} s comes after frame {previous[0]}: frame numbers must "
                    "rise with time, one time a frame: repair t_s, or remove it and give the frame rate"
                )
            missing = now[0] - previous[0] - 1
            if missing > 0 and now[2] - previous[2] <= MAX_FILLED_GAP_S * 1e9:
                step_ns = (now[2] - previous[2]) / (missing + 1)
                if step_ns < _MIN_STEP_NS:
                    raise InputError(
                        f"frame {now[0]} comes {(now[2] - previous[2]) / 1e9:.6f} s after frame {previous[0]}: "
                        "no camera takes so many frames in that time: repair frame or t_s"
                    )
                for k in range(1, missing + 1):
                    yield Detections.empty(previous[0] + k, previous[2] + round(k * step_ns), previous[1])
        yield Detections(
            frame=now[0],
            t_ns=now[2],
            field=now[1],
            xyxy=boxes[start:end],
            confidence=confidence[start:end].astype(np.float32),
            class_id=class_id[start:end],
        )
        previous = now


def tracks_to_table(tracks: list[Tracks]) -> TrackTable:
    """Tracks of many frames as one table, sorted by track and time."""
    count = [len(t) for t in tracks]

    def repeat(name: str) -> np.ndarray:
        return np.repeat(np.array([getattr(t, name) for t in tracks], np.int64), count)

    def join(name: str, width: tuple[int, ...] = ()) -> np.ndarray:
        return np.concatenate([np.empty((0, *width)), *(getattr(t, name) for t in tracks)])

    boxes, measured = join("xyxy", (4,)), join("measured_xy_px", (2,))
    table = TrackTable(
        frame=repeat("frame"),
        field=repeat("field"),
        t_ns=repeat("t_ns"),
        track_id=join("track_id").astype(np.int64),
        cx_px=(boxes[:, 0] + boxes[:, 2]) / 2,
        cy_px=(boxes[:, 1] + boxes[:, 3]) / 2,
        w_px=boxes[:, 2] - boxes[:, 0],
        h_px=boxes[:, 3] - boxes[:, 1],
        x_measured_px=measured[:, 0],
        y_measured_px=measured[:, 1],
        confidence=join("confidence"),
        predicted=join("predicted").astype(np.bool_),
    )
    return table.select(np.lexsort((table.t_ns, table.track_id)))


def track_table(
    table: DetectionTable,
    config: TrackConfig | None = None,
    bar: Progress | None = None,
    counters: TrackerCounters | None = None,
    frame_size_px: tuple[int, int] | None = None,
) -> TrackTable:
    """Online tracks of a whole table of detections, sorted by track and time.

    ``bar`` is moved by one for each picture; ``counters``, where given, receives the tracker's counts. With
    ``frame_size_px`` (width, height) tracks end where they leave the field.

    Raises
    ------
    InputError : the table's times or frame numbers make no sense (see `pictures`).
    """
    tracker = Tracker(config, frame_size_px)
    found = []
    for picture in pictures(table):
        found.append(tracker.update(picture))
        if bar is not None:
            bar.advance()
    if counters is not None:
        vars(counters).update(vars(tracker.counters))
    return tracks_to_table(found)
