"""``casa grade``: grades of sperm clips. Holds the typer app ``app``; each command's code is in a module of its own."""

from __future__ import annotations

import typer

from casa.cli.grade_data import agreement, annotate, panel
from casa.cli.grade_predict import predict

app = typer.Typer(
    help="Grades A to E of sperm clips: data, experts' votes, predictions.", no_args_is_help=True, rich_markup_mode=None
)
for command in (predict, annotate, agreement, panel):
    app.command()(command)
