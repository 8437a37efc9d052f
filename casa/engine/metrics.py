"""How a live session is doing, put together once a second from its parts."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from casa.bus.messages import Heartbeat, Metrics
from casa.kinematics.grade import motility_percent
from casa.types import FrameAccount, Summary

if TYPE_CHECKING:
    from casa.engine.live import LiveSession

_HEARTBEAT_S = 0.5


class Meter:
    """``metrics`` and ``summary`` are the newest; ``tick`` renews them and sends them to who listens."""

    def __init__(self, session: LiveSession) -> None:
        self._session = session
        self._at = time.monotonic()
        self._said_at = 0.0
        self._account = FrameAccount()
        self.summary: Summary | None = None
        self.metrics = self._measure(0.0)

    def tick(self, interval_s: float) -> None:
        """Measure anew where the last time is ``interval_s`` ago, and say so on the stream of events."""
        now = time.monotonic()
        took_s = now - self._at
        if took_s < interval_s:
            if now - self._said_at > _HEARTBEAT_S:
                self._said_at = now
                self._session.bus.event(Heartbeat(mono_ns=time.monotonic_ns()))
            return
        self.summary = self._summary()
        self.metrics = self._measure(took_s)
        self._at = self._said_at = now
        self._account = self.metrics.account
        self._session.bus.event(self.metrics)

    def _summary(self) -> Summary:
        """The figures so far; motility by the last second of every track in view, since those that have ended say too
        little of slow ones, which stay.
        """
        seconds = self._session.publish.seconds_by_grade
        return replace(
            self._session.kinematics.summary(),
            motility_percent=motility_percent(seconds),
            graded_time_s=float(seconds.sum()),
        )

    def _measure(self, took_s: float) -> Metrics:
        session = self._session
        account, latency = session.ledger.account(), session.ledger.latency
        ended = account.processed + account.skipped + account.dropped + account.failed
        rate = 1 / took_s if took_s > 0 else 0.0
        counts = getattr(session.source, "counts", None)
        queues = session.runner.queues()
        if counts is not None:
            queues["camera"] = counts().waiting
        return Metrics(
            t_ns=session.newest_t_ns,
            account=account,
            under_way=max(account.captured - ended, 0),
            captured_fps=(account.captured - self._account.captured) * rate,
            processed_fps=(account.processed - self._account.processed) * rate,
            latency_p50_ms=latency.percentile_ms(50),
            latency_p99_ms=latency.percentile_ms(99),
            stage_ms={node.name: node.wall.mean_ms for node in session.runner.graph.nodes},
            queues=queues,
            clients=session.bus.clients(),
            viewers=session.bus.n_viewers,
            processes=session.children.health(),
            bad_messages=session.bus.bad,
            grading=None if session.grading is None else session.grading.metrics(),
            morphology=None if session.heads is None else session.heads.metrics(),
            recording=None if session.options.output is None else str(session.options.output),
        )
