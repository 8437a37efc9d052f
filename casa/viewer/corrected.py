"""The tracks of a recording before and after corrections, and the making of corrections. Knows no Qt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from casa.errors import CasaError, InputError
from casa.viewer.corrections import CorrectionLog, Entry, corrections_path
from casa.viewer.session import Figures, Session, TrackIndex, corrected_figures, original_figures

COMPUTING = "computing the corrected figures"


class CorrectedTracks:
    """Tracks and figures as recorded and as corrected.

    Ids and colours follow a correction at once; kinematics and the summary are computed again in a thread, and take
    the place of the earlier ones when they are ready (``busy`` says so).

    Parameters
    ----------
    session : the recording. who : written into every line of the audit.
    corrected : attribute; whether ``current`` gives the corrected tracks.
    error : attribute; one line on why the corrections cannot be used, "" where they can.
    """

    def __init__(self, session: Session, who: str) -> None:
        self.session = session
        self.corrected, self.busy, self.error = True, "", ""
        figures = original_figures(session)
        self._original = (TrackIndex(session, [], figures), figures)
        self._index, self._figures = self._original
        self._generation, self._computed = 0, 0
        self._worker: threading.Thread | None = None
        self._closed = False
        self.log: CorrectionLog | None = None
        try:
            self.log = CorrectionLog(corrections_path(session.path), session.recording_id, who)
            if self.log.active:
                self._follow(TrackIndex(session, self.log.active, figures))
        except CasaError as error:
            self.log, self.error = None, str(error)

    @property
    def current(self) -> tuple[TrackIndex, Figures]:
        """What is to be shown."""
        return (self._index, self._figures) if self.corrected else self._original

    @property
    def original(self) -> tuple[TrackIndex, Figures]:
        """As recorded."""
        return self._original

    @property
    def marks(self) -> list[Entry]:
        """Marked moments."""
        return self.log.marks if self.log else []

    def mark(self, step: int, t_s: float, note: str) -> str:
        """Mark a step, or remove its mark where it has one; what was done, in a line."""
        log, steps = self._usable_log(), self.session.steps
        frame, field = int(steps.frame[step]), int(steps.field[step])
        for entry in log.marks:
            if (entry.arguments["frame"], entry.arguments["field"]) == (frame, field) and not note:
                log.add("unmark", {"of": entry.number})
                return f"mark removed from frame {frame}{log.warning}"
        log.add("mark", {"frame": frame, "field": field, "t_s": round(t_s, 6), "note": note})
        return f"frame {frame} marked" + (f": {note}" if note else "") + log.warning

    def correct(self, action: str, arguments: dict[str, Any]) -> str:
        """Join, split, delete or mark as debris; what was done, in a line.

        Raises
        ------
        InputError : it makes no sense of these tracks. CasaError : it cannot be written down (then it is not done).
        """
        log, steps = self._usable_log(), self.session.steps
        if not self.corrected:
            raise InputError("the tracks as recorded are shown: press O for the corrected ones, then correct them")
        track, other = int(arguments["track"]), int(arguments.get("with", -1))
        if action == "split":
            arguments = arguments | {"new_track": self._new_id(log)}
        new_track = int(arguments.get("new_track", -1))
        old = self._index.describe(track, steps) | self._index.describe(other, steps)
        if action == "debris" and old.get(str(track), {}).get("kind") == "debris":
            raise InputError(f"track {track} is debris already")
        draft = Entry(0, "", "", action, arguments, {}, {}, "", "")
        after = TrackIndex(self.session, [*log.active, draft], self._figures)
        new = after.describe(track, steps) | after.describe(new_track, steps)
        log.add(action, arguments, {"tracks": old}, {"tracks": new})
        self._follow(after)
        said = {
            "join": f"tracks {track} and {other} joined as {track}",
            "split": f"track {track} split: from here on it is {new_track}",
            "delete": f"track {track} deleted",
            "debris": f"track {track} is debris",
        }
        return f"{said[action]} (Ctrl+Z undoes it){log.warning}"

    def undo(self, redo: bool = False) -> str:
        """Take the last change back, or do the last one that was taken back again; what was done, in a line."""
        log = self._usable_log()
        stack = log.undone if redo else log.active
        if not stack:
            raise InputError(f"there is nothing to {'redo' if redo else 'undo'}")
        entry = stack[-1]
        old, new = (entry.old, entry.new) if redo else (entry.new, entry.old)
        log.add("redo" if redo else "undo", {"of": entry.number}, old, new)
        self._follow(TrackIndex(self.session, log.active, self._figures))
        done = f"{'done again' if redo else 'undone'}: {entry.action} of track {entry.arguments['track']}"
        return done + log.warning

    def near(self, track_id: int, within_s: float = 2.0, within_px: float = 150.0) -> list[int]:
        """Tracks that could be the same sperm, nearest first: they begin or end near where this one ends or begins.

        A second apart counts as much as 60 pixels.
        """
        index, _ = self.current
        if not len(index.rows_of(track_id)):
            return []
        first, last = index.by_track[index.begins], index.by_track[index.ends - 1]
        t_s = self.session.steps.t_ns / 1e9
        at = int(np.searchsorted(index.ids, track_id))
        costs = np.full(len(index.ids), np.inf)
        for mine, theirs in ((last[at], first), (first[at], last)):
            apart_s = np.abs(t_s[index.step[theirs]] - t_s[index.step[mine]])
            apart_px = np.hypot(*(index.xy[theirs] - index.xy[mine]).T)
            is_near = (apart_s <= within_s) & (apart_px <= within_px)
            costs = np.where(is_near, np.minimum(costs, apart_px + 60 * apart_s), costs)
        costs[at] = np.inf
        order = np.argsort(costs, kind="stable")
        return [int(index.ids[k]) for k in order[:8] if np.isfinite(costs[k])]

    def close(self) -> None:
        """Wait for what is being computed."""
        self._closed = True
        if self._worker is not None:
            self._worker.join(10)

    def _follow(self, index: TrackIndex) -> None:
        """Show the corrected tracks, and compute their figures."""
        self._generation += 1
        self._index, self.busy = index, COMPUTING
        self._start(self._recompute)

    def _start(self, work: Callable[[], None]) -> None:
        previous = self._worker

        def run() -> None:
            if previous is not None:
                previous.join()
            if not self._closed:
                work()

        self._worker = threading.Thread(target=run, name="casa-view-figures", daemon=True)
        self._worker.start()

    def _recompute(self) -> None:
        generation, log = self._generation, self.log
        if log is None or generation == self._computed:  # computed already, with an earlier change
            return
        self._computed = generation
        changes = list(log.active)
        try:
            figures = corrected_figures(self.session, changes) if changes else self._original[1]
        except (CasaError, ValueError, MemoryError) as error:
            self.error, self.busy = f"the corrected figures could not be computed: {error}", ""
            return
        if generation == self._generation:
            self._index.set_shades(figures)
            self._figures, self.busy = figures, ""

    def _new_id(self, log: CorrectionLog) -> int:
        used = [int(entry.arguments["new_track"]) for entry in log.entries if entry.action == "split"]
        ids = self.session.rows.track_id
        return max([int(ids.max()) if len(ids) else 0, *used]) + 1

    def _usable_log(self) -> CorrectionLog:
        if not len(self.session.steps):
            raise InputError("there is nothing to mark or correct in this recording")
        if self.log is None:
            raise InputError(self.error or "the corrections file cannot be used")
        if self.session.status == "recording":
            raise InputError("this recording is still being written: mark and correct it when it is finished")
        return self.log
