"""How smoothly the viewer plays a recording: pictures a second, and how long its window is busy at a time.

    xvfb-run -s "-screen 0 1600x1000x24" python tools/bench_viewer.py -o DIR [--size 1920 1200] [--seconds 20]

A simulated video of 50 frames a second is analysed once and kept in DIR; the window of ``casa view`` then plays it. One
JSON object: pictures of different moments painted a second, the time from one painting to the next, and the time that a
key would wait for the window (a timer's lateness).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

FPS_HZ, VIDEO_S, HEADS = 50.0, 6, 60
_BEAT_MS = 5


def prepare(recording: Path, size: tuple[int, int]) -> None:
    """Simulate a video of ``size`` px and analyse it: in a process of its own, as OpenCV's Qt is not the viewer's."""
    from casa.config import load_config
    from casa.engine import replay
    from casa.simulate.layout import write_visem_layout
    from casa.simulate.scene import PRESETS, simulate
    from casa.sources import open_source

    wide, high = size
    config = replace(
        PRESETS["default"], name=recording.stem, width_px=wide, height_px=high, fps_hz=FPS_HZ,
        cells_per_frame=HEADS, n_frames=round(FPS_HZ * VIDEO_S),
    )  # fmt: skip
    folder = write_visem_layout(simulate(config, 1), recording.parent, force=True)
    video = next(folder.glob("*.mp4"))
    settings = load_config("replay")
    with open_source(str(video), settings.source) as source:
        replay(source, recording, settings, force=True)


def play(recording: Path, seconds: float) -> dict[str, float | str]:
    """Play a recording in the viewer's window, and time what it does."""
    from PySide6 import QtCore

    from casa.cli.view import open_feed
    from casa.viewer.app import application
    from casa.viewer.window import ViewerWindow

    app = application()
    sys.setswitchinterval(0.001)  # as casa view does
    window = ViewerWindow(lambda name: open_feed(name, video=None, who="bench", keys=None), None, "bench")
    painted: list[tuple[float, int]] = []
    late_ms: list[float] = []
    paint, began = window.canvas.paintEvent, [0.0, 0.0]

    def timed(event: object) -> None:
        paint(event)  # type: ignore[arg-type]
        if window.view is not None:
            painted.append((time.monotonic(), window.view.step))

    window.canvas.paintEvent = timed
    window.open(str(recording))
    window.show()
    until = time.monotonic() + 60
    while (window.view is None or window.view.image is None) and time.monotonic() < until:
        app.processEvents()
        time.sleep(0.01)
    feed = window.recording
    if window.view is None or window.view.image is None or feed is None:
        raise SystemExit(f"{recording}: the viewer shows no picture: {window.message}")

    def beat() -> None:
        now = time.monotonic()
        late_ms.append(max(0.0, (now - began[1]) * 1e3 - _BEAT_MS))
        began[1] = now
        if now - began[0] > seconds:
            loop.quit()
        if not feed.playing:  # at its end it begins again
            feed.play(True)

    painted.clear()
    timer, loop = QtCore.QTimer(window), QtCore.QEventLoop()
    timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
    timer.timeout.connect(beat)
    began[:] = [time.monotonic(), time.monotonic()]
    cpu_s = time.thread_time()
    timer.start(_BEAT_MS)
    loop.exec()
    wall_s, cpu_s = time.monotonic() - began[0], time.thread_time() - cpu_s
    timer.stop()
    window.close()
    at = np.array([moment for moment, _ in painted])
    new = np.flatnonzero(np.diff([step for _, step in painted], prepend=-1))
    apart_ms = np.diff(at[new]) * 1e3
    return {
        "recording": recording.name,
        "pictures_per_s": round(len(new) / wall_s, 1),
        "paintings_per_s": round(len(at) / wall_s, 1),
        "ms_between_pictures_p50": round(float(np.percentile(apart_ms, 50)), 1),
        "ms_between_pictures_p99": round(float(np.percentile(apart_ms, 99)), 1),
        "key_waits_ms_p50": round(float(np.percentile(late_ms, 50)), 1),
        "key_waits_ms_p99": round(float(np.percentile(late_ms, 99)), 1),
        "window_cpu_share": round(cpu_s / wall_s, 2),
    }


def main() -> None:
    """Prepare what is missing, and play it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--size", type=int, nargs=2, default=[640, 480], metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    recording = given.output / f"field-{given.size[0]}x{given.size[1]}.h5"
    if not recording.exists():
        process = get_context("spawn").Process(target=prepare, args=(recording, tuple(given.size)))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(process.exitcode)
    print(json.dumps(play(recording, given.seconds)))


if __name__ == "__main__":
    main()
