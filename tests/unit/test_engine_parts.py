"""Claims about the parts of a live session: trails, stages that are opened anew, processes that are looked after."""

from __future__ import annotations

import os
import time

import bus_messages
import numpy as np
import pytest

from casa.bus.messages import UNGRADED
from casa.cli.top import _table
from casa.cli.values import seconds_of
from casa.engine.children import Children
from casa.engine.restarting import Restarting
from casa.engine.trails import TrailStore
from casa.errors import CasaError, InputError
from casa.types import Tracks

FPS_HZ = 50
UM_PER_PX = 0.5


def tracks(frame: int, centres: dict[int, tuple[float, float]], missed: tuple[int, ...] = ()) -> Tracks:
    ids = np.array(list(centres))
    xy = np.array(list(centres.values()), float).reshape(-1, 2)
    predicted = np.isin(ids, missed)
    measured = np.where(predicted[:, None], np.nan, xy)
    boxes = np.concatenate([xy - 4, xy + 4], axis=1)
    n = len(ids)
    return Tracks(
        frame, frame * 10**9 // FPS_HZ, ids, boxes, measured, np.ones(n), predicted, np.zeros((n, 2)), np.empty(0)
    )


def store(um_per_px: float | None = UM_PER_PX) -> TrailStore:
    return TrailStore(1.5, FPS_HZ, um_per_px, min_duration_s=0.5, still_um=3.0)


def test_speeds_and_grades_of_the_moment_are_those_of_the_last_second():
    trails = store()
    for frame in range(200):
        t = frame / FPS_HZ
        beat = 8 * np.sin(2 * np.pi * 5 * t), 8 * np.cos(2 * np.pi * 2 * t)
        trails.add(
            tracks(
                frame, {1: (80 * t, 0), 2: (20 * t, 50), 3: (200 + beat[0], 100 + beat[1]), 4: (300, 300)}, missed=(1,)
            )
        )
    found = trails.trails()
    assert found.vsl_px_s == pytest.approx([80, 20, found.vsl_px_s[2], 0], abs=0.5)
    assert found.vcl_px_s[:2] == pytest.approx([80, 20], abs=0.5)
    assert found.vcl_px_s[2] > 80
    assert found.grade.tolist() == [0, 1, 2, 3]  # 40, 10 um/s, beating on the spot, still
    assert found.length.tolist() == [76] * 4
    last = found.xy_px[found.length[0] - 1]
    assert last == pytest.approx([80 * 199 / FPS_HZ, 0], abs=1e-3)


def test_time_by_grade_counts_tracks_that_are_still_in_view():
    trails = store()
    for frame in range(500):
        t = frame / FPS_HZ
        fast = {10 + int(t): (80 * (t % 1), 0.0)} if t % 1 < 0.9 else {}  # a new one each second, gone after .9 s
        trails.add(tracks(frame, {1: (20 * t, 50), 4: (300, 300), **fast}))
    a, b, c, d = trails.seconds_by_grade
    assert (b, d) == (pytest.approx(9.5, abs=0.3), pytest.approx(9.5, abs=0.3))
    assert 2 < a < 5
    assert c == 0
    plain = store(None)
    for frame in range(100):
        plain.add(tracks(frame, {1: (frame, 0)}))
    assert plain.seconds_by_grade.sum() == 0


def test_a_young_track_and_an_uncalibrated_one_have_no_grade():
    young, plain = store(), store(None)
    for frame in range(60):
        plain.add(tracks(frame, {1: (2.0 * frame, 0)}))
    for frame in range(10):
        young.add(tracks(frame, {1: (2.0 * frame, 0)}))
    assert young.trails().grade.tolist() == plain.trails().grade.tolist() == [UNGRADED]
    assert np.isnan(young.trails().vsl_px_s[0])
    assert plain.trails().vsl_px_s[0] == pytest.approx(100, abs=0.5)


def test_a_track_that_is_gone_is_forgotten_and_its_room_is_used_again():
    trails = store()
    for key in range(1000):
        trails.add(tracks(key, {key + 1: (5.0, 5.0), key + 2: (9.0, 9.0)}))
    assert trails.path(1) is None
    found = trails.path(1001)
    assert found is not None
    assert found[1].tolist() == [[9.0, 9.0]]
    assert len(trails._n) <= 128
    trails.add(tracks(1000, {}))
    assert len(trails.trails().length) == 0


class Breaking:
    """A stage that fails on request, and counts how often it was opened."""

    def __init__(self) -> None:
        self.opened = 0
        self.broken = False

    def open(self) -> None:
        self.opened += 1
        self.broken = False

    def process(self, item):
        if self.broken:
            raise ValueError("broken down")
        if item == "loud":
            raise CasaError("told on purpose")
        return [item]

    def flush(self):
        return ()

    def close(self) -> None:
        pass


def test_a_stage_that_fails_again_and_again_is_opened_anew_and_works():
    stage, said = Breaking(), []
    wrapped = Restarting("detect", stage, said.append)
    wrapped.open()
    stage.broken = True
    failures = 0
    for _ in range(6):
        try:
            wrapped.process(1)
        except ValueError:
            failures += 1
    assert failures == 4
    assert stage.opened == 2
    assert "detect failed 4 times in a row" in said[0]


def test_a_stage_that_stays_broken_is_not_opened_for_ever_and_loud_errors_pass():
    stage, said = Breaking(), []
    wrapped = Restarting("detect", stage, said.append)
    wrapped.open()
    for _ in range(50):
        stage.broken = True
        with pytest.raises(ValueError, match="broken down"):
            wrapped.process(1)
    assert stage.opened == 4
    stage.broken = False
    with pytest.raises(CasaError):
        wrapped.process("loud")
    assert stage.opened == 4


def test_a_process_that_is_killed_is_started_again_one_that_was_called_wrongly_is_not():
    events: list[tuple[str, str, str]] = []
    children = Children(lambda *event: events.append(event))
    try:
        wrong = children.start("wrong", ["nonsense"], max_restarts=5)
        waiting = children.start("waiting", ["record", "nobody", "-o", "x.h5"], max_restarts=5, niceness=5)
        assert waiting.process is not None
        first = waiting.process.pid
        waiting.process.kill()
        deadline = time.monotonic() + 60
        while (wrong.state != "failed" or waiting.restarts == 0) and time.monotonic() < deadline:
            children.look_after()
            time.sleep(0.02)
        assert wrong.state == "failed"
        assert wrong.restarts == 0
        assert waiting.restarts == 1
        assert waiting.process.pid != first
        assert os.getpriority(os.PRIO_PROCESS, waiting.process.pid) == 5 + os.getpriority(os.PRIO_PROCESS, 0)
        assert {kind for _, kind, _ in events} == {"wrong_failed", "waiting_died", "waiting_restarted"}
        assert {health.name for health in children.health()} == {"wrong", "waiting"}
    finally:
        children.end_all(10)
    assert waiting.process is not None
    assert waiting.process.poll() is not None


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10min", 600), ("1.5h", 5400), ("2m", 120)])
def test_lengths_of_time(text, seconds):
    assert seconds_of("--segment", text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-3s", "ten", "3 days", "1e3"])
def test_what_is_no_length_of_time_is_one_line(text):
    with pytest.raises(InputError, match="--segment"):
        seconds_of("--segment", text)


def test_the_table_of_casa_top_shows_what_was_lost():
    from rich.console import Console

    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(_table("ipc://x", "running", bus_messages.metrics()))
    console.file.close()
    text = console.export_text()
    assert "1 dropped, 1 failed" in text
    assert "p50 12.5 ms, p99 unknown" in text
    assert "6 of 9 messages written" in text
