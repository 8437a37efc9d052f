"""The window that experts grade clips in, driven by its keys on a real screen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from casa.grade.annotate import Annotation
from casa.grade.data import write_panel
from casa.grade.votes import read_expert

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def simulated_clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("annotate") / "clips"
    write_panel(folder, 4, 0, votes=False)
    return folder


@pytest.fixture
def clips(simulated_clips, tmp_path) -> Path:
    """A folder of four simulated clips of the test's own."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for path in simulated_clips.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def open_window(qapp, qtbot, clips) -> Iterator:
    from casa.grade.annotate_window import AnnotateWindow
    from casa.viewer.style import SHEET

    opened = []

    def make(expert: str = "ann"):
        images = np.load(clips / "clips.npy", mmap_mode="r")
        window = AnnotateWindow(Annotation(clips, expert, np.arange(1, 5)), images, SHEET)
        opened.append(window)
        window.show()
        qtbot.waitExposed(window, timeout=60_000)
        window.activateWindow()
        qtbot.waitUntil(window.isActiveWindow, timeout=60_000)
        return window

    yield make
    for window in opened:
        window.close()
        window.deleteLater()
    qapp.processEvents()


def votes_of(clips: Path, expert: str = "ann") -> list[int]:
    path = clips / "votes" / f"{expert}.csv"
    return list(read_expert(path).values()) if path.is_file() else []


def test_keys_grade_and_each_vote_is_kept_at_once(open_window, qtbot, clips):
    from PySide6.QtCore import Qt

    window = open_window()
    assert votes_of(clips) == []
    for key, grade in ((Qt.Key.Key_A, 0), (Qt.Key.Key_5, 4), (Qt.Key.Key_C, 2)):
        row = window.annotation.row
        qtbot.keyClick(window, key)
        assert votes_of(clips)[-1] == grade
        assert window.annotation.row != row
    assert "3 of 4" in window.state.text()
    assert window.progress.value() == 3
    qtbot.keyClick(window, Qt.Key.Key_B)
    assert votes_of(clips) == [0, 4, 2, 1]
    assert "All 4 clips are graded" in window.state.text()
    assert not any(button.isEnabled() for button in window.grades)
    qtbot.keyClick(window, Qt.Key.Key_D)  # there is nothing left to grade
    assert votes_of(clips) == [0, 4, 2, 1]


def test_back_shows_the_vote_and_may_change_it(open_window, qtbot, clips):
    from PySide6.QtCore import Qt

    window = open_window()
    assert not window.back_button.isEnabled()
    qtbot.keyClick(window, Qt.Key.Key_B)
    following = window.annotation.row
    qtbot.keyClick(window, Qt.Key.Key_Backspace)
    assert window.grades[1].isChecked()
    assert "your B" in window.state.text()
    qtbot.mouseClick(window.grades[3], Qt.MouseButton.LeftButton)
    assert votes_of(clips) == [3]
    assert window.annotation.row == following
    assert not any(button.isChecked() for button in window.grades)


def test_the_clip_runs_and_stands(open_window, qtbot, qapp):
    from PySide6.QtCore import Qt

    window = open_window()
    seen = set()
    qtbot.waitUntil(lambda: seen.add(window.view.picture) or len(seen) > 3, timeout=20_000)
    qtbot.keyClick(window, Qt.Key.Key_Space)
    at = window.view.picture
    qtbot.wait(200)
    assert window.view.picture == at
    qtbot.keyClick(window, Qt.Key.Key_Period)
    assert window.view.picture == (at + 1) % 16
    qtbot.keyClick(window, Qt.Key.Key_Comma)
    qtbot.keyClick(window, Qt.Key.Key_Comma)
    assert window.view.picture == (at - 1) % 16


def test_zoom_and_contrast_change_the_picture_about_the_head(open_window, qtbot):
    from PySide6.QtCore import Qt

    window = open_window()
    qtbot.keyClick(window, Qt.Key.Key_Space)
    whole = window.view.shown()
    assert whole.shape == (150, 150)
    for _ in range(2):
        qtbot.keyClick(window, Qt.Key.Key_Plus)
    part = window.view.shown()
    assert part.shape == (76, 76) or part.shape == (74, 74)
    side = part.shape[0] // 2
    assert np.array_equal(part, whole[75 - side : 75 + side, 75 - side : 75 + side])
    for _ in range(5):
        qtbot.keyClick(window, Qt.Key.Key_BracketRight)
    assert window.view.shown().std() > 1.3 * part.std()
    qtbot.keyClick(window, Qt.Key.Key_A)
    assert (window.view.zoom, window.view.contrast) == (2.0, 2.0)  # the next clip is seen the same way


def test_nothing_shows_whose_clip_it_is_or_what_others_said(open_window, qtbot, clips):
    from PySide6 import QtWidgets
    from PySide6.QtCore import Qt

    other = open_window("bob")
    qtbot.keyClick(other, Qt.Key.Key_E)
    window = open_window("ann")
    texts = " ".join(label.text() for label in window.findChildren(QtWidgets.QLabel))
    assert "bob" not in texts
    assert "00000" not in texts
    assert not any(button.isChecked() for button in window.grades)


def test_a_full_disk_is_said_in_the_window_and_the_clip_stays(open_window, qtbot, clips):
    from PySide6.QtCore import Qt

    window = open_window()
    (clips / "votes").mkdir(exist_ok=True)
    (clips / "votes" / "ann.csv.partial").mkdir()
    row = window.annotation.row
    qtbot.keyClick(window, Qt.Key.Key_A)
    assert window.annotation.row == row
    assert window.problem.isVisible()
    assert "could not be kept" in window.problem.text()
    (clips / "votes" / "ann.csv.partial").rmdir()
    qtbot.keyClick(window, Qt.Key.Key_A)
    assert not window.problem.isVisible()
    assert votes_of(clips) == [0]


def test_the_command_keeps_votes_when_it_is_killed_and_goes_on(clips, display):
    """The real program, graded by a script in it, killed without notice, and started again."""
    script = f"""
from pathlib import Path
from PySide6 import QtCore
from casa.cli.grade_data import annotate
from casa.grade import annotate_window
class Graded(annotate_window.AnnotateWindow):
    def __init__(self, *args):
        super().__init__(*args)
        self.tried = QtCore.QTimer(self)
        self.tried.timeout.connect(lambda: self.vote(2) if self.annotation.done < 2 else print("two", flush=True))
        self.tried.start(50)
annotate_window.AnnotateWindow = Graded
if __name__ == "__main__":
    annotate(Path({str(clips)!r}), "ann")
"""
    path = clips.parent / "graded.py"
    path.write_text(script)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-W", "error", str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT,
                               env=environment, stderr=subprocess.PIPE)  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline().strip()
        assert line == "two", process.stderr.read() if process.stderr else ""
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert votes_of(clips) == [2, 2]
    assert Annotation(clips, "ann", np.arange(1, 5)).done == 2


def test_the_program_loads_neither_cv2_nor_torch(clips, display):
    code = f"""
import sys
from pathlib import Path
from PySide6 import QtCore
from casa.grade import annotate_window
shown = annotate_window.AnnotateWindow.show
def show(self):
    shown(self)
    QtCore.QTimer.singleShot(300, self.close)
annotate_window.AnnotateWindow.show = show
from casa.cli.grade_data import annotate
if __name__ == "__main__":
    annotate(Path({str(clips)!r}), "ann")
    print([name for name in ("cv2", "torch", "av", "openvino") if name in sys.modules])
"""
    path = clips.parent / "shown.py"
    path.write_text(code)
    found = subprocess.run([sys.executable, "-W", "error", str(path)], capture_output=True, text=True, cwd=ROOT,
                           env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=120)  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == "[]"
    assert "0 of 4 clips graded" in found.stdout


def test_a_second_window_of_the_same_expert_is_refused(clips, qapp, qtbot):
    from PySide6 import QtCore

    from casa.errors import InputError
    from casa.grade.annotate_window import grade_in_window

    images = np.load(clips / "clips.npy", mmap_mode="r")
    (clips / "votes").mkdir()
    held = QtCore.QLockFile(str(clips / "votes" / "ann.lock"))
    held.setStaleLockTime(0)
    assert held.tryLock(0)
    with pytest.raises(InputError, match="another window"):
        grade_in_window(qapp, Annotation(clips, "ann", np.arange(1, 5)), images)
    held.unlock()
