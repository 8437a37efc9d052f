"""``casa calibrate run`` and ``check``: the whole setup of a microscope, and whether a profile still holds."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from casa.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from casa.calibrate.profile import Profile
    from casa.calibrate.setup import SetupOptions, SetupResult

Source = Annotated[str, typer.Option(help="camera:0, a stream's address, micromanager:CFG, or simulator[:PRESET].")]
ConfigName = Annotated[str, typer.Option(help="Configuration (name or YAML file); its section `camera` is used.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Profile to write (.toml).")]
Pitch = Annotated[float | None, typer.Option("--pitch-um", help="Distance of the micrometer's lines, um (often 10).")]
Depth = Annotated[float | None, typer.Option("--chamber-depth-um", help="Depth of the chamber in use.")]
BeadsOf = Annotated[
    str | None, typer.Option("--beads", help="Certified concentration of counting beads, as in 35+-2.5 (M/mL, 95 %).")
]
Seconds = Annotated[float, typer.Option(help="Watch the timing for so long.")]
Pictures = Annotated[Path | None, typer.Option(help="Folder for pictures of what was found; made where missing.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]


def run(
    source: Source,
    output: Output = None,
    pitch_um: Pitch = None,
    chamber_depth_um: Depth = None,
    beads: BeadsOf = None,
    seconds: Seconds = 60.0,
    pictures: Pictures = None,
    bead_um: Annotated[float, typer.Option(help="Diameter of the beads, um.")] = 4.0,
    name: Annotated[str | None, typer.Option(help="Name of the profile; default: of its file.")] = None,
    microscope: Annotated[str, typer.Option(help="Which microscope this is.")] = "",
    objective: Annotated[str, typer.Option(help="Which objective.")] = "",
    camera: Annotated[str, typer.Option(help="Which camera.")] = "",
    used_by: Annotated[str, typer.Option(help="Who may use the profile, parted by commas; default: all.")] = "",
    valid_days: Annotated[int, typer.Option(min=1, help="For how long it may be used.")] = 180,
    config: ConfigName = "live",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Go through the whole setup: timing, focus, stage, scale, field, chamber; write a profile.

    It asks for each slide in turn. The simulated microscope changes its slides itself, and runs unattended.
    """
    from datetime import date

    from casa.calibrate.build import Names, profile_of
    from casa.calibrate.profile import write_profile
    from casa.calibrate.setup import SetupOptions, run_setup
    from casa.cli.output import print_json, refuse_existing
    from casa.errors import InputError

    output = output or Path("microscope.toml")
    refuse_existing(output, force)
    if not seconds > 0:
        raise InputError(f"--seconds {seconds:g}: expected a number of seconds above 0")
    given = {"pitch_um": pitch_um, "chamber_depth_um": chamber_depth_um, "beads": certified(beads)}
    options = SetupOptions(bead_um=bead_um, seconds=seconds, **known_of(source, given))
    names = Names(name or output.stem, microscope, objective, camera or source, used_by, valid_days)
    with opened(source, config) as instrument, _shown() as tell:
        result = run_setup(instrument, options, date.today(), tell)
        size = (instrument.width_px, instrument.height_px)
        profile = profile_of(result, names, options, size, instrument.binning)
    write_profile(output, profile, force)
    if pictures is not None:
        write_pictures(pictures, result)
    if as_json:
        print_json(_json_of(profile, result, output))
        return
    for line in said_of(result, options):
        print(line)
    for line in result.remarks:
        print(f"note: {line}")
    print(f"profile: {output}")


def check(
    profile: Annotated[str, typer.Argument(help="Calibration profile (name or TOML file).")],
    source: Source,
    seconds: Annotated[float, typer.Option(help="Watch the timing for so long.")] = 10.0,
    config: ConfigName = "live",
    as_json: Json = False,
) -> None:
    """Measure what a profile says anew, in a minute, and say what drifted; exit code 1 where something has."""
    from datetime import date

    from casa.calibrate.check import run_check
    from casa.calibrate.profile import read_profile
    from casa.cli.output import print_json

    wanted = read_profile(profile)
    with opened(source, config) as instrument, _shown() as tell:
        checks = run_check(instrument, wanted, date.today(), seconds, tell)
    holds = all(one.ok for one in checks)
    if as_json:
        found = [{"step": one.step, "ok": one.ok, "said": one.said} for one in checks]
        print_json({"profile": wanted.calibration.name, "holds": holds, "checks": found})
    else:
        for one in checks:
            print(f"{'holds  ' if one.ok else 'DRIFTED'}  {one.step}: {one.said}")
    if not holds:
        raise typer.Exit(1)


def certified(text: str | None) -> tuple[float, float] | None:
    """The value of --beads: concentration and uncertainty, M/mL; None where it was not given."""
    from casa.errors import InputError

    if text is None:
        return None
    value, _, uncertainty = text.replace("±", "+-").partition("+-")
    try:
        known = float(value), float(uncertainty)
        if not (0 < known[0] < math.inf and 0 <= known[1] < math.inf):
            raise ValueError
        return known
    except ValueError:
        raise InputError(f"--beads {text}: expected concentration+-uncertainty in M/mL, such as 35+-2.5") from None


def known_of(source: str, given: dict[str, Any]) -> dict[str, Any]:
    """What the user said; of the simulated microscope what its slides are, where nothing was said."""
    from casa.errors import InputError

    if source.partition(":")[0] == "simulator":
        from casa.simulate.scene import PRESETS
        from casa.simulate.slides import BEADS_M_PER_ML, BEADS_UNCERTAINTY, PITCH_UM
        from casa.sources.simulator import parse_simulator_uri

        depth_um = PRESETS[parse_simulator_uri(source)[0]].chamber_depth_um
        known = {"pitch_um": PITCH_UM, "chamber_depth_um": depth_um, "beads": (BEADS_M_PER_ML, BEADS_UNCERTAINTY)}
        return {key: known[key] if value is None else value for key, value in given.items()}
    if given["pitch_um"] is None:
        raise InputError("--pitch-um is missing: the distance of the micrometer's lines, um, as it says itself")
    if given["beads"] is not None and given["chamber_depth_um"] is None:
        raise InputError("--beads needs --chamber-depth-um, the depth of the chamber that they are in")
    return given


class opened:
    """An instrument over a live source, for the length of a ``with`` block."""

    def __init__(self, source: str, config: str) -> None:
        self._source, self._config = source, config

    def __enter__(self) -> Any:
        from casa.cli.calibrate_source import LiveInstrument, ask_on_terminal
        from casa.config import load_config
        from casa.sources import open_live_source

        camera = load_config(self._config).camera
        self._opened = open_live_source(self._source, camera)
        return LiveInstrument(self._opened, camera, ask_on_terminal)

    def __exit__(self, *error: object) -> None:
        self._opened.close()


class _shown:
    """Progress of a setup on standard error: a bar on a terminal, else a line for each new thing it does."""

    def __enter__(self) -> Any:
        self._last: tuple[str, str] | None = None
        return self._tell

    def __exit__(self, *error: object) -> None:
        if self._last is not None and sys.stderr.isatty():
            print(file=sys.stderr)

    def _tell(self, step: str, what: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{step}: {what} {done}/{total}", end="", file=sys.stderr, flush=True)
        elif (step, what) != self._last:
            print(f"{step}: {what}", file=sys.stderr, flush=True)
        self._last = (step, what)


def write_pictures(folder: Path, result: SetupResult) -> None:
    """Charts of a setup, and the micrometer with its lines, into a folder."""
    from casa.calibrate.charts import flat_chart, focus_chart, stage_chart, timing_chart, write_chart
    from casa.calibrate.scale import draw_rulings, write_picture

    folder.mkdir(parents=True, exist_ok=True)
    if result.focus is not None:
        write_chart(folder / "focus.svg", focus_chart(result.focus.curve))
    if result.timing is not None:
        write_chart(folder / "timing.svg", timing_chart(result.timing))
    if result.field is not None:
        write_chart(folder / "field.svg", flat_chart(result.field))
    if result.stage is not None:
        write_chart(folder / "stage.svg", stage_chart(result.stage))
    if result.scale is not None and result.scale_picture is not None:
        write_picture(folder / "scale.png", draw_rulings(result.scale_picture, result.scale.rulings[0]))


def said_of(result: SetupResult, options: SetupOptions) -> Iterator[str]:
    """The result for people, a line a step."""
    if (timing := result.timing) is not None:
        good = "supports ALH and BCF" if timing.alh_bcf else "does not support ALH and BCF"
        jitter = max(timing.jitter_ms, 0.001)
        yield f"timing: {timing.fps_hz:.4g} images/s, jitter {jitter:.2g} ms, {timing.lost} lost; {good}"
    if (focus := result.focus) is not None:
        yield f"focus: at {focus.focus_um:.2f} um, by {focus.curve.measure}, from {focus.pictures} pictures"
    if (tilt := result.tilt) is not None:
        x, y, middle = (round(one, 1) + 0.0 for one in (tilt.tilt_um_x, tilt.tilt_um_y, tilt.curvature_um))
        yield f"tilt: focus {x:+.1f} um from left to right, {y:+.1f} from top to bottom, {middle:+.1f} in the middle"
    if (stage := result.stage) is not None:
        x, y = stage.backlash_um
        yield (
            f"stage: {stage.um_per_px_x:.5f} and {stage.um_per_px_y:.5f} um/px by its own scale, +- "
            f"{stage.uncertainty_percent:.2f} %, turned {stage.rotation_deg:+.2f} degrees, off the right angle by "
            f"{stage.orthogonality_deg:+.2f}, backlash {x:.2f} and {y:.2f} um, stops within {stage.residual_um:.2f} um"
        )
    if result.um_per_px is not None:
        x, y = result.um_per_px
        yield f"scale: {x:.5f} um/px in x, {y:.5f} in y, +- {result.uncertainty_percent:.2f} %"
    if (light := result.field) is not None:
        yield (
            f"field: {light.vignetting_percent:.1f} % vignetting, {len(light.bad_pixels)} bad pixels, "
            f"{light.dynamic_range_stops:.1f} stops of range"
        )
    if (found := result.beads) is not None:
        low, high = found.interval
        yield (
            f"chamber: {found.count} beads, {found.concentration:.1f} M/mL ({low:.1f} to {high:.1f}) for "
            f"{found.certified:g} certified: {'agrees' if found.agrees else 'DOES NOT AGREE'}"
        )


def _json_of(profile: Profile, result: SetupResult, output: Path) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "profile": str(output),
        "calibration": asdict(profile.calibration),
        "steps": {name: dict(step) for name, step in profile.steps.items()},
        "remarks": result.remarks,
    }
