"""Recordings in the formats other programs read: CSV, Parquet, MOTChallenge text."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from casa.errors import CasaError, InputError
from casa.record.files import is_disk_full
from casa.record.hdf5 import json_text
from casa.record.reader import Recording
from casa.tables import (
    grade_columns,
    morphology_columns,
    write_detections,
    write_grades,
    write_kinematics,
    write_morphology,
    write_mot,
    write_tracks,
)
from casa.types import DetectionTable, KinematicsTable, TrackTable

#: Names of files, and what writes each: a table is read when it is written, so that one is in memory at a time.
Jobs = list[tuple[str, Callable[[Path], None]]]
Formats = Mapping[str, Callable[[Recording], Jobs]]


def csv_jobs(recording: Recording) -> Jobs:
    """Detections, tracks, kinematics and, where there are any, grades and morphology as CSV."""
    jobs: Jobs = [
        ("detections.csv", lambda path: write_detections(path, recording.detections())),
        ("tracks.csv", lambda path: write_tracks(path, recording.tracks())),
        ("kinematics.csv", lambda path: write_kinematics(path, recording.kinematics())),
    ]
    if len(recording.grades()):
        jobs.append(("grades.csv", lambda path: write_grades(path, recording.grades())))
    if len(recording.morphology()):
        jobs.append(("morphology.csv", lambda path: write_morphology(path, recording.morphology())))
    return jobs


def parquet_jobs(recording: Recording) -> Jobs:
    """The same tables and columns as Parquet, unrounded; empty cells are nulls."""
    session = recording.session | {"status": recording.status, "recording_id": recording.recording_id}

    def job(name: str, columns: Callable[[], dict[str, Any]]) -> tuple[str, Callable[[Path], None]]:
        return f"{name}.parquet", lambda path: _write_parquet(path, columns(), session)

    jobs = [
        job("detections", lambda: detection_columns(recording.detections())),
        job("tracks", lambda: track_columns(recording.tracks())),
        job("kinematics", lambda: kinematics_columns(recording.kinematics())),
    ]
    if len(recording.grades()):
        jobs.append(job("grades", lambda: grade_columns(recording.grades())))
    if len(recording.morphology()):
        jobs.append(job("morphology", lambda: morphology_columns(recording.morphology())))
    return jobs


def mot_jobs(recording: Recording) -> Jobs:
    """MOTChallenge text; a separated field is a picture of its own."""
    return [("tracks.txt", lambda path: write_mot(path, one_picture_a_frame(recording.tracks())))]


FORMATS: Formats = {"csv": csv_jobs, "parquet": parquet_jobs, "mot": mot_jobs}


def export(
    path: Path | str,
    format: str,
    out_dir: Path | str,
    force: bool = False,
    open_recording: Callable[[Path | str], Recording] = Recording,
    formats: Formats = FORMATS,
) -> list[Path]:
    """Write the tables of a recording into a folder, which is made where it is missing; gives the files written.

    ``csv`` and ``parquet``: detections, tracks, kinematics and, where there are any, grades and morphology, with the
    same columns; the schema's metadata of Parquet (key ``casa``) is the session as JSON. ``mot``: ``tracks.txt``.
    ``open_recording`` may give other tracks than the file's (`casa.engine.refined`), ``formats`` more formats
    (`casa.interchange`).

    Raises
    ------
    InputError : not a recording, an unknown format, or a file exists and ``force`` is not given.
    CasaError : a file cannot be written; none of the new files is left half written.
    """
    if format not in formats:
        raise InputError(f"--format {format}: expected one of {', '.join(formats)}")
    folder = Path(out_dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give a folder with -o")
    with open_recording(path) as recording:
        jobs = formats[format](recording)
        targets = [folder / name for name, _ in jobs]
        for target in targets:
            if target.exists() and not force:
                raise InputError(f"{target}: exists already; give another folder with -o, or --force to replace it")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for target, (_, write) in zip(targets, jobs, strict=True):
                write_whole(target, write)
        except OSError as error:
            what = "the disk is full" if is_disk_full(error) else f"cannot be written ({error})"
            raise CasaError(f"{folder}: {what}; give another folder with -o") from error
    return targets


def write_whole(target: Path, write: Callable[[Path], None]) -> None:
    """Write beside the target and rename: what has the name is whole."""
    beside = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        write(beside)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def one_picture_a_frame(table: TrackTable) -> TrackTable:
    """Number pictures, not frames, where frames were separated into fields."""
    if not table.field.any():
        return table
    return replace(table, frame=2 * table.frame + table.field)


def detection_columns(d: DetectionTable) -> dict[str, Any]:
    """The columns of an exported table of detections, by name."""
    names = ("frame", "cx_px", "cy_px", "w_px", "h_px", "confidence", "class_id")
    return {name: getattr(d, name) for name in names} | {"t_s": d.t_ns / 1e9, "field": d.field}


def track_columns(t: TrackTable) -> dict[str, Any]:
    """The columns of an exported table of tracks, by name."""
    names = ("frame", "track_id", "cx_px", "cy_px", "w_px", "h_px", "confidence")
    return {name: getattr(t, name) for name in names} | {
        "predicted": t.predicted.astype(np.int64),
        "x_measured_px": t.x_measured_px,
        "y_measured_px": t.y_measured_px,
        "t_s": t.t_ns / 1e9,
        "field": t.field,
    }


def kinematics_columns(k: KinematicsTable) -> dict[str, Any]:
    """The columns of an exported table of kinematics, by name."""
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
