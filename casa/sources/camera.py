"""Cameras through OpenCV: ``camera:0`` or ``camera:/dev/video0``.

OpenCV gives no frame counters: what such a camera lost is seen as a pause only.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.config import CameraConfig
from casa.errors import InputError
from casa.sources.device import Format, Grabbed, Unplugged

_GONE = "the camera gives nothing any more"
_ADVICE = "look whether it is plugged in, whether another program has it, and whether you may read /dev/video*"
_PROBED = 5
_DEFAULT_FPS_HZ = 30.0
#: Pictures that piled up while the camera was opened are thrown away, for so long at most.
_PILE_NS = 800_000_000
#: OpenCV waits so long for a picture: its own 10 s are too long for a stop.
_WAIT_S = 1


class OpenCvCamera:
    """A Device over ``cv2.VideoCapture``; pictures are gray, ``colour()`` gives RGB where there is any."""

    stage = None
    focus = None

    def __init__(self, uri: str, config: CameraConfig) -> None:
        self.uri, self._config = uri, config
        rest = uri.partition(":")[2]
        if not (rest.isdecimal() or rest.startswith("/dev/")):
            raise InputError(f"{uri}: give a camera by its number (camera:0) or its file (camera:/dev/video0)")
        self._address = int(rest) if rest.isdecimal() else rest
        for name in ("roi", "binning"):
            if getattr(config, name) is not None:
                raise InputError(f"{uri}: OpenCV cannot set camera.{name}; leave it out")
        self._capture: Any = None
        self._by_device = False
        self._interval_ns = 0

    def open(self) -> Format:
        """Connect, configure, and look at the first pictures."""
        self.close()
        # What OpenCV would write to standard error is said in the exception.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(_WAIT_S))
        self._capture = cv2.VideoCapture(self._address)
        if not self._capture.isOpened():
            raise InputError(f"{self.uri}: cannot be opened; {_ADVICE}")
        self._configure()
        image = self._probe()
        fps_hz = float(self._capture.get(cv2.CAP_PROP_FPS))
        if not 0 < fps_hz <= 2000:
            fps_hz = self._config.fps_hz or _DEFAULT_FPS_HZ
        self._interval_ns = round(1e9 / fps_hz)
        bits = 8 if image.dtype == np.uint8 else self._config.bit_depth or 16
        if image.dtype == np.uint8 and (self._config.bit_depth or 8) != 8:
            raise InputError(f"{self.uri}: gives 8 bits where camera.bit_depth asks for {self._config.bit_depth}")
        clock = "device" if self._by_device else "host"
        return Format(image.shape, image.dtype, fps_hz, clock, bits, (1 << bits) - 1)

    def start(self) -> None:
        """From now on: what has piled up since it was opened is thrown away."""
        give_up_ns = time.monotonic_ns() + _PILE_NS
        while (asked_ns := time.monotonic_ns()) < give_up_ns:
            if not self._capture.grab():
                raise Unplugged(_GONE)
            # One that had to be waited for is of now.
            if time.monotonic_ns() - asked_ns > 0.4 * self._interval_ns:
                return

    def grab(self, timeout_s: float) -> Grabbed | None:
        """The next picture; OpenCV itself decides how long to wait for it."""
        asked = time.monotonic()
        if self._capture is None or not self._capture.grab():
            if self._capture is not None and time.monotonic() - asked > 0.8 * _WAIT_S:
                return None
            raise Unplugged(_GONE)
        host_ns = time.monotonic_ns()
        device_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6) if self._by_device else None
        whole, picture = self._capture.retrieve()
        if not whole or picture is None:
            return Grabbed(None, host_ns, None, device_ns, reason="it could not be decoded")
        image, make_colour = _gray(np.asarray(picture))
        return Grabbed(image, host_ns, None, device_ns, make_colour)

    def set_exposure_ms(self, exposure_ms: float) -> float:
        """Set the exposure where the driver lets it be set."""
        capture = self._capture
        if capture is None:
            raise InputError(f"{self.uri}: the camera is not open")
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
        times, picture = [], None
        for _ in range(_PROBED):
            whole, picture = capture.read()
            if not whole or picture is None:
                raise InputError(f"{self.uri}: gives no picture; {_ADVICE}")
            times.append((capture.get(cv2.CAP_PROP_POS_MSEC), time.monotonic() * 1000))
        device, host = np.diff(np.array(times), axis=0).T
        self._by_device = bool((device > 0).all()) and 0.5 < device.sum() / max(host.sum(), 1e-3) < 2
        image = _gray(np.asarray(picture))[0]
        size = (image.shape[1], image.shape[0])
        if self._config.size is not None and size != self._config.size:
            raise InputError(
                f"{self.uri}: gives {size[0]}x{size[1]} px where camera.size asks for "
                f"{self._config.size[0]}x{self._config.size[1]}"
            )
        return image


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
