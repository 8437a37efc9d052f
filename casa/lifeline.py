"""Processes that end with the one that started them: no orphan is left, however that dies."""

from __future__ import annotations

import os
import signal
import sys

_PARENT = "CASA_PARENT_PID"
_PR_SET_PDEATHSIG = 1


def child_environment() -> dict[str, str]:
    """The environment for a process that is to call ``follow_parent``."""
    return os.environ | {_PARENT: str(os.getpid())}


def follow_parent() -> None:
    """Get SIGTERM when the process that started this one dies; nothing where nobody asked for it.

    Linux tells the child itself. Elsewhere the silence of the bus tells it, a few seconds later.
    """
    parent = os.environ.pop(_PARENT, "")
    if parent.isdecimal():
        end_with(int(parent))


def end_with(parent_pid: int) -> None:
    """Get SIGTERM when that process dies, which has to be the one that started this one (Linux; elsewhere nothing)."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before this was set
        os.kill(os.getpid(), signal.SIGTERM)
