"""Claims about heads in a recording: kept as they were, through journal and crash; a track is the mean of its best."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import recordings

from casa.cells import BEST_CROPS, HEAD_MEASURES, HeadExam, MorphologyTable
from casa.errors import InputError
from casa.record import Recorder, Recording, export, recover
from casa.tables import read_columns
from casa.types import FrameAccount

SESSION = recordings.SESSION | {"morphology_model": {"name": "m", "class_names": list(recordings.CLASSES)}}
#: Written in this order, as several graders may give them back.
EXAMS = [
    recordings.head_exam(7, 9),
    recordings.head_exam(3, 2),
    recordings.head_exam(8, 9, "two heads"),
    recordings.head_exam(5, 2, pictures=False),
    recordings.head_exam(6, 4, "out of focus"),
]


def write(path: Path) -> Recorder:
    recorder = Recorder(path)
    recorder.open(SESSION)
    for frame in range(5):
        recordings.record_frame(recorder, frame, 3)
    for exam in EXAMS:
        recorder.head(exam)
    return recorder


def same(one: MorphologyTable, other: MorphologyTable) -> None:
    assert one.class_names == other.class_names
    for name, column in one.columns().items():
        assert np.array_equal(column, getattr(other, name), equal_nan=column.dtype.kind == "f"), name


def check(recording: Recording) -> None:
    table = recording.morphology()
    assert table.clip_id.tolist() == [3, 5, 6, 7, 8]
    expected = MorphologyTable.concatenate([exam.row for exam in EXAMS])
    same(expected.select(np.argsort(expected.clip_id)), table)
    pictures = recording.head_pictures([3, 5, 7, 99])
    assert sorted(pictures) == [3, 7]  # the others were not kept
    crop, heat = pictures[7]
    assert np.array_equal(crop, EXAMS[0].crop)
    assert np.array_equal(heat, EXAMS[0].heat)


def test_heads_come_back_as_they_were(tmp_path: Path):
    path = tmp_path / "run.h5"
    recorder = write(path)
    recorder._tables.flush()
    with Recording(path.with_name("run.h5.partial")) as recording:  # while it is written
        check(recording)
    recorder.finish("complete", FrameAccount(5, 5), None, None, {"examining": {"taken": 5}})
    with Recording(path) as recording:
        check(recording)
        assert recording.examining == {"taken": 5}


def test_a_crash_costs_no_head(tmp_path: Path):
    path = tmp_path / "run.h5"
    write(path)._give_up()
    assert recover(path).rows["morphology"] == 5
    with Recording(path) as recording:
        check(recording)


def test_a_recording_of_before_there_were_heads_has_none(tmp_path: Path):
    path = recordings.write_recording(tmp_path / "run.h5", 3)
    with h5py.File(path, "r+") as file:
        del file["morphology"]
    with Recording(path) as recording:
        assert len(recording.morphology()) == len(recording.head_pictures([1])) == 0
        assert recording.examining is None


def test_damaged_pictures_are_an_error(tmp_path: Path):
    path = tmp_path / "run.h5"
    write(path).finish("complete", FrameAccount(5, 5), None, None)
    with h5py.File(path, "r+") as file:
        file["morphology/length"][:] = 3
    with Recording(path) as recording, pytest.raises(InputError, match="morphology cannot be read"):
        recording.head_pictures([3])


def test_more_classes_than_fit_are_refused_before_anything_is_written(tmp_path: Path):
    row = recordings.head_exam(1).row
    wide = MorphologyTable(
        **row.columns() | {"distribution": np.full((1, 17), 1 / 17)}, class_names=tuple(f"c{k}" for k in range(17))
    )
    with Recorder(tmp_path / "run.h5") as recorder:
        recorder.open(SESSION)
        with pytest.raises(ValueError, match="17 classes are more"):
            recorder.head(HeadExam(wide))
        recorder.head(recordings.head_exam(2))


def test_heads_are_exported_where_there_are_any(tmp_path: Path):
    path = tmp_path / "run.h5"
    write(path).finish("complete", FrameAccount(5, 5), None, None)
    for format, n in (("csv", 4), ("parquet", 4), ("mot", 1)):
        assert len(export(path, format, tmp_path / format)) == n
    found = read_columns(tmp_path / "csv" / "morphology.csv", ("clip_id", "in_domain", "n_crops"))
    with Recording(path) as recording:
        table = recording.morphology()
    assert np.allclose(found["p_vacuole_normal"], table.distribution[:, 2], atol=1e-5, equal_nan=True)
    assert np.isnan(found["length_um"]).tolist() == (table.n_crops == 0).tolist()
    assert found["in_domain"].tolist() == table.in_domain.tolist()
    assert "two heads" in (tmp_path / "csv" / "morphology.csv").read_text().splitlines()[-1]


def test_a_track_is_the_mean_of_its_sharpest_crops():
    exams = [recordings.head_exam(k, track) for k, track in ((9, 2), (4, 2), (2, 2), (6, 2), (1, 3))]
    exams.append(recordings.head_exam(5, 2, "out of focus"))
    table = MorphologyTable.concatenate([exam.row for exam in exams]).by_track()
    assert table.track_id.tolist() == [2, 3]
    best = [exams[2].row, exams[1].row, exams[3].row]  # 3 crops each: the third reaches past BEST_CROPS
    assert 6 < BEST_CROPS < 9
    assert table.n_crops.tolist() == [9, 3]
    assert np.allclose(table.distribution[0], np.mean([row.distribution[0] for row in best], axis=0))
    for name in HEAD_MEASURES:
        assert getattr(table, name)[0] == pytest.approx(np.mean([getattr(row, name)[0] for row in best]))
    assert (table.clip_id[0], table.frame[0], table.edge_share[0]) == (2, 6, 0.02)
    assert table.in_domain.tolist() == [True, False]
    mixed = MorphologyTable.concatenate([exams[0].row, exams[1].row]).by_track()
    assert mixed.in_domain.tolist() == [False]  # one that is not is enough


def test_a_track_without_a_crop_says_why_and_has_no_class():
    reasons = ("two heads", "out of focus", "out of focus")
    rows = [recordings.head_exam(k, 7, reason).row for k, reason in enumerate(reasons, start=1)]
    table = MorphologyTable.concatenate(rows).by_track()
    assert (table.reason.tolist(), table.n_crops.tolist()) == (["out of focus"], [0])
    assert all(found.tolist() == [""] for found in table.decided().values())
    assert np.isnan(table.distribution).all()
    assert len(MorphologyTable.empty(recordings.CLASSES).by_track()) == 0


def test_a_class_that_is_not_likely_enough_is_none():
    row = recordings.head_exam(1).row
    chances = np.array([[0.7, 0.3, 0.45, 0.55]])
    table = MorphologyTable(**row.columns() | {"distribution": chances}, class_names=recordings.CLASSES)
    assert {part: found.tolist() for part, found in table.decided(0.6).items()} == {"head": ["normal"], "vacuole": [""]}
    assert table.decided()["vacuole"].tolist() == ["abnormal"]
    one = MorphologyTable(**row.columns() | {"distribution": chances[:, :2]}, class_names=("normal", "small"))
    assert one.decided()["class"].tolist() == ["normal"]
