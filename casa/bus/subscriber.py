"""What viewers and other onlookers use: the newest View, the stream of events, and requests to the engine.

Nothing here waits unless it is told to, and nothing here can slow the engine: an onlooker that does not read loses
views, and after thousands of them events.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self, TypeVar

import zmq

from casa.bus.address import Endpoint
from casa.bus.base import MAX_MESSAGE_BYTES
from casa.bus.codec import Decoder, encode
from casa.bus.keys import Keys
from casa.bus.messages import (
    GradesMessage,
    Heartbeat,
    KinematicsMessage,
    Message,
    Metrics,
    MorphologyMessage,
    Refused,
    Reply,
    Request,
    SessionEnd,
    SessionEvent,
    SessionStart,
    View,
)
from casa.errors import CasaError

#: What comes on the stream of events.
EVENT_TYPES = (
    SessionStart, SessionEvent, SessionEnd, Metrics, KinematicsMessage, GradesMessage, MorphologyMessage, Heartbeat
)  # fmt: skip
_EVENTS_KEPT = 10_000
_SocketT = TypeVar("_SocketT", bound="zmq.Socket[Any]")


def connect(socket: _SocketT, endpoint: Endpoint, name: str, keys: Keys | None) -> _SocketT:
    """Connect a client's socket to one of the session's, with bounds and keys."""
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
    socket.setsockopt(zmq.RECONNECT_IVL, 100)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
    if keys is not None:
        socket.curve_publickey, socket.curve_secretkey = keys.public, keys.secret
        socket.curve_serverkey = keys.engine
    socket.connect(endpoint.address(name))
    return socket


class Subscriber:
    """The newest View and the stream of events of a session; a context manager. For one thread.

    It connects whenever the session is there, also later or again, and never raises for want of one: ``silent_s`` says
    how long nothing has come (the engine says something at least once a second).

    Parameters
    ----------
    endpoint : as ``Endpoint.parse`` takes it, or one.
    keys : for an engine that wants them (``load_client_keys``).
    views, events : which of the two are wanted.
    """

    def __init__(
        self,
        endpoint: str | Endpoint | None = None,
        keys: Keys | None = None,
        *,
        views: bool = True,
        events: bool = True,
    ) -> None:
        self.endpoint = endpoint if isinstance(endpoint, Endpoint) else Endpoint.parse(endpoint)
        self._context: zmq.Context[Any] = zmq.Context()
        self._view: zmq.Socket[Any] | None = None
        self._events: zmq.Socket[Any] | None = None
        self._view_decoder = Decoder((View,))
        self._event_decoder = Decoder(EVENT_TYPES)
        self._heard_at = time.monotonic()
        try:
            if views:
                socket = self._context.socket(zmq.SUB)
                socket.setsockopt(zmq.CONFLATE, 1)  # the newest only; before connect
                socket.setsockopt(zmq.SUBSCRIBE, b"")
                self._view = connect(socket, self.endpoint, "view", keys)
            if events:
                socket = self._context.socket(zmq.SUB)
                socket.setsockopt(zmq.RCVHWM, _EVENTS_KEPT)
                socket.setsockopt(zmq.SUBSCRIBE, b"")
                self._events = connect(socket, self.endpoint, "events", keys)
        except BaseException:
            self.close()
            raise

    @property
    def bad(self) -> int:
        """Messages that were none."""
        return self._view_decoder.bad + self._event_decoder.bad

    @property
    def silent_s(self) -> float:
        """For how long nothing has come."""
        return time.monotonic() - self._heard_at

    def view(self) -> View | None:
        """The newest View that has not been given yet; None where there is none."""
        newest = None
        while (envelope := self._receive(self._view, self._view_decoder)) is not None:
            newest = envelope.body
        return newest

    def events(self, at_most: int = 1000) -> list[Message]:
        """Events since the last call, oldest first: those of EVENT_TYPES."""
        found: list[Message] = []
        while len(found) < at_most and (envelope := self._receive(self._events, self._event_decoder)) is not None:
            found.append(envelope.body)
        return found

    def wait(self, timeout_s: float) -> bool:
        """Wait until something has come; False when nothing has in that time."""
        poller = zmq.Poller()
        for socket in (self._view, self._events):
            if socket is not None:
                poller.register(socket, zmq.POLLIN)
        return bool(poller.poll(round(timeout_s * 1000)))

    def close(self) -> None:
        """Disconnect; closing twice is allowed."""
        for socket in (self._view, self._events):
            if socket is not None:
                socket.close()
        self._view = self._events = None
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self, socket: zmq.Socket[Any] | None, decoder: Decoder) -> Any:
        """The next message, over those that are none; None where there is none."""
        while socket is not None:
            try:
                data = socket.recv(zmq.NOBLOCK, copy=False).buffer
            except zmq.Again:
                return None
            self._heard_at = time.monotonic()
            envelope = decoder.decode(data)
            if envelope is not None:
                return envelope
        return None


class ControlClient:
    """Requests to the engine, one at a time; a context manager. For one thread.

    ``request`` waits for the reply. Where waiting is not allowed (a window), ``send`` and then ``poll`` from time to
    time, or when ``fd`` becomes readable.
    """

    def __init__(self, endpoint: str | Endpoint | None = None, keys: Keys | None = None) -> None:
        self.endpoint = endpoint if isinstance(endpoint, Endpoint) else Endpoint.parse(endpoint)
        self._keys = keys
        self._context: zmq.Context[Any] = zmq.Context()
        self._decoder = Decoder()
        self._socket: zmq.Socket[Any] | None = self._connect()

    def _connect(self) -> zmq.Socket[Any]:
        socket = self._context.socket(zmq.REQ)
        # a reply that came too late is not taken for that of the next request
        socket.setsockopt(zmq.REQ_RELAXED, 1)
        socket.setsockopt(zmq.REQ_CORRELATE, 1)
        return connect(socket, self.endpoint, "control", self._keys)

    @property
    def fd(self) -> int:
        """A descriptor that becomes readable when a reply may have come (edge-triggered)."""
        return int(self._open().getsockopt(zmq.FD))

    def send(self, request: Request) -> None:
        """Send a request; a reply to an earlier one is given up."""
        try:
            self._open().send(encode(request), zmq.NOBLOCK)
        except zmq.Again:
            pass  # nobody is there: the reply will not come, which is how the caller knows

    def poll(self, timeout_s: float = 0.0) -> Reply | None:
        """The reply, where it has come; None where not yet."""
        socket = self._open()
        if not socket.poll(round(timeout_s * 1000)):
            return None
        try:
            envelope = self._decoder.decode(socket.recv(zmq.NOBLOCK, copy=False).buffer)
        except zmq.Again:
            return None
        if envelope is None:
            raise CasaError(f"{self.endpoint}: the reply is no message of this protocol ({self._decoder.last_error})")
        return envelope.body  # type: ignore[return-value]

    def request(self, request: Request, timeout_s: float = 3.0) -> Reply:
        """Send a request and wait for its reply.

        Raises
        ------
        CasaError : nobody answers in that time (no session, or no key for it), or the request was refused.
        """
        self._open().setsockopt(zmq.SNDTIMEO, round(timeout_s * 1000))
        try:
            self._open().send(encode(request))
            reply = self.poll(timeout_s)
        except zmq.Again:
            reply = None
        if reply is None:
            raise CasaError(f"{self.endpoint}: no session answers there; start one with `casa live`")
        if isinstance(reply, Refused):
            raise CasaError(f"{self.endpoint}: {reply.reason}")
        return reply

    def close(self) -> None:
        """Disconnect; closing twice is allowed."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._context.term()

    def _open(self) -> zmq.Socket[Any]:
        if self._socket is None:
            raise ValueError("the control client is closed")
        return self._socket

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
