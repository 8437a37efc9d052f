"""``casa clips``: a clip of each sperm, as a folder of strips that anybody can look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from casa.cli.options import CalibrationName, ConfigName, Json

if TYPE_CHECKING:
    from casa.cells import Clip
    from casa.config import Config
    from casa.progress import Progress
    from casa.sources import Source
    from casa.types import Calibration, Frame, Tracks, TrackTable


def clips(
    what: Annotated[
        str, typer.Argument(metavar="VIDEO|RUN.h5|CLIPS", help="A video, a recording of one, or a folder of clips.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder to write; without it, CLIPS is checked and gets a contact sheet."),
    ] = None,
    video: Annotated[str | None, typer.Option(help="The recording's video, where it is not found by itself.")] = None,
    tracks: Annotated[
        Path | None, typer.Option(help="Tracks of VIDEO (casa track, or by hand), instead of finding them.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second, instead of the video's own times.")] = None,
    calibration: CalibrationName = None,
    config: ConfigName = "replay",
    every: Annotated[float | None, typer.Option(help="Seconds between the beginnings of a track's clips.")] = None,
    sheet: Annotated[bool, typer.Option("--sheet/--no-sheet", help="Draw contact sheets into the folder.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace the clips that the folder has.")] = False,
    as_json: Json = False,
) -> None:
    """Cut clips that follow single sperm: 16 pictures of 150 x 150 px about the head, 15 a second."""
    import numpy as np

    from casa.cells import ClipFlag
    from casa.cli.output import print_json
    from casa.clips.folder import FLAGS, iterate_clips, write_clips
    from casa.clips.sheet import write_sheets
    from casa.config import load_config
    from casa.errors import InputError
    from casa.grade.data import read_card, says_simulated
    from casa.progress import progress

    flags = dict.fromkeys(FLAGS, 0)
    seen: set[int] = set()
    pictures = lost = 0

    def counted(made: Iterator[Clip]) -> Iterator[Clip]:
        nonlocal pictures, lost
        for clip in made:
            seen.add(clip.track_id)
            pictures += len(clip)
            lost += int(np.count_nonzero(clip.flags & ClipFlag.LOST))
            for name, bit in FLAGS.items():
                flags[name] += int((clip.flags & bit).any())
            yield clip

    if output is None:
        folder = Path(what)
        if not folder.is_dir():
            raise InputError(f"{what}: is no folder of clips; to cut clips from it, give the folder to write with -o")
        count = sum(1 for _ in counted(iterate_clips(folder)))
    else:
        folder = output
        settings = load_config(config, {"source.fps_hz": fps, "clips.every_s": every})
        with progress("cutting clips", None) as bar:
            made = clips_of(what, video, tracks, settings, calibration, bar)
            count = write_clips(folder, counted(made), source=Path(what).name, force=force)
    kind = "simulated clips" if output is None and says_simulated(read_card(folder)) else "clips"
    sheets = write_sheets(folder, iterate_clips(folder), count, kind=kind) if sheet and count else []
    result = {
        "clips": count,
        "tracks": len(seen),
        "clips_flagged": flags,
        "lost_percent": 100 * lost / pictures if pictures else None,
        "folder": str(folder),
        "sheets": [str(path) for path in sheets],
    }
    if as_json:
        print_json(result)
        return
    raised = ", ".join(f"{number} {name}" for name, number in flags.items() if number)
    typer.echo(f"{count} clips of {len(seen)} tracks{f' (flagged: {raised})' if raised else ''}: {folder}")
    if sheets:
        typer.echo(f"to look at: {sheets[0]}" + (f" to {sheets[-1].name}" if len(sheets) > 1 else ""))


def clips_of(
    what: str, video: str | None, tracks: Path | None, settings: Config, profile: str | None, bar: Progress
) -> Iterator[Clip]:
    """The clips of a recording, of a video with tracks, or of a video whose tracks are found."""
    from casa.calibrate.profile import check_fits, load_profile
    from casa.config import SourceConfig
    from casa.record.reader import Recording
    from casa.sources import open_source
    from casa.tables import read_tracks

    calibration = load_profile(profile) if profile else None
    table, uri = None, what
    if what.endswith((".h5", ".h5.partial")):
        with Recording(what) as recording:
            table, uri = recording.tracks(), video or recording.source.uri
            calibration = calibration or recording.calibration
            source_config = SourceConfig.model_validate(recording.session["config"]["source"])
        settings = settings.model_copy(update={"source": source_config})
    with open_source(uri, settings.source) as source:
        if calibration is not None:
            check_fits(calibration, source.info)
        if tracks is not None:
            table = read_tracks(tracks, settings.source.fps_hz or source.info.fps_hz)
        if table is None:
            yield from _with_found_tracks(source, settings, calibration, bar)
        else:
            yield from _with_tracks(source, table, settings, calibration, bar)


def _with_found_tracks(
    source: Source, settings: Config, calibration: Calibration | None, bar: Progress
) -> Iterator[Clip]:
    from casa.clips import ClipStage
    from casa.detect import DetectStage
    from casa.track import TrackStage
    from casa.types import Frame

    size = source.info.width_px, source.info.height_px
    detect, track = DetectStage(settings.detect, frame_size_px=size), TrackStage(settings.track, size)
    stage = ClipStage(settings.clips, calibration, size, white_level=settings.detect.white_level)
    stages = (detect, track, stage)
    try:
        for one in stages:
            one.open()
        for item in source:
            bar.advance()
            if isinstance(item, Frame) and item.index % settings.source.every_nth == 0:
                yield from stage.process(item)
                for found in detect.process(item):
                    for tracks in track.process(found):
                        yield from stage.process(tracks)
        for found in detect.flush():
            for tracks in track.process(found):
                yield from stage.process(tracks)
        yield from stage.flush()
    finally:
        for one in stages:
            one.close()


def _with_tracks(
    source: Source, table: TrackTable, settings: Config, calibration: Calibration | None, bar: Progress
) -> Iterator[Clip]:
    from casa.clips import ClipStage
    from casa.types import Frame

    size = source.info.width_px, source.info.height_px
    stage = ClipStage(settings.clips, calibration, size, white_level=settings.detect.white_level)
    stage.open()
    try:
        by_frame = _TracksByFrame(table)
        for item in source:
            bar.advance()
            if isinstance(item, Frame):
                yield from stage.process(item)
                yield from stage.process(by_frame.at(item))
        yield from stage.flush()
    finally:
        stage.close()


class _TracksByFrame:
    """A table's rows as the tracker would have put them out."""

    def __init__(self, table: TrackTable) -> None:
        import numpy as np

        self._table = table
        self._rows: dict[tuple[int, int], list[int]] = {}
        self._ends: dict[tuple[int, int], list[int]] = {}
        last: dict[int, tuple[int, int]] = {}
        for row in np.lexsort((table.field, table.frame)).tolist():
            key = int(table.frame[row]), int(table.field[row])
            self._rows.setdefault(key, []).append(row)
            last[int(table.track_id[row])] = key
        for track_id, key in last.items():
            self._ends.setdefault(key, []).append(track_id)

    def at(self, frame: Frame) -> Tracks:
        import numpy as np

        from casa.types import Tracks, centre_size_to_boxes

        key = frame.index, frame.field
        rows = np.array(self._rows.get(key, []), np.int64)
        t = self._table.select(rows)
        boxes = np.stack([t.cx_px, t.cy_px, t.w_px, t.h_px], axis=1)
        measured = np.stack([t.x_measured_px, t.y_measured_px], axis=1)
        return Tracks(
            frame.index, frame.t_ns, t.track_id, centre_size_to_boxes(boxes).astype(np.float32), measured,
            t.confidence.astype(np.float32), t.predicted, np.zeros((len(t), 2)),
            np.array(self._ends.get(key, []), np.int64), frame.field,
        )  # fmt: skip
