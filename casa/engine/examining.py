"""Morphology inside the engine: what is said of the network, the offline stage, the live queue with what came back."""

from __future__ import annotations

import threading
from collections import Counter as Counts
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from casa.bus.convert import exam_of, morphology_message
from casa.bus.desk import Counter, GraderDesk
from casa.bus.messages import GradingMetrics, MorphologyMessage
from casa.bus.work import WorkQueue
from casa.cells import NO_NUMBERS, Clip, HeadExam, MorphologyTable
from casa.config import Config
from casa.engine.children import Children
from casa.engine.grading import finish_work
from casa.morphology.domain import outside
from casa.types import Calibration, SourceInfo, Tracks, is_simulated
from casa.weights import resolve_weights

if TYPE_CHECKING:
    from casa.morphology.examiner import HeadExaminer

#: Tracks of which is known how sharp their sharpest crop is; of which what was found is at hand; clips of each.
_TRACKS_KNOWN, _TRACKS_KEPT, _CLIPS_KEPT = 4096, 512, 32
#: The clip stage may give the last clip of a track some frames after its end.
_LATE_NS = 10**9
_NICENESS = 5


def morphology_record(
    weights: str, look: str | None, calibration: Calibration | None, source: SourceInfo
) -> dict[str, Any]:
    """What a recording says of the network, without loading it where its manifest says enough.

    ``outside`` lists why the session's pictures are not such as it has learnt from: [] where they are.

    Raises
    ------
    InputError : there are no such weights.
    """
    found = resolve_weights(weights, ("state",), "morphology")
    entry = found.entry
    knows = dict(entry.knows)
    if "classes" not in knows or "abstain_below" not in knows:
        from casa.morphology.model import MorphologyClassifier

        network = MorphologyClassifier(weights)
        knows |= {"classes": list(network.class_names), "abstain_below": network.info.abstain_below}
    scale = (calibration.um_per_px_x * calibration.um_per_px_y) ** 0.5 if calibration is not None else None
    reasons = outside(knows, scale, look, is_simulated(source))
    return {
        "name": entry.name, "file": found.path.name, "sha256": found.sha256, "licence": entry.licence,
        "trained_on": entry.trained_on, "card": entry.card, "scores": dict(entry.scores),
        "class_names": list(knows["classes"]), "abstain_below": knows["abstain_below"], "outside": list(reasons),
    }  # fmt: skip


class Sharpest:
    """Which crop is the sharpest of its track so far, and so is kept; old tracks are forgotten."""

    def __init__(self, keep: str) -> None:
        self._keep = keep
        self._edges: OrderedDict[int, float] = OrderedDict()

    def keeps(self, exam: HeadExam) -> bool:
        """Whether this one's pictures are to be kept; call once for each, in order."""
        if not exam.row.n_crops[0]:
            return False
        track_id, edge = int(exam.row.track_id[0]), float(exam.row.edge_share[0])
        best = self._edges.pop(track_id, float("inf"))
        sharper = edge < best
        self._edges[track_id] = min(edge, best)
        while len(self._edges) > _TRACKS_KNOWN:
            self._edges.popitem(last=False)
        return self._keep == "all" or (self._keep == "last" and sharper)


class MorphologyStage:
    """Clip -> HeadExam: the offline session's morphology, in micro-batches, each clip examined."""

    def __init__(self, config: Config, calibration: Calibration | None, source: SourceInfo) -> None:
        self._config = config.morphology
        self.record = morphology_record(self._config.weights, self._config.look, calibration, source)
        self._sharpest = Sharpest(config.record.clips)
        self._examiner: HeadExaminer | None = None
        self._batch: list[Clip] = []
        self._abstained: Counts[str] = Counts()
        self._tracks: set[int] = set()
        self._n = {"taken": 0, "graded": 0, "failed": 0}

    def open(self) -> None:
        """Load the network."""
        from casa.morphology.examiner import HeadExaminer

        self._examiner = HeadExaminer(self._config.weights, threads=self._config.threads, crops=self._config.crops)

    def process(self, item: Clip) -> Iterable[HeadExam]:
        """Take a clip; give what was found in a batch when it is full."""
        self._n["taken"] += 1
        self._batch.append(item)
        if len(self._batch) >= self._config.batch:
            yield from self._examine()

    def flush(self) -> Iterable[HeadExam]:
        """Examine what is left."""
        yield from self._examine()

    def close(self) -> None:
        """Let the network go."""
        self._batch.clear()
        self._examiner = None

    def counts(self) -> dict[str, Any]:
        """What became of the clips, by the names of ``GradingMetrics``."""
        return self._n | {"tracks": len(self._tracks), "abstained": dict(self._abstained)}

    @property
    def failure(self) -> str | None:
        """What is wrong with the network, where it gave numbers of no head at all."""
        if not self._n["failed"] or self._n["graded"] > sum(self._abstained.values()):
            return None
        return f"morphology: {NO_NUMBERS}: choose other --morphology-weights than {self._config.weights}"

    def _examine(self) -> Iterator[HeadExam]:
        if not self._batch or self._examiner is None:
            return
        batch, self._batch = self._batch, []
        for exam in self._examiner.examine(batch, in_domain=not self.record["outside"]):
            reason = str(exam.row.reason[0])
            if reason == NO_NUMBERS:  # a failure of this clip, which gets no class: the session goes on
                self._n["failed"] += 1
                continue
            self._n["graded"] += 1
            self._tracks.add(int(exam.row.track_id[0]))
            if reason:
                self._abstained[reason] += 1
            if not self._sharpest.keeps(exam):
                exam = replace(exam, crop=None)
            elif self._config.heat_maps:
                exam = replace(exam, heat=self._examiner.heat(int(exam.row.clip_id[0])))
            yield exam


class LiveMorphology:
    """The live session's morphology: clips into the queue, what was found onto the bus, and of each track at hand.

    Parameters
    ----------
    desk : where graders work; gets this queue. wake : tells the bus that there is work.
    publish : takes messages for the bus, and whether they go onto the stream of events too.
    """

    def __init__(
        self,
        config: Config,
        calibration: Calibration | None,
        source: SourceInfo,
        desk: GraderDesk,
        *,
        publish: Callable[[Any, bool], None],
        wake: Callable[[], None],
    ) -> None:
        self._config, self._restarts = config.morphology, config.live.restarts
        self.record = morphology_record(self._config.weights, self._config.look, calibration, source)
        self.queue = WorkQueue(self._config.queue_clips, self._config.attempts)
        self._desk = desk
        desk.counters["morphology"] = Counter(
            self.queue, self._on_found, self._wants_heat, self._accepts, self.record["name"]
        )
        self._names = [f"morphology-{number}" for number in range(1, self._config.graders + 1)]
        self._classes: tuple[str, ...] = tuple(self.record["class_names"])
        self._publish, self._wake = publish, wake
        self._sharpest = Sharpest(config.record.clips)
        self._lock = threading.Lock()
        self._abstained: Counts[str] = Counts()
        self._tracks: OrderedDict[int, list[MorphologyTable]] = OrderedDict()
        self._shown: dict[int, HeadExam] = {}  # of each track, the sharpest crop; one with a heat map before others
        self._ending: deque[tuple[int, list[int]]] = deque()  # tracks that have ended, by when no clip will come
        self._ended: set[int] = set()  # tracks of which none comes, but one is still under way

    def open(self) -> None:
        """Nothing to acquire: the network is the graders'."""

    def process(self, item: Clip | Tracks) -> Iterable[Clip]:
        """Queue a clip, or learn which tracks have ended."""
        if isinstance(item, Clip):
            self.queue.put(item)
            self._wake()
            return ()
        if len(item.ended_ids):
            self._ending.append((item.t_ns + _LATE_NS, item.ended_ids.tolist()))
        if self._ending and self._ending[0][0] <= item.t_ns:
            self._ended.update(self._ending.popleft()[1])
            done = [key for key in self._ended if not self.queue.has(key)]
            self._ended.difference_update(done)
            self.queue.forget(done)
        return ()

    def flush(self) -> Iterable[Clip]:
        """The graders are waited for by ``finish``."""
        return ()

    def close(self) -> None:
        """The queue outlives the graph."""

    def newest(self, track_id: int) -> MorphologyMessage | None:
        """What is known of a track's head; and its next clips come first."""
        self.queue.favour(track_id)
        with self._lock:
            rows, shown = list(self._tracks.get(track_id, ())), self._shown.get(track_id)
        if not rows:
            return None
        row = MorphologyTable.concatenate(rows).by_track()
        crop, heat = (None, None) if shown is None else (shown.crop, shown.heat)
        return morphology_message(HeadExam(row, crop, heat), self.record["name"])

    def metrics(self) -> GradingMetrics:
        """How it goes."""
        with self._lock:
            abstained = dict(self._abstained)
        return msgspec.structs.replace(self._desk.metrics("morphology"), abstained=abstained)

    def start_graders(self, children: Children, endpoint: str, keys: list[str]) -> None:
        """Start the processes; they give way to the engine where cores are few."""
        c = self._config
        for name in self._names:
            arguments = [
                "grader", endpoint, "--task", "morphology", "--name", name, "--morphology-weights", c.weights,
                "--threads", str(c.threads or 1), "--batch", str(c.batch), "--crops", str(c.crops),
                "--cpu-share", str(c.cpu_share / c.graders), *keys,
            ]  # fmt: skip
            children.start(name, arguments, max_restarts=self._restarts, niceness=_NICENESS)

    def finish(self, children: Children, abort: threading.Event) -> GradingMetrics:
        """Let the processes get to the tracks whose head was not examined yet, for a while; then they end."""
        self._desk.hurry()
        self._wake()
        found = finish_work(self._desk, "morphology", self._names, self._config.finish_s, children, abort)
        return msgspec.structs.replace(found, abstained=self.metrics().abstained)

    def _wants_heat(self, clip: Clip) -> bool:
        """Maps cost as much again: of a track that somebody looks at, and where there is nothing else to do."""
        return self._config.heat_maps and (self.queue.is_favoured(clip.track_id) or not self.queue.n_waiting)

    def _accepts(self, message: MorphologyMessage) -> bool:
        """Whether it is of the session's network."""
        if not message.n_crops:
            return bool(message.reason)
        return set(message.classes) == set(self._classes) and message.edge_share is not None

    def _on_found(self, clip: Clip, message: MorphologyMessage) -> None:
        """In the bus's thread: a grader has examined a head."""
        frame, t_ns = int(clip.frames[-1]), int(clip.t_ns[-1])
        message = msgspec.structs.replace(message, frame=frame, t_ns=t_ns, in_domain=not self.record["outside"])
        exam = exam_of(message, self._classes)
        if not self._sharpest.keeps(exam):
            message = msgspec.structs.replace(message, crop=None, heat_map=None)
        with self._lock:
            if message.reason:
                self._abstained[message.reason] += 1
            self._remember(clip.track_id, exam)
        self._publish(message, True)

    def _remember(self, track_id: int, exam: HeadExam) -> None:
        rows = self._tracks.pop(track_id, [])
        self._tracks[track_id] = [*rows[1 - _CLIPS_KEPT :], exam.row]
        shown = self._shown.get(track_id)
        if exam.crop is not None and (shown is None or _worth(exam) >= _worth(shown)):
            self._shown[track_id] = exam
        while len(self._tracks) > _TRACKS_KEPT:
            self._shown.pop(self._tracks.popitem(last=False)[0], None)


def _worth(exam: HeadExam) -> tuple[bool, float]:
    return exam.heat is not None, -float(exam.row.edge_share[0])
