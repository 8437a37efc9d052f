"""Pages of quality control: a series with its charts, and an agreement study; one HTML file each, also for paper."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from casa.errors import CasaError, InputError
from casa.qc.agreement import FEW_PAIRS, BlandAltman, Limits, PassingBablok
from casa.qc.charts import bland_altman_chart, levey_jennings, name_of, passing_bablok_chart, unit_of
from casa.qc.evaluate import Chart, Segment
from casa.qc.pairs import Pairs
from casa.types import FloatArray

_LEGEND = (
    "Ring: part of the baseline. Dot: in control. Triangle: beyond 2 SD, look again. Square: out of control, with the "
    "rule it breaks. Bold line: moving average of the runs. Dotted vertical line: the series breaks, for the reason of "
    "that number."
)
#: Runs listed under each chart, the newest ones.
_LISTED = 12


@dataclass(frozen=True, slots=True)
class Study:
    """Agreement of one figure; ``regression`` is None where the methods do not rise together (``reason`` says so)."""

    pairs: Pairs
    bland_altman: BlandAltman
    regression: PassingBablok | None
    reason: str = ""


def state_of(chart: Chart) -> str:
    """What the newest run of a chart comes to, in one line."""
    last, segment = chart.points[-1], chart.segments[-1]
    name = f"{name_of(chart.figure)} {_figure(last.value, chart.unit)}"
    if last.deviation_sd is None:
        return f"{name}: no limits yet, run {len(segment.points)} of the baseline"
    where = f"{last.deviation_sd:+.1f} SD from {segment.mean:.4g}"
    match last.state:
        case "out":
            return f"{name}: OUT OF CONTROL by {', '.join(last.rules)} ({where})"
        case "warning":
            return f"{name}: look again, {', '.join(last.rules)} ({where})"
        case "baseline":
            return f"{name}: last run of the baseline ({where})"
        case _:
            return f"{name}: in control ({where})"


def break_lines(chart: Chart) -> list[str]:
    """The breaks of a chart, numbered as in its picture, with what each did to the mean."""
    lines = []
    for number, segment in enumerate(chart.segments[1:], 1):
        what = "; ".join(segment.changed[:6]) + (" …" if len(segment.changed) > 6 else "")
        lines.append(f"{number}: {segment.points[0].run.utc[:10]}, {what}{_step_words(segment, chart.unit)}")
    return lines


def _step_words(segment: Segment, unit: str) -> str:
    if segment.step is None:
        return ""
    step, low, high = segment.step
    return f". The mean moved by {step:+.3g} ({low:+.3g} to {high:+.3g}) {unit_of(unit)}".rstrip()


def series_page(title: str, charts: Sequence[Chart]) -> str:
    """The page of a series."""
    sections = []
    for chart in charts:
        rows = [
            (
                (
                    point.run.utc[:16].replace("T", " "),
                    _figure(point.value, chart.unit),
                    "" if point.deviation_sd is None else f"{point.deviation_sd:+.2f}",
                    "" if point.ewma_sd is None else f"{point.ewma_sd:+.2f}",
                    " ".join(point.rules) or {"baseline": "baseline", "in": ""}.get(point.state, ""),
                ),
                point.state == "out",
            )
            for point in chart.points[-_LISTED:]
        ]
        sections.append(
            {
                "heading": name_of(chart.figure),
                "charts": [levey_jennings(chart)],
                "lines": [*break_lines(chart), *_baseline_lines(chart)],
                "columns": ("run", "value", "SD off", "moving average", "rules"),
                "rows": rows,
            }
        )
    states = [(state_of(chart), chart.alarm) for chart in charts]
    count = len({point.run.number for chart in charts for point in chart.points})
    return _render(title, f"Control of {count} runs. {_LEGEND}", states, sections)


def _baseline_lines(chart: Chart) -> list[str]:
    segment = chart.segments[-1]
    if segment.mean is None or segment.sd is None:
        return []
    if segment.n_baseline == 0:
        return [f"Limits are the certificate's: {segment.mean:.4g}, SD {segment.sd:.3g} {unit_of(chart.unit)}."]
    said = [
        f"Baseline of {segment.n_baseline} runs: mean {segment.mean:.4g}, SD {segment.sd:.3g} {unit_of(chart.unit)}."
    ]
    if segment.sd == 0:
        said.append("The control repeats itself exactly (the same video): any difference is out of control.")
    far = [p for p in segment.points[: segment.n_baseline] if p.deviation_sd is not None and abs(p.deviation_sd) > 3]
    said += [
        f"Run of {p.run.utc[:10]} lies beyond 3 SD and is part of the baseline: it widens the limits." for p in far
    ]
    return said


def agreement_page(title: str, studies: Sequence[Study]) -> str:
    """The page of an agreement study."""
    sections = []
    for study in studies:
        charts = [bland_altman_chart(study.pairs, study.bland_altman)]
        if study.regression is not None:
            charts.append(passing_bablok_chart(study.pairs, study.regression))
        sections.append(
            {
                "heading": f"{name_of(study.pairs.figure)}: {study.bland_altman.n} samples",
                "charts": charts,
                "lines": agreement_words(study),
                "columns": ("", "value", "95 % interval"),
                "rows": [(row, False) for row in agreement_rows(study)],
            }
        )
    legend = (
        "Left: differences over means, with mean difference and 95 % limits of agreement and their 95 % intervals "
        "(shaded). Right: Passing-Bablok line with its 95 % band; dashed: equality."
    )
    return _render(title, legend, [], sections)


def agreement_rows(study: Study) -> list[tuple[str, str, str]]:
    """The figures of a study, as rows of a table."""
    unit = unit_of(study.pairs.unit)
    limits, found = study.bland_altman.limits, study.regression
    rows = [
        _row(f"mean difference {unit}", limits.bias, limits.bias_interval),
        _row(f"lower limit of agreement {unit}", limits.lower, limits.lower_interval),
        _row(f"upper limit of agreement {unit}", limits.upper, limits.upper_interval),
        _row("change of the difference with the mean", study.bland_altman.slope, study.bland_altman.slope_interval),
    ]
    if (ratio := study.bland_altman.ratio) is not None and study.pairs.unit != "%":
        rows += _ratio_rows(ratio)
    if found is not None:
        rows += [
            _row("slope (Passing-Bablok)", found.slope, found.slope_interval),
            _row(f"intercept {unit}", found.intercept, found.intercept_interval),
        ]
    return rows


def _ratio_rows(ratio: Limits) -> list[tuple[str, str, str]]:
    return [
        _row("mean ratio", ratio.bias, ratio.bias_interval),
        _row("lower limit of the ratio", ratio.lower, ratio.lower_interval),
        _row("upper limit of the ratio", ratio.upper, ratio.upper_interval),
    ]


def _row(name: str, value: float, interval: tuple[float, float]) -> tuple[str, str, str]:
    return name.strip(), f"{value:.3g}", f"{interval[0]:.3g} to {interval[1]:.3g}"


def agreement_words(study: Study) -> list[str]:
    """What the figures of a study mean, a line each."""
    ba, found = study.bland_altman, study.regression
    first, second = study.pairs.first_name, study.pairs.second_name
    low, high = ba.limits.bias_interval
    said = []
    if ba.n < FEW_PAIRS:
        said.append(f"Only {ba.n} samples: the intervals are wide; {FEW_PAIRS} or more are usual.")
    if low > 0 or high < 0:
        said.append(f"{second} gives {'more' if low > 0 else 'less'} than {first} on average, by more than chance.")
    else:
        said.append("No difference on average beyond chance.")
    if ba.slope_p < 0.05:
        said.append(
            f"The difference changes with the size of the value (p = {ba.slope_p:.2g}): one pair of limits does not "
            "fit the whole range."
        )
    if found is None:
        return [*said, study.reason]
    if not found.linear:
        said.append(
            f"The points bend away from a line (cusum {found.cusum:.3g}, limit {found.cusum_limit:.3g}): slope and "
            "intercept do not describe them."
        )
    proportional = not found.slope_interval[0] <= 1 <= found.slope_interval[1]
    constant = not found.intercept_interval[0] <= 0 <= found.intercept_interval[1]
    seen = [word for word, there in (("proportional", proportional), ("constant", constant)) if there]
    said.append(
        f"Passing-Bablok finds a {' and a '.join(seen)} difference."
        if seen
        else "Passing-Bablok finds neither a proportional nor a constant difference beyond chance."
    )
    return said


def _figure(value: float, unit: str) -> str:
    return f"{value:.4g} {unit_of(unit)}".strip()


def _render(title: str, subtitle: str, states: list[Any], sections: list[dict[str, Any]]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    from casa import __version__

    environment = Environment(
        loader=PackageLoader("casa.qc"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for section in sections:
        section["charts"] = [Markup(chart) for chart in section["charts"]]
    foot = f"casa {__version__}. An aid for people who can judge the sample themselves; not a diagnosis."
    return environment.get_template("qc.html.j2").render(
        title=title, subtitle=subtitle, states=states, sections=sections, foot=foot
    )


def check_page(path: Path | None) -> None:
    """Raise InputError where a page cannot be written to ``path``, or has the name of another kind of file."""
    if path is None:
        return
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise InputError(f"--page {path}: expected the name of an HTML file, as {path.with_suffix('.html').name}")
    if not path.parent.is_dir():
        raise InputError(f"--page {path}: the folder {path.parent} does not exist; make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"--page {path}: may not be written; give another name")


def write_page(path: Path, page: str) -> None:
    """Write a page, whole or not at all. CasaError: it cannot be written."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise CasaError(f"{path}: cannot be written ({error.strerror or error})") from error


def study(pairs: Pairs) -> Study:
    """Both analyses of the pairs of one figure. InputError: too few pairs, or nothing to compare over."""
    from casa.qc.agreement import bland_altman, passing_bablok

    first: FloatArray = pairs.first
    try:
        found = bland_altman(first, pairs.second)
    except InputError as error:
        raise InputError(f"{pairs.figure}: {error}") from error
    try:
        return Study(pairs, found, passing_bablok(first, pairs.second))
    except CasaError as error:
        return Study(pairs, found, None, f"Passing-Bablok: {error}.")
