"""The scale from rendered micrometers whose truth is known, and what is refused."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from running import casa

from casa.calibrate.profile import load_profile
from casa.calibrate.scale import draw_rulings, measure_scale
from casa.errors import InputError
from casa.simulate.micrometer import MicrometerConfig, micrometer_image, random_micrometer
from casa.simulate.scene import PRESETS, Scene

GRID = MicrometerConfig(um_per_px_x=0.41, um_per_px_y=0.42, rotation_deg=2.5)


@pytest.mark.parametrize("pitch_px", [5.0, 11.0, 43.0, 200.0])
@pytest.mark.parametrize("turned_deg", [0.0, -31.0])
def test_a_grid_gives_both_scales(pitch_px, turned_deg):
    config = MicrometerConfig(
        um_per_px_x=10 / pitch_px, um_per_px_y=10.2 / pitch_px, rotation_deg=turned_deg, noise=8.0, uneven=0.4, dirt=12,
        blur_px=min(1.5, pitch_px / 5),
    )  # fmt: skip
    result = measure_scale([micrometer_image(config, 1)], config.pitch_um)
    assert not result.square_pixels
    assert result.um_per_px_x == pytest.approx(config.um_per_px_x, rel=2e-3)
    assert result.um_per_px_y == pytest.approx(config.um_per_px_y, rel=2e-3)
    assert result.um_per_px_x == pytest.approx(config.um_per_px_x, rel=3 * result.uncertainty_percent / 100)
    assert result.rotation_deg == pytest.approx(turned_deg, abs=0.2)
    assert result.skew_deg == pytest.approx(0.0, abs=0.2)


def test_a_coarse_grid_gives_both_scales_though_one_ruling_is_less_sure():
    config = random_micrometer(125)  # five lines each way, and pixels that are not square
    result = measure_scale([micrometer_image(config, 125)], config.pitch_um)
    assert not result.square_pixels
    assert result.um_per_px_x == pytest.approx(config.um_per_px_x, rel=2e-3)
    assert result.um_per_px_y == pytest.approx(config.um_per_px_y, rel=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_long_ticks_do_not_pass_for_the_spacing(seed):
    config = MicrometerConfig(kind="ticks", um_per_px_x=0.35, um_per_px_y=0.35, rotation_deg=-4.0, noise=10.0, dirt=15)
    result = measure_scale([micrometer_image(config, seed)], config.pitch_um)
    assert result.square_pixels
    assert result.um_per_px_x == pytest.approx(0.35, rel=2e-3)


@pytest.mark.parametrize("line_um", [0.8, 5.0, 7.0])
def test_thick_and_thin_lines_have_one_spacing(line_um):
    config = replace(GRID, kind="lines", line_um=line_um, um_per_px_y=0.41)
    result = measure_scale([micrometer_image(config, 0)], config.pitch_um)
    assert result.um_per_px_x == pytest.approx(0.41, rel=1e-3)


def test_two_pictures_of_a_scale_give_both_directions():
    upright = replace(GRID, kind="ticks", rotation_deg=1.0)
    turned = replace(GRID, kind="ticks", rotation_deg=88.0)
    pictures = [micrometer_image(upright, 0), micrometer_image(turned, 1)]
    result = measure_scale(pictures, 10.0)
    assert not result.square_pixels
    assert result.um_per_px_x == pytest.approx(0.41, rel=2e-3)
    assert result.um_per_px_y == pytest.approx(0.42, rel=2e-3)
    with pytest.raises(InputError, match="same direction"):
        measure_scale([pictures[0], micrometer_image(upright, 3)], 10.0)


def test_sixteen_bits_measure_the_same():
    picture = micrometer_image(GRID, 0)
    wide = measure_scale([picture.astype(np.uint16) * 16], 10.0)
    assert wide.um_per_px_x == pytest.approx(measure_scale([picture], 10.0).um_per_px_x, rel=1e-9)


def test_lens_distortion_is_told():
    straight = measure_scale([micrometer_image(GRID, 0)], 10.0).distortion_percent
    bent = measure_scale([micrometer_image(replace(GRID, k1=0.02), 0)], 10.0).distortion_percent
    assert straight is not None
    assert bent is not None
    assert straight < 0.5 < bent


@pytest.mark.parametrize("what", ["field", "noise", "flat", "one_line"])
def test_a_picture_without_rulings_is_refused(what):
    rng = np.random.default_rng(0)
    if what == "field":
        picture = np.asarray(cv2.cvtColor(Scene(PRESETS["dense"], 3).frame(0).image, cv2.COLOR_RGB2GRAY), np.uint8)
    elif what == "noise":
        picture = rng.integers(0, 255, (480, 640)).astype(np.uint8)
    elif what == "flat":
        picture = np.full((480, 640), 128, np.uint8)
    else:
        picture = np.full((480, 640), 128, np.uint8)
        picture[:, 300:304] = 20
    with pytest.raises(InputError, match="no rulings"):
        measure_scale([picture], 10.0)


def test_the_drawn_lines_lie_on_the_lines():
    picture = micrometer_image(replace(GRID, noise=0.0), 0)
    result = measure_scale([picture], 10.0)
    drawn = draw_rulings(picture, result.rulings[0])
    coloured = np.ptp(drawn.astype(int), axis=2) > 60
    assert picture[coloured].mean() < picture.mean() - 40  # dark lines


def test_command_line(tmp_path):
    cv2.imwrite(str(tmp_path / "grid.png"), micrometer_image(GRID, 0))
    arguments = ["calibrate", "scale", tmp_path / "grid.png", "--pitch-um", "10"]
    profile, picture = tmp_path / "scope.toml", tmp_path / "lines.png"
    done = casa(*arguments, "-o", profile, "--picture", picture, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["um_per_px_x"] == pytest.approx(0.41, rel=2e-3)
    assert result["um_per_px_y"] == pytest.approx(0.42, rel=2e-3)
    assert result["rotation_deg"] == pytest.approx(2.5, abs=0.2)
    assert 0 < result["uncertainty_percent"] < 0.5
    written = load_profile(profile)
    assert (written.width_px, written.height_px) == (640, 480)
    assert written.um_per_px_y == pytest.approx(result["um_per_px_y"])
    assert cv2.imread(str(picture)).shape == (480, 640, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.png", "--pitch-um", "10"], "no such file"),
        (["text.png", "--pitch-um", "10"], "cannot be read as a picture"),
        (["grid.png", "--pitch-um", "-1"], "--pitch-um"),
        (["grid.png", "grid.png", "grid.png", "--pitch-um", "10"], "3 pictures"),
        (["grid.png", "--pitch-um", "10", "-o", "there.toml"], "exists already"),
    ],
)
def test_bad_calls_are_one_line(tmp_path, arguments, words):
    cv2.imwrite(str(tmp_path / "grid.png"), micrometer_image(replace(GRID, width_px=64, height_px=64), 0))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "there.toml").write_text("")
    arguments = [tmp_path / one if one.endswith((".png", ".toml")) else one for one in arguments]
    done = casa("calibrate", "scale", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
