"""Starts the viewer: an application, a window, and an orderly end on Ctrl-C."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from PySide6 import QtCore, QtWidgets

from casa.errors import CasaError
from casa.viewer.feed import Feed
from casa.viewer.window import ViewerWindow


def hold_singletons() -> bool:
    """Keep None, True and False alive under a PySide6 that drops references to them; whether this one does.

    The wheel of PySide6 6.12.0 is built as if they were immortal, which they are from Python 3.12 on. Under 3.11 each
    call into Qt that gives one of them takes a reference away, and after some 18,000 the interpreter aborts. 6.11 is
    right. Found out by trying, not by version.
    """
    if sys.version_info >= (3, 12):
        return False
    before = sys.getrefcount(None)
    probe = QtCore.QObject()
    for _ in range(64):
        probe.setObjectName("")
    if before - sys.getrefcount(None) < 32:
        return False
    for singleton in (None, True, False):
        count = ctypes.c_ssize_t.from_address(id(singleton))
        if count.value < 1 << 40:
            count.value += 1 << 60
    return True


def application() -> QtWidgets.QApplication:
    """The one QApplication of this process.

    Raises
    ------
    CasaError : there is no screen to show a window on.
    """
    hold_singletons()
    existing = QtWidgets.QApplication.instance()
    if isinstance(existing, QtWidgets.QApplication):
        return existing
    for name in ("QT_QPA_PLATFORM_PLUGIN_PATH", "QT_QPA_FONTDIR"):  # cv2's, of the process that started this one
        if "cv2" in os.environ.get(name, ""):
            del os.environ[name]
    needs_display = sys.platform.startswith("linux") and not os.environ.get("QT_QPA_PLATFORM")
    if needs_display and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise CasaError(
            "there is no screen here (DISPLAY is not set): start the viewer where there is one, or use ssh -X"
        )
    app = QtWidgets.QApplication(["casa"])
    app.setApplicationName("casa")
    app.setStyle("Fusion")
    return app


def show(what: str | None, open_feed: Callable[[str], Feed], *, snapshots: Path | None, who: str) -> None:
    """Show a recording or a running session until the window is closed.

    Parameters
    ----------
    what : given to ``open_feed``; None for an empty window.
    snapshots : folder for snapshots, None for the recording's own. who : written into marks and corrections.
    """
    app = application()
    # The GUI thread must get its turn often while others compute.
    sys.setswitchinterval(0.001)
    window = ViewerWindow(open_feed, snapshots, who)
    if what is not None:
        window.open(what)
    window.show()

    def stop(number: int, frame: FrameType | None) -> None:
        window.close()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    awake = (
        QtCore.QTimer()
    )  # Python looks at signals only when it runs: the window's own timer does that, this is for sure
    awake.start(200)
    awake.timeout.connect(lambda: None)
    try:
        app.exec()
    finally:
        awake.stop()
        for number, handler in previous.items():
            signal.signal(number, handler)
        window.close()
