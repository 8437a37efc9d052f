"""``casa replay``: a recorded video in, a recording and a report out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from casa.cli.audit import AuditOption, audit_recording, check_log
from casa.cli.options import (
    Backend,
    CalibrationName,
    ConfigName,
    Device,
    Grade,
    GradeWeights,
    Morphology,
    MorphologyWeights,
)
from casa.cli.sample_report import AsPdf, pdf_beside

if TYPE_CHECKING:
    from casa.engine import SessionResult


def replay(
    video: Annotated[str, typer.Argument(help="Video file, folder of images, or simulator[:PRESET].")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Recording to write; by default VIDEO's name with .h5.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames a second, instead of the file's own timestamps.", show_default=False)
    ] = None,
    calibration: CalibrationName = None,
    config: ConfigName = "replay",
    weights: Annotated[
        str | None, typer.Option(help="Detector weights: a name in `casa models list`, or a file.")
    ] = None,
    accuracy: Annotated[
        bool, typer.Option("--accuracy", help="The most accurate detector instead of the fast one.")
    ] = False,
    backend: Backend = None,
    device: Device = None,
    jitter_px: Annotated[
        str | None, typer.Option(help="Localisation jitter to correct for: auto, a number in px, or 0 for none.")
    ] = None,
    drift: Annotated[bool | None, typer.Option("--drift/--no-drift", help="Remove the drift of the field.")] = None,
    grade: Grade = None,
    grade_weights: GradeWeights = None,
    morphology: Morphology = None,
    morphology_weights: MorphologyWeights = None,
    every_nth: Annotated[int | None, typer.Option(help="Analyse every n-th frame only.")] = None,
    max_frames: Annotated[int | None, typer.Option(help="Stop after so many frames.")] = None,
    loop: Annotated[int | None, typer.Option(help="Play the video so many times over.")] = None,
    serial: Annotated[bool, typer.Option("--serial", help="One thread, for debugging.")] = False,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write an HTML report beside it.")] = True,
    pdf: AsPdf = False,
    view: Annotated[bool, typer.Option("--view", help="Open the viewer on the recording when it is done.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace outputs that exist.")] = False,
    audit_log: AuditOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object; its latencies include queueing.")
    ] = False,
) -> None:
    """Analyse a recorded video: detect, track and measure every sperm; write a recording and a report."""
    from casa.cli.found import chosen_weights
    from casa.cli.output import print_json, refuse_existing
    from casa.config import load_config
    from casa.errors import CasaError, InputError

    overrides = {
        "source.fps_hz": fps,
        "source.every_nth": every_nth,
        "source.max_frames": max_frames,
        "source.loop": loop,
        "detect.weights": chosen_weights(weights, accuracy),
        "detect.backend": backend,
        "detect.device": device,
        "kinematics.jitter_px": _jitter(jitter_px),
        "kinematics.drift": drift,
        "grade.enabled": grade,
        "grade.weights": grade_weights,
        "morphology.enabled": morphology,
        "morphology.weights": morphology_weights,
        "graph.runner": "serial" if serial else None,
    }
    settings = load_config(config, overrides)
    check_networks(grade_weights, morphology_weights, settings)
    output = output or Path(f"{Path(video.rstrip('/').replace(':', '_')).stem}.h5")
    page = output.with_suffix(".html")
    refuse_existing(output, force)
    if pdf and not report:
        raise InputError("--pdf prints the report: leave out --no-report, or --pdf")
    if report:
        refuse_existing(page, force)
        pdf_beside(page, pdf, force)
    check_log(audit_log)
    result = run_replay(video, output, settings, calibration, force=force, command=" ".join(sys.argv[1:]))
    if report:
        from casa.report import write_report

        write_report(output, page, force=force)
    audit_recording(audit_log, "result", result.recording, status=result.status)
    if as_json:
        print_json(result_json(result))
    else:
        print_summary(result, page if report else None)
    if pdf:  # at the end: where it cannot be printed, the result was told
        from casa.report.pdf import write_pdf

        write_pdf(page, page.with_suffix(".pdf"), force)
    if result.failures:
        raise CasaError("; ".join(result.failures))
    if view:
        from casa.cli.view import view_in_process

        view_in_process(output, video)


def check_networks(grade_weights: str | None, morphology_weights: str | None, settings: Any) -> None:
    """Raise InputError where weights are named, and nothing is asked of them."""
    from casa.errors import InputError

    if grade_weights is not None and not settings.grade.enabled:
        raise InputError("--grade-weights: nothing is graded without --grade")
    if morphology_weights is not None and not settings.morphology.enabled:
        raise InputError("--morphology-weights: no head is examined without --morphology")


def _jitter(text: str | None) -> float | str | None:
    """The value of --jitter-px for the configuration, which checks it."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def run_replay(
    uri: str, output: Path, settings: Any, calibration_name: str | None, *, force: bool, command: str
) -> SessionResult:
    """Open the source, replay it with a progress bar, stop in order on Ctrl-C."""
    from casa.calibrate.profile import load_profile
    from casa.cli.calibrate_use import warn_of
    from casa.cli.output import stop_on_interrupt
    from casa.engine import replay
    from casa.progress import progress
    from casa.sources import open_source

    calibration = load_profile(calibration_name) if calibration_name is not None else None
    with open_source(uri, settings.source) as source, stop_on_interrupt() as stop:
        warn_of(calibration, source)
        total = source.info.n_frames
        with progress(f"analysing {Path(uri).name}", total) as bar:
            return replay(
                source, output, settings, calibration, force=force, stop=stop, on_frame=bar.advance, command=command
            )


def result_json(result: SessionResult) -> dict[str, Any]:
    """What ``--json`` prints; null where it cannot be known."""
    from casa.cli.calibrate_use import calibrated_json

    account, summary = result.account, result.summary
    return {
        "status": result.status,
        "frames": {
            "captured": account.captured,
            "processed": account.processed,
            "skipped": account.skipped,
            "dropped": account.dropped,
            "failed": account.failed,
        },
        "fps_processed": result.fps_processed,
        "latency_ms": result.latency_ms,
        "cpu_ms_per_frame": result.cpu_ms_per_frame,
        "tracking": result.tracking,
        "tracks": summary.n_tracks,
        "heads_per_frame": summary.heads_per_frame,
        "concentration_m_per_ml": summary.concentration_m_per_ml,
        "motility_percent": summary.motility_percent,
        "flags": list(summary.flags),
        "grades": result.grading,
        "morphology": result.morphology,
        **calibrated_json(result.recording),
        "recording": None if result.recording is None else str(result.recording),
    }


def print_summary(result: SessionResult, report: Path | None) -> None:
    """The result for people, in a few lines."""
    from casa.cli.calibrate_use import calibrated_json, speeds_line

    account, summary = result.account, result.summary
    lost = ", ".join(
        f"{count} {name}"
        for name, count in (("skipped", account.skipped), ("dropped", account.dropped), ("failed", account.failed))
        if count
    )
    rate = f", {result.fps_processed:.0f} a second" if result.fps_processed else ""
    besides = f" ({lost})" if lost else ""
    print(f"{result.status}: {account.processed} of {account.captured} frames analysed{rate}{besides}")
    heads = f"{summary.heads_per_frame:.1f} heads in a frame" if summary.heads_per_frame is not None else "no frames"
    print(f"sperm: {summary.n_tracks} tracks, {heads}")
    percent = summary.motility_percent
    if percent.get("pr") is not None:
        grades = ", ".join(f"{grade} {percent[grade]:.0f} %" for grade in "abcd")
        print(f"motility: progressive {percent['pr']:.0f} % ({grades})")
    else:
        print("motility: not graded (no calibration: speeds are in px/s; give --calibration)")
    if (speeds := speeds_line(calibrated_json(result.recording))) is not None:
        print(speeds)
    if summary.concentration_m_per_ml is not None:
        print(f"concentration: {summary.concentration_m_per_ml:.1f} M/mL")
    else:
        print("concentration: not known (needs a calibration with the chamber's depth)")
    if result.grading is not None:
        print(f"grades: {grading_line(result.grading)}")
    if result.morphology is not None:
        print(f"morphology: {morphology_line(result.morphology)}")
    print(f"recording: {result.recording}")
    if report is not None:
        print(f"report: {report}")


def morphology_line(examining: dict[str, Any]) -> str:
    """What became of the clips whose heads were examined, in a line."""
    abstained = sorted(examining.get("abstained", {}).items(), key=lambda item: -item[1])
    none = sum(n for _, n in abstained)
    why = f" ({', '.join(f'{n} {reason}' for reason, n in abstained)})" if none else ""
    line = grading_line(examining, "examined")
    return f"{line}; in {examining['graded'] - none} a head to be classed, in {none} none{why}"


def grading_line(grading: dict[str, Any], done: str = "graded") -> str:
    """What became of the clips, in a line."""
    lost = [
        f"{grading[name]} {words}"
        for name, words in (
            ("superseded", "superseded by newer ones"),
            ("left_out", "left out for want of time"),
            ("failed", "failed"),
        )
        if grading.get(name)
    ]
    besides = f" ({', '.join(lost)})" if lost else ""
    return f"{grading['graded']} of {grading['taken']} clips {done}, of {grading['tracks']} tracks{besides}"
