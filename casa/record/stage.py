"""The recorder as a stage: writes what flows past, and what became of each frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from casa.cells import GradeTable, HeadExam
from casa.record.clips import KeptClip
from casa.record.writer import Recorder
from casa.types import Detections, FrameStatus, KinematicsTable, Tracks


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One picture of the field to keep: (h, w) or (h, w, 3) RGB, of frame ``frame_index``."""

    frame_index: int
    t_ns: int
    image: NDArray[Any]


class RecordStage:
    """Writes what stages give; gives each frame's Tracks on once they are written.

    Opening it opens ``recorder`` with what ``session`` then gives. It leaves the recorder open when it is
    closed: how a session ended is known only after all stages are.
    """

    def __init__(self, recorder: Recorder, session: Callable[[], dict[str, Any]]) -> None:
        self._recorder = recorder
        self._session = session
        self._ends: deque[tuple[int, int, int, FrameStatus, str]] = deque()

    def note_end(self, index: int, field: int, t_ns: int, status: FrameStatus, reason: str) -> None:
        """Remember what became of a frame; called from any thread, written by this stage's own."""
        self._ends.append((index, field, t_ns, status, reason))

    def write_ends(self) -> None:
        """Write the frame ends noted so far."""
        while self._ends:
            self._recorder.frame(*self._ends.popleft())

    def open(self) -> None:
        """Create the recording."""
        self._recorder.open(self._session())

    def process(
        self, item: Picture | Detections | Tracks | KinematicsTable | GradeTable | HeadExam | KeptClip
    ) -> Iterable[Tracks]:
        """Write one item. Raises CasaError when the disk does not take it."""
        self.write_ends()
        match item:
            case Tracks():
                self._recorder.tracks(item)
                yield item
            case Detections():
                self._recorder.detections(item)
            case KinematicsTable():
                self._recorder.kinematics(item)
            case GradeTable():
                self._recorder.grades(item)
            case HeadExam():
                self._recorder.head(item)
            case KeptClip():
                self._recorder.clip(item)
            case Picture():
                self._recorder.picture(item.frame_index, item.t_ns, item.image)

    def flush(self) -> Iterable[Tracks]:
        """Write the frame ends that are left."""
        self.write_ends()
        return ()

    def close(self) -> None:
        """The recorder is finished by the engine, which knows how the session ended."""
