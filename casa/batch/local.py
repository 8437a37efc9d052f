"""A pool of processes on this machine, each of which ends with the batch, however that ends."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from casa.batch.plan import Job
from casa.batch.pool import Event
from casa.batch.work import Outcome
from casa.lifeline import child_environment

_READ_BYTES = 1 << 16


@dataclass(slots=True)
class _Worker:
    """A process, the job it has, and what it said without a line's end so far."""

    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    job: Job | None = None
    said: bytes = field(default=b"")


class LocalPool:
    """``workers`` processes; each keeps what it has imported and compiled from one recording to the next.

    Call everything from one thread: Linux tells a child of its parent's death when the thread that started it ends.
    """

    def __init__(self, workers: int) -> None:
        self._slots = workers
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()

    @property
    def slots(self) -> int:
        """How many recordings can be under way."""
        return self._slots

    def start(self, job: Job) -> None:
        """Hand a recording to a worker that has none, or to a new one."""
        worker = next((w for w in self._workers if w.job is None), None) or self._spawn()
        worker.job = job
        assert worker.process.stdin is not None
        with suppress(BrokenPipeError):  # it has just died: polling will tell
            worker.process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
            worker.process.stdin.flush()

    def _spawn(self) -> _Worker:
        errors = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the worker)
        process = subprocess.Popen(
            [sys.executable, "-m", "casa.batch.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=child_environment(),
            process_group=None if sys.platform == "win32" else 0,
        )  # fmt: skip
        worker = _Worker(process, errors)
        self._workers.append(worker)
        assert process.stdout is not None
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)
        return worker

    def poll(self, timeout_s: float) -> list[Event]:
        """What workers have said since, and who has died."""
        events: list[Event] = []
        for key, _ in self._selector.select(timeout_s):
            worker: _Worker = key.data
            data = os.read(key.fd, _READ_BYTES)
            if not data:
                events += self._buried(worker)
                continue
            *lines, worker.said = (worker.said + data).split(b"\n")
            for line in lines:
                if worker.job is not None:
                    events.append(self._event(worker, worker.job, json.loads(line)))
        return events

    def _event(self, worker: _Worker, job: Job, message: dict[str, Any]) -> Event:
        if "frames" in message:
            return Event(job.recording, message["frames"], message["total"])
        worker.job = None
        return Event(job.recording, outcome=Outcome(**message))

    def _buried(self, worker: _Worker) -> list[Event]:
        """Remove a worker that has died; the recording it had has failed with it."""
        self._end(worker)
        if worker.job is None:
            return []
        code = worker.process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        last = _last_line(worker.errors)
        return [Event(worker.job.recording, outcome=Outcome(reason=f"{worker.job.item.uri}: its worker {how}{last}"))]

    def _end(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        assert worker.process.stdin is not None
        assert worker.process.stdout is not None
        self._selector.unregister(worker.process.stdout)
        with suppress(OSError):
            worker.process.stdin.close()
        worker.process.wait()
        worker.process.stdout.close()

    def close(self) -> None:
        """End all workers: those that have nothing to do end by themselves."""
        for worker in list(self._workers):
            if worker.job is not None:
                worker.process.kill()
            self._end(worker)
            worker.errors.close()
        self._selector.close()


def _last_line(errors: IO[bytes]) -> str:
    """The last thing a worker wrote to standard error, as a clause."""
    with errors:
        errors.seek(0)
        lines = errors.read()[-2000:].decode("utf-8", "replace").split("\n")
    said = [" ".join(line.split()) for line in lines if line.strip()]
    return f" ({said[-1][:200]})" if said else ""
