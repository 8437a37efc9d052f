"""A real X server for the whole run of these tests, a recording of a simulated field, and a window to drive."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from viewer_scene import record_scene
from viewer_screen import xvfb


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """A display of the tests' own, set before any window is made."""
    with xvfb() as name:
        before = {key: os.environ.get(key) for key in ("DISPLAY", "QT_QPA_PLATFORM", "QT_QPA_PLATFORM_PLUGIN_PATH")}
        os.environ["DISPLAY"] = name
        os.environ["QT_QPA_PLATFORM"] = "xcb"
        os.environ.pop("QT_QPA_PLATFORM_PLUGIN_PATH", None)  # cv2's, of whoever else runs in this process
        try:
            yield name
        finally:
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value


@pytest.fixture(scope="session")
def qapp_args() -> list[str]:
    return ["casa"]


@pytest.fixture(scope="session")
def qapp(display, qapp_args, pytestconfig):
    """The application, on the tests' own display; skips where Qt's libraries are missing."""
    try:
        from PySide6 import QtWidgets

        from casa.viewer.app import application
    except ImportError as error:
        pytest.skip(f"Qt cannot be loaded here: {error}")
    missing = [name for name in ("xcb-cursor", "xkbcommon-x11", "EGL") if ctypes.util.find_library(name) is None]
    if missing:
        pytest.skip(f"Qt's xcb plugin needs libraries that are not here: {', '.join(missing)}")
    app = application()
    assert app.platformName() == "xcb", "the viewer is tested on a real X server"
    yield app
    QtWidgets.QApplication.closeAllWindows()
    app.processEvents()


@pytest.fixture(scope="session")
def field(tmp_path_factory) -> Path:
    """RUN.h5 of three seconds of a simulated field, with its video beside it; nobody writes to it."""
    return record_scene(tmp_path_factory.mktemp("field") / "field.h5")


@pytest.fixture
def own_field(field, tmp_path) -> Path:
    """A copy of ``field`` that may be corrected, without its video: tracks need no pictures to be corrected."""
    return Path(shutil.copy(field, tmp_path / "field.h5"))


@pytest.fixture
def own_video(own_field, field) -> Path:
    """``own_field`` with its video."""
    shutil.copy(field.with_suffix(".mp4"), own_field.with_suffix(".mp4"))
    return own_field


@pytest.fixture
def open_viewer(qapp, qtbot) -> Iterator[Callable]:
    """Opens windows, waits until they show something, and closes them."""
    from casa.cli.view import open_feed
    from casa.viewer.feed import FeedState
    from casa.viewer.window import ViewerWindow

    opened = []

    def make(what: str | Path | None, size=(1280, 800), wait: bool = True, snapshots=None, video=None):
        window = ViewerWindow(lambda name: open_feed(name, video=video, who="tester", keys=None), snapshots, "tester")
        opened.append(window)
        window.resize(*size)
        if what is not None:
            window.open(str(what))
        window.show()
        qtbot.waitExposed(window, timeout=60_000)
        window.activateWindow()
        qtbot.waitUntil(window.isActiveWindow, timeout=60_000)
        if wait and what is not None:
            qtbot.waitUntil(lambda: window.feed.condition().state is not FeedState.LOADING, timeout=60_000)
            window.tick()
            if window.feed.condition().state is FeedState.READY:
                qtbot.waitUntil(lambda: window.figures is not None, timeout=60_000)
        return window

    threads = set(threading.enumerate())
    yield make
    for window in opened:
        window.close()
        window.deleteLater()
    qapp.processEvents()
    deadline = time.monotonic() + 5
    while left := [t.name for t in threading.enumerate() if t not in threads and t.name.startswith("casa")]:
        assert time.monotonic() < deadline, f"threads left behind: {left}"
        time.sleep(0.01)


def pytest_collection_modifyitems(items) -> None:
    """What Qt warns of fails the test, as Python's warnings do."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.qt_log_level_fail("WARNING"))
