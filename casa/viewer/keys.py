"""Every key of the viewer, in one table that the window, the overlay of keys and docs/viewer.md are all held to."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6 import QtGui, QtWidgets
from PySide6.QtCore import QRectF, Qt

from casa.viewer import palette


@dataclass(frozen=True, slots=True)
class Key:
    """An action with its keys as Qt names them, the group it is listed in, and what it does."""

    action: str
    keys: tuple[str, ...]
    group: str
    words: str
    recording_only: bool = False


KEYS = (
    Key("play", ("Space",), "Play", "play or pause"),
    Key("back", ("Left",), "Play", "one frame back", True),
    Key("forward", ("Right",), "Play", "one frame on", True),
    Key("back10", ("Shift+Left",), "Play", "ten frames back", True),
    Key("forward10", ("Shift+Right",), "Play", "ten frames on", True),
    Key("back_second", ("Ctrl+Left",), "Play", "one second back", True),
    Key("forward_second", ("Ctrl+Right",), "Play", "one second on", True),
    Key("first", ("Home",), "Play", "first frame", True),
    Key("last", ("End",), "Play", "last frame", True),
    Key("slower", ("[",), "Play", "slower", True),
    Key("faster", ("]",), "Play", "faster", True),
    Key("speed", ("=",), "Play", "normal speed", True),
    Key("go_to", ("Ctrl+G",), "Play", "go to a frame or time", True),
    Key("next_mark", ("PgDown",), "Play", "next mark (or kept picture)", True),
    Key("previous_mark", ("PgUp",), "Play", "previous mark (or kept picture)", True),
    Key("next", ("N", "Down"), "Sperm", "next sperm in view"),
    Key("previous", ("P", "Up"), "Sperm", "previous sperm in view"),
    Key("find", ("Ctrl+F",), "Sperm", "find a sperm by its number"),
    Key("start_of", ("Ctrl+Home",), "Sperm", "where the sperm appears", True),
    Key("end_of", ("Ctrl+End",), "Sperm", "where the sperm is last seen", True),
    Key("none", ("Escape",), "Sperm", "choose none, close what is open"),
    Key("follow", ("Z",), "Sperm", "zoom in on the sperm and follow it"),
    Key("fit", ("F", "0"), "Picture", "whole picture"),
    Key("zoom_in", ("+",), "Picture", "zoom in (or the wheel)"),
    Key("zoom_out", ("-",), "Picture", "zoom out"),
    Key("boxes", ("B",), "Picture", "boxes on or off"),
    Key("ids", ("I",), "Picture", "numbers on or off"),
    Key("trails", ("T",), "Picture", "trails on or off"),
    Key("shorter", (",",), "Picture", "shorter trails", True),
    Key("longer", (".",), "Picture", "longer trails", True),
    Key("grades", ("G",), "Picture", "colours by grade on or off"),
    Key("bare", ("H",), "Picture", "hide or show all that is drawn over it"),
    Key("attention", ("A",), "Picture", "where the network looked, over the graded clip, on or off"),
    Key("histogram", ("V",), "Picture", "histogram of VCL, VSL, VAP"),
    Key("mark", ("M",), "Keep", "mark this moment, or remove its mark"),
    Key("mark_note", ("Shift+M",), "Keep", "mark it with a note"),
    Key("snapshot", ("S",), "Keep", "save the picture and what is shown"),
    Key("second", ("Ctrl+N",), "Correct", "choose a second one nearby (Ctrl+click)", True),
    Key("join", ("Ctrl+J",), "Correct", "join it with the chosen one", True),
    Key("split", ("Ctrl+T",), "Correct", "split the sperm's track here", True),
    Key("debris", ("Ctrl+D",), "Correct", "this is debris", True),
    Key("delete", ("Delete",), "Correct", "this is nothing: delete the track", True),
    Key("undo", ("Ctrl+Z",), "Correct", "undo the last correction", True),
    Key("redo", ("Ctrl+Y", "Ctrl+Shift+Z"), "Correct", "do it again", True),
    Key("original", ("O",), "Correct", "tracks as recorded, or as corrected", True),
    Key("open", ("Ctrl+O",), "Window", "open a recording"),
    Key("full_screen", ("F11",), "Window", "full screen"),
    Key("help", ("?", "F1"), "Window", "these keys"),
    Key("quit", ("Ctrl+Q", "Q"), "Window", "close"),
)


def shown_key(key: str) -> str:
    """A key as people read it."""
    arrows = {"Left": "←", "Right": "→", "Up": "↑", "Down": "↓", "Escape": "Esc", "PgDown": "PgDn"}
    return "+".join(arrows.get(part, part) for part in key.split("+")) if key != "+" else "+"


class KeysOverlay(QtWidgets.QWidget):
    """All keys over the dimmed window; any click or Esc closes it."""

    def __init__(self, parent: QtWidgets.QWidget) -> None:
        super().__init__(parent)
        self.recording = True
        self.setAccessibleName("All keys")
        self.hide()

    def toggle(self, recording: bool) -> None:
        """Show or hide."""
        self.recording = recording
        parent = self.parentWidget()
        if parent is not None:
            self.setGeometry(parent.rect())
        self.setVisible(not self.isVisible())
        self.raise_()

    def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:  # noqa: D102
        self.hide()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: D102
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        painter.fillRect(self.rect(), QtGui.QColor(8, 11, 15, 205))
        shown = [key for key in KEYS if self.recording or not key.recording_only]
        groups = list(dict.fromkeys(key.group for key in shown))
        columns: list[list[str]] = [[], [], []]
        for group in groups:
            at = {"Play": 0, "Sperm": 1, "Keep": 2, "Picture": 2, "Correct": 1, "Window": 0}[group]
            columns[at].append(group)
        row, head = 23, 34
        heights = [sum(head + row * sum(k.group == g for k in shown) + 10 for g in column) for column in columns]
        wide, tall = min(self.width() - 40, 1160), max(heights) + 64
        card = QRectF((self.width() - wide) / 2, max((self.height() - tall) / 2, 6), wide, tall)
        painter.setPen(QtGui.QPen(QtGui.QColor(palette.LINE), 1))
        painter.setBrush(QtGui.QColor(palette.PANEL))
        painter.drawRoundedRect(card, 8, 8)
        font = QtGui.QFont(self.font())
        font.setPixelSize(13)
        strong = QtGui.QFont(font)
        strong.setWeight(QtGui.QFont.Weight.DemiBold)
        column_wide = (wide - 40) / 3
        left_middle = int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        for number, column in enumerate(columns):
            x, y = card.x() + 24 + number * column_wide, card.y() + 14.0
            for group in column:
                painter.setFont(strong)
                painter.setPen(QtGui.QColor(palette.ACCENT))
                painter.drawText(QRectF(x, y, column_wide, head - 4), left_middle, group)
                y += head - 4
                for key in (k for k in shown if k.group == group):
                    painter.setPen(QtGui.QColor(palette.TEXT))
                    painter.setFont(strong)
                    words = "  ".join(shown_key(k) for k in key.keys)
                    if painter.fontMetrics().horizontalAdvance(words) > 106:
                        words = shown_key(key.keys[0])
                    painter.drawText(QRectF(x, y, 110, row), left_middle, words)
                    painter.setFont(font)
                    painter.setPen(QtGui.QColor(palette.SOFT))
                    text = painter.fontMetrics().elidedText(
                        key.words, Qt.TextElideMode.ElideRight, int(column_wide - 118)
                    )
                    painter.drawText(QRectF(x + 112, y, column_wide - 116, row), left_middle, text)
                    y += row
                y += 14
        painter.setPen(QtGui.QColor(palette.FAINT))
        painter.drawText(
            QRectF(card.x(), card.bottom() - 32, wide, 24), int(Qt.AlignmentFlag.AlignCenter), "? or Esc closes this"
        )


def key_sequences(key: Key) -> list[QtGui.QKeySequence]:
    """The keys for Qt."""
    return [QtGui.QKeySequence(name) for name in key.keys]
