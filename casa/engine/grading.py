"""Grading inside the engine: the record of the network, the offline stage, and the live queue with what came back."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from casa.bus.cell_messages import Task
from casa.bus.convert import clip_message, maps_of
from casa.bus.desk import Counter, GraderDesk
from casa.bus.messages import GradesMessage, GradingMetrics
from casa.bus.work import WorkQueue
from casa.cells import NO_NUMBERS, Clip, GradeTable
from casa.clips import ClipStage
from casa.config import Config
from casa.engine.children import Children
from casa.engine.publish import FramesUnderWay
from casa.graph.runner import Node
from casa.record.clips import KeptClip
from casa.types import Calibration, SourceInfo, Tracks
from casa.weights import resolve_weights

if TYPE_CHECKING:
    from casa.grade.model import Grader

#: Offline, a track whose next clip is not there so long after its last one has given its last (ns of the source).
_LAST_AFTER_NS = 5 * 10**9
#: Graded clips of tracks that have ended, kept for who looks at them.
_ENDED_KEPT = 64
#: The clip stage may give the last clip of a track some frames after its end.
_LATE_NS = 10**9
_NICENESS = 5
_TICK_S = 0.05


def network_record(weights: str) -> dict[str, Any]:
    """What a recording says of the grading network, without loading it. Raises InputError where there is none."""
    found = resolve_weights(weights, ("onnx", "state"), "grade")
    entry = found.entry
    return {
        "name": entry.name, "file": found.path.name, "sha256": found.sha256, "licence": entry.licence,
        "trained_on": entry.trained_on, "card": entry.card, "scores": dict(entry.scores),
    }  # fmt: skip


class ClipsOfTracks:
    """Tracks -> Clip: gives the clip stage each frame together with its tracks.

    The frames are those under way, so that no edge holds them a second time, or drops one that is analysed.
    """

    def __init__(self, frames: FramesUnderWay, clips: ClipStage) -> None:
        self._frames, self._clips = frames, clips

    def open(self) -> None:
        """Open the clip stage."""
        self._clips.open()

    def process(self, item: Tracks) -> Iterable[Clip]:
        """The clips that are complete with these tracks."""
        frame = self._frames.get(item.frame, item.field)
        if frame is not None:
            yield from self._clips.process(frame)
        yield from self._clips.process(item)

    def flush(self) -> Iterable[Clip]:
        """The clips of tracks that are still in view."""
        return self._clips.flush()

    def close(self) -> None:
        """Close the clip stage."""
        self._clips.close()


def clip_node(
    config: Config, frames: FramesUnderWay, calibration: Calibration | None, source: SourceInfo, thread: str
) -> Node:
    """The node that cuts clips, for the thread of the tracker.

    It comes before the one that records or publishes tracks: with that a frame ends, and is not under way any more.
    """
    white = config.detect.white_level
    clips = ClipStage(config.clips, calibration, (source.width_px, source.height_px), white_level=white)
    return Node("clip", ClipsOfTracks(frames, clips), ("track",), thread, (Tracks,))


def finish_work(
    desk: GraderDesk, task: Task, names: list[str], finish_s: float, children: Children, abort: threading.Event
) -> GradingMetrics:
    """Let the graders of a task get to the tracks that lack it, for a while; then they end. Gives how it went."""
    queue = desk.counters[task].queue
    queue.close()
    deadline = time.monotonic() + finish_s
    while not queue.is_empty and time.monotonic() < deadline and not abort.is_set():
        children.look_after()
        alive = any((child := children.get(name)) is not None and child.state != "failed" for name in names)
        if not alive and not desk.metrics(task).graders:
            break
        time.sleep(_TICK_S)
    queue.abandon()
    metrics = desk.metrics(task)
    for name in names:
        children.end(name, 3.0)
    return metrics


class GradeStage:
    """Clip -> GradeTable and KeptClip: the offline session's grading, in micro-batches, each clip graded.

    Which clips are kept depends on the clips alone, so that every runner keeps the same.
    """

    def __init__(self, config: Config) -> None:
        self._config = config.grade
        self._keep = config.record.clips
        self._grader: Grader | None = None
        self._batch: list[Clip] = []
        self._last: OrderedDict[int, Clip] = OrderedDict()  # by track, in the order of their times
        self._n = {"taken": 0, "graded": 0, "failed": 0}
        self._tracks: set[int] = set()
        self.faults: dict[str, int] = {}

    @property
    def record(self) -> dict[str, Any] | None:
        """What the recording says of the network; None before the stage is open."""
        return None if self._grader is None else asdict(self._grader.info)

    def open(self) -> None:
        """Load the network. Raises InputError where that cannot be done."""
        from casa.grade.model import Grader

        c = self._config
        self._grader = Grader(c.weights, device=c.device, backend=c.backend, threads=c.threads, batch=c.batch)

    def process(self, item: Clip) -> Iterable[GradeTable | KeptClip]:
        """Take a clip; give the grades of a batch when it is full."""
        from casa.grade.model import clip_fault

        self._n["taken"] += 1
        fault = clip_fault(item)
        if fault is not None:
            self._fail(fault)
            return
        self._batch.append(item)
        if len(self._batch) >= self._config.batch:
            yield from self._grade()

    def flush(self) -> Iterable[GradeTable | KeptClip]:
        """Grade what is left, and give the clips that are kept."""
        yield from self._grade()
        yield from self._let_go(None)

    def close(self) -> None:
        """Let the network go; ``record`` stays."""
        self._batch.clear()
        self._last.clear()

    def counts(self) -> dict[str, int]:
        """What became of the clips, by the names of ``GradingMetrics``."""
        return self._n | {"tracks": len(self._tracks)}

    @property
    def failure(self) -> str | None:
        """What is wrong with the network, where it gave numbers of no clip at all."""
        if self._n["graded"] or NO_NUMBERS not in self.faults:
            return None
        return f"grades: {NO_NUMBERS}: choose other --grade-weights than {self._config.weights}"

    def _fail(self, fault: str, count: int = 1) -> None:
        """Of failed clips there is no grade: never a grade of nothing."""
        self._n["failed"] += count
        self.faults[fault] = self.faults.get(fault, 0) + count

    def _grade(self) -> Iterator[GradeTable | KeptClip]:
        if not self._batch or self._grader is None:
            return
        batch, self._batch = self._batch, []
        table = self._grader.grade(batch)
        if len(table) < len(batch):
            self._fail(NO_NUMBERS, len(batch) - len(table))
            batch = [clip for clip in batch if clip.clip_id in table.clip_id]
        self._n["graded"] += len(batch)
        self._tracks.update(clip.track_id for clip in batch)
        yield table
        for clip in batch:
            if self._keep == "all":
                yield self._kept(clip)
            elif self._keep == "last":
                self._last.pop(clip.track_id, None)
                self._last[clip.track_id] = clip
                yield from self._let_go(int(clip.t_ns[-1]) - _LAST_AFTER_NS)

    def _let_go(self, before_ns: int | None) -> Iterator[KeptClip]:
        """The last clips of tracks that have given none since; all of them for None."""
        while self._last:
            first = next(iter(self._last.values()))
            if before_ns is not None and int(first.t_ns[-1]) >= before_ns:
                return
            self._last.popitem(last=False)
            yield self._kept(first)

    def _kept(self, clip: Clip) -> KeptClip:
        from casa.engine.grader import attention_maps

        assert self._grader is not None
        return KeptClip(clip, attention_maps(self._grader, clip) if self._config.attention else None)


class LiveGrading:
    """The live session's grading: clips into the queue, grades onto the bus, and the newest of each track at hand.

    Parameters
    ----------
    desk : where graders work; gets this queue. wake : tells the bus that there is work.
    publish : takes messages for the bus, and whether they go onto the stream of events too.
    """

    def __init__(
        self, config: Config, desk: GraderDesk, *, publish: Callable[[Any, bool], None], wake: Callable[[], None]
    ) -> None:
        self.network = network_record(config.grade.weights)
        self.queue = WorkQueue(config.grade.queue_clips, config.grade.attempts)
        self.desk = desk
        desk.counters["grade"] = Counter(self.queue, self._on_grades, self._wants_attention, model=self.network["name"])
        self._config = config
        self._names = [f"grader-{number}" for number in range(1, config.grade.graders + 1)]
        self._keep, self._attention = config.record.clips, config.grade.attention
        self._publish, self._wake = publish, wake
        self._lock = threading.Lock()
        self._newest: dict[int, tuple[Clip, GradesMessage]] = {}
        self._unkept: set[int] = set()  # tracks whose newest clip is not published yet
        self._ending: deque[tuple[int, list[int]]] = deque()  # tracks that have ended, by when no clip will come
        self._ended: set[int] = set()  # tracks of which none comes, but one is not graded yet
        self._gone: deque[int] = deque()  # tracks with which all is done

    def open(self) -> None:
        """Nothing to acquire: the network is the graders'."""

    def process(self, item: Clip | Tracks) -> Iterable[Clip]:
        """Queue a clip, or learn which tracks have ended."""
        if isinstance(item, Clip):
            self.queue.put(item)
            self._wake()
        else:
            if len(item.ended_ids):
                self._ending.append((item.t_ns + _LATE_NS, item.ended_ids.tolist()))
            if self._ending and self._ending[0][0] <= item.t_ns:
                with self._lock:
                    earlier = list(self._ended)
                self._let_go([*earlier, *self._ending.popleft()[1]])
        return ()

    def flush(self) -> Iterable[Clip]:
        """The graders are waited for by ``finish``."""
        return ()

    def close(self) -> None:
        """The queue outlives the graph."""

    def newest(self, track_id: int) -> tuple[Clip, GradesMessage] | None:
        """The clip of a track that was graded last, with its grades; and its next clips come first."""
        self.queue.favour(track_id)
        with self._lock:
            return self._newest.get(track_id)

    def metrics(self) -> GradingMetrics:
        """How it goes."""
        return self.desk.metrics("grade")

    def start_graders(self, children: Children, endpoint: str, keys: list[str]) -> None:
        """Start the graders; they give way to the engine where cores are few."""
        c = self._config.grade
        for name in self._names:
            arguments = [
                "grader", endpoint, "--name", name, "--weights", c.weights, "--backend", c.backend,
                "--device", c.device, "--threads", str(c.threads or 1), "--batch", str(c.batch),
                "--cpu-share", str(c.cpu_share / c.graders), *keys,
            ]  # fmt: skip
            children.start(name, arguments, max_restarts=self._config.live.restarts, niceness=_NICENESS)

    def finish(self, children: Children, abort: threading.Event) -> GradingMetrics:
        """Let the graders get to the tracks that have no grade yet, for a while; then they end. Gives how it went.

        What is not graded by then is left out. The clips that are kept are published.
        """
        self.desk.hurry()
        self._wake()
        metrics = finish_work(self.desk, "grade", self._names, self._config.grade.finish_s, children, abort)
        with self._lock:
            kept = [self._newest[key] for key in sorted(self._unkept)]
            self._unkept.clear()
        self._put(kept)
        return metrics

    def _wants_attention(self, clip: Clip) -> bool:
        """Maps cost as much as grades: of a track that somebody looks at, and where the graders have nothing to do."""
        return self._attention and (self.queue.is_favoured(clip.track_id) or not self.queue.n_waiting)

    def _on_grades(self, clip: Clip, message: GradesMessage) -> None:
        """In the bus's thread: a grader has given its grades."""
        self._publish(message, True)
        with self._lock:
            self._newest[clip.track_id] = clip, message
            if self._keep == "last":
                self._unkept.add(clip.track_id)
            gone = clip.track_id in self._ended or clip.track_id in self._gone
        if self._keep == "all":
            self._put([(clip, message)])
        if gone:
            self._let_go([clip.track_id])

    def _let_go(self, track_ids: list[int]) -> None:
        """Publish the last clips of tracks that have ended, where they are kept; of old ones nothing stays at hand."""
        with self._lock:
            done = [key for key in track_ids if not self.queue.has(key)]
            self._ended.update(track_ids)
            self._ended.difference_update(done)
            kept = [self._newest[key] for key in done if key in self._unkept]
            self._unkept.difference_update(done)
            self._gone.extend(done)
            while len(self._gone) > _ENDED_KEPT:
                key = self._gone.popleft()
                if key in self._unkept:  # graded when it had gone already
                    self._unkept.remove(key)
                    kept.append(self._newest[key])
                self._newest.pop(key, None)
        self.queue.forget(done)
        self._put(kept)

    def _put(self, kept: list[tuple[Clip, GradesMessage]]) -> None:
        for clip, grades in kept:
            self._publish(clip_message(clip, maps_of(grades)), False)
