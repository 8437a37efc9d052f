"""What every source of frames is: an account of itself, an iterator in capture order, and a close.

A source never hides a loss: what was captured but has no picture comes as a ``MissingFrame`` in its place.
It knows nothing of what is done with its frames; skipping every n-th of them is the graph's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from casa.types import Frame, MissingFrame, SourceInfo


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
