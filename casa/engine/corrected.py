"""A recording with the corrections that were made by hand in the viewer, and the figures of the corrected tracks.

Nothing in the file changes: the corrections lie beside it (docs/viewer.md), each with who made it, and when.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from casa.engine.refined import open_with as open_offline
from casa.errors import InputError
from casa.record import Recording
from casa.types import KinematicsTable, Summary, TrackTable
from casa.viewer.corrections import SPERM, CorrectionLog, apply_corrections, corrections_path, user_name
from casa.viewer.session import Figures, corrected_figures, load_session


class CorrectedRecording(Recording):
    """A recording whose tracks, kinematics and summary are those after the corrections beside it.

    Deleted tracks and debris are left out. ``session["tracks"]`` is "corrected", and ``session["corrections"]`` counts
    the corrections that hold by kind, and the lines of the audit.

    Raises
    ------
    InputError : also where the corrections are of another recording, or a line was changed or removed.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        try:
            log = CorrectionLog(corrections_path(Path(path)), self.recording_id, user_name())
        except BaseException:
            self.close()
            raise
        self._changes = log.active
        told = {"changes": dict(Counter(entry.action for entry in log.active)), "audit_lines": len(log.entries)}
        self.session: dict[str, Any] = self.session | {"tracks": "corrected", "corrections": told}

    def tracks(self, frames: slice | None = None) -> TrackTable:
        """Corrected tracks, sorted by time, frame and track id; ``frames`` chooses frame numbers."""
        table = self._corrected
        if frames is None:
            return table
        keep = np.ones(len(table), bool)
        if frames.start is not None:
            keep &= table.frame >= frames.start
        if frames.stop is not None:
            keep &= table.frame < frames.stop
        return table.select(keep)

    def kinematics(self) -> KinematicsTable:
        """Kinematics of the corrected tracks, sorted by track id."""
        return self._figures.kinematics

    def summary(self) -> Summary | None:
        """The figures of the field from the corrected tracks; None where the recording has none."""
        return None if super().summary() is None else self._figures.summary

    @cached_property
    def _corrected(self) -> TrackTable:
        table = super().tracks()
        measured = ~np.isnan(table.x_measured_px)
        found = apply_corrections(self._changes, table.track_id, table.frame, table.field, measured)
        table = replace(table, track_id=found.track_id).select(found.kind == SPERM)
        return table.select(np.lexsort((table.track_id, table.field, table.frame, table.t_ns)))

    @cached_property
    def _figures(self) -> Figures:
        return corrected_figures(load_session(self.path), self._changes)


def _open_where_corrected(path: Path | str, wanted: bool | None) -> Recording:
    file = corrections_path(Path(path))
    if not file.is_file():
        if wanted:
            raise InputError(f"--corrected: there are no corrections ({file.name}) beside {path}")
        return Recording(path)
    corrected = CorrectedRecording(path)
    if wanted or corrected.session["corrections"]["changes"]:
        return corrected
    corrected.close()
    return Recording(path)


def open_with(offline: bool, corrected: bool | None) -> Any:
    """What opens a recording: as it is, refined, or with the corrections beside it (None: where there are any).

    Raises InputError where both are asked for: corrections are of the online tracks.
    """
    if offline and corrected:
        raise InputError("--offline and --corrected: corrections are of the online tracks; leave one out")
    if offline or corrected is False:
        return open_offline(offline)
    return partial(_open_where_corrected, wanted=corrected)


def tracks_of(path: Path, offline: bool, corrected: bool | None) -> str:
    """Which tracks ``open_with`` gives of this recording: online, refined or corrected."""
    with open_with(offline, corrected)(path) as recording:
        return str(recording.session.get("tracks", "online"))
