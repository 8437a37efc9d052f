"""The live session: a camera through the stages onto the bus, with a recorder and a viewer as processes beside it.

Threads: capture reads the source, vision runs detector, tracker and kinematics, publish puts messages together, the bus
sends them; the caller's thread looks after all of them and after the processes. What a camera gives faster than it can
be analysed is dropped, the oldest first, and counted.
"""

from __future__ import annotations

import gc
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from casa.bus import messages as m
from casa.bus.address import Endpoint
from casa.bus.array import pack
from casa.bus.desk import GraderDesk
from casa.bus.keys import load_engine_keys
from casa.bus.server import BusServer
from casa.calibrate.profile import check_fits
from casa.cells import Clip
from casa.config import Config
from casa.detect import DetectStage
from casa.engine.answers import Answers
from casa.engine.children import Children
from casa.engine.examining import LiveMorphology
from casa.engine.grading import LiveGrading, clip_node
from casa.engine.metrics import Meter
from casa.engine.publish import FramesUnderWay, PublishDetections, PublishStage
from casa.engine.restarting import Restarting
from casa.engine.session import PictureStage, SessionResult, rate_of, session_record
from casa.engine.trails import TrailStore
from casa.errors import CasaError, InputError
from casa.graph.ledger import Ledger
from casa.graph.runner import EdgePolicy, Node, ThreadedRunner
from casa.kinematics import KinematicsStage
from casa.record.files import RecordingFiles, segment_path
from casa.record.stage import Picture
from casa.sources.protocol import LiveSource
from casa.track.stage import TrackStage
from casa.types import (
    Calibration,
    Detections,
    Frame,
    FrameStatus,
    KinematicsTable,
    MissingFrame,
    SourceEvent,
    Tracks,
)

RECORDER = "recorder"
VIEWER = "viewer"
_TICK_S = 0.05
_VIEWER_NICENESS = 12
_METRICS_S = 1.0
_JOIN_S = 30.0
_WARM_UP_FRAMES = 3
_TRIES_AT_THE_END = 3
_LEVELS = {"stalled": "warning", "disconnected": "error", "size_changed": "error", "overflow": "warning"}


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What a live session is to do besides its configuration.

    Parameters
    ----------
    output : the recording; None records nothing. force : replace it.
    endpoint : where the bus is. keys : folder of keys, needed where others than this machine can reach it.
    duration_s : the session ends after so long; None: when it is stopped.
    view : start a viewer. wait : begin when a client asks for it.
    """

    output: Path | None = None
    force: bool = False
    endpoint: Endpoint | None = None
    keys: Path | None = None
    duration_s: float | None = None
    view: bool = False
    wait: bool = False
    command: str = ""


@dataclass(frozen=True, slots=True)
class LiveResult:
    """What a live session came to.

    ``bus``: messages sent to, left out for and written by the recorder, and whether engine and recorder agree (None
    where there was no recorder, or it did not say). ``events``: how many by kind.
    """

    session: SessionResult
    bus: dict[str, Any]
    events: dict[str, int]


def live(
    source: LiveSource,
    config: Config,
    calibration: Calibration | None,
    options: LiveOptions,
    *,
    stop: threading.Event | None = None,
    abort: threading.Event | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> LiveResult:
    """Run a session until its time is up, it is stopped, or the source ends.

    Parameters
    ----------
    source : opened by ``casa.sources.open_live_source``; the caller closes it.
    stop : set it to end in order: what was captured is analysed, published and recorded.
    abort : set it to wait no longer for the recorder.
    say : told what is worth a line on the terminal.

    Raises
    ------
    InputError : the recording exists, the bus cannot be bound, the calibration does not fit.
    CasaError : a stage or the source failed, or the recorder did not complete the recording.
    """
    if calibration is not None:
        check_fits(calibration, source.info, config.camera.binning)
    if options.output is not None:
        first = options.output
        if config.live.segment_s is not None:
            first = segment_path(first, 1)
        RecordingFiles(first).check_free(force=options.force)
    session = LiveSession(source, config, calibration, options, stop or threading.Event(), say)
    try:
        return session.run(abort or threading.Event())
    finally:
        session.close()


class LiveSession:
    """The parts of one live session; made, run and closed by ``live``."""

    def __init__(
        self,
        source: LiveSource,
        config: Config,
        calibration: Calibration | None,
        options: LiveOptions,
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        self.source, self.calibration, self.options, self._say = source, calibration, options, say
        white = source.info.white_level
        if white is not None and "white_level" not in config.detect.model_fields_set:
            config = config.model_copy(update={"detect": config.detect.model_copy(update={"white_level": white})})
        self.config = config
        self.session_id = uuid.uuid4().hex
        self.state = "waiting" if options.wait else "starting"
        self.go = threading.Event()
        self.stop = stop
        self.start: m.SessionStart | None = None
        self.frames = FramesUnderWay()
        self.newest_t_ns, self._newest_index = 0, -1
        self.events: list[m.SessionEvent] = []
        self.event_counts: dict[str, int] = {}
        self._event_lock = threading.Lock()
        info = source.info
        um_per_px = (calibration.um_per_px_x * calibration.um_per_px_y) ** 0.5 if calibration is not None else None
        kinematics = config.kinematics
        trails = TrailStore(
            config.bus.trail_s, info.fps_hz, um_per_px, kinematics.min_duration_s, kinematics.immotile_vap_um_s
        )
        self._detect = DetectStage(config.detect, look_ahead=0, frame_size_px=(info.width_px, info.height_px))
        self._track = TrackStage(config.track, (info.width_px, info.height_px), config.source.every_nth)
        self.kinematics = KinematicsStage(kinematics, calibration, (info.width_px, info.height_px))
        self.children = Children(self.note)
        self.desk = GraderDesk({}, self.note)
        self.grading: LiveGrading | None = None
        self.heads: LiveMorphology | None = None
        publish: Callable[[Any, bool], None] = lambda item, also: self.bus.publish(item, also_event=also)  # noqa: E731
        wake: Callable[[], None] = lambda: self.bus.wake()  # noqa: E731
        if config.grade.enabled:
            self.grading = LiveGrading(config, self.desk, publish=publish, wake=wake)
        if config.morphology.enabled:
            self.heads = LiveMorphology(config, calibration, info, self.desk, publish=publish, wake=wake)
        keys = load_engine_keys(options.keys) if options.keys is not None else None
        self.answers = Answers(self)
        self.bus = BusServer(
            options.endpoint or Endpoint.parse(None),
            config.bus,
            self.session_id,
            self.answers.answer,
            keys,
            on_client=lambda kind, text: self.note("info" if "join" in kind else "warning", kind, text),
            desk=self.desk if self.desk.counters else None,
        )
        self.publish = PublishStage(
            self.bus,
            self.frames,
            trails,
            on_open=self._publish_start,
            state=lambda: (self.meter.metrics, self.meter.summary),
            view_fps_hz=config.bus.view_fps_hz,
            um_per_px=um_per_px,
            white_level=info.white_level,
        )
        self.ledger = Ledger(self.publish.note_end)
        try:
            self.runner = self._graph()
        except BaseException:
            self.bus.close()
            raise
        self.meter = Meter(self)
        self._runner_error: BaseException | None = None
        self._capture = threading.Thread(target=self._run_graph, name="casa-capture")

    def _graph(self) -> ThreadedRunner:
        config = self.config
        detect = Restarting("detect", self._detect, lambda line: self.note("error", "detector_restarted", line))
        nodes = [
            Node("picture", PictureStage(config.record.thumbnail_every_s), ("source",), "source", (Frame,)),
            Node("detect", detect, ("source",), "vision", (Frame,), tolerant=True),
            Node("publish_detections", PublishDetections(self.bus), ("detect",), "publish", (Detections,)),
            Node("track", self._track, ("detect",), "vision", (Detections,), tolerant=True),
            Node("kinematics", self.kinematics, ("track",), "vision", (Tracks,)),
            *self._clip_nodes(),
            Node(
                "publish",
                self.publish,
                ("picture", "track", "kinematics"),
                "publish",
                (Picture, Tracks, KinematicsTable),
                completes=True,
            ),
        ]
        edges = {name: EdgePolicy(edge.policy, edge.depth) for name, edge in config.graph.edges.items()}
        try:
            return ThreadedRunner(nodes, self.ledger, config.source.every_nth, edges)
        except ValueError as error:
            raise InputError(f"graph: {error}") from error

    def _clip_nodes(self) -> list[Node]:
        """What cuts clips, and the queues that they wait in; before tracks are published, with which a frame ends."""
        queues = [("grade_queue", self.grading), ("morphology_queue", self.heads)]
        nodes = [Node(name, q, ("clip", "track"), "vision", (Clip, Tracks)) for name, q in queues if q is not None]
        if not nodes:
            return []
        return [clip_node(self.config, self.frames, self.calibration, self.source.info, "vision"), *nodes]

    # events, for any thread

    def note(self, level: str, kind: str, text: str, t_ns: int | None = None) -> None:
        """Something happened: on the bus, in the recording, and where it is not good on the terminal."""
        event = m.SessionEvent(
            kind=kind[:80],
            text=text[:500],
            t_ns=self.newest_t_ns if t_ns is None else t_ns,
            utc=datetime.now(UTC).isoformat(timespec="milliseconds"),
            frame=self._newest_index,
            level=level,  # type: ignore[arg-type]
        )
        with self._event_lock:
            self.events = [*self.events[-199:], event]
            self.event_counts[event.kind] = self.event_counts.get(event.kind, 0) + 1
        self.bus.publish(event, also_event=True)
        if level != "info":
            self._say(f"{level}: {event.text}")

    # the capture thread

    def _run_graph(self) -> None:
        # What was loaded stays: looking through it for garbage would hold all threads up for a tenth of a second.
        gc.collect()
        gc.freeze()
        try:
            self.runner.run(self._items())
        except BaseException as error:
            self._runner_error = error
        finally:
            gc.unfreeze()

    def _items(self) -> Iterator[Frame | MissingFrame]:
        """The source's frames; what befalls it becomes events."""
        self._warm_up()
        self.state = "running"
        for item in self.source:
            if isinstance(item, SourceEvent):
                self.note(_LEVELS.get(item.kind, "info"), f"camera_{item.kind}", item.detail, item.t_ns)
                continue
            self.newest_t_ns, self._newest_index = item.t_ns, item.index
            if isinstance(item, Frame):
                self.frames.put(item)
                if self.bus.wants_pictures():
                    self.bus.publish(
                        m.FramePicture(frame=item.index, field=item.field, t_ns=item.t_ns, image=pack(item.colour()))
                    )
            yield item

    def _warm_up(self) -> None:
        """Let the network see a few pictures before the camera runs: its first ones take long."""
        info = self.source.info
        blank = np.zeros((info.height_px, info.width_px), np.uint8 if (info.bit_depth or 8) <= 8 else np.uint16)
        for _ in range(_WARM_UP_FRAMES):
            list(self._detect.process(Frame(0, 0, blank)))

    def _publish_start(self) -> None:
        record = session_record(
            self.source.info, self.config, self.calibration, self._detect.model, self.options.command
        )
        if self.grading is not None:
            record["grade_model"] = self.grading.network
        if self.heads is not None:
            record["morphology_model"] = self.heads.record
        self.start = m.SessionStart(
            source=self.source.info, calibration=self.calibration, session=record | {"session_id": self.session_id}
        )
        self.bus.publish(self.start, also_event=True)

    # the caller's thread

    def run(self, abort: threading.Event) -> LiveResult:
        """The whole session."""
        self._start_children()
        if not self._wait_for_start():
            return self._end("interrupted", abort)
        self._wait_for_recorder()
        self._capture.start()
        status = self._watch()
        self.state = "stopping"
        self.source.stop()
        while self._capture.is_alive():
            self._capture.join(_TICK_S)
            self.children.look_after()
        return self._end(status, abort)

    def _start_children(self) -> None:
        options, config, endpoint = self.options, self.config, str(self.bus.endpoint)
        keys = ["--keys", str(options.keys)] if options.keys is not None else []
        if options.output is not None:
            live_ = config.live
            self.bus.expect(RECORDER, pictures=live_.video != "none")
            arguments = [
                "record",
                endpoint,
                "-o",
                str(options.output),
                "--name",
                RECORDER,
                "--video",
                live_.video,
                *keys,
            ]
            arguments += ["--segment", f"{live_.segment_s}s"] if live_.segment_s is not None else []
            arguments += ["--sync-interval-s", str(config.record.sync_interval_s)]
            arguments += [] if config.record.detections else ["--no-detections"]
            first = [*arguments, "--force"] if options.force else arguments
            self.children.start(RECORDER, first, again=arguments, max_restarts=live_.restarts)
        for work in (self.grading, self.heads):
            if work is not None:
                work.start_graders(self.children, endpoint, keys)
        if options.view:
            self.children.start(VIEWER, ["view", endpoint, *keys], max_restarts=3, niceness=_VIEWER_NICENESS)

    def _wait_for_start(self) -> bool:
        """With ``wait``, until a client says so; False where the session is stopped before."""
        while self.state == "waiting" and not self.go.is_set():
            if self.stop.wait(_TICK_S):
                return False
            self.children.look_after()
        self.state = "starting"
        return True

    def _wait_for_recorder(self) -> None:
        """A recorder that cannot even start ends the session before it has begun."""
        child = self.children.get(RECORDER)
        deadline = time.monotonic() + _JOIN_S
        while child is not None and not any(c.name == RECORDER and c.connected for c in self.bus.clients()):
            self.children.look_after()
            if child.state == "failed" or time.monotonic() > deadline:
                raise CasaError(f"the recorder did not start ({child.note or 'it does not answer'}); see above")
            if self.stop.is_set():
                return
            time.sleep(_TICK_S)

    def _watch(self) -> str:
        """Look after everything until the session is to end; gives how it ended."""
        duration_s = self.options.duration_s
        while self._capture.is_alive():
            begun = self.ledger.first_capture_ns
            if duration_s is not None and begun is not None and time.monotonic_ns() - begun >= duration_s * 1e9:
                return "complete"
            if self.stop.is_set():
                return "complete" if duration_s is None else "interrupted"
            if self.runner.failed:
                return "failed"
            self.bus.check()
            self.children.look_after()
            self.meter.tick(_METRICS_S)
            self.stop.wait(_TICK_S)
        return "complete"

    def _end(self, status: str, abort: threading.Event) -> LiveResult:
        error = self._runner_error
        if error is not None:
            reason = " ".join(str(error).split()) or type(error).__name__
            self.ledger.end_all_open(FrameStatus.FAILED, f"the session broke off: {reason}")
            self.note("error", "session_failed", reason)
            status = "failed"
        grading = None if self.grading is None else self.grading.finish(self.children, abort)
        heads = None if self.heads is None else self.heads.finish(self.children, abort)
        summary = self.kinematics.summary()
        latency = {"p50": self.ledger.latency.percentile_ms(50), "p99": self.ledger.latency.percentile_ms(99)}
        account = self.ledger.account()
        tracking = asdict(self._track.counters)
        self.meter.tick(0.0)
        self.bus.finish(
            lambda sent, left_out: m.SessionEnd(
                status=status,  # type: ignore[arg-type]
                account=account,
                summary=summary,
                latency_ms=latency,
                tracking=tracking,
                grading=grading,
                morphology=heads,
                sent=sent,
                left_out=left_out,
                reason="" if error is None else str(error)[:10_000],
            )
        )
        problem = self._wait_for_end_of_recorder(abort)
        self.bus.wait_written(2.0)
        self.state = "failed" if error is not None else "ended"
        if error is not None:
            raise error
        if problem:
            raise CasaError(problem)
        result = SessionResult(
            recording=self.options.output,
            status=status,
            account=account,
            summary=summary,
            fps_processed=rate_of(self.ledger),
            latency_ms=latency,
            cpu_ms_per_frame=self.runner.graph.cpu_ms_per_frame(),
            tracking=tracking,
            grading=None if grading is None else msgspec.to_builtins(grading),
            morphology=None if heads is None else msgspec.to_builtins(heads),
        )
        return LiveResult(result, self._reconciled(), dict(self.event_counts))

    def _wait_for_end_of_recorder(self, abort: threading.Event) -> str:
        """Wait until the recorder has completed the recording; what went wrong, or nothing."""
        child, output = self.children.get(RECORDER), self.options.output
        if child is None:
            return ""
        said, deaths = time.monotonic(), child.deaths
        while child.state in ("running", "restarting", "starting"):
            self.children.look_after()
            if abort.is_set():
                self.children.end(RECORDER, 1.0)
                return f"the recorder was broken off; `casa recover {output}` gets back what it had written"
            if child.deaths - deaths > _TRIES_AT_THE_END:
                break
            if time.monotonic() - said > 10:
                said = time.monotonic()
                queued = next((c.queued for c in self.bus.clients() if c.name == RECORDER), 0)
                self._say(f"the recorder is completing the recording ({queued} messages wait); Ctrl-C breaks it off")
            time.sleep(_TICK_S)
        if child.state != "stopped":
            return f"{child.note}; what was recorded is kept: `casa recover {output}`"
        return ""

    def _reconciled(self) -> dict[str, Any]:
        sent, left_out = self.bus.counts(RECORDER)
        sent.pop("session_end", None)
        left = self.bus.left(RECORDER)
        written = dict(left.written) if left is not None else {}
        agreed = None if left is None else written == sent
        return {"sent": sent, "left_out": left_out, "written": written, "reconciled": agreed}

    def close(self) -> None:
        """End everything that is left, in order."""
        self.stop.set()
        self.source.stop()
        if self._capture.is_alive():
            self._capture.join()
        self.children.end_all(3.0)
        self.bus.close()
