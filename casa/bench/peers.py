"""Other programs' trackers run over a table of detections, as their own documentation says to run them.

Each is a function DetectionTable -> TrackTable, like ``casa.track.track_table``. Classes are left aside, as in the
challenge's tables.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import numpy as np

from casa.detect.network import _import_ultralytics
from casa.errors import InputError
from casa.evaluate.boxes import rows_by_picture, table_boxes
from casa.types import DetectionTable, FloatArray, IntArray, TrackTable

PeerTracker = Callable[[DetectionTable], TrackTable]

#: norfair's settings: Euclidean distance of centres, px, and frames a new object is watched before it counts.
_NORFAIR_DISTANCE_PX = 20
_NORFAIR_DELAY = 2


def peer_trackers() -> dict[str, PeerTracker]:
    """The peers that can run here, by name; norfair is none of casa's dependencies and is used where installed."""
    peers: dict[str, PeerTracker] = {
        "ultralytics ByteTrack": ultralytics_bytetrack,
        "ultralytics BoT-SORT": ultralytics_botsort,
    }
    if importlib.util.find_spec("norfair") is not None:
        peers["norfair"] = norfair_kalman
    return peers


def ultralytics_bytetrack(table: DetectionTable) -> TrackTable:
    """Ultralytics' ByteTrack with its own default settings."""
    return _run_ultralytics(table, "bytetrack")


def ultralytics_botsort(table: DetectionTable) -> TrackTable:
    """Ultralytics' BoT-SORT with its own default settings; without pictures, so without motion compensation."""
    return _run_ultralytics(table, "botsort")


def _pictures(table: DetectionTable) -> Iterator[tuple[tuple[int, int], IntArray]]:
    """((frame, field), rows) of every picture from the first frame of the source on, empty ones too."""
    if len(table) == 0:
        return
    keys, (rows,) = rows_by_picture(table)
    by_key = {(int(frame), int(field)): here for (frame, field), here in zip(keys, rows, strict=True)}
    fields = sorted({field for _, field in by_key})
    nothing = np.empty(0, np.int64)
    for frame in range(int(keys[-1, 0]) + 1):
        for field in fields:
            yield (frame, field), by_key.get((frame, field), nothing)


def _run_ultralytics(table: DetectionTable, kind: str) -> TrackTable:
    _import_ultralytics()
    from ultralytics.engine.results import Boxes
    from ultralytics.trackers.track import TRACKER_MAP
    from ultralytics.utils import YAML, IterableSimpleNamespace
    from ultralytics.utils.checks import check_yaml

    tracker = TRACKER_MAP[kind](IterableSimpleNamespace(**YAML.load(str(check_yaml(f"{kind}.yaml")))))
    boxes = table_boxes(table)
    # A Boxes of a picture holds left, top, right, bottom, confidence, class; the size is only for its fractions.
    size = (int(boxes[:, 3].max()) + 1, int(boxes[:, 2].max()) + 1) if len(table) else (1, 1)
    picture_rows: list[tuple[int, int, FloatArray]] = []
    for (frame, field), rows in _pictures(table):
        data = np.column_stack([boxes[rows], table.confidence[rows], np.zeros(len(rows))]).astype(np.float32)
        found = np.asarray(tracker.update(Boxes(data, size)), dtype=np.float64).reshape(-1, 8)
        picture_rows.append((frame, field, found[:, :6]))
    return _track_table(table, picture_rows)


def norfair_kalman(table: DetectionTable) -> TrackTable:
    """Norfair with its Kalman filter on centres; boxes are those of each object's last detection, moved with it."""
    if importlib.util.find_spec("norfair") is None:
        raise InputError("norfair is not installed: `pip install norfair`, or leave it out of the comparison")
    import norfair  # pyright: ignore[reportMissingImports]

    tracker = norfair.Tracker(
        distance_function="euclidean",
        distance_threshold=_NORFAIR_DISTANCE_PX,
        initialization_delay=_NORFAIR_DELAY,
    )
    centres = np.stack([table.cx_px, table.cy_px], axis=1)
    picture_rows: list[tuple[int, int, FloatArray]] = []
    for (frame, field), rows in _pictures(table):
        found = [norfair.Detection(points=centres[row : row + 1], data=int(row)) for row in rows]
        lines = []
        for thing in tracker.update(found):
            row = thing.last_detection.data
            half = np.array([table.w_px[row], table.h_px[row]]) / 2
            centre = thing.estimate[0]
            lines.append([*(centre - half), *(centre + half), thing.id, table.confidence[row]])
        picture_rows.append((frame, field, np.array(lines, dtype=np.float64).reshape(-1, 6)))
    return _track_table(table, picture_rows)


def _track_table(table: DetectionTable, pictures: list[tuple[int, int, FloatArray]]) -> TrackTable:
    """Rows of left, top, right, bottom, track id, confidence, picture by picture, as a TrackTable."""
    counts = [len(rows) for _, _, rows in pictures]
    data = np.concatenate([np.empty((0, 6)), *(rows for _, _, rows in pictures)])
    frame = np.repeat(np.array([frame for frame, _, _ in pictures], np.int64), counts)
    field = np.repeat(np.array([field for _, field, _ in pictures], np.int64), counts)
    # Pictures with nothing found have no time in the table, but a coasting track can be put out there.
    t_ns = np.interp(2 * frame + field, 2 * table.frame + table.field, table.t_ns) if len(data) else np.empty(0)
    centre, size = (data[:, :2] + data[:, 2:4]) / 2, data[:, 2:4] - data[:, :2]
    return TrackTable(
        frame=frame,
        field=field,
        t_ns=np.round(t_ns).astype(np.int64),
        track_id=data[:, 4].astype(np.int64),
        cx_px=centre[:, 0],
        cy_px=centre[:, 1],
        w_px=size[:, 0],
        h_px=size[:, 1],
        x_measured_px=centre[:, 0],
        y_measured_px=centre[:, 1],
        confidence=data[:, 5],
        predicted=np.zeros(len(data), bool),
    )
