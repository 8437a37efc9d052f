"""Claims about morphology in a session: the same in every runner; live every clip is examined or counted."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from casa.bus import messages as m
from casa.bus.address import Endpoint
from casa.bus.subscriber import ControlClient, Subscriber
from casa.cli.main import app
from casa.config import CameraConfig, Config, load_config
from casa.engine import replay
from casa.engine.live import LiveOptions, live
from casa.errors import CasaError, InputError
from casa.record import Recording
from casa.simulate.scene import simulate
from casa.sources import open_live_source, open_source

SOURCE = "simulator:magnified:3"
SCALE = simulate("magnified", 3, 1).calibration()


def settings(name: str = "replay", **more: Any) -> Config:
    return load_config(name, {"morphology.enabled": True, "morphology.threads": 1, **more})


def test_both_runners_find_the_same_heads(tmp_path: Path):
    results = []
    for runner in ("serial", "threaded"):
        config = settings(**{"graph.runner": runner, "morphology.batch": 3, "source.max_frames": 45})
        with open_source(SOURCE, config.source) as source:
            results.append(replay(source, tmp_path / f"{runner}.h5", config, SCALE))
    counts = results[0].morphology
    assert counts == results[1].morphology
    assert counts is not None
    assert counts["taken"] == counts["graded"] > 5
    with Recording(tmp_path / "serial.h5") as a, Recording(tmp_path / "threaded.h5") as b:
        assert a.examining == counts
        model = a.session["morphology_model"]
        assert model["name"] == "morphology"
        assert ["simulated field" in reason for reason in model["outside"]] == [True]
        one, other = a.morphology(), b.morphology()
        assert len(one) == counts["graded"]
        for name, column in one.columns().items():
            assert np.array_equal(column, getattr(other, name), equal_nan=column.dtype.kind == "f"), name
        seen = one.n_crops > 0
        assert seen.any()
        assert np.allclose(one.distribution[seen].sum(axis=1), 1)
        assert Counter(one.reason[~seen].tolist()) == counts["abstained"]
        assert not one.in_domain.any()
        assert 3 < np.median(one.length_um[seen]) < 8
        pictures = a.head_pictures(one.clip_id.tolist())
        assert set(pictures) <= set(one.clip_id[seen].tolist())
        assert set(one.track_id[seen].tolist()) == {
            t for c, t in zip(one.clip_id.tolist(), one.track_id.tolist(), strict=True) if c in pictures
        }  # the sharpest of each track
        for clip_id, (crop, heat) in b.head_pictures(one.clip_id.tolist()).items():
            assert np.array_equal(crop, pictures[clip_id][0])
            assert np.array_equal(heat, pictures[clip_id][1])


def until(claim: Callable[[], object], timeout_s: float = 180.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def asked(endpoint: Endpoint, request: m.Request) -> Any:
    try:
        with ControlClient(endpoint) as control:
            return control.request(request, timeout_s=1)
    except CasaError:
        return None


def test_live_each_clip_is_examined_or_counted(tmp_path: Path):
    endpoint = Endpoint.parse(f"ipc://{tmp_path}/bus")
    config = settings("live", **{"morphology.cpu_share": 1.0, "morphology.batch": 2, "morphology.finish_s": 30.0})
    stop, failure, seen = threading.Event(), [], {}

    def head(subscriber: Subscriber) -> m.MorphologyMessage | None:
        """What a viewer is told of a sperm whose head was seen a moment ago."""
        subscriber.wait(1)
        for event in subscriber.events():
            if isinstance(event, m.MorphologyMessage) and event.n_crops:
                reply = asked(endpoint, m.GetTrack(track_id=event.track_id))
                return reply.morphology if isinstance(reply, m.TrackReply) else None
        return None

    def look() -> None:
        try:
            until(lambda: asked(endpoint, m.GetStatus()))
            with Subscriber(endpoint, views=False) as subscriber:
                until(lambda: seen.update(head=head(subscriber)) or seen["head"])
            until(lambda: asked(endpoint, m.GetStatus()).metrics.morphology.graders)  # counted once a second
            status = asked(endpoint, m.GetStatus())
            assert status.metrics.morphology.graders == 1
            assert [p.state for p in status.metrics.processes if p.name == "morphology-1"] == ["running"]
        except BaseException as error:
            failure.append(error)
        finally:
            stop.set()

    thread = threading.Thread(target=look)
    with open_live_source(SOURCE, CameraConfig(fps_hz=20)) as source:
        thread.start()
        try:
            options = LiveOptions(output=tmp_path / "run.h5", endpoint=endpoint)
            result = live(source, config, SCALE, options, stop=stop)
        finally:
            stop.set()
            thread.join()
    if failure:
        raise failure[0]
    assert not seen["head"].in_domain
    assert seen["head"].measures["length_um"] > 2
    assert sum(seen["head"].classes.values()) == pytest.approx(1)
    found = result.session.morphology
    assert found is not None
    assert found["graded"] > 0
    assert found["taken"] == found["graded"] + found["superseded"] + found["left_out"] + found["failed"]
    assert result.bus["reconciled"] is True
    with Recording(tmp_path / "run.h5") as recording:
        table = recording.morphology()
        assert len(table) == found["graded"]
        assert len(set(table.clip_id.tolist())) == len(table)  # none was examined twice
        assert recording.examining == found
        assert Counter(table.reason[table.n_crops == 0].tolist()) == found["abstained"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.h5"]


def test_wrong_calls_are_one_line(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments, why in (
        (["replay", SOURCE, "--morphology-weights", "morphology"], "without --morphology"),
        (["live", "--morphology-weights", "morphology"], "without --morphology"),
        (["replay", SOURCE, "--grade-weights", "grade"], "nothing is graded without --grade"),
        (["live", "--grade-weights", "grade"], "nothing is graded without --grade"),
        (["replay", SOURCE, "--grade", "--grade-weights", "shapes"], "no such grade network"),
        (["replay", SOURCE, "--morphology", "--morphology-weights", "shapes"], "no such morphology network"),
        (["grader", "--task", "x"], "expected grade, morphology or both"),
        (["grader", "ipc:///nowhere/at/all", "--task", "morphology"], "no session with morphology"),
    ):
        with pytest.raises(InputError, match=why):
            app(arguments, standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_replay_says_what_was_found(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["replay", SOURCE, "--morphology", "--json", "-o", "run.h5", "--max-frames", "30"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    found = json.loads(done.stdout)["morphology"]
    assert found["graded"] == found["taken"] > 0
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "Forms of heads" in page
    assert "the scale is not known" in page  # uncalibrated: what it says is a guess
