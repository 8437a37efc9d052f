"""The account of frames: captured = processed + skipped + dropped + failed, kept by number, not by trust."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from casa.graph.latency import LatencyHistogram
from casa.types import FrameAccount, FrameStatus


@dataclass(frozen=True, slots=True)
class FrameEnd:
    """What became of one captured frame; ``reason`` is empty for a processed or skipped one."""

    index: int
    field: int
    t_ns: int
    status: FrameStatus
    reason: str = ""


class Ledger:
    """Every captured frame is opened once and ended once; ending it twice, or unopened, is a bug and raises.

    ``on_end`` is called, outside of the lock, with each FrameEnd. Safe to use from several threads.
    """

    def __init__(self, on_end: Callable[[FrameEnd], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[int, int], tuple[int, int]] = {}  # key -> (t_ns, monotonic ns of capture)
        self._captured = 0
        self._ended = dict.fromkeys(FrameStatus, 0)
        self._on_end = on_end
        self.latency = LatencyHistogram()
        self.first_capture_ns: int | None = None
        self.last_end_ns: int | None = None

    def capture(self, index: int, field: int, t_ns: int, at_ns: int | None = None) -> None:
        """A frame arrived from the source, now or at ``at_ns`` of the monotonic clock."""
        now = time.monotonic_ns() if at_ns is None else at_ns
        with self._lock:
            key = (index, field)
            if key in self._open:
                raise RuntimeError(f"frame {index} (field {field}) was captured twice")
            self._open[key] = (t_ns, now)
            self._captured += 1
            if self.first_capture_ns is None:
                self.first_capture_ns = now

    def end(self, index: int, field: int, status: FrameStatus, reason: str = "") -> None:
        """The frame has become ``status``."""
        now = time.monotonic_ns()
        with self._lock:
            opened = self._open.pop((index, field), None)
            if opened is None:
                raise RuntimeError(f"frame {index} (field {field}) ended as {status} without being open")
            t_ns, captured_at = opened
            self._ended[status] += 1
            self.last_end_ns = now
            if status is FrameStatus.PROCESSED:
                self.latency.add(now - captured_at)
        if self._on_end is not None:
            self._on_end(FrameEnd(index, field, t_ns, status, reason))

    def end_all_open(self, status: FrameStatus, reason: str) -> None:
        """End what is still under way, when a session breaks off."""
        with self._lock:
            keys = sorted(self._open)
        for index, field in keys:
            self.end(index, field, status, reason)

    def account(self) -> FrameAccount:
        """The counts so far; ``balanced`` once nothing is under way."""
        with self._lock:
            return FrameAccount(
                captured=self._captured,
                processed=self._ended[FrameStatus.PROCESSED],
                skipped=self._ended[FrameStatus.SKIPPED],
                dropped=self._ended[FrameStatus.DROPPED],
                failed=self._ended[FrameStatus.FAILED],
            )
