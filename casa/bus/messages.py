"""The messages of the bus: what each holds, and how much of it at most. docs/bus.md says the same in words.

On the wire a message is one MessagePack map: an ``Envelope`` with the protocol's version, the session and the
``body``, whose ``type`` names it. Structs check themselves when they are decoded, so that what a decoder gives is
whole. Coordinates are pixels of the source frame; times ``t_ns`` are the source's clock, ``*_mono_ns`` the
engine machine's monotonic clock, both in ns.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from casa.bus.array import Array
from casa.bus.base import Count, FieldNumber, Line, Message, Name, Text, Time, check_image
from casa.bus.cell_messages import (
    ClipMessage,
    GradeFailed,
    GraderJoin,
    GraderLeave,
    GraderReady,
    GradesMessage,
    GradingMetrics,
    Hurry,
    MorphologyMessage,
    Work,
)
from casa.types import Calibration, FrameAccount, SourceInfo, Summary

PROTOCOL_VERSION = 1
#: How a frame ended; the values of ``casa.types.FrameStatus``.
Status = Literal["processed", "skipped", "dropped", "failed"]
#: Codes of ``View.grade``: 0 to 3 are WHO grades a to d.
UNGRADED = 255


class SessionStart(Message, tag="session_start", frozen=True, eq=False, kw_only=True):
    """What a session is of; the first message of the lossless path. ``session`` is the recording's own ``session``."""

    source: SourceInfo
    calibration: Calibration | None
    session: dict[str, Any]


class FramePicture(Message, tag="frame", frozen=True, eq=False, kw_only=True):
    """A frame's picture: (h, w) gray or (h, w, 3) RGB, u1 or u2."""

    frame: Count
    field: FieldNumber = 0
    t_ns: Time
    image: Array

    def __post_init__(self) -> None:
        check_image(self.image)


class FrameEnd(Message, tag="frame_end", frozen=True, eq=False, kw_only=True):
    """What became of a captured frame, after everything else about it."""

    frame: Count
    field: FieldNumber = 0
    t_ns: Time
    status: Status
    reason: Text = ""


class DetectionsMessage(Message, tag="detections", frozen=True, eq=False, kw_only=True):
    """What was found in a frame: columns of ``casa.types.Detections``."""

    frame: Count
    field: FieldNumber = 0
    t_ns: Time
    xyxy: Array
    confidence: Array
    class_id: Array

    def __post_init__(self) -> None:
        n = self.confidence.shape[0]
        self.xyxy.check("xyxy", ("f4",), (n, 4))
        self.confidence.check("confidence", ("f4",), (n,))
        self.class_id.check("class_id", ("i8",), (n,))


class TracksMessage(Message, tag="tracks", frozen=True, eq=False, kw_only=True):
    """The tracks put out for a frame: columns of ``casa.types.Tracks``."""

    frame: Count
    field: FieldNumber = 0
    t_ns: Time
    track_id: Array
    xyxy: Array
    measured_xy_px: Array
    confidence: Array
    predicted: Array
    velocity_px_s: Array
    ended_ids: Array

    def __post_init__(self) -> None:
        n = self.track_id.shape[0]
        self.track_id.check("track_id", ("i8",), (n,))
        self.xyxy.check("xyxy", ("f4",), (n, 4))
        self.measured_xy_px.check("measured_xy_px", ("f8",), (n, 2))
        self.confidence.check("confidence", ("f4",), (n,))
        self.predicted.check("predicted", ("b1",), (n,))
        self.velocity_px_s.check("velocity_px_s", ("f8",), (n, 2))
        self.ended_ids.check("ended_ids", ("i8",), (None,))


class KinematicsMessage(Message, tag="kinematics", frozen=True, eq=False, kw_only=True):
    """Rows of ``casa.types.KinematicsTable``; ``grade`` (n,) u1 is the ASCII letter, 0 where there is none."""

    columns: Annotated[dict[Name, Array], Meta(max_length=64)]
    grade: Array

    def __post_init__(self) -> None:
        n = self.grade.shape[0]
        self.grade.check("grade", ("u1",), (n,))
        for name, column in self.columns.items():
            whole = name in ("track_id", "n_frames", "t_start_ns", "flags")
            shape = (n, 4) if name == "time_by_grade_s" else (n,)
            column.check(name, ("i8",) if whole else ("f8",), shape)


class PictureMessage(Message, tag="picture", frozen=True, eq=False, kw_only=True):
    """A picture of the field to keep in the recording."""

    frame: Count
    t_ns: Time
    image: Array

    def __post_init__(self) -> None:
        check_image(self.image)


class ClientMetrics(Struct, frozen=True, kw_only=True):
    """A client of the lossless path: messages that wait for it, that it has written, that were left out for it."""

    name: Name
    connected: bool
    queued: Count
    queued_bytes: Count
    sent: Count
    written: Count
    left_out: Count


class ProcessHealth(Struct, frozen=True, kw_only=True):
    """A part of the engine: a process of its own, or a thread (``pid`` 0)."""

    name: Name
    pid: Count
    state: Literal["starting", "running", "restarting", "stopped", "failed"]
    restarts: Count = 0
    note: Line = ""


class Metrics(Message, tag="metrics", frozen=True, eq=False, kw_only=True):
    """How the engine is doing, once a second and with every View.

    Rates are of the last seconds, latencies (capture to published, ms) of the whole session; ``stage_ms`` is the mean
    wall time of each stage.
    """

    t_ns: Time
    account: FrameAccount
    under_way: Count = 0
    captured_fps: float = 0.0
    processed_fps: float = 0.0
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    stage_ms: dict[Name, float | None] = field(default_factory=dict)
    queues: dict[Name, Count] = field(default_factory=dict)
    clients: tuple[ClientMetrics, ...] = ()
    viewers: Count = 0
    processes: tuple[ProcessHealth, ...] = ()
    bad_messages: Count = 0
    recording: Text | None = None
    grading: GradingMetrics | None = None
    morphology: GradingMetrics | None = None


class SessionEvent(Message, tag="event", frozen=True, eq=False, kw_only=True):
    """Something worth a line in the recording: ``kind`` is one word (mark, camera_stalled, recorder_restarted, …)."""

    kind: Name
    text: Line
    t_ns: Time
    utc: Name
    frame: Annotated[int, Meta(ge=-1, le=1 << 62)] = -1
    level: Literal["info", "warning", "error"] = "info"


class Gap(Message, tag="gap", frozen=True, eq=False, kw_only=True):
    """Messages left out for this client because its queue was full: how many by type, and the frame ends among them."""

    counts: dict[Name, Count]
    ends: FrameAccount = FrameAccount()


class Heartbeat(Message, tag="heartbeat", frozen=True, eq=False, kw_only=True):
    """Nothing new, and the engine lives."""

    mono_ns: Time


class SessionEnd(Message, tag="session_end", frozen=True, eq=False, kw_only=True):
    """The last message.

    ``sent`` and ``left_out`` count messages by type for the client that gets it, ``tracking`` what the tracker saw,
    refused and corrected, ``grading`` and ``morphology`` what became of the clips.
    """

    status: Literal["complete", "interrupted", "failed"]
    account: FrameAccount
    summary: Summary | None
    latency_ms: dict[Name, float | None]
    sent: dict[Name, Count] = field(default_factory=dict)
    left_out: dict[Name, Count] = field(default_factory=dict)
    tracking: dict[Name, Count] = field(default_factory=dict)
    grading: GradingMetrics | None = None
    morphology: GradingMetrics | None = None
    reason: Text = ""


class View(Message, tag="view", frozen=True, eq=False, kw_only=True):
    """Everything a viewer shows of one frame, in one message of one part: a newest-only path may lose any other.

    Parameters
    ----------
    image : (h, w) gray or (h, w, 3) RGB, u1 or u2; ``white_level`` is the gray level that is white.
    track_id, xyxy, predicted, confidence : (n,), (n, 4), (n,), (n,), as in ``casa.types.Tracks``.
    grade : (n,) u1, 0 to 3 for WHO grades a to d by the last second, UNGRADED where not known.
    vcl_px_s, vsl_px_s : (n,) f4, speeds over the last second; NaN for a track just begun.
    trail_xy_px : (m, 2) f4, where each track was in the last seconds, oldest first, track after track;
        trail_length : (n,) i4, how many of them are each track's.
    um_per_px : the scale (geometric mean of x and y); None where uncalibrated.
    grade_counts : tracks of this frame in grades a, b, c, d and ungraded.
    summary : of the session, refreshed about once a second.
    """

    frame: Count
    field: FieldNumber = 0
    t_ns: Time
    captured_mono_ns: Time
    published_mono_ns: Time
    image: Array
    white_level: Annotated[int, Meta(ge=1, le=65535)]
    track_id: Array
    xyxy: Array
    predicted: Array
    confidence: Array
    grade: Array
    vcl_px_s: Array
    vsl_px_s: Array
    trail_xy_px: Array
    trail_length: Array
    um_per_px: float | None
    grade_counts: tuple[Count, Count, Count, Count, Count]
    summary: Summary | None
    metrics: Metrics

    def __post_init__(self) -> None:
        check_image(self.image)
        n = self.track_id.shape[0]
        self.track_id.check("track_id", ("i8",), (n,))
        self.xyxy.check("xyxy", ("f4",), (n, 4))
        self.predicted.check("predicted", ("b1",), (n,))
        self.confidence.check("confidence", ("f4",), (n,))
        self.grade.check("grade", ("u1",), (n,))
        self.vcl_px_s.check("vcl_px_s", ("f4",), (n,))
        self.vsl_px_s.check("vsl_px_s", ("f4",), (n,))
        self.trail_length.check("trail_length", ("i4",), (n,))
        lengths = self.trail_length.numpy()
        if n and lengths.min() < 0:
            raise ValueError("trail_length: a negative one")
        self.trail_xy_px.check("trail_xy_px", ("f4",), (int(lengths.sum(dtype="i8")), 2))


# requests to the control socket, and its replies


class Start(Message, tag="start", frozen=True, eq=False, kw_only=True):
    """Begin a session that was started with ``--wait``."""


class Stop(Message, tag="stop", frozen=True, eq=False, kw_only=True):
    """End the session in order."""


class Mark(Message, tag="mark", frozen=True, eq=False, kw_only=True):
    """Put a mark into the recording, at the newest frame."""

    text: Line = ""


class Snapshot(Message, tag="snapshot", frozen=True, eq=False, kw_only=True):
    """Keep the newest picture in the recording, and give it back."""


class GetStatus(Message, tag="get_status", frozen=True, eq=False, kw_only=True):
    """Ask for the Status."""


class GetTrack(Message, tag="get_track", frozen=True, eq=False, kw_only=True):
    """Ask for what is known of a track that is in view or ended a moment ago."""

    track_id: Count


class Done(Message, tag="done", frozen=True, eq=False, kw_only=True):
    """A request was carried out."""

    text: Line = ""


class Refused(Message, tag="refused", frozen=True, eq=False, kw_only=True):
    """A request could not be carried out, and why."""

    reason: Line


class StatusReply(Message, tag="status", frozen=True, eq=False, kw_only=True):
    """``state`` of the session, what it is of (None before it began), and how it is doing."""

    state: Literal["waiting", "starting", "running", "stopping", "ended", "failed"]
    start: SessionStart | None
    metrics: Metrics
    summary: Summary | None = None
    events: Annotated[tuple[SessionEvent, ...], Meta(max_length=200)] = ()


class SnapshotReply(Message, tag="snapshot_taken", frozen=True, eq=False, kw_only=True):
    """The picture of a snapshot."""

    frame: Count
    t_ns: Time
    image: Array

    def __post_init__(self) -> None:
        check_image(self.image)


class TrackReply(Message, tag="track", frozen=True, eq=False, kw_only=True):
    """A track's path while it was in view (its last seconds), (n,) i8 and (n, 2) f8; NaN where it was missed.

    ``kinematics`` are of that path. ``clip``, ``grades`` and ``morphology`` are there once a grader has given them.
    """

    track_id: Count
    t_ns: Array
    xy_px: Array
    kinematics: KinematicsMessage | None = None
    clip: ClipMessage | None = None
    grades: GradesMessage | None = None
    morphology: MorphologyMessage | None = None

    def __post_init__(self) -> None:
        n = self.t_ns.shape[0]
        self.t_ns.check("t_ns", ("i8",), (n,))
        self.xy_px.check("xy_px", ("f8",), (n, 2))


# what a client of the lossless path says


class Join(Message, tag="join", frozen=True, eq=False, kw_only=True):
    """Ask for every message from now on.

    ``name`` is the client's own: one that comes back under it goes on where ``written`` (a sequence number, -1 for the
    beginning) says. ``pictures``: FramePicture messages too.
    """

    name: Name
    written: Annotated[int, Meta(ge=-1, le=1 << 62)] = -1
    session_id: Name = ""
    pictures: bool = False


class Written(Message, tag="written", frozen=True, eq=False, kw_only=True):
    """Everything up to this sequence number is safe, and need not be sent again; also the client's heartbeat."""

    sequence: Annotated[int, Meta(ge=-1, le=1 << 62)]
    session_id: Name = ""
    note: Line = ""


class Leave(Message, tag="leave", frozen=True, eq=False, kw_only=True):
    """The client wants nothing more; ``written`` counts messages by type."""

    written: dict[Name, Count] = field(default_factory=dict)
    note: Line = ""


Published = (
    SessionStart | FramePicture | FrameEnd | DetectionsMessage | TracksMessage | KinematicsMessage | PictureMessage
    | ClipMessage | GradesMessage | MorphologyMessage | Metrics | SessionEvent | Gap | Heartbeat | SessionEnd | View
)  # fmt: skip
Request = Start | Stop | Mark | Snapshot | GetStatus | GetTrack
Reply = Done | Refused | StatusReply | SnapshotReply | TrackReply
ClientMessage = Join | Written | Leave
GraderMessage = GraderJoin | GraderReady | GradesMessage | MorphologyMessage | GradeFailed | GraderLeave
AnyMessage = Published | Request | Reply | ClientMessage | GraderMessage | Work | Hurry


class Envelope(Struct, frozen=True, eq=False, kw_only=True):
    """What goes over the wire: a message and what it belongs to. ``session`` is the session's id, "" before one."""

    version: Literal[1]
    session: Name = ""
    body: AnyMessage


def type_of(message: Message) -> str:
    """The name of a message's type on the wire."""
    return str(message.__struct_config__.tag)
