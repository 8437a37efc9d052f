"""A recording in memory the way a viewer asks for it: by step, by track, before and after corrections. Knows no Qt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from casa.cells import GradeTable, MorphologyTable
from casa.config import KinematicsConfig
from casa.errors import InputError
from casa.kinematics import KinematicsAccumulator
from casa.kinematics.table import frames_of
from casa.record import Recording
from casa.types import (
    Calibration,
    FrameAccount,
    FrameStatus,
    IntArray,
    KinematicsTable,
    SourceInfo,
    Summary,
    Tracks,
    TrackTable,
)
from casa.viewer.corrections import DEBRIS, DELETED, SPERM, Entry, apply_corrections
from casa.viewer.palette import DEBRIS as DEBRIS_SHADE
from casa.viewer.palette import UNGRADED, shade_index

#: Pictures of the field that are kept in memory of a recording without its video.
PICTURES_KEPT = 64


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The captured pictures in order of time, (n,) each; ``key`` is 2 * frame + field."""

    key: IntArray
    frame: IntArray
    field: IntArray
    t_ns: IntArray
    status: NDArray[np.str_]
    reason: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.key)

    def at_time(self, t_ns: float) -> int:
        """The last step at or before a time; the first one before all."""
        return int(np.clip(np.searchsorted(self.t_ns, t_ns, "right") - 1, 0, max(len(self) - 1, 0)))

    def at_key(self, keys: IntArray) -> IntArray:
        """Steps of ``keys``; -1 where there is none."""
        if not len(self):
            return np.full(len(keys), -1, np.int64)
        order = np.argsort(self.key, kind="stable")
        place = np.clip(np.searchsorted(self.key[order], keys), 0, len(order) - 1)
        found = order[place]
        return np.where(self.key[found] == keys, found, -1)


@dataclass(frozen=True, slots=True, eq=False)
class TrackRows:
    """One row a track in a picture, in order of steps; compact, for drawing.

    step (n,) int64; box (n, 4) float32 left, top, right, bottom; xy (n, 2) float32, the measured centre or the box's
    where it was missed; measured (n,) bool; track_id (n,) int64 as recorded.
    """

    step: IntArray
    box: NDArray[np.float32]
    xy: NDArray[np.float32]
    measured: NDArray[np.bool_]
    track_id: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """What was read from a recording; nothing in it changes.

    ``pictures`` by step are those in the recording. ``video_files`` by part, and each step's (picture, part) in
    them, are those of a live session that kept its video; empty for others. ``clip_tracks`` (n,) are the tracks of the
    clips that are kept.
    """

    path: Path
    status: str
    recording_id: str
    session: dict[str, Any]
    source: SourceInfo
    calibration: Calibration | None
    account: FrameAccount
    summary: Summary | None
    kinematics: KinematicsTable
    steps: Steps
    rows: TrackRows
    pictures: dict[int, NDArray[Any]]
    video_files: dict[int, Path]
    video_keys: list[tuple[int, int] | None]
    grades: GradeTable
    clip_tracks: IntArray
    morphology: MorphologyTable

    @property
    def is_live(self) -> bool:
        """Whether it was made from a camera, whose pictures are nowhere but in a video that was kept."""
        return bool(self.session.get("session_id"))

    @property
    def unit(self) -> str:
        """The unit of speeds: µm/s where calibrated, else px/s."""
        return "µm/s" if self.calibration else "px/s"

    @property
    def duration_s(self) -> float:
        """From the first captured picture to the last."""
        return float(self.steps.t_ns[-1] - self.steps.t_ns[0]) / 1e9 if len(self.steps) else 0.0


def load_session(path: Path) -> Session:
    """Read a recording, finished or still being written.

    Raises
    ------
    InputError : as `casa.record.Recording`.
    """
    with Recording(path) as recording:
        ends = recording.frames()
        steps = Steps(
            2 * ends["frame"] + ends["field"],
            ends["frame"],
            ends["field"],
            ends["t_ns"],
            ends["status"],
            ends["reason"],
        )
        table = recording.tracks()
        rows = _track_rows(table, steps)
        step_of_frame = {int(f): k for k, f in reversed(list(enumerate(steps.frame.tolist())))}
        pictures = {
            step_of_frame[frame]: image
            for frame, _, image in recording.pictures(PICTURES_KEPT)
            if frame in step_of_frame
        }
        return Session(
            path=path,
            status=recording.status,
            recording_id=recording.recording_id,
            session=recording.session,
            source=recording.source,
            calibration=recording.calibration,
            account=recording.account,
            summary=recording.summary(),
            kinematics=recording.kinematics(),
            steps=steps,
            rows=rows,
            pictures=pictures,
            video_files=recording.video_files,
            video_keys=_video_keys(recording, steps) if recording.video_files else [],
            grades=recording.grades(),
            clip_tracks=recording.clip_tracks,
            morphology=recording.morphology(),
        )


def _video_keys(recording: Recording, steps: Steps) -> list[tuple[int, int] | None]:
    rows = recording.video()
    keys: list[tuple[int, int] | None] = [None] * len(steps)
    for step, number, part in zip(
        steps.at_key(2 * rows["frame"] + rows["field"]).tolist(), rows["video_frame"].tolist(), rows["part"].tolist(),
        strict=True,
    ):  # fmt: skip
        if step >= 0:
            keys[step] = (number, part)
    return keys


def _track_rows(table: TrackTable, steps: Steps) -> TrackRows:
    step = steps.at_key(2 * table.frame + table.field)
    table, step = table.select(step >= 0), step[step >= 0]
    order = np.lexsort((table.track_id, step))
    table, step = table.select(order), step[order]
    centre = np.stack([table.cx_px, table.cy_px], axis=1)
    half = np.stack([table.w_px, table.h_px], axis=1) / 2
    xy = np.stack([table.x_measured_px, table.y_measured_px], axis=1)
    measured = ~np.isnan(xy[:, 0])
    return TrackRows(
        step=step,
        box=np.concatenate([centre - half, centre + half], axis=1).astype(np.float32),
        xy=np.where(measured[:, None], xy, centre).astype(np.float32),
        measured=measured,
        track_id=np.array(table.track_id),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """Kinematics by track and the summary, as recorded or computed again after corrections."""

    kinematics: KinematicsTable
    summary: Summary | None
    row_of: dict[int, int]

    @classmethod
    def of(cls, kinematics: KinematicsTable, summary: Summary | None) -> Figures:
        """With an index by track id."""
        return cls(kinematics, summary, {int(k): i for i, k in enumerate(kinematics.track_id.tolist())})


class TrackIndex:
    """Tracks as they are after corrections, by step and by track.

    Deleted rows are in neither. ``shade`` (n,) uint8 by row; ``start`` (n_steps + 1,) where each step's rows begin in
    step order; ``by_track`` row numbers sorted by track and step, ``place`` (n,) of each row in it, ``first`` (n,)
    the place where the row's track begins; ``path`` (n, 2) the rows' positions in that order.
    """

    def __init__(self, session: Session, changes: Sequence[Entry], figures: Figures) -> None:
        rows, steps = session.rows, session.steps
        identities = apply_corrections(
            changes, rows.track_id, steps.frame[rows.step], steps.field[rows.step], rows.measured
        )
        keep = identities.kind != DELETED
        self.step = rows.step[keep]
        self.box, self.xy, self.measured = rows.box[keep], rows.xy[keep], rows.measured[keep]
        self.track_id, self.kind = identities.track_id[keep], identities.kind[keep]
        self.start = np.searchsorted(self.step, np.arange(len(steps) + 1))
        self.by_track = np.lexsort((self.step, self.track_id))
        self.place = np.empty_like(self.by_track)
        self.place[self.by_track] = np.arange(len(self.by_track))
        sorted_ids = self.track_id[self.by_track]
        self.ids, begins, counts = np.unique(sorted_ids, return_index=True, return_counts=True)
        self.begins, self.ends = begins, begins + counts
        self.first = np.empty_like(self.by_track)
        self.first[self.by_track] = np.repeat(begins, counts)
        self.shade = np.full(len(self.track_id), UNGRADED, np.uint8)
        self.track_shade = np.full(len(self.ids), UNGRADED, np.uint8)
        self.set_shades(figures)
        self.path = self.xy[self.by_track]
        self.first_steps = self.step[self.by_track[begins]] if len(begins) else np.empty(0, np.int64)

    def set_shades(self, figures: Figures) -> None:
        """Colour every row by its track's grade; debris keeps its own."""
        grades = figures.kinematics.motility_grade.tolist()
        by_id = {key: shade_index(grades[row]) for key, row in figures.row_of.items()}
        shade = np.array([by_id.get(int(key), UNGRADED) for key in self.ids], np.uint8)
        if len(self.ids):
            shade[self.kind[self.by_track[self.begins]] == DEBRIS] = DEBRIS_SHADE
            self.shade[self.by_track] = np.repeat(shade, self.ends - self.begins)
        self.track_shade = shade

    def rows_at(self, step: int) -> slice:
        """The rows of one step."""
        return slice(int(self.start[step]), int(self.start[step + 1]))

    def rows_of(self, track_id: int) -> IntArray:
        """The rows of one track by time; empty where there is no such track."""
        at = int(np.searchsorted(self.ids, track_id))
        if at >= len(self.ids) or self.ids[at] != track_id:
            return np.empty(0, np.int64)
        return self.by_track[self.begins[at] : self.ends[at]]

    def describe(self, track_id: int, steps: Steps) -> dict[str, Any]:
        """What the audit says of a track: its frames, rows and kind."""
        rows = self.rows_of(track_id)
        if not len(rows):
            return {}
        frames = steps.frame[self.step[rows]]
        kind = "debris" if self.kind[rows[0]] == DEBRIS else "sperm"
        return {str(track_id): {"frames": [int(frames[0]), int(frames[-1])], "rows": len(rows), "kind": kind}}

    def so_far(self, step: int) -> NDArray[np.int64]:
        """(6,) how many tracks of each shade had begun by a step."""
        return np.bincount(self.track_shade[self.first_steps <= step], minlength=6)


def original_figures(session: Session) -> Figures:
    """The figures as recorded."""
    return Figures.of(session.kinematics, session.summary)


def corrected_figures(session: Session, changes: Sequence[Entry]) -> Figures:
    """Kinematics and summary computed again from the corrected tracks, with the recording's own settings.

    Reads the tracks from the file again, so that they need not be kept; takes about a millisecond a frame.

    Raises
    ------
    InputError : the recording cannot be read any more, or its settings are not known to this casa.
    """
    with Recording(session.path) as recording:
        table = recording.tracks()
    identities = apply_corrections(changes, table.track_id, table.frame, table.field, ~np.isnan(table.x_measured_px))
    table = replace(table, track_id=identities.track_id).select(identities.kind == SPERM)
    try:
        config = KinematicsConfig.model_validate((session.session.get("config") or {}).get("kinematics") or {})
    except ValidationError as error:
        what = error.errors()[0]
        raise InputError(
            f"{session.path}: its kinematics settings are not known to this casa ({'.'.join(map(str, what['loc']))}: "
            f"{what['msg']}), so nothing can be computed again; use the casa that made it"
        ) from error
    size = (session.source.width_px, session.source.height_px)
    accumulator = KinematicsAccumulator(config, session.calibration, size)
    parts = [accumulator.add(tracks) for tracks in _every_frame(table, session.steps)]
    rows = KinematicsTable.concatenate([*parts, accumulator.finish()])
    summary = accumulator.summary()
    if session.summary is not None and "timestamps_repaired" in session.summary.flags:
        summary = replace(summary, flags=(*summary.flags, "timestamps_repaired"))
    return Figures.of(rows.select(np.argsort(rows.track_id, kind="stable")), summary)


def _every_frame(table: TrackTable, steps: Steps) -> Iterator[Tracks]:
    """The Tracks of every analysed frame, those without a sperm too, as the running session had them."""
    with_rows = iter(frames_of(table))
    waiting = next(with_rows, None)
    ids, none = np.empty(0, np.int64), np.empty(0, np.float32)
    empty = {
        "track_id": ids, "xyxy": np.empty((0, 4), np.float32), "measured_xy_px": np.empty((0, 2)), "confidence": none,
        "predicted": np.empty(0, np.bool_), "velocity_px_s": np.empty((0, 2)), "ended_ids": ids,
    }  # fmt: skip
    for k in np.flatnonzero(steps.status == FrameStatus.PROCESSED).tolist():
        frame, field = int(steps.frame[k]), int(steps.field[k])
        if waiting is not None and (waiting.frame, waiting.field) == (frame, field):
            yield waiting
            waiting = next(with_rows, None)
        else:
            yield Tracks(frame=frame, field=field, t_ns=int(steps.t_ns[k]), **empty)
