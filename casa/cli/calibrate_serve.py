"""The process behind the calibration wizard: it has the microscope and measures; the window has the user.

Commands come as JSON lines on standard input. Messages go out on standard output as a JSON line, whose ``bytes`` (where
it has them) follow: pictures (h, w) or (h, w, 3) uint8, row by row.

| command | |
|---|---|
| ``{"do": "measure", "step": S, "options": {...}}`` | of ``casa.calibrate.setup.STEPS``, with fields of SetupOptions |
| ``{"do": "ready"}`` | what was asked for lies on the stage |
| ``{"do": "cancel"}`` | break the step off |
| ``{"do": "save", "output": PATH, "names": {...}, "force": bool}`` | write the profile |
| ``{"do": "stop"}`` | end |

Messages: ``opened``, ``picture``, ``progress``, ``ask``, ``done``, ``drawing``, ``failed``, ``saved``, ``broken``.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.calibrate.build import Names, profile_of
from casa.calibrate.charts import flat_chart, focus_chart, stage_chart, timing_chart
from casa.calibrate.focus import sharpness_measures
from casa.calibrate.instrument import Picture
from casa.calibrate.profile import write_profile
from casa.calibrate.scale import draw_rulings
from casa.calibrate.setup import STEPS, SetupOptions, SetupResult, run_step
from casa.cli.calibrate_run import said_of
from casa.cli.calibrate_source import LiveInstrument
from casa.errors import CasaError, InputError

_PICTURE_S = 1 / 12
_WIDEST_PX = 960


class Cancelled(CasaError):
    """The user broke a step off."""


class Served(LiveInstrument):
    """An instrument whose pictures are shown as they are taken."""

    def __init__(self, source: Any, camera: Any, server: Server) -> None:
        super().__init__(source, camera, server.ask)
        self._server = server

    def burst(self, n: int) -> list[Picture]:
        """As asked for; the last one is shown."""
        self._server.check()
        pictures = super().burst(n)
        self._server.show(pictures[-1], self.white_level)
        return pictures


class Server:
    """Carries out commands until it is told to stop, or nobody is there any more."""

    def __init__(self, options: SetupOptions) -> None:
        self._options = options
        self._result = SetupResult(measured_on=date.today().isoformat())
        self._remarks: dict[str, list[str]] = {}
        self._commands: queue.Queue[dict[str, Any]] = queue.Queue()
        self._shown_at = 0.0
        self._cancelled = False
        threading.Thread(target=self._listen, name="casa-commands", daemon=True).start()

    def run(self, instrument: Served) -> None:
        """Serve; between commands the live picture goes on."""
        tell({
            "kind": "opened", "name": instrument.name, "width": instrument.width_px, "height": instrument.height_px,
            "stage": instrument.stage is not None, "focus": instrument.focus is not None,
        })  # fmt: skip
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                with suppress(Cancelled):  # there is no step to break off
                    instrument.burst(1)
                continue
            self._cancelled = False
            try:
                if command["do"] == "stop":
                    return
                if command["do"] == "measure":
                    self._measure(instrument, command["step"], command.get("options", {}))
                elif command["do"] == "save":
                    self._save(instrument, command)
            except Cancelled:
                tell({"kind": "failed", "step": command.get("step", ""), "line": "broken off"})
            except CasaError as error:
                tell({"kind": "failed", "step": command.get("step", ""), "line": " ".join(str(error).split())})

    def ask(self, words: str) -> None:
        """Ask for a slide, and wait until it is there."""
        tell({"kind": "ask", "words": words})
        while True:
            command = self._commands.get()
            if command["do"] == "ready":
                return
            if command["do"] == "stop":
                self._commands.put(command)
            raise Cancelled("broken off")

    def check(self) -> None:
        """Raise Cancelled where the user wants the step to end."""
        if self._cancelled:
            raise Cancelled("broken off")

    def show(self, picture: Picture, white_level: int) -> None:
        """Send a picture, and how sharp it is, where the last one was a while ago."""
        now = time.monotonic()
        if now - self._shown_at < _PICTURE_S:
            return
        self._shown_at = now
        step = -(-picture.shape[1] // _WIDEST_PX)
        small = np.asarray(picture, np.float32)[::step, ::step]
        low, high = (float(v) for v in np.percentile(small[::4, ::4], [0.5, 99.5]))
        spread = max(high - low, 0.02 * white_level)  # an even field is to look even
        shown = np.clip((small - (low + high - spread) / 2) * (255 / spread), 0, 255).astype(np.uint8)
        sharpness = sharpness_measures(np.asarray(picture, np.float32)[::2, ::2])["laplacian"]
        tell({"kind": "picture", "sharpness": sharpness}, shown)

    def _measure(self, instrument: Served, step: str, options: dict[str, Any]) -> None:
        if step not in STEPS:
            raise InputError(f"{step}: no step of a setup")
        beads = options.get("beads")
        self._options = replace(self._options, **options | ({"beads": tuple(beads)} if beads else {}))
        self._remarks.pop(step, None)
        self._result.remarks = []

        def on_progress(which: str, what: str, done: int, total: int) -> None:
            tell({"kind": "progress", "what": what, "done": done, "total": total})
            self.check()

        run_step(step, instrument, self._options, self._result, on_progress)
        self._remarks[step] = self._result.remarks
        names = ("focus", "stage") if step == "stage" else (step,)
        said = [line for line in said_of(self._result, self._options) if line.partition(":")[0] in names]
        if step == "scale" and self._result.scale is not None and self._result.scale_picture is not None:
            tell({"kind": "drawing"}, draw_rulings(self._result.scale_picture, self._result.scale.rulings[0]))
        charts = self._charts(step)
        tell({"kind": "done", "step": step, "said": said, "remarks": self._remarks[step], "charts": charts})

    def _charts(self, step: str) -> list[str]:
        found, charts = self._result, []
        if step == "timing" and found.timing is not None:
            charts.append(timing_chart(found.timing))
        if step == "stage" and found.focus is not None:
            charts.append(focus_chart(found.focus.curve))
        if step == "stage" and found.stage is not None:
            charts.append(stage_chart(found.stage))
        if step == "field" and found.field is not None:
            charts.append(flat_chart(found.field))
        return charts

    def _save(self, instrument: Served, command: dict[str, Any]) -> None:
        self._result.remarks = [line for lines in self._remarks.values() for line in lines]
        size = (instrument.width_px, instrument.height_px)
        profile = profile_of(self._result, Names(**command["names"]), self._options, size, instrument.binning)
        output = Path(command["output"])
        write_profile(output, profile, bool(command.get("force")))
        tell({"kind": "saved", "path": str(output)})

    def _listen(self) -> None:
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] in ("cancel", "stop"):
                self._cancelled = True
            self._commands.put(command)
        self._cancelled = True
        self._commands.put({"do": "stop"})


def tell(message: dict[str, Any], picture: NDArray[np.uint8] | None = None) -> None:
    """Send a message; a picture's bytes follow it."""
    if picture is not None:
        message = message | {"shape": picture.shape, "bytes": picture.nbytes}
    out = sys.stdout.buffer
    out.write(json.dumps(message).encode() + b"\n")
    if picture is not None:
        out.write(np.ascontiguousarray(picture).tobytes())
    out.flush()


def serve(source: str, config: str, options: SetupOptions) -> None:
    """Open the microscope and serve; what is wrong with it is told to the window."""
    from casa.config import load_config
    from casa.lifeline import follow_parent
    from casa.sources import open_live_source

    follow_parent()
    try:
        camera = load_config(config).camera
        with open_live_source(source, camera) as opened:
            server = Server(options)
            server.run(Served(opened, camera, server))
    except Cancelled:
        pass
    except CasaError as error:
        tell({"kind": "broken", "line": " ".join(str(error).split())})
    except BrokenPipeError:
        sys.stdout = None  # the window is gone: there is nobody to tell
