"""Calibration profiles: TOML files in ``calibration/`` (or anywhere), one a microscope, objective and camera.

The keys at the top are the fields of ``casa.types.Calibration``: what an analysis needs. A table for each step of the
setup (``[scale]``, ``[stage]``, …) says when it was measured, what came out, and how sure it is. Knows nothing of how a
calibration is made.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any

from casa.errors import CasaError, InputError
from casa.resources import find_resource
from casa.types import Calibration, SourceInfo

#: Tables of a profile, in the order of the setup.
STEPS = ("timing", "focus", "scale", "stage", "field", "chamber")
_TEXT = ("name", "note", "microscope", "objective", "camera", "used_by")
_WHOLE = ("width_px", "height_px", "binning", "valid_days")
_REQUIRED = ("um_per_px_x", "um_per_px_y")


@dataclass(frozen=True, slots=True)
class Profile:
    """A calibration and what each step of the setup found: ``steps[name]`` has ``date`` and the step's own keys."""

    calibration: Calibration
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def _checked(path: Path, key: str, value: Any) -> Any:
    """The value of a key, or InputError where it is not of the key's kind."""
    if key in _TEXT:
        if not isinstance(value, str):
            raise InputError(f"{path}: {key}: expected text, got {value!r}")
        return value
    if key in ("measured_on", "beads_counted_on"):
        return _day(path, key, value)
    if key == "verified":
        if not isinstance(value, bool):
            raise InputError(f"{path}: {key}: expected true or false, got {value!r}")
        return value
    if key in _WHOLE:
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise InputError(f"{path}: {key}: expected a positive whole number, got {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{path}: {key}: expected a number, got {value!r}")
    zero_fits = key == "uncertainty_percent"
    if not 0 <= value < float("inf") or (value == 0 and not zero_fits):
        raise InputError(f"{path}: {key}: expected a positive number, got {value!r}")
    return float(value)


def _day(path: Path, key: str, value: Any) -> str:
    try:
        return value.isoformat() if isinstance(value, date) else date.fromisoformat(value).isoformat()
    except (TypeError, ValueError):
        raise InputError(f"{path}: {key}: expected a date such as 2026-11-21, got {value!r}") from None


def read_profile(name_or_path: str | Path) -> Profile:
    """A profile by path, or by the name of a shipped one (``simulator``).

    Raises
    ------
    InputError : no such file, not TOML, a key missing or unknown, or a value that does not fit; the message names it.
    """
    path = find_resource("calibration", name_or_path, ".toml")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: cannot be read as TOML ({' '.join(str(error).split())})") from error
    steps = {name: data.pop(name) for name in STEPS if name in data}
    known = [f.name for f in fields(Calibration)]
    unknown = [key for key in data if key not in known]
    if unknown:
        raise InputError(
            f"{path}: {unknown[0]}: no such key in a calibration profile; known: {', '.join((*known, *STEPS))}"
        )
    missing = [key for key in _REQUIRED if key not in data]
    if missing:
        raise InputError(f"{path}: {missing[0]} is missing; a profile needs {' and '.join(_REQUIRED)} in um per pixel")
    if ("width_px" in data) != ("height_px" in data):
        raise InputError(f"{path}: give both width_px and height_px, the frame size the scale was measured at")
    values: dict[str, Any] = {"name": path.stem}
    for key, value in data.items():
        values[key] = _checked(path, key, value)
    for name, step in steps.items():
        if not isinstance(step, dict) or "date" not in step:
            raise InputError(f"{path}: {name}: expected a table [{name}] with the date it was measured on")
        step["date"] = _day(path, f"{name}.date", step["date"])
    beads = steps.get("chamber", {})
    # Where the scale was in doubt, beads that did not agree left the factor at 1.
    believed = beads.get("beads_agrees") or beads.get("factor") != 1
    if beads.get("beads_count") and believed and beads.get("factor") == values.get("chamber_factor", 1.0):
        values.setdefault("beads_counted_on", beads["date"])
    return Profile(Calibration(**values), steps)


def load_profile(name_or_path: str | Path) -> Calibration:
    """The calibration of a profile; see `read_profile`."""
    return read_profile(name_or_path).calibration


def write_profile(path: Path, profile: Profile | Calibration, force: bool = False) -> None:
    """Write a profile as TOML; what is None, empty or not a number is left out.

    Raises
    ------
    InputError : the file exists and ``force`` is False. CasaError : it cannot be written.
    """
    if path.exists() and not force:
        raise InputError(f"{path}: exists already; give another name, or --force to replace it")
    if isinstance(profile, Calibration):
        profile = Profile(profile)
    calibration = profile.calibration
    depth_um = calibration.chamber_depth_um
    if depth_um is not None and not 0 < depth_um < math.inf:
        raise InputError(f"the chamber's depth {depth_um:g} um: expected a number above 0")
    lines = _lines({f.name: getattr(calibration, f.name) for f in fields(Calibration)})
    for name in STEPS:
        if name in profile.steps:
            lines += ["\n", f"[{name}]\n", *_lines(profile.steps[name])]
    try:
        path.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise CasaError(f"{path}: cannot be written ({error.strerror or error})") from error


def _lines(values: Mapping[str, Any]) -> list[str]:
    """``key = value`` lines; JSON's strings, numbers, booleans and lists are TOML's too."""
    plain = {key: _plain(value) for key, value in values.items()}
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in plain.items() if _said(value)]


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _said(value: Any) -> bool:
    return not (value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)))


def check_fits(calibration: Calibration, source: SourceInfo, binning: int | None = None) -> None:
    """Raise InputError when the scale was measured at another frame size, or binning, than the source has.

    A picture that was cropped, binned or resized has another scale or another field of view, and nothing in it tells.
    """
    if binning is not None and calibration.binning is not None and binning != calibration.binning:
        raise InputError(
            f"calibration {calibration.name!r} does not fit {source.uri}: it was measured at binning"
            f" {calibration.binning} and the camera is set to {binning}; use the profile of this binning, or none"
        )
    if calibration.width_px is None or calibration.height_px is None:
        return
    if (calibration.width_px, calibration.height_px) != (source.width_px, source.height_px):
        raise InputError(
            f"calibration {calibration.name!r} does not fit {source.uri}: it was measured at"
            f" {calibration.width_px}x{calibration.height_px} px and the source has"
            f" {source.width_px}x{source.height_px}; use the profile of this frame size, or none"
        )


def cautions(calibration: Calibration, today: date, user: str = "") -> list[str]:
    """What speaks against using a calibration today, a line each: not verified, too old, made for others."""
    said = []
    if not calibration.verified:
        said.append(
            f"calibration {calibration.name!r} was never checked on this microscope: "
            "run casa calibrate, or do not rely on its speeds"
        )
    last = calibration.valid_until
    if last is not None and today > last:
        said.append(
            f"calibration {calibration.name!r} of {calibration.measured_on} was valid until {last.isoformat()}: "
            "run casa calibrate check, or calibrate anew"
        )
    users = [one.strip() for one in calibration.used_by.split(",") if one.strip()]
    if user and users and user not in users:
        said.append(f"calibration {calibration.name!r} is for {', '.join(users)}, and this is {user}")
    return said
