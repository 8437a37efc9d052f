"""``casa calibrate``: set a microscope up. Holds the typer app ``app``."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from casa.cli.calibrate_beads import beads
from casa.cli.calibrate_run import BeadsOf, ConfigName, Depth, Force, Output, Pictures, Pitch, Seconds, check, run
from casa.cli.calibrate_steps import field, focus, hand, preset, stage, timing
from casa.cli.calibrate_wizard import serve, wizard
from casa.cli.options import Json

_HELP = "Set a microscope up: scale, stage, focus, light, timing and chamber, to one profile."

app = typer.Typer(help=_HELP, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def _all(
    context: typer.Context,
    source: Annotated[
        str | None, typer.Option(help="Go through the whole setup: camera:0, micromanager:CFG or simulator[:PRESET].")
    ] = None,
    output: Output = None,
    pitch_um: Pitch = None,
    chamber_depth_um: Depth = None,
    beads_of: BeadsOf = None,
    seconds: Seconds = 60.0,
    pictures: Pictures = None,
    config: ConfigName = "live",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Set a microscope up: scale, stage, focus, light, timing and chamber, to one profile.

    Alone, with --source: the whole setup (`casa calibrate run`, which has more options). Else one step.
    """
    if context.invoked_subcommand is not None:
        return
    if source is None:
        typer.echo(context.get_help())
        raise typer.Exit
    run(
        source, output, pitch_um, chamber_depth_um, beads_of, seconds, pictures, config=config, force=force,
        as_json=as_json,
    )  # fmt: skip


for _command in (run, wizard, check, stage, hand, focus, field, timing, beads, preset):
    app.command()(_command)
app.command(hidden=True)(serve)


@app.command()
def scale(
    images: Annotated[list[Path], typer.Argument(help="Picture of a ruled grid, or one or two of a stage micrometer.")],
    pitch_um: Annotated[float, typer.Option("--pitch-um", help="Distance of neighbouring lines, um (often 10).")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Profile to write (.toml).")] = None,
    picture: Annotated[Path | None, typer.Option(help="Picture to write, with the lines found drawn on it.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the profile; default: of its file.")] = None,
    chamber_depth_um: Annotated[float | None, typer.Option("--chamber-depth-um", help="Depth of the chamber.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    as_json: Json = False,
) -> None:
    """Scale in um per pixel from the lines of a stage micrometer or grid, and how sure it is.

    A grid gives x and y. A micrometer's scale gives one direction: give a second picture with the micrometer turned by
    90 degrees, or pixels are taken to be square.
    """
    from casa.calibrate.profile import write_profile
    from casa.calibrate.scale import draw_rulings, measure_scale, read_picture, write_picture
    from casa.cli.output import print_json, refuse_existing
    from casa.errors import InputError
    from casa.types import Calibration

    if len(images) > 2:
        raise InputError(f"{len(images)} pictures were given; one of a grid, or two of a scale turned by 90 degrees")
    for path in (output, picture):
        if path is not None:
            refuse_existing(path, force)
    pictures = [read_picture(path) for path in images]
    result = measure_scale(pictures, pitch_um)
    if picture is not None:
        write_picture(picture, draw_rulings(pictures[0], result.rulings[0]))
    if output is not None:
        note = f"measured on {date.today().isoformat()} from {', '.join(path.name for path in images)}"
        note += f" at {pitch_um:g} um a line"
        if result.square_pixels:
            note += "; one direction measured, pixels taken to be square"
        profile = Calibration(
            name=name or output.stem,
            um_per_px_x=result.um_per_px_x,
            um_per_px_y=result.um_per_px_y,
            width_px=result.width_px,
            height_px=result.height_px,
            uncertainty_percent=result.uncertainty_percent,
            chamber_depth_um=chamber_depth_um,
            verified=True,
            note=note,
            measured_on=date.today().isoformat(),
        )
        write_profile(output, profile, force)
    if as_json:
        print_json(
            {
                "um_per_px_x": result.um_per_px_x,
                "um_per_px_y": result.um_per_px_y,
                "uncertainty_percent": result.uncertainty_percent,
                "rotation_deg": result.rotation_deg,
                "square_pixels_assumed": result.square_pixels,
                "skew_deg": result.skew_deg,
                "distortion_percent": result.distortion_percent,
                "pitch_px": [[ruling.pitch_px for ruling in rulings] for rulings in result.rulings],
            }
        )
        return
    print(
        f"x: {result.um_per_px_x:.5f} um/px, y: {result.um_per_px_y:.5f} um/px, +- {result.uncertainty_percent:.2f} %"
    )
    print(f"the rulings are turned by {result.rotation_deg:+.2f} degrees against the picture")
    if result.square_pixels:
        print(
            "one direction alone was measured, pixels are taken to be square: turn the micrometer for a second picture"
        )
    if result.skew_deg is not None:
        print(f"the two rulings miss the right angle by {abs(result.skew_deg):.2f} degrees")
    if result.distortion_percent is not None:
        print(f"parts of the picture deviate by up to {result.distortion_percent:.2f} % (lens distortion and noise)")
    for path in (output, picture):
        if path is not None:
            print(f"written: {path}")
