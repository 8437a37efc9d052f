"""Claims about the report's section on expert grades: there where something was graded, and marked for what it is."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import recordings
from grading import add_grades

from casa.record import Recording
from casa.report import write_report
from casa.report.grades import SHEET_CLIPS, by_track, grades_of, interval


@pytest.fixture
def graded(tmp_path: Path) -> Path:
    path = recordings.write_recording(tmp_path / "run.h5", 10)
    add_grades(path, list(range(1, 13)), clips=10)
    return path


def told_of(path: Path, **model: str) -> Path:
    with h5py.File(path, "r+") as file:
        session = json.loads(file.attrs["session"])
        file.attrs["session"] = json.dumps(session | {"grade_model": model})
    return path


def test_nothing_is_said_where_nothing_was_graded(tmp_path: Path):
    path = recordings.write_recording(tmp_path / "run.h5", 10)
    with Recording(path) as recording:
        assert grades_of(recording) is None
    write_report(path, tmp_path / "run.html")
    assert "Expert grades" not in (tmp_path / "run.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        ({"taken": 0, "failed": 0}, "none of 3 tracks was graded, because none was in view for long enough"),
        ({"taken": 5, "failed": 2, "left_out": 3},
         "none of 3 tracks was graded, because none of their 5 clips was (2 failed, 3 left out for want of time)."),
        (None, "because of its clips this recording has no count"),
    ],
)  # fmt: skip
def test_where_grading_was_on_and_nothing_was_graded_the_section_says_why(tmp_path: Path, counts, why):
    path = recordings.write_recording(tmp_path / "run.h5", 10)
    with h5py.File(path, "r+") as file:
        session = json.loads(file.attrs["session"])
        session["config"] |= {"grade": {"enabled": True}, "morphology": {"enabled": False}}
        file.attrs["session"] = json.dumps(session)
        if counts is not None:
            file.attrs["grading"] = json.dumps(counts)
    write_report(path, tmp_path / "run.html")
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "<h2>Expert grades, by a network</h2>" in page
    assert why in page
    assert "Forms of heads" not in page


def test_the_section_shows_the_mean_over_tracks_and_clips_with_their_maps(graded: Path, tmp_path: Path):
    told_of(graded, name="grade", network="rostfine T (paper)", trained_on="a simulated panel of 40 raters")
    write_report(graded, tmp_path / "run.html")
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "Expert grades, by a network" in page
    assert "rostfine T (paper), trained on a simulated panel of 40 raters" in page
    assert "No expert has judged a clip for it" in page
    assert "12 tracks (12 clips)" in page
    assert "1 clips could not be graded" in page
    with Recording(graded) as recording:
        mean = recording.grades().distribution.mean(axis=0)
    for share in mean:
        assert f"{100 * share:.0f} %" in page
    pictures = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) == SHEET_CLIPS
    image = cv2.imdecode(np.frombuffer(base64.b64decode(pictures[0]), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (192, 576, 3)
    above, below = image[:96].astype(int), image[96:].astype(int)
    assert np.abs(above[..., 0] - above[..., 2]).max() < 40  # gray, as the camera saw it
    assert (below[..., 2] - below[..., 0]).max() > 80  # orange, where the network looked


def test_a_network_that_learnt_from_experts_is_not_called_simulated(graded: Path, tmp_path: Path):
    told_of(graded, name="clinic", trained_on="615 clips, 40 experts")
    write_report(graded, tmp_path / "run.html")
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "trained on 615 clips, 40 experts" in page
    assert "No expert has judged" not in page


def test_a_track_counts_once_however_many_clips_it_has():
    grades = recordings.grades([1, 2, 3, 4])
    one = grades.select(slice(0, 3))
    object.__setattr__(grades, "track_id", np.array([7, 7, 7, 9]))
    tracks, mean = by_track(grades)
    assert tracks.tolist() == [7, 9]
    assert np.allclose(mean[0], one.distribution.mean(axis=0))
    assert np.allclose(mean[1], grades.distribution[3])
    low, high = interval(np.repeat(mean[:1], 5, axis=0))
    assert np.allclose(low, mean[0])  # tracks that are all the same leave nothing open
    assert np.allclose(high, mean[0])
