"""``casa live``: a camera, analysed as it runs, with a recorder and a viewer beside it."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
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
    Json,
    Morphology,
    MorphologyWeights,
)

if TYPE_CHECKING:
    from casa.engine.live import LiveResult


def live(
    source: Annotated[
        str, typer.Option(help="camera:0, a stream's address, micromanager:CFG, or simulator[:PRESET].")
    ] = "simulator",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Recording to write; none without it.")] = None,
    duration: Annotated[float | None, typer.Option(help="End after so many seconds.", show_default=False)] = None,
    view: Annotated[bool, typer.Option("--view", help="Open a viewer.")] = False,
    video: Annotated[
        str | None, typer.Option(help="Keep the pictures beside the recording: none, lossless or mjpeg.")
    ] = None,
    segment: Annotated[
        str | None, typer.Option(help="Begin a new recording (RUN.0002.h5, …) this often: 10min, 90s, 1h.")
    ] = None,
    calibration: CalibrationName = None,
    config: ConfigName = "live",
    weights: Annotated[
        str | None, typer.Option(help="Detector weights: a name in `casa models list`, or a file.")
    ] = None,
    accuracy: Annotated[
        bool, typer.Option("--accuracy", help="The most accurate detector instead of the fast one.")
    ] = False,
    backend: Backend = None,
    device: Device = None,
    every_nth: Annotated[int | None, typer.Option(help="Analyse every n-th frame only.")] = None,
    grade: Grade = None,
    grade_weights: GradeWeights = None,
    graders: Annotated[
        int | None, typer.Option(min=1, max=32, help="How many processes grade; with --grade.", show_default=False)
    ] = None,
    morphology: Morphology = None,
    morphology_weights: MorphologyWeights = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Where the bus is: a name, ipc://FOLDER or tcp://HOST:PORT.")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(help="Folder of keys (`casa keys`): only clients with a key in it can connect.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Begin when a client of the bus says so.")] = False,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write an HTML report beside it.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace outputs that exist.")] = False,
    audit_log: AuditOption = None,
    as_json: Json = False,
) -> None:
    """Analyse a camera as it runs; Ctrl-C ends the session in order."""
    from casa.bus.address import Endpoint
    from casa.calibrate.profile import load_profile
    from casa.cli.calibrate_use import warn_of
    from casa.cli.found import chosen_weights
    from casa.cli.output import print_json, refuse_existing
    from casa.cli.replay import check_networks, result_json
    from casa.cli.stopping import StopEvent
    from casa.cli.values import seconds_of
    from casa.config import load_config
    from casa.errors import InputError
    from casa.record.files import session_files
    from casa.sources import open_live_source

    if duration is not None and not duration > 0:
        raise InputError(f"--duration {duration:g}: expected a number of seconds above 0")
    overrides: dict[str, Any] = {
        "source.every_nth": every_nth,
        "detect.weights": chosen_weights(weights, accuracy),
        "detect.backend": backend,
        "detect.device": device,
        "grade.enabled": grade,
        "grade.weights": grade_weights,
        "grade.graders": graders,
        "morphology.enabled": morphology,
        "morphology.weights": morphology_weights,
        "live.video": video,
        "live.segment_s": None if segment is None else seconds_of("--segment", segment),
    }
    settings = load_config(config, overrides)
    check_networks(grade_weights, morphology_weights, settings)
    if graders is not None and not settings.grade.enabled:
        raise InputError("--graders: nothing is graded without --grade")
    if settings.graph.runner == "serial":
        raise InputError("graph.runner: a live session runs in threads; leave out runner: serial")
    if output is None and (video or segment or report):
        raise InputError("--video, --segment and --report need a recording; give one with -o")
    if output is not None:
        for path in (output, output.with_suffix(".html")) if report else (output,):
            for taken in (path, *(session_files(path) if settings.live.segment_s is not None else ())):
                refuse_existing(taken, force)
    check_log(audit_log)
    where = Endpoint.parse(endpoint)
    profile = load_profile(calibration) if calibration is not None else None

    from casa.engine.live import LiveOptions
    from casa.engine.live import live as run

    options = LiveOptions(
        output=output,
        force=force,
        endpoint=where,
        keys=keys,
        duration_s=duration,
        view=view,
        wait=wait,
        command=" ".join(sys.argv[1:]),
    )
    abort, since_s, recordings = StopEvent(), time.time(), list[Path]()
    try:
        with open_live_source(source, settings.camera) as camera, _stop_twice(abort) as stop:
            warn_of(profile, camera, settings.camera.binning)
            result = run(camera, settings, profile, options, stop=stop, abort=abort, say=_say)
    finally:  # a session that failed has recordings, too: of several, all but the last are complete
        if output is not None:
            recordings = [path for path in session_files(output) if path.stat().st_mtime >= since_s]
        for path in recordings:
            audit_recording(audit_log, "result", path)
    if report:
        from casa.report import write_report

        for path in recordings:
            write_report(path, path.with_suffix(".html"), force=True)
    if as_json:
        told = replace(result.session, recording=recordings[0] if len(recordings) == 1 else None)
        more = {"recordings": [str(path) for path in recordings], "bus": result.bus, "events": result.events}
        print_json(result_json(told) | more)
    _summary(result, recordings, report)


def _say(line: str) -> None:
    print(f"casa: {line}", file=sys.stderr, flush=True)


def _stop_twice(abort: Any) -> Any:
    """As ``stop_on_interrupt``, but the second Ctrl-C sets ``abort``, and only the third breaks off at once."""
    import signal
    import threading
    from collections.abc import Iterator
    from contextlib import contextmanager

    from casa.cli.stopping import StopEvent

    @contextmanager
    def handlers() -> Iterator[threading.Event]:
        stop = StopEvent()

        def handle(signum: int, frame: Any) -> None:
            if abort.is_set():
                raise KeyboardInterrupt
            if stop.is_set():
                abort.set()
                return
            stop.set()
            _say("stopping; once more to wait for nothing")

        previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield stop
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    return handlers()


def _summary(result: LiveResult, recordings: list[Path], reported: bool) -> None:
    """What the session came to, on standard error."""
    from casa.cli.replay import grading_line, morphology_line

    session, bus = result.session, result.bus
    account, summary, latency = session.account, session.summary, session.latency_ms
    others = f"{account.skipped} skipped, {account.dropped} dropped, {account.failed} failed"
    rate = f", {session.fps_processed:.1f} a second" if session.fps_processed else ""
    _say(f"{session.status}: {account.captured} frames captured{rate}; {account.processed} analysed, {others}")
    if latency["p50"] is not None:
        _say(f"capture to published: p50 {latency['p50']:.1f} ms, p99 {latency['p99']:.1f} ms")
    heads = f", {summary.heads_per_frame:.1f} heads in a frame" if summary.heads_per_frame is not None else ""
    _say(f"{summary.n_tracks} tracks{heads}")
    if session.grading is not None:
        _say(grading_line(session.grading))
    if session.morphology is not None:
        _say(f"morphology: {morphology_line(session.morphology)}")
    if session.recording is None:
        return
    left_out = sum(bus["left_out"].values())
    n_sent, n_written = sum(bus["sent"].values()), sum(bus["written"].values())
    if bus["reconciled"]:
        counts = f"{n_written} messages, as sent"
    elif bus["reconciled"] is None:
        counts = f"{n_sent} messages sent; the recorder did not say how many it wrote"
    else:
        counts = f"{n_sent} messages sent, {n_written} written: they do not agree"
    _say(f"{counts}{f', {left_out} left out for want of room' if left_out else ''}")
    for path in recordings:
        _say(f"recording: {path}" + (f", report: {path.with_suffix('.html')}" if reported else ""))
