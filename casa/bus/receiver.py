"""A client of the lossless path: every message in order, and the engine told what is safe.

Used by the recorder. It joins, and joins again when the engine has been silent: what had been on its way is sent again,
and what came twice is given once.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

import zmq

from casa.bus.address import Endpoint
from casa.bus.codec import Decoder, encode
from casa.bus.keys import Keys
from casa.bus.messages import Envelope, Heartbeat, Join, Leave, Written
from casa.bus.server import HEARTBEAT_S, SEQUENCE
from casa.bus.subscriber import connect

_REJOIN_S = 2.0


class Receiver:
    """The lossless path, read by one thread; a context manager.

    Parameters
    ----------
    name : the client's own; one that comes back under it goes on behind ``written``, of the session ``session``.
    pictures : whether every frame's picture is wanted too.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        name: str,
        keys: Keys | None = None,
        *,
        written: int = -1,
        session: str = "",
        pictures: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self._name = name
        self._pictures = pictures
        self._written = written
        self._received = written
        self.session = session
        self._heard = False
        self._decoder = Decoder()
        self._malformed = 0
        self._heard_at = self._told_at = self._joined_at = time.monotonic()
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket: zmq.Socket[Any] | None = None
        try:
            socket = self._context.socket(zmq.DEALER)
            socket.setsockopt(zmq.RCVHWM, 0)  # the engine's window bounds what is under way
            socket.setsockopt(zmq.SNDHWM, 100)
            self._socket = connect(socket, endpoint, "record", keys)
            self._join()
        except BaseException:
            self.close()
            raise

    @property
    def bad(self) -> int:
        """Messages that were none."""
        return self._decoder.bad + self._malformed

    @property
    def heard(self) -> bool:
        """Whether an engine has said anything yet."""
        return self._heard

    @property
    def silent_s(self) -> float:
        """For how long the engine has said nothing."""
        return time.monotonic() - self._heard_at

    def receive(self, timeout_s: float, at_most: int = 200) -> list[tuple[int, Envelope]]:
        """(sequence number, message) of what has come, at least one unless nothing comes in time.

        Heartbeats are not given; but the first thing that comes from an engine is, whatever it is, so that ``session``
        is known.
        """
        found: list[tuple[int, Envelope]] = []
        socket = self._open()
        if not socket.poll(round(timeout_s * 1000)):
            if self.silent_s > _REJOIN_S and time.monotonic() - self._joined_at > _REJOIN_S:
                self._join()
            return found
        while len(found) < at_most:
            try:
                parts = socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            if len(parts) != 2 or len(parts[0].buffer) != SEQUENCE.size:
                self._malformed += 1
                continue
            envelope = self._decoder.decode(parts[1].buffer)
            if envelope is None:
                continue
            self._heard_at = time.monotonic()
            self._heard = True
            self.session = envelope.session
            (sequence,) = SEQUENCE.unpack(parts[0].buffer)
            if isinstance(envelope.body, Heartbeat) or sequence <= self._received:
                continue  # what came twice was under way when the connection broke
            self._received = sequence
            found.append((sequence, envelope))
        if time.monotonic() - self._told_at > HEARTBEAT_S:
            self.confirm(self._written)
        return found

    def confirm(self, sequence: int, note: str = "") -> None:
        """Everything up to this message is safe."""
        self._written = sequence
        self._send(Written(sequence=sequence, session_id=self.session[:80], note=note))

    def leave(self, written: dict[str, int], note: str = "") -> None:
        """Nothing more is wanted; waits until that is sent, or a second."""
        self._open().setsockopt(zmq.LINGER, 1000)
        self._send(Leave(written=written, note=note))

    def close(self) -> None:
        """Disconnect; closing twice is allowed."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _join(self) -> None:
        self._joined_at = time.monotonic()
        self._received = self._written
        self._send(
            Join(name=self._name[:80], written=self._written, session_id=self.session[:80], pictures=self._pictures)
        )

    def _send(self, message: Join | Written | Leave) -> None:
        self._told_at = time.monotonic()
        try:
            self._open().send(encode(message), zmq.NOBLOCK)
        except zmq.Again:
            pass  # nobody reads; it is told again

    def _open(self) -> zmq.Socket[Any]:
        if self._socket is None:
            raise ValueError("the receiver is closed")
        return self._socket
