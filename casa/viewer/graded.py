"""Grades of a recording's tracks, and the clips of those that are looked at, read in a thread. Knows no Qt."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np

from casa.cells import GradeTable
from casa.errors import CasaError
from casa.record import Recording
from casa.record.clips import KeptClip
from casa.types import FloatArray, IntArray

_KEPT = 8


class GradedTracks:
    """What a network said of each track.

    Parameters
    ----------
    grades : all of the recording. clip_tracks : of which tracks clips are kept.
    """

    def __init__(self, path: Path, grades: GradeTable, clip_tracks: IntArray) -> None:
        self._path, self._grades = path, grades
        self._last = {int(key): row for row, key in enumerate(grades.track_id.tolist())}  # by clip ids, so by time
        self._number = {int(key): number for number, key in enumerate(clip_tracks.tolist())}
        self._clips: OrderedDict[int, KeptClip | None] = OrderedDict()
        self._thread: threading.Thread | None = None

    def grades_of(self, track_id: int) -> tuple[FloatArray, FloatArray] | None:
        """The last distribution (5,) of a track and its parts (3, 5); None where it was not graded."""
        row = self._last.get(track_id)
        if row is None:
            return None
        g = self._grades
        return g.distribution[row], np.stack([g.part_global[row], g.part_spatial[row], g.part_temporal[row]])

    def clip_of(self, track_id: int) -> KeptClip | None:
        """The track's clip; None where none is kept, and until it has been read."""
        if track_id in self._clips or track_id not in self._number:
            return self._clips.get(track_id)
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._read, args=(track_id,), name="casa-view-clip", daemon=True)
            self._thread.start()
        return None

    def close(self) -> None:
        """Wait for what is being read."""
        if self._thread is not None:
            self._thread.join(5)

    def _read(self, track_id: int) -> None:
        try:
            with Recording(self._path) as recording:
                found = recording.clips([self._number[track_id]])[0]
        except (CasaError, IndexError):
            found = None  # the grades are shown without it
        self._clips[track_id] = found
        while len(self._clips) > _KEPT:
            self._clips.popitem(last=False)
