"""The calibration wizard: a window that walks through the setup of a microscope with the live image.

It knows no camera and measures nothing: `wizard_process` does, in a process of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6 import QtCore, QtGui, QtSvgWidgets, QtWidgets

from casa.viewer import palette as p
from casa.viewer.style import SHEET
from casa.viewer.wizard_process import WizardProcess
from casa.viewer.wizard_steps import STEPS, Step, options_of

_NAMES = (
    ("name", "Name of the profile"),
    ("microscope", "Microscope"),
    ("objective", "Objective"),
    ("camera", "Camera"),
    ("used_by", "Who may use it (empty: all)"),
    ("valid_days", "Valid for, days"),
)
_MARKS = {"": "○", "done": "●", "failed": "✕", "skipped": "–"}


class LivePicture(QtWidgets.QWidget):
    """The microscope's picture, as large as fits, with a needle of sharpness below it."""

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumSize(420, 340)
        self.setAccessibleName("live picture")
        self._image: QtGui.QImage | None = None
        self._array: NDArray[np.uint8] | None = None
        self._sharpness = self._sharpest = 0.0
        self.words = "waiting for the microscope"

    def show_picture(self, picture: NDArray[np.uint8], sharpness: float | None) -> None:
        """(h, w) gray or (h, w, 3) RGB."""
        self._array = np.ascontiguousarray(picture)
        h, w = picture.shape[:2]
        gray = picture.ndim == 2
        kind = QtGui.QImage.Format.Format_Grayscale8 if gray else QtGui.QImage.Format.Format_RGB888
        self._image = QtGui.QImage(self._array.data, w, h, w if gray else 3 * w, kind)
        if sharpness is not None:
            self._sharpness = sharpness
            self._sharpest = max(0.998 * self._sharpest, sharpness, 1e-12)
        self.update()

    def forget(self, words: str) -> None:
        """No picture, and why; a needle's best is of one slide."""
        self._image, self.words, self._sharpest = None, words, 0.0
        self.update()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: D102
        painter = QtGui.QPainter(self)
        painter.fillRect(self.rect(), QtGui.QColor("#05080b"))
        if self._image is None:
            painter.setPen(QtGui.QColor(p.SOFT))
            painter.drawText(self.rect(), int(QtCore.Qt.AlignmentFlag.AlignCenter), self.words)
            return
        painter.setRenderHint(QtGui.QPainter.RenderHint.SmoothPixmapTransform)
        room = QtCore.QRectF(0, 0, self.width(), self.height() - 26)
        scale = min(room.width() / self._image.width(), room.height() / self._image.height())
        w, h = self._image.width() * scale, self._image.height() * scale
        painter.drawImage(QtCore.QRectF((room.width() - w) / 2, (room.height() - h) / 2, w, h), self._image)
        track = QtCore.QRectF(88, self.height() - 15, self.width() - 100, 6)
        painter.setPen(QtGui.QColor(p.SOFT))
        painter.drawText(QtCore.QPointF(10, self.height() - 8), "sharpness")
        painter.fillRect(track, QtGui.QColor(p.RAISED))
        part = min(self._sharpness / self._sharpest, 1.0) if self._sharpest > 0 else 0.0
        colour = p.FINE if part > 0.9 else p.ACCENT
        painter.fillRect(QtCore.QRectF(track.x(), track.y(), track.width() * part, 6), QtGui.QColor(colour))


class WizardWindow(QtWidgets.QWidget):
    """Steps at the left, the live picture in the middle, what to do and what was found at the right.

    Parameters
    ----------
    arguments : of the measuring process, behind ``casa``.
    options : values of the steps' entries by name, as text.
    output : the profile to write. force : replace it where it exists.
    """

    def __init__(self, arguments: list[str], options: dict[str, str], output: Path, force: bool = False) -> None:
        super().__init__()
        self.setObjectName("ground")
        self.setWindowTitle("casa: set a microscope up")
        self.setStyleSheet(SHEET + f"QWidget#ground {{ background: {p.GROUND}; }}")
        self.resize(1240, 760)
        self.output, self.force = output, force
        self.saved: Path | None = None
        self._states = dict.fromkeys((step.key for step in STEPS), "")
        self._results: dict[str, tuple[list[str], list[str], list[str]]] = {}
        self._drawing: NDArray[np.uint8] | None = None
        self._at, self._busy, self._alive = 0, False, False
        self.process = WizardProcess(arguments, self)
        self.process.message.connect(self._heard)
        self.process.ended.connect(self._died)
        self._build(options)
        self._show_step()
        self.process.start()

    @property
    def step(self) -> Step:
        """The step that is shown."""
        return STEPS[self._at]

    @property
    def busy(self) -> bool:
        """Whether a step is being measured."""
        return self._busy

    @property
    def states(self) -> dict[str, str]:
        """What became of each step: "" (not yet), done, failed, skipped."""
        return dict(self._states)

    def _build(self, options: dict[str, str]) -> None:
        self.list = QtWidgets.QLabel()
        self.list.setTextFormat(QtCore.Qt.TextFormat.RichText)
        self.list.setMinimumWidth(150)
        self.list.setAlignment(QtCore.Qt.AlignmentFlag.AlignTop)
        self.live = LivePicture()
        self.title, self.words, self.line = QtWidgets.QLabel(), QtWidgets.QLabel(), QtWidgets.QLabel()
        self.title.setProperty("kind", "big")
        for label in (self.words, self.line):
            label.setWordWrap(True)
        self.entries: dict[str, QtWidgets.QLineEdit] = {}
        self._rows: dict[str, QtWidgets.QWidget] = {}
        form = QtWidgets.QVBoxLayout()
        for name, label in [(e.name, e.label) for step in STEPS for e in step.entries] + list(_NAMES):
            row, edit = QtWidgets.QWidget(), QtWidgets.QLineEdit(options.get(name, ""))
            box = QtWidgets.QHBoxLayout(row)
            box.setContentsMargins(0, 0, 0, 0)
            caption = QtWidgets.QLabel(label)
            caption.setMinimumWidth(170)
            caption.setBuddy(edit)
            edit.setAccessibleName(label)
            box.addWidget(caption)
            box.addWidget(edit)
            self.entries[name], self._rows[name] = edit, row
            form.addWidget(row)
        self.progress = QtWidgets.QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(6)
        self.found = QtWidgets.QLabel()
        self.found.setWordWrap(True)
        self.found.setTextInteractionFlags(QtCore.Qt.TextInteractionFlag.TextSelectableByMouse)
        self.charts = (QtSvgWidgets.QSvgWidget(), QtSvgWidgets.QSvgWidget())
        self.buttons: dict[str, QtWidgets.QPushButton] = {}
        bar = QtWidgets.QHBoxLayout()
        for name, action in (("Back", self.back), ("Skip", self.skip), ("Cancel", self.cancel), ("Go", self.go)):
            button = QtWidgets.QPushButton(name)
            button.clicked.connect(action)
            self.buttons[name] = button
            bar.addWidget(button)
        bar.insertStretch(2)
        side = QtWidgets.QWidget()
        side.setObjectName("panel")
        side.setFixedWidth(430)
        right = QtWidgets.QVBoxLayout(side)
        right.setContentsMargins(16, 14, 16, 14)
        for widget in (self.title, self.words):
            right.addWidget(widget)
        right.addLayout(form)
        for widget in (self.line, self.progress, self.found):
            right.addWidget(widget)
        for chart in self.charts:
            right.addWidget(chart, 1)
        right.addStretch()
        right.addLayout(bar)
        whole = QtWidgets.QHBoxLayout(self)
        whole.setContentsMargins(12, 12, 0, 0)
        whole.addWidget(self.list)
        whole.addWidget(self.live, 1)
        whole.addWidget(side)
        for key, slot in (("Return", self.go), ("Enter", self.go), ("Alt+Left", self.back), ("Alt+Right", self.skip)):
            QtGui.QShortcut(QtGui.QKeySequence(key), self).activated.connect(slot)
        QtGui.QShortcut(QtGui.QKeySequence("Esc"), self).activated.connect(self.escape)

    # what the user does

    @QtCore.Slot()
    def go(self) -> None:
        """The step's next thing: measure, say that a slide lies there, go on, save, start again."""
        button = self.buttons["Go"]
        if not button.isEnabled():
            return
        match button.property("does"):
            case "start":
                self._line("starting again")
                self.process.start()
                button.setEnabled(False)
            case "ready":
                self._asked(None)
                self.process.send({"do": "ready"})
            case "next":
                self._move(1)
            case "close":
                self.close()
            case _:
                self._begin()

    @QtCore.Slot()
    def back(self) -> None:
        """The step before."""
        if not self._busy and self._at > 0:
            self._move(-1)

    @QtCore.Slot()
    def skip(self) -> None:
        """Leave the step out, or measure it again where it was measured."""
        if self._busy or self.step.key == "save":
            return
        if self._states[self.step.key] == "done":
            self._begin()
            return
        self._states[self.step.key] = "skipped"
        self._move(1)

    @QtCore.Slot()
    def cancel(self) -> None:
        """Break off what is being measured."""
        if self._busy:
            self.process.send({"do": "cancel"})
            self._line("breaking off")

    @QtCore.Slot()
    def escape(self) -> None:
        """Break a step off, or close the window; asks first where something would be lost."""
        if self._busy:
            self.cancel()
            return
        lost = any(state == "done" for state in self._states.values()) and self.saved is None
        if lost:
            question = QtWidgets.QMessageBox(self)
            question.setText("Close without saving what was measured?")
            question.setStandardButtons(
                QtWidgets.QMessageBox.StandardButton.Discard | QtWidgets.QMessageBox.StandardButton.Cancel
            )
            if question.exec() != QtWidgets.QMessageBox.StandardButton.Discard:
                return
        self.close()

    def closeEvent(self, event: QtGui.QCloseEvent) -> None:
        """Let the measuring process end."""
        self.process.stop()
        event.accept()

    def _begin(self) -> None:
        if not self._alive or self._busy:
            return
        if self.step.key == "save":
            self._save()
            return
        try:
            options = options_of({entry.name: self.entries[entry.name].text() for entry in self.step.entries})
        except ValueError as error:
            self._line(str(error), bad=True)
            return
        self._busy, self._drawing = True, None
        self._results.pop(self.step.key, None)
        self._line("measuring")
        self._show_step(keep_line=True)
        self.process.send({"do": "measure", "step": self.step.key, "options": options})

    def _save(self) -> None:
        names: dict[str, Any] = {name: self.entries[name].text().strip() for name, _ in _NAMES}
        if not names["name"]:
            self._line("Name of the profile: it is missing", bad=True)
            return
        if not names["valid_days"].isdecimal() or int(names["valid_days"]) < 1:
            self._line("Valid for, days: expected a whole number", bad=True)
            return
        names["valid_days"] = int(names["valid_days"])
        self.process.send({"do": "save", "output": str(self.output), "names": names, "force": self.force})

    def _move(self, by: int) -> None:
        self._at = min(max(self._at + by, 0), len(STEPS) - 1)
        self.live.forget("waiting for the microscope")
        self._drawing = None
        self._show_step()

    # what the measuring process says

    @QtCore.Slot(dict, object)
    def _heard(self, message: dict[str, Any], picture: NDArray[np.uint8] | None) -> None:
        match message["kind"]:
            case "opened":
                self._alive = True
                self._states = dict.fromkeys(self._states, "")  # what an earlier process measured went with it
                self._results.clear()
                if not self.entries["camera"].text():
                    self.entries["camera"].setText(message["name"])
                self._show_step()
            case "picture" if picture is not None and self._drawing is None:
                self.live.show_picture(picture, message["sharpness"])
            case "drawing" if picture is not None:
                self._drawing = picture
                self.live.show_picture(picture, None)
            case "progress":
                self.progress.setRange(0, max(int(message["total"]), 1))
                self.progress.setValue(int(message["done"]))
                self._line(message["what"])
            case "ask":
                self._asked(message["words"])
            case "done":
                self._states[message["step"]] = "done"
                self._results[message["step"]] = (message["said"], message["remarks"], message["charts"])
                self._finish("")
            case "failed":
                if message["step"] in self._states and self._states[message["step"]] != "done":
                    self._states[message["step"]] = "failed"
                self._finish(message["line"])
            case "saved":
                self.saved = Path(message["path"])
                self._states["save"] = "done"
                self._results["save"] = ([f"written: {message['path']}"], [], [])
                self._finish("")
            case "broken":
                self._died(message["line"])

    def _finish(self, bad_line: str) -> None:
        self._busy = False
        self._show_step()
        self._line(bad_line, bad=bool(bad_line))

    def _asked(self, words: str | None) -> None:
        """A slide is wanted: the button says when it is there."""
        self._line(f"Put on {words}." if words else "measuring", bad=False)
        self._does("I have put it on" if words else "measuring", "ready" if words else "", enabled=words is not None)

    @QtCore.Slot(str)
    def _died(self, line: str) -> None:
        self._busy = self._alive = False
        self.live.forget("the microscope's process has ended")
        self._show_step()
        self._line(f"The process at the microscope ended: {line}", bad=True)
        self._does("Start again", "start")

    # what is shown

    def _line(self, text: str, bad: bool = False) -> None:
        self.line.setText(text)
        self.line.setStyleSheet(f"color: {p.ALARM if bad else p.SOFT};")

    def _does(self, words: str, does: str, enabled: bool = True) -> None:
        button = self.buttons["Go"]
        button.setText(words)
        button.setProperty("does", does)
        button.setEnabled(enabled)

    def _show_step(self, keep_line: bool = False) -> None:
        step, state = self.step, self._states[self.step.key]
        rows = []
        for index, other in enumerate(STEPS):
            colour = {"done": p.FINE, "failed": p.ALARM}.get(self._states[other.key], p.SOFT)
            weight = "font-weight: 600; color: " + p.TEXT if index == self._at else f"color: {p.SOFT}"
            mark = _MARKS[self._states[other.key]]
            rows.append(
                f'<p style="margin: 9px 0;"><span style="color: {colour};">{mark}</span>&nbsp; '
                f'<span style="{weight};">{other.title}</span></p>'
            )
        self.list.setText("".join(rows))
        self.title.setText(step.title)
        self.words.setText(step.words)
        wanted = {entry.name for entry in step.entries} | ({n for n, _ in _NAMES} if step.key == "save" else set())
        for name, row in self._rows.items():
            row.setVisible(name in wanted)
            self.entries[name].setEnabled(not self._busy)
        self.progress.setVisible(self._busy)
        said, remarks, charts = self._results.get(step.key, ([], [], []))
        text = "".join(f'<p style="margin: 4px 0;">{line}</p>' for line in said)
        text += "".join(f'<p style="margin: 4px 0; color: {p.WARN};">{line}</p>' for line in remarks)
        self.found.setText(text)
        self.found.setVisible(bool(text))
        for number, chart in enumerate(self.charts):
            chart.setVisible(number < len(charts))
            if number < len(charts):
                chart.load(QtCore.QByteArray(charts[number].encode()))
                chart.renderer().setAspectRatioMode(QtCore.Qt.AspectRatioMode.KeepAspectRatio)
        if not keep_line:
            self._line("" if self._alive else "opening the microscope")
        done = state == "done"
        if self._busy:
            self._does("measuring", "", enabled=False)
        elif done:
            self._does("Close" if step.key == "save" else "Next", "close" if step.key == "save" else "next")
        else:
            self._does("Save" if step.key == "save" else "Measure", "measure", enabled=self._alive)
        self.buttons["Back"].setEnabled(not self._busy and self._at > 0)
        self.buttons["Skip"].setText("Again" if done else "Skip")
        self.buttons["Skip"].setVisible(step.key != "save")
        self.buttons["Skip"].setEnabled(not self._busy and self._alive)
        self.buttons["Cancel"].setVisible(self._busy)
        self.buttons["Go"].setFocus()
