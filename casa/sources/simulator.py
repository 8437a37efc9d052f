"""The simulated microscope as a source: ``simulator[:PRESET[:SEED]]``."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from casa.config import SourceConfig
from casa.errors import InputError
from casa.simulate.scene import PRESETS, Scene, simulate
from casa.sources.interlace import separate_fields
from casa.sources.protocol import Closing
from casa.sources.timeline import NS, exact_rate
from casa.types import Frame, MissingFrame, SourceInfo


class SimulatorSource(Closing):
    """A scene of `casa.simulate`, rendered while it is read.

    It has as many frames as its preset says, or ``config.max_frames`` where that is more. Fields of an interlaced
    preset are separated unless ``config.interlaced`` is ``no``; those of a progressive one cannot be.

    Attributes
    ----------
    scene : the simulated scene, which knows the truth and the calibration.

    Raises
    ------
    InputError : no such preset, a seed that is no whole number from 0 on, or fields asked for that there are not.
    """

    def __init__(self, uri: str, config: SourceConfig) -> None:
        self._config = config
        preset, seed = parse_simulator_uri(uri)
        n_frames = PRESETS[preset].n_frames
        if config.loop == 1:
            n_frames = max(n_frames, config.max_frames or 0)
        self.scene: Scene = simulate(preset, seed, n_frames)
        scene = self.scene.config
        if config.interlaced == "separate" and not scene.interlaced:
            raise InputError(f"{uri}: its frames have no fields to separate; leave out interlaced: separate")
        self._separate = scene.interlaced and config.interlaced != "no"
        self._interval = 1 / exact_rate(config.fps_hz or scene.fps_hz)
        total = n_frames * config.loop
        self._n_frames = total if config.max_frames is None else min(total, config.max_frames)
        pictures = 2 if self._separate else 1
        self.info = SourceInfo(
            uri=f"simulator:{preset}:{seed}",
            width_px=scene.width_px,
            height_px=scene.height_px,
            fps_hz=float(pictures / self._interval),
            n_frames=self._n_frames * pictures,
            timestamps="simulated" if config.fps_hz is None else "assumed",
            interlaced=self._separate,
        )

    def __iter__(self) -> Iterator[Frame | MissingFrame]:
        self.check_open()
        for index in range(self._n_frames):
            item = self.scene.frame(index % len(self.scene))
            for number, image in enumerate(self._pictures(item)):
                self.check_open()
                t_ns = self._t_ns(index) + number * self._half_ns(index)
                if isinstance(item, MissingFrame):
                    yield MissingFrame(index, t_ns, item.reason, item.status, number)
                else:
                    yield Frame(index, t_ns, image, number)

    def _pictures(self, item: Frame | MissingFrame) -> tuple:
        if isinstance(item, MissingFrame):
            return (None, None) if self._separate else (None,)
        return separate_fields(item.image, bottom_first=False) if self._separate else (item.image,)

    def _half_ns(self, index: int) -> int:
        return round(min(self._interval * NS, self._t_ns(index + 1) - self._t_ns(index)) / 2)

    def _t_ns(self, index: int) -> int:
        if self._config.fps_hz is not None:
            return round(index * self._interval * NS)
        lap, within = divmod(index, len(self.scene))
        lap_ns = int(self.scene.t_ns[-1]) + round(Fraction(NS) * self._interval)
        return lap * lap_ns + int(self.scene.t_ns[within])


def parse_simulator_uri(uri: str) -> tuple[str, int]:
    """Preset and seed of ``simulator[:PRESET[:SEED]]``. InputError: there is no such preset, or the seed is none."""
    _, _, rest = uri.partition(":")
    preset, _, seed = rest.partition(":")
    preset = preset or "default"
    if preset not in PRESETS:
        raise InputError(f"{uri}: there is no simulator preset {preset!r}; choose one of {', '.join(PRESETS)}")
    if seed and not seed.isdecimal():
        raise InputError(f"{uri}: the seed must be a whole number from 0 on, got {seed!r}")
    return preset, int(seed or 0)
