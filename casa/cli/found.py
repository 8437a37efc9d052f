"""What the evaluating commands judge: a table, a recording, or what casa finds in a video there and then."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from casa.errors import InputError

if TYPE_CHECKING:
    from casa.config import Config
    from casa.types import DetectionTable, TrackTable

_TABLE_ENDINGS = (".csv", ".csv.gz", ".txt", ".txt.gz")


def chosen_weights(weights: str | None, accuracy: bool) -> str | None:
    """The value of ``detect.weights`` for ``--weights`` and ``--accuracy``.

    Raises
    ------
    InputError : both were given, or casa brings no detector for ``--accuracy``.
    """
    if not accuracy:
        return weights
    if weights is not None:
        raise InputError("--accuracy chooses the weights: leave out --weights, or --accuracy")
    from casa.weights import most_accurate

    return most_accurate()


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path}: no such file; give a table (.csv, .csv.gz, .txt), a recording (.h5) or a video")


def detections_of(
    path: Path, settings: Config, stop: int | None = None
) -> tuple[DetectionTable, tuple[int, int] | None]:
    """Detections from a table or a recording, or those of the detector on a video, up to frame ``stop`` - 1.

    Returns them with the frame's (width, height) in px where it is known.
    """
    _check_exists(path)
    if path.name.endswith(_TABLE_ENDINGS):
        from casa.tables import read_detections

        return read_detections(path, 1.0), None  # times play no part in the scores
    if path.suffix == ".h5":
        from casa.record import Recording

        with Recording(path) as recording:
            return recording.detections(), (recording.source.width_px, recording.source.height_px)
    return _detect(path, settings, stop)


def tracks_of(path: Path, settings: Config, stop: int | None = None, offline: bool = False) -> TrackTable:
    """Tracks from a table or a recording, or those of detector and tracker on a video, up to frame ``stop`` - 1.

    With ``offline`` as the offline pass refines them.
    """
    _check_exists(path)
    if path.name.endswith(_TABLE_ENDINGS):
        from casa.tables import read_tracks

        if offline:
            raise InputError(f"{path}: a table of tracks is scored as it is; --offline needs a recording or a video")
        return read_tracks(path, 1.0)
    if path.suffix == ".h5":
        from casa.engine.refined import open_with

        with open_with(offline)(path) as recording:
            return recording.tracks()
    from casa.track import track_table

    detections, size = _detect(path, settings, stop)
    tracks = track_table(detections, settings.track, frame_size_px=size)
    if offline:
        from casa.track.offline import refine

        return refine(tracks, detections, track=settings.track, offline=settings.offline, frame_size_px=size)
    return tracks


def _detect(path: Path, settings: Config, stop: int | None) -> tuple[DetectionTable, tuple[int, int]]:
    from casa.detect import DetectStage
    from casa.evaluate.boxes import table_from_detections
    from casa.progress import progress
    from casa.sources import open_source
    from casa.types import Frame

    stage = DetectStage(settings.detect)
    found = []
    with open_source(str(path), settings.source) as source, progress("detecting", source.info.n_frames) as bar:
        stage.open()
        try:
            for item in source:
                if stop is not None and item.index >= stop:
                    break
                bar.advance()
                if isinstance(item, Frame):
                    found.extend(stage.process(item))
            found.extend(stage.flush())
        finally:
            stage.close()
        size = source.info.width_px, source.info.height_px
    return table_from_detections(found), size
