"""Cameras and streams through OpenCV: ``camera:0``, ``rtsp://…``, ``http://…``, ``udp://…``, a device file, a pipe.

OpenCV gives no frame counters: what a webcam or a network lost is seen as a pause only. A video file is played as if
it came from a camera, at its own rate.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.config import CameraConfig
from casa.errors import InputError
from casa.sources.device import Ended, Format, Grabbed, Unplugged

#: How long OpenCV may wait for a stream to open, and for its next frame.
_OPEN_MS, _READ_MS = 5000, 500
#: Streams that carry the sender's time of each picture. The others' times are made up on the way.
_TIMED = ("rtsp://", "rtsps://", "rtmp://", "srt://", "udp://", "rtp://")
_PROBED = 5
_DEFAULT_FPS_HZ = 30.0


class OpenCvCamera:
    """A Device over ``cv2.VideoCapture``; pictures are gray, ``colour()`` gives RGB where there is any."""

    stage = None
    focus = None

    def __init__(self, uri: str, config: CameraConfig) -> None:
        self.uri, self._config = uri, config
        kind, _, rest = uri.partition(":")
        self._number: int | None = None
        self._address = uri
        if kind == "camera":
            self._address = rest
            if rest.isdecimal():
                self._number = int(rest)
            elif not rest.startswith("/dev/"):
                raise InputError(f"{uri}: give a camera by its number (camera:0) or its file (camera:/dev/video0)")
        self._is_file = self._number is None and _is_regular(self._address)
        self._is_device = self._number is not None or self._address.startswith("/dev/")
        for name in ("roi", "binning"):
            if getattr(config, name) is not None:
                raise InputError(f"{uri}: OpenCV cannot set camera.{name}; leave it out")
        asked = ("size", "exposure_ms", "gain", "pixel_format", "fps_hz")
        wrong = [name for name in asked if getattr(config, name) is not None and not self._is_device]
        if wrong:
            raise InputError(f"{uri}: a stream comes as it is sent; leave out camera.{wrong[0]}")
        self._capture: Any = None
        self._by_device = False
        self._count, self._began_ns, self._interval_ns = 0, 0, 0

    def open(self) -> Format:
        """Connect, configure, and look at the first pictures."""
        self.close()
        _quiet()
        self._capture = self._connect()
        if not self._capture.isOpened():
            raise InputError(f"{self.uri}: cannot be opened; {self._advice()}")
        if self._is_device:
            self._configure()
        image = self._probe()
        fps_hz = float(self._capture.get(cv2.CAP_PROP_FPS))
        if not 0 < fps_hz <= 2000:
            fps_hz = self._config.fps_hz or _DEFAULT_FPS_HZ
        self._interval_ns = round(1e9 / fps_hz)
        bits = 8 if image.dtype == np.uint8 else self._config.bit_depth or 16
        if image.dtype == np.uint8 and (self._config.bit_depth or 8) != 8:
            raise InputError(f"{self.uri}: gives 8 bits where camera.bit_depth asks for {self._config.bit_depth}")
        if self._is_file:  # from the beginning again
            self._capture.release()
            self._capture = self._connect()
        clock = "device" if self._by_device else "host"
        return Format(image.shape, image.dtype, fps_hz, clock, bits, (1 << bits) - 1)

    def start(self) -> None:
        """Pictures come since it was opened; those of a file from now on."""
        self._count, self._began_ns = 0, time.monotonic_ns()

    def grab(self, timeout_s: float) -> Grabbed | None:
        """The next picture; a stream is waited for by half a second at most."""
        if self._is_file:
            due_ns = self._began_ns + self._count * self._interval_ns
            wait_s = (due_ns - time.monotonic_ns()) / 1e9
            if wait_s > timeout_s:
                time.sleep(timeout_s)
                return None
            time.sleep(max(0.0, wait_s))
        asked = time.monotonic()
        if self._capture is None or not self._capture.grab():
            if self._is_file:
                raise Ended
            if self._capture is not None and time.monotonic() - asked > 0.8 * _READ_MS / 1000:
                return None
            raise Unplugged("the camera gives nothing any more" if self._is_device else "the stream has ended")
        host_ns = time.monotonic_ns()
        device_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6) if self._by_device else None
        whole, picture = self._capture.retrieve()
        self._count += 1
        if not whole or picture is None:
            return Grabbed(None, host_ns, None, device_ns, reason="it could not be decoded")
        image, make_colour = _gray(np.asarray(picture))
        return Grabbed(image, host_ns, None, device_ns, make_colour)

    def set_exposure_ms(self, exposure_ms: float) -> float:
        """Set the exposure where the driver lets it be set."""
        capture = self._capture
        if not self._is_device or capture is None:
            raise InputError(f"{self.uri}: a stream's exposure is set at its camera")
        linux = sys.platform.startswith("linux")
        capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, 1 if linux else 0.25)
        # V4L2 counts in 0.1 ms, DirectShow in powers of two of a second.
        if not capture.set(cv2.CAP_PROP_EXPOSURE, 10 * exposure_ms if linux else np.log2(exposure_ms / 1000)):
            raise InputError(f"{self.uri}: its driver does not let the exposure be set; leave out camera.exposure_ms")
        got = float(capture.get(cv2.CAP_PROP_EXPOSURE))
        return got / 10 if linux else 1000 * 2.0**got

    def close(self) -> None:
        """Let go of the camera or the stream."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _connect(self) -> Any:
        if self._is_device:
            # OpenCV's own 10 s are too long for a stop.
            os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")
            return cv2.VideoCapture(self._address if self._number is None else self._number)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_MS]
        if (self._config.bit_depth or 8) > 8:
            limits += [cv2.CAP_PROP_CONVERT_RGB, 0]
        return cv2.VideoCapture(self._address, cv2.CAP_FFMPEG, limits)

    def _configure(self) -> None:
        capture, config = self._capture, self._config
        letters = config.pixel_format or ("Y16 " if (config.bit_depth or 8) > 8 else None)
        if letters is not None:
            code = cv2.VideoWriter.fourcc(*letters)
            capture.set(cv2.CAP_PROP_FOURCC, code)
            if round(capture.get(cv2.CAP_PROP_FOURCC)) != code:
                raise InputError(f"{self.uri}: does not give {letters.strip()} pixels; leave out camera.pixel_format")
            if letters.startswith(("Y16", "GREY", "Y10", "Y12")):
                capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        if config.size is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, config.size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, config.size[1])
        if config.fps_hz is not None:
            capture.set(cv2.CAP_PROP_FPS, config.fps_hz)
        if config.exposure_ms is not None:
            self.set_exposure_ms(config.exposure_ms)
        if config.gain is not None and not capture.set(cv2.CAP_PROP_GAIN, config.gain):
            raise InputError(f"{self.uri}: its driver does not let the gain be set; leave out camera.gain")

    def _probe(self) -> NDArray[Any]:
        """The first picture; and whether the camera's times are worth anything."""
        capture = self._capture
        wanted = _PROBED if self._is_device else 1
        times, picture = [], None
        for _ in range(wanted):
            whole, picture = capture.read()
            if not whole or picture is None:
                raise InputError(f"{self.uri}: gives no picture; {self._advice()}")
            times.append((capture.get(cv2.CAP_PROP_POS_MSEC), time.monotonic() * 1000))
        device, host = np.diff(np.array(times), axis=0).T if len(times) > 1 else (np.ones(1), np.ones(1))
        self._by_device = self._is_file or self._address.lower().startswith(_TIMED)
        if self._is_device:
            self._by_device = bool((device > 0).all()) and 0.5 < device.sum() / max(host.sum(), 1e-3) < 2
        image, _ = _gray(np.asarray(picture))
        size = (image.shape[1], image.shape[0])
        if self._config.size is not None and size != self._config.size:
            raise InputError(
                f"{self.uri}: gives {size[0]}x{size[1]} px where camera.size asks for "
                f"{self._config.size[0]}x{self._config.size[1]}"
            )
        return image

    def _advice(self) -> str:
        if self._is_device:
            return "look whether it is plugged in, whether another program has it, and whether you may read /dev/video*"
        return "look whether anything is sent there, and whether its codec is one that FFmpeg knows"


def _gray(picture: NDArray[Any]) -> tuple[NDArray[Any], Any]:
    """The picture to analyse, read-only, and what makes the colour one of it."""
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[..., 0]
    if picture.ndim == 2:
        picture.flags.writeable = False
        return picture, None
    image = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))
    image.flags.writeable = False
    return image, partial(cv2.cvtColor, picture, cv2.COLOR_BGR2RGB)


def _is_regular(address: str) -> bool:
    try:
        return stat.S_ISREG(Path(address.removeprefix("file://").removeprefix("file:")).stat().st_mode)
    except (OSError, ValueError):
        return False


def _quiet() -> None:
    """What OpenCV and FFmpeg would write to standard error is said in the exception."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
