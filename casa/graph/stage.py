"""What a stage is to the graph: something that is opened, takes items, gives items, is flushed and closed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


class Stage(Protocol[In, Out]):
    """A step of the graph.

    ``process`` may give none, one or several items for one taken, and may give the results of earlier items
    later, as long as they come in order; ``flush`` gives what is left at the end of the stream. ``process`` and
    ``flush`` are called from one thread, ``open`` and ``close`` from the runner's.
    """

    def open(self) -> None:
        """Acquire what the stage needs; called once, before the first item."""
        ...

    def process(self, item: In) -> Iterable[Out]:
        """Take one item and give what is ready."""
        ...

    def flush(self) -> Iterable[Out]:
        """Give what is left at the end of the stream."""
        ...

    def close(self) -> None:
        """Release everything; called once, also after an error."""
        ...
