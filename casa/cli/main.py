"""The ``casa`` command: every subcommand, each one's code imported when it is called.

Exit codes: 0 done, 1 the work failed, 2 the call or the input was wrong (one line: what, where, what to do).
"""

from __future__ import annotations

import sys
from typing import Any

import typer

from casa import __version__
from casa.cli import audit, bench, calibrate, data, evaluate, grade, models, qc, sample, train_detector
from casa.cli.batch import batch
from casa.cli.clips import clips
from casa.cli.compare import compare
from casa.cli.demo import demo
from casa.cli.detect import detect
from casa.cli.evaluate_grade import evaluate_grade
from casa.cli.evaluate_kinematics import evaluate_kinematics
from casa.cli.evaluate_morphology import evaluate_morphology
from casa.cli.export import export
from casa.cli.grader import grader
from casa.cli.keys import keys
from casa.cli.kinematics import kinematics
from casa.cli.live import live
from casa.cli.morphology import morphology
from casa.cli.record import record
from casa.cli.recover import recover
from casa.cli.replay import replay
from casa.cli.report import report
from casa.cli.sample_export import export as export_sample
from casa.cli.simulate import simulate
from casa.cli.top import top
from casa.cli.track import track
from casa.cli.train_grade import train_grade
from casa.cli.train_morphology import train_morphology
from casa.cli.view import view

#: What a wrong option, value or command raises; typer names only one of its kinds.
UsageError: Any = typer.BadParameter.__mro__[1]

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


for command in (live, record, grader, top, keys):
    app.command()(command)
for command in (demo, replay, detect, track, clips, kinematics, morphology, report, export, recover, simulate, view):
    app.command()(command)
for command in (batch, compare):
    app.command()(command)

sample.app.command("export")(export_sample)
evaluate.app.command("kinematics")(evaluate_kinematics)
evaluate.app.command("grade")(evaluate_grade)
evaluate.app.command("morphology")(evaluate_morphology)
train_detector.app.command("grade")(train_grade)
train_detector.app.command("morphology")(train_morphology)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(bench.app, name="bench")
app.add_typer(calibrate.app, name="calibrate")
app.add_typer(sample.app, name="sample")
app.add_typer(qc.app, name="qc")
app.add_typer(audit.app, name="audit")
app.add_typer(grade.app, name="grade")
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(train_detector.app, name="train")


def main() -> None:
    """Run the command line; errors made on purpose become one line and an exit code."""
    from casa.errors import CasaError

    try:
        code = app(standalone_mode=False)
    except CasaError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except UsageError as error:
        if error.ctx is not None and type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.ctx.get_help(), err=True)
        else:
            _say(f"{error.format_message()} See {error.ctx.command_path if error.ctx else 'casa'} --help")
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        _say("broken off")
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:  # a file that no command had foreseen: the full disk, the folder that is gone
        if error.filename is None:
            raise
        _say(f"{error.filename}: {error.strerror}; free space, or choose another place")
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _say(message: str) -> None:
    typer.echo(f"casa: {' '.join(message.split())}", err=True)
