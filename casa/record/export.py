"""Recordings in the formats other programs read: CSV, Parquet, MOTChallenge text."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from casa.errors import CasaError, InputError
from casa.record.files import is_disk_full
from casa.record.hdf5 import json_text
from casa.record.reader import Recording
from casa.tables import grade_columns, write_detections, write_grades, write_kinematics, write_mot, write_tracks
from casa.types import DetectionTable, KinematicsTable, TrackTable

Format = Literal["csv", "parquet", "mot"]
FORMATS: tuple[Format, ...] = ("csv", "parquet", "mot")


def export(
    path: Path | str,
    format: str,
    out_dir: Path | str,
    force: bool = False,
    open_recording: Callable[[Path | str], Recording] = Recording,
) -> list[Path]:
    """Write the tables of a recording into a folder, which is made where it is missing; gives the files written.

    ``csv`` and ``parquet``: detections, tracks, kinematics and, where there are any, grades, with the same columns;
    Parquet is unrounded, empty cells are nulls, and the schema's metadata (key ``casa``) is the session as JSON.
    ``mot``: ``tracks.txt`` (frames from 1).
    A separated field is a picture of its own there: frame 2 * frame + field. ``open_recording`` may give other tracks
    than the file's (`casa.engine.refined`).

    Raises
    ------
    InputError : not a recording, an unknown format, or a file exists and ``force`` is not given.
    CasaError : a file cannot be written; none of the new files is left half written.
    """
    if format not in FORMATS:
        raise InputError(f"--format {format}: expected one of {', '.join(FORMATS)}")
    folder = Path(out_dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give a folder with -o")
    with open_recording(path) as recording:
        jobs = _jobs(recording, format)
        targets = [folder / name for name, _ in jobs]
        for target in targets:
            if target.exists() and not force:
                raise InputError(f"{target}: exists already; give another folder with -o, or --force to replace it")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for target, (_, write) in zip(targets, jobs, strict=True):
                _write_whole(target, write)
        except OSError as error:
            what = "the disk is full" if is_disk_full(error) else f"cannot be written ({error})"
            raise CasaError(f"{folder}: {what}; give another folder with -o") from error
    return targets


def _jobs(recording: Recording, format: str) -> list[tuple[str, Callable[[Path], None]]]:
    """File names, and what writes each; a table is read when it is written, so that one is in memory at a time."""
    if format == "mot":
        return [("tracks.txt", lambda path: write_mot(path, _one_picture_a_frame(recording.tracks())))]
    graded = bool(len(recording.grades()))
    if format == "csv":
        jobs: list[tuple[str, Callable[[Path], None]]] = [
            ("detections.csv", lambda path: write_detections(path, recording.detections())),
            ("tracks.csv", lambda path: write_tracks(path, recording.tracks())),
            ("kinematics.csv", lambda path: write_kinematics(path, recording.kinematics())),
        ]
        return jobs + [("grades.csv", lambda path: write_grades(path, recording.grades()))] * graded
    session = recording.session | {"status": recording.status, "recording_id": recording.recording_id}
    jobs = [
        ("detections.parquet", lambda path: _write_parquet(path, _detection_columns(recording.detections()), session)),
        ("tracks.parquet", lambda path: _write_parquet(path, _track_columns(recording.tracks()), session)),
        ("kinematics.parquet", lambda path: _write_parquet(path, _kinematics_columns(recording.kinematics()), session)),
    ]
    return jobs + [("grades.parquet", lambda p: _write_parquet(p, grade_columns(recording.grades()), session))] * graded


def _write_whole(target: Path, write: Callable[[Path], None]) -> None:
    """Write beside the target and rename: what has the name is whole."""
    beside = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        write(beside)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def _one_picture_a_frame(table: TrackTable) -> TrackTable:
    """Number pictures, not frames, where frames were separated into fields."""
    if not table.field.any():
        return table
    return replace(table, frame=2 * table.frame + table.field)


def _detection_columns(d: DetectionTable) -> dict[str, Any]:
    names = ("frame", "cx_px", "cy_px", "w_px", "h_px", "confidence", "class_id")
    return {name: getattr(d, name) for name in names} | {"t_s": d.t_ns / 1e9, "field": d.field}


def _track_columns(t: TrackTable) -> dict[str, Any]:
    names = ("frame", "track_id", "cx_px", "cy_px", "w_px", "h_px", "confidence")
    return {name: getattr(t, name) for name in names} | {
        "predicted": t.predicted.astype(np.int64),
        "x_measured_px": t.x_measured_px,
        "y_measured_px": t.y_measured_px,
        "t_s": t.t_ns / 1e9,
        "field": t.field,
    }


def _kinematics_columns(k: KinematicsTable) -> dict[str, Any]:
    names = ("track_id", "n_frames", "duration_s", "vcl_um_s", "vsl_um_s", "vap_um_s", "lin", "str", "wob",
             "alh_mean_um", "alh_max_um", "bcf_hz", "mad_deg", "motility_grade", "vcl_px_s", "vsl_px_s", "vap_px_s",
             "alh_mean_px", "alh_max_px")  # fmt: skip
    times = {f"time_{grade}_s": k.time_by_grade_s[:, column] for column, grade in enumerate("abcd")}
    return {name: getattr(k, name) for name in names} | {"t_start_s": k.t_start_ns / 1e9} | times | {"flags": k.flags}


def _write_parquet(path: Path, columns: dict[str, Any], session: dict[str, Any]) -> None:
    """Columns as a Parquet file; NaN becomes null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {}
    for name, column in columns.items():
        missing = np.isnan(column) if column.dtype.kind == "f" else None
        arrays[name] = pa.array(column.tolist() if column.dtype.kind == "U" else column, mask=missing)
    table = pa.table(arrays).replace_schema_metadata({"casa": json_text(session)})
    pq.write_table(table, path, compression="zstd")
