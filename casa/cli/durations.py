"""Lengths of time on the command line: 90s, 10min, 1h, or a plain number of seconds."""

from __future__ import annotations

import re

from casa.errors import InputError

_UNITS = {"": 1.0, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


def seconds_of(option: str, text: str) -> float:
    """Seconds. Raises InputError, which names the option."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|m|h)?", text.strip())
    if found is None or float(found[1]) <= 0:
        raise InputError(f"{option} {text}: expected a length of time, as in 90s, 10min or 1h")
    return float(found[1]) * _UNITS[found[2] or ""]
