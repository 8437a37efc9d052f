"""``casa track``: tracks from a table of detections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from casa.cli.options import Force, Json


def track(
    detections: Annotated[Path, typer.Argument(help="Detections table: CSV, .csv.gz, or MOTChallenge .txt.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Tracks to write: CSV, .csv.gz, or MOTChallenge .txt.")
    ],
    fps: Annotated[
        float | None, typer.Option(help="Frames a second; not needed where the table has times (t_s).")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Refine the tracks with hindsight: gaps closed, boxes smoothed.")
    ] = False,
    frame_size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT of the pictures in px, so that tracks end where they leave.")
    ] = None,
    config: Annotated[str | None, typer.Option(help="Configuration (name or YAML file) of the tracker.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Track detections frame by frame, as the online tracker does, short misses bridged; or with hindsight."""
    import numpy as np

    from casa.cli.output import print_json, refuse_existing
    from casa.cli.values import size_px
    from casa.config import load_config
    from casa.errors import CasaError
    from casa.progress import progress
    from casa.tables import read_detections, write_mot, write_tracks
    from casa.track import TrackerCounters, track_table

    refuse_existing(output, force)
    settings = load_config(config or "replay")
    size = size_px(frame_size, "--frame-size")
    table = read_detections(detections, fps)
    counters = TrackerCounters()
    with progress("tracking", None) as bar:
        tracks = track_table(table, settings.track, bar, counters, size)
    if offline:
        from casa.track.offline import refine

        tracks = refine(tracks, table, track=settings.track, offline=settings.offline, frame_size_px=size)
    write = write_mot if output.name.removesuffix(".gz").endswith(".txt") else write_tracks
    try:
        write(output, tracks)
    except OSError as error:
        raise CasaError(f"{output}: cannot be written ({error.strerror or error})") from error
    result = {
        "frames": counters.frames,
        "detections": len(table),
        "bad_boxes": counters.bad_boxes,
        "boxes_outside": counters.boxes_outside,
        "restarts": counters.restarts,
        "tracks": len(np.unique(tracks.track_id)) if offline else counters.tracks,
        "offline": offline,
        "boxes": len(tracks),
        "predicted_boxes": int(tracks.predicted.sum()),
        "tracks_file": str(output),
    }
    if as_json:
        print_json(result)
    else:
        print(f"{result['tracks']} tracks in {counters.frames} frames, {result['predicted_boxes']} of {len(tracks)} "
              f"boxes predicted: {output}")  # fmt: skip
        if counters.bad_boxes:
            print(f"{counters.bad_boxes} of {len(table)} detections were no boxes (not finite, or without area)")
        if counters.boxes_outside:
            print(f"{counters.boxes_outside} of {len(table)} detections had their centre outside {frame_size} px")
