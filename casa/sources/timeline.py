"""From a container's timestamps to a frame's own time in ns: exact, from 0, strictly rising.

Knows nothing of containers or pictures. Speeds are computed from these times, so a timestamp that cannot be true
is replaced and counted, and where too many cannot be true the reading stops instead of giving wrong speeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Generic, TypeVar

from casa.errors import CasaError

Payload = TypeVar("Payload")

NS = 1_000_000_000

# Frames held back while waiting for a timestamp that is later than the last good one. A longer run of repeats
# is a restart of the clock, not a stutter.
HELD_AT_MOST = 16
# Corrected timestamps that are put up with: a stutter is repaired, a broken clock is not.
CORRECTED_AT_LEAST = 8
CORRECTED_FRACTION = 0.1


def exact_rate(fps_hz: float) -> Fraction:
    """The frame rate the decimal number says (29.97 is 2997/100, not its nearest binary fraction)."""
    return Fraction(repr(float(fps_hz)))


class Timeline(Generic[Payload]):
    """Gives each of a stream's items its time.

    Parameters
    ----------
    name : of the source, for the error message.
    time_base : seconds a tick of the timestamps.
    interval : nominal seconds between frames.
    use_timestamps : False to number the items and take their times from ``interval`` alone.

    Attributes
    ----------
    corrected : items whose timestamp was absent, repeated or ran back, and was replaced.
    """

    def __init__(self, name: str, time_base: Fraction, interval: Fraction, use_timestamps: bool) -> None:
        self._name = name
        self._time_base = time_base
        self._interval = interval
        self._use_timestamps = use_timestamps
        self._shift = Fraction(0)
        self._origin: int | None = None
        self._last: Fraction | None = None
        self._placed = 0
        self.corrected = 0

    def place(self, items: Iterable[tuple[int | None, Payload]]) -> Iterator[tuple[int, Payload]]:
        """(ticks or None, payload) in order -> (t_ns, payload), the same payloads in the same order.

        A timestamp that is not later than the one before is replaced by interpolation between its good
        neighbours; where the clock has started anew, the new one is set to run on from the old.

        Raises
        ------
        CasaError : more than a tenth of the timestamps had to be replaced.
        """
        held: list[tuple[int | None, Payload]] = []
        for item in items:
            if not self._use_timestamps:
                yield self._emit(self._placed * self._interval, item[1])
                continue
            held.append(item)
            yield from self._release(held, at_end=False)
        yield from self._release(held, at_end=True)

    def continue_by(self, steps: int) -> int:
        """The time ``steps`` nominal intervals after the last placed item, in ns."""
        last = self._last if self._last is not None else -self._interval
        return round((last + steps * self._interval) * NS)

    def _release(self, held: list[tuple[int | None, Payload]], at_end: bool) -> Iterator[tuple[int, Payload]]:
        while held:
            time = self._time(held[-1][0])
            if time is not None and (self._last is None or time > self._last):
                yield from self._spread(held, time)
                held.clear()
            elif at_end or len(held) >= HELD_AT_MOST:
                # The clock does not recover: the oldest held item follows by one interval, and its clock with it.
                ticks, payload = held.pop(0)
                placed = Fraction(0) if self._last is None else self._last + self._interval
                own = self._time(ticks)
                if own is not None:
                    self._shift += placed - own
                self._count_correction()
                yield self._emit(placed, payload)
                rest = held.copy()
                held.clear()
                for item in rest:
                    held.append(item)
                    yield from self._release(held, at_end=False)
                if not at_end:
                    return
            else:
                return

    def _spread(self, held: list[tuple[int | None, Payload]], time: Fraction) -> Iterator[tuple[int, Payload]]:
        """The held items evenly between the last good time and ``time``, which is the last held item's own."""
        start = self._last if self._last is not None else time - len(held) * self._interval
        if self._last is None and len(held) > 1:
            self._shift += (len(held) - 1) * self._interval
            time, start = time + (len(held) - 1) * self._interval, -self._interval
        step = (time - start) / len(held)
        for number, (_, payload) in enumerate(held, start=1):
            if number < len(held):
                self._count_correction()
            yield self._emit(start + number * step if number < len(held) else time, payload)

    def _time(self, ticks: int | None) -> Fraction | None:
        if ticks is None:
            return None
        if self._origin is None:
            self._origin = ticks
        return (ticks - self._origin) * self._time_base + self._shift

    def _emit(self, time: Fraction, payload: Payload) -> tuple[int, Payload]:
        self._last = time
        self._placed += 1
        return round(time * NS), payload

    def _count_correction(self) -> None:
        self.corrected += 1
        if self.corrected > max(CORRECTED_AT_LEAST, CORRECTED_FRACTION * (self._placed + 1)):
            raise CasaError(
                f"{self._name}: {self.corrected} of the first {self._placed + 1} timestamps are absent, repeat or run "
                "back, so no speed can be trusted; give the true frame rate with --fps"
            )
