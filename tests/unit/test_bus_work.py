"""Claims about the graders' queue: the right clip is next, and every clip taken ends as exactly one thing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import recordings
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from casa.bus import messages as m
from casa.bus.address import Endpoint
from casa.bus.array import pack
from casa.bus.codec import encode
from casa.bus.desk import Counter, GraderDesk
from casa.bus.grader_client import GraderClient
from casa.bus.keys import load_client_keys, load_engine_keys, make_keys
from casa.bus.server import BusServer
from casa.bus.work import WorkQueue
from casa.cells import Clip
from casa.config import BusConfig
from casa.types import FrameAccount

ONE = recordings.kept_clip(1).clip


def clip(clip_id: int, track_id: int) -> Clip:
    return replace(ONE, clip_id=clip_id, track_id=track_id)


def taken(queue: WorkQueue, grader: bytes = b"g") -> int:
    job = queue.take(grader)
    assert job is not None
    return job.clip.clip_id


def balanced(c: m.GradingMetrics) -> bool:
    return c.taken == c.graded + c.superseded + c.left_out + c.failed + c.waiting + c.under_way


def test_tracks_without_a_grade_come_first_the_newest_of_them_then_the_oldest_grade():
    queue = WorkQueue(10, 3)
    for number in (1, 2, 3):
        queue.put(clip(number, number))
    assert [taken(queue) for _ in range(3)] == [3, 2, 1]
    for number in (2, 3, 1):
        assert queue.graded(b"g", number) is not None
    for number in (4, 5, 6):
        queue.put(clip(number, number - 3))  # tracks 1, 2, 3 again
    queue.put(clip(7, 9))
    assert [taken(queue) for _ in range(4)] == [7, 5, 6, 4]
    queue.put(clip(8, 10))
    queue.put(clip(9, 2))
    queue.favour(2)
    assert taken(queue) == 9  # somebody looks at it
    assert taken(queue) == 8
    assert queue.take(b"g") is None
    assert queue.counts().tracks == 3


def test_a_newer_clip_of_a_track_takes_the_place_of_one_that_waits():
    queue = WorkQueue(10, 3)
    for number in range(1, 6):
        queue.put(clip(number, 1))
    assert taken(queue) == 5
    assert (queue.counts().taken, queue.counts().superseded, queue.counts().waiting) == (5, 4, 0)


def test_a_full_queue_leaves_out_tracks_that_have_a_grade_before_those_that_have_none():
    queue = WorkQueue(2, 3)
    queue.put(clip(1, 1))
    taken(queue)
    queue.graded(b"g", 1)
    for number in (2, 3, 4):
        queue.put(clip(number, number - 1))  # track 1 has a grade
    assert {taken(queue), taken(queue)} == {3, 4}
    for number in (5, 6, 7):
        queue.put(clip(number, number))
    assert {taken(queue), taken(queue)} == {6, 7}  # the oldest has gone
    assert queue.counts().left_out == 2


def test_clips_of_a_grader_that_dies_go_to_another_one_but_not_for_ever():
    queue = WorkQueue(10, 2)
    queue.put(clip(1, 1))
    queue.put(clip(2, 2))
    assert taken(queue, b"a") == 2
    assert queue.graded(b"b", 2) is None  # it is not with that one
    assert queue.lost(b"a") == 1
    assert taken(queue, b"b") in (1, 2)
    assert taken(queue, b"b") in (1, 2)
    queue.put(clip(3, 1))  # newer than what is under way
    assert queue.lost(b"b") == 2
    counts = queue.counts()
    assert (counts.failed, counts.superseded, counts.waiting, counts.under_way) == (1, 1, 1, 0)
    assert taken(queue, b"c") == 3


def test_at_the_end_only_tracks_without_a_grade_are_waited_for():
    queue = WorkQueue(10, 3)
    queue.put(clip(1, 1))
    taken(queue)
    queue.graded(b"g", 1)
    queue.put(clip(2, 1))
    queue.put(clip(3, 3))
    queue.close()
    queue.put(clip(4, 4))
    assert (queue.counts().left_out, queue.counts().waiting, queue.is_empty) == (2, 1, False)
    assert taken(queue) == 3
    queue.abandon()
    assert queue.is_empty
    assert queue.graded(b"g", 3) is None  # too late
    assert balanced(queue.counts())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(1, 4), st.sampled_from([b"a", b"b"])), max_size=80))
def test_whatever_happens_every_clip_is_accounted_for(steps):
    queue, numbers = WorkQueue(3, 2), 0
    for action, track, grader in steps:
        match action:
            case 0 | 1 | 2:
                numbers += 1
                queue.put(clip(numbers, track))
            case 3 | 4:
                queue.take(grader)
            case 5:
                queue.graded(grader, max(numbers - track + 1, 0))
            case 6:
                queue.lost(grader)
            case 7:
                queue.failed(grader, max(numbers - track + 1, 0))
        counts = queue.counts()
        assert counts.taken == numbers
        assert balanced(counts)
        assert counts.waiting <= 3
    queue.abandon()
    assert balanced(queue.counts())
    assert queue.counts().waiting == queue.counts().under_way == 0


# with real sockets


def until(claim: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class Bus:
    """A bus with a queue, and what came of it."""

    def __init__(self, endpoint: str, keys: Path | None = None) -> None:
        self.queue = WorkQueue(100, 3)
        self.grades: list[tuple[Clip, m.GradesMessage]] = []
        self.events: list[str] = []
        self.heads: list[m.MorphologyMessage] = []
        self.of_heads = WorkQueue(100, 3)
        counters = {
            "grade": Counter(
                self.queue, lambda clip, message: self.grades.append((clip, message)), lambda clip: clip.track_id == 2
            ),
            "morphology": Counter(
                self.of_heads,
                lambda clip, message: self.heads.append(message),
                lambda clip: True,
                lambda message: message.reason != "nonsense",
                "shapes",
            ),
        }
        self.desk = GraderDesk(counters, lambda level, kind, text: self.events.append(kind))
        engine = load_engine_keys(keys) if keys is not None else None
        where = Endpoint.parse(endpoint)
        self.server = BusServer(where, BusConfig(), "s", lambda request: m.Done(), engine, desk=self.desk)
        self.endpoint = where

    def put(self, *clips: Clip) -> None:
        for item in clips:
            self.queue.put(item)
        self.server.wake()


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    made = Bus(f"ipc://{tmp_path}/bus")
    with made.server:
        yield made


def grades(work: m.Work, **changes) -> m.GradesMessage:
    message = m.GradesMessage(
        clip_id=work.clip.clip_id, track_id=work.clip.track_id, distribution=pack(np.full(5, 0.2)), model="g"
    )
    return msgspec.structs.replace(message, **changes)


def test_a_grader_gets_as_many_clips_as_it_has_room_for_and_gives_back_grades(bus: Bus):
    bus.put(clip(1, 1), clip(2, 2), clip(3, 3))
    with GraderClient(bus.endpoint, "one", "net") as grader:
        until(lambda: bus.desk.metrics().graders)
        assert grader.receive(0.3) == []  # it has not said that it has room
        grader.ready(2, 0.25)
        work = grader.receive(5)
        assert [(item.clip.clip_id, item.attention) for item in work] == [(3, False), (2, True)]
        assert np.array_equal(work[0].clip.images.numpy(), ONE.images)
        assert bus.desk.metrics().under_way == 2
        grader.answer(grades(work[0]))
        grader.answer(m.GradeFailed(clip_id=2, reason="all black"))
        until(lambda: bus.queue.counts().graded and bus.queue.counts().failed)
        found = bus.desk.metrics()
        assert (found.busy_share, found.model, found.waiting, found.under_way) == (0.25, "net", 1, 0)
        bus.desk.hurry()
        until(lambda: grader.receive(0.1) == [] and grader.hurry)
        bus.server.finish(lambda sent, left: m.SessionEnd(
            status="complete", account=FrameAccount(), summary=None, latency_ms={}))  # fmt: skip
        until(lambda: grader.receive(0.1) == [] and grader.ended)
    assert [(item.clip_id, message.model) for item, message in bus.grades] == [(3, "g")]
    assert bus.events[:2] == ["grader_joined", "grade_failed"]
    assert bus.desk.bad == 0


def test_each_task_has_a_queue_of_its_own_and_its_own_answers(bus: Bus):
    bus.put(clip(1, 1))
    bus.of_heads.put(clip(1, 1))
    bus.of_heads.put(clip(4, 2))
    found = m.MorphologyMessage(track_id=9, frame=3, clip_id=4, reason="two heads", model="shapes")
    with GraderClient(bus.endpoint, "one", "shapes", task="morphology") as grader:
        until(lambda: bus.desk.metrics("morphology").graders)
        assert bus.desk.metrics("grade").graders == 0
        grader.ready(8, 0)
        work = grader.receive(5)
        assert [item.clip.clip_id for item in work] == [4, 1]
        assert work[0].attention
        grader.answer(found)
        grader.answer(m.GradeFailed(clip_id=1, reason="broken"))
        until(lambda: bus.of_heads.counts().graded and bus.of_heads.counts().failed)
        assert bus.desk.bad == 0
        bus.of_heads.put(clip(5, 3))
        bus.of_heads.put(clip(6, 4))
        grader.ready(8, 0)
        bus.server.wake()
        work = grader.receive(5)
        grader.answer(grades(work[0]))  # not what it was asked for
        grader.answer(msgspec.structs.replace(found, clip_id=work[1].clip.clip_id, reason="nonsense"))
        until(lambda: bus.desk.bad == 2)
        assert (bus.of_heads.counts().failed, bus.of_heads.counts().under_way) == (3, 0)
    assert [(message.track_id, message.reason) for message in bus.heads] == [(2, "two heads")]
    assert bus.queue.counts().waiting == 1  # nobody graded
    until(lambda: bus.desk.metrics("morphology").graders == 0)
    assert balanced(bus.of_heads.counts())


def test_a_grader_with_another_network_than_the_sessions_is_given_nothing(bus: Bus):
    bus.of_heads.put(clip(1, 1))
    with GraderClient(bus.endpoint, "one", "other shapes", task="morphology") as grader:
        grader.ready(8, 0)
        until(lambda: bus.desk.bad)
        assert grader.receive(0.3) == []
        assert not grader.heard
    assert bus.events == ["grader_refused"]
    assert (bus.of_heads.counts().waiting, bus.desk.metrics("morphology").graders) == (1, 0)


def test_a_grader_whose_connection_breaks_has_its_clips_graded_by_another(bus: Bus):
    first = GraderClient(bus.endpoint, "one", "net")
    try:
        until(lambda: bus.desk.metrics().graders == 1)
        first.ready(8, 0)
        bus.put(clip(1, 1), clip(2, 2))
        assert len(first.receive(5)) >= 1
    finally:
        first.close()  # as its process's death would
    until(lambda: bus.events[-1:] == ["grader_gone"])
    with GraderClient(bus.endpoint, "two", "net") as second:
        until(lambda: bus.desk.metrics().graders == 1)
        done: set[int] = set()
        while len(done) < 2:
            second.ready(8, 0)
            for work in second.receive(5):
                done.add(work.clip.clip_id)
                second.answer(grades(work))
        until(lambda: bus.queue.counts().graded == 2)
        second.leave()
        until(lambda: bus.desk.metrics().graders == 0)
    assert balanced(bus.queue.counts())


def test_what_is_no_answer_is_counted_and_changes_nothing(bus: Bus):
    bus.put(clip(1, 1))
    with GraderClient(bus.endpoint, "one", "net") as grader, zmq.Context() as context:
        until(lambda: bus.desk.metrics().graders)
        grader.ready(1, 0)
        work = grader.receive(5)[0]
        grader.answer(grades(work, clip_id=77))  # of a clip that it does not have
        with context.socket(zmq.DEALER) as stranger:
            stranger.linger = 500
            stranger.connect(bus.endpoint.address("grade"))
            stranger.send(encode(grades(work)))  # of one that another has
            stranger.send(b"\x93nonsense")
            stranger.send_multipart([b"two", b"parts"])
            stranger.send(encode(m.Stop()))
            until(lambda: bus.desk.bad == 5)
        assert (bus.queue.counts().graded, bus.queue.counts().under_way) == (0, 1)
        grader.answer(grades(work, track_id=99))  # whose clip it is, the engine knows better
        until(lambda: bus.grades)
        assert bus.grades[0][1].track_id == 1
    assert bus.server.bad == 5


def test_a_grader_without_the_right_key_gets_nothing(tmp_path: Path):
    keys, others = tmp_path / "keys", tmp_path / "others"
    make_keys(keys, ("client",))
    make_keys(others, ("client",))
    (others / "engine.key").write_text((keys / "engine.key").read_text())  # public, so anybody may have it
    made = Bus(f"ipc://{tmp_path}/bus", keys)
    with made.server:
        made.put(clip(1, 1))
        for wrong in (None, load_client_keys(others)):
            with GraderClient(made.endpoint, "stranger", "net", wrong) as grader:
                grader.ready(4, 0)
                assert grader.receive(0.5) == []
                assert not grader.heard
        with GraderClient(made.endpoint, "ours", "net", load_client_keys(keys)) as grader:
            grader.ready(4, 0)
            assert len(grader.receive(5)) == 1
