"""Claims about clips and grades in a recording: kept as they were, through journal, crash, and for old readers."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import recordings

from casa.cells import GradeTable
from casa.errors import InputError
from casa.record import Recorder, Recording, export, recover
from casa.record.clips import KeptClip
from casa.record.schema import ADDED_TABLES
from casa.tables import read_columns
from casa.types import FrameAccount

KEPT = [recordings.kept_clip(3, 2), recordings.kept_clip(7, 9, attention=False), recordings.kept_clip(8, 1)]
#: Written in this order, as several graders may give them back.
GRADED = [recordings.grades([7, 8], 9), recordings.grades([3, 5], 2)]


def write(path: Path) -> Recorder:
    recorder = Recorder(path)
    recorder.open(recordings.SESSION)
    for frame in range(5):
        recordings.record_frame(recorder, frame, 3)
    for kept in KEPT:
        recorder.clip(kept)
    for table in GRADED:
        recorder.grades(table)
    return recorder


def check(recording: Recording) -> None:
    assert recording.clip_tracks.tolist() == [2, 9, 1]
    for kept, found in zip(KEPT, recording.clips(), strict=True):
        for name in kept.clip.__dataclass_fields__:
            assert np.array_equal(getattr(kept.clip, name), getattr(found.clip, name)), name
        assert (kept.attention is None) == (found.attention is None)
        if kept.attention is not None:
            assert np.array_equal(kept.attention, found.attention)
    assert recording.clips([1])[0].clip.clip_id == 7
    grades, expected = recording.grades(), GradeTable.concatenate(GRADED[::-1])
    assert grades.clip_id.tolist() == [3, 5, 7, 8]
    for name, column in expected.select(np.argsort(expected.clip_id)).columns().items():
        assert np.array_equal(column, getattr(grades, name), equal_nan=column.dtype.kind == "f"), name


def test_clips_and_grades_come_back_as_they_were(tmp_path: Path):
    path = tmp_path / "run.h5"
    recorder = write(path)
    recorder._tables.flush()
    with Recording(path.with_name("run.h5.partial")) as recording:  # while it is written
        check(recording)
    recorder.finish("complete", FrameAccount(5, 5), recordings.SUMMARY, None)
    with Recording(path) as recording:
        check(recording)


def test_a_crash_costs_neither_clips_nor_grades(tmp_path: Path):
    path = tmp_path / "run.h5"
    write(path)._give_up()
    recovered = recover(path)
    assert (recovered.rows["clips"], recovered.rows["grades"]) == (3, 4)
    with Recording(path) as recording:
        check(recording)


def test_a_recording_of_before_there_were_clips_has_none(tmp_path: Path):
    path = recordings.write_recording(tmp_path / "run.h5", 3)
    with h5py.File(path, "r+") as file:
        for table in ADDED_TABLES:
            del file[table]
    with Recording(path) as recording:
        assert len(recording.clip_tracks) == len(recording.clips()) == len(recording.grades()) == 0
        assert recording.grading is None


def test_a_clip_of_another_form_is_refused_before_anything_is_written(tmp_path: Path):
    path = tmp_path / "run.h5"
    with Recorder(path) as recorder:
        recorder.open(recordings.SESSION)
        kept = recordings.kept_clip(1)
        with pytest.raises(ValueError, match="not one of casa's own"):
            recorder.clip(KeptClip(type(kept.clip)(1, 1, *(getattr(kept.clip, name)[:4] for name in (
                "frames", "t_ns", "images", "centre_xy_px", "score", "flags")))))  # fmt: skip
        with pytest.raises(ValueError, match="attention maps are"):
            recorder.clip(KeptClip(kept.clip, np.zeros((2, 3, 4), np.uint8)))
        recorder.clip(kept)
    with Recording(path) as recording:
        assert len(recording.clips()) == 1


def test_a_damaged_clip_is_an_error_and_never_a_wrong_picture(tmp_path: Path):
    path = tmp_path / "run.h5"
    write(path).finish("complete", FrameAccount(5, 5), None, None)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"IDAT") + 20
    data[at] ^= 0xFF
    path.write_bytes(data)
    with Recording(path) as recording, pytest.raises(InputError, match="clips cannot be read"):
        recording.clips()


def test_grades_are_exported_where_there_are_any(tmp_path: Path):
    path = tmp_path / "run.h5"
    write(path).finish("complete", FrameAccount(5, 5), None, None)
    for format, n in (("csv", 4), ("parquet", 4), ("mot", 1)):
        assert len(export(path, format, tmp_path / format)) == n
    found = read_columns(tmp_path / "csv" / "grades.csv", ("clip_id", "track_id", "frame", "t_s", "A", "E", "global_A"))
    with Recording(path) as recording:
        grades = recording.grades()
    shares = np.stack([found[grade] for grade in "ABCDE"], axis=1)
    assert np.allclose(shares, grades.distribution, atol=1e-6)
    assert np.allclose(found["spatial_C"], grades.part_spatial[:, 2], atol=1e-6)
    assert np.isnan(found["temporal_A"]).all()  # that network has no such part
    assert found["clip_flags"].tolist() == [3, 5, 7, 8]
    plain = recordings.write_recording(tmp_path / "plain.h5", 3)
    assert {p.name for p in export(plain, "csv", tmp_path / "plain")} == {
        "detections.csv", "tracks.csv", "kinematics.csv"
    }  # fmt: skip
