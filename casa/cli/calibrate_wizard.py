"""``casa calibrate wizard``: the setup of a microscope in a window, with the live image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from casa.cli.calibrate_run import ConfigName, Depth, Force, Pitch, Source, known_of


def wizard(
    source: Source = "simulator",
    output: Annotated[Path, typer.Option("-o", "--output", help="Profile to write (.toml).")] = Path("microscope.toml"),
    pitch_um: Pitch = None,
    chamber_depth_um: Depth = None,
    config: ConfigName = "live",
    force: Force = False,
) -> None:
    """Walk through the setup in a window with the live image; keys: Enter, Esc, Alt+Left, Alt+Right."""
    from PySide6 import QtCore

    from casa.cli.output import refuse_existing
    from casa.viewer.app import application
    from casa.viewer.wizard import WizardWindow

    refuse_existing(output, force)
    given = {"pitch_um": pitch_um or 10.0, "chamber_depth_um": chamber_depth_um, "beads": None}
    if source.partition(":")[0] == "simulator":
        given = known_of(source, given | {"pitch_um": pitch_um})
    entries = {"seconds": "10", "bead_um": "4", "valid_days": "180", "name": output.stem}
    entries |= {key: f"{given[key]:g}" for key in ("pitch_um", "chamber_depth_um") if given[key] is not None}
    if given["beads"] is not None:
        entries |= dict(zip(("certified", "uncertainty"), (f"{value:g}" for value in given["beads"]), strict=True))
    app = application()
    window = WizardWindow(["calibrate", "serve", "--source", source, "--config", config], entries, output, force)
    window.show()
    awake = QtCore.QTimer()  # Python looks at signals only when it runs
    awake.start(200)
    awake.timeout.connect(lambda: None)
    app.exec()
    if window.saved is not None:
        print(f"profile: {window.saved}")


def serve(source: Source, config: ConfigName = "live") -> None:
    """Measure for the wizard's window; commands come on standard input."""
    from casa.calibrate.setup import SetupOptions
    from casa.cli.calibrate_serve import serve as serve_window

    serve_window(source, config, SetupOptions())
