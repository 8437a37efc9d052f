"""A recording with its tracks refined by the offline pass, and the kinematics of these.

Nothing in the file changes: who opens a recording through this sees refined tracks where the file has the online
ones, and kinematics and summary computed anew from them.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from casa.config import Config
from casa.errors import InputError
from casa.record import Recording
from casa.types import FrameStatus, KinematicsTable, Summary, TrackTable


class RefinedRecording(Recording):
    """A recording whose tracks, kinematics and summary are those of the offline pass.

    The whole table of tracks is held in memory. ``session["tracks"]`` is "refined", for whoever tells where figures
    come from.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        self.session: dict[str, Any] = self.session | {"tracks": "refined"}

    def tracks(self, frames: slice | None = None) -> TrackTable:
        """Refined tracks, sorted by time, frame and track id; ``frames`` chooses frame numbers."""
        import numpy as np

        table = self._refined
        keep = np.ones(len(table), bool)
        if frames is not None:
            keep &= table.frame >= (frames.start if frames.start is not None else 0)
            keep &= table.frame < (frames.stop if frames.stop is not None else np.iinfo(np.int64).max)
        rows = np.flatnonzero(keep)
        order = np.lexsort([column[rows] for column in (table.track_id, table.field, table.frame, table.t_ns)])
        return table.select(rows[order])

    def kinematics(self) -> KinematicsTable:
        """Kinematics of the refined tracks, sorted by track id."""
        return self._analysed[0]

    def summary(self) -> Summary | None:
        """The figures of the field from the refined tracks; None where the recording has none."""
        return None if super().summary() is None else self._analysed[1]

    @cached_property
    def _config(self) -> Config:
        """The recording's own configuration; parts that this casa reads otherwise are a mistake to be told."""
        told = self.session.get("config") or {}
        parts = {name: told[name] for name in ("track", "offline", "kinematics") if name in told}
        try:
            return Config.model_validate(parts)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise InputError(
                f"{self.path}: its configuration ({where}) is not one of this casa's: refine it with the casa "
                f"{self.session.get('casa_version', 'version')} that made it, or replay the video"
            ) from error

    @cached_property
    def _refined(self) -> TrackTable:
        from casa.track.offline import PictureTimes, refine

        frames = self.frames()
        looked_at = frames["status"] == str(FrameStatus.PROCESSED)
        times = PictureTimes(frames["frame"][looked_at], frames["field"][looked_at], frames["t_ns"][looked_at])
        source, config = self.source, self._config
        return refine(
            super().tracks(), self.detections(), times, track=config.track, offline=config.offline,
            frame_size_px=(source.width_px, source.height_px),
        )  # fmt: skip

    @cached_property
    def _analysed(self) -> tuple[KinematicsTable, Summary]:
        from casa.kinematics import analyse_tracks

        source = self.source
        size = source.width_px, source.height_px
        processed = self.account.processed
        return analyse_tracks(self._refined, self._config.kinematics, self.calibration, size, processed or None)


def open_with(offline: bool) -> type[Recording]:
    """What opens a recording: with refined tracks, or as it is."""
    return RefinedRecording if offline else Recording
