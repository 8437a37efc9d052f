"""Progress bars on standard error, never on standard output, and only where somebody is looking."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """A bar to ``advance``; silent when ``enabled`` is False."""

    def __init__(self, description: str, total: float | None, enabled: bool) -> None:
        self._bar = None
        if enabled:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                SpinnerColumn,
                TextColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(description, total=total, detail="")

    def advance(self, by: float = 1, detail: str | None = None) -> None:
        """Move the bar on, and change the text behind it when ``detail`` is given."""
        if self._bar is not None:
            if detail is None:
                self._bar.advance(self._task, by)
            else:
                self._bar.update(self._task, advance=by, detail=detail)


@contextmanager
def progress(description: str, total: float | None = None, enabled: bool | None = None) -> Iterator[Progress]:
    """A progress bar for the length of a ``with`` block; by default shown when standard error is a terminal."""
    bar = Progress(description, total, sys.stderr.isatty() if enabled is None else enabled)
    if bar._bar is None:
        yield bar
    else:
        with bar._bar:
            yield bar
