"""The offline pass from the command line: what `--offline` changes in tracks, kinematics and report, and what not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import recordings
from typer.testing import CliRunner

from casa.cli.main import app
from casa.engine.refined import RefinedRecording
from casa.errors import InputError
from casa.record import Recorder, Recording
from casa.tables import read_columns, read_tracks, write_detections
from casa.types import Detections, DetectionTable, FrameAccount, FrameStatus, Tracks

FRAMES, LOST = 145, range(60, 85)


def place(frame: int) -> np.ndarray:
    return np.array([200.0 + 1.5 * frame, 150.0]) + np.random.default_rng(frame).normal(0, 0.3, 2)


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> Path:
    """A recording of one head that was lost for half a second and came back under another id."""
    path = tmp_path_factory.mktemp("offline") / "run.h5"
    recorder = Recorder(path)
    recorder.open(recordings.SESSION)
    for frame in range(FRAMES):
        t_ns = frame * recordings.STEP_NS
        n = 0 if frame in LOST else 1
        xy = place(frame)[None][:n]
        boxes = np.concatenate([xy - 10, xy + 10], axis=1).astype(np.float32)
        one = np.ones(n, np.float32)
        recorder.detections(Detections(frame, t_ns, boxes, one, np.zeros(n, np.int64)))
        recorder.tracks(
            Tracks(frame, t_ns, np.full(n, 1 if frame < LOST.start else 2), boxes, xy, one, np.zeros(n, bool),
                   np.zeros((n, 2)), np.empty(0, np.int64))
        )  # fmt: skip
        recorder.frame(frame, 0, t_ns, FrameStatus.PROCESSED)
    recorder.kinematics(recordings.kinematics([1, 2]))
    recorder.finish("complete", FrameAccount(FRAMES, FRAMES), recordings.SUMMARY, None)
    return path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_a_recording_is_seen_with_refined_tracks_and_is_not_changed(broken: Path):
    before = broken.read_bytes()
    with Recording(broken) as online, RefinedRecording(broken) as refined:
        assert np.unique(online.tracks().track_id).tolist() == [1, 2]
        tracks = refined.tracks()
        assert np.unique(tracks.track_id).tolist() == [1]
        assert tracks.frame.tolist() == list(range(FRAMES))
        assert tracks.frame[tracks.predicted].tolist() == list(LOST)
        measured = online.tracks()
        kept = tracks.select(~tracks.predicted)
        assert np.array_equal(kept.x_measured_px, measured.x_measured_px)
        assert refined.tracks(slice(10, 20)).frame.tolist() == list(range(10, 20))
        kinematics, summary = refined.kinematics(), refined.summary()
        assert kinematics.track_id.tolist() == [1]
        assert kinematics.duration_s[0] == pytest.approx(0.02 * (FRAMES - 1))
        assert kinematics.vsl_um_s[0] == pytest.approx(1.5 * 50 * 0.5, rel=0.01)
        assert summary is not None
        assert summary.n_tracks == 1
    assert broken.read_bytes() == before


def test_export_and_report_give_the_refined_ones_when_told_to_and_say_so(broken: Path, tmp_path: Path):
    said = json.loads(run("export", broken, "-o", tmp_path / "refined", "--offline", "--json"))
    assert said["tracks"] == "refined"
    run("export", broken, "-o", tmp_path / "online")
    for name, ids in (("refined", [1]), ("online", [1, 2])):
        assert np.unique(read_tracks(tmp_path / name / "tracks.csv").track_id).tolist() == ids
        assert read_columns(tmp_path / name / "kinematics.csv", ("track_id",))["track_id"].tolist() == ids
    header = [(tmp_path / name / "tracks.csv").read_text().splitlines()[0] for name in ("refined", "online")]
    assert header[0] == header[1]
    detections = [(tmp_path / name / "detections.csv").read_text() for name in ("refined", "online")]
    assert detections[0] == detections[1]
    for options, words in (([], "as put out online"), (["--offline"], "refined offline")):
        page = tmp_path / "report.html"
        said = json.loads(run("report", broken, "-o", page, "--force", "--json", *options))
        assert said["report"] == str(page)
        assert words in page.read_text()


def test_a_table_of_detections_is_tracked_with_hindsight(tmp_path: Path):
    frames = np.array([frame for frame in range(FRAMES) if frame not in LOST])
    xy, n = np.array([place(int(frame)) for frame in frames]), len(frames)
    one = np.ones(n)
    table = DetectionTable(frames, 0 * frames, frames * recordings.STEP_NS, xy[:, 0], xy[:, 1], 20 * one, 20 * one, one,
                           0 * frames)  # fmt: skip
    write_detections(tmp_path / "d.csv", table)
    said = json.loads(
        run("track", tmp_path / "d.csv", "-o", tmp_path / "t.csv", "--offline", "--frame-size", "640x480", "--json")
    )
    assert (said["tracks"], said["offline"]) == (1, True)
    tracks = read_tracks(tmp_path / "t.csv")
    assert tracks.frame[tracks.predicted].tolist() == list(LOST)
    assert np.allclose(tracks.x_measured_px[~tracks.predicted], xy[np.isin(frames, tracks.frame), 0], atol=1e-3)
    with pytest.raises(InputError, match="--frame-size 640: expected WIDTHxHEIGHT"):
        run("track", tmp_path / "d.csv", "-o", tmp_path / "u.csv", "--frame-size", "640")


def test_tracks_are_scored_online_and_refined(broken: Path, tmp_path: Path):
    truth = tmp_path / "truth.csv"
    lines = [f"{frame},7,{200 + 1.5 * frame},150,20,20" for frame in range(FRAMES)]
    truth.write_text("\n".join(["frame,track_id,cx_px,cy_px,w_px,h_px", *lines]) + "\n")
    said = json.loads(run("evaluate", "tracker", broken, "--truth", truth, "--offline", "--json"))
    assert said["idsw"] == 1
    assert said["offline"]["idsw"] == 0
    assert said["offline"]["idf1"] == 1.0
    assert "offline" in run("evaluate", "tracker", broken, "--truth", truth, "--offline")
    with pytest.raises(InputError, match="--offline needs a recording or a video"):
        run("evaluate", "tracker", truth, "--truth", truth, "--offline")
