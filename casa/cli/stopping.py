"""An event that a signal handler may set at any moment."""

from __future__ import annotations

import threading
import time

_SLICE_S = 0.02


class StopEvent(threading.Event):
    """``threading.Event`` without its lock.

    A handler runs between any two steps of the main thread, which may hold that lock just then, in ``wait`` or in a
    ``set`` that an earlier signal began: it would wait for itself for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told = False

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._told

    def set(self) -> None:
        """Set it; waiting threads notice within 20 ms."""
        self._told = True

    def clear(self) -> None:
        """Take it back."""
        self._told = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or for ``timeout`` seconds; gives whether it is set."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self._told:
            left = _SLICE_S if until is None else min(until - time.monotonic(), _SLICE_S)
            if left <= 0:
                break
            time.sleep(left)
        return self._told
