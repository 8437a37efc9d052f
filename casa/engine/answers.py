"""Answers to what clients ask of a live session. Called in the bus's thread, so nothing here takes long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from casa.bus import messages as m
from casa.bus.array import pack
from casa.bus.convert import clip_message, kinematics_message, maps_of
from casa.errors import CasaError
from casa.kinematics.table import analyse_tracks
from casa.types import FloatArray, IntArray, KinematicsTable, TrackTable

if TYPE_CHECKING:
    from casa.engine.live import LiveSession


class Answers:
    """Gives the reply to each request."""

    def __init__(self, session: LiveSession) -> None:
        self._session = session

    def answer(self, request: m.Request) -> m.Reply:
        """The reply. Raises CasaError, whose text tells why there is none."""
        session = self._session
        match request:
            case m.GetStatus():
                return m.StatusReply(
                    state=session.state,  # type: ignore[arg-type]
                    start=session.start,
                    metrics=session.meter.metrics,
                    summary=session.meter.summary,
                    events=tuple(session.events),
                )
            case m.Start():
                if session.state != "waiting":
                    raise CasaError(f"the session is {session.state}; it has begun already")
                session.go.set()
                return m.Done(text="started")
            case m.Stop():
                session.stop.set()
                return m.Done(text="stopping")
            case m.Mark():
                session.note("info", "mark", request.text or "mark")
                return m.Done(text="marked")
            case m.Snapshot():
                return self._snapshot()
            case m.GetTrack():
                return self._track(request.track_id)

    def _snapshot(self) -> m.SnapshotReply:
        session = self._session
        frame = session.frames.newest
        if frame is None:
            raise CasaError("there is no picture yet")
        image = pack(frame.colour())
        session.bus.publish(m.PictureMessage(frame=frame.index, t_ns=frame.t_ns, image=image))
        session.note("info", "snapshot", f"snapshot of frame {frame.index}", frame.t_ns)
        return m.SnapshotReply(frame=frame.index, t_ns=frame.t_ns, image=image)

    def _track(self, track_id: int) -> m.TrackReply:
        session = self._session
        path = session.publish.path(track_id)
        rows = session.publish.ended(track_id)
        if path is None and rows is None:
            raise CasaError(f"track {track_id}: neither in view nor ended a moment ago")
        t_ns, xy = path if path is not None else (np.empty(0, np.int64), np.empty((0, 2)))
        if rows is None and len(t_ns) > 1:
            rows = self._kinematics(track_id, t_ns, xy)
        graded = session.grading.newest(track_id) if session.grading is not None else None
        return m.TrackReply(
            track_id=track_id,
            clip=None if graded is None else clip_message(graded[0], maps_of(graded[1])),
            grades=None if graded is None else graded[1],
            morphology=None if session.heads is None else session.heads.newest(track_id),
            t_ns=pack(t_ns),
            xy_px=pack(xy),
            kinematics=None if rows is None else kinematics_message(rows),
        )

    def _kinematics(self, track_id: int, t_ns: IntArray, xy: FloatArray) -> KinematicsTable:
        n = len(t_ns)
        ones = np.ones(n)
        table = TrackTable(
            np.arange(n), np.zeros(n, np.int64), t_ns, np.full(n, track_id), xy[:, 0], xy[:, 1], 10 * ones, 10 * ones,
            xy[:, 0], xy[:, 1], ones, np.zeros(n, bool),
        )  # fmt: skip
        return analyse_tracks(table, self._session.config.kinematics, self._session.calibration)[0]
