"""Claims about exports: what is exported is what was recorded, in each format, and nothing is overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import recordings
import typer
from recordings import leave_unfinished, write_recording
from typer.testing import CliRunner

from casa.cli.export import export as export_command
from casa.cli.recover import recover as recover_command
from casa.errors import InputError
from casa.record import Recorder, Recording, export
from casa.tables import read_columns, read_detections, read_tracks
from casa.types import Detections, FrameAccount, FrameStatus, Tracks


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    return write_recording(tmp_path_factory.mktemp("recorded") / "run.h5", n_frames=30, n=8)


def same(a, b, names, atol: float) -> None:
    for name in names:
        assert np.allclose(getattr(a, name), getattr(b, name), rtol=0, atol=atol, equal_nan=True), name


def test_csv_is_read_back_by_the_commands_that_take_tables(recorded: Path, tmp_path: Path):
    written = export(recorded, "csv", tmp_path / "out")
    assert [path.name for path in written] == ["detections.csv", "tracks.csv", "kinematics.csv"]
    with Recording(recorded) as recording:
        detections, tracks, kinematics = recording.detections(), recording.tracks(), recording.kinematics()
    d, t = read_detections(written[0]), read_tracks(written[1])
    same(d, detections, ("frame", "field", "t_ns", "class_id"), 0)
    same(d, detections, ("cx_px", "cy_px", "w_px", "h_px"), 5e-4 + 1e-9)
    same(d, detections, ("confidence",), 5e-5 + 1e-9)
    tracks = tracks.select(np.lexsort((tracks.t_ns, tracks.track_id)))
    same(t, tracks, ("frame", "t_ns", "track_id", "predicted"), 0)
    same(t, tracks, ("cx_px", "cy_px", "w_px", "h_px", "x_measured_px", "y_measured_px"), 5e-4 + 1e-9)
    k = read_columns(written[2], ("track_id", "duration_s"))
    assert k["track_id"].tolist() == kinematics.track_id.tolist()
    assert np.allclose(k["vcl_px_s"], kinematics.vcl_px_s, rtol=1e-5)
    assert np.array_equal(np.isnan(k["vcl_um_s"]), np.isnan(kinematics.vcl_um_s))


def test_parquet_has_the_columns_of_the_csv_unrounded_and_says_where_it_is_from(recorded: Path, tmp_path: Path):
    pq = pytest.importorskip("pyarrow.parquet")
    written = export(recorded, "parquet", tmp_path / "parquet")
    tables = {path.stem: pq.read_table(path) for path in written}
    for path in export(recorded, "csv", tmp_path / "csv"):
        assert tables[path.stem].column_names == path.read_text().splitlines()[0].split(",")
    with Recording(recorded) as recording:
        tracks, kinematics = recording.tracks(), recording.kinematics()
    t = tables["tracks"]
    assert np.array_equal(t["x_measured_px"].to_numpy(), tracks.x_measured_px, equal_nan=True)
    assert t["x_measured_px"].null_count == np.isnan(tracks.x_measured_px).sum() > 0
    assert np.array_equal(t["track_id"].to_numpy(), tracks.track_id)
    k = tables["kinematics"]
    assert k["motility_grade"].to_pylist() == kinematics.motility_grade.tolist()
    assert np.array_equal(k["time_d_s"].to_numpy(), kinematics.time_by_grade_s[:, 3])
    said = json.loads(t.schema.metadata[b"casa"])
    assert said["source"]["uri"] == "x.mp4"
    assert said["status"] == "complete"


def test_mot_is_read_back(recorded: Path, tmp_path: Path):
    (path,) = export(recorded, "mot", tmp_path)
    with Recording(recorded) as recording:
        tracks = recording.tracks()
    back = read_tracks(path, fps_hz=50)
    back = back.select(np.lexsort((back.track_id, back.frame)))
    assert np.array_equal(back.track_id, tracks.track_id)
    same(back, tracks, ("frame",), 0)
    same(back, tracks, ("cx_px", "cy_px", "w_px", "h_px"), 2e-3)


def test_separated_fields_are_pictures_of_their_own_in_mot(tmp_path: Path):
    recorder = Recorder(tmp_path / "run.h5")
    recorder.open(recordings.SESSION)
    for number in range(6):
        t = recordings.tracks(number, 2)
        recorder.tracks(
            Tracks(number // 2, t.t_ns, t.track_id, t.xyxy, t.measured_xy_px, t.confidence, t.predicted,
                   t.velocity_px_s, t.ended_ids, number % 2)
        )  # fmt: skip
        recorder.detections(Detections.empty(number // 2, t.t_ns, number % 2))
        recorder.frame(number // 2, number % 2, t.t_ns, FrameStatus.PROCESSED)
    recorder.finish("complete", FrameAccount(6, 6))
    (path,) = export(tmp_path / "run.h5", "mot", tmp_path)
    assert np.unique(read_tracks(path, fps_hz=100).frame).tolist() == [0, 1, 2, 3, 4, 5]


def test_nothing_is_overwritten_without_force(recorded: Path, tmp_path: Path):
    (tmp_path / "tracks.csv").write_text("mine")
    with pytest.raises(InputError, match="--force"):
        export(recorded, "csv", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"tracks.csv"}
    assert (tmp_path / "tracks.csv").read_text() == "mine"
    export(recorded, "csv", tmp_path, force=True)
    assert (tmp_path / "tracks.csv").read_text() != "mine"


def test_bad_calls_are_one_line(recorded: Path, tmp_path: Path):
    with pytest.raises(InputError, match="--format xml"):
        export(recorded, "xml", tmp_path)
    with pytest.raises(InputError, match="is a file"):
        export(recorded, "csv", recorded)
    with pytest.raises(InputError, match="no such file"):
        export(tmp_path / "absent.h5", "csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_table_or_a_damaged_file_in_place_of_a_recording_is_one_plain_line(recorded: Path, tmp_path: Path):
    table, damaged = tmp_path / "t.csv", tmp_path / "cut.h5"
    table.write_text("frame,cx_px\n0,1\n")
    damaged.write_bytes(recorded.read_bytes()[:3000])
    with pytest.raises(InputError) as told:
        export(table, "csv", tmp_path / "out")
    assert str(told.value) == f"{table}: is no recording (no HDF5 file); give a recording (RUN.h5)"
    with pytest.raises(InputError) as told:
        export(damaged, "csv", tmp_path / "out")
    assert str(told.value) == f"{damaged}: is damaged or cut off and cannot be opened"


def command_line() -> typer.Typer:
    app = typer.Typer()
    app.command()(export_command)
    app.command()(recover_command)
    return app


def test_the_commands_say_what_they_did(recorded: Path, tmp_path: Path):
    run = CliRunner().invoke
    done = run(command_line(), ["export", str(recorded), "--format", "mot", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert done.output.strip().endswith("tracks.txt")
    done = run(command_line(), ["export", str(recorded), "-o", str(tmp_path / "json"), "--json"])
    said = json.loads(done.stdout)
    assert said["tracks"] == "online"
    names = ["detections.csv", "tracks.csv", "kinematics.csv", "dictionary.csv"]
    assert [Path(path).name for path in said["files"]] == names
    leave_unfinished(tmp_path / "run.h5", n_frames=20)
    done = run(command_line(), ["recover", str(tmp_path / "run.h5")])
    assert done.exit_code == 0, done.output
    assert "interrupted, 20 of 20 frames processed" in done.output
    assert "nothing that was written was lost" in done.output
    assert "computed again" in done.output
    with Recording(tmp_path / "run.h5") as recording:
        summary = recording.summary()
        assert summary is not None
        assert summary.n_tracks == len(recording.kinematics()) == 5
    leave_unfinished(tmp_path / "again.h5", n_frames=20)
    done = run(command_line(), ["recover", str(tmp_path / "again.h5"), "--json"])
    assert json.loads(done.stdout)["account"]["processed"] == 20
