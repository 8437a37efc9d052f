"""What a live recorder writes into: one recording, or one after another, with the video beside; going on after a death.

Each recording is valid by itself: it has the session, an account of its own frames and its own part of the video.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from casa.bus import messages as m
from casa.bus.convert import clip_of, detections_of, exam_of, grades_of, kinematics_of, tracks_of
from casa.config import RecordConfig
from casa.errors import CasaError, InputError
from casa.record.clips import KeptClip
from casa.record.files import RecordingFiles, segment_path, write_error
from casa.record.pack import BROKEN_OFF
from casa.record.reader import Recording
from casa.record.resume import Found, look
from casa.record.video import VideoWriter
from casa.record.writer import Recorder, complete
from casa.types import FrameAccount, FrameStatus

Video = Literal["none", "lossless", "mjpeg"]
_STATUSES = tuple(str(status) for status in FrameStatus)


@dataclass(frozen=True, slots=True)
class Left:
    """What an earlier recorder of a session left: it had written everything up to ``sequence``."""

    session_id: str
    sequence: int
    number: int
    found: Found | None
    ended: bool = False


class Segments:
    """Writes messages; ``begin`` or ``resume`` first, then ``write`` and ``mark``, at last ``finish``.

    Parameters
    ----------
    output : RUN.h5; with ``segment_s``, recordings are RUN.0001.h5, RUN.0002.h5, …, each of about that length.
    """

    def __init__(
        self, output: Path, config: RecordConfig, *, video: Video, segment_s: float | None, force: bool
    ) -> None:
        self._output = output
        self._config = config
        self._codec = video
        self._segment_ns = None if segment_s is None else round(segment_s * 1e9)
        self._force = force
        self._number = 1
        self._begun_ns: int | None = None
        self._recorder: Recorder | None = None
        self._video: VideoWriter | None = None
        self._video_files: dict[int, str] = {}
        self._source: dict[str, Any] = {}
        self._session: dict[str, Any] = {}
        self._session_id = ""
        self._gap_ends: Counter[str] = Counter()
        self._open_frames: dict[tuple[int, int], int] = {}  # rows written, end to come
        self.sequence = -1
        self.t_ns = 0
        self.written: Counter[str] = Counter()
        self.finished: list[Path] = []

    def _path(self, number: int) -> Path:
        if self._segment_ns is None:
            return self._output
        return segment_path(self._output, number)

    def left_behind(self) -> Left | None:
        """What an earlier recorder left under this name, where that can be gone on with; None with ``force``.

        Raises InputError where a process is writing it.
        """
        if self._force:
            return None
        number = 1
        while self._segment_ns is not None and self._exists(number + 1):
            number += 1
        files = RecordingFiles(self._path(number))
        found = look(files.journal)
        if found is not None and "session_id" in found.session:
            state = found.state
            ended = found.finished and bool(state.get("ended"))
            return Left(found.session["session_id"], int(state.get("sequence", -1)), number, found, ended)
        if found is None and files.final.is_file() and not files.journal.exists():
            try:
                with Recording(files.final) as recording:
                    bus = recording.bus or {}
            except InputError:
                return None
            if bus.get("session_id"):
                return Left(bus["session_id"], int(bus["sequence"]), number, None, bool(bus.get("ended")))
        return None

    def _exists(self, number: int) -> bool:
        files = RecordingFiles(self._path(number))
        return files.final.exists() or files.journal.exists()

    def begin(self, start: m.SessionStart, session_id: str) -> None:
        """Open the first recording. Raises InputError where one exists."""
        self._session, self._session_id = start.session | {"session_id": session_id}, session_id
        self._source = asdict(start.source)
        self._open()

    def resume(self) -> None:
        """Go on with what ``left_behind`` gave."""
        left = self.left_behind()
        if left is None:
            raise CasaError(f"{self._output}: what an earlier recorder left has gone")
        self._number, self._session_id, self.sequence = left.number, left.session_id, left.sequence
        files = RecordingFiles(self._path(left.number))
        if left.found is None or left.found.finished:
            self._resume_finished(files, left)
            return
        found = left.found
        self._session = {name: value for name, value in found.session.items() if name != "segment"}
        self._restore(found.state)
        self._recorder = Recorder(files.final, self._config, force=True)
        self._recorder.resume(found)

    def _resume_finished(self, files: RecordingFiles, left: Left) -> None:
        """The recorder died behind the end of a recording: complete it, and begin the next one with the next frame."""
        if left.found is not None:
            try:
                complete(files)
            except (OSError, RuntimeError) as error:
                raise write_error(files, error) from error
        with Recording(files.final) as recording:
            self._session = {n: v for n, v in recording.session.items() if n != "segment"}
            state = recording.bus or {}
        self._restore(state)
        self.finished.append(files.final)
        self._next_segment()

    def _restore(self, state: dict[str, Any]) -> None:
        self.written = Counter(state.get("written") or {})
        self._gap_ends = Counter(state.get("gap_ends") or {})
        self._begun_ns = state.get("begun_ns")
        self.t_ns = int(state.get("t_ns", 0))
        self._video_files = {int(part): name for part, name in (state.get("video_files") or {}).items()}
        self._source = self._session.get("source", {})

    def _open(self) -> None:
        path = self._path(self._number)
        session = self._session if self._segment_ns is None else self._session | {"segment": {"number": self._number}}
        recorder = Recorder(path, self._config, force=self._force)
        recorder.open(session)
        self._recorder = recorder

    def write(self, sequence: int, message: Any) -> None:
        """Write one message. Raises CasaError where the disk does not take it."""
        self.sequence = sequence
        if isinstance(message, m.SessionEnd):
            return  # ``finish`` takes it
        if self._recorder is None and not isinstance(message, m.SessionStart):
            self._open()
        handle = self._HANDLERS.get(type(message))
        if handle is not None:
            handle(self, message)
        self.written[m.type_of(message)] += 1
        if isinstance(message, m.FrameEnd):
            self._end_segment_when_due(message.t_ns)

    def event(self, message: m.SessionEvent) -> None:
        """Write an event of the recorder's own."""
        if self._recorder is None:
            self._open()
        self._event(message)

    def mark(self) -> None:
        """Everything up to the last message is written: a recorder that comes after goes on behind it."""
        if self._recorder is not None:
            self._recorder.mark(self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "session_id": self._session_id,
            "sequence": self.sequence,
            "written": dict(self.written),
            "gap_ends": dict(self._gap_ends),
            "begun_ns": self._begun_ns,
            "t_ns": self.t_ns,
            "video_files": self._video_files,
        }

    def finish(self, status: str, end: m.SessionEnd | None) -> bool | None:
        """Complete the last recording; whether the counts of engine and recorder agree (None where it said nothing)."""
        reconciled = None if end is None else Counter(end.sent) == self.written
        if self._recorder is None and end is not None and not self.finished:
            self._open()
        if self._recorder is not None:
            for (index, field), t_ns in self._open_frames.items():
                self._recorder.frame(index, field, t_ns, FrameStatus.FAILED, BROKEN_OFF)
            self._finish(status, end, reconciled)
        return reconciled

    def _finish(self, status: str, end: m.SessionEnd | None, reconciled: bool | None) -> None:
        recorder = self._open_recorder()
        if self._video is not None:
            self._video.close()
            self._video = None
        mine = recorder.counted()
        lost = {name: self._gap_ends[name] for name in _STATUSES}
        account = FrameAccount(
            captured=mine.captured + sum(lost.values()),
            **{name: getattr(mine, name) + lost[name] for name in _STATUSES},
        )
        bus = self._state() | {
            "sent": None if end is None else end.sent,
            "left_out": None if end is None else end.left_out,
            "reconciled": reconciled,
            "ended": end is not None,
            "engine_account": None if end is None else asdict(end.account),
        }
        more: dict[str, Any] = {"bus": bus}
        if self._video_files:
            more["video"] = {"codec": self._codec, "files": self._video_files}
        if self._segment_ns is not None:
            more["segment"] = {"number": self._number}
        # the engine's figures are of the whole session: of a part of it they would be wrong
        summary = end.summary if end is not None and account == end.account else None
        if end is not None and account == end.account:
            more["tracking"] = end.tracking
            if end.grading is not None:
                more["grading"] = msgspec.to_builtins(end.grading)
            if end.morphology is not None:
                more["examining"] = msgspec.to_builtins(end.morphology)
        recorder.finish(status, account, summary, end.latency_ms if end is not None else None, more)
        self.finished.append(self._path(self._number))
        self._recorder = None

    def _end_segment_when_due(self, t_ns: int) -> None:
        self.t_ns = t_ns
        if self._begun_ns is None:
            self._begun_ns = t_ns
        if self._segment_ns is not None and t_ns - self._begun_ns >= self._segment_ns:
            self._finish("complete", None, None)
            self._next_segment()

    def _next_segment(self) -> None:
        self._number += 1
        self._begun_ns = None
        self._video_files = {}
        self._gap_ends.clear()

    def _open_recorder(self) -> Recorder:
        if self._recorder is None:
            raise CasaError(f"{self._output}: the recording is not open")
        return self._recorder

    def _frame_end(self, message: m.FrameEnd) -> None:
        self._open_frames.pop((message.frame, message.field), None)
        self._open_recorder().frame(
            message.frame, message.field, message.t_ns, FrameStatus(message.status), message.reason
        )

    def _detections(self, message: m.DetectionsMessage) -> None:
        self._open_frames[message.frame, message.field] = message.t_ns
        self._open_recorder().detections(detections_of(message))

    def _tracks(self, message: m.TracksMessage) -> None:
        self._open_frames[message.frame, message.field] = message.t_ns
        self._open_recorder().tracks(tracks_of(message))

    def _kinematics(self, message: m.KinematicsMessage) -> None:
        self._open_recorder().kinematics(kinematics_of(message))

    def _clip(self, message: m.ClipMessage) -> None:
        self._open_recorder().clip(KeptClip(*clip_of(message)))

    def _grades(self, message: m.GradesMessage) -> None:
        self._open_recorder().grades(grades_of(message))

    def _morphology(self, message: m.MorphologyMessage) -> None:
        told = (self._session.get("morphology_model") or {}).get("class_names")
        names = tuple(map(str, told or message.classes))
        self._open_recorder().head(exam_of(message, names))

    def _picture(self, message: m.PictureMessage) -> None:
        self._open_recorder().picture(message.frame, message.t_ns, message.image.numpy())

    def _event(self, message: m.SessionEvent) -> None:
        self._open_recorder().event(message.t_ns, message.frame, message.level, message.kind, message.text, message.utc)

    def _gap(self, message: m.Gap) -> None:
        self._gap_ends.update({name: getattr(message.ends, name) for name in _STATUSES})
        if message.ends.captured:
            self._open_frames.clear()  # the end of a frame with rows is among those left out
        counts = ", ".join(f"{n} {kind}" for kind, n in sorted(message.counts.items()))
        text = f"the recorder was too slow, messages were left out: {counts}"
        self._open_recorder().event(self.t_ns, -1, "error", "gap", text, "")

    def _frame(self, message: m.FramePicture) -> None:
        if self._codec == "none":
            return
        if self._video is None:
            self._open_video()
        assert self._video is not None
        number = self._video.add(message.t_ns, message.image.numpy())
        part = max(self._video_files)
        self._open_recorder().video(message.frame, message.field, message.t_ns, part, number)

    def _open_video(self) -> None:
        part = max(self._video_files, default=0) + 1
        path = self._path(self._number)
        file = path.with_suffix(".mkv" if part == 1 else f".part{part}.mkv")
        if self._force:
            file.unlink(missing_ok=True)
        white = self._source.get("white_level") or 255
        self._video = VideoWriter(file, self._codec, float(self._source.get("fps_hz") or 50), white)  # type: ignore[arg-type]
        self._video_files[part] = file.name

    _HANDLERS: ClassVar[dict[type, Callable[..., None]]] = {
        m.FrameEnd: _frame_end,
        m.DetectionsMessage: _detections,
        m.TracksMessage: _tracks,
        m.KinematicsMessage: _kinematics,
        m.PictureMessage: _picture,
        m.ClipMessage: _clip,
        m.GradesMessage: _grades,
        m.MorphologyMessage: _morphology,
        m.SessionEvent: _event,
        m.Gap: _gap,
        m.FramePicture: _frame,
    }
