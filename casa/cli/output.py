"""What commands print: one JSON object for machines, or a short table for people."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from casa.cli.stopping import StopEvent
from casa.errors import InputError


def json_text(data: dict[str, Any]) -> str:
    """One JSON object; NaN and infinity become null."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [clean(item) for item in value]
        if hasattr(value, "item"):
            value = value.item()
        if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
            return None
        return value

    return json.dumps(clean(data), indent=2, default=str)


def print_json(data: dict[str, Any]) -> None:
    """One JSON object on standard output; NaN and infinity become null."""
    print(json_text(data), flush=True)


def refuse_existing(path: Path, force: bool) -> None:
    """Raise InputError when ``path`` exists and may not be replaced, or its folder does not exist."""
    if path.exists() and not force:
        raise InputError(f"{path}: exists already; give another name with -o, or --force to replace it")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first, or give another -o")


@contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets; the second one breaks off at once."""
    stop = StopEvent()

    def handle(signum: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        print("casa: stopping; once more to break off", file=sys.stderr, flush=True)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
