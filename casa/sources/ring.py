"""Where frames wait between a camera, which cannot wait, and a consumer, which may be slow.

``put`` never blocks. When the ring is full a frame loses its picture and stays in its place as a MissingFrame(DROPPED).
"""

from __future__ import annotations

import threading
from array import array
from collections import deque
from typing import Literal

from casa.types import Frame, FrameStatus, MissingFrame, SourceEvent

Item = Frame | MissingFrame | SourceEvent


class _Lost:
    """Missing frames in a row that share a reason: eight bytes each, however long nobody reads."""

    __slots__ = ("first", "reason", "status", "times")

    def __init__(self, frame: MissingFrame) -> None:
        self.first, self.reason, self.status = frame.index, frame.reason, frame.status
        self.times = deque((array("q", [frame.t_ns]),))

    def extend(self, frame: MissingFrame) -> bool:
        """Take the frame in, when it belongs here."""
        if (frame.reason, frame.status, frame.index) != (self.reason, self.status, self.first + len(self)):
            return False
        if len(self.times[-1]) >= 4096:
            self.times.append(array("q"))
        self.times[-1].append(frame.t_ns)
        return True

    def __len__(self) -> int:
        return sum(len(block) for block in self.times)

    def pop(self) -> MissingFrame:
        frame = MissingFrame(self.first, self.times[0].pop(0), self.reason, self.status)
        self.first += 1
        if not self.times[0]:
            self.times.popleft()
        return frame


class Ring:
    """A bounded queue of one producer and one consumer; events and missing frames are never lost.

    Parameters
    ----------
    depth : pictures it holds at most.
    policy : which frame loses its picture when there is one more.
    """

    def __init__(self, depth: int, policy: Literal["oldest", "newest"]) -> None:
        self._depth, self._policy = depth, policy
        self._items: deque[Frame | SourceEvent | _Lost] = deque()
        self._frames = 0
        self._changed = threading.Condition()
        self._closed = False
        self._error: BaseException | None = None
        self.dropped = 0

    def __len__(self) -> int:
        """Pictures that wait."""
        return self._frames

    def put(self, item: Item) -> None:
        """Add an item, at the price of a picture where the ring is full."""
        with self._changed:
            if isinstance(item, MissingFrame):
                self._append_lost(item)
            elif isinstance(item, Frame):
                self._put_frame(item)
            else:
                self._items.append(item)
            self._changed.notify()

    def get(self, timeout_s: float | None = None) -> Item | None:
        """The next item; None when none came in time, or when the ring is closed and empty.

        Raises the error that the ring was closed with, once, after the last item.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout_s)
            if self._items:
                return self._pop()
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            return None

    def close(self, error: BaseException | None = None) -> None:
        """Nothing more will come."""
        with self._changed:
            if not self._closed:
                self._closed, self._error = True, error
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """Whether it is closed, and everything in it was read, its error too."""
        with self._changed:
            return self._closed and not self._items and self._error is None

    def _pop(self) -> Item:
        first = self._items[0]
        if isinstance(first, _Lost):
            frame = first.pop()
            if not first.times:
                self._items.popleft()
            return frame
        self._items.popleft()
        self._frames -= isinstance(first, Frame)
        return first

    def _put_frame(self, frame: Frame) -> None:
        if self._frames < self._depth:
            self._items.append(frame)
            self._frames += 1
            return
        self.dropped += 1
        if self._policy == "newest":
            self._append_lost(_dropped(frame))
            return
        self._items.append(frame)
        at = next(i for i, item in enumerate(self._items) if isinstance(item, Frame))
        oldest = self._items[at]
        assert isinstance(oldest, Frame)
        before = self._items[at - 1] if at else None
        if isinstance(before, _Lost) and before.extend(_dropped(oldest)):
            del self._items[at]
        else:
            self._items[at] = _Lost(_dropped(oldest))

    def _append_lost(self, frame: MissingFrame) -> None:
        last = self._items[-1] if self._items else None
        if not (isinstance(last, _Lost) and last.extend(frame)):
            self._items.append(_Lost(frame))


def _dropped(frame: Frame) -> MissingFrame:
    return MissingFrame(frame.index, frame.t_ns, "what reads the camera was too slow", FrameStatus.DROPPED)
