"""VISEM-Tracking's layout: boxes, tracks and times, and the ways its files can be wrong."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from casa.config import SourceConfig
from casa.errors import InputError
from casa.simulate.layout import write_visem_layout
from casa.simulate.scene import SceneConfig, simulate
from casa.sources.visem_tracking import VALIDATION_VIDEOS, find_recordings, read_labels
from casa.types import Frame

WIDTH, HEIGHT = 64, 48
TIMES_MS = [0, 20, 41, 60, 80]
FIRST, SECOND = "ckz3v9nzv00033867jsekqdcl", "ckz3v9nzv00043867aaaaaaaa"


def write_recording(root: Path, name: str) -> Path:
    folder = root / name
    for sub in ("labels", "labels_ftid", "images"):
        (folder / sub).mkdir(parents=True)
    with av.open(str(folder / f"{name}.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=50)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(TIMES_MS):
            frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), 20 * number, np.uint8), "rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    rows = {
        0: [(SECOND, "0 0.25 0.5 0.125 0.25"), (FIRST, "1 0.5 0.5 0.25 0.25")],
        1: [],
        3: [(SECOND, "0 0.5 0.75 0.125 0.25"), ("new", "2 1 0 0.1 0.1")],
        # frame 2 and 4: not annotated
    }
    for frame, boxes in rows.items():
        (folder / "labels" / f"{name}_frame_{frame}.txt").write_text("".join(f"{box}\n" for _, box in boxes))
        (folder / "labels_ftid" / f"{name}_frame_{frame}_with_ftid.txt").write_text(
            "".join(f"{track} {box}\n" for track, box in boxes)
        )
    return folder


@pytest.fixture
def data(tmp_path) -> Path:
    root = tmp_path / "VISEM_Tracking_Train_v4" / "Train"
    for name in ("11", "82", "9"):
        write_recording(root, name)
    (root / "82" / "82.txt").write_text("paths of images")
    return tmp_path


def test_recordings_are_found_at_any_depth_in_natural_order_with_their_split(data):
    recordings = find_recordings(data)
    assert [r.name for r in recordings] == ["9", "11", "82"]
    assert [r.split for r in recordings] == ["train", "train", "validation"]
    assert VALIDATION_VIDEOS == ("82", "60", "54", "52")


def test_detections_are_in_px_at_the_times_of_the_video(data):
    recording = find_recordings(data)[1]
    table = recording.detections()
    assert table.frame.tolist() == [0, 0, 3, 3]
    assert table.t_ns.tolist() == [0, 0, 60_000_000, 60_000_000]
    assert table.class_id.tolist() == [0, 1, 0, 2]
    assert [table.cx_px[0], table.cy_px[0], table.w_px[0], table.h_px[0]] == [16.0, 24.0, 8.0, 12.0]
    assert table.confidence.tolist() == [1.0] * 4
    assert recording.detections(classes=(1, 2)).frame.tolist() == [0, 3]
    with recording.open(SourceConfig()) as source:
        assert [item.t_ns for item in source] == [t * 1_000_000 for t in TIMES_MS]


def test_tracks_keep_their_identity_and_are_numbered_by_first_appearance(data):
    recording = find_recordings(data)[1]
    assert recording.track_names == (SECOND, FIRST, "new")
    sperm = recording.tracks()
    assert sperm.track_id.tolist() == [1, 1]
    assert sperm.frame.tolist() == [0, 3]
    assert sperm.cx_px.tolist() == [16.0, 32.0]
    assert sperm.x_measured_px.tolist() == [16.0, 32.0]
    everything = recording.tracks(classes=None)
    assert everything.track_id.tolist() == [1, 1, 2, 3]
    assert not everything.predicted.any()


def test_looked_at_and_empty_is_not_the_same_as_not_annotated(data):
    recording = find_recordings(data)[0]
    assert recording.labels.annotated_frames.tolist() == [0, 1, 3]
    assert recording.track_labels.annotated_frames.tolist() == [0, 1, 3]


def test_a_recording_without_any_box_gives_empty_tables(tmp_path):
    folder = write_recording(tmp_path, "23")
    for path in folder.rglob("*_frame_*.txt"):
        path.write_text("")
    recording = find_recordings(tmp_path)[0]
    assert len(recording.detections()) == 0
    assert len(recording.tracks()) == 0
    assert len(recording.labels.annotated_frames) == 3


def test_a_simulated_data_set_reads_back_as_its_truth(tmp_path):
    config = SceneConfig(width_px=160, height_px=120, n_frames=6, cells_per_frame=12.0, dots=0)
    scene = simulate(config, seed=2)
    write_visem_layout(scene, tmp_path, name="made")
    recording = find_recordings(tmp_path)[0]
    truth, read = scene.truth(), recording.tracks()
    assert len(read) == len(truth) > 10
    published = np.array([int(recording.track_names[i - 1]) for i in read.track_id])
    order = np.lexsort((read.frame, published))
    assert published[order].tolist() == truth.track_id.tolist()
    assert read.frame[order].tolist() == truth.frame.tolist()
    for column in ("cx_px", "cy_px", "w_px", "h_px"):
        np.testing.assert_allclose(getattr(read, column)[order], getattr(truth, column), atol=2e-4)
    assert np.abs(read.t_ns[order] - truth.t_ns).max() <= 10_000
    with recording.open(SourceConfig()) as source:
        assert sum(isinstance(item, Frame) for item in source) == 6


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.5 0.5 0.1", "expected class cx cy w h, got 4 values"),
        ("abc 0 0.5 0.5 0.1 0.1", "got 6 values"),
        ("7 0.5 0.5 0.1 0.1", "class must be 0"),
        ("0 0.5 x 0.1 0.1", "no number"),
        ("0 320 240 20 20", r"fractions of the frame in \[0, 1\]"),
        ("0 0.5 0.5 0 0.1", "size above 0"),
        ("0 nan 0.5 0.1 0.1", "fractions"),
    ],
)
def test_a_wrong_label_says_where(data, line, said):
    folder = find_recordings(data)[0].folder / "labels"
    path = folder / "9_frame_3.txt"
    path.write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(InputError, match=said) as raised:
        read_labels(folder, with_tracks=False)
    assert f"{path}:2: " in str(raised.value)


def test_wrong_folders_say_so(data, tmp_path):
    recording = find_recordings(data)[0]
    labels = recording.folder / "labels_ftid"
    (labels / "9_frame_4_with_ftid.txt").write_text("a 0 0.5 0.5 0.1 0.1\na 0 0.6 0.6 0.1 0.1\n")
    with pytest.raises(InputError, match="second box"):
        read_labels(labels, with_tracks=True)
    (labels / "9_frame_4_with_ftid.txt").rename(labels / "9_frame_5_with_ftid.txt")
    (labels / "9_frame_5_with_ftid.txt").write_text("a 0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(InputError, match=r"labels frame 5, but 9\.mp4 has only 5 frames"):
        recording.tracks()
    (labels / "9_frame_5.txt").write_text("")
    with pytest.raises(InputError, match="second label file"):
        read_labels(labels, with_tracks=True)
    (labels / "9_frame_5.txt").rename(labels / "notes.txt")
    with pytest.raises(InputError, match="a name like"):
        read_labels(labels, with_tracks=True)
    write_recording(tmp_path / "again", "9")
    with pytest.raises(InputError, match="second recording"):
        find_recordings(tmp_path)
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match="no recording"):
        find_recordings(tmp_path / "bare")
    with pytest.raises(InputError, match="no such folder"):
        find_recordings(tmp_path / "none")
