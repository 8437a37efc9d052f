"""A stage that is opened anew when it fails again and again: a network or a driver that broke down may work then."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from casa.errors import CasaError
from casa.graph.stage import Stage

_FAILURES_BEFORE = 4  # below the runner's limit, past which the session ends
_MAX_RESTARTS = 3


class Restarting:
    """Wraps a stage without memory of earlier items; its errors are still the frame's, and counted by the runner.

    Parameters
    ----------
    on_restart : told, in one line, of each restart.
    """

    def __init__(self, name: str, stage: Stage[Any, Any], on_restart: Callable[[str], None]) -> None:
        self._name = name
        self._stage = stage
        self._on_restart = on_restart
        self._in_a_row = 0
        self.restarts = 0

    def open(self) -> None:
        """Open the stage."""
        self._stage.open()

    def process(self, item: Any) -> Iterable[Any]:
        """Let the stage process an item. What it raises is raised, after it was opened anew where that is due."""
        try:
            given = list(self._stage.process(item))
        except Exception as error:
            self._failed(error)
            raise
        self._in_a_row = 0
        return given

    def flush(self) -> Iterable[Any]:
        """What the stage has left."""
        return self._stage.flush()

    def close(self) -> None:
        """Close the stage."""
        self._stage.close()

    def _failed(self, error: Exception) -> None:
        self._in_a_row += 1
        if isinstance(error, CasaError) or self._in_a_row < _FAILURES_BEFORE or self.restarts >= _MAX_RESTARTS:
            return
        self.restarts += 1
        self._in_a_row = 0
        self._on_restart(f"{self._name} failed {_FAILURES_BEFORE} times in a row and was opened anew ({error})")
        self._stage.close()
        self._stage.open()
