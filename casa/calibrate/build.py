"""A profile from what a setup found: what an analysis needs at its top, and a table for each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from casa.calibrate.profile import Profile
from casa.calibrate.setup import SetupOptions, SetupResult
from casa.calibrate.timing import TimingResult
from casa.errors import InputError
from casa.types import VALID_DAYS, Calibration


@dataclass(frozen=True, slots=True)
class Names:
    """What a profile is called, what it is of, and who may use it, for how many days."""

    name: str
    microscope: str = ""
    objective: str = ""
    camera: str = ""
    used_by: str = ""
    valid_days: int = VALID_DAYS


def profile_of(
    result: SetupResult, names: Names, options: SetupOptions, size_px: tuple[int, int], binning: int | None
) -> Profile:
    """The profile of a finished setup. InputError: it has no scale."""
    if result.um_per_px is None:
        raise InputError("the setup has no scale: a profile needs the micrometer's step")
    calibration = Calibration(
        name=names.name,
        um_per_px_x=result.um_per_px[0],
        um_per_px_y=result.um_per_px[1],
        width_px=size_px[0],
        height_px=size_px[1],
        uncertainty_percent=result.uncertainty_percent,
        chamber_depth_um=options.chamber_depth_um,
        chamber_factor=result.chamber_factor,
        verified=not result.doubts,
        note="; ".join([f"measured by casa calibrate at {options.pitch_um:g} um a line", *result.doubts]),
        microscope=names.microscope,
        objective=names.objective,
        camera=names.camera,
        binning=binning,
        measured_on=result.measured_on,
        valid_days=names.valid_days,
        used_by=names.used_by,
    )
    return Profile(calibration, steps_of(result, options))


def steps_of(result: SetupResult, options: SetupOptions) -> dict[str, dict[str, Any]]:
    """The table of each step that was made, in plain values."""
    steps: dict[str, dict[str, Any]] = {}
    if result.timing is not None:
        steps["timing"] = timing_step(result.timing)
    if result.focus is not None:
        curve = result.focus.curve
        steps["focus"] = {
            "focus_um": result.focus.focus_um,
            "uncertainty_um": result.focus.uncertainty_um,
            "measure": curve.measure,
            "half_width_um": curve.half_width_um,
            "pictures": result.focus.pictures,
        }
        if (tilt := result.tilt) is not None:
            names = ("tilt_um_x", "tilt_um_y", "curvature_um")
            steps["focus"] |= {name: float(getattr(tilt, name)) for name in names}
    if result.scale is not None:
        steps["scale"] = {
            "pitch_um": options.pitch_um,
            "uncertainty_percent": result.uncertainty_percent,
            "rotation_deg": result.scale.rotation_deg,
            "square_pixels": result.scale.square_pixels,
            "skew_deg": result.scale.skew_deg,
            "distortion_percent": result.scale.distortion_percent,
        }
    stage = result.stage
    if stage is not None:
        names = ("um_to_px", "um_per_px_x", "um_per_px_y", "rotation_deg", "mirrored", "orthogonality_deg")
        names += ("backlash_um", "repeatability_um", "residual_um", "uncertainty_percent")
        steps["stage"] = {name: getattr(stage, name) for name in names} | {"drift_um_s": result.drift_um_s}
    light = result.field
    if light is not None:
        names = ("level", "vignetting_percent", "unevenness_percent", "noise_levels", "read_noise_levels")
        names += ("electrons_per_level", "dynamic_range_stops", "clipped_high_percent")
        steps["field"] = {name: getattr(light, name) for name in names} | {
            "bad_pixels": light.bad_pixels[:200].tolist(),
            "exposure_ms": result.exposure_ms,
            "blur_um_at_100_um_s": result.blur_um,
        }
    if options.chamber_depth_um is not None:
        steps["chamber"] = {"depth_um": options.chamber_depth_um, "factor": result.chamber_factor}
        if result.beads is not None:
            names = ("count", "fields", "concentration", "interval", "certified", "certified_interval", "agrees")
            names += ("factor_interval",)
            steps["chamber"] |= {f"beads_{name}": getattr(result.beads, name) for name in names}
    return {name: {"date": result.measured_on} | step for name, step in steps.items()}


def timing_step(timing: TimingResult) -> dict[str, Any]:
    """The table of the timing."""
    names = ("fps_hz", "uncertainty_percent", "nominal_hz", "jitter_ms", "interval_p99_ms", "frames", "lost")
    names += ("timestamps", "clock_error_percent", "seconds", "alh_bcf", "why_not")
    return {name: getattr(timing, name) for name in names}
