"""A recording as a feed: the play head, pictures around it, and corrections. Knows no Qt."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from casa.errors import CasaError, InputError
from casa.types import FrameStatus, IntArray
from casa.viewer.corrected import CorrectedTracks
from casa.viewer.examined import ExaminedTracks
from casa.viewer.feed import (
    CLIP_FPS,
    CLIP_FRAMES,
    Condition,
    FeedState,
    FieldFigures,
    SpermFigures,
    View,
    cut_clip,
    segments,
    without_networks,
)
from casa.viewer.graded import GradedTracks
from casa.viewer.palette import SHADES
from casa.viewer.pictures import Key, PictureLoader
from casa.viewer.session import Session, TrackIndex, load_session

SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
#: While playing, a picture this much older than the play head is still shown (with the tracks of its own moment).
LAG_S = 0.5
OPENING = "Opening the video …"
_HISTOGRAMS = ("vcl", "vsl", "vap")


@dataclass(frozen=True, slots=True)
class VideoChoice:
    """Where a recording's pictures are.

    ``command`` starts the process that gives them, () where there are none; ``keys`` are what each step's picture is
    called there (None where it has none); ``note`` is a line to say.
    """

    command: tuple[str, ...] = ()
    keys: Sequence[Key | None] = ()
    note: str = ""


class RecordingFeed:
    """A recording to play, step through and correct.

    Parameters
    ----------
    path : RUN.h5, or RUN.h5.partial while it is written.
    find_video : from the loaded session to where its pictures are.
    who : written into the corrections.
    """

    can_seek = True
    can_correct = True

    def __init__(self, path: Path, find_video: Callable[[Session], VideoChoice], who: str) -> None:
        self.path, self.name = path, path.name
        self.speed, self.playing, self.trail_s = 1.0, False, 1.0
        self._who, self._find_video = who, find_video
        self._condition = Condition(FeedState.LOADING, "Opening", str(path))
        self._session: Session | None = None
        self._tracks: CorrectedTracks | None = None
        self._graded: GradedTracks | None = None
        self._examined: ExaminedTracks | None = None
        self._pictures: PictureLoader | None = None
        self._video_note = ""
        self._position_ns = 0.0
        self._last_now_s: float | None = None
        self._shown_step = -1
        self._view: View | None = None
        self._view_key: Any = None
        self._extra: list[int] = []
        self._analysed = np.empty(0, np.int64)
        self._closed = False
        self._loader = threading.Thread(target=self._load, name="casa-view-load", daemon=True)
        self._loader.start()

    def _load(self) -> None:
        try:
            session = load_session(self.path)
            tracks = CorrectedTracks(session, self._who)
        except CasaError as error:
            self._condition = Condition(FeedState.FAILED, "This recording cannot be shown", str(error))
            return
        except MemoryError:
            self._condition = Condition(FeedState.FAILED, "This recording does not fit into memory", str(self.path))
            return
        video = self._find_video(session)
        self._video_note = video.note
        if video.command and not self._closed:
            self._pictures = PictureLoader(video.command, video.keys)
        self._tracks, self._graded = tracks, GradedTracks(self.path, session.grades, session.clip_tracks)
        self._examined = ExaminedTracks(self.path, session.morphology, session.session.get("morphology_model"))
        if len(session.steps):
            first = min(session.pictures) if self._pictures is None and session.pictures else 0
            self._position_ns = float(session.steps.t_ns[first])
            self._condition = Condition(FeedState.READY)
        else:
            self._condition = Condition(
                FeedState.WAITING, "No frame in this recording", "Its session ended before a frame was captured."
            )
        done = session.steps.status == FrameStatus.PROCESSED
        self._analysed = np.maximum.accumulate(np.where(done, np.arange(len(done)), 0))
        self._session = session

    # -- what there is ------------------------------------------------------------------------------------------

    @property
    def session(self) -> Session | None:
        """The loaded recording."""
        return self._session

    def nothing(self) -> tuple[str, str]:
        """What is said of a sperm without grades, and of one without morphology."""
        session = self._session
        return without_networks(session.session if session else {}, bool(session) and session.status == "recording")

    @property
    def step(self) -> int:
        """The step at the play head."""
        return self._session.steps.at_time(self._position_ns) if self._session else 0

    @property
    def n_steps(self) -> int:
        """How many steps there are."""
        return len(self._session.steps) if self._session else 0

    @property
    def tracks(self) -> CorrectedTracks:
        """The tracks, and corrections of them.

        Raises
        ------
        InputError : the recording is not there yet, or cannot be read.
        """
        if self._tracks is None or self._session is None:
            raise InputError("the recording is not open (yet)")
        return self._tracks

    @property
    def has_pictures(self) -> bool:
        """Whether there is a video to take pictures from."""
        return self._pictures is not None

    @property
    def picture_steps(self) -> list[int]:
        """Steps whose picture is in the recording itself."""
        return sorted(self._session.pictures) if self._session and self._pictures is None else []

    @property
    def picture_note(self) -> str:
        """One line on pictures that are not there, or not surely the right ones."""
        loader, session = self._pictures, self._session
        if loader is not None and loader.error:
            return f"No pictures: {loader.error}"
        if loader is not None and not loader.ready:
            return OPENING
        if loader is not None and session is not None and loader.sha256:
            expected = session.session.get("source", {}).get("sha256")
            if expected and expected != loader.sha256:
                return "The video is not the file that was analysed: its pictures may not belong to these tracks."
        return self._video_note

    @property
    def um_per_px(self) -> float | None:
        """The scale, the geometric mean of x and y; None where it is not calibrated."""
        scale = self._session.calibration if self._session else None
        return None if scale is None else float((scale.um_per_px_x * scale.um_per_px_y) ** 0.5)

    @property
    def rate_text(self) -> str:
        """Nothing runs behind a recording."""
        return ""

    def news(self) -> list[tuple[str, bool]]:
        """Nothing happens by itself in a recording."""
        return []

    def time_of(self, step: int) -> float:
        """Seconds from the first step to a step."""
        assert self._session is not None
        t_ns = self._session.steps.t_ns
        return float(t_ns[step] - t_ns[0]) / 1e9

    def condition(self) -> Condition:
        """Whether there is anything to see, in words."""
        return self._condition

    # -- the play head ------------------------------------------------------------------------------------------

    def seek(self, step: int) -> None:
        """Move the play head to a step."""
        if self._session is not None and self.n_steps:
            self._position_ns = float(self._session.steps.t_ns[int(np.clip(step, 0, self.n_steps - 1))])

    def play(self, on: bool) -> None:
        """Play or pause; playing at the end starts again."""
        if on and self.n_steps and self.step >= self.n_steps - 1:
            self.seek(0)
        if not on and self._shown_step >= 0:
            self.seek(self._shown_step)  # pause on the picture that is seen
        self.playing, self._last_now_s = on and self.n_steps > 1, None

    def _advance(self, now_s: float) -> None:
        assert self._session is not None
        if self.playing and self._last_now_s is not None:
            elapsed_s = min(max(now_s - self._last_now_s, 0.0), 0.25)
            end_ns = float(self._session.steps.t_ns[-1])
            self._position_ns = min(self._position_ns + elapsed_s * self.speed * 1e9, end_ns)
            if self._position_ns >= end_ns:
                self.playing = False
        self._last_now_s = now_s

    def view(self, now_s: float) -> View | None:
        """The moment at the play head; while playing, the latest one that has a picture."""
        session = self._session
        if session is None or self._condition.state is not FeedState.READY:
            return None
        self._advance(now_s)
        step, image_step = self.step, None
        if self.playing:  # a frame that was not analysed has no tracks: the one before stands still instead
            step = int(self._analysed[step])
        loader = self._pictures
        if loader is not None and not loader.error:
            loader.look_at(step, 1, self._extra)
            image_step = step if loader.get(step) is not None else None
            if image_step is None and self.playing:
                lag = int(LAG_S * max(self.speed, 1.0) * self.n_steps / max(session.duration_s, 1e-3))
                found = loader.newest_before(step, max(lag, 2))
                if found is not None and found >= self._shown_step:
                    step = image_step = found
                elif self._shown_step <= step and step - self._shown_step <= lag and self._view is not None:
                    return self._view
            if image_step is None and not loader.why_missing(step) and session.steps.status[step] == "processed":
                image_step = loader.newest_before(step, 200)
        index, figures = self.tracks.current
        key = (step, image_step, id(index), id(figures), self.trail_s)
        if key != self._view_key:
            self._view_key, self._shown_step = key, step
            self._view = self._make_view(session, index, step, image_step)
        return self._view

    def _make_view(self, session: Session, index: TrackIndex, step: int, image_step: int | None) -> View:
        steps, rows = session.steps, index.rows_at(step)
        numbers = np.arange(rows.start, rows.stop)
        place = index.place[numbers]
        rate = len(steps) / max(session.duration_s, 1e-9)
        begin = np.maximum(index.first[numbers], place - max(int(self.trail_s * rate), 0))
        lines, which, age = segments(index.path, begin, place)
        image, note = None, ""
        if self._pictures is not None and image_step is not None:
            image = self._pictures.get(image_step)
        elif self._pictures is None and step in session.pictures:
            image, image_step = session.pictures[step], step
        status = str(steps.status[step])
        if status != FrameStatus.PROCESSED:
            reason = str(steps.reason[step])
            note = f"frame {status}: {reason}" if reason else f"frame {status}"
        elif self._pictures is not None and (why := self._pictures.why_missing(step)):
            note = f"no picture: {why}"
        return View(
            step=step, frame=int(steps.frame[step]), field=int(steps.field[step]), t_s=self.time_of(step),
            width_px=session.source.width_px, height_px=session.source.height_px,
            image=image, image_key=(image_step, image is None), stale=image is not None and image_step != step,
            track_id=index.track_id[rows], box=index.box[rows], measured=index.measured[rows],
            shade=index.shade[rows], trail=lines, trail_shade=index.shade[rows][which] if len(which) else
            np.empty(0, np.uint8), trail_age=age, note=note,
        )  # fmt: skip

    # -- figures ------------------------------------------------------------------------------------------------

    def figures(self) -> FieldFigures | None:
        """Figures of the whole recording, with what is in view at the play head."""
        session = self._session
        if session is None:
            return None
        index, figures = self.tracks.current
        table = figures.kinematics
        unit = "um" if session.calibration else "px"
        step = max(self._shown_step, 0)
        in_view = np.zeros(len(SHADES), np.int64)
        so_far = in_view
        if self.n_steps:
            in_view = np.bincount(index.shade[index.rows_at(step)], minlength=len(SHADES))
            so_far = index.so_far(step)
        shade_of = dict(zip(index.ids.tolist(), index.track_shade.tolist(), strict=True))
        account = session.account
        return FieldFigures(
            summary=figures.summary,
            in_view=in_view,
            so_far=so_far,
            speeds={name: getattr(table, f"{name}_{unit}_s") for name in _HISTOGRAMS},
            shade=np.array([shade_of.get(key, SHADES.index("u")) for key in table.track_id.tolist()], np.uint8),
            unit=session.unit,
            calibration=session.calibration,
            captured=account.captured,
            lost=account.dropped + account.failed,
            note=f"{self.tracks.busy} …" if self.tracks.busy else "",
        )

    def sperm(self, track_id: int, with_clip: bool = True) -> SpermFigures | None:
        """Path, kinematics and clip of a track; clips around the play head."""
        session = self._session
        if session is None:
            return None
        index, figures = self.tracks.current
        rows = index.rows_of(track_id)
        if not len(rows):
            self._extra = []
            return None
        steps = index.step[rows]
        t_ns = session.steps.t_ns
        here = int(np.clip(np.searchsorted(steps, self._shown_step, "right") - 1, 0, len(rows) - 1))
        row = figures.row_of.get(track_id)
        table = figures.kinematics
        if row is None:  # debris, and what was just split, have no figures of their own: what was measured
            original = self.tracks.original[1]
            table, row = original.kinematics, original.row_of.get(track_id)
        values: dict[str, float] = {}
        if row is not None:
            values = {n: float(c[row]) for n, c in table.columns().items() if c.ndim == 1 and c.dtype.kind in "fi"}
        graded = self._graded.grades_of(track_id) if self._graded else None
        kept = self._graded.clip_of(track_id) if self._graded and graded else None
        clip, clip_here = self._clip(session, index, rows, here) if with_clip else ([], -1)
        return SpermFigures(
            track_id=track_id, shade=int(index.shade[rows[0]]),
            first_s=float(t_ns[steps[0]] - t_ns[0]) / 1e9, last_s=float(t_ns[steps[-1]] - t_ns[0]) / 1e9,
            path=index.xy[rows], path_t_s=(t_ns[steps] - t_ns[0]) / 1e9, here=here,
            kinematics=values, flags=int(table.flags[row]) if row is not None else 0,
            time_by_grade_s=table.time_by_grade_s[row] if row is not None else None,
            clip=clip, clip_here=clip_here,
            grades=graded[0] if graded else None, grade_parts=graded[1] if graded else None,
            graded_clip=list(kept.clip.images) if kept else (), attention=kept.attention if kept else None,
            morphology=self._examined.figures_of(track_id) if self._examined else None,
        )  # fmt: skip

    def _clip(self, session: Session, index: TrackIndex, rows: IntArray, here: int) -> tuple[list[Any], int]:
        """CLIP_FRAMES pictures CLIP_FPS a second around the play head, within the track's life."""
        loader = self._pictures
        if loader is None or loader.error:
            return [], -1
        t_s = session.steps.t_ns[index.step[rows]] / 1e9
        before = int((t_s[here] - t_s[0]) * CLIP_FPS + 0.01)
        after = int((t_s[-1] - t_s[here]) * CLIP_FPS + 0.01)
        before = min(before, max(CLIP_FRAMES // 2, CLIP_FRAMES - 1 - after))
        after = min(after, CLIP_FRAMES - 1 - before)
        wanted = t_s[here] + np.arange(-before, after + 1) / CLIP_FPS
        nearest = np.abs(t_s[None, :] - wanted[:, None]).argmin(axis=1)
        box = index.box[rows]
        side = int(np.clip(2.2 * np.median(box[:, 2:] - box[:, :2]), 32, 150)) // 2 * 2
        self._extra = index.step[rows[nearest]].tolist()
        clip: list[Any] = []
        for row, step in zip(rows[nearest], self._extra, strict=True):
            image = loader.get(step)
            x, y = index.xy[row]
            clip.append(None if image is None else cut_clip(image, float(x), float(y), side))
        return clip, before

    def forget_clip(self) -> None:
        """No sperm is looked at: fetch pictures around the play head only."""
        self._extra = []

    def about(self) -> dict[str, Any]:
        """Where this comes from, ready for JSON."""
        session = self._session
        if session is None:
            return {"recording": self.name}
        return {
            "recording": self.name,
            "recording_id": session.recording_id,
            "status": session.status,
            "source": session.source.uri,
            "calibration": session.calibration.name if session.calibration else None,
            "casa_version": session.session.get("casa_version"),
            "corrections": len(self.tracks.log.active) if self.tracks.log and self.tracks.corrected else 0,
        }

    def mark(self, note: str) -> str:
        """Mark the step that is shown, or remove its mark where it has one."""
        step = max(self._shown_step, 0)
        return self.tracks.mark(step, self.time_of(step), note)

    def close(self) -> None:
        """End threads and the picture process."""
        self._closed = True
        self._loader.join(30)
        if self._pictures is not None:
            self._pictures.close()
        if self._tracks is not None:
            self._tracks.close()
        for networks in (self._graded, self._examined):
            if networks is not None:
                networks.close()


def source_pictures(base: tuple[str, ...], uri: str, session: Session) -> VideoChoice:
    """The pictures of a source, read as the analysis read it; ``base`` starts the process that gives them."""
    config: dict[str, Any] = dict((session.session.get("config") or {}).get("source") or {})
    keys = list(zip(session.steps.frame.tolist(), session.steps.field.tolist(), strict=True))
    return VideoChoice((*base, uri, json.dumps(config)), keys)


def kept_pictures(base: tuple[str, ...], session: Session) -> VideoChoice:
    """The pictures of the video that a live session kept."""
    files = {str(part): str(path) for part, path in session.video_files.items()}
    return VideoChoice((*base, f"parts:{json.dumps(files)}", "{}"), session.video_keys)
