"""The time of a live session: the device's own where it has one that holds, else this machine's at the grab."""

from __future__ import annotations

import time

#: A device's clock may run ahead of or behind this machine's by so much: a part of the time passed, and at once.
_DRIFT, _AT_ONCE_NS = 0.02, 1_000_000_000
#: So many times that do not rise are no clock.
_MAX_BACKWARD = 10


class LiveClock:
    """Gives each frame its ``t_ns``, from 0 on; times of the device go on where they were after a restart.

    Parameters
    ----------
    kind : "device", "simulated" or "host".
    interval_ns : nominal time between frames.
    """

    def __init__(self, kind: str, interval_ns: int) -> None:
        self._by_device = kind != "host"
        self._interval_ns = interval_ns
        self._origin: int | None = None  # host time of t = 0
        self._bases: tuple[int, int, int] | None = None  # t, device and host time at which the device began to count
        self._last: tuple[int, int, int] | None = None  # t, device and host time of the last frame
        self._backward = 0

    def restart(self) -> None:
        """The device was opened anew: its times begin somewhere else."""
        self._bases = None

    def now(self) -> int:
        """The time of this moment on the session's clock, ns; 0 before the first frame."""
        return 0 if self._origin is None else time.monotonic_ns() - self._origin

    def stamp(self, host_ns: int, device_ns: int | None, step: int) -> tuple[int, str]:
        """``t_ns`` of a frame ``step`` frames after the last one; and, once, why the device's times are not used.

        The very first frame is at 0, or later where frames were lost before it.
        """
        if self._origin is None:
            self._origin = host_ns - (step - 1) * self._interval_ns
        why = ""
        if self._by_device and (device_ns is None or not self._good(host_ns, device_ns)):
            why = "the device's times do not keep up with this machine's clock, which is used from here on"
            self._by_device = False
        if not self._by_device or device_ns is None:
            return host_ns - self._origin, why
        if self._bases is None:
            self._bases = host_ns - self._origin, device_ns, host_ns
        t_ns = self._bases[0] + device_ns - self._bases[1]
        if self._last is not None and t_ns <= self._last[0]:
            self._backward += 1
            t_ns = self._last[0] + max(1, min(host_ns - self._last[2], self._interval_ns))
        self._last = t_ns, device_ns, host_ns
        return t_ns, why

    def _good(self, host_ns: int, device_ns: int) -> bool:
        if self._backward > _MAX_BACKWARD:
            return False
        if self._bases is None:
            return True
        passed = host_ns - self._bases[2]
        return abs(device_ns - self._bases[1] - passed) <= _AT_ONCE_NS + _DRIFT * abs(passed)
