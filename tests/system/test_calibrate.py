"""The whole setup, unattended, on a microscope whose scale nobody told: its profile makes speeds right."""

import json
from dataclasses import replace

import numpy as np
import pytest
from running import casa

from casa.calibrate.profile import Profile, read_profile, write_profile
from casa.config import KinematicsConfig
from casa.kinematics import analyse_tracks
from casa.simulate.scene import PRESETS, Scene

UM_PER_PX = 0.437
CONFIG = f"""
camera:
  size: [480, 360]
  fps_hz: 25
  microscope: {{um_per_px: {UM_PER_PX}, focus_um: 3.2, vignetting: 0.1, hot_pixels: 5, backlash_um: [1.5, 2.0]}}
"""


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("setup")
    (folder / "scope.yaml").write_text(CONFIG)
    arguments = ["--source", "simulator:default:5", "--config", "scope.yaml", "--seconds", "3", "-o", "scope.toml"]
    done = casa("calibrate", *arguments, "--pictures", "found", "--json", cwd=folder, timeout_s=400)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_speeds_of_the_simulated_field_are_right_within_the_stated_uncertainty(calibrated):
    folder, said = calibrated
    calibration = read_profile(folder / "scope.toml").calibration
    assert calibration.verified
    assert calibration.valid_until is not None
    assert 0 < calibration.uncertainty_percent < 0.5
    assert said["calibration"]["um_per_px_x"] == pytest.approx(calibration.um_per_px_x)
    scene = Scene(replace(PRESETS["default"], width_px=480, height_px=360, um_per_px=UM_PER_PX, n_frames=150), 5)
    config, size = KinematicsConfig(jitter_px=0.0), (480, 360)
    found, _ = analyse_tracks(scene.truth(), config, calibration, size, 150)
    true, _ = analyse_tracks(scene.truth(), config, scene.calibration(), size, 150)
    exact = scene.kinematics_truth()
    moving = np.flatnonzero(exact.vsl_um_s > 15)
    assert len(moving) > 10
    limit = calibration.uncertainty_percent / 100
    for name in ("vsl_um_s", "vap_um_s", "vcl_um_s"):
        ratio = getattr(found, name) / getattr(true, name)
        assert np.nanmax(np.abs(ratio - 1)) <= limit
    # And against the swimmers' own paths, which no analysis saw.
    rows = {int(track): row for row, track in enumerate(found.track_id)}
    pairs = [(rows[int(exact.track_id[i])], i) for i in moving if int(exact.track_id[i]) in rows]
    ratio = np.array([found.vsl_um_s[a] / exact.vsl_um_s[b] for a, b in pairs])
    assert len(ratio) > 10
    assert abs(np.median(ratio) - 1) <= limit + 1e-3


def test_every_step_is_in_the_profile_and_drawn(calibrated):
    folder, said = calibrated
    steps = read_profile(folder / "scope.toml").steps
    assert set(steps) == {"timing", "focus", "scale", "stage", "field", "chamber"}
    assert steps["focus"]["focus_um"] == pytest.approx(3.2, abs=0.5)
    assert abs(steps["focus"]["tilt_um_x"]) < 1.0  # the simulated slides lie level
    assert abs(steps["focus"]["tilt_um_y"]) < 1.0
    assert np.array(steps["stage"]["um_to_px"]) == pytest.approx(np.eye(2) / UM_PER_PX, rel=5e-3, abs=5e-3)
    assert len(steps["field"]["bad_pixels"]) == 5
    assert steps["timing"]["fps_hz"] == pytest.approx(25, rel=0.01)
    assert any("ALH and BCF cannot be trusted" in line for line in said["remarks"])
    assert {path.name for path in (folder / "found").iterdir()} == {
        "focus.svg", "timing.svg", "field.svg", "stage.svg", "scale.png",
    }  # fmt: skip


def checked(folder, profile: str, config: str = "scope.yaml", seconds: str = "2") -> tuple[int, dict[str, str]]:
    """Exit code of a check, and what it said of each step."""
    arguments = [profile, "--source", "simulator:default:5", "--config", config, "--seconds", seconds, "--json"]
    done = casa("calibrate", "check", *arguments, cwd=folder, timeout_s=300)
    assert done.returncode in (0, 1), done.stderr
    said = json.loads(done.stdout)
    assert said["holds"] == (done.returncode == 0)
    word = {True: "holds", False: "drifted"}
    return done.returncode, {one["step"]: f"{word[one['ok']]}: {one['said']}" for one in said["checks"]}


def test_a_profile_of_an_hour_ago_holds(calibrated):
    folder, _ = calibrated
    code, said = checked(folder, "scope.toml")
    assert code == 0, said
    assert set(said) == {"size", "age", "timing", "stage", "scale", "field"}
    assert "25 images/s (was 25" in said["timing"]
    assert "% off the calibration's" in said["stage"]


def test_a_check_says_what_drifted(calibrated):
    """A camera adapter that was changed, a dirty condenser, and a profile that somebody has edited."""
    folder, _ = calibrated
    text = (folder / "scope.toml").read_text()
    other = CONFIG.replace(f"um_per_px: {UM_PER_PX}", f"um_per_px: {1.03 * UM_PER_PX:.4f}")
    (folder / "other.yaml").write_text(other.replace("vignetting: 0.1", "vignetting: 0.3"))
    code, said = checked(folder, "scope.toml", "other.yaml")
    assert code == 1
    assert {step for step, words in said.items() if words.startswith("drifted")} == {"stage", "scale", "field"}
    assert "+3.0" in said["scale"]
    profile = read_profile(folder / "scope.toml")
    edited = replace(profile.calibration, um_per_px_x=0.95 * UM_PER_PX, um_per_px_y=0.95 * UM_PER_PX)
    write_profile(folder / "edited.toml", Profile(edited, {"stage": profile.steps["stage"]}))
    code, said = checked(folder, "edited.toml")
    assert code == 1
    assert said["stage"].startswith("drifted: moves are 0.")  # as the stage's own table says; the scale says else
    assert "its scale is +4.9" in said["stage"] or "its scale is +5." in said["stage"]
    (folder / "other.toml").write_text(text.replace("width_px = 480", "width_px = 640"))
    code, said = checked(folder, "other.toml")
    assert code == 1
    assert set(said) == {"size"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--source", "nowhere"], "--pitch-um is missing"),
        (["--source", "simulator:none"], "no simulator preset"),
        (["run", "--source", "simulator", "--beads", "many"], "expected concentration+-uncertainty"),
        (["stage", "--source", "nowhere"], "no such camera"),
        (["preset", "20", "--pixel-um", "-1", "-o", "p.toml"], "expected numbers above 0"),
    ],
)
def test_bad_calls_are_one_line(tmp_path, arguments, words):
    done = casa("calibrate", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_preset_is_marked_as_never_measured(tmp_path):
    done = casa("calibrate", "preset", "20", "--pixel-um", "3.45", "--adapter", "0.5", "-o", "p.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    calibration = read_profile(tmp_path / "p.toml").calibration
    assert calibration.um_per_px_x == pytest.approx(0.345)
    assert not calibration.verified
