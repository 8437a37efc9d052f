"""``casa sample export``: a sample's figures for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from casa.cli.options import Json


def export(
    folder: Annotated[Path, typer.Argument(metavar="SAMPLE", help="Folder of the sample.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
    format: Annotated[str, typer.Option("--format", help="What to write: fhir (R4, JSON).")] = "fhir",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    as_json: Json = False,
) -> None:
    """Write a sample's pooled figures, and those of its replicates, as a FHIR R4 bundle."""
    from casa.cli.output import print_json, refuse_existing
    from casa.cli.sample_report import open_field
    from casa.errors import CasaError, InputError
    from casa.interchange.fhir import sample_bundle, write_bundle
    from casa.record.export import write_whole
    from casa.report.sample_fields import read_sample_fields
    from casa.samples.sample import read_sample

    if format != "fhir":
        raise InputError(f"--format {format}: expected fhir")
    refuse_existing(output, force)
    sample = read_sample(folder)
    bundle = sample_bundle(sample, *read_sample_fields(folder, sample, open_field, loss_reasons=False))
    try:
        write_whole(output, lambda path: write_bundle(path, bundle))
    except OSError as error:
        raise CasaError(f"{output}: cannot be written ({error.strerror or error})") from error
    if as_json:
        print_json({"sample": sample.sample_id, "format": format, "files": [str(output)]})
    else:
        print(output)
