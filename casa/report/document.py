"""Makes the report: reads a recording, gathers its figures and drawings, fills the template, writes the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from casa import __version__
from casa.errors import CasaError, InputError
from casa.record import Recording
from casa.report import texts
from casa.report.charts import histogram, motility_bar, reference_strip
from casa.report.figures import (
    Figure,
    WhoRow,
    concentration_figure,
    graded,
    kinematics_by_grade,
    loss_reasons,
    measure_timing,
    motility_figures,
    parameters,
    quality_notes,
    time_weights,
    who_table,
)
from casa.report.grades import grades_of, nothing_graded
from casa.report.morphology import heads_of, nothing_examined
from casa.report.paths import Scale, choose_paths, field_plot, origin_plot
from casa.report.picture import choose_picture, overlay
from casa.report.provenance import (
    flat_settings,
    frames_group,
    machine_group,
    method_group,
    model_group,
    scale_group,
    source_group,
)
from casa.statistics import effective_count, nice_step
from casa.types import MOTILITY_GRADES, Calibration, KinematicsFlag, KinematicsTable, is_simulated

#: Pictures of which the best is shown; a long recording keeps more than fit in memory.
PICTURES_LOOKED_AT = 8


def write_report(
    recording: Path, out: Path, force: bool = False, open_recording: Callable[[Path], Recording] = Recording
) -> None:
    """Write the report of a recording: one HTML file that needs nothing else.

    Parameters
    ----------
    recording : a finished recording, or an unfinished one: then the report says so.
    out : the HTML file.
    force : replace ``out`` when it exists.
    open_recording : may give other tracks than the file's (`casa.engine.refined`); the report says so.

    Raises
    ------
    InputError : no such recording or not one, ``out`` exists, is the recording, or its folder is missing.
    CasaError : ``out`` cannot be written.
    """
    recording, out = Path(recording), Path(out)
    check_output(out, force, [recording])
    with open_recording(recording) as opened:
        page = render(opened, recording.name)
    write_whole(out, page.encode("utf-8"))


def check_output(out: Path, force: bool, inputs: Sequence[Path]) -> None:
    """Raise InputError where a report cannot be written: it exists, is one of its inputs, or has no folder."""
    if out.exists() and any(path.exists() and out.samefile(path) for path in inputs):
        raise InputError(f"{out}: is the recording itself; give the report another name")
    if out.is_dir():
        raise InputError(f"{out}: is a folder; give the report's file name")
    if out.exists() and not force:
        raise InputError(f"{out}: exists already; give another name, or --force to replace it")
    if not out.parent.is_dir():
        raise InputError(f"{out}: the folder {out.parent} does not exist; make it first, or give another name")


def write_whole(out: Path, data: bytes) -> None:
    """Write a report, whole or not at all. Raises CasaError where it cannot be."""
    partial = out.with_name(out.name + ".partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, out)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise CasaError(
            f"{out}: the report cannot be written ({error.strerror or error}); free space or give another place"
        ) from error


def render(recording: Recording, name: str) -> str:
    """The report of an open recording as HTML; ``name`` is the recording's file name."""
    return fill("report.html.j2", gather(recording, name))


def fill(template: str, values: dict[str, Any]) -> str:
    """A template of this package with its values."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("casa.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure_words
    environment.filters["duration"] = duration_words
    environment.filters["interval"] = interval_words
    return environment.get_template(template).render(values)


def significant(value: float, digits: int = 3) -> str:
    """A number to ``digits`` significant digits, without an exponent and without false zeros."""
    if value == 0 or not np.isfinite(value):
        return "0" if value == 0 else texts.NOT_KNOWN
    decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
    return f"{value:,.{decimals}f}"


def _number(value: float, unit: str) -> str:
    return f"{value:.0f}" if unit == "%" else significant(value)


def figure_words(figure: Figure, unit: str) -> str:
    """A figure with its unit, or that it is not known."""
    return texts.NOT_KNOWN if figure.value is None else f"{_number(figure.value, unit)} {unit}"


def interval_words(figure: Figure, unit: str, bare: bool = False) -> str:
    """A figure's interval, "" where there is none; ``bare`` leaves the unit away."""
    if figure.interval is None:
        return ""
    low, high = figure.interval
    return f"{_number(low, unit)} to {_number(high, unit)}" + ("" if bare else f" {unit}")


def duration_words(seconds: float) -> str:
    """A duration in seconds, from two minutes on in minutes and seconds."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def strip_of(row: WhoRow) -> Any:
    """A row's result beside its limit; None where there is no limit or no result."""
    if row.limit is None or row.figure.value is None:
        return None
    reached = max(row.figure.value, row.figure.interval[1] if row.figure.interval else 0.0, row.limit * 2)
    step = nice_step(reached, 5)
    top = 100.0 if row.unit == "%" else step * np.ceil(reached / step)
    return reference_strip(row.figure.value, row.figure.interval, row.limit, top, row.unit)


def track_words(kinematics: KinematicsTable, calibrated: bool) -> tuple[dict[int, str], dict[int, str]]:
    """For each measured track its shade, and a line on it for the pointer."""
    vcl, vsl, unit = (
        (kinematics.vcl_um_s, kinematics.vsl_um_s, "µm/s")
        if calibrated
        else (kinematics.vcl_px_s, kinematics.vsl_px_s, "px/s")
    )
    shades, words = {}, {}
    for track_id, grade, fast, straight, seconds in zip(
        kinematics.track_id.tolist(), kinematics.motility_grade.tolist(), vcl.tolist(), vsl.tolist(),
        kinematics.duration_s.tolist(), strict=True,
    ):  # fmt: skip
        shades[track_id] = grade or "u"
        said = f"grade {grade}" if grade else texts.UNGRADED.name
        words[track_id] = f"track {track_id}: {said}, VCL {fast:.1f}, VSL {straight:.1f} {unit}, {seconds:.1f} s"
    return shades, words


def _scale(calibration: Calibration | None) -> Scale:
    return Scale(calibration.um_per_px_x, calibration.um_per_px_y, "µm") if calibration else Scale(1.0, 1.0, "px")


def legend_entries(shown: Mapping[str, int]) -> list[dict[str, Any]]:
    """Grades in order with their counts, then the ungraded where there are any."""
    entries = [
        {"shade": letter, "letter": letter, "name": texts.GRADES[letter].name, "n": shown.get(letter, 0)}
        for letter in MOTILITY_GRADES
        if any(shown.get(grade) for grade in MOTILITY_GRADES)
    ]
    if shown.get("u"):
        entries.append({"shade": "u", "letter": "", "name": texts.UNGRADED.name, "n": shown["u"]})
    return entries


def recording_status(recording: Recording) -> dict[str, Any]:
    """How the recording ended, in a word and a sentence; a recovered one says so first."""
    word, sentence = texts.STATUS[recording.status]
    if recording.recovered is not None:
        word = texts.STATUS["recovered"][0] + ("" if recording.status == "complete" else f", {word.lower()}")
        sentence = texts.STATUS["recovered"][1] if not recording.recovered.get("finished") else sentence
        sentence = sentence or texts.RECOVERED_WHOLE
    return {"word": word, "text": sentence, "complete": recording.status == "complete" and recording.recovered is None}


def date_words(text: Any) -> str:
    """A moment as a date and a time of day."""
    try:
        return datetime.fromisoformat(str(text)).strftime("%-d %B %Y, %H:%M UTC") if text else texts.NOT_KNOWN
    except ValueError:
        return str(text)


def gather(recording: Recording, name: str) -> dict[str, Any]:
    """Everything the template shows."""
    session, source, calibration = recording.session, recording.source, recording.calibration
    account, summary = recording.account, recording.summary()
    kinematics, tracks, frames = recording.kinematics(), recording.tracks(), recording.frames()
    timing = measure_timing(frames)
    separated = bool(np.any(frames["field"]))
    calibrated, scale = calibration is not None, _scale(calibration)
    shades, words = track_words(kinematics, calibrated)

    start_ns = int(frames["t_ns"].min()) if len(frames["t_ns"]) else 0
    paths, n_seen = choose_paths(tracks, shades, words)
    n_tracks = summary.n_tracks if summary is not None else n_seen
    shown: dict[str, int] = {}
    for path in paths:
        shown[path.shade] = shown.get(path.shade, 0) + 1
    pictures = recording.pictures(at_most=PICTURES_LOOKED_AT)
    over = None
    if pictures:
        index, t_ns, image = pictures[choose_picture([picture[1] for picture in pictures], tracks)]
        over = overlay(image, index, t_ns, tracks, shades, scale, start_ns)

    columns = parameters(calibrated)
    grade_of = np.where(graded(kinematics), kinematics.motility_grade, "u")
    suspect = bool(len(kinematics) and np.any(kinematics.flags & KinematicsFlag.LOW_FRAME_RATE))
    histograms = [
        drawing
        for p in columns[:3]
        if (drawing := histogram(p.symbol, p.unit, getattr(kinematics, p.column), grade_of)) is not None
    ]
    motility = motility_figures(summary, kinematics, calibration)
    concentration = concentration_figure(summary, calibration, source)
    rows = who_table(motility, concentration)
    percent = {key: motility[key].value for key in MOTILITY_GRADES}
    status = recording_status(recording)
    median_vcl = np.median(v) if (v := _finite(getattr(kinematics, columns[0].column))).size else None
    return {
        "texts": texts,
        "title": Path(source.uri).name or source.uri,
        "status": status,
        "date": date_words(session.get("created_utc")),
        "version": str(session.get("casa_version") or __version__),
        "source": source,
        "simulated": is_simulated(source),
        "timing": timing,
        "account": account,
        "calibration": calibration,
        "n_tracks": n_tracks,
        "n_measured": len(kinematics),
        "n_effective": effective_count(time_weights(kinematics)),
        "heads_per_frame": summary.heads_per_frame if summary is not None else None,
        "median_vcl": None if median_vcl is None else float(median_vcl),
        "speed_unit": columns[0].unit,
        "motility": motility,
        "concentration": concentration,
        "notes": quality_notes(
            source,
            calibration,
            account,
            timing,
            summary,
            kinematics,
            n_tracks,
            loss_reasons(frames),
            separated,
            day_of(session.get("created_utc")),
        ),
        "summary_flags": list(summary.flags) if summary is not None else [],
        "who_rows": [(row, strip_of(row)) for row in rows],
        "motility_bar": motility_bar(percent) if all(value is not None for value in percent.values()) else None,
        "overlay": over,
        "field": field_plot(paths, source.width_px, source.height_px, scale) if paths else None,
        "origin": origin_plot(paths, scale) if paths else None,
        "n_paths": len(paths),
        "n_seen": n_seen,
        "legend": legend_entries(shown),
        "histograms": histograms,
        "grades": grades_of(recording),
        "heads": heads_of(recording),
        "no_grades": nothing_graded(recording, n_tracks),
        "no_heads": nothing_examined(recording, n_tracks),
        "columns": columns,
        "kinematics_rows": kinematics_by_grade(kinematics, columns),
        "suspect": suspect,
        "groups": [
            source_group(source, session, timing),
            scale_group(calibration, _median_speeds(kinematics) if calibrated else None),
            model_group(session),
            method_group(session, summary, calibration),
            frames_group(account, recording.latency, recording.tracking),
            machine_group(session, name),
        ],
        "settings": flat_settings(session.get("config") or {}),
    }


def day_of(created_utc: object) -> date | None:
    """The day of a recording; None where it does not say."""
    try:
        return datetime.fromisoformat(str(created_utc)).date()
    except ValueError:
        return None


def _median_speeds(kinematics: KinematicsTable) -> dict[str, float]:
    """Medians over tracks, um/s, by symbol; those that no track has are left out."""
    columns = {symbol: _finite(getattr(kinematics, f"{symbol.lower()}_um_s")) for symbol in ("VCL", "VAP", "VSL")}
    return {symbol: float(np.median(values)) for symbol, values in columns.items() if values.size}


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]
