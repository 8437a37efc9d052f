"""Claims about grades in a session: the same in every runner; live every clip is graded or counted, whoever dies."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from grading import write_network
from running import casa

from casa.bus import messages as m
from casa.bus.address import Endpoint
from casa.bus.subscriber import ControlClient, Subscriber
from casa.cells import NO_NUMBERS
from casa.config import CameraConfig, Config, load_config
from casa.engine import replay
from casa.engine.live import LiveOptions, live
from casa.errors import CasaError, InputError
from casa.record import Recording
from casa.sources import open_live_source, open_source


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    return write_network(tmp_path_factory.mktemp("network") / "t.onnx")


def settings(network: Path, name: str = "replay", **more: Any) -> Config:
    return load_config(name, {"grade.enabled": True, "grade.weights": str(network), **more})


def test_both_runners_grade_and_keep_the_same(tmp_path: Path, network: Path, simulated_video: Path):
    results = []
    for runner in ("serial", "threaded"):
        config = settings(network, **{"graph.runner": runner, "grade.batch": 5, "source.max_frames": 75})
        with open_source(str(simulated_video), config.source) as source:
            results.append(replay(source, tmp_path / f"{runner}.h5", config))
    one, other = results[0].grading, results[1].grading
    assert one == other
    assert one is not None
    assert one["taken"] == one["graded"] + one["failed"] > 10
    with Recording(tmp_path / "serial.h5") as a, Recording(tmp_path / "threaded.h5") as b:
        assert a.grading == one
        assert a.session["grade_model"]["network"] == "rostfine T (paper)"
        grades = a.grades()
        assert len(grades) == one["graded"]
        assert np.allclose(grades.distribution.sum(axis=1), 1)
        parts = (grades.part_global + grades.part_spatial + grades.part_temporal) / 3
        assert np.allclose(grades.distribution, parts, atol=1e-6)
        for name, column in grades.columns().items():
            assert np.array_equal(column, getattr(b.grades(), name), equal_nan=column.dtype.kind == "f"), name
        kept, same = a.clips(), b.clips()
        ids = a.clip_tracks.tolist()
        assert sorted(ids) == sorted(set(grades.track_id.tolist()))  # each graded track's last clip, once
        assert ids == b.clip_tracks.tolist()
        for x, y in zip(kept, same, strict=True):
            assert x.clip.clip_id == grades.clip_id[grades.track_id == x.clip.track_id].max()
            assert x.attention is not None
            assert y.attention is not None
            assert np.array_equal(x.clip.images, y.clip.images)
            assert np.array_equal(x.attention, y.attention)


def test_a_network_that_gives_no_numbers_ends_the_command_and_not_the_session(tmp_path: Path, simulated_video: Path):
    content = torch.load(write_network(tmp_path / "sound.pt"), weights_only=True)
    content["state"] = {name: torch.full_like(values, float("nan")) for name, values in content["state"].items()}
    torch.save(content, tmp_path / "broken.pt")
    config = tmp_path / "c.yaml"
    config.write_text("source: {max_frames: 75}\n")
    line = f"grades: {NO_NUMBERS}: choose other --grade-weights than {tmp_path}/broken.pt"
    options = ["--config", str(config), "--grade", "--grade-weights", str(tmp_path / "broken.pt"), "--json"]
    done = casa("replay", str(simulated_video), "-o", str(tmp_path / "x.h5"), "--no-report", *options, cwd=tmp_path)
    assert done.returncode == 1
    assert line in done.stderr
    told = json.loads(done.stdout)["grades"]
    assert told["taken"] == told["failed"] > 0
    with Recording(tmp_path / "x.h5") as recording:  # the tracks are there, and no grade of nothing
        assert len(recording.tracks())
        assert len(recording.grades()) == 0
    done = casa("batch", str(simulated_video), "-o", str(tmp_path / "batch"), *options, cwd=tmp_path)
    assert done.returncode == 1
    assert line in json.loads(done.stdout)["failed"][0]["reason"]


def until(claim: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def status(endpoint: Endpoint) -> m.StatusReply | None:
    try:
        with ControlClient(endpoint) as control:
            reply = control.request(m.GetStatus(), timeout_s=1)
    except CasaError:
        return None
    assert isinstance(reply, m.StatusReply)
    return reply


def test_graders_that_are_killed_cost_no_clip_that_is_not_counted(tmp_path: Path, network: Path):
    endpoint = Endpoint.parse(f"ipc://{tmp_path}/bus")
    config = settings(
        network, "live", **{"grade.graders": 2, "grade.cpu_share": 1.0, "grade.batch": 2, "grade.finish_s": 30.0}
    )
    stop, seen, failure = threading.Event(), {}, []

    def befall() -> None:
        try:
            until(lambda: (found := status(endpoint)) and found.metrics.grading and found.metrics.grading.graded > 3)
            found = status(endpoint)
            assert found is not None
            graders = [p for p in found.metrics.processes if p.name.startswith("grader")]
            assert [p.name for p in graders] == ["grader-1", "grader-2"]
            with Subscriber(endpoint, views=False) as subscriber, ControlClient(endpoint) as control:
                message = None
                while not isinstance(message, m.GradesMessage):  # viewers are told too
                    subscriber.wait(1)
                    message = next((e for e in subscriber.events() if isinstance(e, m.GradesMessage)), None)
                reply = control.request(m.GetTrack(track_id=message.track_id))
                assert isinstance(reply, m.TrackReply)
                assert reply.grades is not None
                assert reply.clip is not None
                assert reply.clip.track_id == message.track_id
            for process in graders:
                os.kill(process.pid, signal.SIGKILL)
            until(lambda: (s := status(endpoint)) and [e.kind for e in s.events].count("grader_gone") == 2)
            before = status(endpoint).metrics.grading.graded
            until(lambda: (s := status(endpoint)) and s.metrics.grading.graded > before + 3)  # by those after them
            seen["pids"] = [p.pid for p in status(endpoint).metrics.processes]
        except BaseException as error:
            failure.append(error)
        finally:
            stop.set()

    thread = threading.Thread(target=befall)
    with open_live_source("simulator", CameraConfig(fps_hz=20)) as source:
        thread.start()
        try:
            options = LiveOptions(output=tmp_path / "run.h5", endpoint=endpoint)
            result = live(source, config, None, options, stop=stop)
        finally:
            stop.set()
            thread.join()
    if failure:
        raise failure[0]
    found = result.session.grading
    assert found is not None
    assert found["taken"] == found["graded"] + found["superseded"] + found["left_out"] + found["failed"]
    assert (found["waiting"], found["under_way"]) == (0, 0)
    assert result.bus["reconciled"] is True
    assert {"grader-1_died", "grader-2_died", "grader-1_restarted", "grader_gone"} <= set(result.events)
    assert not any(Path(f"/proc/{pid}").exists() for pid in seen["pids"] if pid)
    with Recording(tmp_path / "run.h5") as recording:
        assert recording.grading == found
        grades = recording.grades()
        assert len(grades) == found["graded"]
        assert len(set(grades.clip_id.tolist())) == len(grades)  # none was graded twice
        assert len(set(grades.track_id.tolist())) == found["tracks"]
        assert set(recording.clip_tracks.tolist()) == set(grades.track_id.tolist())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.h5"]


def test_wrong_calls_are_one_line(tmp_path: Path, network: Path, monkeypatch):
    from casa.cli.main import app

    monkeypatch.chdir(tmp_path)
    for arguments, why in (
        (["live", "--graders", "2"], "without --grade"),
        (["grader", "--cpu-share", "2"], "above 0"),
        (["grader", "--backend", "x"], "expected auto"),
        (["grader", "ipc:///nowhere/at/all", "--weights", str(network)], "no session with grading"),
    ):
        with pytest.raises(InputError, match=why):
            app(arguments, standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_replay_says_what_was_graded(tmp_path: Path, network: Path, simulated_video: Path):
    (tmp_path / "grade.yaml").write_text(f"grade: {{weights: {network}}}\n")
    arguments = ("--config", "grade.yaml", "--grade", "--json", "--no-report", "-o", "run.h5", "--max-frames", "70")
    done = casa("replay", simulated_video, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["grades"]
    assert found["graded"] == found["taken"] > 0
