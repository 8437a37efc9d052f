"""The engine's end of the bus: one thread that owns all sockets, so that publishing never waits for anybody.

``publish`` (lossless), ``event`` and ``view`` only encode and queue; they may be called from any thread. The thread
sends, takes what clients of the lossless path confirm, answers requests, and lets in whom the keys allow.
"""

from __future__ import annotations

import socket as sockets
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from casa.bus.address import Claim, Endpoint
from casa.bus.base import MAX_MESSAGE_BYTES
from casa.bus.codec import Decoder, encode
from casa.bus.desk import GraderDesk
from casa.bus.keys import Keys, let_in
from casa.bus.lossless import ClientQueue, Item
from casa.bus.messages import (
    AnyMessage,
    ClientMessage,
    ClientMetrics,
    FrameEnd,
    Heartbeat,
    Join,
    Leave,
    Refused,
    Reply,
    Request,
    SessionEnd,
    SessionStart,
    View,
    Written,
    type_of,
)
from casa.config import BusConfig
from casa.errors import CasaError, InputError

#: Before each message of the lossless path: its sequence number for this client; -1 where it has none.
SEQUENCE = struct.Struct("<q")
HEARTBEAT_S = 0.5
#: A client that has said nothing for so long is gone; it says something at least every HEARTBEAT_S.
CLIENT_SILENT_S = 10.0
_FORGET_S = 30.0
_WINDOW_ITEMS = 2000
_WINDOW_BYTES = 16 << 20
_EVENTS_WAITING = 10_000
_MIB = 1 << 20


@dataclass(slots=True)
class _Client:
    """A client of the lossless path; ``kept`` ones are waited for however long they are away."""

    name: str
    queue: ClientQueue
    kept: bool
    identity: bytes | None = None
    heard_at: float = field(default_factory=time.monotonic)
    left: Leave | None = None


class BusServer:
    """A session's sockets. A context manager; ``close`` ends the thread and removes the sockets.

    Parameters
    ----------
    endpoint : where. keys : without them, only an endpoint that nobody outside of this machine can reach is bound.
    config : bounds. session : the session's id. answer : gives the reply to a request; called in the bus's thread.
    on_client : told, in the bus's thread, of a client that joins, loses messages or goes: (kind, text).
    desk : gives clips to graders; without it there is no socket for them.

    Raises
    ------
    InputError : the address is in use, or is for everybody and has no keys.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        config: BusConfig,
        session: str,
        answer: Callable[[Request], Reply],
        keys: Keys | None = None,
        on_client: Callable[[str, str], None] = lambda kind, text: None,
        desk: GraderDesk | None = None,
    ) -> None:
        if not endpoint.is_local and keys is None:
            raise InputError(f"{endpoint}: can be reached from outside of this machine, so it needs keys (--keys)")
        self.endpoint = endpoint
        self.session = session
        self._config = config
        self._answer = answer
        self._on_client = on_client
        self._desk = desk
        self._keys = keys
        self._allowed = {z85.decode(key) for key in keys.clients} if keys is not None else set()
        self._lock = threading.Lock()
        self._clients: dict[str, _Client] = {}
        self._start: Item | None = None
        self._early: deque[Item] = deque(maxlen=1000)  # events of before the start, which is to be the first message
        self._view: bytes | None = None
        self._events: deque[bytes] = deque(maxlen=_EVENTS_WAITING)
        self._heartbeat_at = 0.0
        self.n_viewers = 0
        self._decoder = Decoder(Join | Written | Leave)
        self._requests = Decoder(Request)
        self._malformed = 0
        self._stopping = False
        self._finished = False
        self._end: bytes | None = None  # for the graders, once
        self._error: BaseException | None = None
        self._claim = Claim(endpoint)
        self._wake_in, self._wake_out = sockets.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._context: zmq.Context[Any] = zmq.Context()
        self._context.setsockopt(zmq.MAX_SOCKETS, 4096)
        self._sockets: dict[str, zmq.Socket[Any]] = {}
        try:
            self._bind()
        except BaseException:
            self._close_sockets()
            raise
        self._thread = threading.Thread(target=self._run, name="casa-bus", daemon=True)
        self._thread.start()

    @property
    def bad(self) -> int:
        """Messages from clients that were none."""
        return self._decoder.bad + self._requests.bad + self._malformed + (self._desk.bad if self._desk else 0)

    def expect(self, name: str, *, pictures: bool) -> None:
        """A client of that name will come: keep everything for it from now on."""
        with self._lock:
            self._clients[name] = self._new_client(name, pictures=pictures, kept=True)

    def wants_pictures(self) -> bool:
        """Whether any client of the lossless path wants FramePicture messages."""
        with self._lock:
            return any(client.queue.pictures for client in self._clients.values())

    def publish(self, message: AnyMessage, *, also_event: bool = False) -> None:
        """Give a message to every client of the lossless path, and to the stream of events where told."""
        end = message.status if isinstance(message, FrameEnd) else ""
        item = Item(type_of(message), encode(message, self.session), end)
        begun: list[str] = []
        with self._lock:
            if also_event:
                self._events.append(item.data)
            if self._start is None and not isinstance(message, SessionStart):
                self._early.append(item)
                return
            if self._finished:
                return
            items = [item]
            if self._start is None:
                self._start = item
                items += self._early
                self._early.clear()
            for client in self._clients.values():
                begun += [client.name for part in items if client.queue.put(part)]
        self.wake()
        for name in begun:
            self._on_client("recorder_slow", f"{name} is too slow: its queue is full, and messages are left out")

    def event(self, message: AnyMessage) -> None:
        """Give a message to the stream of events alone."""
        with self._lock:
            self._events.append(encode(message, self.session))
        self.wake()

    def view(self, view: View) -> None:
        """The newest View; one that was not sent yet is forgotten."""
        data = encode(view, self.session)
        with self._lock:
            self._view = data
        self.wake()

    def finish(self, make: Callable[[dict[str, int], dict[str, int]], SessionEnd]) -> None:
        """The last message for each client: ``make`` gives it from the counts sent to and left out for the client.

        What is published afterwards goes to the stream of events alone.
        """
        with self._lock:
            for client in self._clients.values():
                queue = client.queue
                queue.flush_gap()
                message = make(dict(queue.sent), dict(queue.left_out))
                queue.put(Item(type_of(message), encode(message, self.session)), always=True)
            self._finished = True
            self._end = encode(make({}, {}), self.session)
            self._events.append(self._end)
        self.wake()

    def wait_written(self, timeout_s: float) -> bool:
        """Wait until every connected client has written everything or has left; False when it takes longer."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with self._lock:
                if all(len(c.queue) == 0 or c.left or c.identity is None for c in self._clients.values()):
                    return True
            time.sleep(0.02)
        return False

    def left(self, name: str) -> Leave | None:
        """What a client said when it left; None where it has not."""
        with self._lock:
            client = self._clients.get(name)
            return client.left if client is not None else None

    def forget(self, name: str) -> None:
        """A client will not come back."""
        with self._lock:
            self._clients.pop(name, None)

    def counts(self, name: str) -> tuple[dict[str, int], dict[str, int]]:
        """Messages sent to and left out for a client, by type."""
        with self._lock:
            client = self._clients.get(name)
            return (dict(client.queue.sent), dict(client.queue.left_out)) if client is not None else ({}, {})

    def clients(self) -> tuple[ClientMetrics, ...]:
        """How the clients of the lossless path are doing."""
        with self._lock:
            return tuple(
                ClientMetrics(
                    name=client.name[:80],
                    connected=client.identity is not None,
                    queued=len(client.queue),
                    queued_bytes=client.queue.n_bytes,
                    sent=client.queue.sent.total(),
                    written=client.queue.written + 1,
                    left_out=client.queue.left_out.total(),
                )
                for client in self._clients.values()
            )

    def close(self) -> None:
        """Send what is ready, end the thread, and remove the sockets. Closing twice is allowed."""
        if self._thread.is_alive():
            self._stopping = True
            self.wake()
            self._thread.join()
        self._close_sockets()

    def __enter__(self) -> BusServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def check(self) -> None:
        """Raise CasaError where the bus's thread has died."""
        if self._error is not None:
            raise CasaError(f"the bus broke down: {type(self._error).__name__}: {self._error}") from self._error

    # what follows runs in the bus's thread, but for _bind and _close_sockets

    def _new_client(self, name: str, *, pictures: bool, kept: bool) -> _Client:
        """A client's state, with the session's start as its first message; call with the lock held."""
        config = self._config
        queue = ClientQueue(self.session, config.record_queue_mib * _MIB, config.picture_queue_mib * _MIB, pictures)
        if self._start is not None:
            queue.put(self._start)
        return _Client(name, queue, kept)

    def _bind(self) -> None:
        if self._keys is not None:
            gate = self._sockets["gate"] = self._context.socket(zmq.REP)
            gate.linger = 0
            gate.bind("inproc://zeromq.zap.01")  # where ZeroMQ asks whether a key is allowed
        kinds = {"control": zmq.ROUTER, "view": zmq.PUB, "events": zmq.PUB, "record": zmq.ROUTER, "grade": zmq.ROUTER}
        for name, kind in kinds.items():
            if name == "grade" and self._desk is None:
                continue
            socket = self._sockets[name] = self._context.socket(kind)
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
            if name == "view":
                socket.setsockopt(zmq.CONFLATE, 1)
                self._sockets["monitor"] = socket.get_monitor_socket(
                    zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
                )
            elif name == "events":
                socket.setsockopt(zmq.SNDHWM, _EVENTS_WAITING)
                socket.setsockopt(zmq.LINGER, 300)
            elif name in ("record", "grade"):
                socket.setsockopt(zmq.SNDHWM, 0)  # the window, or the graders' room, bounds what is under way
                socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            if self._keys is not None:
                socket.curve_server = True
                socket.zap_domain = b"casa"
                socket.curve_publickey, socket.curve_secretkey = self._keys.public, self._keys.secret
            address = self.endpoint.address(name)
            try:
                socket.bind(address)
            except zmq.ZMQError as error:
                why = "something else is there" if error.errno == zmq.EADDRINUSE else zmq.strerror(error.errno or 0)
                raise InputError(
                    f"{self.endpoint}: {address} cannot be bound ({why}); choose another --endpoint"
                ) from error

    def _close_sockets(self) -> None:
        with suppress(KeyError, zmq.ZMQError):
            self._sockets["view"].disable_monitor()
        for socket in self._sockets.values():
            socket.close()
        self._sockets.clear()
        self._context.term()
        self._wake_in.close()
        self._wake_out.close()
        self._claim.release()

    def wake(self) -> None:
        """There is something to send."""
        with suppress(BlockingIOError, OSError):
            self._wake_in.send(b"x")

    def _run(self) -> None:
        poller = zmq.Poller()
        handle: dict[str, Callable[[], None]] = {
            "control": self._on_control, "record": self._on_record, "grade": self._on_grade,
            "monitor": self._on_monitor, "gate": lambda: let_in(self._sockets["gate"], self._allowed),
        }  # fmt: skip
        handlers = {self._sockets[name]: handle[name] for name in handle if name in self._sockets}
        for socket in handlers:
            poller.register(socket, zmq.POLLIN)
        poller.register(self._wake_out.fileno(), zmq.POLLIN)
        try:
            while True:
                stopping = self._stopping
                for found, _ in poller.poll(round(HEARTBEAT_S * 500)):
                    if isinstance(found, zmq.Socket):
                        handlers[found]()
                    else:
                        with suppress(BlockingIOError):
                            self._wake_out.recv(1 << 16)
                self._send_all()
                self._look_after_clients()
                if stopping:
                    return
        except BaseException as error:
            self._error = error

    def _send_all(self) -> None:
        with self._lock:
            view, self._view = self._view, None
            events = list(self._events)
            self._events.clear()
            batches = [
                (client, client.queue.take(_WINDOW_ITEMS, _WINDOW_BYTES))
                for client in self._clients.values()
                if client.identity is not None
            ]
        if view is not None:
            self._sockets["view"].send(view, zmq.NOBLOCK, copy=False)
        for data in events:
            self._sockets["events"].send(data, zmq.NOBLOCK)
        if self._desk is not None:
            self._desk.send(self._sockets["grade"], self.session)
            if (end := self._end) is not None:
                self._end = None
                self._desk.end(self._sockets["grade"], end)
        for client, batch in batches:
            for sequence, item in batch:
                if not self._send_to(client, sequence, item.data):
                    break

    def _send_to(self, client: _Client, sequence: int, data: bytes) -> bool:
        """Whether the client is still there; what it does not get stays in its queue for when it is back."""
        if client.identity is None:
            return False
        try:
            self._sockets["record"].send_multipart(
                [client.identity, SEQUENCE.pack(sequence), data], zmq.NOBLOCK, copy=len(data) < 65536
            )
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            self._disconnected(client)
            return False
        return True

    def _disconnected(self, client: _Client) -> None:
        if client.identity is not None:
            client.identity = None
            client.heard_at = time.monotonic()
            if client.left is None:
                self._on_client("recorder_gone", f"{client.name} is not there any more")

    def _look_after_clients(self) -> None:
        now = time.monotonic()
        if now - self._heartbeat_at < HEARTBEAT_S:
            return
        self._heartbeat_at = now
        data = encode(Heartbeat(mono_ns=time.monotonic_ns()), self.session)
        with self._lock:
            clients = list(self._clients.values())
        for client in clients:
            if client.identity is not None and now - client.heard_at > CLIENT_SILENT_S and not client.kept:
                self._disconnected(client)
            self._send_to(client, -1, data)
            if client.identity is None and not client.kept and now - client.heard_at > _FORGET_S:
                self.forget(client.name)

    def _on_record(self) -> None:
        socket = self._sockets["record"]
        for _ in range(1000):
            try:
                parts = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(parts) != 2:
                self._malformed += 1
                continue
            envelope = self._decoder.decode(parts[1])
            if envelope is not None and isinstance(envelope.body, ClientMessage):
                self._on_client_message(parts[0], envelope.body)

    def _on_client_message(self, identity: bytes, message: ClientMessage) -> None:
        if isinstance(message, Join):
            self._join(identity, message)
            return
        with self._lock:
            client = next((c for c in self._clients.values() if c.identity == identity), None)
            if client is None:
                return
            client.heard_at = time.monotonic()
            if isinstance(message, Written):
                client.queue.confirm(message.sequence)
            else:
                client.left = message
                if not client.kept:
                    del self._clients[client.name]
        if message.note:
            self._on_client("recorder_says", f"{client.name}: {message.note}")

    def _join(self, identity: bytes, message: Join) -> None:
        told = ("recorder_joined", f"{message.name} joined")
        with self._lock:
            client = self._clients.get(message.name)
            if client is None:
                client = self._new_client(message.name, pictures=message.pictures, kept=False)
                self._clients[message.name] = client
            else:
                same = message.session_id == self.session
                if client.queue.written >= 0 or same:
                    told = ("recorder_back", f"{message.name} is back")
                if not client.queue.rewind(message.written if same else -1):
                    told = ("recorder_lost", f"{message.name} is back without what it had written")
                client.queue.pictures = message.pictures
            client.identity = identity
            client.heard_at = time.monotonic()
            client.left = None
        self._on_client(*told)

    def _on_control(self) -> None:
        socket = self._sockets["control"]
        for _ in range(100):
            try:
                parts = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if b"" not in parts[:-1]:
                self._malformed += 1
                continue
            envelope = self._requests.decode(parts[-1])
            if envelope is None or not isinstance(envelope.body, Request):
                reply: Reply = Refused(reason=f"no request of this protocol: {self._requests.last_error}"[:500])
            else:
                try:
                    reply = self._answer(envelope.body)
                except CasaError as error:
                    reply = Refused(reason=str(error)[:500])
            socket.send_multipart([*parts[:-1], encode(reply, self.session)], zmq.NOBLOCK)

    def _on_grade(self) -> None:
        if self._desk is not None:
            self._desk.receive(self._sockets["grade"])

    def _on_monitor(self) -> None:
        socket = self._sockets["monitor"]
        while socket.poll(0):
            event = recv_monitor_message(socket)["event"]
            self.n_viewers += 1 if event == zmq.EVENT_HANDSHAKE_SUCCEEDED else -1
        self.n_viewers = max(self.n_viewers, 0)
