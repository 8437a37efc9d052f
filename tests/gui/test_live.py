"""The viewer with a running session: a real bus, with an engine that the test plays."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from PySide6.QtCore import Qt
from viewer_driving import place_of, press

from casa.bus import messages as bus
from casa.bus.address import Endpoint
from casa.bus.array import pack
from casa.bus.server import BusServer
from casa.config import BusConfig
from casa.types import Calibration, FrameAccount, SourceInfo, Summary
from casa.viewer import bus_feed

WIDTH, HEIGHT, N = 320, 240, 6
CALIBRATION = Calibration("bench", 0.5, 0.5, chamber_depth_um=20.0, verified=True)
SUMMARY = Summary(
    9, 6.0, 31.5, {"a": 40.0, "b": 20.0, "c": 10.0, "d": 30.0, "pr": 60.0, "total": 70.0}, 12.0, None, None
)


class Engine:
    """A session on the bus: six sperm that swim to the right, one pixel a frame."""

    def __init__(self, folder, size=(WIDTH, HEIGHT), dtype=np.uint8) -> None:
        self.endpoint, self.size, self.dtype = f"ipc://{folder}", size, dtype
        self.marks: list[str] = []
        self.asked: list[int] = []
        self.frame = 0
        self.server = BusServer(Endpoint.parse(self.endpoint), BusConfig(), "s1", self.answer)

    def answer(self, request):
        if isinstance(request, bus.Mark):
            self.marks.append(request.text)
            return bus.Done(text=f"frame {self.frame} marked")
        if isinstance(request, bus.GetStatus):
            start = bus.SessionStart(
                source=SourceInfo("sim", *self.size, 50.0, None, "simulated"), calibration=CALIBRATION, session={}
            )
            return bus.StatusReply(state="running", start=start, metrics=self.metrics())
        if isinstance(request, bus.GetTrack):
            self.asked.append(request.track_id)
            return self.track(request.track_id)
        return bus.Refused(reason="not here")

    def metrics(self):
        account = FrameAccount(self.frame + 3, self.frame, 0, 3, 0)
        return bus.Metrics(t_ns=self.frame * 20_000_000, account=account, captured_fps=50.0, processed_fps=47.0,
                           latency_p50_ms=12.0, latency_p99_ms=30.0)  # fmt: skip

    def places(self) -> np.ndarray:
        start = np.array([[40 + 45 * k, 30 + 30 * k] for k in range(N)], np.float32)
        return start + np.array([self.frame % 30, 0], np.float32)

    def track(self, track_id: int):
        path = np.stack([np.linspace(10, self.places()[track_id - 1, 0], 40), np.full(40, 50.0)], axis=1)
        heat, crop = np.zeros((8, 8), np.uint8), np.full((32, 32), 90, np.uint8)
        heat[2:4, 2:4] = 255
        return bus.TrackReply(
            track_id=track_id, t_ns=pack(np.arange(40) * 20_000_000), xy_px=pack(path),
            grades=bus.GradesMessage(clip_id=1, track_id=track_id, model="t",
                                     distribution=pack(np.array([0.1, 0.3, 0.4, 0.15, 0.05]))),
            morphology=bus.MorphologyMessage(track_id=track_id, frame=1, normal={"head": 0.9, "acrosome": 0.2},
                                             crop=pack(crop), heat_map=pack(heat), model="m"),
        )  # fmt: skip

    def show(self) -> None:
        self.frame += 1
        xy = self.places().astype(np.float32)
        white = np.iinfo(self.dtype).max
        image = np.full((self.size[1], self.size[0]), white // 4, self.dtype)
        image[: self.frame % 40 + 1, :10] = white // 2
        trail = np.repeat(xy, 10, axis=0) - np.tile(np.stack([np.arange(9, -1, -1), np.zeros(10)], 1), (N, 1))
        self.server.view(
            bus.View(
                frame=self.frame, t_ns=self.frame * 20_000_000, captured_mono_ns=0,
                published_mono_ns=time.monotonic_ns(),
                image=pack(image), white_level=white, track_id=pack(np.arange(1, N + 1)),
                xyxy=pack(np.concatenate([xy - 8, xy + 8], axis=1), "f4"), predicted=pack(np.arange(N) == 5),
                confidence=pack(np.ones(N), "f4"), grade=pack(np.array([0, 1, 2, 3, 255, 0]), "u1"),
                vcl_px_s=pack(np.arange(N) * 10.0, "f4"), vsl_px_s=pack(np.arange(N) * 5.0, "f4"),
                trail_xy_px=pack(trail, "f4"), trail_length=pack(np.full(N, 10), "i4"), um_per_px=0.5,
                grade_counts=(2, 1, 1, 1, 1), summary=SUMMARY, metrics=self.metrics(),
            )
        )  # fmt: skip


@pytest.fixture
def engine(tmp_path):
    made = Engine(tmp_path / "s")
    yield made
    made.server.close()


def watch(engine, window, qtbot, condition, timeout: int = 20_000) -> None:
    """Let the engine show frames until the window has come to something."""

    def step() -> bool:
        engine.show()
        return bool(condition())

    qtbot.waitUntil(step, timeout=timeout)


def test_it_shows_a_running_session(open_viewer, engine, qtbot):
    window = open_viewer(engine.endpoint, wait=False)
    watch(engine, window, qtbot, lambda: window.view is not None and window.figures is not None)
    assert window.view.track_id.tolist() == [1, 2, 3, 4, 5, 6]
    assert window.figures.in_view.tolist() == [2, 1, 1, 1, 1, 0]
    watch(engine, window, qtbot, lambda: window.figures.calibration == CALIBRATION)
    watch(engine, window, qtbot, lambda: window.field_panel._big["concentration"].text() == "31.5 M/mL")
    assert window.field_panel._big["pr"].text() == "60 %"
    assert window.field_panel._big["concentration"].text() == "31.5 M/mL"
    assert "47 of 50 frames/s analysed, 12 ms late" in window._facts.text()
    assert "3 lost" in window._facts.text()
    assert window.canvas.um_per_px == 0.5
    assert not window.transport.scrubber.isVisible()
    press(window, qtbot, "Space")
    qtbot.waitUntil(lambda: "paused" in window._badge.text())
    shown, sent = window.view.frame, engine.frame
    watch(engine, window, qtbot, lambda: engine.frame > sent + 20)
    assert window.view.frame == shown
    assert "paused" in window._badge.text()
    press(window, qtbot, "Space")
    watch(engine, window, qtbot, lambda: window.view.frame > sent + 20)


def test_a_click_asks_the_engine_for_the_sperm(open_viewer, engine, qtbot):
    window = open_viewer(engine.endpoint, wait=False)
    watch(engine, window, qtbot, lambda: window.view is not None)
    press(window, qtbot, "Space")
    qtbot.mouseClick(window.canvas, Qt.MouseButton.LeftButton, pos=place_of(window, 3))
    assert window.canvas.selected == 3
    press(window, qtbot, "Space")
    watch(engine, window, qtbot, lambda: window.sperm is not None and window.sperm.grades is not None)
    assert 3 in engine.asked
    assert len(window.sperm.path) == 40
    watch(engine, window, qtbot, lambda: "40 %" in window.sperm_panel._grades.accessibleDescription())
    assert window.sperm_panel._grades.isVisible()
    assert window.sperm.morphology.normal == {"head": 0.9, "acrosome": 0.2}
    assert window.sperm.morphology.heat.max() == 1.0
    assert window.sperm_panel._head.isVisible()
    assert not window.sperm_panel._changes.isVisible()
    watch(engine, window, qtbot, lambda: len(window.sperm.clip) >= 3)


def test_a_mark_is_the_engine_s(open_viewer, engine, qtbot):
    window = open_viewer(engine.endpoint, wait=False)
    watch(engine, window, qtbot, lambda: window.view is not None)
    press(window, qtbot, "M")
    watch(engine, window, qtbot, lambda: "marked" in window.message)
    assert engine.marks == [""]


def test_sixteen_bit_pictures_are_stretched(open_viewer, tmp_path, qtbot):
    engine = Engine(tmp_path / "deep", dtype=np.uint16)
    try:
        window = open_viewer(engine.endpoint, wait=False)
        watch(engine, window, qtbot, lambda: window.view is not None)
        assert window.view.image.dtype == np.uint8
    finally:
        engine.server.close()


def test_a_lost_connection_is_said_and_mended(open_viewer, tmp_path, qtbot, monkeypatch):
    monkeypatch.setattr(bus_feed, "SILENT_S", 1.2)
    folder = tmp_path / "s"
    engine = Engine(folder)
    window = open_viewer(engine.endpoint, wait=False)
    watch(engine, window, qtbot, lambda: window.view is not None)
    last = engine.frame
    engine.server.close()
    qtbot.waitUntil(lambda: window.feed.condition().title == "Connection lost", timeout=60_000)
    window.tick()
    assert window.canvas._condition.title == "Connection lost"
    assert window.view is not None, "the last picture stays"
    again = Engine(folder)
    again.frame = last + 100
    try:
        watch(again, window, qtbot, lambda: window.view.frame > last)
        watch(again, window, qtbot, lambda: window.feed.condition().title == "")
    finally:
        again.server.close()


def test_the_end_of_a_session_is_said(open_viewer, engine, qtbot):
    window = open_viewer(engine.endpoint, wait=False)
    watch(engine, window, qtbot, lambda: window.view is not None)
    account = FrameAccount(100, 97, 0, 3, 0)
    engine.server.event(bus.SessionEnd(status="complete", account=account, summary=SUMMARY, latency_ms={}))
    qtbot.waitUntil(lambda: window.feed.condition().title == "The session ended", timeout=60_000)
    assert "97 of 100 frames" in window.feed.condition().text


def test_without_a_session_it_waits_and_says_for_what(open_viewer, tmp_path, qtbot):
    window = open_viewer(f"ipc://{tmp_path}/nobody", wait=False)
    qtbot.waitUntil(lambda: window.feed.condition().title == "Waiting for a session", timeout=60_000)
    engine = Engine(tmp_path / "nobody")
    try:
        watch(engine, window, qtbot, lambda: window.view is not None)
    finally:
        engine.server.close()


def test_a_flood_of_large_pictures_costs_the_window_little(open_viewer, tmp_path, qtbot):
    """The window's own work is counted in its processor time, which a busy machine does not change much."""
    engine = Engine(tmp_path / "s", size=(1920, 1200))
    stop = threading.Event()

    def flood() -> None:
        while not stop.wait(0.005):
            engine.show()

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        window = open_viewer(engine.endpoint, wait=False)
        qtbot.waitUntil(lambda: window.view is not None, timeout=60_000)
        took, frames, until = [], set(), time.monotonic() + 2.0
        while time.monotonic() < until:
            begun = time.thread_time()
            window.tick()
            window.canvas.repaint()
            took.append((time.thread_time() - begun) * 1e3)
            frames.add(window.view.frame)
            qtbot.wait(10)
    finally:
        stop.set()
        thread.join()
        engine.server.close()
    assert len(frames) > 5
    assert np.median(took) < 33, "a picture costs more than a thirtieth of a second"
