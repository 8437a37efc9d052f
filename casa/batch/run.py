"""A batch, driven: jobs to workers, failures tried again, all of them told at the end."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from casa.batch.plan import Job, Plan
from casa.batch.pool import Event, Pool
from casa.batch.store import Store
from casa.errors import CasaError

_TICK_S = 0.2


@dataclass(frozen=True, slots=True)
class Failure:
    """A recording that could not be analysed, and why."""

    recording: str
    uri: str
    reason: str
    attempts: int


@dataclass(slots=True)
class Result:
    """What a batch came to: marks of what was ``done`` now and ``before``, and what ``failed`` or was not begun."""

    done: list[dict[str, Any]] = field(default_factory=list)
    before: list[dict[str, Any]] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    left: int = 0
    retried: int = 0
    wall_s: float = 0.0

    @property
    def frames(self) -> int:
        """Frames read by what was done now."""
        return sum(mark["frames"] for mark in self.done)

    @property
    def fps(self) -> float | None:
        """Those by the wall time, workers' start included."""
        return self.frames / self.wall_s if self.wall_s > 0 and self.done else None

    @property
    def complete(self) -> bool:
        """Whether all recordings are finished."""
        return not self.failed and not self.left


#: Told of the part of a recording that is done since (they add up to 1), and of the batch as it stands.
OnProgress = Callable[[float, "Result"], None]


class _Bar:
    """Parts of recordings as they are done: what a failed attempt had reached is not counted a second time."""

    def __init__(self, tell: OnProgress, result: Result) -> None:
        self._tell, self._result = tell, result
        self._parts: dict[str, float] = {}

    def at(self, recording: str, part: float) -> None:
        before = self._parts.get(recording, 0.0)
        if part > before:
            self._parts[recording] = part
            self._tell(part - before, self._result)


def run(
    plan: Plan,
    pool: Pool,
    store: Store,
    *,
    retries: int = 2,
    stop: threading.Event | None = None,
    on_progress: OnProgress = lambda part, result: None,
) -> Result:
    """Do the jobs of a plan.

    Parameters
    ----------
    pool : its workers; the caller closes it.
    retries : how often a recording whose attempt failed is tried again; what is wrong with the recording itself is not.
    stop : set it to begin nothing more; what is under way is finished.

    Raises
    ------
    CasaError : the store has vanished, or no worker can be had any more.
    """
    stop = stop or threading.Event()
    began = time.monotonic()
    result = Result(before=list(plan.finished))
    bar = _Bar(on_progress, result)
    waiting, under_way = deque(plan.jobs), dict[str, Job]()
    attempts: Counter[str] = Counter()
    while under_way or (waiting and not stop.is_set()):
        while waiting and len(under_way) < pool.slots and not stop.is_set():
            job = waiting.popleft()
            under_way[job.recording] = job
            attempts[job.recording] += 1
            pool.start(job)
        for event in pool.poll(_TICK_S):
            if event.outcome is None:
                bar.at(event.recording, _part(event))
                continue
            job, outcome = under_way.pop(event.recording), event.outcome
            if outcome.mark is not None:
                result.done.append(outcome.mark)
            elif not outcome.final and attempts[job.recording] <= retries:
                result.retried += 1
                waiting.append(job)
                continue
            else:
                if not store.exists():
                    raise CasaError(f"{store.root}: has vanished; {len(result.done)} recordings were finished in it")
                result.failed.append(Failure(job.recording, job.item.uri, outcome.reason, attempts[job.recording]))
            result.wall_s = time.monotonic() - began
            bar.at(job.recording, 1.0)
    result.left = len(waiting)
    result.wall_s = time.monotonic() - began
    return result


def _part(event: Event) -> float:
    return min(event.frames / event.total, 0.99) if event.total else 0.0
