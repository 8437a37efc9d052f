"""Values of options that several commands take."""

from __future__ import annotations

from casa.errors import InputError


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
