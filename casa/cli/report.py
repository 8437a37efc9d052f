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
    force: Annotated[bool, typer.Option("--force", help="Replace an existing report.")] = False,
) -> None:
    """Write the report of a recording as one HTML file."""
    from casa.report import write_report

    output = output or recording.with_suffix(".html")
    write_report(recording, output, force)
    typer.echo(str(output), err=True)
