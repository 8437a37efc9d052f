"""A grader: a process of its own that takes clips from a session's queue and gives back grades, or forms of heads.

After work it rests, so that its share of the CPU stays below what it may have.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from casa.bus.address import Endpoint
from casa.bus.cell_messages import GradeFailed, GradesMessage, MorphologyMessage, Task, Work
from casa.bus.convert import clip_of, grades_message, morphology_message
from casa.bus.grader_client import GraderClient
from casa.bus.keys import Keys
from casa.cells import NO_NUMBERS, Clip
from casa.errors import CasaError, InputError

if TYPE_CHECKING:
    from casa.grade.model import Grader
    from casa.morphology.examiner import HeadExaminer

_POLL_S = 0.5
_FAILURES = 3
Answer = GradesMessage | MorphologyMessage | GradeFailed


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


class Worker(Protocol):
    """What is done with clips: the task, the network's name, and the answers to a batch of them."""

    task: Task
    model: str

    def answers(self, work: Sequence[Work]) -> list[Answer]:
        """One a clip; ``GradeFailed`` where a clip is at fault. Raises CasaError where the network failed."""
        ...


class GradeWorker:
    """Gives expert grades."""

    task: Task = "grade"

    def __init__(self, grader: Grader) -> None:
        self._grader, self.model = grader, grader.info.name

    def answers(self, work: Sequence[Work]) -> list[Answer]:
        """Grades, with maps where they are asked for."""
        from casa.grade.model import clip_fault

        found: list[Answer] = []
        good: list[tuple[Clip, bool]] = []
        for item in work:
            clip, _ = clip_of(item.clip)
            fault = clip_fault(clip)
            if fault is None:
                good.append((clip, item.attention))
            else:
                found.append(GradeFailed(clip_id=clip.clip_id, reason=fault[:500]))
        table = self._grader.grade([clip for clip, _ in good])
        if good and not len(table):
            raise CasaError(NO_NUMBERS)  # of no clip at all it gave any: that is no clip's fault
        rows = {int(clip_id): row for row, clip_id in enumerate(table.clip_id)}
        for clip, wanted in good:
            row = rows.get(clip.clip_id)
            if row is None:
                found.append(GradeFailed(clip_id=clip.clip_id, reason=NO_NUMBERS))
                continue
            found.append(grades_message(table, row, self.model, attention_maps(self._grader, clip) if wanted else None))
        return found


class MorphologyWorker:
    """Examines heads; whether the network knows such pictures, the engine says."""

    task: Task = "morphology"

    def __init__(self, examiner: HeadExaminer) -> None:
        self._examiner, self.model = examiner, examiner.info.name

    def answers(self, work: Sequence[Work]) -> list[Answer]:
        """Forms of heads, with heat maps where they are asked for."""
        exams = self._examiner.examine([clip_of(item.clip)[0] for item in work])
        failed = [exam.row.reason[0] == NO_NUMBERS for exam in exams]
        if any(failed) and not any(exam.row.n_crops[0] for exam in exams):
            raise CasaError(NO_NUMBERS)  # of no clip at all it gave any: that is no clip's fault
        found: list[Answer] = []
        for item, exam, no_numbers in zip(work, exams, failed, strict=True):
            if no_numbers:
                found.append(GradeFailed(clip_id=item.clip.clip_id, reason=NO_NUMBERS))
                continue
            heat = self._examiner.heat(item.clip.clip_id) if item.attention else None
            found.append(morphology_message(replace(exam, heat=heat), self.model))
        return found


def run_grader(
    endpoint: Endpoint,
    workers: Sequence[Worker],
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
    workers : what is done with clips, in turn. batch : clips at once.
    cpu_share : so much of this machine's CPU at most.

    Raises
    ------
    InputError : there is no session. CasaError : a network failed again and again.
    """
    pace = Pace(cpu_share * (os.cpu_count() or 1) if cpu_share < 1 else float("inf"))
    n_done, failures = 0, [0] * len(workers)
    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                GraderClient(endpoint, name or f"{worker.task} {os.getpid()}", worker.model, keys, worker.task)
            )
            for worker in workers
        ]
        poll_s = _POLL_S / len(clients)
        while not stop() and not any(client.ended for client in clients):
            for which, (client, worker) in enumerate(zip(clients, workers, strict=True)):
                rest_s = 0.0 if client.hurry else pace.rest_s()
                if rest_s <= 0:
                    client.ready(batch, pace.busy_share())
                work = client.receive(min(rest_s, poll_s) if rest_s > 0 else poll_s)
                if not work:
                    _check_engine(client, worker.task)
                    continue
                if rest_s <= 0:
                    pace.begin()
                done, error = _answer(client, worker, work)
                n_done += done
                failures[which] = 0 if error is None else failures[which] + 1
                if error is not None and failures[which] >= _FAILURES:
                    client.leave(str(error))
                    raise error
        for client in clients:
            client.leave("stopped" if not client.ended else "")
    return n_done


def _check_engine(client: GraderClient, task: Task) -> None:
    """Raise where there is nobody to work for."""
    if client.engine_is_gone:
        what = "grading" if task == "grade" else task
        none = f"no session with {what} by the network {client.model} runs there; start `casa live --{task}`"
        raise InputError(f"{client.endpoint}: {'the engine is gone' if client.heard else none}")


def _answer(client: GraderClient, worker: Worker, work: list[Work]) -> tuple[int, CasaError | None]:
    """Answer for each clip of a batch; gives how many were done, and the network's failure."""
    error: CasaError | None = None
    try:
        answers = worker.answers(work)
    except CasaError as failure:
        error = failure
        answers = [GradeFailed(clip_id=item.clip.clip_id, reason=str(failure)[:500]) for item in work]
    for answer in answers:
        client.answer(answer)
    return sum(not isinstance(answer, GradeFailed) for answer in answers), error
