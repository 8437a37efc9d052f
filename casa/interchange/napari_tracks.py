"""Tracks as napari's Tracks layer takes them: an array, a table of features, and the layer's settings.

``napari.layers.Tracks``: rows of track id, time, y, x, sorted by track and time; here time is the number of the
picture, so that the layer lies over the video. napari counts positions from the middle of the first pixel, casa from
its corner. Tracks of sperm neither part nor join, so there is no graph.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.interchange.trackmate import figure_columns
from casa.record import Recording
from casa.record.export import Jobs, one_picture_a_frame
from casa.types import KinematicsTable, TrackTable


def napari_jobs(recording: Recording) -> Jobs:
    """``tracks.npy`` (n, 4) float64, ``features.csv`` with a line for each of its rows, ``layer.json``."""
    calibration = recording.calibration

    def tracks() -> TrackTable:
        table = one_picture_a_frame(recording.tracks())
        return table.select(np.lexsort((table.frame, table.track_id)))

    return [
        ("tracks.npy", lambda path: np.save(path, track_array(tracks()))),
        (
            "features.csv",
            lambda path: _write_features(path, features(tracks(), recording.kinematics(), calibration is not None)),
        ),
        ("layer.json", lambda path: _write_json(path, layer_settings(recording))),
    ]


def track_array(t: TrackTable) -> NDArray[np.float64]:
    """(n, 4): track id, picture, y, x in px from the middle of the first pixel; where missed, of the predicted box."""
    missed = np.isnan(t.x_measured_px)
    x, y = np.where(missed, t.cx_px, t.x_measured_px), np.where(missed, t.cy_px, t.y_measured_px)
    return np.column_stack([t.track_id, t.frame, y - 0.5, x - 0.5]).astype(np.float64)


def features(t: TrackTable, k: KinematicsTable, calibrated: bool) -> dict[str, NDArray[Any]]:
    """A column (n,) for each thing known of a head or its track; NaN where it is not known."""
    columns: dict[str, NDArray[Any]] = {"t_s": t.t_ns / 1e9, "confidence": t.confidence, "predicted": t.predicted * 1}
    row_of = {track_id: row for row, track_id in enumerate(k.track_id.tolist())}
    rows = np.array([row_of.get(track_id, -1) for track_id in t.track_id.tolist()], np.int64)
    for name, column in figure_columns(k, calibrated).items():
        whole = column.dtype.kind == "i"
        known = np.append(column, 0 if whole else np.nan)  # the last entry is of tracks without figures
        columns["motility_grade" if name == "grade" else name] = known[rows]
    return columns


def layer_settings(recording: Recording) -> dict[str, Any]:
    """What ``napari.layers.Tracks`` takes besides: its name, and the scale of picture number, y and x."""
    c = recording.calibration
    return {
        "name": f"casa {recording.recording_id[:8]}",
        "scale": [1.0, c.um_per_px_y, c.um_per_px_x] if c else [1.0, 1.0, 1.0],
        "units": ["pixel", "um", "um"] if c else ["pixel", "pixel", "pixel"],
        "metadata": {
            "recording_id": recording.recording_id,
            "tracks": str(recording.session.get("tracks", "online")),
            "calibration": c.name if c else None,
        },
    }


def _write_features(path: Path, columns: dict[str, NDArray[Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as stream:
        stream.write(",".join(columns) + "\n")
        for row in zip(*(column.tolist() for column in columns.values()), strict=True):
            stream.write(",".join("" if value != value else f"{value:.9g}" for value in row) + "\n")


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
