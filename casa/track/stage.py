"""The tracker as a stage of the graph: Detections in, Tracks out, one for one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from casa.config import TrackConfig
from casa.kernels import warm_up
from casa.track.tracker import Tracker, TrackerCounters
from casa.types import Detections, Tracks


class TrackStage:
    """Detections -> Tracks, online. A frame whose time does not advance raises and leaves the tracks as they were.

    Parameters
    ----------
    config : of the tracker.
    frame_size_px : (width, height) of the pictures, so that tracks end where they leave the field; None: unknown.
    every_nth : only every n-th frame is given.
    """

    def __init__(
        self, config: TrackConfig | None = None, frame_size_px: tuple[int, int] | None = None, every_nth: int = 1
    ) -> None:
        self._make = lambda: Tracker(config, frame_size_px, every_nth)
        self._tracker = self._make()

    @property
    def counters(self) -> TrackerCounters:
        """What was seen, refused and corrected since `open`."""
        return self._tracker.counters

    def open(self) -> None:
        """Start without tracks; ids start from 1."""
        warm_up(self._warm_up)
        self._tracker = self._make()

    def _warm_up(self) -> None:
        """A track that starts, is seen, and is missed, so that every kernel is called."""
        tracker = self._make()
        box = np.array([[0, 0, 20, 20]], np.float32)
        for k in range(4):
            tracker.update(Detections(k, k * 20_000_000, box, np.ones(1, np.float32), np.zeros(1, np.int64)))
        tracker.update(Detections.empty(4, 80_000_000))

    def process(self, item: Detections) -> Iterable[Tracks]:
        """The tracks of the frame."""
        return (self._tracker.update(item),)

    def flush(self) -> Iterable[Tracks]:
        """Nothing is held back: tracks alive at the end were put out frame by frame."""
        self._tracker.finish()
        return ()

    def close(self) -> None:
        """Nothing to release."""
