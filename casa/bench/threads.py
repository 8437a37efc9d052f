"""CPU time of a process by thread, so that the decoder's and the network's own threads can be told apart."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

_TASKS = Path("/proc/self/task")


@dataclass(slots=True)
class ThreadClock:
    """CPU seconds by kind of thread between start and stop (Linux; elsewhere nothing is seen).

    Threads end, and their times with them, so they are read every ``interval_s``; at most so much of a thread's
    time is missed. Kinds: ``python`` (threads of this interpreter), ``decoder`` (named ``av:`` by FFmpeg) and
    ``native`` (all others: those of the network's runtime).
    """

    interval_s: float = 0.05
    cpu_s: dict[str, float] = field(default_factory=lambda: {"python": 0.0, "decoder": 0.0, "native": 0.0})
    _last: dict[int, float] = field(default_factory=dict)
    _base: dict[int, float] = field(default_factory=dict)
    _kind: dict[int, str] = field(default_factory=dict)
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; what the threads have used so far does not count."""
        self._read()
        self._base = dict(self._last)
        self._thread = threading.Thread(target=self._run, name="casa-thread-clock", daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, float]:
        """End, and give the CPU seconds by kind; the clock's own are left out."""
        self._done.set()
        own = None
        if self._thread is not None:
            own = self._thread.native_id
            self._thread.join()
        self._read()
        for thread, seconds in self._last.items():
            if thread != own:
                self.cpu_s[self._kind[thread]] += seconds - self._base.get(thread, 0.0)
        return self.cpu_s

    def _run(self) -> None:
        while not self._done.wait(self.interval_s):
            self._read()

    def _read(self) -> None:
        if not _TASKS.is_dir():
            return
        python = {thread.native_id for thread in threading.enumerate()}
        tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
        for name in os.listdir(_TASKS):
            try:
                text = (_TASKS / name / "stat").read_text()
            except OSError:
                continue  # ended meanwhile
            comm, _, rest = text.partition("(")[2].rpartition(")")
            values = rest.split()
            thread = int(name)
            self._last[thread] = (int(values[11]) + int(values[12])) * tick_s
            if self._kind.get(thread) != "python":
                kind = "python" if thread in python else "decoder" if comm.startswith("av:") else "native"
                self._kind[thread] = kind
