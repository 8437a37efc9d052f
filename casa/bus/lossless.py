"""What waits for one client of the lossless path: a bounded queue with sequence numbers, and gaps that are counted.

A message is kept until the client says that it is written, so that one whose process died gets again what it had
not written. When the queue is full, messages are left out, and a ``Gap`` in their place says how many of which type.
Pictures have a bound of their own: video never costs a row of a table. No sockets here.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from casa.bus.codec import encode
from casa.bus.messages import FramePicture, Gap, type_of
from casa.types import FrameAccount

#: After a gap, messages are taken again when the queue is down to this share of its bound: few long gaps, not many.
_RESUME_SHARE = 0.75
_PICTURE = str(FramePicture.__struct_config__.tag)


@dataclass(frozen=True, slots=True)
class Item:
    """An encoded message on its way: ``kind`` is its type, ``end`` the status where it is a frame's end."""

    kind: str
    data: bytes
    end: str = ""


class ClientQueue:
    """The messages of one client. Not for use from several threads at once.

    Parameters
    ----------
    session : id that goes into the envelopes of gaps.
    max_bytes, max_picture_bytes : bounds for what waits, of pictures and of everything else.
    pictures : whether the client wants FramePicture messages.
    """

    def __init__(self, session: str, max_bytes: int, max_picture_bytes: int, pictures: bool) -> None:
        self._session = session
        self._max = {True: max_picture_bytes, False: max_bytes}
        self._bytes = {True: 0, False: 0}
        self._full = {True: False, False: False}
        self._items: deque[tuple[int, Item]] = deque()
        self._next_sequence = 0
        self._n_in_flight = 0
        self._bytes_in_flight = 0
        self._gap: Counter[str] = Counter()
        self._gap_ends: Counter[str] = Counter()
        self.pictures = pictures
        self.sent: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.written = -1

    def __len__(self) -> int:
        return len(self._items)

    @property
    def n_bytes(self) -> int:
        """Bytes that wait or are not known to be written."""
        return sum(self._bytes.values())

    def put(self, item: Item, *, always: bool = False) -> bool:
        """Queue a message, or count it as left out where there is no room; ``always`` makes room.

        Gives True where a gap has begun with it.
        """
        picture = item.kind == _PICTURE
        if picture and not self.pictures:
            return False
        limit = self._max[picture]
        if self._full[picture]:
            self._full[picture] = self._bytes[picture] > limit * _RESUME_SHARE
        begins = False
        if not self._full[picture] and self._bytes[picture] + len(item.data) > limit:
            self._full[picture] = begins = True
        if self._full[picture] and not always:
            self.left_out[item.kind] += 1
            self._gap[item.kind] += 1
            if item.end:
                self._gap_ends[item.end] += 1
            return begins
        if always or not any(self._full.values()):  # else a gap of pictures would become one before every row
            self._put_gap()
        self._append(item, picture)
        return False

    def take(self, max_items: int, max_bytes: int) -> list[tuple[int, Item]]:
        """Messages to send now: what is on its way stays within the two limits, or is one message."""
        found = []
        while self._n_in_flight < len(self._items) and self._n_in_flight < max_items:
            sequence, item = self._items[self._n_in_flight]
            if self._n_in_flight and self._bytes_in_flight + len(item.data) > max_bytes:
                break
            self._n_in_flight += 1
            self._bytes_in_flight += len(item.data)
            found.append((sequence, item))
        return found

    def confirm(self, sequence: int) -> None:
        """The client has written everything up to ``sequence``; what was never sent to it is not believed."""
        while self._n_in_flight and self._items[0][0] <= sequence:
            number, item = self._items.popleft()
            self._n_in_flight -= 1
            self._bytes_in_flight -= len(item.data)
            self._bytes[item.kind == _PICTURE] -= len(item.data)
            self.written = number

    def rewind(self, written: int) -> bool:
        """The client is back, and has written everything up to ``written``: the rest is sent again.

        False where what it lacks is not here any more.
        """
        self.confirm(written)
        self._n_in_flight = 0
        self._bytes_in_flight = 0
        return written >= self.written

    def flush_gap(self) -> None:
        """Put what was left out so far into the queue as a Gap."""
        self._put_gap()

    def _append(self, item: Item, picture: bool) -> None:
        self._items.append((self._next_sequence, item))
        self._next_sequence += 1
        self._bytes[picture] += len(item.data)
        self.sent[item.kind] += 1

    def _put_gap(self) -> None:
        if not self._gap:
            return
        ends = FrameAccount(captured=sum(self._gap_ends.values()), **self._gap_ends)
        gap = Gap(counts=dict(self._gap), ends=ends)
        self._gap.clear()
        self._gap_ends.clear()
        self._append(Item(type_of(gap), encode(gap, self._session)), False)
