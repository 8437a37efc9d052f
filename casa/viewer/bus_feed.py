"""A running session as a feed: the newest View from the bus, asked for and made ready in a thread. Knows no Qt.

A viewer takes only what is newest, and makes the next one ready only when the last was shown: however fast the engine
is, and however slow the screen, neither waits for the other.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.bus import messages as bus
from casa.bus.address import Endpoint
from casa.bus.convert import kinematics_of, maps_of
from casa.bus.keys import Keys
from casa.bus.subscriber import ControlClient, Subscriber
from casa.errors import CasaError
from casa.types import Calibration, KinematicsTable
from casa.viewer.examined import OUTSIDE
from casa.viewer.feed import (
    CLIP_FPS,
    CLIP_FRAMES,
    Condition,
    FeedState,
    FieldFigures,
    MorphologyFigures,
    SpermFigures,
    View,
    cut_clip,
    segments,
    without_networks,
)
from casa.viewer.palette import SHADES, UNGRADED, shade_index
from casa.viewer.pictures import eight_bit_levels

#: The engine says something at least once a second: after this long it is gone, or hangs.
SILENT_S = 3.0
_TRACKS_KEPT = 5000
_ASK_EVERY_S = 0.25
_REPLY_WITHIN_S = 2.0
_LEVELS_EVERY_S = 5.0


class BusFeed:
    """A session on the bus; it may start, end and come back while the viewer is open.

    Parameters
    ----------
    endpoint : as ``casa.bus.address.Endpoint.parse`` takes it; None for the usual one.
    keys : where the engine wants them.

    Raises
    ------
    InputError : this is no endpoint.
    """

    can_seek = False
    can_correct = False

    def __init__(self, endpoint: str | None, keys: Keys | None = None) -> None:
        self.endpoint = Endpoint.parse(endpoint)
        self.name = self.endpoint.folder.name if self.endpoint.folder else str(self.endpoint)
        self._keys = keys
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._taken = threading.Event()
        self._taken.set()
        self._view: View | None = None
        self._metrics: bus.Metrics | None = None
        self._summary: Any = None
        self._calibration: Calibration | None = None
        self._told: Mapping[str, Any] = {}  # what the session says of itself
        self._um_per_px: float | None = None
        self._start_ns: int | None = None
        self._made = 0
        self._ended: bus.SessionEnd | None = None
        self._ended_at = 0.0
        self._heard = False
        self._silent_s = 0.0
        self._begun = time.monotonic()
        self._news: deque[tuple[str, bool]] = deque(maxlen=50)
        self._asked: deque[bus.Request] = deque(maxlen=8)
        self._chosen = -1
        self._track: bus.TrackReply | None = None
        self._known: dict[int, tuple[float, float, float, int]] = {}
        self._recent: deque[tuple[int, NDArray[np.uint8]]] = deque(maxlen=CLIP_FRAMES)
        self._levels: tuple[float, NDArray[np.uint8]] | None = None
        self._failure = ""
        self._thread = threading.Thread(target=self._run, name="casa-view-bus", daemon=True)
        self._thread.start()

    # -- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with Subscriber(self.endpoint, self._keys) as subscriber:
                control = ControlClient(self.endpoint, self._keys)
                try:
                    self._listen(subscriber, control)
                finally:
                    control.close()
        except CasaError as error:
            self._failure = str(error)
        except Exception as error:  # a thread that dies unheard would look like a silent engine
            self._failure = f"{type(error).__name__}: {error}"

    def _listen(self, subscriber: Subscriber, control: ControlClient) -> None:
        waiting: tuple[bus.Request, float] | None = None
        asked_track = asked_status = 0.0
        while not self._stop.is_set():
            subscriber.wait(0.05)
            for message in subscriber.events():
                self._take_event(message)
            if self._taken.is_set():
                newest = subscriber.view()
                if newest is not None:
                    self._take_view(newest)
            else:
                self._taken.wait(0.01)
            self._silent_s = subscriber.silent_s
            now = time.monotonic()
            if waiting is not None:
                reply = control.poll()
                if reply is not None:
                    self._take_reply(waiting[0], reply)
                    waiting = None
                elif now - waiting[1] > _REPLY_WITHIN_S:
                    if isinstance(waiting[0], bus.Mark):
                        self._news.append(("the session does not answer: nothing was marked", True))
                    waiting = None
            if waiting is None:
                request: bus.Request | None = None
                if self._asked:
                    request = self._asked.popleft()
                elif self._calibration is None and now - asked_status > 1.0 and self._heard:
                    request, asked_status = bus.GetStatus(), now
                elif self._chosen >= 0 and now - asked_track > _ASK_EVERY_S:
                    request, asked_track = bus.GetTrack(track_id=self._chosen), now
                if request is not None:
                    control.send(request)
                    waiting = (request, now)

    def _take_view(self, m: bus.View) -> None:
        self._heard = True
        if self._ended is not None and time.monotonic() - self._ended_at > 1.0:  # earlier ones were under way
            self._ended = None
        if self._start_ns is None or m.t_ns < self._start_ns:
            self._start_ns = m.t_ns
        image = self._to_eight_bits(m.image.numpy(), m.white_level)
        if not self._recent or m.t_ns - self._recent[-1][0] >= 0.9e9 / CLIP_FPS or m.t_ns < self._recent[-1][0]:
            self._recent.append((m.t_ns, image))
        track_id, box = m.track_id.numpy(), m.xyxy.numpy()
        grade = m.grade.numpy()
        shade = np.where(grade < 4, grade, UNGRADED).astype(np.uint8)
        lengths = m.trail_length.numpy().astype(np.int64)
        ends = np.cumsum(lengths)
        lines, which, age = segments(m.trail_xy_px.numpy(), ends - lengths, ends - 1)
        scale = m.um_per_px or 1.0
        with self._lock:
            self._um_per_px = m.um_per_px
            self._metrics, self._summary = m.metrics, m.summary or self._summary
            for key, vcl, vsl, kind in zip(
                track_id.tolist(), m.vcl_px_s.numpy().tolist(), m.vsl_px_s.numpy().tolist(), shade.tolist(), strict=True
            ):
                self._know(key, vcl * scale, vsl * scale, math.nan, kind)
            self._made += 1
            self._view = View(
                step=self._made,
                frame=m.frame,
                field=m.field,
                t_s=(m.t_ns - self._start_ns) / 1e9,
                width_px=image.shape[1],
                height_px=image.shape[0],
                image=image,
                image_key=self._made,
                stale=False,
                track_id=track_id,
                box=box,
                measured=~m.predicted.numpy(),
                shade=shade,
                trail=lines,
                trail_shade=shade[which] if len(which) else np.empty(0, np.uint8),
                trail_age=age,
            )
            self._taken.clear()

    def _know(self, key: int, vcl: float, vsl: float, vap: float, shade: int) -> None:
        before = self._known.pop(key, None)
        if before is not None and shade == UNGRADED:
            shade = before[3]
        if before is not None and not math.isfinite(vcl):
            vcl, vsl = before[:2]
        self._known[key] = (vcl, vsl, vap if math.isfinite(vap) or before is None else before[2], shade)
        if len(self._known) > _TRACKS_KEPT:
            del self._known[next(iter(self._known))]

    def _to_eight_bits(self, image: NDArray[Any], white_level: int) -> NDArray[np.uint8]:
        if image.dtype == np.uint8:
            return image
        now = time.monotonic()
        if self._levels is None or now - self._levels[0] > _LEVELS_EVERY_S:
            self._levels = (now, eight_bit_levels(image))
        return self._levels[1][image]

    def _take_event(self, message: bus.Message) -> None:
        self._heard = True
        if isinstance(message, bus.SessionStart):
            with self._lock:
                self._calibration, self._start_ns, self._ended = message.calibration, None, None
                self._told = message.session
                self._known, self._track = {}, None
                self._recent.clear()
        elif isinstance(message, bus.Metrics):
            self._metrics = message
        elif isinstance(message, bus.SessionEnd):
            self._ended, self._ended_at = message, time.monotonic()
        elif isinstance(message, bus.SessionEvent):
            self._news.append((message.text or message.kind.replace("_", " "), message.level != "info"))
        elif isinstance(message, bus.KinematicsMessage):
            try:
                table = kinematics_of(message)
            except ValueError:
                return
            self._take_rows(table)

    def _take_rows(self, table: KinematicsTable) -> None:
        unit = "um" if self._um_per_px else "px"
        speeds = [getattr(table, f"{name}_{unit}_s").tolist() for name in ("vcl", "vsl", "vap")]
        with self._lock:
            for key, grade, vcl, vsl, vap in zip(
                table.track_id.tolist(), table.motility_grade.tolist(), *speeds, strict=True
            ):
                self._know(key, vcl, vsl, vap, shade_index(grade))

    def _take_reply(self, request: bus.Request, reply: bus.Reply) -> None:
        if isinstance(reply, bus.TrackReply):
            self._track = reply
        elif isinstance(reply, bus.StatusReply):
            if reply.start is not None:
                self._calibration, self._told = reply.start.calibration, reply.start.session
        elif isinstance(reply, bus.Refused):
            if not isinstance(request, bus.GetTrack):
                self._news.append((reply.reason, True))
            elif self._track is not None and self._track.track_id == request.track_id:
                pass  # the track has gone: what was known of it stays on the screen
        elif isinstance(reply, bus.Done):
            self._news.append((reply.text or "marked", False))

    # -- what there is ------------------------------------------------------------------------------------------

    @property
    def rate_text(self) -> str:
        """Frames a second that are captured and analysed, and how late they are."""
        metrics = self._metrics
        if metrics is None:
            return ""
        late = f", {metrics.latency_p50_ms:.0f} ms late" if metrics.latency_p50_ms is not None else ""
        return f"{metrics.processed_fps:.0f} of {metrics.captured_fps:.0f} frames/s analysed{late}"

    def condition(self) -> Condition:
        """Whether there is anything to see, in words."""
        if self._failure:
            return Condition(FeedState.FAILED, "The connection failed", self._failure)
        ended = self._ended
        if ended is not None:
            words = {"complete": "ended", "interrupted": "was stopped", "failed": "failed"}[ended.status]
            frames = f"{ended.account.processed:,} of {ended.account.captured:,} frames were analysed."
            reason = f" {ended.reason}" if ended.reason else ""
            return Condition(
                FeedState.WAITING, f"The session {words}", f"{frames}{reason} A new one there is shown when it begins."
            )
        if self._heard and self._silent_s > SILENT_S:
            return Condition(
                FeedState.WAITING,
                "Connection lost",
                f"Nothing has come from {self.endpoint} for {self._silent_s:.0f} s. What is behind this was the last "
                "picture. The viewer goes on by itself when the session is there again.",
            )
        if self._view is None:
            waited_s = time.monotonic() - self._begun
            if waited_s < 1.0:
                return Condition(FeedState.LOADING, "Connecting", str(self.endpoint))
            what = "waits for its first frame" if self._heard else "is not there (yet)"
            return Condition(
                FeedState.WAITING,
                "Waiting for a session",
                f"The session at {self.endpoint} {what}. casa live starts one; it is shown as soon as it runs.",
            )
        return Condition(FeedState.READY)

    def view(self, now_s: float) -> View | None:
        """The newest moment."""
        self._taken.set()
        return self._view

    def news(self) -> list[tuple[str, bool]]:
        """Lines to say since the last call, and whether each is a warning."""
        found = []
        while self._news:
            found.append(self._news.popleft())
        return found

    def figures(self) -> FieldFigures | None:
        """Figures of the session so far, and of what is in view."""
        with self._lock:
            view, known, metrics = self._view, list(self._known.values()), self._metrics
        if view is None:
            return None
        values = np.array(known, np.float64).reshape(-1, 4)
        shade = values[:, 3].astype(np.uint8)
        account = metrics.account if metrics is not None else None
        return FieldFigures(
            summary=self._summary,
            in_view=np.bincount(view.shade, minlength=len(SHADES)),
            so_far=np.bincount(shade, minlength=len(SHADES)),
            speeds={name: values[:, column] for column, name in enumerate(("vcl", "vsl", "vap"))},
            shade=shade,
            unit="µm/s" if self._um_per_px else "px/s",
            calibration=self._calibration or self._scale_only(),
            note=""
            if self._summary is None
            else "Motility: of every track, second by second; not corrected for jitter.",
            captured=account.captured if account else 0,
            lost=account.dropped + account.failed if account else 0,
        )

    def _scale_only(self) -> Calibration | None:
        """Until the calibration itself has come: the scale, so that units are right."""
        scale = self._um_per_px
        return Calibration("", scale, scale, verified=True, chamber_depth_um=1.0) if scale else None

    @property
    def um_per_px(self) -> float | None:
        """The scale of the session; None where it is not calibrated."""
        return self._um_per_px

    def sperm(self, track_id: int, with_clip: bool = True) -> SpermFigures | None:
        """What is known of a track in view, or that was a moment ago."""
        if track_id != self._chosen:
            self._chosen, self._track = track_id, None
        with self._lock:
            view, known = self._view, self._known.get(track_id)
            recent = list(self._recent)
        reply = self._track if self._track is not None and self._track.track_id == track_id else None
        if view is None or (known is None and reply is None):
            return None
        vcl, vsl, _, shade = known or (math.nan, math.nan, math.nan, UNGRADED)
        unit = "um" if self._um_per_px else "px"
        values = {f"vcl_{unit}_s": vcl, f"vsl_{unit}_s": vsl}
        path, t_s = np.empty((0, 2), np.float32), np.empty(0)
        flags, by_grade, clip, grades, morphology = 0, None, [], None, None
        parts, graded_clip, attention = None, [], None
        start_ns = self._start_ns or 0
        if reply is not None:
            xy = reply.xy_px.numpy()
            seen = np.isfinite(xy).all(axis=1)
            path, t_s = xy[seen].astype(np.float32), (reply.t_ns.numpy()[seen] - start_ns) / 1e9
            values, flags, by_grade = self._kinematics(reply, values)
            if reply.grades is not None:
                grades = reply.grades.distribution.numpy()
                parts = None if reply.grades.parts is None else reply.grades.parts.numpy()
            if reply.morphology is not None:
                morphology = _morphology(reply.morphology, self._told.get("morphology_model") or {})
            if reply.clip is not None and len(reply.clip.images.numpy()):
                clip = graded_clip = list(reply.clip.images.numpy()[-CLIP_FRAMES:])
                attention = maps_of(reply.clip)
        if not clip and with_clip and len(path):
            row = np.flatnonzero(view.track_id == track_id)
            size = float(np.median(view.box[row[0], 2:] - view.box[row[0], :2])) if len(row) else 20.0
            clip = self._clip(recent, path, t_s, start_ns, int(np.clip(2.2 * size, 32, 150)) // 2 * 2)
        return SpermFigures(
            track_id=track_id,
            shade=shade,
            first_s=float(t_s[0]) if len(t_s) else view.t_s,
            last_s=float(t_s[-1]) if len(t_s) else view.t_s,
            path=path,
            path_t_s=t_s,
            here=max(len(path) - 1, 0),
            kinematics=values,
            flags=flags,
            time_by_grade_s=by_grade,
            clip=clip,
            clip_here=-1,
            grades=grades,
            grade_parts=parts,
            graded_clip=graded_clip,
            attention=attention,
            morphology=morphology,
        )

    @staticmethod
    def _kinematics(reply: bus.TrackReply, values: dict[str, float]) -> Any:
        if reply.kinematics is None:
            return values, 0, None
        try:
            table = kinematics_of(reply.kinematics)
        except ValueError:
            return values, 0, None
        if not len(table):
            return values, 0, None
        found = {n: float(c[0]) for n, c in table.columns().items() if c.ndim == 1 and c.dtype.kind in "fi"}
        return found, int(table.flags[0]), table.time_by_grade_s[0]

    @staticmethod
    def _clip(
        recent: list[tuple[int, NDArray[np.uint8]]],
        path: NDArray[np.float32],
        t_s: NDArray[np.float64],
        start_ns: int,
        side: int,
    ) -> list[NDArray[np.uint8] | None]:
        """What this viewer has seen of a track in the last second, oldest first."""
        clip: list[NDArray[np.uint8] | None] = []
        for t_ns, image in recent:
            at = (t_ns - start_ns) / 1e9
            if t_s[0] - 0.02 <= at <= t_s[-1] + 0.1:
                x, y = (float(np.interp(at, t_s, path[:, axis])) for axis in (0, 1))
                clip.append(cut_clip(image, x, y, side))
        return clip

    def mark(self, note: str) -> str:
        """Ask the engine to mark the newest frame; its answer comes with ``news``."""
        self._asked.append(bus.Mark(text=note[:500]))
        return "marking …"

    def nothing(self) -> tuple[str, str]:
        """What is said of a sperm without grades, and of one without morphology."""
        return without_networks(self._told, yet=True)

    def about(self) -> dict[str, Any]:
        """Where this comes from, ready for JSON."""
        calibration = self._calibration
        recording = self._metrics.recording if self._metrics is not None else None
        return {
            "endpoint": str(self.endpoint),
            "recording": recording,
            "calibration": calibration.name if calibration else None,
        }

    def close(self) -> None:
        """Disconnect."""
        self._stop.set()
        self._taken.set()
        self._thread.join(5)


def _morphology(m: bus.MorphologyMessage, model: Mapping[str, Any]) -> MorphologyFigures:
    outside = tuple(map(str, model.get("outside") or OUTSIDE))
    crop = None if m.crop is None else m.crop.numpy()
    head = crop if crop is None or crop.dtype == np.uint8 else eight_bit_levels(crop)[crop]
    heat = None if m.heat_map is None else (m.heat_map.numpy() / 255).astype(np.float32)
    guess = () if m.in_domain or not m.classes else outside
    return MorphologyFigures(
        dict(m.normal), head, heat, m.model, dict(m.classes), m.reason, dict(m.measures), m.n_crops, guess,
        float(model.get("abstain_below") or 0.0),
    )  # fmt: skip
