"""A live source as the instrument that a calibration works with. Knows cameras, and how to ask for a slide."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from casa.calibrate.instrument import SLIDES, MovesXY, MovesZ, Picture, Watched
from casa.config import CameraConfig
from casa.errors import CasaError, InputError
from casa.sources.live import CameraSource
from casa.types import Frame, MissingFrame

#: No picture for so long is a failure.
_PATIENCE_S = 20.0


class LiveInstrument:
    """A `casa.calibrate.instrument.Instrument` over a camera; ``ask`` is told which slide to put on, and waits."""

    def __init__(self, source: CameraSource, config: CameraConfig, ask: Callable[[str], None]) -> None:
        self._source, self._ask = source, ask
        info = source.info
        self.name, self.width_px, self.height_px = info.uri, info.width_px, info.height_px
        self.white_level, self.fps_hz = info.white_level or 255, info.fps_hz
        self.timestamps, self.binning = info.timestamps, config.binning
        self._slide = ""

    @property
    def exposure_ms(self) -> float | None:
        """The exposure; None where the camera does not say."""
        return getattr(self._source.device, "exposure_ms", None)

    @property
    def stage(self) -> MovesXY | None:
        """The motorised stage."""
        return self._source.stage

    @property
    def focus(self) -> MovesZ | None:
        """The motorised focus."""
        return self._source.focus

    def burst(self, n: int) -> list[Picture]:
        """The next n gray pictures, exposed after the call."""
        # What is being exposed now may have begun before.
        since_ns = time.monotonic_ns() + round(1e9 / self.fps_hz)
        give_up = time.monotonic() + _PATIENCE_S
        pictures: list[Picture] = []
        while len(pictures) < n:
            item = self._source.read(0.2)
            if isinstance(item, Frame) and (item.captured_mono_ns or 0) > since_ns:
                pictures.append(_gray(item.image))
                give_up = time.monotonic() + _PATIENCE_S
            elif time.monotonic() > give_up or self._source.ended:
                raise CasaError(f"{self.name}: no picture came for {_PATIENCE_S:g} s; see that the camera runs")
        return pictures

    def watch(self, seconds: float, on_progress: Callable[[int, int], None]) -> Watched:
        """All frames for some seconds; what waited before is not among them."""
        self.burst(1)
        index, t_ns, host_ns, lost = [], [], [], 0
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            item = self._source.read(0.2)
            if isinstance(item, Frame):
                index.append(item.index)
                t_ns.append(item.t_ns)
                host_ns.append(item.captured_mono_ns or 0)
                if len(index) % 10 == 0:
                    on_progress(int(passed), int(np.ceil(seconds)))
            elif isinstance(item, MissingFrame):
                lost += 1
        columns = [np.array(one, np.int64) for one in (index, t_ns, host_ns)]
        return Watched(columns[0], columns[1], columns[2], lost)

    def load_slide(self, kind: str) -> None:
        """Put a slide on, by machine where there is one, else by asking."""
        if kind == self._slide:
            return
        device: Any = self._source.device
        if hasattr(device, "load_slide"):
            device.load_slide(kind)
        else:
            self._ask(SLIDES[kind])
        self._slide = kind


def ask_on_terminal(what: str) -> None:
    """Ask for a slide and wait for Enter. InputError: nobody is there to be asked."""
    if not sys.stdin.isatty():
        raise InputError(f"this step needs {what}: run it in a terminal, where it can ask for that")
    print(f"Put on {what}, then press Enter.", file=sys.stderr, flush=True)
    sys.stdin.readline()


def _gray(image: Picture) -> Picture:
    return image if image.ndim == 2 else np.asarray(image, np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
