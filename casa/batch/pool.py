"""What a pool of workers is: it takes recordings' work and tells, in any order, how each went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from casa.batch.plan import Job
from casa.batch.work import Outcome


@dataclass(frozen=True, slots=True)
class Event:
    """News of a recording under way: frames read of ``total`` (None: not known), or with ``outcome`` how it ended."""

    recording: str
    frames: int = 0
    total: int | None = None
    outcome: Outcome | None = None


class Pool(Protocol):
    """Workers that do one recording each at a time."""

    @property
    def slots(self) -> int:
        """How many recordings can be under way now; changes as machines come and go."""
        ...

    def start(self, job: Job) -> None:
        """Hand a recording to a free worker; only while fewer than ``slots`` are under way."""
        ...

    def poll(self, timeout_s: float) -> list[Event]:
        """What has happened since, waiting for something for so long at most. A worker's death is an outcome too.

        Raises CasaError where no worker is left and none can be had.
        """
        ...

    def close(self) -> None:
        """End all workers, whatever they are at."""
        ...
