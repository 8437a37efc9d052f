"""The tracker as a stage of the graph: Detections in, Tracks out, one for one."""

from __future__ import annotations

from collections.abc import Iterable

from casa.config import TrackConfig
from casa.track.tracker import Tracker, TrackerCounters
from casa.types import Detections, Tracks


class TrackStage:
    """Detections -> Tracks, online. A frame whose time does not advance raises and leaves the tracks as they were."""

    def __init__(self, config: TrackConfig | None = None) -> None:
        self._config = config
        self._tracker = Tracker(config)

    @property
    def counters(self) -> TrackerCounters:
        """What was seen and refused since `open`."""
        return self._tracker.counters

    def open(self) -> None:
        """Start without tracks; ids start from 1."""
        self._tracker = Tracker(self._config)

    def process(self, item: Detections) -> Iterable[Tracks]:
        """The tracks of the frame."""
        return (self._tracker.update(item),)

    def flush(self) -> Iterable[Tracks]:
        """Nothing is held back: tracks alive at the end were put out frame by frame."""
        self._tracker.finish()
        return ()

    def close(self) -> None:
        """Nothing to release."""
