"""The samples of the tracks in view, in one block of memory: a row a track, of fixed capacity.

Taking a frame is a dict look-up a track and one pass over the tracks.
"""

from __future__ import annotations

import numpy as np

from casa.kernels import kernel
from casa.types import FloatArray, IntArray

#: Samples a track keeps before they are measured and dropped (20 s at 50 images/s).
CAPACITY = 1024


class TrackBuffers:
    """Samples by track, in slots that are used again when a track has ended."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.slot_of: dict[int, int] = {}
        self._free: list[int] = []
        self.index = np.empty((0, capacity), np.int64)
        self.t_ns = np.empty((0, capacity), np.int64)
        self.xy = np.empty((0, capacity, 2))
        self.n = np.zeros(0, np.int64)
        #: First sample of the present epoch, and how many samples came since the last noise estimate, by slot.
        self.epoch_from = np.zeros(0, np.int64)
        self.fresh = np.zeros(0, np.int64)

    def _grow(self) -> None:
        old, more = len(self.n), max(32, len(self.n))
        for name in ("index", "t_ns", "xy", "n", "epoch_from", "fresh"):
            array = getattr(self, name)
            setattr(self, name, np.concatenate([array, np.zeros((more, *array.shape[1:]), array.dtype)]))
        self._free.extend(range(old + more - 1, old - 1, -1))

    def append(self, track_id: IntArray, index: int, t_ns: int, xy: FloatArray) -> IntArray:
        """Take one sample of each track, none of a track whose position is NaN; gives the slots that are now full.

        A sample no later than the one before (a picture given twice) is left out: it has no speed.
        """
        slot_of = self.slot_of
        known = [slot_of.get(key, -1) for key in track_id.tolist()]
        if -1 in known:
            for row in np.flatnonzero((np.array(known) < 0) & ~np.isnan(xy[:, 0])).tolist():
                known[row] = self._take_slot(int(track_id[row]))
        slots = np.array(known, np.int64)
        return _append(slots, index, t_ns, xy, self.n, self.fresh, self.index, self.t_ns, self.xy)

    def _take_slot(self, track_id: int) -> int:
        if not self._free:
            self._grow()
        slot = self.slot_of[track_id] = self._free.pop()
        self.n[slot] = self.epoch_from[slot] = self.fresh[slot] = 0
        return slot

    def samples(self, slot: int) -> tuple[IntArray, IntArray, FloatArray]:
        """Picture numbers (n,), times (n,), positions (n, 2) of a slot; copies."""
        n = int(self.n[slot])
        return self.index[slot, :n].copy(), self.t_ns[slot, :n].copy(), self.xy[slot, :n].copy()

    def drop_before(self, slot: int, sample: int) -> None:
        """Forget the samples before ``sample``."""
        n = int(self.n[slot])
        for array in (self.index, self.t_ns, self.xy):
            array[slot, : n - sample] = array[slot, sample:n].copy()
        self.n[slot] = n - sample
        self.epoch_from[slot] = max(int(self.epoch_from[slot]) - sample, 0)

    def release(self, track_id: int) -> None:
        """Forget a track."""
        self._free.append(self.slot_of.pop(track_id))

    def epoch_velocities(self, min_span_s: float) -> FloatArray:
        """(m, 2) px/s of the tracks seen for at least ``min_span_s`` since the epoch began; begins the next one."""
        slots = np.fromiter(self.slot_of.values(), np.int64, len(self.slot_of))
        first, last = self.epoch_from[slots], self.n[slots] - 1
        slots, first, last = slots[last > first], first[last > first], last[last > first]
        span_s = (self.t_ns[slots, last] - self.t_ns[slots, first]) / 1e9
        moved = self.xy[slots, last] - self.xy[slots, first]
        self.epoch_from = self.n.copy()
        long = span_s >= min_span_s
        return moved[long] / span_s[long, None]

    def even_stretches(self, long: int, short: int, since_ns: int, until_ns: int) -> list[tuple[FloatArray, float]]:
        """Gap-free stretches (k, 2) px among the samples not looked at yet, of tracks seen between two times, each with
        its rate in Hz.

        A track gives its newest ``long`` samples in a row, or the ``short`` newest of a row that is over before
        ``until_ns``; what it gave is not looked at again.
        """
        found: list[tuple[FloatArray, float]] = []
        slots = np.fromiter(self.slot_of.values(), np.int64, len(self.slot_of))
        slots = slots[(self.fresh[slots] >= short) & (self.n[slots] > short)]
        slots = slots[self.t_ns[slots, self.n[slots] - 1] >= since_ns]
        for slot in slots.tolist():
            n = int(self.n[slot])
            start = n - min(int(self.fresh[slot]), n)
            steps = np.diff(self.index[slot, start:n])
            breaks = np.flatnonzero(steps != steps.min())
            ends = np.append(breaks, n - 1 - start)
            lengths = np.diff(ends, prepend=-1)
            longest = len(lengths) - 1 - int(np.argmax(lengths[::-1]))
            length, end = int(lengths[longest]), start + int(ends[longest]) + 1
            over = end < n or self.t_ns[slot, n - 1] < until_ns
            if length < short or (length < long and not over):
                continue
            length = long if length >= long else short
            took_s = (self.t_ns[slot, end - 1] - self.t_ns[slot, end - length]) / 1e9
            found.append((self.xy[slot, end - length : end].copy(), (length - 1) / took_s))
            self.fresh[slot] = n - end
        return found


@kernel
def _append(
    slots: IntArray,
    picture: int,
    time_ns: int,
    positions: FloatArray,
    n: IntArray,
    fresh: IntArray,
    index: IntArray,
    t_ns: IntArray,
    xy: FloatArray,
) -> IntArray:
    """Write one sample to each slot but those of NaN, and those that have one as late; gives the slots now full."""
    full = np.empty(len(slots), np.int64)
    n_full = 0
    for row in range(len(slots)):
        slot = slots[row]
        if slot < 0 or np.isnan(positions[row, 0]):
            continue
        at = n[slot]
        if at and t_ns[slot, at - 1] >= time_ns:
            continue
        index[slot, at], t_ns[slot, at] = picture, time_ns
        xy[slot, at, 0], xy[slot, at, 1] = positions[row, 0], positions[row, 1]
        n[slot] += 1
        fresh[slot] += 1
        if n[slot] == t_ns.shape[1]:
            full[n_full] = slot
            n_full += 1
    return full[:n_full]
