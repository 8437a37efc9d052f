"""The tables of a recording: names, columns, types. The journal's rows and the HDF5 columns are both made from it.

docs/recording.md says the same in words; change both together, and ``FORMAT_VERSION`` with them. This module knows
nothing of files.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.cells import CLIP_FRAMES, CLIP_SIZE_PX, HEAD_MEASURES, MAX_CLASSES, Clip, GradeTable, MorphologyTable
from casa.types import Detections, FrameStatus, KinematicsTable, Tracks

FORMAT = "casa-recording"
FORMAT_VERSION = 1
REASON_BYTES = 200
KIND_BYTES = 40
TEXT_BYTES = 400
NO_HEAD_BYTES = 40

#: Codes of ``frames/status``; the order is part of the format.
STATUS_CODES = (FrameStatus.PROCESSED, FrameStatus.SKIPPED, FrameStatus.DROPPED, FrameStatus.FAILED)

#: Codes of ``events/level``; the order is part of the format.
LEVELS = ("info", "warning", "error")

#: Tables that recordings of before they were thought of do not have.
ADDED_TABLES = ("events", "video", "clips", "grades", "morphology")

#: How a recording ended; "recording" stands in the file while it is written.
RUN_STATUSES = ("complete", "interrupted", "failed")

_WHEN = [("frame", "<i8"), ("field", "i1"), ("t_ns", "<i8")]
_BOX = [("left_px", "<f4"), ("top_px", "<f4"), ("right_px", "<f4"), ("bottom_px", "<f4")]
_KINEMATICS_FLOATS = (
    "duration_s", "vcl_um_s", "vsl_um_s", "vap_um_s", "vcl_px_s", "vsl_px_s", "vap_px_s", "lin", "str", "wob",
    "alh_mean_um", "alh_max_um", "alh_mean_px", "alh_max_px", "bcf_hz", "mad_deg",
)  # fmt: skip

#: Row types, packed and little-endian, by table. One column becomes one HDF5 dataset ``/<table>/<column>``.
TABLES: dict[str, np.dtype[Any]] = {
    "frames": np.dtype([*_WHEN, ("status", "i1"), ("reason", f"S{REASON_BYTES}")]),
    "detections": np.dtype([*_WHEN, *_BOX, ("confidence", "<f4"), ("class_id", "<i4")]),
    "tracks": np.dtype(
        [*_WHEN, ("track_id", "<i8"), *_BOX, ("x_measured_px", "<f8"), ("y_measured_px", "<f8"),
         ("confidence", "<f4"), ("predicted", "i1"), ("vx_px_s", "<f4"), ("vy_px_s", "<f4")]
    ),
    "kinematics": np.dtype(
        [("track_id", "<i8"), ("n_frames", "<i8"), ("t_start_ns", "<i8"),
         *((name, "<f8") for name in _KINEMATICS_FLOATS),
         ("motility_grade", "S1"), ("time_by_grade_s", "<f8", (4,)), ("flags", "<i8")]
    ),
    "pictures": np.dtype([("frame", "<i8"), ("t_ns", "<i8"), ("offset", "<i8"), ("length", "<i8")]),
    "events": np.dtype(
        [("t_ns", "<i8"), ("frame", "<i8"), ("level", "i1"), ("kind", f"S{KIND_BYTES}"), ("text", f"S{TEXT_BYTES}"),
         ("utc", "S32")]
    ),
    "video": np.dtype([*_WHEN, ("part", "<i4"), ("video_frame", "<i8")]),
    "clips": np.dtype(
        [("clip_id", "<i8"), ("track_id", "<i8"), ("um_per_px", "<f8"), ("frames", "<i8", (CLIP_FRAMES,)),
         ("t_ns", "<i8", (CLIP_FRAMES,)), ("centre_xy_px", "<f8", (CLIP_FRAMES, 2)), ("score", "<f4", (CLIP_FRAMES,)),
         ("flags", "<i4", (CLIP_FRAMES,)), ("offset", "<i8"), ("length", "<i8"), ("map_length", "<i8")]
    ),
    "grades": np.dtype(
        [("clip_id", "<i8"), ("track_id", "<i8"), ("frame", "<i8"), ("t_ns", "<i8"), ("distribution", "<f8", (5,)),
         ("part_global", "<f8", (5,)), ("part_spatial", "<f8", (5,)), ("part_temporal", "<f8", (5,)),
         ("clip_flags", "<i8")]
    ),
    "morphology": np.dtype(
        [("clip_id", "<i8"), ("track_id", "<i8"), ("frame", "<i8"), ("t_ns", "<i8"), ("n_crops", "<i8"),
         ("reason", f"S{NO_HEAD_BYTES}"), ("in_domain", "i1"), ("distribution", "<f8", (MAX_CLASSES,)),
         ("edge_share", "<f8"), *((name, "<f8") for name in HEAD_MEASURES),
         ("offset", "<i8"), ("length", "<i8"), ("map_length", "<i8")]
    ),
}  # fmt: skip

#: A row of ``frames`` by ``struct``, which is quicker for one row.
_FRAME_ROW = struct.Struct(f"<qbqb{REASON_BYTES}s")

#: The bytes of all pictures, one PNG file after the other; ``pictures/offset`` and ``length`` point into it.
PNG_BYTES = "pictures/png"
#: The same of clips: for each the PNG of its pictures below each other, and behind it that of its attention maps.
CLIP_BYTES = "clips/png"
#: The same of heads: for each the PNG of its crop, where it is kept, and that of its heat map.
HEAD_BYTES = "morphology/png"


def frame_row(index: int, field: int, t_ns: int, status: FrameStatus, reason: str) -> NDArray[Any]:
    """One row of ``frames``; a reason longer than REASON_BYTES of UTF-8 is cut and ends in an ellipsis."""
    row = _FRAME_ROW.pack(index, field, t_ns, STATUS_CODES.index(status), _cut(reason, REASON_BYTES))
    return np.frombuffer(row, TABLES["frames"])


def event_row(t_ns: int, frame: int, level: str, kind: str, text: str, utc: str) -> NDArray[Any]:
    """One row of ``events``; a text that is too long is cut, as a frame's reason is."""
    row = (t_ns, frame, LEVELS.index(level), _cut(kind, KIND_BYTES), _cut(text, TEXT_BYTES), _cut(utc, 32))
    return np.array([row], TABLES["events"])


def video_row(frame: int, field: int, t_ns: int, part: int, video_frame: int) -> NDArray[Any]:
    """One row of ``video``."""
    return np.array([(frame, field, t_ns, part, video_frame)], TABLES["video"])


def _cut(text: str, n_bytes: int) -> bytes:
    """At most ``n_bytes`` of UTF-8; what is longer ends in an ellipsis."""
    data = text.encode("utf-8")
    if len(data) > n_bytes:
        data = data[: n_bytes - 3].decode("utf-8", "ignore").encode("utf-8") + "…".encode()
    return data


def _set_when(rows: NDArray[Any], frame: int, field: int, t_ns: int, xyxy: NDArray[Any]) -> None:
    rows["frame"], rows["field"], rows["t_ns"] = frame, field, t_ns
    for column, name in enumerate(("left_px", "top_px", "right_px", "bottom_px")):
        rows[name] = xyxy[:, column]


def detection_rows(d: Detections) -> NDArray[Any]:
    """Rows of ``detections``, (n,)."""
    rows = np.empty(len(d), TABLES["detections"])
    _set_when(rows, d.frame, d.field, d.t_ns, d.xyxy)
    rows["confidence"], rows["class_id"] = d.confidence, d.class_id
    return rows


def track_rows(t: Tracks) -> NDArray[Any]:
    """Rows of ``tracks``, (n,)."""
    rows = np.empty(len(t), TABLES["tracks"])
    _set_when(rows, t.frame, t.field, t.t_ns, t.xyxy)
    rows["track_id"], rows["confidence"], rows["predicted"] = t.track_id, t.confidence, t.predicted
    rows["x_measured_px"], rows["y_measured_px"] = t.measured_xy_px[:, 0], t.measured_xy_px[:, 1]
    rows["vx_px_s"], rows["vy_px_s"] = t.velocity_px_s[:, 0], t.velocity_px_s[:, 1]
    return rows


def kinematics_rows(k: KinematicsTable) -> NDArray[Any]:
    """Rows of ``kinematics``, (n,)."""
    rows = np.empty(len(k), TABLES["kinematics"])
    for name, column in k.columns().items():
        rows[name] = column
    return rows


def clip_row(clip: Clip, n_png: int, n_map: int) -> NDArray[Any]:
    """One row of ``clips`` without its place; ``n_png`` and ``n_map`` are the bytes of its pictures and its maps.

    Raises ValueError for a clip of another length or size than CLIP_FRAMES and CLIP_SIZE_PX.
    """
    if clip.images.shape != (CLIP_FRAMES, CLIP_SIZE_PX, CLIP_SIZE_PX):
        raise ValueError(f"clip {clip.clip_id}: its pictures are {clip.images.shape}, not one of casa's own clips")
    row = np.zeros(1, TABLES["clips"])
    row["clip_id"], row["track_id"] = clip.clip_id, clip.track_id
    row["um_per_px"] = np.nan if clip.um_per_px is None else clip.um_per_px
    for name in ("frames", "t_ns", "centre_xy_px", "score", "flags"):
        row[name] = getattr(clip, name)
    row["length"], row["map_length"] = n_png, n_map
    return row


def grade_rows(g: GradeTable) -> NDArray[Any]:
    """Rows of ``grades``, (n,)."""
    rows = np.empty(len(g), TABLES["grades"])
    for name, column in g.columns().items():
        rows[name] = column
    return rows


def head_row(table: MorphologyTable, n_png: int, n_map: int) -> NDArray[Any]:
    """A table of one row as a row of ``morphology`` without its place; ``n_png``, ``n_map``: bytes of crop and map.

    Raises ValueError for more classes than MAX_CLASSES.
    """
    n_classes = len(table.class_names)
    if n_classes > MAX_CLASSES:
        raise ValueError(f"morphology: {n_classes} classes are more than the {MAX_CLASSES} a recording holds")
    row = np.zeros(1, TABLES["morphology"])
    for name, column in table.columns().items():
        if name not in ("reason", "distribution"):
            row[name] = column
    row["reason"] = _cut(str(table.reason[0]), NO_HEAD_BYTES)
    row["distribution"] = np.nan
    row["distribution"][:, :n_classes] = table.distribution
    row["length"], row["map_length"] = n_png, n_map
    return row
