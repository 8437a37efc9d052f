"""What a camera's driver has to do to become a live source, and what it hands over.

A driver only takes pictures: numbering, times, lost frames, stalls and reconnection are the same for all, in
`casa.sources.live`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from casa.errors import CasaError
from casa.sources.protocol import FocusDrive, Stage2D


class Unplugged(CasaError):
    """The device or the stream is gone; opening it again may bring it back."""


class Ended(Exception):
    """The device has nothing more to give, and that is in order: a file played to its end."""


@dataclass(frozen=True, slots=True)
class Format:
    """What a device gives once it is open.

    ``shape`` is (h, w), or (h, w, 3) for RGB; ``dtype`` of NumPy; ``fps_hz`` nominal; ``clock`` says whose times
    ``Grabbed.device_ns`` are: "device", "simulated", or "host" where the device has none that can be relied on.
    """

    shape: tuple[int, ...]
    dtype: Any
    fps_hz: float
    clock: str
    bit_depth: int
    white_level: int


@dataclass(frozen=True, slots=True)
class Grabbed:
    """One picture off the device.

    image : gray or RGB, uint8 or uint16; nobody writes to it afterwards. None: it came without a picture.
    host_ns : monotonic clock of this machine, read right when the picture came.
    number : the device's own count of frames since it was started, from 0; None where it does not count.
    device_ns : the device's own time of the picture, from any beginning; None where it has none.
    reason : why there is no picture. overflow : frames were lost in the driver's own buffer.
    """

    image: NDArray[Any] | None
    host_ns: int
    number: int | None = None
    device_ns: int | None = None
    make_colour: Callable[[], NDArray[Any]] | None = None
    reason: str = ""
    overflow: bool = False


class Device(Protocol):
    """A driver. Opened and read by one thread at a time; it may be opened again after a close."""

    uri: str

    @property
    def stage(self) -> Stage2D | None:
        """The XY stage, where there is one; known once it is open."""
        ...

    @property
    def focus(self) -> FocusDrive | None:
        """The focus drive, where there is one; known once it is open."""
        ...

    def open(self) -> Format:
        """Connect and configure. InputError: there is no such device, or it cannot do what is asked for."""
        ...

    def start(self) -> None:
        """Begin to take pictures, counted from 0. CasaError: it cannot."""
        ...

    def grab(self, timeout_s: float) -> Grabbed | None:
        """The next picture, or None when none came in time. Unplugged: the device is gone. Ended: that was all."""
        ...

    def set_exposure_ms(self, exposure_ms: float) -> float:
        """Set the exposure, ms; gives what it became. May be called from another thread. InputError: it has none."""
        ...

    def close(self) -> None:
        """Stop and disconnect; never raises, and may be called twice."""
        ...
