"""One message of every type, for tests of the bus."""

from __future__ import annotations

from typing import Any

import numpy as np
import recordings

from casa.bus import messages as m
from casa.bus.array import pack
from casa.bus.convert import (
    clip_message,
    detections_message,
    grades_message,
    kinematics_message,
    tracks_message,
)
from casa.types import Calibration, FrameAccount, SourceInfo

SOURCE = SourceInfo("camera:0", 640, 480, 50.0, None, "device")
CALIBRATION = Calibration("c", 0.5, 0.5, 640, 480, 1.0, 20.0)


def view(frame: int = 3, n: int = 4, shape: tuple[int, ...] = (48, 64)) -> m.View:
    """A View with ``n`` tracks; every track has a trail of its number of points."""
    lengths = np.arange(n, dtype="i4")
    tracks = recordings.tracks(frame, n)
    return m.View(
        frame=frame, t_ns=frame * 20_000_000, captured_mono_ns=1, published_mono_ns=2,
        image=pack(np.full(shape, frame % 256, "u1")), white_level=255,
        track_id=pack(tracks.track_id), xyxy=pack(tracks.xyxy), predicted=pack(tracks.predicted),
        confidence=pack(tracks.confidence), grade=pack(np.full(n, m.UNGRADED, "u1")),
        vcl_px_s=pack(np.full(n, np.nan, "f4")), vsl_px_s=pack(np.ones(n, "f4")),
        trail_xy_px=pack(np.zeros((int(lengths.sum()), 2), "f4")), trail_length=pack(lengths),
        um_per_px=0.5, grade_counts=(1, 0, 2, 0, 1), summary=recordings.SUMMARY, metrics=metrics(),
    )  # fmt: skip


def metrics() -> m.Metrics:
    """Metrics with every part filled."""
    return m.Metrics(
        t_ns=5, account=FrameAccount(10, 7, 1, 1, 1), under_way=0, captured_fps=50.0, processed_fps=49.5,
        latency_p50_ms=12.5, latency_p99_ms=None, stage_ms={"detect": 9.5, "track": None}, queues={"detect": 2},
        clients=(m.ClientMetrics(name="r", connected=True, queued=3, queued_bytes=900, sent=9, written=6, left_out=0),),
        viewers=2, processes=(m.ProcessHealth(name="recorder", pid=77, state="running"),), recording="run.h5",
        grading=m.GradingMetrics(taken=9, graded=4, superseded=2, left_out=1, waiting=2, tracks=3, model="g"),
        morphology=m.GradingMetrics(taken=3, graded=3, abstained={"out of focus": 2}),
    )  # fmt: skip


def every_message() -> list[Any]:
    """One of each type of the protocol."""
    start = m.SessionStart(source=SOURCE, calibration=CALIBRATION, session=recordings.SESSION)
    kept = recordings.kept_clip(1, 2)
    clip = clip_message(kept.clip, kept.attention)
    grades = grades_message(recordings.grades([1], 2), 0, "g", kept.attention)
    morphology = m.MorphologyMessage(
        track_id=2, frame=3, normal={"head": 0.75, "acrosome": 0.5}, crop=pack(np.zeros((35, 35), "u1")),
        heat_map=pack(np.zeros((35, 35), "u1")), model="f", clip_id=7, t_ns=9, n_crops=3, in_domain=True,
        classes={"head:normal": 0.75, "head:abnormal": 0.25, "acrosome:normal": 0.5, "acrosome:abnormal": 0.5},
        edge_share=0.25, measures={"ellipticity": 1.5, "length_um": 4.5},
    )  # fmt: skip
    event = m.SessionEvent(kind="mark", text="here", t_ns=7, utc="2026-01-01T00:00:00+00:00", frame=3)
    return [
        start,
        m.FramePicture(frame=1, t_ns=2, image=pack(np.arange(6, dtype="u2").reshape(2, 3))),
        m.FrameEnd(frame=1, t_ns=2, status="dropped", reason="an edge was full"),
        detections_message(recordings.detections(4, 5)),
        tracks_message(recordings.tracks(4, 5)),
        kinematics_message(recordings.kinematics([1, 2, 9])),
        m.PictureMessage(frame=1, t_ns=2, image=pack(np.zeros((2, 3, 3), "u1"))),
        clip, grades, morphology, metrics(), event,
        m.Gap(counts={"tracks": 3, "frame_end": 3}, ends=FrameAccount(3, 2, 0, 1, 0)),
        m.Heartbeat(mono_ns=1),
        m.SessionEnd(status="complete", account=FrameAccount(1, 1), summary=recordings.SUMMARY,
                     latency_ms={"p50": 1.0, "p99": None}, sent={"tracks": 1}, left_out={}, tracking={"frames": 9}),
        view(), m.Start(), m.Stop(), m.Mark(text="x"), m.Snapshot(), m.GetStatus(), m.GetTrack(track_id=4),
        m.Done(text="x"), m.Refused(reason="y"),
        m.StatusReply(state="running", start=start, metrics=metrics(), summary=None, events=(event,)),
        m.SnapshotReply(frame=1, t_ns=2, image=pack(np.zeros((2, 3), "u1"))),
        m.TrackReply(track_id=4, t_ns=pack(np.arange(3)), xy_px=pack(np.zeros((3, 2))), clip=clip, grades=grades,
                     morphology=morphology, kinematics=kinematics_message(recordings.kinematics([4]))),
        m.Join(name="recorder", written=-1, session_id="ab", pictures=True),
        m.Written(sequence=5, session_id="ab"), m.Leave(written={"tracks": 4}),
        m.MorphologyMessage(track_id=2, frame=3, model="f", clip_id=8, reason="two heads"),
        m.GraderJoin(name="grader 1", pid=9, model="g", task="morphology"), m.GraderReady(room=4, busy_share=0.125),
        m.Work(clip=clip, attention=True), m.Hurry(), m.GradeFailed(clip_id=1, reason="all black"),
        m.GraderLeave(note="done"),
    ]  # fmt: skip
