"""``casa kinematics``: velocities, beat and motility grades from a table of tracks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from casa.cli.options import CalibrationName, Force, Json

if TYPE_CHECKING:
    from casa.types import Calibration, KinematicsTable, Summary


def kinematics(
    tracks: Annotated[Path, typer.Argument(help="Tracks table: CSV, .csv.gz, or MOTChallenge .txt.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Kinematics CSV to write.")],
    fps: Annotated[
        float | None, typer.Option(help="Frames a second; not needed where the table has times (t_s).")
    ] = None,
    um_per_px: Annotated[float | None, typer.Option(help="Scale of square pixels, um per pixel.")] = None,
    calibration: CalibrationName = None,
    frame_size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT of the pictures in px, for the concentration.")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Pictures looked at, where some have no track.")] = None,
    jitter_px: Annotated[
        str, typer.Option(help="Localisation jitter to correct for: auto, a number in px, or 0 for none.")
    ] = "0",
    drift: Annotated[bool, typer.Option("--drift/--no-drift", help="Remove the drift of the field.")] = False,
    config: Annotated[
        str | None, typer.Option(help="Configuration (name or YAML file) for windows and limits.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Measure tracks: VCL, VSL, VAP, LIN, STR, WOB, ALH, BCF, MAD and WHO grades."""
    from casa.cli.output import print_json, refuse_existing
    from casa.cli.values import size_px
    from casa.config import load_config
    from casa.errors import CasaError, InputError
    from casa.kinematics import analyse_tracks
    from casa.tables import read_tracks, write_kinematics

    refuse_existing(output, force)
    settings = load_config(config or "replay", {"kinematics.jitter_px": _jitter(jitter_px), "kinematics.drift": drift})
    scale = _calibration(um_per_px, calibration)
    size = size_px(frame_size, "--frame-size")
    if scale is not None and scale.width_px and scale.height_px:
        if size is not None and size != (scale.width_px, scale.height_px):
            raise InputError(
                f"--frame-size {frame_size}: calibration {scale.name!r} was measured at"
                f" {scale.width_px}x{scale.height_px} px; use the profile of this frame size"
            )
        size = (scale.width_px, scale.height_px)
    if frames is not None and frames < 1:
        raise InputError(f"--frames {frames}: expected the number of pictures that were looked at, at least 1")
    table = read_tracks(tracks, fps, boxes=False)
    rows, summary = analyse_tracks(table, settings.kinematics, scale, size, frames)
    try:
        write_kinematics(output, rows)
    except OSError as error:
        raise CasaError(f"{output}: cannot be written ({error.strerror or error})") from error
    if as_json:
        print_json(_result(rows, summary, scale, output))
    else:
        _print_summary(rows, summary, output)


def _jitter(text: str) -> float | str:
    """The value of --jitter-px for the configuration."""
    from casa.errors import InputError

    if text == "auto":
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InputError(f"--jitter-px {text}: expected auto, 0 for none, or a positive number of pixels")
    return value


def _calibration(um_per_px: float | None, profile: str | None) -> Calibration | None:
    """The scale from --um-per-px or --calibration; None where neither is given."""
    from casa.calibrate.profile import load_profile
    from casa.errors import InputError
    from casa.types import Calibration

    if um_per_px is not None and profile is not None:
        raise InputError("--um-per-px and --calibration: give one of them, the profile has a scale of its own")
    if profile is not None:
        return load_profile(profile)
    if um_per_px is None:
        return None
    if not 0 < um_per_px < float("inf"):
        raise InputError(f"--um-per-px {um_per_px}: the scale must be a positive number of micrometres in a pixel")
    return Calibration("--um-per-px", um_per_px, um_per_px)


def _result(rows: KinematicsTable, summary: Summary, calibration: Calibration | None, output: Path) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "tracks": len(rows),
        "calibrated": calibration is not None,
        "heads_per_frame": summary.heads_per_frame,
        "concentration_m_per_ml": summary.concentration_m_per_ml,
        "motility_percent": summary.motility_percent,
        "graded_time_s": summary.graded_time_s,
        "drift_px_s": summary.drift_px_s,
        "drift_corrected": summary.drift_corrected,
        "jitter_px": summary.jitter_px,
        "jitter_corrected": summary.jitter_corrected,
        "flags": list(summary.flags),
        "calibration": asdict(calibration) if calibration is not None else None,
        "kinematics": str(output),
    }


def _print_summary(rows: KinematicsTable, summary: Summary, output: Path) -> None:
    heads = f", {summary.heads_per_frame:.1f} heads in a frame" if summary.heads_per_frame is not None else ""
    print(f"{len(rows)} tracks{heads}")
    percent = summary.motility_percent
    if percent["pr"] is not None:
        print(f"motility: progressive {percent['pr']:.0f} % ({', '.join(f'{g} {percent[g]:.0f} %' for g in 'abcd')})")
    else:
        print("motility: not graded (no scale: speeds are in px/s; give --um-per-px or --calibration)")
    if summary.concentration_m_per_ml is not None:
        print(f"concentration: {summary.concentration_m_per_ml:.1f} M/mL")
    if summary.jitter_px is not None:
        done = "corrected for" if summary.jitter_corrected else "not corrected for (--jitter-px)"
        print(f"localisation jitter: {summary.jitter_px:.2f} px a axis, {done}")
    if summary.drift_px_s is not None:
        done = "removed" if summary.drift_corrected else "not removed (--drift)"
        print(f"drift of the field: {summary.drift_px_s[0]:.1f}, {summary.drift_px_s[1]:.1f} px/s, {done}")
    print(f"kinematics: {output}")
