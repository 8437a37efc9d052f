"""Calibration profiles: TOML files in ``calibration/`` (or anywhere), one microscope and chamber each.

A profile's keys are the fields of ``casa.types.Calibration``. Knows nothing of how a calibration is made.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from casa.errors import CasaError, InputError
from casa.resources import find_resource
from casa.types import Calibration, SourceInfo

_TEXT = ("name", "note")
_WHOLE = ("width_px", "height_px")
_REQUIRED = ("um_per_px_x", "um_per_px_y")


def _checked(path: Path, key: str, value: Any) -> Any:
    """The value of a key, or InputError where it is not of the key's kind."""
    if key in _TEXT:
        if not isinstance(value, str):
            raise InputError(f"{path}: {key}: expected text, got {value!r}")
        return value
    if key == "verified":
        if not isinstance(value, bool):
            raise InputError(f"{path}: {key}: expected true or false, got {value!r}")
        return value
    if key in _WHOLE:
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise InputError(f"{path}: {key}: expected a positive whole number of pixels, got {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{path}: {key}: expected a number, got {value!r}")
    zero_fits = key == "uncertainty_percent"
    if not 0 <= value < float("inf") or (value == 0 and not zero_fits):
        raise InputError(f"{path}: {key}: expected a positive number, got {value!r}")
    return float(value)


def load_profile(name_or_path: str | Path) -> Calibration:
    """A calibration by path, or by the name of a shipped one (``simulator``).

    Raises
    ------
    InputError : no such file, not TOML, a key missing or unknown, or a value that does not fit; the message names it.
    """
    path = find_resource("calibration", name_or_path, ".toml")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: cannot be read as TOML ({' '.join(str(error).split())})") from error
    known = [f.name for f in fields(Calibration)]
    unknown = [key for key in data if key not in known]
    if unknown:
        raise InputError(f"{path}: {unknown[0]}: no such key in a calibration profile; known: {', '.join(known)}")
    missing = [key for key in _REQUIRED if key not in data]
    if missing:
        raise InputError(f"{path}: {missing[0]} is missing; a profile needs {' and '.join(_REQUIRED)} in um per pixel")
    if ("width_px" in data) != ("height_px" in data):
        raise InputError(f"{path}: give both width_px and height_px, the frame size the scale was measured at")
    values: dict[str, Any] = {"name": path.stem}
    for key, value in data.items():
        values[key] = _checked(path, key, value)
    return Calibration(**values)


def write_profile(path: Path, calibration: Calibration, force: bool = False) -> None:
    """Write a calibration as a TOML profile; fields that are None are left out.

    Raises
    ------
    InputError : the file exists and ``force`` is False. CasaError : it cannot be written.
    """
    if path.exists() and not force:
        raise InputError(f"{path}: exists already; give another name, or --force to replace it")
    lines = []
    for f in fields(Calibration):
        value = getattr(calibration, f.name)
        if value is None:
            continue
        # JSON's strings, numbers and booleans are TOML's too
        lines.append(f"{f.name} = {json.dumps(value, ensure_ascii=False)}\n")
    try:
        path.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise CasaError(f"{path}: cannot be written ({error.strerror or error})") from error


def check_fits(calibration: Calibration, source: SourceInfo) -> None:
    """Raise InputError when the scale was measured at another frame size than the source has.

    A picture that was cropped, binned or resized has another scale or another field of view, and nothing in it tells.
    """
    if calibration.width_px is None or calibration.height_px is None:
        return
    if (calibration.width_px, calibration.height_px) != (source.width_px, source.height_px):
        raise InputError(
            f"calibration {calibration.name!r} does not fit {source.uri}: it was measured at"
            f" {calibration.width_px}x{calibration.height_px} px and the source has"
            f" {source.width_px}x{source.height_px}; use the profile of this frame size, or none"
        )
