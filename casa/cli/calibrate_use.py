"""A calibration profile in use: loaded with what speaks against it, and carried into the speeds of a result."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from casa.sources import LiveSource, Source
    from casa.types import Calibration

_SPEEDS = ("vcl", "vap", "vsl")
#: A profile whose scale is off by less than this needs no word, per cent.
_SCALE_PERCENT = 0.5


def warn_of(calibration: Calibration | None, source: Source | LiveSource, binning: int | None = None) -> None:
    """What speaks against using a profile here and today, to standard error, a line each. InputError: it does not fit.

    ``source`` is open: the simulator knows the scale that it draws at.
    """
    if calibration is None:
        return
    import getpass
    from datetime import date

    from casa.calibrate.profile import cautions, check_fits

    check_fits(calibration, source.info, binning)
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""
    said = cautions(calibration, date.today(), user)
    scene = getattr(getattr(source, "device", source), "scene", None)
    if scene is not None:
        said += contradiction(calibration, source.info.uri, scene.config.um_per_px)
    for line in said:
        print(f"casa: warning: {line}", file=sys.stderr, flush=True)


def contradiction(calibration: Calibration, uri: str, um_per_px: float) -> list[str]:
    """A line where a source is known to have another scale (um/px) than a profile says; [] where they agree."""
    claimed = (calibration.um_per_px_x * calibration.um_per_px_y) ** 0.5
    off = 100 * (claimed / um_per_px - 1)
    if abs(off) <= max(_SCALE_PERCENT, calibration.uncertainty_percent or 0.0):
        return []
    return [
        f"calibration {calibration.name!r} says {claimed:.4g} um/px, and {uri} has {um_per_px:.4g}: speeds and lengths "
        f"will be {abs(off):.0f} % too {'large' if off > 0 else 'small'}; give a profile of its own, or none"
    ]


def calibrated_json(recording: Path | None) -> dict[str, Any]:
    """``calibration`` and ``speeds_um_s`` of a finished recording for --json; both None where it is not calibrated.

    Speeds are medians over tracks, with what the scale's uncertainty makes of them (about 95 %).
    """
    nothing = {"calibration": None, "speeds_um_s": None}
    if recording is None or not recording.is_file():
        return nothing
    import numpy as np

    from casa.record import Recording

    with Recording(recording) as opened:
        calibration, rows = opened.calibration, opened.kinematics()
    if calibration is None:
        return nothing
    speeds: dict[str, Any] = {}
    for name in _SPEEDS:
        values = getattr(rows, f"{name}_um_s")
        values = values[np.isfinite(values)]
        median = float(np.median(values)) if values.size else None
        of_scale = None if median is None else calibration.scale_uncertainty(median)
        speeds[name] = {"median": median, "scale_uncertainty": of_scale}
    last = calibration.valid_until
    return {
        "calibration": {
            "name": calibration.name,
            "um_per_px": [calibration.um_per_px_x, calibration.um_per_px_y],
            "uncertainty_percent": calibration.uncertainty_percent,
            "verified": calibration.verified,
            "measured_on": calibration.measured_on or None,
            "valid_until": None if last is None else last.isoformat(),
        },
        "speeds_um_s": speeds,
    }


def speeds_line(found: dict[str, Any]) -> str | None:
    """The medians for people, as in ``VCL 52.1 ± 0.4 um/s (scale)``; None where there are none."""
    said = []
    for name, speed in (found["speeds_um_s"] or {}).items():
        if speed["median"] is not None:
            of_scale = speed["scale_uncertainty"]
            more = "" if of_scale is None else f" ± {of_scale:.2g}"
            said.append(f"{name.upper()} {speed['median']:.1f}{more}")
    if not said:
        return None
    known = "(scale)" if "±" in said[0] else "(the scale's uncertainty is not known)"
    return f"median speeds: {', '.join(said)} um/s {known}"
