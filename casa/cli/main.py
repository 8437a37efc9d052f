"""The ``casa`` command: every subcommand, each one's code imported when it is called.

Exit codes: 0 done, 1 the work failed, 2 the call or the input was wrong (one line: what, where, what to do).
"""

from __future__ import annotations

import sys

import typer

from casa import __version__
from casa.cli import bench, evaluate
from casa.cli.demo import demo
from casa.cli.export import export
from casa.cli.kinematics import kinematics
from casa.cli.recover import recover
from casa.cli.replay import replay
from casa.cli.report import report

app = typer.Typer(
    name="casa",
    help="Computer-assisted semen analysis: detect, track and measure sperm in microscope video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"casa {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


app.command()(demo)
app.command()(replay)
app.command()(kinematics)
app.command()(report)
app.command()(export)
app.command()(recover)

evaluations = typer.Typer(help="Score detections, tracks and kinematics against truth.", no_args_is_help=True)
evaluations.command("detector")(evaluate.detector)
evaluations.command("tracker")(evaluate.tracker)
app.add_typer(evaluations, name="evaluate")

benches = typer.Typer(help="Measure casa beside its peers, in one run.", no_args_is_help=True)
benches.command("replay")(bench.replay)
benches.command("tracker")(bench.tracker)
benches.command("memory")(bench.memory)
app.add_typer(benches, name="bench")


def main() -> None:
    """Run the command line; errors made on purpose become one line and an exit code."""
    from casa.errors import CasaError

    try:
        app()
    except CasaError as error:
        typer.echo(f"casa: {' '.join(str(error).split())}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
