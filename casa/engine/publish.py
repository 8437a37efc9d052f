"""The publishing end of a live session's graph: what stages give goes onto the bus, and to who looks on, a View."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from casa.bus.array import pack
from casa.bus.convert import detections_message, kinematics_message, tracks_message
from casa.bus.messages import FrameEnd, Metrics, PictureMessage, View
from casa.bus.server import BusServer
from casa.engine.trails import TrailStore
from casa.graph.ledger import FrameEnd as End
from casa.record.stage import Picture
from casa.types import Detections, Frame, KinematicsTable, Summary, Tracks


class FramesUnderWay:
    """The pictures of the frames that the graph has not ended yet, for who shows them. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames: dict[tuple[int, int], Frame] = {}
        self.newest: Frame | None = None

    def put(self, frame: Frame) -> None:
        """Keep a frame until it is ended."""
        with self._lock:
            self._frames[frame.index, frame.field] = frame
            self.newest = frame

    def get(self, index: int, field: int) -> Frame | None:
        """The frame, where it is under way."""
        with self._lock:
            return self._frames.get((index, field))

    def drop(self, index: int, field: int) -> None:
        """The frame has ended."""
        with self._lock:
            self._frames.pop((index, field), None)

    def __len__(self) -> int:
        with self._lock:
            return len(self._frames)


class PublishDetections:
    """Publishes detections: a node of its own before the tracker's, so that they precede the end of their frame."""

    def __init__(self, bus: BusServer) -> None:
        self._bus = bus

    def open(self) -> None:
        """Nothing to acquire."""

    def process(self, item: Detections) -> Iterable[Detections]:
        """Publish the detections of a frame."""
        self._bus.publish(detections_message(item))
        return ()

    def flush(self) -> Iterable[Detections]:
        """Nothing is held back."""
        return ()

    def close(self) -> None:
        """The bus is the engine's."""


class PublishStage:
    """Publishes pictures, tracks and kinematics; gives each frame's Tracks on once they are published.

    Parameters
    ----------
    on_open : called when all stages before are open, to publish the session's start.
    state : gives the newest metrics and summary, for the View.
    """

    def __init__(
        self,
        bus: BusServer,
        frames: FramesUnderWay,
        trails: TrailStore,
        *,
        on_open: Callable[[], None],
        state: Callable[[], tuple[Metrics, Summary | None]],
        view_fps_hz: float,
        um_per_px: float | None,
        white_level: int | None,
    ) -> None:
        self._bus = bus
        self._frames = frames
        self._trails = trails
        self._on_open = on_open
        self._state = state
        self._view_interval_ns = round(0.9e9 / view_fps_hz)
        self._view_at_ns = 0
        self._um_per_px = um_per_px
        self._white = white_level
        self._lock = threading.Lock()
        self._rows: OrderedDict[int, KinematicsTable] = OrderedDict()

    def open(self) -> None:
        """Publish the session's start."""
        self._on_open()

    def process(self, item: Picture | Tracks | KinematicsTable) -> Iterable[Tracks]:
        """Publish one item."""
        match item:
            case Tracks():
                self._bus.publish(tracks_message(item))
                with self._lock:
                    self._trails.add(item)
                self._show(item)
                yield item
            case KinematicsTable():
                self._bus.publish(kinematics_message(item), also_event=True)
                with self._lock:
                    for row, key in enumerate(item.track_id.tolist()):
                        self._rows[key] = item.select(slice(row, row + 1))
                    while len(self._rows) > 1000:
                        self._rows.popitem(last=False)
            case Picture():
                self._bus.publish(PictureMessage(frame=item.frame_index, t_ns=item.t_ns, image=pack(item.image)))

    def flush(self) -> Iterable[Tracks]:
        """Nothing is held back."""
        return ()

    def close(self) -> None:
        """The bus is the engine's, which knows how the session ended."""

    def note_end(self, end: End) -> None:
        """Publish what became of a frame; for any thread."""
        self._bus.publish(
            FrameEnd(frame=end.index, field=end.field, t_ns=end.t_ns, status=end.status.value, reason=end.reason)
        )
        self._frames.drop(end.index, end.field)

    def path(self, track_id: int) -> tuple[Any, Any] | None:
        """The last seconds of a track in view, as ``TrailStore.path``."""
        with self._lock:
            return self._trails.path(track_id)

    @property
    def seconds_by_grade(self) -> Any:
        """(4,) float64: time in grades a to d of all tracks so far, those in view too."""
        return self._trails.seconds_by_grade

    def ended(self, track_id: int) -> KinematicsTable | None:
        """The row of a track that ended not long ago."""
        with self._lock:
            return self._rows.get(track_id)

    def _show(self, tracks: Tracks) -> None:
        now_ns = time.monotonic_ns()
        if self._bus.n_viewers == 0 or now_ns - self._view_at_ns < self._view_interval_ns:
            return
        frame = self._frames.get(tracks.frame, tracks.field)
        if frame is None:
            return
        self._view_at_ns = now_ns
        image = frame.colour()
        with self._lock:
            trails = self._trails.trails()
        counts = np.bincount(np.minimum(trails.grade, 4), minlength=5).tolist()
        metrics, summary = self._state()
        self._bus.view(
            View(
                frame=tracks.frame,
                field=tracks.field,
                t_ns=tracks.t_ns,
                captured_mono_ns=frame.captured_mono_ns or now_ns,
                published_mono_ns=now_ns,
                image=pack(image),
                white_level=self._white or (255 if image.dtype == np.uint8 else 65535),
                track_id=pack(tracks.track_id),
                xyxy=pack(tracks.xyxy),
                predicted=pack(tracks.predicted),
                confidence=pack(tracks.confidence),
                grade=pack(trails.grade),
                vcl_px_s=pack(trails.vcl_px_s),
                vsl_px_s=pack(trails.vsl_px_s),
                trail_xy_px=pack(trails.xy_px),
                trail_length=pack(trails.length),
                um_per_px=self._um_per_px,
                grade_counts=(counts[0], counts[1], counts[2], counts[3], counts[4]),
                summary=summary,
                metrics=metrics,
            )
        )
