"""Claims about events that signals set: a handler that interrupts another one, or a wait, never waits for itself."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from casa.cli.stopping import StopEvent

# the moment in which ``threading.Event`` holds its lock, in ``wait`` or in a ``set`` that another signal began
_WITHIN_ITS_LOCK = """
import os, signal
from casa.cli.stopping import StopEvent
stop = StopEvent()
signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
with stop._cond:
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        pass
print(stop.is_set())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_a_handler_may_set_it_at_any_moment():
    done = subprocess.run([sys.executable, "-c", _WITHIN_ITS_LOCK], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n"


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
