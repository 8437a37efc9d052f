"""Claims about tables: what is written is read back, and a broken table is named with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from casa.errors import InputError
from casa.tables import read_detections, read_tracks, write_mot, write_tracks
from casa.types import DetectionTable, TrackTable


@st.composite
def track_tables(draw) -> TrackTable:
    n = draw(st.integers(0, 30))
    pixels = hnp.arrays(np.float64, n, elements=st.floats(-50, 5000).map(lambda v: round(v, 3)))
    predicted = draw(hnp.arrays(np.bool_, n))
    measured = draw(pixels)
    return TrackTable(
        frame=np.arange(n) // 3,
        field=np.zeros(n, np.int64),
        t_ns=(np.arange(n) // 3) * 20_408_163,
        track_id=np.arange(n) % 3 + 1,
        cx_px=draw(pixels),
        cy_px=draw(pixels),
        w_px=draw(pixels),
        h_px=draw(pixels),
        x_measured_px=np.where(predicted, np.nan, measured),
        y_measured_px=np.where(predicted, np.nan, measured),
        confidence=np.full(n, 0.5),
        predicted=predicted,
    )


@given(table=track_tables(), suffix=st.sampled_from([".csv", ".csv.gz"]))
def test_tracks_survive_a_round_trip(tmp_path_factory, table, suffix):
    path = tmp_path_factory.mktemp("t") / f"tracks{suffix}"
    write_tracks(path, table)
    back = read_tracks(path)
    expected = table.select(np.lexsort((table.t_ns, table.track_id)))
    for name, column in expected.columns().items():
        np.testing.assert_allclose(getattr(back, name), column, atol=1e-3, err_msg=name)


def test_mot_text_survives_a_round_trip(tmp_path: Path):
    table = TrackTable(
        frame=[0, 1], field=[0, 0], t_ns=[0, 20], track_id=[1, 1], cx_px=[10, 11.5], cy_px=[5, 6], w_px=[4, 4],
        h_px=[2, 2], x_measured_px=[10, 11.5], y_measured_px=[5, 6], confidence=[1, 0.5], predicted=[False, False],
    )  # fmt: skip
    write_mot(tmp_path / "gt.txt", table)
    back = read_tracks(tmp_path / "gt.txt", fps_hz=50)
    assert back.frame.tolist() == [0, 1]
    np.testing.assert_allclose(back.cx_px, table.cx_px)
    np.testing.assert_allclose(back.t_ns, [0, 20_000_000])


def test_detections_are_sorted_by_time_and_keep_their_class(tmp_path: Path):
    path = tmp_path / "d.csv"
    path.write_text("frame,cx_px,cy_px,w_px,h_px,confidence,class_id\n3,1,1,1,1,.5,2\n0,2,2,1,1,.9,0\n")
    table = read_detections(path, 10)
    assert table.frame.tolist() == [0, 3]
    assert table.class_id.tolist() == [0, 2]
    assert table.t_ns.tolist() == [0, 300_000_000]


def test_times_in_the_table_need_no_frame_rate(tmp_path: Path):
    path = tmp_path / "d.csv"
    path.write_text("frame,cx_px,cy_px,w_px,h_px,confidence,t_s\n0,1,1,1,1,.5,0.25\n")
    assert read_detections(path).t_ns.tolist() == [250_000_000]


HEADER = "frame,cx_px,cy_px,w_px,h_px,confidence\n"


@pytest.mark.parametrize(
    ("text", "fps", "message"),
    [
        ("", 10, "empty"),
        ("frame,cx_px\n", 10, "cy_px.*is missing"),
        (HEADER + "0,1,1,1,1\n", 10, ":2: expected 6 values, got 5"),
        (HEADER + "0,1,1,1,x,.5\n", 10, "h_px holds what is no number"),
        (HEADER + "0,1,1,1,nan,.5\n", 10, ":2: h_px is empty or NaN"),
        (HEADER + "\n0,1,1,1,nan,.5\n", 10, ":3: h_px is empty or NaN"),
        (HEADER + "0,1,1,1,1,.5\n", None, "give --fps"),
        (HEADER + "0,1,1,1,1,.5\n", 0, "positive"),
        (HEADER + "0,1,1,1,1,.5\n", float("nan"), "positive"),
        (HEADER + "0.5,1,1,1,1,.5\n", 10, "frame 0.5 is no whole number"),
        (HEADER + "inf,1,1,1,1,.5\n", 10, "frame inf is no whole number"),
        (HEADER + "0,1,1,1,1,-1\n", 10, "confidence -1 is not between 0 and 1"),
        (HEADER + "0,1,1,1,1,80\n", 10, "confidence 80 is not between 0 and 1"),
        ("t_s," + HEADER + "1e12,0,1,1,1,1,.5\n", None, "a time of 1e.12 s is beyond"),
        ("class_id," + HEADER + ",0,1,1,1,1,.5\n", 10, "class_id nan is no whole number"),
    ],
)
def test_a_broken_table_is_one_line(tmp_path: Path, text, fps, message):
    path = tmp_path / "d.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_detections(path, fps)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path):
    path = tmp_path / "d.csv.gz"
    path.write_bytes(b"not gzip at all")
    with pytest.raises(InputError, match="cannot be read"):
        read_detections(path, 10)
    with pytest.raises(InputError, match="no such file"):
        read_detections(tmp_path / "absent.csv", 10)


def test_a_track_twice_in_a_frame_is_refused(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("frame,track_id,cx_px,cy_px,w_px,h_px\n4,1,1,1,1,1\n4,1,2,2,1,1\n")
    with pytest.raises(InputError, match="track 1 is twice in frame 4"):
        read_tracks(path, 10)


def test_columns_of_the_wrong_length_are_refused():
    with pytest.raises(ValueError, match="confidence: expected shape"):
        DetectionTable([0], [0], [0], [1], [1], [1], [1], [0.5, 0.6], [0])
