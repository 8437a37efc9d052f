"""Shifts, stage and focus against pictures whose truth is known."""

from xml.etree import ElementTree

import numpy as np
import pytest
from numpy import fft

from casa.calibrate.affine import fit_affine, fit_by_hand
from casa.calibrate.charts import stage_chart
from casa.calibrate.focus import autofocus, focus_curve, measure_tilt
from casa.calibrate.phase import measure_shift
from casa.calibrate.stage import measure_drift, measure_stage
from casa.config import MicroscopeConfig, SourceConfig
from casa.errors import InputError
from casa.simulate.live import LiveRenderer, View
from casa.simulate.scene import simulate
from casa.sources import open_source
from casa.sources.stage import SimulatedStage


@pytest.fixture(scope="module")
def renderer() -> LiveRenderer:
    return LiveRenderer(simulate("default", 2, 60), 255)


def moved(picture: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """The picture shifted in its spectrum, which resamples what is band-limited exactly."""
    turn = np.exp(-2j * np.pi * (fft.fftfreq(picture.shape[0])[:, None] * dy + fft.rfftfreq(picture.shape[1]) * dx))
    return fft.irfft2(fft.rfft2(picture) * turn, picture.shape)


def test_shifts_of_real_frames_are_found_to_a_fiftieth_of_a_pixel(shared_data):
    path = shared_data / "visem13_clip" / "clip.mp4"
    with open_source(str(path), SourceConfig(max_frames=61)) as source:
        frames = [np.asarray(item.image, float) for item in source if item.index % 20 == 0]
    inside = np.s_[90:-90, 90:-90]
    rng = np.random.default_rng(0)
    for number, frame in enumerate(frames):
        dx, dy = rng.uniform(-60, 60, 2) if number % 2 else rng.uniform(-3, 3, 2)
        shifted = np.round(np.clip(moved(frame, dx, dy), 0, 255))[inside]
        found = measure_shift(frame[inside], shifted)
        assert (found.dx_px, found.dy_px) == pytest.approx((dx, dy), abs=0.02)


def test_a_shift_is_found_although_cells_swim_and_noise_is_new(renderer):
    before = renderer.draw(0.1, 1, View())
    after = renderer.draw(0.3, 2, View(shift_px=(-37.37, 12.81)))
    found = measure_shift(before, after)
    assert (found.dx_px, found.dy_px) == pytest.approx((-37.37, 12.81), abs=0.05)
    assert found.likeness > 0.1
    expected = measure_shift(before, after, (-37.0, 13.0))
    assert (expected.dx_px, expected.dy_px) == pytest.approx((found.dx_px, found.dy_px), abs=0.01)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (np.full((480, 640), 50, np.uint8), "empty"),
        (np.random.default_rng(0).integers(0, 255, (480, 640)), "do not show the same scene"),
        (np.zeros((240, 320)), "one size"),
    ],
)
def test_pictures_that_say_nothing_are_refused(renderer, other, words):
    with pytest.raises(InputError, match=words):
        measure_shift(renderer.draw(0.1, 1, View()), other)


def test_an_affine_is_found_beside_outliers_and_drift():
    rng = np.random.default_rng(1)
    matrix = np.array([[2.4, -0.3], [0.25, 2.5]])
    moves, t_s = rng.uniform(-80, 80, (20, 2)), np.arange(20.0)
    shifts = moves @ matrix.T + [3.0, -1.0] + np.outer(t_s, [0.05, -0.02]) + rng.normal(0, 0.02, (20, 2))
    shifts[[4, 11]] += [[30.0, -12.0], [-9.0, 40.0]]
    fit = fit_affine(moves, shifts, t_s)
    assert fit.matrix == pytest.approx(matrix, abs=5e-4)
    assert fit.drift == pytest.approx([0.05, -0.02], abs=5e-3)
    assert set(np.flatnonzero(fit.weights < 0.05)) == {4, 11}
    with pytest.raises(InputError, match="directions"):
        fit_affine(np.outer(np.arange(8.0), [1, 2]), shifts[:8], t_s[:8])


@pytest.fixture(scope="module")
def measured_stage(renderer):
    turn, skew = np.deg2rad(3.0), np.deg2rad(0.23)
    truth = np.array([[np.cos(turn), -np.sin(turn + skew)], [np.sin(turn), np.cos(turn + skew)]]) * [2.4, 2.45]
    config = MicroscopeConfig(
        stage_um_to_px=tuple(map(tuple, truth.tolist())), backlash_um=(2.0, 1.2), stage_noise_um=0.1,
        stage_speed_um_s=1e7,
    )  # fmt: skip
    stage, number = SimulatedStage(config, 0.4, 3), [0]

    def snap():
        number[0] += 1
        return renderer.draw(0.1 * number[0], number[0], View(shift_px=stage.shift_px()))

    return truth, measure_stage(snap, stage.move_to, (5.0, -8.0)), stage, snap


def test_a_stage_with_backlash_and_scatter_is_measured(measured_stage):
    truth, found, stage, _ = measured_stage
    matrix = np.array(found.um_to_px)
    length = np.linalg.norm(matrix, axis=0) / np.linalg.norm(truth, axis=0)
    angle = np.rad2deg(np.arctan2(matrix[1], matrix[0]) - np.arctan2(truth[1], truth[0]))
    assert length == pytest.approx([1, 1], abs=1e-3)
    assert angle == pytest.approx([0, 0], abs=0.05)
    assert found.orthogonality_deg == pytest.approx(0.23, abs=0.06)
    assert found.backlash_um == pytest.approx((2.0, 1.2), abs=0.35)
    assert found.residual_um == pytest.approx(0.1, abs=0.05)
    assert 0.01 < found.uncertainty_percent < 0.15
    assert not found.mirrored
    assert stage.position() == (5.0, -8.0)  # it ends where it began


def test_the_title_of_its_chart_fits_on_it(measured_stage):
    """500 px wide, from 66 px on; a letter of its bold type is 9.5 px wide at most, on average."""
    chart = ElementTree.fromstring(stage_chart(measured_stage[1]))
    title = next(text.text for text in chart.iter("{http://www.w3.org/2000/svg}text") if "Stage" in text.text)
    assert "stops within" in title
    assert 66 + 9.5 * len(title) < 500


def test_a_stage_that_drifts_at_rest_is_noticed(renderer):
    clock = [0.0]

    def now():
        clock[0] += 0.02
        return clock[0]

    def snap():
        return renderer.draw(clock[0], round(50 * clock[0]), View(shift_px=(8.0 * clock[0], 0.0)))

    x, y = measure_drift(snap, ((2.0, 0.0), (0.0, 2.0)), 1.0, now=now)
    assert (x, y) == pytest.approx((4.0, 0.0), abs=0.2)


def test_a_stage_that_does_not_move_is_refused(renderer):
    with pytest.raises(InputError, match="does not follow the stage"):
        measure_stage(lambda: renderer.draw(0.1, 1, View()), lambda x, y: None, (0.0, 0.0))


def test_moves_by_hand_give_the_affine(renderer):
    moves = np.array([[0, 0], [40, 0], [0, 40], [-40, 20], [30, -30]], float)
    pictures = [renderer.draw(0.1, i, View(shift_px=tuple(2.5 * move))) for i, move in enumerate(moves)]
    fit = fit_by_hand(pictures, moves)
    assert fit.matrix == pytest.approx(2.5 * np.eye(2), abs=3e-3)
    with pytest.raises(InputError, match="one line"):
        fit_by_hand(pictures[:4], np.outer(np.arange(4), [10.0, 0.0]))


@pytest.mark.parametrize(("preset", "offset_um"), [("default", -7.2), ("dense", 12.9), ("brightfield", 3.3)])
def test_autofocus_finds_the_simulators_focus(preset, offset_um):
    drawn, place = LiveRenderer(simulate(preset, 1, 60), 255), {"z": 0.0, "n": 0}

    def snap():
        place["n"] += 1
        return drawn.draw(0.13 * place["n"], place["n"], View(focus_um=place["z"] - offset_um))

    found = autofocus(snap, lambda z: place.update(z=z), 0.0)
    assert found.focus_um == pytest.approx(offset_um, abs=0.5)
    assert found.pictures == place["n"] <= 25
    assert place["z"] == found.focus_um


@pytest.mark.parametrize("backlash_um", [2.0, 4.0])
def test_autofocus_takes_up_the_slack_of_its_drive(backlash_um):
    """The simulated stage, its x axis taken for the focus: it loses the slack whenever it turns."""
    config = MicroscopeConfig(backlash_um=(backlash_um, 0.0), stage_speed_um_s=1e7)
    drawn, drive, number = LiveRenderer(simulate("default", 1, 60), 255), SimulatedStage(config, 0.4, 3), [0]
    pictured: list[tuple[float, float]] = []

    def snap():
        number[0] += 1
        pictured.append((drive.position()[0], drive.table_um()[0]))
        return drawn.draw(0.13 * number[0], number[0], View(focus_um=drive.table_um()[0] - 4.3))

    found = autofocus(snap, lambda z: drive.move_to(z, 0.0), 0.0)
    slack = [told - true for told, true in pictured]
    assert slack == pytest.approx([backlash_um / 2] * len(slack))  # each picture was reached from below
    assert drive.table_um()[0] == pytest.approx(4.3, abs=0.5)
    assert found.focus_um == pytest.approx(4.3 + backlash_um / 2, abs=0.5)


def test_without_a_focus_the_drive_goes_back(renderer):
    empty, place = np.full((96, 128), 40, np.uint8), {"z": 3.0}
    with pytest.raises(InputError, match="no focus was found within 20 um of 3 um"):
        autofocus(lambda: empty, lambda z: place.update(z=z), 3.0)
    assert place["z"] == 3.0


def test_the_measure_with_one_sharp_peak_is_chosen():
    z = np.arange(-10.0, 11.0)
    sharp, wide = 1 + 5 * np.exp(-(((z - 1.3) / 2) ** 2)), 1 + 5 * np.exp(-(((z + 2) / 6) ** 2))
    double = np.exp(-((z - 6) ** 2)) + np.exp(-((z + 6) ** 2))
    curve = focus_curve(z, {"wide": wide, "double": double, "sharp": sharp, "flat": np.ones(21)})
    assert curve.measure == "sharp"
    assert curve.best_um == pytest.approx(1.3, abs=0.1)
    with pytest.raises(InputError, match="no single peak"):
        focus_curve(z, {"double": double, "flat": np.ones(21)})


def test_a_tilted_field_is_told():
    """Detail in 3 x 3 parts, each blurred by its own distance from a tilted focal plane."""
    from scipy.ndimage import gaussian_filter

    detail = 100 + 30 * np.random.default_rng(0).standard_normal((180, 240))
    z = np.arange(-8.0, 9.0)
    pictures = []
    for height in z:
        picture = np.empty_like(detail)
        for row in range(3):
            for column in range(3):
                part = np.s_[row * 60 : row * 60 + 60, column * 80 : column * 80 + 80]
                away = height - 3.0 * (column - 1) - 1.5 * (row - 1)
                picture[part] = gaussian_filter(detail[part], 0.8 + 0.3 * abs(away))
        pictures.append(picture)
    found = measure_tilt(z, pictures)
    assert found.tilt_um_x == pytest.approx(9.0, abs=0.5)  # over the whole width: 3 um a third
    assert found.tilt_um_y == pytest.approx(4.5, abs=0.5)
