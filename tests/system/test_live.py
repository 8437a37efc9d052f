"""Claims about ``casa live`` as a user runs it: all is accounted for, and nothing is left behind, whoever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from running import casa, start_casa

from casa.audit import read_audit
from casa.bus import messages as m
from casa.bus.address import Endpoint
from casa.bus.subscriber import ControlClient, Subscriber
from casa.cli.main import app
from casa.config import CameraConfig, load_config
from casa.engine.live import LiveOptions, live
from casa.errors import CasaError, InputError
from casa.record import Recording
from casa.sources import open_live_source
from casa.types import FrameAccount


def until(claim: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def slow_camera(tmp_path: Path) -> Path:
    """A configuration for a machine that is busy with other tests."""
    path = tmp_path / "live.yaml"
    path.write_text("camera: {fps_hz: 20}\nrecord: {thumbnail_every_s: 1}\n", encoding="utf-8")
    return path


def status(endpoint: str) -> m.StatusReply | None:
    try:
        with ControlClient(endpoint) as control:
            reply = control.request(m.GetStatus(), timeout_s=1)
    except CasaError:
        return None
    assert isinstance(reply, m.StatusReply)
    return reply


def running(endpoint: str, n_frames: int) -> Callable[[], bool]:
    def claim() -> bool:
        found = status(endpoint)
        return found is not None and found.metrics.account.processed >= n_frames

    return claim


def pid_of(endpoint: str, name: str) -> int:
    found = status(endpoint)
    return next((p.pid for p in found.metrics.processes if p.name == name), 0) if found is not None else 0


def events_of(endpoint: str) -> list[str]:
    found = status(endpoint)
    return [event.kind for event in found.events] if found is not None else []


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def frozen_viewer() -> Iterator[Callable[[str], subprocess.Popen]]:
    """A viewer that is stopped in the middle of it all."""
    started = []

    def freeze(endpoint: str) -> subprocess.Popen:
        import sys

        code = (
            "import sys\nfrom casa.bus.subscriber import Subscriber\ns = Subscriber(sys.argv[1])\n"
            "while s.view() is None: s.wait(1)\nprint('seen', flush=True)\n"
            "while True: s.wait(1); s.view(); s.events()\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code, endpoint], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "seen\n"
        process.send_signal(signal.SIGSTOP)
        return process

    yield freeze
    for process in started:
        process.kill()
        process.communicate()


def test_a_live_session_with_all_that_can_befall_it(tmp_path: Path, slow_camera: Path, frozen_viewer):
    endpoint = f"ipc://{tmp_path}/bus"
    arguments = ("live", "--config", slow_camera, "--endpoint", endpoint, "-o", "run.h5", "--json")
    with start_casa(*arguments, "--calibration", "simulator", cwd=tmp_path) as process:
        try:
            until(running(endpoint, 20))
            frozen_viewer(endpoint)
            with ControlClient(endpoint) as control:
                assert isinstance(control.request(m.Mark(text="here")), m.Done)
                taken = control.request(m.Snapshot())
                assert isinstance(taken, m.SnapshotReply)
                assert taken.image.numpy().std() > 0
            until(lambda: (found := status(endpoint)) and found.metrics.viewers)  # counted once a second
            top = json.loads(casa("top", endpoint, "--once", "--json", cwd=tmp_path).stdout)
            assert top["state"] == "running"
            assert top["viewers"] == 1
            recorder = pid_of(endpoint, "recorder")
            os.kill(recorder, signal.SIGKILL)
            until(lambda: "recorder_back" in events_of(endpoint))
            assert pid_of(endpoint, "recorder") not in (0, recorder)
            with Subscriber(endpoint) as subscriber:
                view = None
                deadline = time.monotonic() + 20
                while (view is None or not len(view.track_id.numpy())) and time.monotonic() < deadline:
                    subscriber.wait(0.5)
                    view = subscriber.view() or view
                assert view is not None
                assert view.um_per_px is not None
                track = int(view.track_id.numpy()[0])
            with ControlClient(endpoint) as control:
                reply = control.request(m.GetTrack(track_id=track))
                assert isinstance(reply, m.TrackReply)
                with pytest.raises(CasaError, match="neither in view"):
                    control.request(m.GetTrack(track_id=10**9))
            process.send_signal(signal.SIGINT)
            out, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, said
    result = json.loads(out)
    account = FrameAccount(**result["frames"])
    assert account.balanced
    assert account.failed == 0
    assert result["bus"]["reconciled"] is True
    assert result["bus"]["left_out"] == {}
    with Recording(tmp_path / "run.h5") as recording:
        assert recording.account == account
        assert recording.tracking == result["tracking"]
        assert result["tracking"]["frames"] == account.processed
        frames, events = recording.frames(), [event["kind"] for event in recording.events()]
        assert np.array_equal(frames["frame"], np.arange(account.captured))
        analysed = frames["frame"][frames["status"] == "processed"]
        assert set(recording.tracks().frame.tolist()) <= set(analysed.tolist())
        summary = recording.summary()
        assert recording.n_pictures >= 2
    assert {"mark", "snapshot", "recorder_died", "recorder_restarted", "recorder_back"} <= set(events)
    assert summary is not None
    assert summary.n_tracks == result["tracks"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["live.yaml", "run.h5"]


def test_an_engine_that_is_killed_leaves_a_recording_and_nothing_else(tmp_path: Path, slow_camera: Path):
    endpoint = f"ipc://{tmp_path}/bus"
    with start_casa("live", "--config", slow_camera, "--endpoint", endpoint, "-o", "run.h5", cwd=tmp_path) as process:
        try:
            until(running(endpoint, 15))
            recorder = pid_of(endpoint, "recorder")
            found = status(endpoint)
            assert found is not None
            captured = found.metrics.account.captured
        finally:
            process.kill()
            process.communicate()
    until(lambda: not is_alive(recorder))
    with Recording(tmp_path / "run.h5") as recording:
        assert recording.status == "interrupted"
        assert recording.account.balanced
        assert recording.account.captured >= captured - 20  # a second of it, at most
        frames = recording.frames()["frame"]
        assert (np.diff(frames) > 0).all()
        assert frames[-1] + 1 - len(frames) <= 20  # what was under way in the engine went with it
    assert sorted(path.name for path in tmp_path.iterdir()) == ["live.yaml", "run.h5"]


def run_here(tmp_path: Path, camera: CameraConfig, befall: Callable, **settings) -> tuple:
    """A session in this process, with a recorder as a process; ``befall`` is called with the source once it runs."""
    config = load_config("live", settings)
    options = LiveOptions(output=tmp_path / "run.h5", endpoint=Endpoint.parse(f"ipc://{tmp_path}/bus"))
    stop = threading.Event()
    with open_live_source("simulator", camera) as source:

        def watch() -> None:
            try:
                until(running(str(options.endpoint), 10))
                befall(source)
            finally:
                stop.set()

        thread = threading.Thread(target=watch)
        thread.start()
        result, error = None, None
        try:
            result = live(source, config, None, options, stop=stop)
        except CasaError as raised:
            error = raised
        finally:
            stop.set()
            thread.join()
    return result, error


def test_a_camera_that_stalls_loses_frames_and_comes_back_is_in_the_recording(tmp_path: Path):
    def befall(source) -> None:
        source.device.drop(5)
        source.device.stall(1.5)
        time.sleep(4)

    result, error = run_here(tmp_path, CameraConfig(fps_hz=20), befall)
    assert error is None
    assert result.bus["reconciled"] is True
    with Recording(tmp_path / "run.h5") as recording:
        account, frames = recording.account, recording.frames()
        kinds = [event["kind"] for event in recording.events()]
    assert account == result.session.account
    assert account.dropped >= 5
    assert np.array_equal(frames["frame"], np.arange(account.captured))
    assert kinds.index("camera_stalled") < kinds.index("camera_resumed")


def test_a_camera_that_changes_size_stops_the_session_loudly_and_the_recording_says_so(tmp_path: Path):
    def befall(source) -> None:
        source.device.change_size((320, 240))
        time.sleep(5)

    result, error = run_here(tmp_path, CameraConfig(fps_hz=20), befall)
    assert result is None
    assert error is not None
    with Recording(tmp_path / "run.h5") as recording:
        assert recording.status == "failed"
        assert recording.account.balanced
        assert "camera_size_changed" in [event["kind"] for event in recording.events()]


def test_a_session_in_segments_names_each_reports_each_and_logs_each(tmp_path: Path):
    call = ("live", "-o", "long.h5", "--segment", "1s", "--report", "--audit-log", "log", "--json")
    done = casa(*call, "--duration", "2.5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    recordings = sorted(path.name for path in tmp_path.glob("long.*.h5"))
    assert len(recordings) >= 2
    assert result["recordings"] == recordings
    assert result["recording"] is None
    captured = 0
    for name in recordings:
        with Recording(tmp_path / name) as recording:
            captured += recording.account.captured
        page = (tmp_path / name).with_suffix(".html")
        assert page.is_file()
        assert f"recording: {name}, report: {page.name}" in done.stderr
    assert captured == result["frames"]["captured"]
    assert [line.details["recording"] for line in read_audit(tmp_path / "log").lines] == recordings
    again = casa(*call, "--duration", "1", cwd=tmp_path)
    assert again.returncode == 2
    assert "long.0001.h5: exists already" in again.stderr
    for name in recordings:
        (tmp_path / name).unlink()
    again = casa(*call, "--duration", "1", cwd=tmp_path)
    assert again.returncode == 2
    assert "long.0001.html: exists already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--endpoint", "tcp://0.0.0.0:5999"), "needs keys"),
        (("--endpoint", "udp://x"), "expected a name"),
        (("--source", "nothing"), "no such camera"),
        (("--segment", "10min"), "need a recording"),
        (("-o", "x.h5", "--segment", "soon"), "expected a length of time"),
        (("-o", "x.h5", "--video", "gif"), "video"),
        (("-o", "missing/x.h5"), "does not exist"),
        (("--duration", "0"), "above 0"),
        (("--keys", "nowhere", "--endpoint", "tcp://0.0.0.0:5999"), "no such key"),
    ],
)
def test_a_wrong_call_is_told_before_anything_is_started(tmp_path: Path, monkeypatch, arguments, why):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=why):
        app(["live", *arguments], standalone_mode=False)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_call_is_one_line_and_its_exit_code_is_2(tmp_path: Path):
    done = casa("live", "--duration", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "casa: --duration 0: expected a number of seconds above 0\n"


def test_keys_are_made_once_and_secret(tmp_path: Path, capsys):
    app(["keys", str(tmp_path / "keys"), "--client", "viewer"], standalone_mode=False)
    made = sorted(path.name for path in (tmp_path / "keys").iterdir())
    assert made == ["engine.key", "engine.key_secret", "viewer.key", "viewer.key_secret"]
    before = (tmp_path / "keys" / "engine.key").read_text()
    assert "engine.key_secret" in capsys.readouterr().out
    app(["keys", str(tmp_path / "keys"), "--client", "viewer"], standalone_mode=False)
    assert "all keys are there already" in capsys.readouterr().out
    assert (tmp_path / "keys" / "engine.key").read_text() == before
