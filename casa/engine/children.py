"""Processes that a session starts and looks after: recorder, viewer. Each ends with the engine, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from casa.bus.messages import ProcessHealth
from casa.lifeline import child_environment

#: Waits before a process that died is started again; the last one for all that follow.
_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
#: One that was killed did nothing wrong itself.
_PAUSE_AFTER_KILL_S = 0.5
#: A process that ran for so long had no trouble starting.
_SETTLED_S = 30.0


@dataclass(slots=True)
class Child:
    """A process; ``again`` is its command line when it is started again."""

    name: str
    command: list[str]
    again: list[str]
    max_restarts: int
    niceness: int = 0
    process: subprocess.Popen[Any] | None = None
    state: str = "starting"
    restarts: int = 0
    in_a_row: int = 0
    deaths: int = 0
    started_at: float = 0.0
    due_at: float = 0.0
    note: str = ""

    def health(self) -> ProcessHealth:
        """For the metrics."""
        pid = self.process.pid if self.process is not None and self.process.poll() is None else 0
        return ProcessHealth(
            name=self.name, pid=pid, state=self.state, restarts=self.restarts, note=self.note[:500]  # type: ignore[arg-type]
        )  # fmt: skip


class Children:
    """Starts processes and starts them again; call everything from the main thread.

    (Linux tells a child of its parent's death when the *thread* that started it ends.)

    Parameters
    ----------
    on_event : told (level, kind, text) when a process dies, comes back or is given up.
    """

    def __init__(self, on_event: Callable[[str, str, str], None]) -> None:
        self._on_event = on_event
        self._children: dict[str, Child] = {}

    def start(
        self,
        name: str,
        arguments: list[str],
        *,
        again: list[str] | None = None,
        max_restarts: int = 0,
        niceness: int = 0,
    ) -> Child:
        """Start ``casa ARGUMENTS``; with ``niceness`` (0 to 19) it gives way to the engine where cores are few."""
        base = [sys.executable, "-m", "casa"]
        child = Child(
            name, base + arguments, base + (again if again is not None else arguments), max_restarts, niceness
        )
        self._children[name] = child
        self._spawn(child, child.command)
        return child

    def _spawn(self, child: Child, command: list[str]) -> None:
        # a process group of its own: Ctrl-C on the terminal is for the engine, which stops the others in order
        options: dict[str, Any] = {"process_group": 0} if sys.platform != "win32" else {}
        child.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=child_environment(), **options
        )
        if child.niceness and sys.platform != "win32":
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, child.process.pid, child.niceness)
        child.started_at = time.monotonic()
        child.state = "running"

    def look_after(self) -> None:
        """Notice who has died, and start it again when its time has come."""
        now = time.monotonic()
        for child in self._children.values():
            if child.state == "restarting" and now >= child.due_at:
                self._spawn(child, child.again)
                child.restarts += 1
                self._on_event("warning", f"{child.name}_restarted", f"{child.name} was started again")
            elif child.state == "running" and child.process is not None and child.process.poll() is not None:
                self._died(child, child.process.returncode, now)

    def _died(self, child: Child, code: int, now: float) -> None:
        if code == 0:
            child.state = "stopped"
            self._on_event("info", f"{child.name}_closed", f"{child.name} was closed")
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
        child.note = f"{child.name} {how}"
        child.deaths += 1
        child.in_a_row = 0 if now - child.started_at > _SETTLED_S else child.in_a_row + 1
        # what was wrong with the call stays wrong
        if code == 2 or child.in_a_row > child.max_restarts:
            child.state = "failed"
            self._on_event("error", f"{child.name}_failed", f"{child.note}; it is not started again")
            return
        child.state = "restarting"
        pause_s = _PAUSES_S[min(max(child.in_a_row - 1, 0), len(_PAUSES_S) - 1)]
        child.due_at = now + (min(pause_s, _PAUSE_AFTER_KILL_S) if code < 0 else pause_s)
        self._on_event("error", f"{child.name}_died", child.note)

    def health(self) -> tuple[ProcessHealth, ...]:
        """How all are doing."""
        return tuple(child.health() for child in self._children.values())

    def get(self, name: str) -> Child | None:
        """The process of that name."""
        return self._children.get(name)

    def end(self, name: str, timeout_s: float) -> None:
        """Ask a process to end (SIGTERM), and end it (SIGKILL) where it does not in that time."""
        child = self._children.get(name)
        if child is None:
            return
        running = child.process is not None and child.process.poll() is None
        child.state = "stopped"
        if child.process is None or not running:
            return
        with suppress(ProcessLookupError):
            child.process.terminate()
        try:
            child.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()

    def end_all(self, timeout_s: float) -> None:
        """End all of them."""
        for name in list(self._children):
            self.end(name, timeout_s)
