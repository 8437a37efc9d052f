"""Other programs' trackers run over a table of detections, as their own documentation says to run them.

Each is a function DetectionTable -> TrackTable, like ``casa.track.track_table``. Classes are left aside, as in the
challenge's tables.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from casa.detect.network import import_ultralytics
from casa.errors import CasaError, InputError
from casa.evaluate.boxes import rows_by_picture, table_boxes
from casa.types import DetectionTable, FloatArray, IntArray, TrackTable

PeerTracker = Callable[[DetectionTable], TrackTable]


def peer_trackers(norfair_python: str | None = None) -> dict[str, PeerTracker]:
    """The peers by name; norfair where an interpreter that has it is given (see `Norfair`)."""
    peers: dict[str, PeerTracker] = {
        "ultralytics ByteTrack": ultralytics_bytetrack,
        "ultralytics BoT-SORT": ultralytics_botsort,
    }
    if norfair_python is not None:
        peers["norfair"] = Norfair(norfair_python)
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
    import_ultralytics()
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


class Norfair:
    """Norfair with its Kalman filter on centres, in an interpreter of its own: it needs an older NumPy than casa.

    ``python`` is that interpreter, such as ``VENV/bin/python`` after ``python -m venv VENV`` and
    ``VENV/bin/pip install norfair``.
    """

    def __init__(self, python: str) -> None:
        self._python = python
        self._spent_s = 0.0
        self.version = ""
        if shutil.which(python) is None:
            raise InputError(f"--norfair {python}: no such interpreter; give the python of an environment with norfair")

    def cpu_s(self) -> float:
        """CPU seconds spent in tracking so far, starting the interpreter and passing tables left out."""
        return self._spent_s

    def __call__(self, table: DetectionTable) -> TrackTable:
        """Track a table.

        Raises
        ------
        CasaError : the interpreter failed, most often because it has no norfair.
        """
        lines, places = [], []
        for number, (place, rows) in enumerate(_pictures(table)):
            places.append(place)
            for row in rows.tolist():
                cells = (column[row] for column in (table.cx_px, table.cy_px, table.w_px, table.h_px, table.confidence))
                lines.append(f"{number}," + ",".join(repr(float(cell)) for cell in cells))
        worker = Path(__file__).with_name("norfair_worker.py")
        done = subprocess.run(
            [self._python, "-I", str(worker)], input="\n".join(lines), capture_output=True, text=True, check=False
        )
        out = done.stdout.split()
        if done.returncode != 0 or not out or not out[-1].startswith("cpu_s,"):
            last = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
            raise CasaError(f"norfair in {self._python} failed (exit code {done.returncode}): {last}")
        _, spent, _, self.version = out[-1].split(",")
        self._spent_s += float(spent)
        rows = np.array([line.split(",") for line in out[:-1]], dtype=np.float64).reshape(-1, 7)
        number = rows[:, 0].astype(np.int64)
        return _track_table(table, [(*place, rows[number == picture, 1:]) for picture, place in enumerate(places)])


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
