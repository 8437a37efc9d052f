"""``casa calibrate stage``, ``hand``, ``focus``, ``field``, ``timing``, ``preset``: the steps by themselves."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from casa.cli.calibrate_run import ConfigName, Force, Output, Source, opened
from casa.cli.options import Json

Chart = Annotated[Path | None, typer.Option(help="Picture of the result to write (.svg).")]


def stage(
    source: Source,
    um_per_px: Annotated[float | None, typer.Option("--um-per-px", help="Scale, where it is about known.")] = None,
    picture: Chart = None,
    config: ConfigName = "live",
    as_json: Json = False,
) -> None:
    """Affine between a motorised stage and the picture, its backlash, its repeatability, its drift."""
    from casa.calibrate.charts import stage_chart, write_chart
    from casa.calibrate.instrument import snap
    from casa.calibrate.stage import measure_drift, measure_stage
    from casa.errors import InputError

    if um_per_px is not None and not 0 < um_per_px < math.inf:
        raise InputError(f"--um-per-px {um_per_px:g}: expected um a px, above 0")
    with opened(source, config) as instrument:
        instrument.load_slide("sample")
        drive = instrument.stage
        if drive is None:
            raise InputError(f"{source}: has no motorised stage; use casa calibrate hand with pictures of known moves")
        result = measure_stage(lambda: snap(instrument), drive.move_to, drive.position(), um_per_px)
        drift = measure_drift(lambda: snap(instrument), result.um_to_px, 3.0)
    if picture is not None:
        write_chart(picture, stage_chart(result))
    left_out = ("moves_um", "residuals_um", "drift_um_s")
    found = {name: value for name, value in asdict(result).items() if name not in left_out}
    _show(found | {"drift_at_rest_um_s": drift}, as_json)


def hand(
    images: Annotated[list[Path], typer.Argument(help="Pictures, the first one before any move.")],
    moves: Annotated[str, typer.Option(help="Move of each from the first, um: 0,0 50,0 0,50 50,50 (x,y by blanks).")],
    as_json: Json = False,
) -> None:
    """Affine of a stage without a motor, from pictures of moves by hand and what its knobs said.

    Take a picture; turn the x knob by a known distance (a third of the field), take another; then y; then both.
    """
    import numpy as np

    from casa.calibrate.affine import fit_by_hand
    from casa.calibrate.scale import read_picture
    from casa.errors import InputError

    try:
        moves_um = np.array([[float(part) for part in one.split(",")] for one in moves.split()])
        if moves_um.shape != (len(images), 2):
            raise ValueError
    except ValueError:
        raise InputError(
            f"--moves {moves}: expected x,y in um for each of {len(images)} pictures, parted by blanks"
        ) from None
    fit = fit_by_hand([read_picture(path) for path in images], moves_um)
    if abs(np.linalg.det(fit.matrix)) < 1e-9:
        raise InputError("the picture does not follow the moves: are they pictures of the places given in --moves?")
    inverse = np.linalg.inv(fit.matrix)
    _show(
        {
            "um_to_px": fit.matrix.tolist(),
            "um_to_px_error": fit.matrix_error.tolist(),
            "um_per_px_x": float(np.hypot(*inverse[:, 0])),
            "um_per_px_y": float(np.hypot(*inverse[:, 1])),
            "residual_px": float(np.sqrt((fit.residuals**2).mean())),
        },
        as_json,
    )


def focus(
    source: Source,
    range_um: Annotated[float, typer.Option("--range-um", help="Search so far either side.")] = 20.0,
    slide: Annotated[str, typer.Option(help="What lies on the stage: sample, micrometer or beads.")] = "sample",
    picture: Chart = None,
    config: ConfigName = "live",
    as_json: Json = False,
) -> None:
    """Find the focus with a motorised drive, and go there; the measure of sharpness is chosen by its peak."""
    from casa.calibrate.charts import focus_chart, write_chart
    from casa.calibrate.focus import autofocus
    from casa.calibrate.instrument import SLIDES, snap
    from casa.errors import InputError

    if slide not in SLIDES or not range_um > 0:
        raise InputError(f"--slide {slide} --range-um {range_um:g}: expected one of {', '.join(SLIDES)} and um above 0")
    with opened(source, config) as instrument:
        instrument.load_slide(slide)
        drive = instrument.focus
        if drive is None:
            raise InputError(f"{source}: has no motorised focus; focus by hand")
        result = autofocus(lambda: snap(instrument), drive.move_to, drive.position(), range_um)
    if picture is not None:
        write_chart(picture, focus_chart(result.curve))
    found = {"focus_um": result.focus_um, "uncertainty_um": result.uncertainty_um, "measure": result.curve.measure}
    _show(found | {"half_width_um": result.curve.half_width_um, "pictures": result.pictures}, as_json)


def field(
    source: Source,
    frames: Annotated[int, typer.Option(min=8, help="Pictures of the field; more where cells swim.")] = 24,
    dark: Annotated[bool, typer.Option("--dark/--no-dark", help="Take a dark frame too.")] = True,
    picture: Chart = None,
    config: ConfigName = "live",
    as_json: Json = False,
) -> None:
    """Flat field, vignetting, bad pixels, noise and range of the camera, and how far a head moves in an exposure."""
    from casa.calibrate.charts import flat_chart, write_chart
    from casa.calibrate.field import measure_field, motion_blur_um

    with opened(source, config) as instrument:
        instrument.load_slide("empty")
        light = instrument.burst(frames)
        no_light = []
        if dark:
            instrument.load_slide("dark")
            no_light = instrument.burst(8)
        exposure_ms, white = instrument.exposure_ms, instrument.white_level
    result = measure_field(light, white, no_light)
    if picture is not None:
        write_chart(picture, flat_chart(result))
    found: dict[str, Any] = {n: v for n, v in asdict(result).items() if n not in ("flat", "dark", "bad_pixels")}
    found["bad_pixels"] = len(result.bad_pixels)
    found["exposure_ms"] = exposure_ms
    found["blur_um_at_100_um_s"] = None if exposure_ms is None else motion_blur_um(exposure_ms)
    _show(found, as_json)


def timing(
    source: Source,
    seconds: Annotated[float, typer.Option(help="Watch for so long.")] = 60.0,
    picture: Chart = None,
    config: ConfigName = "live",
    as_json: Json = False,
) -> None:
    """True frame rate, jitter and lost frames over a minute, and whether they support ALH and BCF."""
    from casa.calibrate.build import timing_step
    from casa.calibrate.charts import timing_chart, write_chart
    from casa.calibrate.timing import measure_timing
    from casa.errors import InputError

    if not seconds > 0:
        raise InputError(f"--seconds {seconds:g}: expected a number of seconds above 0")
    with opened(source, config) as one:
        seen = one.watch(seconds, lambda done, total: None)
        result = measure_timing(seen.index, seen.t_ns, seen.lost, one.fps_hz, one.timestamps, seen.host_ns)
    if picture is not None:
        write_chart(picture, timing_chart(result))
    _show(timing_step(result), as_json)


def preset(
    magnification: Annotated[float, typer.Argument(help="Of the objective, such as 20.")],
    pixel_um: Annotated[float, typer.Option("--pixel-um", help="Size of the camera's pixels, um (its data sheet).")],
    output: Output,
    adapter: Annotated[float, typer.Option(help="Magnification of the camera adapter.")] = 1.0,
    binning: Annotated[int, typer.Option(min=1, help="Pixels binned along each side.")] = 1,
    size: Annotated[str | None, typer.Option(help="Frame size it is for, WIDTHxHEIGHT.")] = None,
    chamber_depth_um: Annotated[float | None, typer.Option("--chamber-depth-um", help="Depth of the chamber.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """A profile from what is printed on objective, adapter and camera: a fallback, marked as not verified."""
    from casa.calibrate.profile import write_profile
    from casa.cli.values import size_px
    from casa.errors import InputError
    from casa.types import Calibration

    assert output is not None
    if not all(0 < value < math.inf for value in (magnification, pixel_um, adapter)):
        raise InputError("magnification, --pixel-um and --adapter: expected numbers above 0")
    scale = pixel_um * binning / (magnification * adapter)
    width, height = size_px(size, "--size") or (None, None)
    profile = Calibration(
        name=output.stem,
        um_per_px_x=scale,
        um_per_px_y=scale,
        width_px=width,
        height_px=height,
        # Objectives and adapters are made to about so much.
        uncertainty_percent=5.0,
        chamber_depth_um=chamber_depth_um,
        verified=False,
        note=f"from {magnification:g}x, adapter {adapter:g}x, pixels of {pixel_um:g} um: never measured",
        objective=f"{magnification:g}x",
        binning=binning,
    )
    write_profile(output, profile, force)
    _show({"um_per_px": scale, "uncertainty_percent": 5.0, "verified": False, "profile": str(output)}, as_json)


def _show(found: dict[str, Any], as_json: bool) -> None:
    from casa.cli.output import print_json

    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        print(f"{name}: {_words(value)}")


def _words(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not known"}[value]
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_words(one) for one in value)
    return str(value) or "none"
