"""A grader: a process of its own that takes clips from a session's queue and gives back grades.

After work it rests, so that its share of the CPU stays below what it may have.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from casa.bus.address import Endpoint
from casa.bus.cell_messages import GradeFailed, Work
from casa.bus.convert import clip_of, grades_message
from casa.bus.grader_client import GraderClient
from casa.bus.keys import Keys
from casa.cells import Clip
from casa.errors import CasaError, InputError
from casa.grade.model import Grader, clip_fault

_POLL_S = 0.5


@dataclass(slots=True)
class Pace:
    """How long to rest: ``cores`` of CPU time a second at most, on average over each spell of work and rest."""

    cores: float
    _begun_s: float = field(default_factory=time.monotonic)
    _cpu_s: float = field(default_factory=time.process_time)
    _all_begun_s: float = field(default_factory=time.monotonic)
    _all_cpu_s: float = field(default_factory=time.process_time)

    def rest_s(self) -> float:
        """How much longer; 0 or less: work may go on."""
        used_s = time.process_time() - self._cpu_s
        return self._begun_s + used_s / self.cores - time.monotonic()

    def begin(self) -> None:
        """A spell of work begins; rest that was not needed is not saved up."""
        self._begun_s, self._cpu_s = time.monotonic(), time.process_time()

    def busy_share(self) -> float:
        """CPU time over wall time since the grader was ready."""
        return (time.process_time() - self._all_cpu_s) / max(time.monotonic() - self._all_begun_s, 1e-3)


def attention_maps(grader: Grader, clip: Clip) -> NDArray[np.uint8] | None:
    """Maps (n, s, s) of where the network looked; None of a network that has no attention to space."""
    try:
        return np.round(grader.attention(clip) * 255).astype(np.uint8)
    except InputError:
        return None


def run_grader(
    endpoint: Endpoint,
    grader: Grader,
    *,
    name: str = "",
    keys: Keys | None = None,
    cpu_share: float = 1.0,
    batch: int = 8,
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Grade a session's clips until it ends, its engine is gone, or ``stop`` says so; gives how many.

    Parameters
    ----------
    cpu_share : so much of this machine's CPU at most. batch : clips at once.

    Raises
    ------
    InputError : there is no session. CasaError : the network failed again and again.
    """
    pace = Pace(cpu_share * (os.cpu_count() or 1) if cpu_share < 1 else float("inf"))
    n_graded, failures = 0, 0
    with GraderClient(endpoint, name or f"grader {os.getpid()}", grader.info.name, keys) as client:
        while not stop() and not client.ended:
            rest_s = 0.0 if client.hurry else pace.rest_s()
            if rest_s <= 0:
                client.ready(batch, pace.busy_share())
            work = client.receive(min(rest_s, _POLL_S) if rest_s > 0 else _POLL_S)
            if not work:
                _check_engine(client)
                continue
            if rest_s <= 0:
                pace.begin()
            done, error = _grade(client, grader, work)
            n_graded += done
            failures = 0 if error is None else failures + 1
            if error is not None and failures >= 3:
                client.leave(str(error))
                raise error
        client.leave("stopped" if not client.ended else "")
    return n_graded


def _check_engine(client: GraderClient) -> None:
    """Raise where there is nobody to work for."""
    if client.engine_is_gone:
        what = "the engine is gone" if client.heard else "no session with grading runs there; start `casa live --grade`"
        raise InputError(f"{client.endpoint}: {what}")


def _grade(client: GraderClient, grader: Grader, work: list[Work]) -> tuple[int, CasaError | None]:
    """Grade a batch and answer for each of its clips; gives how many were graded, and the network's failure."""
    good: list[tuple[Clip, bool]] = []
    for item in work:
        clip, _ = clip_of(item.clip)
        fault = clip_fault(clip)
        if fault is None:
            good.append((clip, item.attention))
        else:
            client.answer(GradeFailed(clip_id=clip.clip_id, reason=fault[:500]))
    try:
        table = grader.grade([clip for clip, _ in good])
        maps = [attention_maps(grader, clip) if wanted else None for clip, wanted in good]
    except CasaError as error:
        for clip, _ in good:
            client.answer(GradeFailed(clip_id=clip.clip_id, reason=str(error)[:500]))
        return 0, error
    for row in range(len(table)):
        client.answer(grades_message(table, row, grader.info.name, maps[row]))
    return len(table), None
