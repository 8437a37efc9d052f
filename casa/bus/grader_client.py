"""A grader's end of the work queue: it says when it has room, is given clips, and gives back what it found."""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import Any, Self

import zmq

from casa.bus.address import Endpoint, owner_pid
from casa.bus.cell_messages import (
    GradeFailed,
    GraderJoin,
    GraderLeave,
    GraderReady,
    GradesMessage,
    Hurry,
    MorphologyMessage,
    Task,
    Work,
)
from casa.bus.codec import Decoder, encode
from casa.bus.keys import Keys
from casa.bus.messages import Heartbeat, SessionEnd
from casa.bus.subscriber import connect

_SAY_S = 1.0
_REJOIN_S = 2.0
_TOGETHER_MS = 5  # clips that come so soon after each other are one batch
#: An engine of which nothing is heard for so long is gone, where it cannot be told otherwise.
_SILENT_S = 10.0


class GraderClient:
    """The work queue, read by one thread; a context manager.

    Attributes
    ----------
    heard : whether an engine has said anything yet. ended : the session has ended.
    hurry : nothing is captured any more, so that there is nothing to rest for.
    """

    def __init__(
        self, endpoint: Endpoint, name: str, model: str, keys: Keys | None = None, task: Task = "grade"
    ) -> None:
        self.endpoint = endpoint
        self.heard = self.ended = self.hurry = False
        self.model = model[:80]
        self._hello = GraderJoin(name=name[:80], pid=os.getpid(), model=self.model, task=task)
        self._decoder = Decoder(Work | Hurry | Heartbeat | SessionEnd)
        self._ready = GraderReady(room=0)
        self._heard_at = time.monotonic()
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket: zmq.Socket[Any] = self._context.socket(zmq.DEALER)
        try:
            connect(self._socket, endpoint, "grade", keys)
            self._join()
        except BaseException:
            self.close()
            raise

    @property
    def bad(self) -> int:
        """Messages that were none."""
        return self._decoder.bad

    def ready(self, room: int, busy_share: float) -> None:
        """Say that so many clips can be given, 0 for none."""
        self._ready = GraderReady(room=room, busy_share=busy_share)
        self._send(self._ready)

    def receive(self, timeout_s: float) -> list[Work]:
        """The clips that have come, waiting for the first so long; says meanwhile that the grader is there.

        Waits no longer where the session ends, or there is nothing to rest for any more.
        """
        found: list[Work] = []
        hurry, deadline = self.hurry, time.monotonic() + timeout_s
        while not found and not self.ended and hurry == self.hurry:
            now = time.monotonic()
            if now - self._heard_at > _REJOIN_S and now - self._joined_at > _REJOIN_S:
                self._join()
            if now - self._said_at > _SAY_S:
                self._send(self._ready)
            self._socket.poll(max(0, min(round((deadline - now) * 1000), 200)))
            while (envelope := self._next(_TOGETHER_MS if found else 0)) is not None:
                self._heard_at, self.heard = time.monotonic(), True
                match envelope.body:
                    case Work():
                        found.append(envelope.body)
                    case Hurry():
                        self.hurry = True
                    case SessionEnd():
                        self.ended = True
            if time.monotonic() >= deadline:
                break
        if found:  # the engine fills room once
            self._ready = GraderReady(room=0, busy_share=self._ready.busy_share)
        return found

    def answer(self, message: GradesMessage | MorphologyMessage | GradeFailed) -> None:
        """What was found in a clip."""
        self._send(message)

    def leave(self, note: str = "") -> None:
        """Nothing more is wanted; what was not answered is somebody else's."""
        self._socket.setsockopt(zmq.LINGER, 500)
        self._send(GraderLeave(note=note[:500]))

    @property
    def engine_is_gone(self) -> bool:
        """Whether the engine that was heard, or never was, is not there."""
        if self.endpoint.folder is not None and owner_pid(self.endpoint) is None:
            return True
        return time.monotonic() - self._heard_at > _SILENT_S

    def close(self) -> None:
        """Disconnect; closing twice is allowed."""
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _join(self) -> None:
        self._joined_at = time.monotonic()
        self._send(self._hello)
        self._send(self._ready)

    def _next(self, wait_ms: int) -> Any:
        while True:
            if wait_ms:
                self._socket.poll(wait_ms)
            try:
                data = self._socket.recv(zmq.NOBLOCK, copy=False).buffer
            except zmq.Again:
                return None
            envelope = self._decoder.decode(data)
            if envelope is not None:
                return envelope

    def _send(self, message: Any) -> None:
        self._said_at = time.monotonic()
        try:
            self._socket.send(encode(message), zmq.NOBLOCK)
        except zmq.Again:
            pass  # nobody reads; it is told again
