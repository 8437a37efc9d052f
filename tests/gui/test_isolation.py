"""What the viewer must not load, and that it holds up in Python what its Qt lets go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ["cv2", "torch", "av", "openvino", "ultralytics", "onnxruntime", "matplotlib"]


def test_the_viewer_loads_neither_cv2_nor_torch(field, display):
    code = f"""
import sys
from casa.cli.view import open_feed
from casa.viewer.app import application
from casa.viewer.window import ViewerWindow
app = application()
window = ViewerWindow(lambda name: open_feed(name, video=None, who="x", keys=None), None, "x")
window.open({str(field)!r})
window.show()
import time
end = time.monotonic() + 60
while (window.view is None or window.view.image is None) and time.monotonic() < end:
    app.processEvents()
assert window.view.image is not None
window.recording.tracks.correct("delete", {{"track": int(window.view.track_id[0])}})
while window.recording.tracks.busy and time.monotonic() < end:
    app.processEvents()
live = open_feed("tcp://127.0.0.1:9", video=None, who="x", keys=None)
live.close()
window.close()
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    own = field.with_suffix(".corrections.jsonl")
    try:
        found = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT,
                               timeout=120)  # fmt: skip
    finally:
        own.unlink(missing_ok=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "[]"


def test_ten_thousands_of_calls_into_qt_leave_the_singletons_alone(display):
    code = """
from PySide6 import QtCore
from casa.viewer.app import application
app = application()
thing = QtCore.QObject()
for _ in range(100_000):
    thing.setObjectName("")
    thing.signalsBlocked()
    thing.parent()
print("alive")
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (found.returncode, found.stdout.strip()) == (0, "alive"), found.stderr


def test_without_a_screen_it_says_so_in_one_line(field):
    import os

    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")}
    found = subprocess.run([sys.executable, "-m", "casa", "view", str(field)], capture_output=True, text=True, cwd=ROOT,
                           env=environment, timeout=60)  # fmt: skip
    assert found.returncode == 1
    assert found.stderr.startswith("casa: there is no screen here")
    assert found.stderr.count("\n") == 1


def test_what_is_neither_file_nor_address_is_one_line(display):
    found = subprocess.run([sys.executable, "-m", "casa", "view", "no/such/thing.avi"], capture_output=True, text=True,
                           cwd=ROOT, timeout=60)  # fmt: skip
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert "no/such/thing.avi: no such file" in found.stderr


def test_replay_shows_its_recording_when_it_is_done(field, display, tmp_path):
    """The viewer is a process of its own; here it is told to close as soon as it stands."""
    import os
    import signal
    import time

    command = [
        sys.executable,
        "-m",
        "casa",
        "replay",
        "simulator:sparse:1",
        "--max-frames",
        "6",
        "--view",
        "--no-report",
    ]
    run = subprocess.Popen([*command, "-o", "r.h5"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    viewer, end = None, time.monotonic() + 100
    while viewer is None and time.monotonic() < end and run.poll() is None:
        for child in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split():
            line = Path(f"/proc/{child}/cmdline").read_bytes()
            maps = Path(f"/proc/{child}/maps").read_text() if b"view" in line else ""
            viewer = int(child) if "libqxcb" in maps else viewer
        time.sleep(0.05)
    if viewer is None:
        run.kill()
    else:
        time.sleep(1.0)
        os.kill(viewer, signal.SIGTERM)
    out, err = run.communicate(timeout=60)
    assert viewer is not None, err
    assert run.returncode == 0, err
    assert "recording: r.h5" in out
