"""``casa record``: record a session that runs somewhere else, from its bus."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from casa.cli.options import Json, Keys


def record(
    output: Annotated[Path, typer.Option("-o", "--output", help="Recording to write.")],
    endpoint: Annotated[
        str | None, typer.Argument(help="The session: a name, ipc://FOLDER or tcp://HOST:PORT.")
    ] = None,
    video: Annotated[str, typer.Option(help="Keep the pictures beside it: none, lossless or mjpeg.")] = "none",
    segment: Annotated[
        str | None, typer.Option(help="Begin a new recording (RUN.0002.h5, …) this often: 10min, 90s, 1h.")
    ] = None,
    detections: Annotated[bool, typer.Option("--detections/--no-detections", help="Keep the detections.")] = True,
    sync_interval_s: Annotated[float, typer.Option(help="How often it is made safe against a power cut, s.")] = 0.5,
    keys: Keys = None,
    name: Annotated[str, typer.Option(help="What the engine is to call this recorder.", hidden=True)] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace a recording that exists.")] = False,
    as_json: Json = False,
) -> None:
    """Record a running session until it ends, or until Ctrl-C. A recorder that died is gone on with."""
    from casa.bus.address import Endpoint
    from casa.bus.keys import load_client_keys
    from casa.cli.output import print_json, stop_on_interrupt
    from casa.cli.values import seconds_of
    from casa.config import RecordConfig
    from casa.errors import InputError
    from casa.lifeline import follow_parent
    from casa.record.process import record_bus

    if video not in ("none", "lossless", "mjpeg"):
        raise InputError(f"--video {video}: expected none, lossless or mjpeg")
    if not sync_interval_s > 0:
        raise InputError(f"--sync-interval-s {sync_interval_s:g}: expected a number of seconds above 0")
    with stop_on_interrupt() as stop:
        # Linux sends it again for each thread of a parent that dies: more than one is no impatience
        signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
        follow_parent()
        result = record_bus(
            Endpoint.parse(endpoint),
            output,
            RecordConfig(detections=detections, sync_interval_s=sync_interval_s),
            keys=load_client_keys(keys) if keys is not None else None,
            name=name,
            force=force,
            video=video,
            segment_s=None if segment is None else seconds_of("--segment", segment),
            stop=stop.is_set,
        )
    if as_json:
        print_json(
            {
                "status": result.status,
                "recordings": [str(path) for path in result.recordings],
                "written": result.written,
                "reconciled": result.reconciled,
            }
        )
    elif not name:
        for path in result.recordings:
            print(f"{result.status}: {path}", file=sys.stderr)
