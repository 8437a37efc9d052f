"""A camera as a source: a thread takes pictures off the device as they come, whatever becomes of them afterwards.

```
               open                       stop()
   (closed) ─────────► idle ──start()──► capturing ──────────► ended
                                          │     ▲    loud error: ended, and raised to the reader
                               Unplugged, │     │ a frame
                               long stall ▼     │
                                        gone: opened again every reconnect_interval_s
```
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from casa.config import CameraConfig
from casa.errors import CasaError, InputError
from casa.sources.clock import LiveClock
from casa.sources.device import Device, Ended, Grabbed, Unplugged
from casa.sources.protocol import Closing, FocusDrive, Stage2D
from casa.sources.ring import Item, Ring
from casa.types import Frame, FrameStatus, MissingFrame, SourceEvent, SourceInfo

#: The longest that a device is asked to wait for a picture, so that a stop does not wait for long.
_GRAB_S = 0.1
#: A counter that runs ahead by more in one step is no counter.
_MAX_LOST = 1_000_000
#: How long a driver may take to come back from a call before it is given up.
_DRIVER_S = 10.0


@dataclass(frozen=True, slots=True)
class LiveCounts:
    """Frames so far: captured = those read or waiting to be + lost ones; all lost ones were or will be read as such."""

    captured: int
    dropped_by_device: int
    dropped_by_ring: int
    failed: int
    waiting: int


class CameraSource(Closing):
    """A LiveSource over any Device.

    Raises
    ------
    InputError, CasaError : the device cannot be opened; later errors come to whom reads.
    """

    def __init__(self, device: Device, config: CameraConfig) -> None:
        self._device, self._config = device, config
        try:
            self._format = device.open()
        except BaseException:
            device.close()
            raise
        clock = self._format.clock if config.timestamps != "host" else "host"
        if config.timestamps == "device" and clock == "host":
            device.close()
            raise InputError(f"{device.uri}: has no reliable times of its own; leave out timestamps: device")
        self.info = SourceInfo(
            uri=device.uri,
            width_px=self._format.shape[1],
            height_px=self._format.shape[0],
            fps_hz=self._format.fps_hz,
            n_frames=None,
            timestamps=clock,
            bit_depth=self._format.bit_depth,
            white_level=self._format.white_level,
        )
        interval_s = 1 / self._format.fps_hz
        self._stall_s = max(config.stall_timeout_s, 5 * interval_s)
        self._restart_s = max(config.restart_after_s, self._stall_s)
        self._clock = LiveClock(clock, round(interval_s * 1e9))
        self._ring = Ring(config.ring, config.ring_policy)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._next = 0  # index of the next frame
        self._base = 0  # index of the frame that the device calls 0
        self._last_ns = -1  # t_ns of the last item
        self._heard_ns = self._opened_ns = 0  # monotonic time of the last frame, and of the last opening
        self._stalled = self._gone = self._other_size = False
        self._lost_by_device = self._failed = 0

    # what whoever reads calls

    @property
    def device(self) -> Device:
        """What takes the pictures: the core of Micro-Manager and the simulated microscope can do more than a camera."""
        return self._device

    @property
    def stage(self) -> Stage2D | None:
        """The XY stage, where there is one."""
        return self._device.stage

    @property
    def focus(self) -> FocusDrive | None:
        """The focus drive, where there is one."""
        return self._device.focus

    def start(self) -> None:
        """Begin to capture; calling it again does nothing."""
        self.check_open()
        if self._thread is None:
            self._heard_ns = time.monotonic_ns()
            self._thread = threading.Thread(target=self._run, name="casa-capture", daemon=True)
            self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        self.start()
        while (item := self._ring.get()) is not None:
            yield item
            self.check_open()

    def read(self, timeout_s: float) -> Item | None:
        """The next item, or None when there is none in time or no more (see ``ended``)."""
        self.start()
        return self._ring.get(timeout_s)

    @property
    def ended(self) -> bool:
        """Whether everything there will ever be was read."""
        return self._ring.ended

    def counts(self) -> LiveCounts:
        """How many frames there were so far, and what was lost where."""
        return LiveCounts(self._next, self._lost_by_device, self._ring.dropped, self._failed, len(self._ring))

    def set_exposure_ms(self, exposure_ms: float) -> float:
        """Set the exposure, ms, and give back what the device made of it."""
        self.check_open()
        if not (math.isfinite(exposure_ms) and exposure_ms > 0):
            raise InputError(f"{self.info.uri}: the exposure must be positive, got {exposure_ms} ms")
        return self._device.set_exposure_ms(exposure_ms)

    def stop(self) -> None:
        """Capture no more; what was captured can still be read."""
        self._stopping.set()
        if self._thread is None:
            self._ring.close()

    def close(self) -> None:
        """Stop, wait for the capture thread, and let go of the device."""
        if self.closed:
            return
        super().close()
        self.stop()
        if self._thread is not None:
            self._thread.join(_DRIVER_S)
            if self._thread.is_alive():
                raise CasaError(f"{self.info.uri}: its driver does not come back from a call; unplug the camera")
        self._device.close()

    # the capture thread

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._capture()
        except CasaError as raised:
            error = raised
        except Exception as raised:
            error = CasaError(f"{self.info.uri}: capture failed: {type(raised).__name__}: {_one_line(raised)}")
            error.__cause__ = raised
        finally:
            self._device.close()
            self._ring.close(error)

    def _capture(self) -> None:
        try:
            self._device.start()
        except Unplugged as error:
            self._lose(str(error))
        while not self._stopping.is_set():
            try:
                grabbed = self._device.grab(_GRAB_S)
            except Unplugged as error:
                self._lose(str(error))
                continue
            except Ended:
                return
            if grabbed is not None:
                self._take(grabbed)
            else:
                self._check_stall()

    def _take(self, grabbed: Grabbed) -> None:
        now = grabbed.host_ns
        if self._gone:
            self._event("reconnected", f"after {(now - self._heard_ns) / 1e9:.1f} s without a frame")
        elif self._stalled:
            self._event("resumed", f"after {(now - self._heard_ns) / 1e9:.1f} s without a frame")
        self._gone = self._stalled = False
        lost = self._lost_before(grabbed.number)
        t_ns, why = self._clock.stamp(now, grabbed.device_ns, lost + 1)
        if why:
            self._event("clock_changed", why)
        t_ns = max(t_ns, self._last_ns + lost + 1)
        if lost:
            self._fill(lost, t_ns, grabbed.overflow)
        self._heard_ns = now
        image = grabbed.image
        reason = grabbed.reason if image is None else self._misfit(image.shape, image.dtype)
        if image is None or reason:
            self._failed += 1
            self._put(MissingFrame(self._next, t_ns, reason), t_ns)
        else:
            self._put(Frame(self._next, t_ns, image, 0, grabbed.make_colour, now), t_ns)

    def _lost_before(self, number: int | None) -> int:
        """Frames that the device has counted since the last one it gave."""
        if number is None:
            return 0
        lost = self._base + number - self._next
        if 0 <= lost <= _MAX_LOST:
            return lost
        self._event(
            "overflow",
            f"the device's frame counter went from {self._next - self._base - 1} to {number}: what was lost is unknown",
        )
        self._base = self._next - number
        return 0

    def _fill(self, lost: int, until_ns: int, overflow: bool) -> None:
        where = "the driver's buffer was full" if overflow else "the camera lost it"
        if overflow:
            self._event("overflow", f"{lost} frames lost in the driver's buffer, from number {self._next} on")
        # A session may begin with frames that nobody saw: then the first of them is at 0.
        begun = int(self._last_ns >= 0)
        since_ns = max(self._last_ns, 0)
        for step in range(begun, lost + begun):
            t_ns = since_ns + (until_ns - since_ns) * step // (lost + begun)
            self._put(MissingFrame(self._next, t_ns, where, FrameStatus.DROPPED), t_ns)
        self._lost_by_device += lost

    def _put(self, item: Frame | MissingFrame, t_ns: int) -> None:
        self._ring.put(item)
        self._last_ns = t_ns
        self._next += 1

    def _misfit(self, shape: tuple[int, ...], dtype: object) -> str:
        """Why a picture is not of the session's kind; "" where it is. Says so once, and ends the session if it must."""
        wanted = self._format
        if (shape, dtype) == (wanted.shape, wanted.dtype):
            if self._other_size:
                self._other_size = False
                self._event("size_restored", f"pictures are {_size(shape)} again")
            return ""
        what = f"pictures are {_size(shape)} {dtype} where the session is {_size(wanted.shape)} {wanted.dtype}"
        if not self._other_size:
            self._other_size = True
            self._event("size_changed", what)
        if self._config.size_change == "stop":
            raise CasaError(f"{self.info.uri}: {what}; start a new session, or set camera.size_change: wait")
        return what

    def _check_stall(self) -> None:
        silent_s = (time.monotonic_ns() - self._heard_ns) / 1e9
        if self._gone:
            if (time.monotonic_ns() - self._opened_ns) / 1e9 > self._restart_s:
                self._lose(f"opened again, but gave no frame for {self._restart_s:.1f} s")
        elif silent_s > self._restart_s:
            self._lose(f"no frame for {silent_s:.1f} s")
        elif silent_s > self._stall_s and not self._stalled:
            self._stalled = True
            self._event("stalled", f"no frame for {silent_s:.1f} s")

    def _lose(self, why: str) -> None:
        """The device is gone: try to get it back, or end the session loudly. Returns too when it is to stop."""
        if not self._gone:
            self._gone = True
            self._event("disconnected", why)
        if not self._config.reconnect:
            raise CasaError(f"{self.info.uri}: disconnected ({why})")
        while not self._stopping.is_set():
            self._device.close()
            if (time.monotonic_ns() - self._heard_ns) / 1e9 > self._config.reconnect_timeout_s:
                raise CasaError(
                    f"{self.info.uri}: disconnected, and not back within {self._config.reconnect_timeout_s:g} s ({why})"
                )
            if self._stopping.wait(self._config.reconnect_interval_s):
                return
            try:
                self._device.open()
                self._device.start()
            except CasaError as error:
                why = str(error)
                continue
            self._base, self._opened_ns = self._next, time.monotonic_ns()
            self._clock.restart()
            return

    def _event(self, kind: str, detail: str) -> None:
        t_ns = max(self._clock.now(), self._last_ns, 0)
        self._ring.put(SourceEvent(kind, t_ns, _one_line(detail), self._next))


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}" + (" px in colour" if len(shape) == 3 else " px")


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
