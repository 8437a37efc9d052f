"""From frames with their tracks to clips: which frame stands for which moment, and what is kept of it.

Each track has ticks of its own, 1/15 s apart, from a frame in which it was seen. A tick is met by the frame nearest to
it; so a tick waits for the first frame after it, and of all frames only the newest two are kept.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.cells import CLIP_FRAMES, CLIP_RATE_HZ, CLIP_SIZE_PX, Clip, ClipFlag
from casa.clips.follow import Correction, HeadTemplate, Point
from casa.clips.match import crowded, cut_shifted, cut_window
from casa.config import ClipsConfig
from casa.types import Frame, IntArray, Tracks, boxes_to_centre_size

#: Windows are cut this much wider (px), so that pictures can be centred when the clip is complete.
_MARGIN_PX = 6
_WINDOW_PX = CLIP_SIZE_PX + 2 * _MARGIN_PX
_TICK_NS = 1e9 / CLIP_RATE_HZ
#: Tracks that begin in the same frame get ticks apart from each other, so that frames cost about the same.
_GOLDEN = 0.6180339887498949
#: So many clips are made in a frame (more where many wait): tracks that began together would all be due in the same.
_CLIPS_A_FRAME = 3
#: A template that has not found its head so often in a row, where nothing else was near, is taken anew.
_GIVE_UP_AFTER = 4
#: A track that has not been seen for so long is forgotten, should nobody ever say that it has ended.
_FORGET_NS = 10**10


class _Place(NamedTuple):
    """Where the track says that the head is, px; ``size_px`` is None where the tracker did not put it out."""

    xy: Point
    size_px: float | None
    velocity_px_s: Point
    measured: bool
    flags: int


_NOWHERE = _Place((0.0, 0.0), None, (0.0, 0.0), False, 0)


class _Scene:
    """One frame with its tracks, as the clips need them."""

    def __init__(self, frame: Frame, tracks: Tracks, crossing_of_size: float) -> None:
        self.index, self.t_ns = frame.index, frame.t_ns
        self.tracks = tracks
        self.rows = {track_id: row for row, track_id in enumerate(tracks.track_id.tolist())}
        self._frame, self._gray, self._crossing_of_size = frame, None, crossing_of_size
        self._places: list[_Place] | None = None

    @property
    def image(self) -> NDArray[Any]:
        """(h, w) gray, contiguous and read-only, uint8 or uint16."""
        if self._gray is None:
            image = self._frame.image
            gray = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            self._gray = np.ascontiguousarray(gray).view()
            self._gray.setflags(write=False)
        return self._gray

    def place(self, track_id: int) -> _Place | None:
        """Where the track is, None where the tracker did not put it out."""
        row = self.rows.get(track_id)
        if row is None:
            return None
        if self._places is None:
            tracks = self.tracks
            near = crowded(tracks.xyxy, self._crossing_of_size)
            flags = np.where(tracks.predicted, ClipFlag.PREDICTED, 0) | np.where(near, ClipFlag.CROSSING, 0)
            boxes = boxes_to_centre_size(tracks.xyxy.astype(np.float64))
            xy = np.where(tracks.predicted[:, None], boxes[:, :2], tracks.measured_xy_px)
            columns = (xy, boxes[:, 2:].mean(axis=1), tracks.velocity_px_s, ~tracks.predicted, flags)
            self._places = [_Place(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
        return self._places[row]


class _Picture(NamedTuple):
    """A window about a head at ``head_xy``, as well as was known then; ``corner`` is its first pixel in the frame.

    ``correction`` goes on being learnt; ``corrected`` is what it was then, and is in ``head_xy`` already.
    """

    frame: int
    t_ns: int
    window: NDArray[np.uint8]
    corner: tuple[int, int]
    head_xy: Point
    score: float
    flags: int
    correction: Correction
    corrected: Point

    def centre(self) -> Point:
        """The head's middle by all that is known now, or the nearest place to it that the window has."""
        xy = []
        for axis in (0, 1):
            middle = self.corner[axis] + _WINDOW_PX / 2
            head = self.head_xy[axis] + self.correction.xy[axis] - self.corrected[axis]
            xy.append(min(max(head, middle - _MARGIN_PX + 2), middle + _MARGIN_PX - 2))
        return xy[0], xy[1]


@dataclass(slots=True)
class _Followed:
    """What is kept of one track."""

    tick_ns: float
    seen_ns: int  # when the tracker last put it out
    started: bool = False
    template: HeadTemplate | None = None
    clear: bool = False  # the template was taken from a head that no other was near
    lost: int = 0  # pictures in a row in which it was not found
    pictures: deque[_Picture] = field(default_factory=lambda: deque(maxlen=CLIP_FRAMES))
    ticks_since_clip: int | None = None  # None: no clip yet
    place: _Place = _NOWHERE  # where it was then


class ClipAssembler:
    """Follows all tracks and gives their clips.

    Parameters
    ----------
    um_per_px : scale of the frames, None where uncalibrated.
    white_level : gray level of a 16-bit frame that becomes 255.
    """

    def __init__(self, config: ClipsConfig, um_per_px: float | None = None, white_level: int = 65535) -> None:
        self._config = config
        self._um_per_px, self._white_level = um_per_px, white_level
        self._every_ticks = max(1, round(config.every_s * CLIP_RATE_HZ))
        self._followed: dict[int, _Followed] = {}
        self._before: _Scene | None = None
        self._complete: deque[tuple[int, list[_Picture]]] = deque()
        self._clips = 0

    def update(self, frame: Frame, tracks: Tracks) -> list[Clip]:
        """Take the next frame with its tracks; give the clips that are complete."""
        now = _Scene(frame, tracks, self._config.crossing_of_size)
        for track_id in now.rows:
            if track_id not in self._followed:
                wait_ns = track_id * _GOLDEN % 1.0 * _TICK_NS
                self._followed[track_id] = _Followed(now.t_ns + wait_ns, seen_ns=now.t_ns)
        for track_id, followed in list(self._followed.items()):
            if followed.tick_ns <= now.t_ns:
                self._meet_ticks(track_id, followed, now)
            if not followed.started and now.t_ns - followed.seen_ns > _FORGET_NS:
                del self._followed[track_id]
        self._before = now
        self.end(tracks.ended_ids)
        return self._made(max(_CLIPS_A_FRAME, len(self._complete) // 8))

    def end(self, track_ids: IntArray) -> None:
        """These tracks will not be put out again."""
        for track_id in track_ids.tolist():
            if track_id in self._followed:
                self._complete_last(track_id, self._followed.pop(track_id))

    def finish(self) -> list[Clip]:
        """All clips that are left, those of tracks that were under way when the stream ended too."""
        for track_id, followed in self._followed.items():
            self._complete_last(track_id, followed)
        self._followed.clear()
        return self._made(len(self._complete))

    def _made(self, at_most: int) -> list[Clip]:
        return [self._clip(*self._complete.popleft()) for _ in range(min(at_most, len(self._complete)))]

    def _meet_ticks(self, track_id: int, followed: _Followed, now: _Scene) -> None:
        if not followed.started:  # ticks are counted from a frame that has the track
            if track_id not in now.rows:
                return
            followed.started, followed.tick_ns = True, now.t_ns
        while followed.tick_ns <= now.t_ns:
            scene = now
            if self._before is not None and followed.tick_ns - self._before.t_ns < now.t_ns - followed.tick_ns:
                scene = self._before
            place = self._place(track_id, followed, scene)
            away_ns = max(scene.t_ns - followed.seen_ns, abs(scene.t_ns - followed.tick_ns) - _TICK_NS)
            if away_ns > self._config.max_missed_s * 1e9:
                self._complete_last(track_id, followed)
                followed.started, followed.tick_ns = False, now.t_ns
                return
            since = followed.ticks_since_clip
            since = followed.ticks_since_clip = None if since is None else since + 1
            if since is None or since > self._every_ticks - CLIP_FRAMES:
                followed.pictures.append(self._picture(followed, scene, place))
            if len(followed.pictures) == CLIP_FRAMES and (since is None or since >= self._every_ticks):
                followed.ticks_since_clip = 0
                self._complete.append((track_id, list(followed.pictures)))
            followed.tick_ns += _TICK_NS

    def _place(self, track_id: int, followed: _Followed, scene: _Scene) -> _Place:
        place = scene.place(track_id)
        if place is not None:
            followed.place, followed.seen_ns = place, scene.t_ns
            return place
        (x, y), _, (vx, vy), *_ = followed.place
        ahead_s = (scene.t_ns - followed.seen_ns) / 1e9
        return _Place((x + ahead_s * vx, y + ahead_s * vy), None, (vx, vy), False, ClipFlag.PREDICTED)

    def _picture(self, followed: _Followed, scene: _Scene, place: _Place) -> _Picture:
        """The picture for the tick: of the scene, or the last one again where that was of the same frame."""
        late = ClipFlag.REPEATED if abs(scene.t_ns - followed.tick_ns) > _TICK_NS / 2 else 0
        if followed.pictures and followed.pictures[-1].t_ns == scene.t_ns:
            last = followed.pictures[-1]
            return last._replace(flags=last.flags & ~ClipFlag.REPEATED | late)
        t_s, clear = scene.t_ns / 1e9, place.measured and not place.flags & ClipFlag.CROSSING
        template, xy, score, found = followed.template, place.xy, 0.0, False
        if template is None or (clear and not followed.clear):
            if place.measured and place.size_px is not None:
                template = followed.template = HeadTemplate(self._config, scene.image, xy, place.size_px, t_s)
                followed.clear, score, found = clear, 1.0, True
        else:
            sighting = template.find(scene.image, xy, place.measured)
            score, found = sighting.score, sighting.found
            if found and clear:
                template.learn(sighting, xy, t_s)
            if found:
                xy = template.head_xy(sighting)
                if clear:
                    template.refresh(scene.image, sighting, t_s)
            followed.lost = 0 if found or not clear else followed.lost + 1
            if followed.lost == _GIVE_UP_AFTER:
                template.start(scene.image, xy, t_s)
        flags = place.flags | late | (0 if found else ClipFlag.LOST)
        correction = template.correction if template is not None and found else Correction()
        return self._cut(scene, xy, score, flags, correction)

    def _cut(self, scene: _Scene, xy: Point, score: float, flags: int, correction: Correction) -> _Picture:
        height, width = scene.image.shape
        half = CLIP_SIZE_PX / 2
        if xy[0] < half or xy[1] < half or xy[0] > width - half or xy[1] > height - half:
            flags |= ClipFlag.BORDER
        corner = round(xy[0] - _WINDOW_PX / 2), round(xy[1] - _WINDOW_PX / 2)
        window = np.empty((_WINDOW_PX, _WINDOW_PX), np.uint8)
        gain = 1.0 if scene.image.dtype == np.uint8 else 255.0 / self._white_level
        cut_window(scene.image, *corner, gain, window)
        return _Picture(scene.index, scene.t_ns, window, corner, xy, score, flags, correction, correction.xy)

    def _complete_last(self, track_id: int, followed: _Followed) -> None:
        """What there is of a track that ends or is away for long, if it never gave a clip, filled up with the last."""
        pictures = list(followed.pictures)
        followed.pictures.clear()
        while pictures and pictures[-1].t_ns > followed.seen_ns:
            pictures.pop()
        if followed.ticks_since_clip is None and len(pictures) >= self._config.min_frames:
            followed.ticks_since_clip = 0
            last = pictures[-1]._replace(flags=pictures[-1].flags | ClipFlag.REPEATED)
            self._complete.append((track_id, pictures + [last] * (CLIP_FRAMES - len(pictures))))

    def _clip(self, track_id: int, pictures: list[_Picture]) -> Clip:
        images = np.empty((len(pictures), CLIP_SIZE_PX, CLIP_SIZE_PX), np.uint8)
        centres = np.array([picture.centre() for picture in pictures])
        for picture, centre, image in zip(pictures, centres.tolist(), images, strict=True):
            left, top = (centre[axis] - CLIP_SIZE_PX / 2 - picture.corner[axis] for axis in (0, 1))
            cut_shifted(picture.window, left, top, image)
        self._clips += 1
        return Clip(
            clip_id=self._clips,
            track_id=track_id,
            frames=np.array([picture.frame for picture in pictures]),
            t_ns=np.array([picture.t_ns for picture in pictures]),
            images=images,
            centre_xy_px=centres,
            score=np.array([picture.score for picture in pictures], np.float32),
            flags=np.array([picture.flags for picture in pictures]),
            um_per_px=self._um_per_px,
        )
