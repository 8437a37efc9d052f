"""A worker process of ``casa batch``: takes jobs as JSON lines on standard input, tells of them on standard output.

Messages are ``{"frames": n, "total": m}`` and at a job's end ``{"mark": …, "reason": …, "final": …}``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict
from typing import Any

from casa.lifeline import follow_parent

_TELL_EVERY_S = 0.5


def main() -> None:
    """Work until standard input is closed; end with the process that started this one."""
    follow_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the batch, which ends its workers in order
    # what libraries print is not to get among the messages
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    from casa.batch.plan import Job
    from casa.batch.work import attempt

    for line in sys.stdin:
        told_at = time.monotonic()

        def on_frames(frames: int, total: int | None) -> None:
            nonlocal told_at
            if time.monotonic() - told_at >= _TELL_EVERY_S:
                told_at = time.monotonic()
                tell({"frames": frames, "total": total})

        tell(asdict(attempt(Job.of(json.loads(line)), on_frames)))


if __name__ == "__main__":
    main()
