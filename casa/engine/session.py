"""The offline session: a source through the stages into a recording, lossless, every frame."""

from __future__ import annotations

import hashlib
import os
import platform
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from casa import __version__
from casa.calibrate.profile import check_fits
from casa.cells import Clip, GradeTable, HeadExam
from casa.config import Config
from casa.detect import DetectStage
from casa.engine.examining import MorphologyStage
from casa.engine.grading import GradeStage, clip_node
from casa.engine.publish import FramesUnderWay
from casa.errors import CasaError, InputError
from casa.graph.ledger import FrameEnd, Ledger
from casa.graph.runner import EdgePolicy, Node, SerialRunner, ThreadedRunner
from casa.kinematics import KinematicsStage
from casa.record import Recorder
from casa.record.clips import KeptClip
from casa.record.stage import Picture, RecordStage
from casa.sources import Source
from casa.track.stage import TrackStage
from casa.types import (
    Calibration,
    Detections,
    Frame,
    FrameAccount,
    FrameStatus,
    KinematicsTable,
    MissingFrame,
    SourceInfo,
    Summary,
    Tracks,
)


@dataclass(frozen=True, slots=True)
class SessionResult:
    """What a session came to.

    ``cpu_ms_per_frame`` is by stage and without the network's own threads; ``tracking`` the tracker's counts,
    ``grading`` and ``morphology`` what became of the clips, by the names of ``casa.bus.messages.GradingMetrics``; None
    without. ``failures``: a line on each network that gave numbers of no clip at all.
    """

    recording: Path | None
    status: str
    account: FrameAccount
    summary: Summary
    fps_processed: float | None
    latency_ms: dict[str, float | None]
    cpu_ms_per_frame: dict[str, float]
    tracking: dict[str, int]
    grading: dict[str, Any] | None = None
    morphology: dict[str, Any] | None = None
    failures: tuple[str, ...] = ()


class PictureStage:
    """Keeps one picture of the field every so often, for the report.

    The first one is a second into the recording, when tracks have formed; of a shorter one, the last.
    """

    def __init__(self, every_s: float) -> None:
        self._every_ns = round(every_s * 1e9)
        self._next_ns: int | None = None
        self._spare: Frame | None = None

    def open(self) -> None:
        """Nothing to acquire."""

    def process(self, item: Frame) -> Iterable[Picture]:
        """The frame's picture, when the next one is due."""
        if self._next_ns is None:
            self._next_ns = item.t_ns + min(self._every_ns, 10**9)
            self._spare = item
        if item.t_ns >= self._next_ns:
            self._next_ns = item.t_ns + self._every_ns
            self._spare = None
            yield Picture(item.index, item.t_ns, item.colour())
        elif self._spare is not None:
            self._spare = item

    def flush(self) -> Iterable[Picture]:
        """The last picture, where none was due before the end."""
        if self._spare is not None:
            yield Picture(self._spare.index, self._spare.t_ns, self._spare.colour())

    def close(self) -> None:
        """Nothing to release."""


def sha256_of(path: Path) -> str:
    """The hex sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def session_record(
    source: SourceInfo, config: Config, calibration: Calibration | None, model: Any, command: str
) -> dict[str, Any]:
    """Everything a recording says of how it came about, ready for JSON."""
    path = Path(source.uri)
    return {
        "casa_version": __version__,
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "source": asdict(source) | {"sha256": sha256_of(path) if path.is_file() else None},
        "config": config.model_dump(mode="json"),
        "calibration": asdict(calibration) if calibration else None,
        "model": asdict(model),
        "machine": {
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
            "platform": platform.platform(),
            "python": platform.python_version(),
        },
    }


def _with_progress(
    source: Iterable[Frame | MissingFrame], on_frame: Callable[[], None], frames: FramesUnderWay | None
) -> Iterator[Frame | MissingFrame]:
    for item in source:
        on_frame()
        if frames is not None and isinstance(item, Frame):
            frames.put(item)
        yield item


def replay(
    source: Source,
    output: Path,
    config: Config,
    calibration: Calibration | None = None,
    *,
    force: bool = False,
    stop: threading.Event | None = None,
    on_frame: Callable[[], None] = lambda: None,
    command: str = "",
    origin: str = "",
) -> SessionResult:
    """Analyse a source from end to end into the recording ``output``.

    Parameters
    ----------
    source : opened by ``casa.sources.open_source``; the caller closes it.
    output : the HDF5 recording; ``output.partial`` until it is complete.
    calibration : scale and chamber; without it results are in pixels.
    force : replace an output that exists.
    stop : set it to end early: what is under way is finished, and the recording says ``interrupted``.
    on_frame : called for each frame read.
    origin : what the recording names as its source, where ``source`` reads a copy of that.

    Raises
    ------
    InputError : the output exists, or the calibration does not fit the source.
    CasaError : a stage failed; the recording is closed, valid, and says ``failed``.
    """
    if calibration is not None:
        check_fits(calibration, source.info)
    stop = stop or threading.Event()
    recorder = Recorder(output, config.record, force=force)
    frame_size_px = source.info.width_px, source.info.height_px
    kinematics = KinematicsStage(config.kinematics, calibration, frame_size_px)
    detect = DetectStage(config.detect, frame_size_px=frame_size_px)
    track = TrackStage(config.track, frame_size_px, config.source.every_nth)
    grade = GradeStage(config) if config.grade.enabled else None
    heads = MorphologyStage(config, calibration, source.info) if config.morphology.enabled else None
    frames, cuts_clips = FramesUnderWay(), grade is not None or heads is not None

    def about() -> dict[str, Any]:
        record = session_record(source.info, config, calibration, detect.model, command)
        if origin:
            record["source"]["uri"] = origin
        record |= {} if grade is None else {"grade_model": grade.record}
        return record | ({} if heads is None else {"morphology_model": heads.record})

    recording = RecordStage(recorder, about)

    def ended(end: FrameEnd) -> None:
        frames.drop(end.index, end.field)
        recording.note_end(end.index, end.field, end.t_ns, end.status, end.reason)

    ledger = Ledger(ended)
    nodes = [
        Node("picture", PictureStage(config.record.thumbnail_every_s), ("source",), "source", (Frame,)),
        Node("detect", detect, ("source",), "detect", (Frame,), tolerant=True),
        Node("track", track, ("detect",), "track", (Detections,), tolerant=True),
        Node("kinematics", kinematics, ("track",), "track", (Tracks,)),
    ]
    if cuts_clips:
        nodes.append(clip_node(config, frames, calibration, source.info, "track"))
    of_clips = {name: stage for name, stage in (("grade", grade), ("morphology", heads)) if stage is not None}
    nodes += [Node(name, stage, ("clip",), name, (Clip,)) for name, stage in of_clips.items()]
    nodes.append(
        Node(
            "record",
            recording,
            ("picture", "detect", "track", "kinematics", *of_clips),
            "record",
            (Picture, Detections, Tracks, KinematicsTable, GradeTable, HeadExam, KeptClip),
            completes=True,
        )
    )
    every_nth = config.source.every_nth
    try:
        if config.graph.runner == "serial":
            runner: SerialRunner | ThreadedRunner = SerialRunner(nodes, ledger, every_nth)
        else:
            edges = {name: EdgePolicy(edge.policy, edge.depth) for name, edge in config.graph.edges.items()}
            runner = ThreadedRunner(nodes, ledger, every_nth, edges)
    except ValueError as error:
        raise InputError(f"graph: {error}") from error
    try:
        runner.run(_with_progress(source, on_frame, frames if cuts_clips else None), stop)
    except BaseException as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        ledger.end_all_open(FrameStatus.FAILED, f"the session broke off: {reason}")
        if recorder.is_open:
            with suppress(CasaError):  # a disk that is full stays full: the first error is the one to tell
                recording.write_ends()
                recorder.finish("failed", ledger.account(), None, None)
        raise
    summary = kinematics.summary()
    if getattr(source, "corrected_times", 0):  # of video files alone: only a container can tell wrong times
        summary = replace(summary, flags=(*summary.flags, "timestamps_repaired"))
    latency = {"p50": ledger.latency.percentile_ms(50), "p99": ledger.latency.percentile_ms(99)}
    status = "interrupted" if stop.is_set() else "complete"
    recording.write_ends()
    tracking = asdict(track.counters)
    more: dict[str, Any] = {"tracking": tracking}
    if grade is not None:
        more["grading"] = grade.counts()
    if heads is not None:
        more["examining"] = heads.counts()
    recorder.finish(status, ledger.account(), summary, latency, more)
    return SessionResult(
        recording=output,
        status=status,
        account=ledger.account(),
        summary=summary,
        fps_processed=rate_of(ledger),
        latency_ms=latency,
        cpu_ms_per_frame=runner.graph.cpu_ms_per_frame(),
        tracking=tracking,
        grading=more.get("grading"),
        morphology=more.get("examining"),
        failures=tuple(line for stage in (grade, heads) if stage is not None and (line := stage.failure) is not None),
    )


def rate_of(ledger: Ledger) -> float | None:
    """Frames over the wall time from the first frame decoded to the last one recorded."""
    if ledger.first_capture_ns is None or ledger.last_end_ns is None or ledger.last_end_ns <= ledger.first_capture_ns:
        return None
    return ledger.account().captured / ((ledger.last_end_ns - ledger.first_capture_ns) / 1e9)
