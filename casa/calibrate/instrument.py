"""What a calibration needs of a microscope: pictures taken after it asked, a stage and a focus where there are some.

Whoever has a camera makes one of these of it; the measurements themselves take pictures and callables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.number]
#: Told as it goes: the step, what it does, how much of it is done, of how much.
OnProgress = Callable[[str, str, int, int], None]

#: Slides of a setup, and how the user is asked for them.
SLIDES = {
    "sample": "a slide with still, fine detail (a sample with debris, or dust) in focus",
    "micrometer": "the stage micrometer or ruled grid in focus",
    "empty": "a cell-free part of a slide, out of focus where it has detail",
    "dark": "nothing: switch the lamp off or cover the camera",
    "beads": "the slide with counting beads in focus",
}


class MovesXY(Protocol):
    """A stage; um."""

    def move_to(self, x_um: float, y_um: float) -> None:
        """Go there, and come back when it stands still."""
        ...

    def position(self) -> tuple[float, float]:
        """Where it says that it is."""
        ...


class MovesZ(Protocol):
    """A focus drive; um."""

    def move_to(self, z_um: float) -> None:
        """Go there, and come back when it stands still."""
        ...

    def position(self) -> float:
        """Where it says that it is."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """Frames watched for a while: index, t_ns, host_ns (n,) int64 of those that came; how many were lost."""

    index: NDArray[np.int64]
    t_ns: NDArray[np.int64]
    host_ns: NDArray[np.int64] | None
    lost: int


class Instrument(Protocol):
    """A microscope to be set up. InputError: it cannot do what is asked; CasaError: it failed."""

    name: str
    width_px: int
    height_px: int
    white_level: int
    fps_hz: float
    timestamps: str
    binning: int | None

    @property
    def exposure_ms(self) -> float | None:
        """The exposure; None where it is not known."""
        ...

    @property
    def stage(self) -> MovesXY | None:
        """The motorised stage, where there is one."""
        ...

    @property
    def focus(self) -> MovesZ | None:
        """The motorised focus, where there is one."""
        ...

    def burst(self, n: int) -> list[Picture]:
        """The next n gray pictures (h, w), all exposed after the call."""
        ...

    def watch(self, seconds: float, on_progress: Callable[[int, int], None]) -> Watched:
        """All frames for some seconds."""
        ...

    def load_slide(self, kind: str) -> None:
        """See that a slide of a kind (`SLIDES`) lies on the stage, by hand or by machine."""
        ...


def snap(instrument: Instrument, n: int = 1) -> Picture:
    """A picture taken after the call; the mean of n."""
    pictures = instrument.burst(n)
    return pictures[0] if n == 1 else np.mean([np.asarray(one, np.float32) for one in pictures], axis=0)
