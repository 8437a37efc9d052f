"""CSV and MOTChallenge tables of detections, tracks, kinematics, grades and heads: the formats other programs read.

Frames count from 0, boxes are given by centre and size in px. A file whose name ends in ``.gz`` is compressed.
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from casa.cells import EXPERT_GRADES, HEAD_MEASURES, GradeTable, MorphologyTable
from casa.errors import InputError
from casa.types import DetectionTable, KinematicsTable, TrackTable

_DETECTION_COLUMNS = ("frame", "cx_px", "cy_px", "w_px", "h_px", "confidence")
_TRACK_COLUMNS = ("frame", "track_id", "cx_px", "cy_px", "w_px", "h_px")
#: Times are kept in int64 nanoseconds, frame numbers come as float64: what is beyond these is no time and no number.
_MAX_TIME_NS = 9e18
_MAX_WHOLE = 2.0**53


def _open_text(path: Path, mode: str) -> io.TextIOBase:
    if path.suffix == ".gz":
        return gzip.open(path, mode + "t", encoding="utf-8", newline="")  # type: ignore[return-value]
    return open(path, mode, encoding="utf-8", newline="")  # type: ignore[return-value]


def read_columns(path: Path, required: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:
    """Numeric columns of a CSV with a header, by name; text columns are left out.

    Raises
    ------
    InputError : the file is missing, empty, not a table, lacks a required column, or holds what is no number.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a CSV table with the columns {', '.join(required)}")
    try:
        with _open_text(path, "r") as stream:
            lines = stream.read().splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a text table ({error})") from error
    if not lines:
        raise InputError(f"{path}: the file is empty; expected a header line with {', '.join(required)}")
    names = [name.strip() for name in lines[0].split(",")]
    missing = [name for name in required if name not in names]
    if missing:
        raise InputError(f"{path}: column {', '.join(missing)} is missing; the header has {', '.join(names)}")
    numbered = [(number, line.split(",")) for number, line in enumerate(lines[1:], start=2) if line.strip()]
    rows = [row for _, row in numbered]
    for number, row in numbered:
        if len(row) != len(names):
            raise InputError(f"{path}:{number}: expected {len(names)} values, got {len(row)}")
    columns: dict[str, NDArray[np.float64]] = {}
    for position, name in enumerate(names):
        cells = [row[position] for row in rows]
        try:
            columns[name] = np.array([float(cell) if cell.strip() else np.nan for cell in cells])
        except ValueError as error:
            if name in required or name == "t_s":
                raise InputError(f"{path}: column {name} holds what is no number ({error})") from error
    for name in required:
        if np.isnan(columns[name]).any():
            number, _ = numbered[int(np.flatnonzero(np.isnan(columns[name]))[0])]
            raise InputError(f"{path}:{number}: {name} is empty or NaN")
    return columns


def read_text_column(path: Path, name: str) -> NDArray[np.str_] | None:
    """A text column of a CSV that ``read_columns`` has accepted, cell by cell; None where there is none."""
    with _open_text(path, "r") as stream:
        lines = [line for line in stream.read().splitlines() if line.strip()]
    names = [cell.strip() for cell in lines[0].split(",")]
    if name not in names:
        return None
    at = names.index(name)
    return np.array([line.split(",")[at].strip() for line in lines[1:]], dtype=np.str_)


def _times_ns(path: Path, columns: dict[str, NDArray[np.float64]], fps_hz: float | None) -> NDArray[np.int64]:
    """Times of the rows: the table's own ``t_s`` column, or frame / fps."""
    if "t_s" in columns:
        if not np.isfinite(columns["t_s"]).all():
            raise InputError(f"{path}: column t_s has empty cells; fill them or remove the column and give --fps")
        return _times(path, columns["t_s"] * 1e9)
    if fps_hz is None:
        raise InputError(f"{path}: has no t_s column, so the frame rate is needed: give --fps")
    if not (np.isfinite(fps_hz) and fps_hz > 0):
        raise InputError(f"--fps {fps_hz}: the frame rate must be a positive number of frames a second")
    return _times(path, _whole(path, columns, "frame") * (1e9 / fps_hz))


def _times(path: Path, t_ns: NDArray[np.floating]) -> NDArray[np.int64]:
    beyond = np.abs(t_ns) > _MAX_TIME_NS
    if beyond.any():
        raise InputError(f"{path}: a time of {t_ns[beyond][0] / 1e9:g} s is beyond what casa can tell, 9e9 s")
    return np.round(t_ns).astype(np.int64)


def _whole(path: Path, columns: dict[str, NDArray[np.float64]], name: str) -> NDArray[np.int64]:
    """A column of whole numbers; 0 where the table lacks it."""
    values = columns.get(name, np.zeros(len(columns["frame"])))
    wrong = ~((np.abs(values) <= _MAX_WHOLE) & (values == np.round(values)))
    if wrong.any():
        raise InputError(f"{path}: {name} {values[wrong][0]:g} is no whole number")
    return values.astype(np.int64)


def _is_mot(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith(".txt")


def _read_mot(path: Path) -> dict[str, NDArray[np.float64]]:
    """MOTChallenge text: frame (from 1), id, left, top, width, height, confidence, …; no header."""
    try:
        with _open_text(path, "r") as stream:
            rows = np.loadtxt(stream, delimiter=",", ndmin=2)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as MOTChallenge text ({error})") from error
    if rows.size and rows.shape[1] < 6:
        raise InputError(f"{path}: MOTChallenge text has at least 6 columns, got {rows.shape[1]}")
    rows = rows.reshape(len(rows), -1) if rows.size else np.empty((0, 7))
    return {
        "frame": rows[:, 0] - 1,
        "track_id": rows[:, 1],
        "cx_px": rows[:, 2] + rows[:, 4] / 2,
        "cy_px": rows[:, 3] + rows[:, 5] / 2,
        "w_px": rows[:, 4],
        "h_px": rows[:, 5],
        "confidence": rows[:, 6] if rows.shape[1] > 6 else np.ones(len(rows)),
    }


def read_detections(path: Path, fps_hz: float | None = None) -> DetectionTable:
    """Read a detections table (CSV, ``.csv.gz``, or MOTChallenge ``.txt``), sorted by time and frame.

    ``fps_hz`` gives the times where the table has no ``t_s`` column. Raises InputError for bad input.
    """
    columns = _read_mot(path) if _is_mot(path) else read_columns(path, _DETECTION_COLUMNS)
    times = _times_ns(path, columns, fps_hz)
    confidence = columns["confidence"]
    wrong = (confidence < 0) | (confidence > 1)
    if wrong.any():
        raise InputError(
            f"{path}: confidence {confidence[wrong][0]:g} is not between 0 and 1; give 1 where none is known"
        )
    order = np.lexsort((columns["frame"], times))
    return DetectionTable(
        frame=_whole(path, columns, "frame"),
        field=_whole(path, columns, "field"),
        t_ns=times,
        cx_px=columns["cx_px"],
        cy_px=columns["cy_px"],
        w_px=columns["w_px"],
        h_px=columns["h_px"],
        confidence=confidence,
        class_id=_whole(path, columns, "class_id"),
    ).select(order)


def read_tracks(path: Path, fps_hz: float | None = None, boxes: bool = True) -> TrackTable:
    """Read a tracks table (CSV, ``.csv.gz``, or MOTChallenge ``.txt``), sorted by track and time.

    With ``boxes`` False the table may lack ``w_px`` and ``h_px``; they are then 0.

    Rows with ``predicted`` = 1 keep their box but have no measured centre. ``x_measured_px`` and
    ``y_measured_px`` columns are used where present; else the measured centre is the box's.
    """
    columns = _read_mot(path) if _is_mot(path) else read_columns(path, _TRACK_COLUMNS if boxes else _TRACK_COLUMNS[:4])
    n = len(columns["frame"])
    times = _times_ns(path, columns, fps_hz)
    predicted = np.nan_to_num(columns.get("predicted", np.zeros(n))) > 0
    x_measured = columns.get("x_measured_px", columns["cx_px"])
    y_measured = columns.get("y_measured_px", columns["cy_px"])
    order = np.lexsort((times, columns["track_id"]))
    table = TrackTable(
        frame=_whole(path, columns, "frame"),
        field=_whole(path, columns, "field"),
        t_ns=times,
        track_id=_whole(path, columns, "track_id"),
        cx_px=columns["cx_px"],
        cy_px=columns["cy_px"],
        w_px=columns.get("w_px", np.zeros(n)),
        h_px=columns.get("h_px", np.zeros(n)),
        x_measured_px=np.where(predicted, np.nan, x_measured),
        y_measured_px=np.where(predicted, np.nan, y_measured),
        confidence=columns.get("confidence", np.ones(n)),
        predicted=predicted,
    ).select(order)
    same = (np.diff(table.track_id) == 0) & (np.diff(table.t_ns) == 0)
    if same.any():
        row = int(np.flatnonzero(same)[0])
        raise InputError(
            f"{path}: track {table.track_id[row]} is twice in frame {table.frame[row]}; a track has one box a frame"
        )
    return table


def _write_csv(path: Path, header: list[str], formats: list[str], columns: list[NDArray]) -> None:
    """Write columns; NaN becomes an empty cell."""
    with _open_text(path, "w") as stream:
        stream.write(",".join(header) + "\n")
        for row in zip(*(column.tolist() for column in columns), strict=True):
            cells = ("" if value != value else fmt % value for fmt, value in zip(formats, row, strict=True))
            stream.write(",".join(cells) + "\n")


def write_detections(path: Path, table: DetectionTable) -> None:
    """Write a detections CSV, with times in a ``t_s`` column."""
    _write_csv(
        path,
        ["frame", "cx_px", "cy_px", "w_px", "h_px", "confidence", "class_id", "t_s", "field"],
        ["%d", "%.3f", "%.3f", "%.3f", "%.3f", "%.4f", "%d", "%.9f", "%d"],
        [table.frame, table.cx_px, table.cy_px, table.w_px, table.h_px, table.confidence, table.class_id,
         table.t_ns / 1e9, table.field],
    )  # fmt: skip


def write_tracks(path: Path, table: TrackTable) -> None:
    """Write a tracks CSV, with ``predicted``, the measured centre and times in a ``t_s`` column."""
    _write_csv(
        path,
        ["frame", "track_id", "cx_px", "cy_px", "w_px", "h_px", "confidence", "predicted", "x_measured_px",
         "y_measured_px", "t_s", "field"],
        ["%d", "%d", "%.3f", "%.3f", "%.3f", "%.3f", "%.4f", "%d", "%.4f", "%.4f", "%.9f", "%d"],
        [table.frame, table.track_id, table.cx_px, table.cy_px, table.w_px, table.h_px, table.confidence,
         table.predicted, table.x_measured_px, table.y_measured_px, table.t_ns / 1e9, table.field],
    )  # fmt: skip


def write_kinematics(path: Path, table: KinematicsTable) -> None:
    """Write a kinematics CSV: the published columns first, then the px ones, times by grade and flags."""
    names = ["track_id", "n_frames", "duration_s", "vcl_um_s", "vsl_um_s", "vap_um_s", "lin", "str", "wob",
             "alh_mean_um", "alh_max_um", "bcf_hz", "mad_deg", "motility_grade", "vcl_px_s", "vsl_px_s",
             "vap_px_s", "alh_mean_px", "alh_max_px"]  # fmt: skip
    formats = ["%d" if n in ("track_id", "n_frames") else "%s" if n == "motility_grade" else "%.6g" for n in names]
    columns = [getattr(table, name) for name in names]
    columns += [table.t_start_ns / 1e9, *table.time_by_grade_s.T, table.flags]
    header = [*names, "t_start_s", "time_a_s", "time_b_s", "time_c_s", "time_d_s", "flags"]
    _write_csv(path, header, [*formats, "%.9f", "%.4f", "%.4f", "%.4f", "%.4f", "%d"], columns)


def grade_columns(table: GradeTable) -> dict[str, NDArray]:
    """Columns of a grades table by name: shares of the grades A to E, then those of each part of the network."""
    columns = {"clip_id": table.clip_id, "track_id": table.track_id, "frame": table.frame, "t_s": table.t_ns / 1e9}
    parts = {"": table.distribution, "global_": table.part_global, "spatial_": table.part_spatial,
             "temporal_": table.part_temporal}  # fmt: skip
    for prefix, part in parts.items():
        columns |= {f"{prefix}{grade}": part[:, k] for k, grade in enumerate(EXPERT_GRADES)}
    return columns | {"clip_flags": table.clip_flags}


def write_grades(path: Path, table: GradeTable) -> None:
    """Write a grades CSV, one row a graded clip; see ``grade_columns``."""
    columns = grade_columns(table)
    formats = {"t_s": "%.9f"} | dict.fromkeys(("clip_id", "track_id", "frame", "clip_flags"), "%d")
    _write_csv(path, list(columns), [formats.get(name, "%.6f") for name in columns], list(columns.values()))


def morphology_columns(table: MorphologyTable) -> dict[str, NDArray]:
    """Columns of a morphology table by name: a row a clip; ``p_CLASS`` (``p_PART_CLASS``) are the probabilities."""
    names = ("clip_id", "track_id", "frame", "n_crops", "reason", "in_domain", "edge_share", *HEAD_MEASURES)
    columns = {name: getattr(table, name) for name in names} | {"t_s": table.t_ns / 1e9}
    columns["in_domain"] = table.in_domain.astype(np.int64)
    return columns | {f"p_{n.replace(':', '_')}": table.distribution[:, k] for k, n in enumerate(table.class_names)}


def write_morphology(path: Path, table: MorphologyTable) -> None:
    """Write a morphology CSV, one row a clip whose head was examined; see ``morphology_columns``."""
    columns = morphology_columns(table)
    formats = dict.fromkeys(("clip_id", "track_id", "frame", "n_crops", "in_domain"), "%d")
    formats |= {"reason": "%s", "t_s": "%.9f"}
    _write_csv(path, list(columns), [formats.get(name, "%.6g") for name in columns], list(columns.values()))


def write_mot(path: Path, table: TrackTable) -> None:
    """Write MOTChallenge text: frame from 1, id, left, top, width, height, confidence, -1, -1, -1."""
    order = np.lexsort((table.track_id, table.frame))
    t = table.select(order)
    minus = -np.ones(len(t), np.int64)
    columns = [t.frame + 1, t.track_id, t.cx_px - t.w_px / 2, t.cy_px - t.h_px / 2, t.w_px, t.h_px, t.confidence,
               minus, minus, minus]  # fmt: skip
    formats = ["%d", "%d", "%.3f", "%.3f", "%.3f", "%.3f", "%.4f", "%d", "%d", "%d"]
    with _open_text(path, "w") as stream:
        for row in zip(*(column.tolist() for column in columns), strict=True):
            stream.write(",".join(fmt % value for fmt, value in zip(formats, row, strict=True)) + "\n")
