"""Claims about the report's section on heads: classes over tracks, what was not classed, and when it is a guess."""

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
from grading import add_heads

from casa.record import Recording
from casa.report import write_report
from casa.report.morphology import PICTURE_PX, heads_of


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return recordings.write_recording(tmp_path / "run.h5", 10)


EXAMS = [recordings.head_exam(k, track) for k, track in ((2, 1), (4, 1), (8, 2), (12, 3))]
EXAMS += [recordings.head_exam(20, 5, "two heads"), recordings.head_exam(21, 6, "two heads")]
EXAMS += [recordings.head_exam(22, 7, "out of focus"), recordings.head_exam(23, 1, "out of focus")]


def page_of(path: Path) -> str:
    write_report(path, path.with_suffix(".html"))
    return path.with_suffix(".html").read_text(encoding="utf-8")


def test_nothing_is_said_where_no_head_was_examined(recorded: Path):
    with Recording(recorded) as recording:
        assert heads_of(recording) is None
    assert "Forms of heads" not in page_of(recorded)


def test_where_morphology_was_on_and_no_head_was_examined_the_section_says_why(recorded: Path):
    with h5py.File(recorded, "r+") as file:
        session = json.loads(file.attrs["session"])
        session["config"] |= {"morphology": {"enabled": True}}
        file.attrs["session"] = json.dumps(session)
        file.attrs["examining"] = json.dumps({"taken": 4, "graded": 0, "failed": 4, "abstained": {}})
    page = page_of(recorded)
    assert "<h2>Forms of heads, by a network</h2>" in page
    assert "none of 3 tracks was examined, because none of their 4 clips was (4 failed)." in page


def test_tracks_are_counted_by_class_and_what_was_not_classed_by_reason(recorded: Path):
    add_heads(recorded, EXAMS, trained_on="drawn heads")
    with Recording(recorded) as recording:
        heads = heads_of(recording)
    assert heads is not None
    assert (heads.n_tracks, heads.n_seen, heads.n_clips) == (6, 3, 8)
    assert heads.abstained == (("two heads", 2), ("out of focus", 1))  # a track with a crop elsewhere has one
    assert [part.name for part in heads.parts] == ["head", "vacuole"]
    for part in heads.parts:
        assert sum(row.n for row in part.rows) == part.n_classed == 3
        assert sum(row.percent for row in part.rows) == pytest.approx(100)
        assert all(row.low <= row.percent <= row.high for row in part.rows)
    names = [measure.name for measure in heads.measures]
    assert names == ["head length", "head width", "head area", "length / width", "elongation", "acrosome"]
    page = page_of(recorded)
    assert "shapes, trained on drawn heads" in page
    assert "Not examined: two heads (2), out of focus (1)." in page
    assert "2 clips left out for want of time" in page
    assert "A guess" not in page
    pictures = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"[^>]*what decided', page)
    assert len(pictures) == 2  # clip 12 has no heat map
    image = cv2.imdecode(np.frombuffer(base64.b64decode(pictures[0]), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (PICTURE_PX, 2 * PICTURE_PX, 3)


def test_outside_of_what_the_network_knows_it_is_called_a_guess(recorded: Path):
    add_heads(recorded, EXAMS, outside=["0.5 µm/px, and the network knows 0.085 to 0.19"])
    page = page_of(recorded)
    assert "A guess" in page
    assert "0.5 µm/px, and the network knows" in page


def test_no_head_at_all_is_said_and_is_not_an_empty_table(recorded: Path):
    add_heads(recorded, [recordings.head_exam(3, 1, "head too small")])
    page = page_of(recorded)
    assert "0 showed a head well enough" in page
    assert "head too small (1)" in page
    assert "No head could be classed" in page


def test_what_is_not_likely_enough_is_unsure(recorded: Path):
    add_heads(recorded, EXAMS, abstain_below=0.999)
    with Recording(recorded) as recording:
        heads = heads_of(recording)
    assert heads is not None
    assert [(part.n_classed, part.n_unsure) for part in heads.parts] == [(0, 3), (0, 3)]
    assert all(head.said == "head unsure, vacuole unsure" for head in heads.sheet)
    assert "Of 3 more no class was likely enough" in page_of(recorded)
