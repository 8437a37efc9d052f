"""``casa report``: the report of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from casa.cli.options import Json
from casa.cli.sample_report import AsPdf, pdf_beside


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
    pdf: AsPdf = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing report.")] = False,
    as_json: Json = False,
) -> None:
    """Write the report of a recording as one HTML file."""
    from casa.cli.output import print_json
    from casa.engine.corrected import open_with, tracks_of
    from casa.report import write_report

    output = output or recording.with_suffix(".html")
    printed = pdf_beside(output, pdf, force)
    write_report(recording, output, force, open_with(offline, corrected))
    if printed is not None:
        from casa.report.pdf import write_pdf

        write_pdf(output, printed, force)
    if as_json:
        tracks = tracks_of(recording, offline, corrected)
        told = {"recording": str(recording), "tracks": tracks, "report": str(output)}
        print_json(told | {"pdf": None if printed is None else str(printed)})
    else:
        for path in filter(None, (output, printed)):
            typer.echo(str(path), err=True)
