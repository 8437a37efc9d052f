"""Claims about the calibration wizard on the simulated microscope: from first step to profile, and what goes wrong."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("PySide6")

OPTIONS = {"seconds": "2", "pitch_um": "10", "chamber_depth_um": "20", "bead_um": "4"}
OPTIONS |= {"valid_days": "90", "name": "scope"}


@pytest.fixture
def wizard(qapp, qtbot, tmp_path):
    from casa.viewer.wizard import WizardWindow

    window = WizardWindow(["calibrate", "serve", "--source", "simulator"], dict(OPTIONS), tmp_path / "p.toml")
    window.show()
    qtbot.waitExposed(window, timeout=120_000)
    qtbot.waitUntil(lambda: window.live._image is not None, timeout=120_000)
    yield window
    window.process.stop()
    window.close()
    window.deleteLater()


def press(window, qtbot, key) -> None:
    """A key as a person presses it."""
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    qtbot.keyClick(window, key)


def measured(window, qtbot, key: str) -> None:
    """Measure the step that is shown, with Enter, and wait for it."""
    from PySide6 import QtCore

    assert window.step.key == key
    press(window, qtbot, QtCore.Qt.Key.Key_Return)
    assert window.busy or key == "save"
    qtbot.waitUntil(lambda: window.states[key] in ("done", "failed"), timeout=300_000)
    assert window.states[key] == "done", window.line.text()


def test_steps_lead_to_a_profile_that_is_right(wizard, qtbot, tmp_path):
    from PySide6 import QtCore

    from casa.calibrate.profile import load_profile
    from casa.simulate.scene import PRESETS

    for key in ("timing", "scale"):
        measured(wizard, qtbot, key)
        if folder := os.environ.get("CASA_TEST_PICTURES"):
            qtbot.wait(300)
            wizard.grab().save(f"{folder}/wizard-{key}.png")
        wizard.go()
        if key == "timing":
            wizard.skip()
    assert "um/px" in wizard._results["scale"][0][0]
    wizard.skip()
    wizard.skip()
    assert [wizard.states[key] for key in ("stage", "field", "chamber")] == ["skipped"] * 3
    wizard.entries["valid_days"].setText("soon")
    wizard.go()
    assert "whole number" in wizard.line.text()
    wizard.entries["valid_days"].setText("90")
    measured(wizard, qtbot, "save")
    found = load_profile(tmp_path / "p.toml")
    true = PRESETS["default"].um_per_px
    assert found.uncertainty_percent is not None
    assert abs(found.um_per_px_x / true - 1) * 100 <= found.uncertainty_percent
    assert found.valid_days == 90
    press(wizard, qtbot, QtCore.Qt.Key.Key_Return)
    assert not wizard.isVisible()
    assert wizard.process.pid == 0


def test_a_wrong_number_and_a_step_that_fails_are_told_and_the_step_can_be_repeated(wizard, qtbot):
    wizard.skip()
    wizard.skip()
    assert wizard.step.key == "scale"
    wizard.entries["pitch_um"].setText("ten")
    wizard.go()
    assert not wizard.busy
    assert wizard.line.text() == "Distance of two lines, µm: 'ten' is no positive number"
    for _ in range(3):
        wizard.skip()
    assert wizard.step.key == "save"
    wizard.entries["name"].setText("x")
    wizard.go()  # nothing was measured: there is no scale to save
    qtbot.waitUntil(lambda: "no scale" in wizard.line.text(), timeout=120_000)
    assert wizard.saved is None


def test_a_step_is_broken_off_with_escape(wizard, qtbot):
    from PySide6 import QtCore

    wizard.skip()
    wizard.go()
    qtbot.waitUntil(lambda: wizard.progress.value() > 0, timeout=120_000)
    press(wizard, qtbot, QtCore.Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: not wizard.busy, timeout=120_000)
    assert wizard.line.text() == "broken off"
    assert wizard.isVisible()


def test_a_process_that_dies_is_told_and_started_again(wizard, qtbot):
    wizard.go()
    first = wizard.process.pid
    os.kill(first, signal.SIGKILL)
    qtbot.waitUntil(lambda: wizard.buttons["Go"].property("does") == "start", timeout=120_000)
    assert "ended" in wizard.line.text()
    assert not wizard.busy
    wizard.go()
    qtbot.waitUntil(lambda: wizard.live._image is not None, timeout=120_000)
    assert wizard.process.pid not in (0, first)
    assert wizard.buttons["Go"].text() == "Measure"


def test_a_source_that_cannot_be_opened_is_one_line(qapp, qtbot, tmp_path):
    from casa.viewer.wizard import WizardWindow

    window = WizardWindow(["calibrate", "serve", "--source", "nonsense:1"], dict(OPTIONS), Path(tmp_path / "p.toml"))
    window.show()
    qtbot.waitUntil(lambda: "nonsense" in window.line.text(), timeout=120_000)
    window.close()
    window.deleteLater()
