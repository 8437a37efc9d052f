"""The engine's end of the graders' socket: clips out, findings in. Runs in the bus's thread but for ``metrics``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import zmq

from casa.bus.cell_messages import (
    GradeFailed,
    GraderJoin,
    GraderLeave,
    GraderReady,
    GradesMessage,
    GradingMetrics,
    Hurry,
    MorphologyMessage,
    Task,
    Work,
)
from casa.bus.codec import Decoder, encode
from casa.bus.convert import clip_message
from casa.bus.messages import Heartbeat
from casa.bus.work import WorkQueue
from casa.cells import Clip

#: A grader that has said nothing for so long is gone; it says something every second.
GRADER_SILENT_S = 10.0
MAX_GRADERS = 64
_EXPECTED = GraderJoin | GraderReady | GradesMessage | MorphologyMessage | GradeFailed | GraderLeave
#: What a grader answers, and what is said where it cannot.
_ANSWERS: dict[Task, type] = {"grade": GradesMessage, "morphology": MorphologyMessage}
_CANNOT: dict[Task, str] = {"grade": "cannot be graded", "morphology": "cannot have its head examined"}


@dataclass(frozen=True, slots=True)
class Counter:
    """Where clips wait for one task.

    Parameters
    ----------
    queue : what is next. on_found : told a clip and the message of what was found in it.
    wants_attention : whether a clip is to come back with maps. accepts : whether a message makes sense here.
    model : the session's network, which a grader must have; "" takes any.
    """

    queue: WorkQueue
    on_found: Callable[[Clip, Any], None]
    wants_attention: Callable[[Clip], bool]
    accepts: Callable[[Any], bool] = lambda message: True
    model: str = ""


@dataclass(slots=True)
class _Grader:
    """A grader that has joined; ``room`` : clips that can be sent to it now."""

    name: str
    model: str
    task: Task
    room: int = 0
    busy_share: float = 0.0
    hurried: bool = False
    heard_at: float = field(default_factory=time.monotonic)


class GraderDesk:
    """Gives clips to graders, each of one task, and takes what they found.

    Parameters
    ----------
    counters : of each task that there is; more may be added until the first grader joins.
    on_event : told (level, kind, text) of a grader that joins or goes, or of clips that cannot be graded.
    """

    def __init__(self, counters: dict[Task, Counter], on_event: Callable[[str, str, str], None]) -> None:
        self.counters = counters
        self._on_event = on_event
        self._graders: dict[bytes, _Grader] = {}
        self._refused: set[bytes] = set()
        self._decoder = Decoder(_EXPECTED)
        self._wrong = 0
        self._hurry = False
        self._heartbeat_at = 0.0
        self._told_failures = 0

    @property
    def bad(self) -> int:
        """Messages that were none, or answers to what was not asked."""
        return self._decoder.bad + self._wrong

    def hurry(self) -> None:
        """Nothing is captured any more: let the graders not rest. For any thread; sent with the next heartbeat."""
        self._hurry = True

    def metrics(self, task: Task = "grade") -> GradingMetrics:
        """How the graders of a task are doing. For any thread."""
        graders = [grader for grader in list(self._graders.values()) if grader.task == task]
        return msgspec.structs.replace(
            self.counters[task].queue.counts(),
            graders=len(graders),
            busy_share=sum(grader.busy_share for grader in graders),
            model=graders[0].model if graders else "",
        )

    def receive(self, socket: zmq.Socket[Any]) -> None:
        """Take what graders say."""
        for _ in range(1000):
            try:
                parts = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(parts) != 2:
                self._wrong += 1
                continue
            envelope = self._decoder.decode(parts[1])
            if envelope is not None:
                self._take(parts[0], envelope.body)

    def send(self, socket: zmq.Socket[Any], session: str) -> None:
        """Give clips to whoever has room, heartbeats to all, and look who has gone."""
        now = time.monotonic()
        due = now - self._heartbeat_at >= 0.5
        if due:
            self._heartbeat_at = now
        for identity, grader in list(self._graders.items()):
            if now - grader.heard_at > GRADER_SILENT_S:
                self._gone(identity, "does not answer")
                continue
            if self._hurry and not grader.hurried:
                grader.hurried = self._send_to(socket, identity, encode(Hurry(), session))
            if due:
                self._send_to(socket, identity, encode(Heartbeat(mono_ns=time.monotonic_ns()), session))
            counter = self.counters[grader.task]
            for _ in range(grader.room):
                job = counter.queue.take(identity) if identity in self._graders else None
                if job is None:
                    break
                grader.room = 0  # it is given what there is, at once; then it says again when it has room
                work = Work(clip=clip_message(job.clip), attention=counter.wants_attention(job.clip))
                self._send_to(socket, identity, encode(work, session))

    def end(self, socket: zmq.Socket[Any], data: bytes) -> None:
        """The session has ended: tell it to all."""
        for identity in list(self._graders):
            self._send_to(socket, identity, data)

    def _send_to(self, socket: zmq.Socket[Any], identity: bytes, data: bytes) -> bool:
        try:
            socket.send_multipart([identity, data], zmq.NOBLOCK, copy=len(data) < 65536)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            self._gone(identity, "is not there any more")
            return False
        return True

    def _gone(self, identity: bytes, how: str, level: str = "warning") -> None:
        grader = self._graders.pop(identity, None)
        if grader is not None:
            n = self.counters[grader.task].queue.lost(identity)
            back = f"; {n} clips that it had wait for another one" if n else ""
            self._on_event(level, "grader_gone", f"{grader.name} {how}{back}")

    def _take(self, identity: bytes, message: Any) -> None:
        if isinstance(message, GraderJoin):
            if message.task not in self.counters:
                self._wrong += 1  # it hears nothing, and goes
            elif message.model != (wanted := self.counters[message.task].model[:80]) and wanted:
                self._refuse(identity, f"{message.name} has the network {message.model}, the session {wanted}")
            elif identity not in self._graders and len(self._graders) < MAX_GRADERS:
                self._graders[identity] = _Grader(message.name, message.model, message.task)
                self._on_event("info", "grader_joined", f"{message.name} joined, with the network {message.model}")
            return
        grader = self._graders.get(identity)
        if grader is None:  # one that was given up, and has its say later: its clips are with others
            self._wrong += 1
            return
        grader.heard_at = time.monotonic()
        match message:
            case GraderReady():
                grader.room, grader.busy_share = message.room, message.busy_share
            case GradesMessage() | MorphologyMessage():
                self._answered(identity, grader.task, message)
            case GradeFailed():
                self._wrong += not self._failed(identity, grader.task, message.clip_id, message.reason)
            case GraderLeave():
                self._gone(identity, f"has left{f': {message.note}' if message.note else ''}", "info")

    def _refuse(self, identity: bytes, why: str) -> None:
        """A grader that is given nothing: it hears nothing, and goes. Told once of each."""
        self._wrong += 1
        if identity not in self._refused and len(self._refused) < MAX_GRADERS:
            self._refused.add(identity)
            self._on_event("warning", "grader_refused", why[:500])

    def _answered(self, identity: bytes, task: Task, message: GradesMessage | MorphologyMessage) -> None:
        counter = self.counters[task]
        if not isinstance(message, _ANSWERS[task]) or not counter.accepts(message):
            self._wrong += 1  # and it will say nothing better of this clip
            self._failed(identity, task, message.clip_id, "the answer is none of the session's network")
            return
        clip = counter.queue.graded(identity, message.clip_id)
        if clip is None:
            self._wrong += 1
        else:
            counter.on_found(clip, msgspec.structs.replace(message, track_id=clip.track_id))

    def _failed(self, identity: bytes, task: Task, clip_id: int, reason: str) -> bool:
        """A clip has failed; gives whether it was with this grader."""
        clip = self.counters[task].queue.failed(identity, clip_id)
        if clip is None:
            return False
        self._told_failures += 1
        if self._told_failures & (self._told_failures - 1) == 0:  # the 1st, 2nd, 4th, 8th, …
            n = f" ({self._told_failures} so far)" if self._told_failures > 1 else ""
            text = f"clip {clip.clip_id} of track {clip.track_id} {_CANNOT[task]}: {reason}{n}"
            self._on_event("warning", "grade_failed", text[:500])
        return True
