"""``casa calibrate beads``: count certified beads, compare, and keep the control chart over days."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from casa.cli.calibrate_run import certified
from casa.cli.options import Json


def beads(
    images: Annotated[list[Path], typer.Argument(help="Pictures of different fields of the slide with beads.")],
    beads_of: Annotated[
        str, typer.Option("--beads", help="Certified concentration, as in 35+-2.5 (M/mL, 95 %).", show_default=False)
    ],
    calibration: Annotated[str, typer.Option(help="Calibration profile (name or TOML file).")],
    bead_um: Annotated[float, typer.Option(help="Diameter of the beads, um.")] = 4.0,
    chamber_depth_um: Annotated[
        float | None, typer.Option("--chamber-depth-um", help="Depth of the chamber; default: the profile's.")
    ] = None,
    log: Annotated[Path | None, typer.Option(help="CSV file of the counts day by day, to add this one to.")] = None,
    chart: Annotated[Path | None, typer.Option(help="Levey-Jennings chart of the log to write (.svg).")] = None,
    on: Annotated[str | None, typer.Option("--date", help="Day of the count, YYYY-MM-DD; default: today.")] = None,
    as_json: Json = False,
) -> None:
    """Count beads, compare with their certificate, and watch the counts over days by Westgard's rules.

    Exit code 1 where the count does not agree, or a rule puts the day out of control.
    """
    from datetime import date

    import numpy as np

    from casa.calibrate.charts import control_chart, write_chart
    from casa.calibrate.control import REJECTING, ControlDay, append_log, read_log, westgard
    from casa.calibrate.profile import load_profile
    from casa.calibrate.scale import read_picture
    from casa.calibrate.setup import SetupOptions, count_beads
    from casa.cli.output import print_json
    from casa.errors import InputError

    profile = load_profile(calibration)
    depth_um = chamber_depth_um or profile.chamber_depth_um
    if depth_um is None:
        raise InputError(f"{profile.name}: has no chamber depth; give it with --chamber-depth-um")
    if chart is not None and log is None:
        raise InputError("--chart draws the counts of a log: give it with --log")
    try:
        day = date.today() if on is None else date.fromisoformat(on)
    except ValueError:
        raise InputError(f"--date {on}: expected a day such as 2026-11-21") from None
    pictures = [read_picture(path) for path in images]
    for path, picture in zip(images, pictures, strict=True):
        size = (profile.width_px, profile.height_px)
        if profile.width_px is not None and picture.shape[::-1] != size:
            raise InputError(
                f"{path}: is {picture.shape[1]}x{picture.shape[0]} px; {profile.name} is of {size[0]}x{size[1]}"
            )
    options = SetupOptions(chamber_depth_um=depth_um, beads=certified(beads_of), bead_um=bead_um)
    scale = (profile.um_per_px_x, profile.um_per_px_y)
    raw = count_beads(list(pictures), scale, options, 2 * (profile.uncertainty_percent or 0.0), profile.chamber_factor)
    days = read_log(log) if log is not None else []
    # What one count scatters by about the certified value: that of the count it should be, and the certificate's.
    expected = raw.count * raw.certified / raw.concentration
    sd = float(
        np.hypot(raw.certified / np.sqrt(max(expected, 1.0)), (raw.certified_interval[1] - raw.certified) / 1.96)
    )
    today = ControlDay(
        day.isoformat(), raw.concentration, *raw.interval, raw.certified, sd, raw.count, profile.name
    )  # fmt: skip
    rule = westgard([one.deviation_sd for one in (*days, today)])[-1]
    if log is not None:
        append_log(log, today)
        if chart is not None:
            write_chart(chart, control_chart([*days, today]))
    if as_json:
        print_json(asdict(raw) | {"date": today.date, "deviation_sd": today.deviation_sd, "westgard": rule})
    else:
        low, high = raw.interval
        print(f"{raw.count} beads in {raw.fields} fields: {raw.concentration:.1f} M/mL ({low:.1f} to {high:.1f})")
        print(
            f"certified {raw.certified:g} M/mL ({raw.certified_interval[0]:g} to {raw.certified_interval[1]:g}): ",
            end="",
        )
        print("agrees" if raw.agrees else "DOES NOT AGREE")
        a, b = raw.factor_interval
        print(f"the chamber factor that makes it right is {raw.factor:.3f} ({a:.3f} to {b:.3f})")
        if rule:
            print(f"Westgard {rule}: {'out of control' if rule in REJECTING else 'beyond 2 sd, look again'}")
    if not raw.agrees or rule in REJECTING:
        raise typer.Exit(1)
