"""Whether a profile still holds: a minute of measurements beside what it says, and what drifted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from casa.calibrate.field import measure_field
from casa.calibrate.focus import autofocus
from casa.calibrate.instrument import Instrument, OnProgress, snap
from casa.calibrate.phase import measure_shift
from casa.calibrate.profile import Profile, cautions, check_fits
from casa.calibrate.scale import measure_scale
from casa.calibrate.timing import measure_timing
from casa.errors import CasaError, InputError
from casa.types import SourceInfo

#: How far each may be off before it counts as drifted: per cent of the scale beyond both uncertainties, of the stage,
#: of the light, points of vignetting, per cent of the frame rate.
_SCALE, _STAGE, _LIGHT, _VIGNETTING, _RATE = 0.2, 1.0, 20.0, 5.0, 1.0
_FIELD_FRAMES, _MOVE_OF_FIELD = 12, 0.25


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: its step, whether it holds, and a line that says what was found."""

    step: str
    ok: bool
    said: str


def run_check(
    instrument: Instrument,
    profile: Profile,
    today: date,
    seconds: float = 10.0,
    on_progress: OnProgress = lambda step, what, done, total: None,
) -> list[Check]:
    """Measure what the profile has anew, quickly: size, age, timing, stage, scale, field.

    A step that fails is a check that does not hold; it does not end the others.
    """
    info = SourceInfo(
        instrument.name, instrument.width_px, instrument.height_px, instrument.fps_hz, None, instrument.timestamps
    )
    try:
        check_fits(profile.calibration, info, instrument.binning)
    except InputError as error:
        return [Check("size", False, str(error))]
    checks = [Check("size", True, f"{instrument.width_px}x{instrument.height_px} px")]
    old = cautions(profile.calibration, today)
    checks.append(
        Check("age", not old, "; ".join(old) or f"measured on {profile.calibration.measured_on or 'no date'}")
    )
    doing = (("timing", _timing), ("stage", _stage), ("scale", _scale), ("field", _field))
    for number, (name, look) in enumerate(doing):
        on_progress(name, "checking", number, len(doing))
        step = profile.steps.get(name)
        if step is None and name != "scale":
            continue
        try:
            check = look(instrument, profile, step or {}, seconds)
        except CasaError as error:
            check = Check(name, False, str(error))
        except (KeyError, TypeError) as error:
            check = Check(name, False, f"the profile's [{name}] lacks {error}: measure it anew")
        if check is not None:
            checks.append(check)
    on_progress("done", "", len(doing), len(doing))
    return checks


def _timing(instrument: Instrument, profile: Profile, step: Mapping[str, Any], seconds: float) -> Check:
    instrument.load_slide("sample")
    seen = instrument.watch(seconds, lambda done, total: None)
    timing = measure_timing(seen.index, seen.t_ns, seen.lost, instrument.fps_hz, instrument.timestamps, seen.host_ns)
    was = float(step["fps_hz"])
    ok = abs(timing.fps_hz / was - 1) * 100 <= _RATE and timing.alh_bcf == bool(step.get("alh_bcf", timing.alh_bcf))
    said = f"{timing.fps_hz:.5g} images/s (was {was:.5g}), {timing.lost_percent:.2g} % lost"
    return Check("timing", ok, said + (f"; {timing.why_not}" if timing.why_not else ""))


def _stage(instrument: Instrument, profile: Profile, step: Mapping[str, Any], seconds: float) -> Check:
    stage = instrument.stage
    if stage is None:
        return Check("stage", False, "the profile has a stage, and this source has none")
    instrument.load_slide("sample")
    _refocus(instrument)
    matrix = np.array(step["um_to_px"], float)
    home = np.array(stage.position())
    reach = _MOVE_OF_FIELD * min(instrument.width_px, instrument.height_px)
    errors, moves, shifts = [], [], []
    gap = 2 * float(np.abs(np.array(step.get("backlash_um", (0.0, 0.0)))).max()) + 2.0
    for direction in ((1.0, 0.0), (0.0, 1.0)):
        expected = np.array(direction) * reach
        move = np.linalg.solve(matrix, expected)
        pictures = []
        for place in (home, home + move):
            # From below, so that the slack of the drive is the same for both.
            stage.move_to(float(place[0] - gap), float(place[1] - gap))
            stage.move_to(float(place[0]), float(place[1]))
            pictures.append(snap(instrument))
        shift = measure_shift(*pictures, expected_px=(float(expected[0]), float(expected[1])))
        errors.append(100 * float(np.hypot(shift.dx_px - expected[0], shift.dy_px - expected[1])) / reach)
        moves.append(move)
        shifts.append((shift.dx_px, shift.dy_px))
    stage.move_to(float(home[0]), float(home[1]))
    allowed = min(_STAGE + 300 * float(step.get("residual_um", 0.0)) * float(np.linalg.norm(matrix)) / reach, 5.0)
    um_per_px = np.sqrt(abs(np.linalg.det(moves) / np.linalg.det(shifts)))
    calibration = profile.calibration
    scale = 100 * float(um_per_px / np.sqrt(calibration.um_per_px_x * calibration.um_per_px_y) - 1)
    said = f"moves are {max(errors):.2f} % off, its scale is {scale:+.2f} % off the calibration's (up to {allowed:.1f})"
    return Check("stage", max(errors) <= allowed and abs(scale) <= allowed, said)


def _scale(instrument: Instrument, profile: Profile, step: Mapping[str, Any], seconds: float) -> Check:
    calibration = profile.calibration
    instrument.load_slide("micrometer")
    _refocus(instrument)
    picture = np.rint(snap(instrument, 4)).astype(np.uint16)
    found = measure_scale([picture], float(step.get("pitch_um", 10.0)))
    errors = [100 * (found.um_per_px_x / calibration.um_per_px_x - 1)]
    if not found.square_pixels:
        errors.append(100 * (found.um_per_px_y / calibration.um_per_px_y - 1))
    allowed = _SCALE + found.uncertainty_percent + (calibration.uncertainty_percent or 0.0)
    worst = max(errors, key=abs)
    return Check("scale", abs(worst) <= allowed, f"{worst:+.2f} % off the profile's (up to {allowed:.2f})")


def _field(instrument: Instrument, profile: Profile, step: Mapping[str, Any], seconds: float) -> Check:
    instrument.load_slide("empty")
    light = measure_field(instrument.burst(_FIELD_FRAMES), instrument.white_level)
    changed = 100 * (light.level / float(step["level"]) - 1)
    vignetting = light.vignetting_percent - float(step["vignetting_percent"])
    said = f"light {changed:+.0f} %, vignetting {light.vignetting_percent:.1f} % ({vignetting:+.1f})"
    return Check("field", abs(changed) <= _LIGHT and abs(vignetting) <= _VIGNETTING, said)


def _refocus(instrument: Instrument) -> None:
    drive = instrument.focus
    if drive is not None:
        autofocus(lambda: snap(instrument), drive.move_to, drive.position())
