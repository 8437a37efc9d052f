"""``casa export``: the tables of a recording for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    recording: Annotated[Path, typer.Argument(help="The recording, RUN.h5.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write into.")],
    format: Annotated[str, typer.Option("--format", help="What to write: csv, parquet or mot.")] = "csv",
    offline: Annotated[
        bool, typer.Option("--offline", help="Refined tracks, and the kinematics of these, instead of the online ones.")
    ] = False,
    corrected: Annotated[
        bool | None,
        typer.Option(
            "--corrected/--no-corrected",
            help="With the corrections made in the viewer; by default where there are any, never with --offline.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Write detections, tracks and kinematics as CSV, Parquet or MOTChallenge text."""
    from casa.cli.output import print_json
    from casa.engine.corrected import open_with, tracks_of
    from casa.record import export as export_recording

    written = export_recording(recording, format, output, force=force, open_recording=open_with(offline, corrected))
    if as_json:
        print_json(
            {
                "recording": str(recording),
                "format": format,
                "tracks": tracks_of(recording, offline, corrected),
                "files": [str(path) for path in written],
            }
        )
        return
    for path in written:
        print(path)
