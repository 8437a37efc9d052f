"""From detections to tracks: an IMM bank and ByteTrack's association.

`Tracker` takes one frame at a time, `TrackStage` is the same as a stage of the graph, `track_table` as a function of
a whole table.
"""

from casa.track.stage import TrackStage
from casa.track.table import track_table
from casa.track.tracker import Tracker, TrackerCounters

__all__ = ["TrackStage", "Tracker", "TrackerCounters", "track_table"]
