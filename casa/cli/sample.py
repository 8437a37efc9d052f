"""``casa sample``: several recorded fields in two replicates as one result. Holds the typer app ``app``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from casa.cli.audit import AuditOption, audit_sample
from casa.cli.options import Json
from casa.cli.sample_report import open_field, report

if TYPE_CHECKING:
    from casa.samples.pool import Estimate, Pooled, SampleFigures
    from casa.samples.sample import Sample

app = typer.Typer(help="Pool recorded fields into a sample's result.", no_args_is_help=True, rich_markup_mode=None)
Folder = Annotated[Path, typer.Argument(metavar="SAMPLE", help="Folder of the sample.")]


@app.command()
def new(
    folder: Folder,
    sample_id: Annotated[str, typer.Option("--id", help="What the sample is called; nothing personal is needed.")],
    operator: Annotated[str, typer.Option(help="Who analyses it, free text.")] = "",
    volume_ml: Annotated[float | None, typer.Option("--volume-ml", help="Volume of the ejaculate.")] = None,
    dilution: Annotated[float, typer.Option(help="How many times it was diluted; 1: not at all.")] = 1.0,
    force: Annotated[bool, typer.Option("--force", help="Begin a sample anew.")] = False,
) -> None:
    """Begin a sample."""
    from casa.samples.sample import Sample, new_sample

    sample = new_sample(folder, Sample(sample_id, operator, volume_ml, dilution), force)
    typer.echo(f"sample {sample.sample_id!r} begun in {folder}", err=True)


@app.command()
def add(
    folder: Folder,
    recordings: Annotated[list[Path], typer.Argument(metavar="RUN.h5...", help="Recordings of fields.")],
    replicate: Annotated[int, typer.Option(help="The replicate they are of, 1 or 2.")],
) -> None:
    """Add recorded fields to a replicate of a sample: all of them, or none where one does not fit."""
    from casa.errors import InputError
    from casa.samples.pool import check_alike, read_field, read_fields
    from casa.samples.sample import add_field, read_sample

    if replicate not in (1, 2):
        raise InputError(f"--replicate {replicate}: expected 1 or 2")
    sample = read_sample(folder)
    new = [read_field(path, replicate, open_field) for path in recordings]
    check_alike([*read_fields(folder, sample, open_field), *new])
    for field in new:
        sample = add_field(folder, sample, field.path, field.recording_id, replicate)
    typer.echo(f"sample {sample.sample_id!r} has {len(sample.fields)} fields", err=True)


@app.command()
def remove(
    folder: Folder,
    recordings: Annotated[
        list[str], typer.Argument(metavar="RUN.h5...", help="Recordings, as sample.json or a path names them.")
    ],
) -> None:
    """Take recordings out of a sample; their files stay where they are, or need not be there."""
    from casa.samples.sample import read_sample, remove_field

    sample = read_sample(folder)
    for recording in recordings:
        sample = remove_field(folder, sample, recording)
    typer.echo(f"sample {sample.sample_id!r} has {len(sample.fields)} fields", err=True)


@app.command()
def finish(folder: Folder, audit_log: AuditOption = None, as_json: Json = False) -> None:
    """Pool a sample's fields, compare its replicates, and say whether more has to be counted."""
    from casa.cli.output import print_json
    from casa.samples.pool import sample_figures
    from casa.samples.sample import read_sample

    sample = read_sample(folder)
    figures = sample_figures(folder, sample, open_field)
    result = result_json(sample, figures)
    audit_sample(audit_log, folder, sample, result)
    if as_json:
        print_json(result)
    else:
        _print(sample, figures)


app.command()(report)


def result_json(sample: Sample, figures: SampleFigures) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "sample": sample.sample_id,
        "operator": sample.operator,
        "accepted": figures.accepted,
        "count_more": list(figures.reasons),
        **_pooled_json(figures.pooled),
        "total_m": _estimate_json(figures.total_m),
        "replicates": [_pooled_json(replicate) for replicate in figures.replicates],
        "agreement": {
            key: {"first": a.first, "second": a.second, "limit": a.limit, "accepted": a.accepted}
            for key, a in figures.agreement.items()
        },
        "notes": list(figures.notes),
    }


def _pooled_json(pooled: Pooled) -> dict[str, Any]:
    return {
        "fields": pooled.n_fields,
        "cells": pooled.cells,
        "heads": pooled.heads,
        "motility_percent": {key: _estimate_json(value) for key, value in pooled.motility_percent.items()},
        "concentration_m_per_ml": _estimate_json(pooled.concentration_m_per_ml),
    }


def _estimate_json(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "interval_95": estimate.interval}


_NAMES = {
    "a": "a  rapid progressive",
    "b": "b  slow progressive",
    "c": "c  non-progressive",
    "d": "d  immotile",
    "pr": "PR progressive",
    "total": "total motility",
}


def _print(sample: Sample, figures: SampleFigures) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Sample {sample.sample_id}", title_justify="left")
    table.add_column("")
    for heading in ("pooled (95 % interval)", *(f"replicate {n}" for n in range(1, len(figures.replicates) + 1))):
        table.add_column(heading, justify="right")
    groups = (figures.pooled, *figures.replicates)
    table.add_row("cells", *(f"{group.cells:.0f}" for group in groups))
    table.add_row("fields", *(str(group.n_fields) for group in groups))
    rows = [(f"{name}, %", [group.motility_percent[key] for group in groups], 0) for key, name in _NAMES.items()]
    rows.append(("concentration, M/mL", [group.concentration_m_per_ml for group in groups], 1))
    if sample.volume_ml is not None:
        rows.append(("total number, M", [figures.total_m], 0))
    for name, estimates, digits in rows:
        table.add_row(name, *(_words(e, digits, interval=i == 0) for i, e in enumerate(estimates)))
    console = Console()
    console.print(table)
    for line in figures.reasons:
        console.print(f"count more: {line}", soft_wrap=True, markup=False)
    for line in figures.notes:
        console.print(f"note: {line}", soft_wrap=True, markup=False)
    if figures.accepted:
        console.print("The replicates agree, and enough cells were counted.", soft_wrap=True)


def _words(estimate: Estimate, digits: int, interval: bool) -> str:
    if estimate.value is None:
        return "not known"
    text = f"{estimate.value:.{digits}f}"
    if interval and estimate.interval is not None:
        text += f" ({estimate.interval[0]:.{digits}f} to {estimate.interval[1]:.{digits}f})"
    return text
