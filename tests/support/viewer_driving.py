"""How tests find their way about the viewer's window, and press its keys."""

from __future__ import annotations

import numpy as np
from PySide6 import QtCore, QtGui


def place_of(window, track_id: int) -> QtCore.QPoint:
    """Where a track's box is on the canvas."""
    canvas = window.canvas
    row = int(np.flatnonzero(window.view.track_id == track_id)[0])
    centre = (window.view.box[row, :2] + window.view.box[row, 2:]) / 2
    x, y = canvas._origin()
    return QtCore.QPoint(round(x + centre[0] * canvas.scale), round(y + centre[1] * canvas.scale))


def seek(window, qtbot, step: int) -> None:
    window.recording.seek(step)

    def is_there() -> bool:
        view = window.view
        pictured = view is not None and (view.image is not None or not window.recording.has_pictures)
        return pictured and view.step == step and not view.stale

    qtbot.waitUntil(is_there, timeout=60_000)


def lone_track(window) -> int:
    """A track whose box touches no other."""
    box, ids = window.view.box, window.view.track_id
    for row in range(len(ids)):
        apart = (box[:, 0] > box[row, 2] + 8) | (box[:, 2] < box[row, 0] - 8)
        apart |= (box[:, 1] > box[row, 3] + 8) | (box[:, 3] < box[row, 1] - 8)
        apart[row] = True
        middle = (box[row, :2] + box[row, 2:]) / 2
        if apart.all() and (middle > 60).all() and (middle < [430, 310]).all():
            return int(ids[row])
    raise AssertionError("no track stands alone")


def press(window, qtbot, key: str) -> None:
    """A key as a person presses it, by its name in the table of keys."""
    if not window.isActiveWindow():
        window.activateWindow()
        qtbot.waitUntil(window.isActiveWindow)
    combination = QtGui.QKeySequence(key)[0]
    qtbot.keyClick(window, combination.key(), combination.keyboardModifiers())
    window.tick()
