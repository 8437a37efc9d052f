"""Claims about the bus with real sockets: who gets what, who gets nothing, and what is left when it is closed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bus_messages
import pytest
import recordings
import zmq

from casa.bus import messages as m
from casa.bus.address import Claim, Endpoint, clean_stale, owner_pid
from casa.bus.codec import encode
from casa.bus.convert import tracks_message
from casa.bus.keys import load_client_keys, load_engine_keys, make_keys
from casa.bus.receiver import Receiver
from casa.bus.server import BusServer
from casa.bus.subscriber import ControlClient, Subscriber
from casa.config import BusConfig
from casa.errors import CasaError, InputError
from casa.types import FrameAccount

START = m.SessionStart(source=bus_messages.SOURCE, calibration=None, session=recordings.SESSION)


def free_port() -> int:
    """A port with free ones behind it."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port < 65000:
            return port


def answer(request: m.Request) -> m.Reply:
    if isinstance(request, m.Snapshot):
        raise CasaError("there is no picture yet")
    return m.Done(text=type(request).__name__)


def until(claim: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture(params=["ipc", "tcp"])
def server(request, tmp_path: Path) -> Iterator[BusServer]:
    where = f"ipc://{tmp_path}/bus" if request.param == "ipc" else f"tcp://127.0.0.1:{free_port()}"
    with BusServer(Endpoint.parse(where), BusConfig(), "a" * 32, answer) as server:
        yield server


def end(sent: dict[str, int], left_out: dict[str, int]) -> m.SessionEnd:
    return m.SessionEnd(
        status="complete", account=FrameAccount(), summary=None, latency_ms={}, sent=sent, left_out=left_out
    )


def test_a_client_of_the_lossless_path_gets_every_message_in_order(server):
    server.publish(START)
    got = []
    with Receiver(server.endpoint, "r") as receiver:
        until(server.clients)
        for frame in range(300):
            server.publish(tracks_message(recordings.tracks(frame)))
            server.publish(m.FrameEnd(frame=frame, t_ns=frame, status="processed"))
        server.finish(end)
        while not got or not isinstance(got[-1][1].body, m.SessionEnd):
            got += receiver.receive(2.0)
        receiver.confirm(got[-1][0])
        assert server.wait_written(10)
    assert [sequence for sequence, _ in got] == list(range(602))
    assert isinstance(got[0][1].body, m.SessionStart)
    frames = [envelope.body.frame for _, envelope in got if isinstance(envelope.body, m.FrameEnd)]
    assert frames == list(range(300))
    assert got[-1][1].body.sent == {"session_start": 1, "tracks": 300, "frame_end": 300}


def test_a_client_that_dies_and_comes_back_gets_what_it_had_not_written(server):
    server.expect("r", pictures=False)
    server.publish(START)
    for frame in range(50):
        server.publish(m.FrameEnd(frame=frame, t_ns=frame, status="processed"))
    with Receiver(server.endpoint, "r") as first:
        got: list = []
        while len(got) < 51:
            got += first.receive(2.0)
        first.confirm(20)
        until(lambda: server.clients()[0].written == 21)
    with Receiver(server.endpoint, "r", written=30, session="a" * 32) as second:
        again: list = []
        while len(again) < 20:
            again += second.receive(2.0)
    assert [sequence for sequence, _ in again] == list(range(31, 51))


def test_viewers_get_the_newest_view_and_a_frozen_one_costs_nothing(server):
    with Subscriber(server.endpoint) as looking, Subscriber(server.endpoint) as frozen:
        until(lambda: server.n_viewers == 2)
        for frame in range(500):
            server.view(bus_messages.view(frame, shape=(480, 640)))
        server.event(m.Heartbeat(mono_ns=1))
        newest = None

        def last_has_come() -> bool:
            nonlocal newest
            newest = looking.view() or newest
            return newest is not None and newest.frame == 499

        until(last_has_come)
        assert newest is not None
        assert newest.image.numpy()[0, 0] == 499 % 256
        until(looking.events)
        # what a viewer that did not read finds is the newest, behind what was already on its way
        seen = frozen.view()
        assert seen is not None
        assert seen.frame > 400
    until(lambda: server.n_viewers == 0)


def test_requests_are_answered_and_refusals_say_why(server):
    with ControlClient(server.endpoint) as control:
        assert control.request(m.Mark(text="x")).text == "Mark"
        with pytest.raises(CasaError, match="no picture yet"):
            control.request(m.Snapshot())
        control.send(m.Stop())
        until(lambda: isinstance(control.poll(0.1), m.Done))


def test_what_is_no_request_is_refused_and_counted(server):
    context = zmq.Context()
    try:
        with context.socket(zmq.REQ) as raw:
            raw.linger = 0
            raw.connect(server.endpoint.address("control"))
            raw.send(b"\xc1 rubbish")
            assert raw.poll(5000)
            assert b"refused" in raw.recv()
            raw.send(encode(bus_messages.view()))
            assert raw.poll(5000)
            assert b"refused" in raw.recv()
        with context.socket(zmq.DEALER) as raw:
            raw.linger = 0
            raw.connect(server.endpoint.address("record"))
            raw.send(b"rubbish")
            raw.send_multipart([b"", b"three", b"parts"])
            until(lambda: server.bad == 4)
        with ControlClient(server.endpoint) as control:  # and goes on as if nothing had been
            assert control.request(m.GetStatus()).text == "GetStatus"
    finally:
        context.term()


def test_nobody_there_is_one_line(tmp_path: Path):
    with ControlClient(f"ipc://{tmp_path}/nobody") as control, pytest.raises(CasaError, match="no session answers"):
        control.request(m.GetStatus(), timeout_s=0.2)


def test_a_client_without_the_right_key_gets_nothing(tmp_path: Path):
    engine, strangers = tmp_path / "keys", tmp_path / "strangers"
    make_keys(engine, ("viewer", "second"))
    make_keys(strangers, ("viewer",))
    assert (engine / "viewer.key_secret").stat().st_mode & 0o077 == 0
    endpoint = Endpoint.parse(f"tcp://127.0.0.1:{free_port()}")
    known = load_client_keys(engine, "second")
    stranger = load_client_keys(strangers)
    guessing = type(stranger)(stranger.public, stranger.secret, known.engine)  # knows the engine's public key
    with BusServer(endpoint, BusConfig(), "s", answer, load_engine_keys(engine)) as server:
        server.publish(START)
        for keys in (None, stranger, guessing):
            with (
                Subscriber(endpoint, keys) as subscriber,
                Receiver(endpoint, "thief", keys) as receiver,
                ControlClient(endpoint, keys) as control,
            ):
                for frame in range(5):
                    server.view(bus_messages.view(frame))
                    server.event(m.Heartbeat(mono_ns=1))
                    time.sleep(0.02)
                with pytest.raises(CasaError, match="no session answers"):
                    control.request(m.GetStatus(), timeout_s=0.3)
                assert subscriber.view() is None
                assert subscriber.events() == []
                assert receiver.receive(0.1) == []
        assert server.clients() == ()
        with Subscriber(endpoint, known) as subscriber, ControlClient(endpoint, known) as control:
            assert control.request(m.GetStatus()).text == "GetStatus"
            until(lambda: server.view(bus_messages.view(7)) or subscriber.view())


def test_an_address_for_everybody_needs_keys():
    with pytest.raises(InputError, match="needs keys"):
        BusServer(Endpoint.parse("tcp://0.0.0.0:5999"), BusConfig(), "s", answer)


@pytest.mark.parametrize(
    ("text", "why"),
    [("tcp://host", "PORT"), ("tcp://host:99999", "PORT"), ("ipc://relative", "whole path"), ("a/b", "expected a name"),
     ("", "expected a name"), ("ipc:///" + "x" * 120, "107 bytes"), ("udp://x:1", "expected a name")],
)  # fmt: skip
def test_an_endpoint_that_is_none_is_one_line(text, why):
    with pytest.raises(InputError, match=why):
        Endpoint.parse(text)


@pytest.mark.parametrize("text", ["tcp://127.0.0.1:5000", "tcp://localhost:5000", "ipc:///tmp/x", "name"])
def test_only_addresses_of_this_machine_are_local(text):
    assert Endpoint.parse(text).is_local
    assert not Endpoint.parse("tcp://192.168.1.4:5000").is_local
    assert not Endpoint.parse("tcp://*:5000").is_local


def test_two_sessions_cannot_have_one_place_and_none_is_left_behind(tmp_path: Path):
    endpoint = Endpoint.parse(f"ipc://{tmp_path}/bus")
    with Claim(endpoint):
        assert owner_pid(endpoint) == os.getpid()
        with pytest.raises(InputError, match="a session is running there"):
            Claim(endpoint)
    assert owner_pid(endpoint) is None
    assert list(tmp_path.iterdir()) == []


def test_the_sockets_of_a_dead_session_are_cleaned_up_and_those_of_a_living_one_stay(tmp_path: Path):
    code = (
        "import sys, time\nfrom casa.bus.address import Endpoint\nfrom casa.bus.server import BusServer\n"
        "from casa.config import BusConfig\n"
        "s = BusServer(Endpoint.parse(sys.argv[1]), BusConfig(), 's', lambda r: None)\n"
        "print('up', flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, f"ipc://{tmp_path}/dead"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / "dead" / "control").exists()
    with Claim(Endpoint.parse(f"ipc://{tmp_path}/alive")):
        clean_stale(tmp_path)
        assert [folder.name for folder in tmp_path.iterdir()] == ["alive"]
