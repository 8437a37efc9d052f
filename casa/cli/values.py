"""Values of options that several commands take."""

from __future__ import annotations

import re

from casa.errors import InputError

_TIME_UNITS_S = {"": 1.0, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


def size_px(text: str | None, option: str) -> tuple[int, int] | None:
    """WIDTHxHEIGHT as (width, height) in px; None where the option was not given."""
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) > 0 and int(height) > 0):
        raise InputError(f"{option} {text}: expected WIDTHxHEIGHT in px, such as 640x480")
    return int(width), int(height)


def frame_range(text: str | None) -> tuple[int | None, int | None]:
    """The value of --frames: first and stop, None where open."""
    if text is None:
        return None, None
    parts = text.split(":")
    try:
        if len(parts) != 2:
            raise ValueError
        first, stop = (int(part) if part.strip() else None for part in parts)
    except ValueError:
        raise InputError(f"--frames {text}: expected first:stop, such as 140:200") from None
    if first is not None and stop is not None and stop <= first:
        raise InputError(f"--frames {text}: the stop must be above the first")
    return first, stop


def seconds_of(option: str, text: str) -> float:
    """Seconds of 90s, 10min, 1h or a plain number. Raises InputError, which names the option."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|m|h)?", text.strip())
    if found is None or float(found[1]) <= 0:
        raise InputError(f"{option} {text}: expected a length of time, as in 90s, 10min or 1h")
    return float(found[1]) * _TIME_UNITS_S[found[2] or ""]
