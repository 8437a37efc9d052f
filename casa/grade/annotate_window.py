"""The window in which an expert grades clips: a clip in a loop, five grades on the keyboard, nothing else to know.

It is blind: no clip's number, no other expert's vote is shown. Knows Qt and `Annotation`; nothing of torch or OpenCV,
whose Qt must not meet this one.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Qt

from casa.cells import CLIP_RATE_HZ, EXPERT_GRADES
from casa.errors import CasaError, InputError
from casa.grade.annotate import Annotation

#: What the grades mean, as the experts of Fujii et al. 2023 (section 3) were told.
MEANING = ("best", "good", "neither", "bad", "worst")
MAX_ZOOM, MAX_CONTRAST = 6.0, 4.0
_BAR = "QProgressBar { background: #2c3742; border: 0; } QProgressBar::chunk { background: #8fc7f2; }"
_KEYS = "A-E or 1-5 grade   Backspace back   S skip   Space pause   , . picture by picture   + - zoom   [ ] contrast"


class ClipView(QtWidgets.QWidget):
    """Shows a clip's pictures about their middle, as large as fits, in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumSize(320, 320)
        self.setAccessibleName("Clip")
        self.clip: NDArray[np.uint8] | None = None
        self.picture, self.zoom, self.contrast = 0, 1.0, 1.0
        self._timer = QtCore.QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(lambda: self.step(1))

    @property
    def playing(self) -> bool:
        """Whether the clip runs."""
        return self._timer.isActive()

    def play(self, on: bool) -> None:
        """Run or stop."""
        if on:
            self._timer.start(round(1000 / CLIP_RATE_HZ))
        else:
            self._timer.stop()

    def show_clip(self, clip: NDArray[np.uint8] | None) -> None:
        """Another clip (16, h, w) from its first picture, or none."""
        self.clip, self.picture = None if clip is None else np.ascontiguousarray(clip), 0
        self.update()

    def step(self, by: int) -> None:
        """Forward or back, round and round."""
        if self.clip is not None:
            self.picture = (self.picture + by) % len(self.clip)
            self.update()

    def shown(self) -> NDArray[np.uint8]:
        """The current picture (h, w) as it is shown: cut to the zoom, contrast raised about the clip's median gray."""
        assert self.clip is not None
        height, width = self.clip.shape[1:]
        half = (max(round(height / self.zoom / 2), 1), max(round(width / self.zoom / 2), 1))
        y, x = height // 2, width // 2
        part = self.clip[self.picture, max(y - half[0], 0) : y + half[0], max(x - half[1], 0) : x + half[1]]
        if self.contrast == 1.0:
            return np.ascontiguousarray(part)
        middle = float(np.median(self.clip[0]))
        levels = middle + (np.arange(256) - middle) * self.contrast
        return np.clip(np.round(levels), 0, 255).astype(np.uint8)[part]

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # Qt's name
        """Draw the picture on black."""
        painter = QtGui.QPainter(self)
        painter.fillRect(self.rect(), Qt.GlobalColor.black)
        if self.clip is not None:
            picture = self.shown()
            height, width = picture.shape
            image = QtGui.QImage(picture.data, width, height, width, QtGui.QImage.Format.Format_Grayscale8)
            side = min(self.width(), self.height())
            place = QtCore.QRect((self.width() - side) // 2, (self.height() - side) // 2, side, side)
            painter.setRenderHint(QtGui.QPainter.RenderHint.SmoothPixmapTransform)
            painter.drawImage(place, image)
        painter.end()


class AnnotateWindow(QtWidgets.QMainWindow):
    """Grades a folder of clips; ``images`` (n, 16, h, w) are those of the annotation's rows."""

    def __init__(self, annotation: Annotation, images: NDArray[np.uint8], style: str = "") -> None:
        super().__init__()
        self.annotation, self._images = annotation, images
        self.setWindowTitle(f"casa: grades of {annotation.expert}")
        self.setStyleSheet(style)
        self.view = ClipView()
        self.grades = [
            self._button(f"{letter}   {meaning}", lambda k=k: self.vote(k))
            for k, (letter, meaning) in enumerate(zip(EXPERT_GRADES, MEANING, strict=True))
        ]
        for button in self.grades:
            button.setCheckable(True)
            button.setMinimumWidth(96)
        self.back_button = self._button("Back", self.back)
        self.skip_button = self._button("Skip", self.skip)
        self.pause_button = self._button("Pause", self.pause)
        self.zoom_slider = self._slider("Zoom", MAX_ZOOM, self._set_zoom)
        self.contrast_slider = self._slider("Contrast", MAX_CONTRAST, self._set_contrast)
        self.progress = QtWidgets.QProgressBar()
        self.progress.setMaximum(max(len(annotation.ids), 1))
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(6)
        self.progress.setStyleSheet(_BAR)
        self.state = QtWidgets.QLabel()
        self.problem = QtWidgets.QLabel()
        self.problem.setProperty("kind", "warn")
        self.problem.setWordWrap(True)
        self._lay_out()
        self._bind_keys()
        self._show_current()
        self.view.play(True)

    # what the expert does

    def vote(self, grade: int) -> None:
        """Keep a grade (0: A) and show the next clip; what went wrong is said in the window."""
        self._do(lambda: self.annotation.vote(grade))

    def skip(self) -> None:
        """Later."""
        self._do(self.annotation.skip)

    def back(self) -> None:
        """Look at the clip before again."""
        self._do(self.annotation.back)

    def pause(self) -> None:
        """Stop the loop, or run it."""
        self.view.play(not self.view.playing)
        self.pause_button.setText("Pause" if self.view.playing else "Play")

    def step(self, by: int) -> None:
        """One picture on or back, standing still."""
        if self.view.playing:
            self.pause()
        self.view.step(by)

    def _do(self, action: Callable[[], None]) -> None:
        try:
            action()
        except CasaError as error:
            self.problem.setText(str(error))
            self.problem.show()
            self._show_state()
            return
        self.problem.hide()
        self._show_current()

    # what is shown

    def _show_current(self) -> None:
        row = self.annotation.row
        self.view.show_clip(None if row is None else self._images[row])
        self._show_state()

    def _show_state(self) -> None:
        annotation, row = self.annotation, self.annotation.row
        total = len(annotation.ids)
        self.progress.setValue(annotation.done)
        text = f"{annotation.done} of {total} clips graded"
        given = None if row is None else annotation.votes.get(row)
        if row is None:
            text = f"All {total} clips are graded: thank you. Close the window, or go back to change a grade."
        elif given is not None:
            text += f"; this one has your {EXPERT_GRADES[given]}"
        self.state.setText(text)
        for k, button in enumerate(self.grades):
            button.setChecked(k == given)
            button.setEnabled(row is not None)
        self.skip_button.setEnabled(row is not None)
        self.pause_button.setEnabled(row is not None)
        self.back_button.setEnabled(annotation.can_go_back)

    def _set_zoom(self, value: float) -> None:
        self.view.zoom = value
        self.view.update()

    def _set_contrast(self, value: float) -> None:
        self.view.contrast = value
        self.view.update()

    # how it is put together

    def _button(self, text: str, action: Callable[[], None]) -> QtWidgets.QPushButton:
        button = QtWidgets.QPushButton(text)
        button.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # keys are the window's, whatever was clicked last
        button.clicked.connect(lambda: action())
        return button

    def _slider(self, name: str, most: float, changed: Callable[[float], None]) -> QtWidgets.QSlider:
        slider = QtWidgets.QSlider(Qt.Orientation.Horizontal)
        slider.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        slider.setRange(10, round(most * 10))
        slider.setPageStep(5)
        slider.setFixedWidth(140)
        slider.setAccessibleName(name)
        slider.setToolTip(name)
        slider.valueChanged.connect(lambda value: changed(value / 10))
        return slider

    def _lay_out(self) -> None:
        ground = QtWidgets.QWidget()
        ground.setObjectName("ground")
        column = QtWidgets.QVBoxLayout(ground)
        column.addWidget(self.view, 1)
        row = QtWidgets.QHBoxLayout()
        row.addWidget(self.back_button)
        row.addStretch(1)
        for button in self.grades:
            row.addWidget(button)
        row.addStretch(1)
        row.addWidget(self.skip_button)
        column.addLayout(row)
        row = QtWidgets.QHBoxLayout()
        row.addWidget(self.state, 1)
        row.addWidget(self.pause_button)
        for name, slider in (("Zoom", self.zoom_slider), ("Contrast", self.contrast_slider)):
            row.addSpacing(12)
            row.addWidget(QtWidgets.QLabel(name))
            row.addWidget(slider)
        column.addLayout(row)
        column.addWidget(self.progress)
        column.addWidget(self.problem)
        self.problem.hide()
        keys = QtWidgets.QLabel(_KEYS)
        keys.setProperty("kind", "small")
        keys.setAlignment(Qt.AlignmentFlag.AlignCenter)
        column.addWidget(keys)
        self.setCentralWidget(ground)
        self.resize(760, 860)

    def _bind_keys(self) -> None:
        actions: dict[str, Callable[[], None]] = {
            "Backspace": self.back, "Left": self.back, "S": self.skip, "Right": self.skip, "Space": self.pause,
            ",": lambda: self.step(-1), ".": lambda: self.step(1),
            "+": lambda: self._nudge(self.zoom_slider, 5), "=": lambda: self._nudge(self.zoom_slider, 5),
            "-": lambda: self._nudge(self.zoom_slider, -5),
            "]": lambda: self._nudge(self.contrast_slider, 2), "[": lambda: self._nudge(self.contrast_slider, -2),
        }  # fmt: skip
        for k, letter in enumerate(EXPERT_GRADES):
            actions[letter] = actions[str(k + 1)] = lambda k=k: self.vote(k)
        for key, action in actions.items():
            shortcut = QtGui.QShortcut(QtGui.QKeySequence(key), self)
            shortcut.setAutoRepeat(key in ",.+-=[]")  # a key held down grades one clip
            shortcut.activated.connect(lambda action=action: action())

    @staticmethod
    def _nudge(slider: QtWidgets.QSlider, by: int) -> None:
        slider.setValue(slider.value() + by)

    def closeEvent(self, event: QtGui.QCloseEvent) -> None:  # Qt's name
        """Stop the loop; all votes are kept already."""
        self.view.play(False)
        super().closeEvent(event)


def grade_in_window(
    app: QtWidgets.QApplication, annotation: Annotation, images: NDArray[np.uint8], style: str = ""
) -> None:
    """Show the window until it is closed, or SIGINT or SIGTERM comes.

    Raises
    ------
    InputError : another window of the same expert is open on these clips: each would undo the other's votes.
    """
    annotation.path.parent.mkdir(exist_ok=True)
    lock = QtCore.QLockFile(str(annotation.path.with_suffix(".lock")))
    lock.setStaleLockTime(0)  # a lock lasts as long as its process, no matter how long that sits
    if not lock.tryLock(0):
        raise InputError(f"{annotation.path}: {annotation.expert} is grading these clips in another window; close it")
    window = AnnotateWindow(annotation, images, style)
    previous = {number: signal.signal(number, lambda *_: window.close()) for number in (signal.SIGINT, signal.SIGTERM)}
    awake = QtCore.QTimer()  # Python looks at signals only when it runs, and a paused clip leaves it asleep
    awake.timeout.connect(lambda: None)
    awake.start(200)
    try:
        window.show()
        app.exec()
    finally:
        awake.stop()
        for number, handler in previous.items():
            signal.signal(number, handler)
        lock.unlock()
