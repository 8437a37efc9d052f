"""The types check what they are given once, when made."""

from __future__ import annotations

import numpy as np
import pytest

from casa.types import Detections, Frame, SourceInfo, Tracks, is_simulated


def test_columns_come_out_of_their_type_in_c_order_and_read_only_without_touching_the_givers():
    boxes = np.asfortranarray(np.arange(8, dtype=np.float64).reshape(2, 4))
    confidence = np.array([0.5, 0.6], np.float32)
    found = Detections(0, 0, boxes, confidence, [0, 1])  # type: ignore[arg-type]
    assert [column.dtype for column in (found.xyxy, found.confidence, found.class_id)] == ["f4", "f4", "i8"]
    assert found.xyxy.flags.c_contiguous
    assert np.shares_memory(found.confidence, confidence)
    confidence[0] = 0.7
    with pytest.raises(ValueError, match="read-only"):
        found.confidence[0] = 0.1
    assert len(found[found.class_id == 1]) == 1


def test_a_column_of_another_length_or_shape_is_refused():
    with pytest.raises(ValueError, match=r"Detections.xyxy: expected shape \(2, 4\), got \(2, 5\)"):
        Detections(0, 0, np.zeros((2, 5), np.float32), np.zeros(2, np.float32), np.zeros(2, np.int64))
    two = np.zeros(2, np.int64)
    columns = {"track_id": two, "xyxy": np.zeros((2, 4)), "measured_xy_px": np.zeros((2, 2)), "confidence": two}
    columns |= {"predicted": two, "velocity_px_s": np.zeros((2, 2))}
    assert len(Tracks(0, 0, **columns, ended_ids=np.arange(5)).ended_ids) == 5
    with pytest.raises(ValueError, match=r"Tracks.ended_ids: expected shape \('n',\), got \(1, 5\)"):
        Tracks(0, 0, **columns, ended_ids=np.zeros((1, 5)))


def test_a_frame_is_a_picture():
    with pytest.raises(ValueError, match=r"Frame\.image: expected"):
        Frame(0, 0, np.zeros((4, 4, 4), np.uint8))


@pytest.mark.parametrize(
    ("uri", "timestamps", "drawn"),
    [("simulator:default:3", "simulated", True),
     ("simulator:default:3", "assumed", True),  # its frame rate was given with --fps
     ("slide 1", "simulated", True),
     ("simulator.mp4", "pts", False)],
)  # fmt: skip
def test_what_the_simulator_drew_is_known_whatever_its_frame_rate(uri, timestamps, drawn):
    assert is_simulated(SourceInfo(uri, 640, 480, 50.0, None, timestamps)) is drawn
