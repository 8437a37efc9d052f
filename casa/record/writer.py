"""The recorder: writes a journal first, then HDF5 that others can read meanwhile; at the end one packed file.

``RUN.h5.journal`` gets each message as it comes, ``RUN.h5.partial`` (SWMR) gets them in batches twice a second. A
clean end packs the journal into ``RUN.h5`` and removes both. Memory does not grow with the session's length.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from casa.cells import GradeTable, HeadExam
from casa.config import RecordConfig
from casa.errors import CasaError, InputError
from casa.record.clips import KeptClip, clip_payload
from casa.record.files import RecordingFiles, is_disk_full, sync_folder, write_error
from casa.record.hdf5 import TableFile, json_text
from casa.record.heads import head_payload
from casa.record.journal import PICTURE_HEAD, JournalWriter, Kind
from casa.record.pack import pack
from casa.record.png import encode_png
from casa.record.resume import Found
from casa.record.schema import (
    RUN_STATUSES,
    detection_rows,
    event_row,
    frame_row,
    grade_rows,
    kinematics_rows,
    track_rows,
    video_row,
)
from casa.types import Detections, FrameAccount, FrameStatus, KinematicsTable, Summary, Tracks

_FLUSH_INTERVAL_S = 0.5


class Recorder:
    """Writes one recording. Not for use from several threads at once.

    ``open`` creates the files; then any of ``frame``, ``detections``, ``tracks``, ``kinematics``, ``picture``,
    ``clip``, ``grades``, ``head`` in any order; ``finish`` completes the recording. As a context manager it calls
    ``abort`` where ``finish`` was not reached.

    Parameters
    ----------
    path : the recording to make, ``RUN.h5``.
    config : what is kept and how often it is synced.
    force : replace a recording, or what a crash left of one. The old one stays until the new one is complete.

    Raises
    ------
    InputError : the recording exists, lies there unfinished, is being written, or its folder does not exist.
    CasaError : a write failed (by any method); the recording is closed then and what it got can be recovered.
    """

    def __init__(self, path: Path | str, config: RecordConfig | None = None, force: bool = False) -> None:
        self._files = RecordingFiles(Path(path))
        self._config = config or RecordConfig()
        self._force = force
        self._files.check_free(force=force)
        self._journal: JournalWriter | None = None
        self._tables: TableFile | None = None
        self._flushed_at = 0.0
        self._counts = dict.fromkeys(FrameStatus, 0)

    @property
    def is_open(self) -> bool:
        """Between ``open`` and ``finish``, ``abort`` or a failed write."""
        return self._journal is not None

    def open(self, session: dict[str, Any]) -> None:
        """Create the files. ``session`` (JSON) says how the recording came about; docs/recording.md lists its keys."""
        if self.is_open:
            raise CasaError(f"{self._files.final}: the recorder is open already")
        self._files.check_free(force=self._force)
        recording_id = uuid.uuid4().hex
        try:
            for path in (self._files.journal, self._files.partial, self._files.packing):
                path.unlink(missing_ok=True)
            self._journal = JournalWriter(self._files.journal, self._config.sync_interval_s)
            head = json_text({"recording_id": recording_id, "session": session})
            self._journal.append(Kind.SESSION, head.encode())
            self._journal.sync()
            attributes = {"status": "recording", "recording_id": recording_id, "session": json_text(session)}
            self._tables = TableFile(self._files.partial, attributes, live=True)
            sync_folder(self._files.final.parent)
        except (OSError, RuntimeError) as error:
            self._give_up()
            for path in (self._files.journal, self._files.partial):
                path.unlink(missing_ok=True)
            what = "the disk is full" if is_disk_full(error) else f"cannot be created ({' '.join(str(error).split())})"
            raise CasaError(f"{self._files.final}: {what}; make room, or give another place") from error
        self._flushed_at = time.monotonic()

    def resume(self, found: Found) -> None:
        """Go on with a recording whose writer died; what it wrote after the last ``mark`` is cut off.

        Raises
        ------
        InputError : another process is writing it. CasaError : it cannot be written.
        """
        if self.is_open:
            raise CasaError(f"{self._files.final}: the recorder is open already")
        try:
            self._journal = JournalWriter(
                self._files.journal, self._config.sync_interval_s, (found.n_records, found.n_bytes)
            )
            for path in (self._files.partial, self._files.packing):
                path.unlink(missing_ok=True)
            attributes = {
                "status": "recording",
                "recording_id": found.recording_id,
                "session": json_text(found.session),
            }
            self._tables = TableFile(self._files.partial, attributes, live=True)
            found.fill(self._files.journal, self._tables)
            self._tables.flush()
        except BlockingIOError:
            raise InputError(f"{self._files.final}: is being written by another process; give another name") from None
        except (OSError, RuntimeError) as error:
            raise self._failed(error) from error
        self._counts = {status: found.ends.get(status, 0) for status in FrameStatus}
        self._flushed_at = time.monotonic()

    def mark(self, state: dict[str, Any]) -> None:
        """A point from which ``resume`` goes on; ``state`` (JSON) is the caller's, and comes back with it."""
        self._write(Kind.WRITTEN, json_text(state).encode(), lambda tables: None)

    def event(self, t_ns: int, frame: int, level: str, kind: str, text: str, utc: str) -> None:
        """Something that happened: ``level`` is info, warning or error, ``kind`` one word."""
        self._write_rows(Kind.EVENT, "events", event_row(t_ns, frame, level, kind, text, utc))

    def video(self, frame: int, field: int, t_ns: int, part: int, video_frame: int) -> None:
        """A frame is picture number ``video_frame`` of the video file ``part``."""
        self._write_rows(Kind.VIDEO, "video", video_row(frame, field, t_ns, part, video_frame))

    def frame(self, index: int, field: int, t_ns: int, status: FrameStatus, reason: str = "") -> None:
        """What became of a captured frame; each is told once."""
        self._write_rows(Kind.FRAME, "frames", frame_row(index, field, t_ns, FrameStatus(status), reason))
        self._counts[FrameStatus(status)] += 1

    def detections(self, d: Detections) -> None:
        """What was found in a frame; left out where the configuration says so."""
        if self._config.detections and len(d):
            self._write_rows(Kind.DETECTIONS, "detections", detection_rows(d))

    def tracks(self, t: Tracks) -> None:
        """The tracks put out for a frame."""
        if len(t):
            self._write_rows(Kind.TRACKS, "tracks", track_rows(t))

    def kinematics(self, k: KinematicsTable) -> None:
        """The rows of tracks that have ended."""
        if len(k):
            self._write_rows(Kind.KINEMATICS, "kinematics", kinematics_rows(k))

    def picture(self, index: int, t_ns: int, image: NDArray[Any]) -> None:
        """A picture of the field to keep: (h, w) or (h, w, 3) RGB, uint8 or uint16."""
        png = encode_png(image)
        self._write(Kind.PICTURE, PICTURE_HEAD.pack(index, t_ns) + png, lambda t: t.add_picture(index, t_ns, png))

    def clip(self, kept: KeptClip) -> None:
        """A clip to keep. Raises ValueError where it has another form than casa's own."""
        payload = clip_payload(kept)
        self._write(Kind.CLIP, payload, lambda tables: tables.add_clip(payload))

    def grades(self, g: GradeTable) -> None:
        """Expert grades that a network gave to clips, whether these are kept or not."""
        if len(g):
            self._write_rows(Kind.GRADE, "grades", grade_rows(g))

    def head(self, exam: HeadExam) -> None:
        """What was found of the head in a clip. Raises ValueError where it has another form than casa's own."""
        payload = head_payload(exam)
        self._write(Kind.MORPHOLOGY, payload, lambda tables: tables.add_head(payload))

    def counted(self) -> FrameAccount:
        """The account of the frames that were told."""
        counts = {str(name): n for name, n in self._counts.items()}
        return FrameAccount(captured=sum(counts.values()), **counts)

    def finish(
        self,
        status: str,
        account: FrameAccount,
        summary: Summary | None = None,
        latency: dict[str, Any] | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        """Complete the recording: ``path`` is there alone afterwards.

        ``status`` is "complete", "interrupted" or "failed"; ``latency`` is kept as it is given (JSON), and what is in
        ``more`` becomes further attributes (JSON).
        """
        if status not in RUN_STATUSES:
            raise ValueError(f"status: expected one of {', '.join(RUN_STATUSES)}, got {status!r}")
        journal, tables = self._parts()
        closing = {
            "status": status,
            "account": asdict(account),
            "summary": None if summary is None else asdict(summary),
            "latency": latency,
            **(more or {}),
        }
        try:
            journal.append(Kind.FINISH, json_text(closing).encode())
            journal.sync()
            tables.close()
            complete(self._files)
        except (OSError, RuntimeError) as error:
            raise self._failed(error) from error
        finally:
            self._give_up()

    def abort(self, status: str = "failed") -> None:
        """Complete the recording without a summary, with the account of the frames that were told."""
        self.finish(status, self.counted(), None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.is_open:
            return
        stopped = kind is None or issubclass(kind, KeyboardInterrupt)
        try:
            self.abort("interrupted" if stopped else "failed")
        except CasaError:
            if kind is None:
                raise

    def _parts(self) -> tuple[JournalWriter, TableFile]:
        if self._journal is None or self._tables is None:
            raise CasaError(f"{self._files.final}: the recorder is not open")
        return self._journal, self._tables

    def _write_rows(self, kind: Kind, table: str, rows: NDArray[Any]) -> None:
        payload = rows.tobytes()
        self._write(kind, payload, lambda tables: tables.add(table, payload))

    def _write(self, kind: Kind, payload: bytes, add: Callable[[TableFile], None]) -> None:
        journal, tables = self._parts()
        try:
            journal.append(kind, payload)
            add(tables)
            if time.monotonic() - self._flushed_at >= _FLUSH_INTERVAL_S:
                tables.flush()
                self._flushed_at = time.monotonic()
        except (OSError, RuntimeError) as error:
            raise self._failed(error) from error

    def _failed(self, error: BaseException) -> CasaError:
        """Close what is open and make room: the journal alone is enough to recover from."""
        self._give_up()
        self._files.partial.unlink(missing_ok=True)
        return write_error(self._files, error)

    def _give_up(self) -> None:
        if self._tables is not None:
            self._tables.abandon()
            self._tables = None
        if self._journal is not None:
            journal, self._journal = self._journal, None
            try:
                journal.close()
            except OSError:
                pass  # the first error is the one to tell


def complete(files: RecordingFiles) -> None:
    """Pack a journal that has its end into the finished recording, and remove what it was made from.

    Raises OSError or RuntimeError where it cannot be written, or the journal reads back damaged.
    """
    try:
        packed = pack(files.journal, files.packing)
    except (OSError, RuntimeError) as error:
        if not is_disk_full(error):
            raise
        # what the live file holds is in the journal too: its room may be all that is missing
        files.partial.unlink(missing_ok=True)
        packed = pack(files.journal, files.packing)
    damage = packed.damage
    if damage.torn_bytes or damage.corrupt_bytes or damage.lost_records:
        files.packing.unlink(missing_ok=True)
        raise OSError(f"the journal reads back damaged: {damage.corrupt_bytes + damage.torn_bytes} bytes")
    os.replace(files.packing, files.final)
    sync_folder(files.final.parent)
    files.partial.unlink(missing_ok=True)
    files.journal.unlink(missing_ok=True)
