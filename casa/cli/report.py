"""``casa report``: the report of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    recording: Annotated[Path, typer.Argument(metavar="RUN.h5", help="A recording.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The HTML file; by default beside the recording.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Figures of the refined tracks instead of the online ones.")
    ] = False,
    corrected: Annotated[
        bool | None,
        typer.Option(
            "--corrected/--no-corrected",
            help="With the corrections made in the viewer; by default where there are any, never with --offline.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing report.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Write the report of a recording as one HTML file."""
    from casa.cli.output import print_json
    from casa.engine.corrected import open_with, tracks_of
    from casa.report import write_report

    output = output or recording.with_suffix(".html")
    write_report(recording, output, force, open_with(offline, corrected))
    if as_json:
        print_json(
            {"recording": str(recording), "tracks": tracks_of(recording, offline, corrected), "report": str(output)}
        )
    else:
        typer.echo(str(output), err=True)
