"""The recorder as a process on the bus: every message of a session into a recording, or one recording after another.

What it has written it confirms; a recorder that died is followed by one that goes on behind the last mark in the
journal, and the engine sends it the rest. Where the engine dies, it completes what it has. docs/bus.md has the rules.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from casa.bus import messages as m
from casa.bus.address import Endpoint, owner_pid, remove_if_stale
from casa.bus.keys import Keys
from casa.bus.receiver import Receiver
from casa.config import RecordConfig
from casa.errors import CasaError, InputError
from casa.record.segments import Left, Segments, Video

_WAIT_FOR_SESSION_S = 10.0
#: An engine of which nothing is heard for so long is gone, where it cannot be told otherwise.
_SILENT_S = 10.0
_POLL_S = 0.25
#: A recorder that is stopped takes for so long what was sent before.
_DRAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a recorder did.

    ``written`` counts messages by type; ``reconciled`` tells whether the engine's counts are the same, None where it
    could not say.
    """

    recordings: tuple[Path, ...]
    status: str
    written: dict[str, int]
    reconciled: bool | None


def record_bus(
    endpoint: Endpoint,
    output: Path,
    config: RecordConfig,
    *,
    keys: Keys | None = None,
    name: str = "",
    force: bool = False,
    video: Video = "none",
    segment_s: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Recorded:
    """Record a session from its bus until it ends, or until ``stop`` says so.

    Parameters
    ----------
    output : the recording; with ``segment_s``, RUN.0001.h5, RUN.0002.h5, … of that length in place of RUN.h5.
    name : under which the engine knows this recorder; by default made from ``output``.
    force : replace recordings that exist. What an earlier recorder of the same session left is gone on with.

    Raises
    ------
    InputError : the recording exists, or there is no session. CasaError : it cannot be written; the journal is kept.
    """
    segments = Segments(output, config, video=video, segment_s=segment_s, force=force)
    left = segments.left_behind()
    with Receiver(
        endpoint,
        name or f"recorder {output.resolve()}"[-80:],
        keys,
        written=left.sequence if left else -1,
        session=left.session_id if left else "",
        pictures=video != "none",
    ) as receiver:
        recorder = _Recorder(receiver, segments)
        try:
            return recorder.run(left, stop)
        except CasaError as error:
            receiver.leave(dict(segments.written), note=f"failed: {error}"[:500])
            raise


class _Recorder:
    """One session's worth of ``record_bus``."""

    def __init__(self, receiver: Receiver, segments: Segments) -> None:
        self._receiver = receiver
        self._segments = segments
        self._end: m.SessionEnd | None = None

    def run(self, left: Left | None, stop: Callable[[], bool]) -> Recorded:
        ended = self._begin(left, stop)
        stopped_at: float | None = None
        while self._end is None and not ended:
            batch = self._receiver.receive(_POLL_S if stopped_at is None else 0.0)
            self._take(batch)
            if stop():  # what was sent before is still taken, but an engine that goes on sending is not waited for
                stopped_at = stopped_at or time.monotonic()
                if not batch or time.monotonic() - stopped_at > _DRAIN_S:
                    gone = self._engine_is_gone()
                    return self._finish("interrupted", "the engine is gone" if gone else "the recorder was stopped")
            elif not batch and self._engine_is_gone():
                return self._finish("interrupted", "the engine is gone")
        return self._finish(self._end.status if self._end else "complete", "")

    def _begin(self, left: Left | None, stop: Callable[[], bool]) -> bool:
        """Wait for the session; go on with what was left of it, or begin with its start.

        True where nothing is left to do: an earlier recorder had written its end.
        """
        deadline = time.monotonic() + _WAIT_FOR_SESSION_S
        while True:
            batch = self._receiver.receive(_POLL_S)
            if left is not None and self._receiver.heard and self._receiver.session == left.session_id:
                self._segments.resume()
                self._take(batch)
                return left.ended
            if batch and isinstance(start := batch[0][1].body, m.SessionStart):
                self._segments.begin(start, self._receiver.session)
                self._take(batch)
                return False
            if batch:
                first = m.type_of(batch[0][1].body)
                ended = "the session ended before it began" if first == "session_end" else f"begins with {first}"
                raise CasaError(f"{self._receiver.endpoint}: {ended}; nothing is recorded")
            if stop() or (time.monotonic() > deadline and not self._receiver.heard):
                raise InputError(f"{self._receiver.endpoint}: no session runs there; start one with `casa live`")

    def _take(self, batch: list[tuple[int, m.Envelope]]) -> None:
        for sequence, envelope in batch:
            if isinstance(envelope.body, m.SessionEnd):
                self._end = envelope.body
            self._segments.write(sequence, envelope.body)
        if batch and self._end is None:
            self._segments.mark()
            self._receiver.confirm(batch[-1][0])

    def _engine_is_gone(self) -> bool:
        endpoint = self._receiver.endpoint
        if endpoint.folder is not None:
            return owner_pid(endpoint) is None
        return self._receiver.silent_s > _SILENT_S

    def _finish(self, status: str, reason: str) -> Recorded:
        segments, end = self._segments, self._end
        if end is None:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            level = "error" if "gone" in reason else "info"
            segments.event(
                m.SessionEvent(kind="recording_stopped", text=reason, t_ns=segments.t_ns, utc=now, level=level)
            )
        reconciled = segments.finish(status, end)
        self._receiver.confirm(segments.sequence)
        self._receiver.leave(dict(segments.written))
        remove_if_stale(self._receiver.endpoint)  # the engine died without: nobody else is there to do it
        return Recorded(tuple(segments.finished), status, dict(segments.written), reconciled)
