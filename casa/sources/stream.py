"""Streams as cameras: ``rtsp://…``, ``http://…``, ``udp://…``, a named pipe; and files played at their own rate.

Through PyAV and not OpenCV, which scales pictures of another size to the first one's without a word, makes the gray
picture by way of a colour one, and gives the time of a picture without saying where it comes from.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from casa.config import CameraConfig
from casa.errors import InputError
from casa.sources.device import Ended, Format, Grabbed, Unplugged
from casa.sources.pixels import PixelReader, colour_of, has_colour

#: How long a stream may take to open; and to give its next picture, at most, before it is taken for gone.
_OPEN_S, _SILENT_S = 5.0, 0.9
#: Streams that carry the sender's time of each picture. The others' times are made up on the way.
_TIMED = ("rtsp://", "rtsps://", "rtmp://", "srt://", "udp://", "rtp://")
_DEFAULT_FPS_HZ = 25.0
#: Nothing is to be kept back, and the format is to be known soon (us).
_LIVE = {"fflags": "nobuffer", "rtsp_transport": "tcp", "analyzeduration": "500000"}
#: Pictures that piled up while a stream was opened are thrown away, for so long at most.
_PILE_NS = 800_000_000


class StreamCamera:
    """A Device over an ``av`` container; pictures are gray, ``colour()`` gives RGB where there is any."""

    stage = None
    focus = None

    def __init__(self, uri: str, config: CameraConfig) -> None:
        self.uri, self._config = uri, config
        for name in ("size", "fps_hz", "exposure_ms", "gain", "pixel_format", "roi", "binning"):
            if getattr(config, name) is not None:
                raise InputError(f"{uri}: a stream comes as it is sent; leave out camera.{name}")
        self._is_file = _is_regular(uri)
        self._by_sender = self._is_file or uri.lower().startswith(_TIMED)
        self._silent_s = min(config.stall_timeout_s, _SILENT_S)
        self._container: Any = None
        self._frames: Iterator[Any] = iter(())
        self._pixels = PixelReader()
        self._count, self._began_ns, self._interval_ns = 0, 0, 0
        self._first: Any = None

    def open(self) -> Format:
        """Connect, and look at the first picture."""
        self.close()
        try:
            options = {} if self._is_file else dict(_LIVE)
            self._container = av.open(self.uri, timeout=(_OPEN_S, self._silent_s), options=options)
            stream = self._container.streams.video[0]
            stream.codec_context.thread_count = 1  # more threads keep pictures back
            self._frames = iter(self._container.decode(stream))
            self._first = next(self._frames)
        except (av.error.FFmpegError, OSError, IndexError, StopIteration, ValueError) as error:
            self.close()
            why = getattr(error, "strerror", None) or "no picture"
            raise InputError(
                f"{self.uri}: cannot be opened ({' '.join(str(why).split())}); look whether video is sent there"
            ) from error
        image = self._pixels.image(self._first)
        rate = stream.average_rate or stream.guessed_rate
        fps_hz = float(rate) if rate and 0 < rate <= 2000 else _DEFAULT_FPS_HZ
        self._interval_ns = round(1e9 / fps_hz)
        bits = 8 if image.dtype == np.uint8 else self._config.bit_depth or 16
        if image.dtype == np.uint8 and (self._config.bit_depth or 8) != 8:
            raise InputError(f"{self.uri}: gives 8 bits where camera.bit_depth asks for {self._config.bit_depth}")
        clock = "device" if self._by_sender else "host"
        return Format(image.shape, image.dtype, fps_hz, clock, bits, (1 << bits) - 1)

    def start(self) -> None:
        """From now on: what has piled up since it was opened is thrown away; a file begins."""
        self._count, self._began_ns = 0, time.monotonic_ns()
        if self._is_file:
            return
        self._first = None
        give_up_ns = self._began_ns + _PILE_NS
        while (asked_ns := time.monotonic_ns()) < give_up_ns:
            self._next()
            # One that had to be waited for is of now.
            if time.monotonic_ns() - asked_ns > 0.4 * self._interval_ns:
                return

    def grab(self, timeout_s: float) -> Grabbed | None:
        """The next picture; what a stream has not given after ``stall_timeout_s`` (0.9 s at most) is gone."""
        if self._is_file:
            wait_s = (self._began_ns + self._count * self._interval_ns - time.monotonic_ns()) / 1e9
            if wait_s > timeout_s:
                time.sleep(timeout_s)
                return None
            time.sleep(max(0.0, wait_s))
        frame = self._next()
        host_ns = time.monotonic_ns()
        self._count += 1
        if frame is None:
            return Grabbed(None, host_ns, reason="it could not be decoded")
        timed = self._by_sender and frame.pts is not None
        device_ns = round(frame.pts * frame.time_base * 1_000_000_000) if timed else None
        make_colour = partial(colour_of, frame) if has_colour(frame) else None
        image = self._pixels.image(frame)
        image.flags.writeable = False
        return Grabbed(image, host_ns, None, device_ns, make_colour)

    def set_exposure_ms(self, exposure_ms: float) -> float:
        """A stream has no such setting."""
        raise InputError(f"{self.uri}: a stream's exposure is set at its camera")

    def close(self) -> None:
        """Let go of the stream."""
        self._frames, self._first = iter(()), None
        if self._container is not None:
            self._container.close()
            self._container = None

    def _next(self) -> Any:
        """The next decoded frame, None for one that is damaged."""
        if self._first is not None:
            frame, self._first = self._first, None
            return frame
        try:
            return next(self._frames)
        except av.error.InvalidDataError:
            self._frames = iter(self._container.decode(video=0))
            return None
        except (StopIteration, av.error.EOFError):
            if self._is_file:
                raise Ended from None
            raise Unplugged("the stream has ended") from None
        except av.error.ExitError as error:
            raise Unplugged(f"the stream gave nothing for {self._silent_s:g} s") from error
        except (av.error.FFmpegError, OSError) as error:
            raise Unplugged(f"the stream broke off ({error.strerror})") from error


def _is_regular(address: str) -> bool:
    try:
        return stat.S_ISREG(Path(address.removeprefix("file://").removeprefix("file:")).stat().st_mode)
    except (OSError, ValueError):
        return False
