"""``casa export``: the tables of a recording for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class ExportFormat(StrEnum):
    """What ``--format`` takes."""

    CSV = "csv"
    PARQUET = "parquet"
    MOT = "mot"


def export(
    recording: Annotated[Path, typer.Argument(help="The recording, RUN.h5.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write into.")],
    format: Annotated[ExportFormat, typer.Option("--format", help="What to write.")] = ExportFormat.CSV,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Write detections, tracks and kinematics as CSV, Parquet or MOTChallenge text."""
    from casa.record import export as export_recording

    for path in export_recording(recording, format.value, output, force=force):
        print(path)
