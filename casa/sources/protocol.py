"""What every source of frames is: an account of itself, an iterator in capture order, and a close.

A source never hides a loss: what was captured but has no picture comes as a ``MissingFrame`` in its place.
It knows nothing of what is done with its frames; skipping every n-th of them is the graph's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from casa.types import Frame, MissingFrame, SourceEvent, SourceInfo


@runtime_checkable
class Source(Protocol):
    """Frames in capture order.

    ``(index, field)`` ascends from (0, 0) and ``t_ns`` rises strictly, starting at 0. Each ``iter()`` reads
    from the beginning and gives the same again. Closing twice is allowed; reading after it raises ValueError.

    ``info.fps_hz`` and ``info.n_frames`` count pictures: where fields are separated, both are twice the
    container's, and a frame's two fields share its number.
    """

    info: SourceInfo

    def __iter__(self) -> Iterator[Frame | MissingFrame]: ...

    def close(self) -> None:
        """Let go of the source; closing twice is allowed, reading afterwards raises ValueError."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Stage2D(Protocol):
    """A motorised XY stage; positions are the stage's own, in um."""

    def move_to(self, x_um: float, y_um: float) -> None:
        """Go there, and come back when it stands still. CasaError: it did not get there."""
        ...

    def position(self) -> tuple[float, float]:
        """Where the stage says that it is, um."""
        ...


class FocusDrive(Protocol):
    """A motorised focus; positions are the drive's own, in um."""

    def move_to(self, z_um: float) -> None:
        """Go there, and come back when it stands still. CasaError: it did not get there."""
        ...

    def position(self) -> float:
        """Where the drive says that it is, um."""
        ...


@runtime_checkable
class LiveSource(Protocol):
    """Frames as a camera takes them, whether anybody reads them or not.

    As of a Source, ``index`` ascends from 0 without a hole and ``t_ns`` rises strictly from 0; what the device or the
    ring in front of the consumer lost comes as a MissingFrame(DROPPED) in its place. Unlike a Source it is read once,
    and says between the frames what befell it. ``info`` never changes: pictures that are not as it says are no Frames.

    The iterator ends after ``stop()``, once what was captured before is read; it raises CasaError at the end where the
    source had to give up.
    """

    info: SourceInfo

    @property
    def stage(self) -> Stage2D | None:
        """The XY stage, where there is one that moves by itself."""
        ...

    @property
    def focus(self) -> FocusDrive | None:
        """The focus drive, where there is one that moves by itself."""
        ...

    def __iter__(self) -> Iterator[Frame | MissingFrame | SourceEvent]: ...

    def start(self) -> None:
        """Begin to capture; ``iter()`` does so by itself."""
        ...

    def read(self, timeout_s: float) -> Frame | MissingFrame | SourceEvent | None:
        """The next item, or None when there is none in time or no more (``ended``)."""
        ...

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more."""
        ...

    def set_exposure_ms(self, exposure_ms: float) -> float:
        """Set the exposure, and give back what the device made of it, ms. InputError: it has no such setting."""
        ...

    def stop(self) -> None:
        """Capture no more; for any thread, and returns at once."""
        ...

    def close(self) -> None:
        """Stop, and let go of the device; closing twice is allowed, reading afterwards raises ValueError."""
        ...


class Closing:
    """The part of a source that is the same for all: it is closed once, by hand or by ``with``."""

    closed = False

    def close(self) -> None:
        """Let go of the source; reading from it afterwards is an error."""
        self.closed = True

    def check_open(self) -> None:
        """Raise ValueError when the source was closed."""
        if self.closed:
            raise ValueError("the source is closed; open it again to read from it")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
