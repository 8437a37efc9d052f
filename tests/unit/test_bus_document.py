"""Claims about docs/bus.md: its client works against the real bus, and every message is described."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from typing import Any

import bus_messages
import recordings

from casa.bus import messages as m
from casa.bus.address import SOCKETS, Endpoint
from casa.bus.convert import tracks_message
from casa.bus.server import BusServer
from casa.config import BusConfig
from casa.types import FrameAccount

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "bus.md").read_text(encoding="utf-8")


def test_the_client_in_the_document_gets_every_message(tmp_path: Path):
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 1
    namespace: dict[str, Any] = {}
    exec(blocks[0], namespace)
    found: list[dict[str, int]] = []
    with BusServer(Endpoint.parse(f"ipc://{tmp_path}/bus"), BusConfig(), "s", lambda r: m.Done()) as server:
        thread = threading.Thread(target=lambda: found.append(namespace["count_tracks"](f"ipc://{tmp_path}/bus")))
        thread.start()
        deadline = time.monotonic() + 10
        while not server.clients() and time.monotonic() < deadline:
            time.sleep(0.01)
        server.publish(m.SessionStart(source=bus_messages.SOURCE, calibration=None, session={}))
        for frame in range(200):
            server.publish(tracks_message(recordings.tracks(frame, 7)))
            server.publish(m.FrameEnd(frame=frame, t_ns=frame, status="processed"))
        account = FrameAccount(200, 200)
        server.finish(
            lambda sent, left_out: m.SessionEnd(
                status="complete", account=account, summary=None, latency_ms={}, sent=sent, left_out=left_out
            )
        )
        thread.join(20)
        assert not thread.is_alive()
    assert found == [{"frames": 200, "tracks": 1400}]


def test_every_message_and_socket_is_in_the_document():
    types = {m.type_of(message) for message in bus_messages.every_message()}
    missing = {name for name in types if f"`{name}`" not in TEXT}
    assert not missing
    assert all(f"`{name}`" in TEXT for name in SOCKETS)
    assert f"version {m.PROTOCOL_VERSION}" in TEXT.splitlines()[0]
