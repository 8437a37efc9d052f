"""``casa export``: a recording for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from casa.cli.options import Json


def export(
    recording: Annotated[Path | None, typer.Argument(metavar="RUN.h5", help="The recording.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder to write into.")] = None,
    format: Annotated[
        str, typer.Option("--format", help="What to write: csv, parquet, mot, trackmate, napari or fhir.")
    ] = "csv",
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
    dictionary: Annotated[
        bool, typer.Option("--dictionary", help="Print what each column of each table is, and write nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    as_json: Json = False,
) -> None:
    """Write a recording as CSV, Parquet, MOTChallenge text, TrackMate XML, napari tracks or FHIR R4."""
    from casa.cli.output import print_json
    from casa.errors import InputError

    if dictionary:
        from casa.interchange.dictionary import as_markdown, as_rows

        if as_json:
            print_json({"columns": as_rows()})
        else:
            print(as_markdown(), end="")
        return
    if recording is None or output is None:
        missing = "RUN.h5, the recording" if recording is None else "-o FOLDER, where to write"
        raise InputError(f"export: {missing} is missing. See casa export --help")
    from casa.engine.corrected import open_with, tracks_of
    from casa.interchange.export import export as export_recording

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
