"""The whole setup of a microscope: each step in turn, each checked against the others, to one profile."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as column
from datetime import date

import numpy as np
from numpy.typing import NDArray

from casa.calibrate.beads import BeadResult, compare_beads, detect_beads
from casa.calibrate.field import FieldResult, measure_field, motion_blur_um
from casa.calibrate.focus import FocusResult, TiltResult, autofocus, measure_tilt
from casa.calibrate.instrument import Instrument, OnProgress, Picture, snap
from casa.calibrate.scale import MIN_UNCERTAINTY_PERCENT, ScaleResult, measure_scale
from casa.calibrate.stage import StageResult, measure_drift, measure_stage
from casa.calibrate.timing import TimingResult, measure_timing
from casa.errors import CasaError, InputError

#: The steps, in their order.
STEPS = ("timing", "stage", "scale", "field", "chamber")
#: Places of the micrometer that are measured, with a stage; and the scales of stage and micrometer differ by less.
_PLACES, _STAGE_SCALE_PERCENT = 3, 1.0
_FIELD_FRAMES, _DARK_FRAMES, _AVERAGED = 24, 8, 4
#: Heights of the focus map, and how far they reach on either side, by the half width of the focus.
_MAP_HEIGHTS, _MAP_REACH = 9, 1.5
#: A longer blur than this takes the shape of a head, um; and a field below this level wastes the camera's range.
_BLUR_UM, _LEVEL = 0.5, 0.08


@dataclass(frozen=True, slots=True)
class SetupOptions:
    """What the user has to say.

    pitch_um : distance of the micrometer's lines. chamber_depth_um : of the chamber in use; None: not known.
    beads : certified concentration and its uncertainty (95 %), M/mL; None: no beads. bead_um : their diameter.
    seconds : for the timing. focus_range_um : searched on either side. bead_fields : places counted, with a stage.
    """

    pitch_um: float = 10.0
    chamber_depth_um: float | None = None
    beads: tuple[float, float] | None = None
    bead_um: float = 4.0
    seconds: float = 60.0
    focus_range_um: float = 20.0
    bead_fields: int = 20


@dataclass(slots=True)
class SetupResult:
    """What the steps found; None where a step was left out.

    remarks : what the user should know, a line each. doubts : why the scale may be wrong: the profile is not verified.
    """

    timing: TimingResult | None = None
    focus: FocusResult | None = None
    tilt: TiltResult | None = None
    scale: ScaleResult | None = None
    scale_picture: NDArray[np.uint16] | None = None
    um_per_px: tuple[float, float] | None = None
    uncertainty_percent: float | None = None
    stage: StageResult | None = None
    drift_um_s: tuple[float, float] | None = None
    field: FieldResult | None = None
    exposure_ms: float | None = None
    blur_um: float | None = None
    beads: BeadResult | None = None
    chamber_factor: float = 1.0
    measured_on: str = ""
    remarks: list[str] = column(default_factory=list)
    doubts: list[str] = column(default_factory=list)


def run_setup(
    instrument: Instrument,
    options: SetupOptions,
    today: date,
    on_progress: OnProgress = lambda step, what, done, total: None,
) -> SetupResult:
    """Timing, focus, stage, scale, field and chamber of a microscope, one after the other.

    What a microscope does not have is left out and said in ``remarks``.

    Raises
    ------
    InputError, CasaError : a step failed; the message begins with its name.
    """
    result = SetupResult(measured_on=today.isoformat())
    for step in STEPS:
        try:
            run_step(step, instrument, options, result, on_progress)
        except CasaError as error:
            raise type(error)(f"{step}: {error}") from error
    return result


def run_step(
    step: str, instrument: Instrument, options: SetupOptions, result: SetupResult, on_progress: OnProgress
) -> None:
    """One step of a setup (of ``STEPS``), into ``result``. InputError, CasaError: it failed."""
    match step:
        case "timing":
            _timing(instrument, options, result, on_progress)
        case "stage":
            _stage(instrument, options, result, on_progress)
        case "scale":
            _scale(instrument, options, result, on_progress)
        case "field":
            _field(instrument, result, on_progress)
        case "chamber":
            _chamber(instrument, options, result, on_progress)
        case _:
            raise InputError(f"{step}: no step of a setup; there are {', '.join(STEPS)}")


def _timing(instrument: Instrument, options: SetupOptions, result: SetupResult, on_progress: OnProgress) -> None:
    instrument.load_slide("sample")
    seen = instrument.watch(options.seconds, lambda done, total: on_progress("timing", "watching frames", done, total))
    timing = measure_timing(seen.index, seen.t_ns, seen.lost, instrument.fps_hz, instrument.timestamps, seen.host_ns)
    result.timing = timing
    if timing.why_not:
        result.remarks.append(f"ALH and BCF cannot be trusted at this timing: {timing.why_not}")
    if abs(timing.fps_hz / timing.nominal_hz - 1) > 0.02:
        result.remarks.append(f"the camera gives {timing.fps_hz:.4g} images/s where it says {timing.nominal_hz:.4g}")


def _focus(instrument: Instrument, options: SetupOptions, step: str, on_progress: OnProgress) -> FocusResult | None:
    drive = instrument.focus
    if drive is None:
        return None
    return autofocus(
        lambda: snap(instrument),
        drive.move_to,
        drive.position(),
        options.focus_range_um,
        on_progress=lambda what, done, total: on_progress(step, what, done, total),
    )


def _stage(instrument: Instrument, options: SetupOptions, result: SetupResult, on_progress: OnProgress) -> None:
    result.focus = _focus(instrument, options, "focus", on_progress)
    if result.focus is None:
        result.remarks.append("no motorised focus: it was left as it is")
    stage = instrument.stage
    if stage is None:
        result.remarks.append("no motorised stage: its affine was left out (see casa calibrate hand)")
        return
    result.stage = measure_stage(
        lambda: snap(instrument),
        stage.move_to,
        stage.position(),
        on_progress=lambda what, done, total: on_progress("stage", what, done, total),
    )
    result.drift_um_s = measure_drift(
        lambda: snap(instrument),
        result.stage.um_to_px,
        min(5.0, max(1.0, options.seconds)),
        on_progress=lambda what, done, total: on_progress("stage", what, done, total),
    )


def _tilt(instrument: Instrument, focus: FocusResult, result: SetupResult, on_progress: OnProgress) -> None:
    """Focus over the field, on the micrometer: it lies still and has detail everywhere."""
    assert instrument.focus is not None
    reach_um = _MAP_REACH * focus.curve.half_width_um
    heights = np.linspace(-reach_um, reach_um, _MAP_HEIGHTS)
    pictures: list[Picture] = []
    result.tilt = None
    instrument.focus.move_to(focus.focus_um - 2 * reach_um)  # always from below, as autofocus: drives have slack
    for number, z_um in enumerate(heights):
        on_progress("scale", "focus over the field", number, _MAP_HEIGHTS)
        instrument.focus.move_to(focus.focus_um + float(z_um))
        pictures.append(snap(instrument))
    instrument.focus.move_to(focus.focus_um - 2 * reach_um)
    instrument.focus.move_to(focus.focus_um)
    try:
        result.tilt = tilt = measure_tilt(heights, pictures, focus.curve.measure)
    except InputError as error:
        result.remarks.append(f"focus over the field: {error}")
        return
    if max(abs(tilt.tilt_um_x), abs(tilt.tilt_um_y)) > focus.curve.half_width_um:
        result.remarks.append(
            f"the slide is tilted: in focus {tilt.tilt_um_x:+.1f} um higher at the right than at the left edge, and "
            f"{tilt.tilt_um_y:+.1f} at the bottom than at the top; level the stage"
        )


def _scale(instrument: Instrument, options: SetupOptions, result: SetupResult, on_progress: OnProgress) -> None:
    instrument.load_slide("micrometer")
    focus = _focus(instrument, options, "scale", on_progress)
    if focus is not None:
        _tilt(instrument, focus, result, on_progress)
    found: list[ScaleResult] = []
    stage = instrument.stage
    home = stage.position() if stage is not None else (0.0, 0.0)
    places = _PLACES if stage is not None else 1
    for number in range(places):
        on_progress("scale", "rulings", number, places)
        if stage is not None and number:
            # Not by whole lines, so that the pixels sample them anew.
            stage.move_to(home[0] + 3.7 * number * options.pitch_um, home[1] + 2.3 * number * options.pitch_um)
        picture = np.rint(snap(instrument, _AVERAGED) * 1.0).astype(np.uint16)
        found.append(measure_scale([picture], options.pitch_um))
        if number == 0:
            result.scale, result.scale_picture = found[0], picture
    if stage is not None:
        stage.move_to(*home)
    x, y = (np.array([getattr(one, name) for one in found]) for name in ("um_per_px_x", "um_per_px_y"))
    spread = 0.0
    if len(found) > 1:
        spread = 200 * float(max(x.std(ddof=1) / x.mean(), y.std(ddof=1) / y.mean())) / np.sqrt(len(found))
    result.um_per_px = float(x.mean()), float(y.mean())
    result.uncertainty_percent = max(MIN_UNCERTAINTY_PERCENT, spread, *(one.uncertainty_percent for one in found))
    if found[0].square_pixels:
        result.remarks.append("one direction of the micrometer was measured: pixels are taken to be square")
    if found[0].distortion_percent is not None and found[0].distortion_percent > 0.5:
        result.remarks.append(f"parts of the field differ in scale by up to {found[0].distortion_percent:.1f} %")
    if result.stage is not None:
        differ = 100 * (np.sqrt(result.stage.um_per_px_x * result.stage.um_per_px_y / (x.mean() * y.mean())) - 1)
        if abs(differ) > _STAGE_SCALE_PERCENT:
            result.doubts.append(f"stage and micrometer disagree by {differ:+.1f} %")
            result.remarks.append(
                f"stage and micrometer disagree by {differ:+.1f} %: see that --pitch-um is the micrometer's, and "
                "that the stage's configuration has its true step"
            )


def _field(instrument: Instrument, result: SetupResult, on_progress: OnProgress) -> None:
    instrument.load_slide("empty")
    on_progress("field", "cell-free field", 0, 2)
    pictures = instrument.burst(_FIELD_FRAMES)
    instrument.load_slide("dark")
    on_progress("field", "dark frame", 1, 2)
    dark = instrument.burst(_DARK_FRAMES)
    result.field = measure_field(pictures, instrument.white_level, dark)
    result.exposure_ms = instrument.exposure_ms
    if result.exposure_ms is not None:
        result.blur_um = motion_blur_um(result.exposure_ms)
        if result.blur_um > _BLUR_UM:
            result.remarks.append(
                f"a head at 100 um/s smears by {result.blur_um:.2g} um in an exposure of {result.exposure_ms:g} ms: "
                "expose shorter, with more light"
            )
    if result.field.level < _LEVEL:
        result.remarks.append(f"the field is dim: {100 * result.field.level:.0f} % of white")
    if result.field.clipped_high_percent > 1:
        result.remarks.append(f"{result.field.clipped_high_percent:.1f} % of the empty field is white: less light")
    on_progress("field", "measured", 2, 2)


def _chamber(instrument: Instrument, options: SetupOptions, result: SetupResult, on_progress: OnProgress) -> None:
    if options.beads is None:
        result.remarks.append("no beads were counted: the chamber factor stays 1 (casa calibrate beads)")
        return
    if options.chamber_depth_um is None:
        raise InputError("beads need the chamber's depth: give --chamber-depth-um")
    if result.um_per_px is None:
        raise InputError("beads need the scale: measure that first")
    instrument.load_slide("beads")
    _focus(instrument, options, "chamber", on_progress)
    pictures = fields_of(instrument, options.bead_fields, result.um_per_px, on_progress)
    result.beads = beads = count_beads(
        pictures, result.um_per_px, options, uncertainty_percent=2 * (result.uncertainty_percent or 0.0)
    )
    if beads.agrees:
        return
    counted = f"beads: {beads.concentration:.1f} M/mL counted where {beads.certified:g} are certified"
    if result.doubts:  # a factor would hide what is wrong with the scale
        result.doubts.append(counted)
        result.remarks.append(f"{counted}; the chamber factor stays 1 while the scale is in doubt")
        return
    result.chamber_factor = beads.factor
    result.remarks.append(f"{counted}; the chamber factor becomes {beads.factor:.3f}")


def fields_of(instrument: Instrument, n: int, um_per_px: tuple[float, float], on_progress: OnProgress) -> list[Picture]:
    """Pictures of n fields that do not overlap, in a square about where the stage is; one where it has no stage."""
    stage = instrument.stage
    if stage is None:
        return [snap(instrument)]
    home = stage.position()
    step = 1.2 * np.array([instrument.width_px * um_per_px[0], instrument.height_px * um_per_px[1]])
    side = int(np.ceil(np.sqrt(n)))
    pictures = []
    for number in range(n):
        row, column = divmod(number, side)
        place = np.array([column - side // 2, row - side // 2]) * step
        stage.move_to(float(home[0] + place[0]), float(home[1] + place[1]))
        pictures.append(snap(instrument))
        on_progress("chamber", "beads", number + 1, n)
    stage.move_to(*home)
    return pictures


def count_beads(
    pictures: list[Picture],
    um_per_px: tuple[float, float],
    options: SetupOptions,
    uncertainty_percent: float = 0.0,
    chamber_factor: float = 1.0,
) -> BeadResult:
    """Count beads in pictures of different fields, and compare with the certificate in ``options``."""
    assert options.beads is not None
    assert options.chamber_depth_um is not None
    if len({picture.shape for picture in pictures}) != 1:
        raise InputError("the pictures of beads differ in size; take all with the same camera settings")
    diameter_px = options.bead_um / float(np.sqrt(um_per_px[0] * um_per_px[1]))
    found = [detect_beads(picture, diameter_px) for picture in pictures]
    if not any(len(one.xy_px) for one in found):
        raise InputError("no bead was found: focus on the beads, and see that --bead-um is their diameter")
    h, w = pictures[0].shape
    border = 1 + 2 * found[0].border_px  # centres from the border to w - 1 less the border are counted
    volume_ml = (w - border) * (h - border) * um_per_px[0] * um_per_px[1] * options.chamber_depth_um * 1e-12
    return compare_beads(
        [len(one.xy_px) for one in found], volume_ml, *options.beads, chamber_factor, uncertainty_percent
    )
