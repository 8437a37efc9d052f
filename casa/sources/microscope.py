"""The simulated microscope as a camera: ``simulator[:PRESET[:SEED]]``, with a stage, a focus, and faults on demand.

Frames are due by the clock, whether anybody takes them or not: what is not taken in time falls out of the driver's few
buffers, and is counted, as with a real camera.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.config import CameraConfig
from casa.errors import CasaError, InputError
from casa.kernels import warm_up
from casa.simulate.live import LiveRenderer, View
from casa.simulate.scene import PRESETS, Scene
from casa.simulate.slides import SLIDES
from casa.simulate.swimmers import HEADING_STEP_S
from casa.sources.device import Format, Grabbed, Unplugged
from casa.sources.simulator import parse_simulator_uri
from casa.sources.stage import SimulatedFocus, SimulatedStage
from casa.types import Frame

#: More pixels a second than this are not drawn one by one.
_DRAWN_PX_PER_S = 640 * 480 * 130
_RING_BYTES = 112 * 2**20
#: What a scene may hold: its length, and knots of all its swimmers' paths.
_SCENE_S, _KNOTS = 600.0, 3_000_000
_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class FieldTruth:
    """What was in the field in one frame: swimmer (n,) int64, xy_px (n, 2), defocus_um (n,) of the heads in view."""

    swimmer: NDArray[np.int64]
    xy_px: NDArray[np.float64]
    defocus_um: NDArray[np.float64]
    shift_px: tuple[float, float]


class Microscope:
    """A Device over a scene of `casa.simulate`.

    ``scene`` is what is looked at; ``truth(frame)`` what is in one frame. ``drop``, ``stall``, ``unplug``, ``plug_in``
    and ``change_size`` make trouble from any thread.
    """

    def __init__(self, uri: str, config: CameraConfig) -> None:
        preset, seed = parse_simulator_uri(uri)
        self.uri = f"simulator:{preset}:{seed}"
        self._config = config
        scene = replace(PRESETS[preset], interlaced=False)
        if config.microscope.um_per_px is not None:
            scene = replace(scene, um_per_px=config.microscope.um_per_px)
        if config.size is not None:
            width, height = config.size
            more = width * height / (scene.width_px * scene.height_px)
            counts = {name: round(getattr(scene, name) * more) for name in ("dots", "round_cells", "bright_grains")}
            cells = scene.cells_per_frame * more
            scene = replace(scene, width_px=width, height_px=height, cells_per_frame=cells, **counts)
        for name, value in (("roi", config.roi), ("binning", config.binning), ("pixel_format", config.pixel_format)):
            if value is not None:
                raise InputError(f"{uri}: the simulated camera has no {name}; leave out camera.{name}")
        fps_hz = config.fps_hz or scene.fps_hz
        cells = max(1.0, scene.cells_per_frame * _area_factor(scene))
        length_s = min(_SCENE_S, _KNOTS * HEADING_STEP_S / cells)
        self._ring_frames = self._ring_length(scene.width_px, scene.height_px, fps_hz)
        if self._ring_frames:
            length_s = self._ring_frames / fps_hz
        jitter_s = config.microscope.time_jitter_ms / 1000 or scene.time_jitter_s
        self._jitter_s, self._drop_share = jitter_s, config.microscope.drop_share or scene.missing_share
        scene = replace(
            scene, fps_hz=fps_hz, n_frames=max(2, round(length_s * fps_hz)), time_jitter_s=0.0, missing_share=0.0
        )
        self.scene = Scene(scene, seed)
        self._bits = config.bit_depth or 8
        self._white = (1 << self._bits) - 1
        optics = config.microscope
        self._renderer = LiveRenderer(self.scene, self._white, optics.vignetting, optics.hot_pixels)
        self._slide = optics.slide
        self._seed, self._interval_ns = seed, round(1e9 / fps_hz)
        self.stage = SimulatedStage(config.microscope, scene.um_per_px, seed)
        self.focus = SimulatedFocus(config.microscope)
        self._exposure_ms = config.exposure_ms or min(config.microscope.reference_exposure_ms, 1000 / fps_hz)
        self._check_exposure(self._exposure_ms)
        self._drawn: dict[int, NDArray[Any]] = {}
        self._drawn_for: View | None = None
        self._log: deque[tuple[int, float, View]] = deque(maxlen=_REMEMBERED)
        self._trouble = threading.Lock()
        self._drop, self._stalled_until_ns, self._unplugged_until_ns = 0, 0, 0
        self._size: tuple[int, int] | None = None
        self._began_ns: int | None = None  # when the microscope's clock was at 0
        self._tick = self._number = 0

    # Device

    def open(self) -> Format:
        """Plug in."""
        self._check_plugged(CasaError)
        scene = self.scene.config
        if self._began_ns is None:
            warm_up(lambda: self._renderer.draw(0.0, 0, self._view()))
            for tick in range(self._ring_frames):
                self._picture(tick, self._view())
        shape = (scene.height_px, scene.width_px)
        dtype = np.dtype(np.uint8 if self._bits == 8 else np.uint16)
        return Format(shape, dtype, scene.fps_hz, "simulated", self._bits, self._white)

    def start(self) -> None:
        """Begin to take pictures; the scene's time runs from the first start on."""
        now = time.monotonic_ns()
        if self._began_ns is None:
            self._began_ns = now
        self._tick = -((self._began_ns - now) // self._interval_ns)
        self._number = 0

    def grab(self, timeout_s: float) -> Grabbed | None:
        """The next frame when it is due."""
        assert self._began_ns is not None
        give_up_ns = time.monotonic_ns() + round(timeout_s * 1e9)
        while True:
            self._check_plugged(Unplugged)
            now = time.monotonic_ns()
            with self._trouble:
                stalled_until_ns = self._stalled_until_ns
            if now < stalled_until_ns:
                if stalled_until_ns > give_up_ns:
                    time.sleep(max(0, give_up_ns - now) / 1e9)
                    return None
                time.sleep((stalled_until_ns - now) / 1e9)
                self._skip_to(stalled_until_ns)
                continue
            if stalled_until_ns:
                self._skip_to(stalled_until_ns)
                with self._trouble:
                    self._stalled_until_ns = 0
            overflow = self._fall_behind(now)
            due_ns = self._began_ns + self._time_ns(self._tick)
            if due_ns > give_up_ns:
                time.sleep(max(0, give_up_ns - now) / 1e9)
                return None
            if due_ns > now:
                time.sleep((due_ns - now) / 1e9)
            lost = self._is_lost(self._tick)
            if not lost:
                return self._expose(overflow)
            self._tick, self._number = self._tick + 1, self._number + 1

    @property
    def exposure_ms(self) -> float:
        """The exposure, ms."""
        return self._exposure_ms

    def set_exposure_ms(self, exposure_ms: float) -> float:
        """Set the exposure: light grows with it, and so does the blur of what moves."""
        self._check_exposure(exposure_ms)
        self._exposure_ms = exposure_ms
        return exposure_ms

    def load_slide(self, kind: str) -> None:
        """Put another slide on the stage, from any thread: one of `casa.simulate.slides.SLIDES`."""
        if kind not in SLIDES:
            raise InputError(f"{self.uri}: there is no slide {kind!r}; choose one of {', '.join(SLIDES)}")
        self._slide = kind

    def close(self) -> None:
        """Nothing is open."""

    # truth

    def truth(self, frame: Frame) -> FieldTruth:
        """What was in the field in a frame of this microscope (the last 20,000 are remembered). KeyError: not known."""
        for captured_ns, t_s, view in reversed(self._log):
            if captured_ns == frame.captured_mono_ns:
                xy, defocus = self._renderer.cells(t_s, view)
                rows = np.flatnonzero(self.scene.in_view(xy))
                return FieldTruth(rows, xy[rows], defocus[rows], view.shift_px)
        raise KeyError(f"frame {frame.index} is not one of the last {len(self._log)} of this microscope")

    # trouble, from any thread

    def drop(self, n: int) -> None:
        """Lose the next n frames in the camera, which counts them."""
        with self._trouble:
            self._drop += n

    def stall(self, seconds: float) -> None:
        """Take no pictures for so long."""
        with self._trouble:
            self._stalled_until_ns = time.monotonic_ns() + round(seconds * 1e9)

    def unplug(self, seconds: float | None = None) -> None:
        """Be gone, for so long or until ``plug_in``."""
        with self._trouble:
            self._unplugged_until_ns = 1 << 62 if seconds is None else time.monotonic_ns() + round(seconds * 1e9)

    def plug_in(self) -> None:
        """Be there again."""
        with self._trouble:
            self._unplugged_until_ns = 0

    def change_size(self, size: tuple[int, int] | None) -> None:
        """Give pictures of another (width, height) from now on; None: of the session's again."""
        with self._trouble:
            self._size = size

    # the camera's inside

    def _view(self) -> View:
        exposure = self._exposure_ms
        return View(
            shift_px=self.stage.shift_px(),
            focus_um=self.focus.over_sample_um(),
            exposure_s=exposure / 1000,
            light=exposure / self._config.microscope.reference_exposure_ms,
            gain=self._config.gain or 1.0,
            slide=self._slide,
        )

    def _expose(self, overflow: bool) -> Grabbed:
        """The picture of the present tick."""
        view, tick, number = self._view(), self._tick, self._number
        host_ns = time.monotonic_ns()
        picture, t_s = self._picture(tick, view)
        with self._trouble:
            size = self._size
        if size is not None:
            picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        self._log.append((host_ns, t_s, view))
        self._tick, self._number = tick + 1, number + 1
        return Grabbed(picture, host_ns, number, self._time_ns(tick), overflow=overflow)

    def _picture(self, tick: int, view: View) -> tuple[NDArray[Any], float]:
        """A picture and the scene's time of it; out of the ring, where there is one."""
        if not self._ring_frames:
            t_s = self._time_ns(tick) / 1e9
            return self._renderer.draw(t_s, tick, view), t_s
        if view != self._drawn_for:
            self._drawn, self._drawn_for = {}, view
        turn = 2 * (self._ring_frames - 1)
        number = tick % turn
        number = min(number, turn - number)
        t_s = number * self._interval_ns / 1e9
        if number not in self._drawn:
            self._drawn[number] = self._renderer.draw(t_s, number, view)
        return self._drawn[number], t_s

    def _time_ns(self, tick: int) -> int:
        """The camera's time of a tick, ns: bounded jitter about the nominal, so that times rise."""
        t_ns = tick * self._interval_ns
        if self._jitter_s:
            draw = np.random.default_rng((self._seed, tick, 1)).normal(0, self._jitter_s * 1e9)
            t_ns += round(float(np.clip(draw, -0.4 * self._interval_ns, 0.4 * self._interval_ns)))
        return t_ns

    def _is_lost(self, tick: int) -> bool:
        with self._trouble:
            if self._drop:
                self._drop -= 1
                return True
        return bool(self._drop_share) and np.random.default_rng((self._seed, tick, 2)).random() < self._drop_share

    def _fall_behind(self, now_ns: int) -> bool:
        """Lose what no longer fits into the driver's buffers; whether anything was lost."""
        assert self._began_ns is not None
        newest = (now_ns - self._began_ns) // self._interval_ns
        lost = newest - self._tick + 1 - self._config.microscope.buffers
        if lost <= 0:
            return False
        self._tick, self._number = self._tick + lost, self._number + lost
        return True

    def _skip_to(self, host_ns: int) -> None:
        assert self._began_ns is not None
        self._tick = max(self._tick, (host_ns - self._began_ns) // self._interval_ns + 1)

    def _check_plugged(self, error: type[CasaError]) -> None:
        with self._trouble:
            gone = time.monotonic_ns() < self._unplugged_until_ns
        if gone:
            raise error(f"{self.uri}: the simulated camera is unplugged")

    def _check_exposure(self, exposure_ms: float) -> None:
        longest_ms = self._interval_ns / 1e6
        if exposure_ms > longest_ms:
            raise InputError(
                f"{self.uri}: an exposure of {exposure_ms:g} ms does not fit between frames {longest_ms:g} ms apart"
            )

    def _ring_length(self, width: int, height: int, fps_hz: float) -> int:
        given = self._config.microscope.ring_frames
        if given is not None:
            return 0 if given < 2 else given
        if width * height * fps_hz <= _DRAWN_PX_PER_S:
            return 0
        bytes_each = width * height * (1 if (self._config.bit_depth or 8) == 8 else 2)
        return max(16, min(round(2 * fps_hz), _RING_BYTES // bytes_each))


def _area_factor(scene: Any) -> float:
    """Cells of the simulated area for each one in view; see `Scene`."""
    view = np.array([scene.width_px, scene.height_px]) * scene.um_per_px
    return float(np.prod((view + 100) / view))
