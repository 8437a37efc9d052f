"""``casa recover``: what a crash left of a recording becomes a recording again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from casa.cli.options import Json


def recover(
    recording: Annotated[Path, typer.Argument(help="The recording, RUN.h5, or its RUN.h5.partial or RUN.h5.journal.")],
    force: Annotated[bool, typer.Option("--force", help="Replace another recording of that name.")] = False,
    as_json: Json = False,
) -> None:
    """Make a recording of what a crash or a full disk left, and say what was lost."""
    from dataclasses import asdict

    from casa.cli.output import print_json
    from casa.progress import progress
    from casa.record import recover as recover_recording

    with progress(f"recovering {recording.name}") as bar:
        found = recover_recording(recording, force=force, analyse=analyse, on_record=bar.advance)
    if as_json:
        print_json(asdict(found) | {"path": str(found.path)})
        return
    if found.already_complete:
        print(f"{found.path}: was complete already; what was left beside it is removed")
        return
    account, rows, damage = found.account, found.rows, found.damage
    others = ", ".join(f"{n} {name}" for name in ("skipped", "dropped", "failed") if (n := getattr(account, name)) > 0)
    print(
        f"{found.path}: {found.status}, {account.processed} of {account.captured} frames processed"
        + (f" ({others})" if others else "")
        + f"; {rows['detections']} detections, {rows['tracks']} track positions, {rows['kinematics']} measured tracks, "
        f"{rows['pictures']} pictures"
    )
    if damage.corrupt_bytes or damage.lost_records:
        print(f"lost: {damage.lost_records} records, {damage.corrupt_bytes} damaged bytes inside the journal")
    if damage.torn_bytes:
        print(f"lost: the last {damage.torn_bytes} bytes, the record under way when it stopped")
    if not (damage.corrupt_bytes or damage.lost_records or damage.torn_bytes):
        print("nothing that was written was lost")
    if not found.finished:
        what = (
            "kinematics and summary were computed again from the tracks"
            if found.analysis == "recomputed"
            else f"there is no summary ({found.analysis})"
        )
        print(f"the session had not ended: {what}")


def analyse(recording: Any) -> Any:
    """Kinematics and summary of a recording whose session never came to them."""
    from casa.config import KinematicsConfig
    from casa.kinematics import analyse_tracks

    source = recording.source
    settings = KinematicsConfig.model_validate(recording.session["config"]["kinematics"])
    return analyse_tracks(
        recording.tracks(),
        settings,
        recording.calibration,
        (source.width_px, source.height_px),
        n_frames=recording.account.processed,
    )
