"""Claims about the recorder on the bus: what was sent is written or counted, whoever dies meanwhile."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bus_messages
import numpy as np
import pytest
import recordings

from casa.bus import messages as m
from casa.bus.address import Endpoint
from casa.bus.array import pack
from casa.bus.convert import detections_message, kinematics_message, tracks_message
from casa.bus.server import BusServer
from casa.config import BusConfig, RecordConfig
from casa.errors import InputError
from casa.record import Recording
from casa.record.process import Recorded, record_bus
from casa.types import FrameAccount

SESSION = "b" * 32
STATUSES = ("processed", "skipped", "dropped", "failed")


def until(claim: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class Engine:
    """Publishes made-up frames as the engine does, and keeps the account."""

    def __init__(self, folder: Path, config: BusConfig | None = None, *, pictures: bool = False) -> None:
        self.bus = BusServer(
            Endpoint.parse(f"ipc://{folder}/bus"), config or BusConfig(), SESSION, lambda request: m.Done()
        )
        self.bus.expect("recorder", pictures=pictures)
        start = m.SessionStart(source=bus_messages.SOURCE, calibration=None, session=dict(recordings.SESSION))
        self.bus.publish(start)
        self.ends = dict.fromkeys(STATUSES, 0)
        self.n = 0
        self.pictures = pictures

    def frames(self, n: int, pause_s: float = 0.0, tracks: int = 40) -> None:
        for _ in range(n):
            frame, t_ns = self.n, self.n * recordings.STEP_NS
            self.n += 1
            if self.pictures:
                self.bus.publish(m.FramePicture(frame=frame, t_ns=t_ns, image=pack(picture(frame))))
            status = STATUSES[0] if frame % 5 else STATUSES[2]
            if status == "processed":
                self.bus.publish(detections_message(recordings.detections(frame, tracks)))
                self.bus.publish(tracks_message(recordings.tracks(frame, tracks)))
            if frame % 50 == 1:
                self.bus.publish(kinematics_message(recordings.kinematics([frame])))
                self.bus.publish(m.PictureMessage(frame=frame, t_ns=t_ns, image=pack(recordings.picture(frame))))
            self.bus.publish(m.FrameEnd(frame=frame, t_ns=t_ns, status=status))
            self.ends[status] += 1
            time.sleep(pause_s)

    @property
    def account(self) -> FrameAccount:
        return FrameAccount(captured=self.n, **self.ends)

    def finish(self) -> None:
        self.bus.finish(
            lambda sent, left_out: m.SessionEnd(
                status="complete", account=self.account, summary=recordings.SUMMARY,
                latency_ms={"p50": 2.0, "p99": None}, sent=sent, left_out=left_out,
            )
        )  # fmt: skip


def picture(frame: int) -> np.ndarray:
    return np.random.default_rng(frame).integers(0, 256, (48, 64)).astype(np.uint8)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path)
    yield engine
    engine.bus.close()


def record_here(engine: Engine, output: Path, **options: Any) -> Callable[[], Recorded]:
    """Record in a thread; the function given waits for what came of it."""
    found: list[Any] = []

    def work() -> None:
        try:
            options.setdefault("name", "recorder")
            found.append(record_bus(engine.bus.endpoint, output, RecordConfig(), **options))
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()

    def wait() -> Recorded:
        thread.join(60)
        assert found
        if isinstance(found[0], Exception):
            raise found[0]
        return found[0]

    return wait


def start_recorder(endpoint: Endpoint, output: Path, *more: str, max_bytes: int | None = None) -> subprocess.Popen[str]:
    """``casa record`` as a process, as the engine starts it; ``max_bytes``: no file of its may be longer."""

    def limit() -> None:
        if max_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, resource.RLIM_INFINITY))

    return subprocess.Popen(
        [sys.executable, "-m", "casa", "record", str(endpoint), "-o", str(output), "--name", "recorder", *more],
        stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, preexec_fn=limit,
    )  # fmt: skip


def check(path: Path, engine: Engine, n_frames: int | None = None) -> None:
    """The recording has every frame once, with its rows."""
    with Recording(path) as recording:
        frames, tracks = recording.frames(), recording.tracks()
        n = engine.n if n_frames is None else n_frames
        assert recording.account.balanced
        assert recording.account.captured == n
        assert np.array_equal(frames["frame"], np.arange(n))
        analysed = frames["frame"][frames["status"] == "processed"]
        assert np.array_equal(np.unique(tracks.frame), analysed)
        assert len(tracks) == 40 * len(analysed)
        last = tracks.select(tracks.frame == analysed[-1])
        expected = recordings.tracks(int(analysed[-1]))
        assert np.array_equal(last.x_measured_px, expected.measured_xy_px[:, 0], equal_nan=True)


def test_a_session_is_recorded_whole_and_the_counts_agree(engine, tmp_path: Path):
    wait = record_here(engine, tmp_path / "run.h5")
    engine.bus.publish(m.SessionEvent(kind="mark", text="häufig", t_ns=7, utc="now", level="warning"))
    engine.frames(120)
    engine.finish()
    found = wait()
    assert found.status == "complete"
    assert found.reconciled is True
    check(tmp_path / "run.h5", engine)
    with Recording(tmp_path / "run.h5") as recording:
        assert recording.status == "complete"
        assert recording.summary() == recordings.SUMMARY
        assert recording.latency == {"p50": 2.0, "p99": None}
        assert len(recording.kinematics()) == 3
        assert recording.n_pictures == 3
        (event,) = recording.events()
        assert (event["kind"], event["text"], event["level"], event["t_ns"]) == ("mark", "häufig", "warning", 7)
        bus = recording.bus
    assert bus is not None
    assert bus["sent"] == bus["written"] == found.written
    assert bus["reconciled"] is True
    assert engine.bus.left("recorder").written == found.written
    assert sorted(path.name for path in tmp_path.glob("run*")) == ["run.h5"]


def test_a_recorder_that_is_killed_at_any_moment_loses_nothing_once_another_goes_on(tmp_path: Path, engine):
    path = tmp_path / "run.h5"
    rng = random.Random(1)
    stop = threading.Event()

    def publish() -> None:
        while not stop.is_set():
            engine.frames(1, 0.002)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for _ in range(2):
            process = start_recorder(engine.bus.endpoint, path)
            until(lambda: engine.bus.clients()[0].connected)
            time.sleep(rng.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            until(lambda: not engine.bus.clients()[0].connected)
    finally:
        stop.set()
        thread.join()
    process = start_recorder(engine.bus.endpoint, path)
    engine.finish()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    check(path, engine)
    with Recording(path) as recording:
        assert recording.bus is not None
        assert recording.bus["reconciled"] is True
        assert recording.bus["left_out"] == {}


def test_a_recorder_that_is_too_slow_leaves_a_counted_gap_and_an_exact_account(tmp_path: Path):
    engine = Engine(tmp_path, BusConfig(record_queue_mib=1))
    try:
        process = start_recorder(engine.bus.endpoint, tmp_path / "run.h5")
        engine.frames(20)
        until(lambda: engine.bus.clients()[0].written > 20)
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        engine.frames(1000)
        published_s = time.monotonic() - began
        assert engine.bus.clients()[0].left_out > 1000
        assert engine.bus.clients()[0].queued_bytes < 2 << 20
        process.send_signal(signal.SIGCONT)
        until(lambda: engine.bus.clients()[0].queued == 0)
        engine.frames(20)
        engine.finish()
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        assert published_s < 20
        with Recording(tmp_path / "run.h5") as recording:
            assert recording.account == engine.account
            bus = recording.bus
            gaps = [event for event in recording.events() if event["kind"] == "gap"]
            frames = recording.frames()["frame"]
        assert bus is not None
        assert bus["reconciled"] is True
        assert len(gaps) == 1
        assert engine.n - len(frames) == bus["left_out"]["frame_end"] == sum(bus["gap_ends"].values())
        assert frames[-1] == engine.n - 1
    finally:
        engine.bus.close()


def test_an_engine_that_dies_leaves_a_recording_that_says_so(engine, tmp_path: Path):
    wait = record_here(engine, tmp_path / "run.h5")
    engine.frames(60)
    until(lambda: engine.bus.clients()[0].queued == 0)
    engine.bus.publish(tracks_message(recordings.tracks(61)))  # a frame whose end never comes
    until(lambda: engine.bus.clients()[0].queued == 0)
    engine.bus.close()
    found = wait()
    assert found.status == "interrupted"
    assert found.reconciled is None
    with Recording(tmp_path / "run.h5") as recording:
        assert recording.status == "interrupted"
        account, frames = recording.account, recording.frames()
        assert account.balanced
        assert account.captured == 61
        assert account.failed == 1
        assert frames["frame"][frames["status"] == "failed"].tolist() == [61]
        assert recording.events()[-1]["text"] == "the engine is gone"
        assert recording.bus is not None
        assert recording.bus["sent"] is None


def test_a_full_disk_is_told_and_nothing_is_lost_once_there_is_room(engine, tmp_path: Path):
    path = tmp_path / "run.h5"
    full = start_recorder(engine.bus.endpoint, path, max_bytes=400_000)
    engine.frames(200)
    _, said = full.communicate(timeout=60)
    assert full.returncode == 1
    assert "the disk is full" in said
    assert (tmp_path / "run.h5.journal").exists()
    assert "full" in engine.bus.left("recorder").note
    room = start_recorder(engine.bus.endpoint, path)
    engine.frames(20)
    engine.finish()
    _, said = room.communicate(timeout=60)
    assert room.returncode == 0, said
    check(path, engine)
    with Recording(path) as recording:
        assert recording.bus is not None
        assert recording.bus["reconciled"] is True


def test_segments_are_recordings_of_their_own_and_together_the_session(engine, tmp_path: Path):
    wait = record_here(engine, tmp_path / "run.h5", segment_s=1.0)
    engine.frames(120)
    engine.finish()
    found = wait()
    assert [path.name for path in found.recordings] == ["run.0001.h5", "run.0002.h5", "run.0003.h5"]
    numbers = []
    total = FrameAccount()
    for number, path in enumerate(found.recordings, 1):
        with Recording(path) as recording:
            assert recording.account.balanced
            assert recording.session["segment"] == {"number": number}
            assert recording.summary() is None  # the engine's is of the whole session
            frames = recording.frames()["frame"].tolist()
            assert set(recording.tracks().frame.tolist()) <= set(frames)
            numbers += frames
            total = FrameAccount(*(getattr(total, f) + getattr(recording.account, f) for f in ("captured", *STATUSES)))
    assert numbers == list(range(120))
    assert total == engine.account
    assert found.reconciled is True


def test_segments_go_on_after_a_kill_without_a_frame_twice_or_missing(engine, tmp_path: Path):
    path = tmp_path / "run.h5"
    process = start_recorder(engine.bus.endpoint, path, "--segment", "1s")
    engine.frames(80)
    until(lambda: engine.bus.clients()[0].queued == 0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait = record_here(engine, path, segment_s=1.0)
    engine.frames(80)
    engine.finish()
    assert wait().reconciled is True
    numbers: list[int] = []
    for file in sorted(tmp_path.glob("run.*.h5")):
        with Recording(file) as recording:
            numbers += recording.frames()["frame"].tolist()
    assert numbers == list(range(160))


@pytest.mark.parametrize("codec", ["lossless", "mjpeg"])
def test_video_lines_up_with_the_tables(tmp_path: Path, codec: str):
    import av

    engine = Engine(tmp_path, pictures=True)
    try:
        wait = record_here(engine, tmp_path / "run.h5", video=codec)
        engine.frames(60)
        engine.finish()
        assert wait().reconciled is True
    finally:
        engine.bus.close()
    with Recording(tmp_path / "run.h5") as recording:
        index, frames = recording.video(), recording.frames()
    assert np.array_equal(index["frame"], frames["frame"])
    assert np.array_equal(index["t_ns"], frames["t_ns"])
    with av.open(str(tmp_path / "run.mkv")) as file:
        images = [frame.to_ndarray(format="gray") for frame in file.decode(video=0)]
    assert len(images) == 60
    for row in (0, 31, 59):
        error = np.abs(images[index["video_frame"][row]].astype(int) - picture(int(index["frame"][row])))
        assert error.max() == 0 if codec == "lossless" else error.mean() < 10


def test_video_goes_on_in_another_part_after_a_kill(tmp_path: Path):
    import av

    engine = Engine(tmp_path, pictures=True)
    try:
        process = start_recorder(engine.bus.endpoint, tmp_path / "run.h5", "--video", "lossless")
        engine.frames(60)
        until(lambda: engine.bus.clients()[0].queued == 0)
        time.sleep(0.6)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        wait = record_here(engine, tmp_path / "run.h5", video="lossless")
        engine.frames(60)
        engine.finish()
        assert wait().reconciled is True
    finally:
        engine.bus.close()
    with Recording(tmp_path / "run.h5") as recording:
        index = recording.video()
    assert np.array_equal(index["frame"], np.arange(120))
    counts = {}
    for part, name in ((1, "run.mkv"), (2, "run.part2.mkv")):
        with av.open(str(tmp_path / name)) as file:
            counts[part] = sum(1 for _ in file.decode(video=0))
    assert counts[2] == (index["part"] == 2).sum()
    assert counts[1] >= (index["part"] == 1).sum() - 50  # a second of it, at most


def test_a_recorder_that_joins_late_has_its_own_account(engine, tmp_path: Path):
    engine.bus.forget("recorder")
    engine.frames(50)
    wait = record_here(engine, tmp_path / "late.h5", name="")
    until(lambda: engine.bus.clients())
    engine.frames(50)
    engine.finish()
    assert wait().reconciled is True
    with Recording(tmp_path / "late.h5") as recording:
        assert recording.account.balanced
        assert recording.frames()["frame"].tolist() == list(range(50, 100))
        assert recording.account.captured == 50
        assert recording.summary() is None
        assert recording.bus is not None
        assert recording.bus["engine_account"]["captured"] == 100


def test_a_recording_of_another_session_is_not_gone_on_with(engine, tmp_path: Path):
    recordings.leave_unfinished(tmp_path / "run.h5")
    wait = record_here(engine, tmp_path / "run.h5")
    with pytest.raises(InputError, match="casa recover"):
        wait()


def test_no_session_is_one_line(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("casa.record.process._WAIT_FOR_SESSION_S", 0.3)
    with pytest.raises(InputError, match="no session runs there"):
        record_bus(Endpoint.parse(f"ipc://{tmp_path}/none"), tmp_path / "run.h5", RecordConfig())
