"""``casa qc``: control recordings day by day, and agreement with a technician. Holds the typer app ``app``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from casa.cli.audit import AuditOption, audit_result, check_log
from casa.cli.options import CalibrationName, ConfigName, Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casa.qc.evaluate import Chart
    from casa.qc.page import Study
    from casa.qc.series import Addition

app = typer.Typer(
    help="Watch control recordings over days; compare with a technician.", no_args_is_help=True, rich_markup_mode=None
)
Series = Annotated[Path, typer.Argument(metavar="SERIES", help="File of the series, NAME.qc; made with its first run.")]
Control = Annotated[
    str | None, typer.Option(help="What the control is, 'frozen straws, lot 12'; by default as before.")
]
Page = Annotated[Path | None, typer.Option("--page", help="Page with the charts to write (HTML).")]
Baseline = Annotated[int, typer.Option(help="How many runs make the limits.")]
Figures = Annotated[
    list[str] | None, typer.Option("--figure", help="Figure to chart, as vcl_um_s; may be given again.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace outputs that exist.")]


@app.command()
def add(
    series: Series,
    recordings: Annotated[list[Path], typer.Argument(metavar="RUN.h5...", help="Recordings of the control.")],
    control: Control = None,
    page: Page = None,
    baseline: Baseline = 20,
    figure: Figures = None,
    audit_log: AuditOption = None,
    as_json: Json = False,
) -> None:
    """Add recordings of the control (of a slide, a straw, beads: recorded anew each day) to its series, and judge it.

    Exit code 1 where the newest run is out of control.
    """
    addition = _begin(series, figure, baseline, page, audit_log)
    for path in recordings:
        addition.read(path, control)
    _add(addition, figure, baseline, page, audit_log, as_json)


@app.command()
def run(
    series: Series,
    video: Annotated[str, typer.Argument(help="The control video: the same one every time.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Recording to keep; none by default.")] = None,
    calibration: CalibrationName = None,
    config: ConfigName = "replay",
    weights: Annotated[str | None, typer.Option(help="Detector weights: a name or a file.")] = None,
    control: Control = None,
    page: Page = None,
    baseline: Baseline = 20,
    figure: Figures = None,
    force: Force = False,
    audit_log: AuditOption = None,
    as_json: Json = False,
) -> None:
    """Replay a control video, add what comes out to its series, and judge it.

    It checks casa, its network and settings, not the microscope: for that record a control slide and `casa qc add` it.
    """
    import tempfile

    from casa.cli.output import refuse_existing
    from casa.cli.replay import run_replay
    from casa.config import load_config
    from casa.errors import CasaError

    settings = load_config(config, {"detect.weights": weights})
    if output is not None:
        refuse_existing(output, force)
    addition = _begin(series, figure, baseline, page, audit_log)
    with tempfile.TemporaryDirectory(prefix="casa-qc-") as folder:
        path = output or Path(folder) / "control.h5"
        result = run_replay(video, path, settings, calibration, force=force, command=" ".join(sys.argv[1:]))
        if result.status != "complete":
            raise CasaError(f"{video}: was broken off; nothing was added to {series}")
        addition.read(path, control or Path(video).name, video)
    _add(addition, figure, baseline, page, audit_log, as_json)


@app.command()
def check(
    series: Series, page: Page = None, baseline: Baseline = 20, figure: Figures = None, as_json: Json = False
) -> None:
    """Judge a series, or the log of `casa calibrate beads --log`; exit code 1 where the newest run is out."""
    from casa.qc.evaluate import evaluate
    from casa.qc.page import check_page
    from casa.qc.series import read_series

    check_page(page)
    _tell(series, evaluate(read_series(series), figure or (), baseline), page, as_json)


@app.command("break")
def begin_anew(
    series: Series,
    why: Annotated[str, typer.Option(help="Why: 'new lamp', 'new lot of straws'.")],
) -> None:
    """Begin a new baseline with the next run (a changed network, setting or scale does so by itself)."""
    from casa.qc import series as of_series

    of_series.begin_anew(series, why)
    typer.echo(f"{series}: a new baseline begins with the next run", err=True)


@app.command()
def agreement(
    pairs: Annotated[
        Path, typer.Argument(metavar="CSV", help="Columns sample, figure, technician, casa; a line a pair.")
    ],
    x: Annotated[str, typer.Option("--x", help="Column of the reference method.")] = "technician",
    y: Annotated[str, typer.Option("--y", help="Column of the other method.")] = "casa",
    page: Page = None,
    as_json: Json = False,
) -> None:
    """Compare two methods on the same samples: Bland-Altman limits of agreement and Passing-Bablok regression."""
    from casa.cli.output import print_json
    from casa.qc.page import agreement_page, check_page, study, write_page
    from casa.qc.pairs import read_pairs

    check_page(page)
    studies = [study(one) for one in read_pairs(pairs, x, y)]
    if page is not None:
        write_page(page, agreement_page(f"Agreement of {y} with {x}", studies))
    if as_json:
        print_json({one.pairs.figure: agreement_json(one) for one in studies})
        return
    from rich.console import Console
    from rich.table import Table

    from casa.qc.charts import name_of
    from casa.qc.page import agreement_rows, agreement_words

    console = Console()
    for one in studies:
        title = f"{name_of(one.pairs.figure)}: {y} - {x}, {one.bland_altman.n} samples"
        table = Table(title=title, title_justify="left")
        table.add_column("")
        table.add_column("value", justify="right")
        table.add_column("95 % interval", justify="right")
        for row in agreement_rows(one):
            table.add_row(*row)
        console.print(table)
        for line in agreement_words(one):
            console.print(line, soft_wrap=True, markup=False)


def agreement_json(one: Study) -> dict[str, Any]:
    """What ``--json`` prints of a figure."""
    from dataclasses import asdict

    found = one.regression
    return {
        "unit": one.pairs.unit,
        "bland_altman": asdict(one.bland_altman),
        "passing_bablok": None if found is None else asdict(found) | {"linear": found.linear},
        "reason": one.reason or None,
    }


def _begin(series: Path, figures: list[str] | None, baseline: int, page: Path | None, log: Path | None) -> Addition:
    """What runs are added with, once all that was asked for can be done: nothing is written before."""
    from casa.qc.evaluate import check_options
    from casa.qc.page import check_page
    from casa.qc.series import Addition

    check_options(figures or (), baseline)
    check_page(page)
    check_log(log)
    return Addition.to(series)


def _add(
    addition: Addition, figures: list[str] | None, baseline: int, page: Path | None, log: Path | None, as_json: bool
) -> None:
    """Judge the series with its new runs, write it, and tell."""
    from casa.qc.evaluate import evaluate
    from casa.qc.page import state_of

    charts = evaluate(addition.runs, figures or (), baseline)
    addition.write()
    alarm = any(chart.alarm for chart in charts)
    states = {chart.figure: state_of(chart) for chart in charts}
    audit_result(log, "qc alarm" if alarm else "qc", str(addition.path), states=states)
    _tell(addition.path, charts, page, as_json)


def _tell(series: Path, charts: Sequence[Chart], page: Path | None, as_json: bool) -> None:
    """Write the page, tell, and end with exit code 1 on an alarm."""
    from casa.cli.output import print_json
    from casa.qc.page import break_lines, series_page, state_of, write_page

    if page is not None:
        write_page(page, series_page(f"Quality control: {series.stem}", charts))
    alarm = any(chart.alarm for chart in charts)
    if as_json:
        print_json({"alarm": alarm, "figures": {chart.figure: chart_json(chart) for chart in charts}})
    else:
        begun = charts[0].segments[-1]
        if begun.changed and len(begun.points) == 1:
            typer.echo(f"the series breaks here: {break_lines(charts[0])[-1].partition(', ')[2]}")
        for chart in charts:
            typer.echo(state_of(chart))
    if alarm:
        raise typer.Exit(1)


def chart_json(chart: Chart) -> dict[str, Any]:
    """What ``--json`` prints of a chart."""
    last = chart.points[-1]
    return {
        "unit": chart.unit,
        "value": last.value,
        "state": last.state,
        "rules": list(last.rules),
        "deviation_sd": last.deviation_sd,
        "moving_average_sd": last.ewma_sd,
        "segments": [
            {
                "runs": len(segment.points),
                "mean": segment.mean,
                "sd": segment.sd,
                "baseline": segment.n_baseline,
                "changed": list(segment.changed),
                "step": segment.step,
                "states": [point.state for point in segment.points],
                "values": [point.value for point in segment.points],
            }
            for segment in chart.segments
        ],
    }
