"""Claims about events that signals set: a handler that interrupts another one, or a wait, never waits for itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from casa.cli.stopping import StopEvent

_STORM = """
import os, signal, sys, threading, time
from casa.cli.stopping import StopEvent
stop = StopEvent()
count = 0
def handle(number, frame):
    global count
    count += 1
    stop.set()
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, handle)
print("ready", flush=True)
end = time.monotonic() + 20
while time.monotonic() < end and count < 300:
    stop.clear()
    stop.wait(0.001)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
print(count)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_a_storm_of_signals_does_not_stop_the_program():
    process = subprocess.Popen([sys.executable, "-c", _STORM], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            os.kill(process.pid, number)
        time.sleep(0.0005)
    try:
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert int(out) >= 300


def test_it_waits_as_an_event_does():
    stop = StopEvent()
    began = time.monotonic()
    assert stop.wait(0.05) is False
    assert time.monotonic() - began >= 0.05
    timer = threading.Timer(0.05, stop.set)
    timer.start()
    assert stop.wait(10) is True
    timer.join()
    assert stop.is_set()
    assert time.monotonic() - began < 5
    assert stop.wait(0) is True
    stop.clear()
    assert not stop.is_set()
