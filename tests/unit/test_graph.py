"""Claims about the graph: both runners give the same, every frame is accounted for, errors end it in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from casa.errors import CasaError
from casa.graph.ledger import FrameEnd, Ledger
from casa.graph.runner import MAX_FAILURES_IN_A_ROW, EdgePolicy, Node, SerialRunner, ThreadedRunner
from casa.track.stage import TrackStage
from casa.types import Detections, Frame, FrameStatus, MissingFrame

IMAGE = np.zeros((4, 4), np.uint8)


def frames(n: int, missing: tuple[int, ...] = ()) -> Iterator[Frame | MissingFrame]:
    for i in range(n):
        yield MissingFrame(i, i * 1000, "torn") if i in missing else Frame(i, i * 1000, IMAGE)


class Lagging:
    """Gives each frame's result two frames later, as an asynchronous detector does."""

    def __init__(self, fail_at: tuple[int, ...] = (), delay_s: float = 0.0) -> None:
        self.fail_at, self.delay_s = fail_at, delay_s
        self.waiting: list[Frame] = []
        self.events: list[str] = []

    def open(self) -> None:
        self.events.append("open")

    def process(self, item: Frame) -> Iterable[Detections]:
        time.sleep(self.delay_s)
        if item.index in self.fail_at:
            raise ValueError("no\nluck")
        self.waiting.append(item)
        while len(self.waiting) > 2:
            yield self._result()

    def _result(self) -> Detections:
        frame = self.waiting.pop(0)
        return Detections.empty(frame.index, frame.t_ns)

    def flush(self) -> Iterable[Detections]:
        self.events.append("flush")
        while self.waiting:
            yield self._result()

    def close(self) -> None:
        self.events.append("close")


class Collect:
    def __init__(self, error_at: int | None = None) -> None:
        self.got: list[int] = []
        self.error_at = error_at
        self.closed = False

    def open(self) -> None: ...

    def process(self, item: Detections) -> Iterable[Detections]:
        if item.frame == self.error_at:
            raise CasaError("disk full")
        self.got.append(item.frame)
        yield item

    def flush(self) -> Iterable[Detections]:
        return ()

    def close(self) -> None:
        self.closed = True


def graph(detect: Lagging, collect: Collect) -> list[Node]:
    return [
        Node("detect", detect, ("source",), "vision", (Frame,), tolerant=True),
        Node("collect", collect, ("detect",), "record", (Detections,), completes=True),
    ]


@pytest.fixture(params=["serial", "threaded"])
def runner_class(request):
    return {"serial": SerialRunner, "threaded": ThreadedRunner}[request.param]


def test_every_frame_ends_as_exactly_one_thing(runner_class):
    detect, collect, ends = Lagging(fail_at=(5,)), Collect(), []
    ledger = Ledger(ends.append)
    runner_class(graph(detect, collect), ledger, every_nth=2).run(frames(20, missing=(3, 4)))
    account = ledger.account()
    assert account.balanced
    assert (account.captured, account.skipped, account.failed, account.dropped) == (20, 9, 2, 0)
    assert sorted(end.index for end in ends) == list(range(20))
    assert collect.got == [i for i in range(0, 20, 2) if i != 4]
    assert detect.events == ["open", "flush", "close"]


def test_a_tolerant_stage_loses_the_frame_and_says_why(runner_class):
    ends: list[FrameEnd] = []
    ledger = Ledger(ends.append)
    runner_class(graph(Lagging(fail_at=(1,)), Collect()), ledger).run(frames(5))
    (failed,) = [end for end in ends if end.status is FrameStatus.FAILED]
    assert failed.index == 1
    assert failed.reason == "detect: ValueError: no luck"


def test_failing_on_frame_after_frame_ends_the_session(runner_class):
    detect, collect = Lagging(fail_at=tuple(range(100))), Collect()
    ledger = Ledger()
    with pytest.raises(CasaError, match="frames in a row failed"):
        runner_class(graph(detect, collect), ledger).run(frames(100))
    assert ledger.account().failed == MAX_FAILURES_IN_A_ROW
    assert collect.closed


def tracked(t_ns: list[int], runner_class, ends: list[FrameEnd]) -> None:
    nodes = [
        Node("detect", Lagging(), ("source",), "vision", (Frame,), tolerant=True),
        Node("track", TrackStage(), ("detect",), "vision", (Detections,), tolerant=True, completes=True),
    ]
    ledger = Ledger(ends.append)
    runner_class(nodes, ledger).run(Frame(i, t, IMAGE) for i, t in enumerate(t_ns))
    assert ledger.account().balanced


def test_a_frame_whose_time_does_not_advance_is_failed_and_the_session_goes_on(runner_class):
    ends: list[FrameEnd] = []
    tracked([0, 20, 20, 10, 40, 60], runner_class, ends)
    failed = [end for end in ends if end.status is FrameStatus.FAILED]
    assert [end.index for end in failed] == [2, 3]
    assert failed[0].reason.startswith("track: frame 2: its time")
    assert sum(end.status is FrameStatus.PROCESSED for end in ends) == 4


def test_a_clock_that_stands_still_ends_the_session(runner_class):
    ends: list[FrameEnd] = []
    with pytest.raises(CasaError, match="10 frames in a row failed"):
        tracked([0, 20, *[20] * 30], runner_class, ends)
    assert sum(end.status is FrameStatus.FAILED for end in ends) == MAX_FAILURES_IN_A_ROW


def test_an_error_behind_the_tolerant_stage_reaches_the_caller_and_closes_all(runner_class):
    detect, collect = Lagging(), Collect(error_at=7)
    ledger = Ledger()
    with pytest.raises(CasaError, match="disk full"):
        runner_class(graph(detect, collect), ledger).run(frames(1000))
    assert collect.closed
    assert detect.events[-1] == "close"
    ledger.end_all_open(FrameStatus.FAILED, "the session broke off")
    assert ledger.account().balanced


def test_an_error_of_the_source_reaches_the_caller(runner_class):
    def torn():
        yield from frames(5)
        raise CasaError("unplugged")

    with pytest.raises(CasaError, match="unplugged"):
        runner_class(graph(Lagging(), Collect()), Ledger()).run(torn())


def test_stop_drains_what_is_under_way(runner_class):
    stop = threading.Event()
    collect, ledger = Collect(), Ledger()

    def endless():
        for frame in frames(10**9):
            if frame.index == 50:
                stop.set()
            yield frame

    runner_class(graph(Lagging(), collect), ledger).run(endless(), stop)
    account = ledger.account()
    assert account.balanced
    assert account.processed == len(collect.got) == account.captured


def test_latest_drops_the_oldest_and_counts_it():
    collect, ledger = Collect(), Ledger()
    nodes = graph(Lagging(delay_s=0.005), collect)
    ThreadedRunner(nodes, ledger, edges={"detect": EdgePolicy("latest", 2)}).run(frames(200))
    account = ledger.account()
    assert account.balanced
    assert account.dropped > 0
    assert account.processed == len(collect.got)
    assert collect.got[-1] == 199  # the newest survives
    assert collect.got == sorted(collect.got)


def test_threads_overlap():
    started = time.monotonic()
    nodes = graph(Lagging(delay_s=0.01), Collect())
    nodes.insert(1, Node("slow", Lagging(delay_s=0.01), ("source",), "other", (Frame,)))
    ThreadedRunner(nodes, Ledger()).run(frames(40))
    assert time.monotonic() - started < 0.7  # 0.8 s one after the other


def test_a_graph_that_names_an_unknown_node_is_refused():
    with pytest.raises(ValueError, match="inputs"):
        SerialRunner([Node("a", Collect(), ("nowhere",), "t")], Ledger())
    with pytest.raises(ValueError, match="unknown nodes"):
        ThreadedRunner(graph(Lagging(), Collect()), Ledger(), edges={"typo": EdgePolicy()})


def test_a_frame_cannot_end_twice():
    ledger = Ledger()
    ledger.capture(0, 0, 0)
    ledger.end(0, 0, FrameStatus.SKIPPED)
    with pytest.raises(RuntimeError, match="without being open"):
        ledger.end(0, 0, FrameStatus.PROCESSED)


def test_latency_percentiles_are_right_to_a_bin():
    from casa.graph.latency import LatencyHistogram

    histogram = LatencyHistogram()
    assert histogram.percentile_ms(50) is None
    for ms in range(1, 1001):
        histogram.add(ms * 1_000_000)
    assert histogram.percentile_ms(50) == pytest.approx(500, rel=0.05)
    assert histogram.percentile_ms(99) == pytest.approx(990, rel=0.05)
    assert histogram.mean_ms == pytest.approx(500.5)
