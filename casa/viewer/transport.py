"""The play head: a bar to scrub on, with marks and lost frames, and the buttons below it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import QPointF, QRectF, Qt

from casa.viewer import palette
from casa.viewer.panels import label, set_text


class Scrubber(QtWidgets.QWidget):
    """A bar from the first step to the last. Signals ``moved(int)`` with the step under the pointer."""

    moved = QtCore.Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(26)
        self.setMouseTracking(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAccessibleName("Position in the recording")
        self._n, self._step = 1, 0
        self._marks: Sequence[int] = ()
        self._pictures: Sequence[int] = ()
        self._lost: NDArray[np.int64] = np.empty(0, np.int64)
        self._span: tuple[int, int] | None = None

    def set_steps(self, n: int, lost: NDArray[np.int64], pictures: Sequence[int]) -> None:
        """How many steps there are, which were lost, and which have a picture in the recording."""
        self._n, self._lost, self._pictures = max(n, 1), lost, pictures
        self.update()

    def set_position(self, step: int, marks: Sequence[int], span: tuple[int, int] | None) -> None:
        """The play head, the marks, and the chosen sperm's first and last step."""
        if (step, list(marks), span) != (self._step, list(self._marks), self._span):
            self._step, self._marks, self._span = step, list(marks), span
            self.update()

    def _x(self, step: float) -> float:
        return 8 + (self.width() - 16) * step / max(self._n - 1, 1)

    def _move(self, position: QPointF) -> None:
        share = (position.x() - 8) / max(self.width() - 16, 1)
        self.moved.emit(int(np.clip(round(share * (self._n - 1)), 0, self._n - 1)))

    def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:  # noqa: D102
        self._move(event.position())

    def mouseMoveEvent(self, event: QtGui.QMouseEvent) -> None:  # noqa: D102
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._move(event.position())

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: D102
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        middle = self.height() / 2
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QtGui.QColor(palette.RAISED))
        painter.drawRoundedRect(QRectF(8, middle - 3, self.width() - 16, 6), 3, 3)
        painter.setBrush(QtGui.QColor("#3d5a74"))
        painter.drawRoundedRect(QRectF(8, middle - 3, max(self._x(self._step) - 8, 0), 6), 3, 3)
        if self._span is not None:
            painter.setBrush(QtGui.QColor("#ffffff"))
            left, right = self._x(self._span[0]), self._x(self._span[1])
            painter.drawRect(QRectF(left, middle + 5, max(right - left, 2), 2))
        painter.setPen(QtGui.QPen(QtGui.QColor(palette.ALARM), 1.5))
        for x in np.unique(np.round([self._x(step) for step in self._lost.tolist()])).tolist():
            painter.drawLine(QPointF(x, middle - 3), QPointF(x, middle + 3))
        painter.setPen(QtGui.QPen(QtGui.QColor(palette.SOFT), 1.5))
        for step in self._pictures:
            painter.drawLine(QPointF(self._x(step), middle - 8), QPointF(self._x(step), middle - 5))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QtGui.QColor(palette.WARN))
        for step in self._marks:
            x = self._x(step)
            painter.drawPolygon([QPointF(x - 4.5, 1), QPointF(x + 4.5, 1), QPointF(x, middle - 4)])
        painter.setBrush(QtGui.QColor("#ffffff"))
        painter.drawEllipse(QPointF(self._x(self._step), middle), 6, 6)


class Transport(QtWidgets.QWidget):
    """Scrubber, buttons, time and speed. Signals ``wanted(str)`` with the name of an action of casa.viewer.keys."""

    wanted = QtCore.Signal(str)
    _BUTTONS = (
        ("first", "", "First frame (Home)"),
        ("back", "", "One frame back (←)"),
        ("play", "Play", "Play or pause (Space)"),
        ("forward", "", "One frame on (→)"),
        ("last", "", "Last frame (End)"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(8, 4, 8, 8)
        column.setSpacing(2)
        self.scrubber = Scrubber()
        column.addWidget(self.scrubber)
        row = QtWidgets.QHBoxLayout()
        row.setContentsMargins(6, 0, 6, 0)
        row.setSpacing(6)
        self.buttons: dict[str, QtWidgets.QToolButton] = {}
        for action, words, tip in self._BUTTONS:
            row.addWidget(self._button(action, words, tip))
        self._play, self._pause = icon("play"), icon("pause")
        for action in ("first", "back", "forward", "last"):
            self.buttons[action].setIcon(icon(action))
        self.buttons["play"].setIcon(self._play)
        self.buttons["play"].setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.buttons["play"].setFixedWidth(92)
        self._time = label("", "number")
        self._time.setMinimumWidth(150)
        self._frame = label("", "small")
        row.addSpacing(8)
        row.addWidget(self._time)
        row.addWidget(self._frame)
        row.addStretch(1)
        for action, words, tip in (
            ("slower", "−", "Slower ([)"), ("speed", "1×", "Normal speed (=)"), ("faster", "+", "Faster (])"),
        ):  # fmt: skip
            row.addWidget(self._button(action, words, tip))
        self.buttons["speed"].setMinimumWidth(54)
        row.addSpacing(8)
        for action, words, tip in (
            ("mark", "Mark", "Mark this moment, or remove its mark (M)"),
            ("snapshot", "Snapshot", "Save the picture and what is shown (S)"),
            ("undo", "Undo", "Undo the last correction (Ctrl+Z)"),
            ("help", "?", "All keys (?)"),
        ):
            row.addWidget(self._button(action, words, tip))
        column.addLayout(row)

    def _button(self, action: str, words: str, tip: str) -> QtWidgets.QToolButton:
        button = QtWidgets.QToolButton()
        button.setText(words)
        button.setToolTip(tip)
        button.setObjectName(f"do-{action}")
        button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        button.clicked.connect(lambda _=False, a=action: self.wanted.emit(a))
        button.setAccessibleName(tip)
        self.buttons[action] = button
        return button

    def set_seekable(self, on: bool) -> None:
        """Live sessions have no play head."""
        self.scrubber.setVisible(on)
        for action in ("first", "back", "forward", "last", "slower", "speed", "faster", "undo"):
            self.buttons[action].setVisible(on)

    def show_state(self, time_text: str, frame_text: str, playing: bool, speed: float) -> None:
        """The line below the scrubber."""
        set_text(self._time, time_text)
        set_text(self._frame, frame_text)
        play = self.buttons["play"]
        if play.text() != (words := "Pause" if playing else "Play"):
            play.setText(words)
            play.setIcon(self._pause if playing else self._play)
        if self.buttons["speed"].text() != (words := f"{speed:g}×"):
            self.buttons["speed"].setText(words)


def icon(name: str) -> QtGui.QIcon:
    """The sign of a button, drawn: fonts do not all have them."""
    signs = {
        "play": [((3, 1), (14, 8), (3, 15))],
        "pause": [((3, 2), (6, 2), (6, 14), (3, 14)), ((10, 2), (13, 2), (13, 14), (10, 14))],
        "back": [((10, 2), (10, 14), (3, 8)), ((11.5, 2), (13, 2), (13, 14), (11.5, 14))],
        "forward": [((6, 2), (6, 14), (13, 8)), ((3, 2), (4.5, 2), (4.5, 14), (3, 14))],
        "first": [((15, 2), (15, 14), (9, 8)), ((9, 2), (9, 14), (3, 8)), ((1, 2), (2.6, 2), (2.6, 14), (1, 14))],
        "last": [((1, 2), (1, 14), (7, 8)), ((7, 2), (7, 14), (13, 8)), ((13.4, 2), (15, 2), (15, 14), (13.4, 14))],
    }
    picture = QtGui.QPixmap(64, 64)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QtGui.QPainter(picture)
    painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
    painter.scale(4, 4)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QtGui.QColor(palette.TEXT))
    for corners in signs[name]:
        painter.drawPolygon([QPointF(x, y) for x, y in corners])
    painter.end()
    return QtGui.QIcon(picture)
