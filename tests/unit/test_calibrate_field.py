"""Light, camera, timing and beads against what the simulated microscope was told to be like."""

import numpy as np
import pytest

from casa.calibrate.beads import compare_beads, detect_beads
from casa.calibrate.control import ControlDay, append_log, read_log, westgard
from casa.calibrate.field import measure_field, motion_blur_um
from casa.calibrate.setup import SetupOptions, count_beads
from casa.calibrate.timing import measure_timing
from casa.errors import InputError
from casa.simulate.live import LiveRenderer, View
from casa.simulate.scene import PRESETS, simulate
from casa.simulate.slides import BEADS_M_PER_ML, make_slide


@pytest.fixture(scope="module")
def renderer() -> LiveRenderer:
    return LiveRenderer(simulate("default", 3, 60), 255, vignetting=0.2, hot_pixels=9)


def pictures(renderer: LiveRenderer, slide: str, n: int, light: float = 1.0) -> list[np.ndarray]:
    return [renderer.draw(0.1 * i, i, View(slide=slide, light=light)) for i in range(n)]


@pytest.fixture(scope="module")
def measured(renderer):
    brighter = [pictures(renderer, "empty", 12, light) for light in (0.5, 2.5)]
    return measure_field(pictures(renderer, "empty", 16), 255, pictures(renderer, "dark", 8), brighter)


def test_vignetting_bad_pixels_and_noise_are_those_of_the_camera(renderer, measured):
    rows, columns = renderer._hot
    assert {tuple(xy) for xy in measured.bad_pixels} == set(zip(columns.tolist(), rows.tolist(), strict=True))
    assert measured.vignetting_percent == pytest.approx(20, abs=4)  # the preset's own light is uneven by some per cent
    look = PRESETS["default"].look
    assert measured.read_noise_levels == pytest.approx(look.read_noise, rel=0.15)
    assert measured.electrons_per_level == pytest.approx(1 / look.shot_noise, rel=0.25)
    assert measured.dynamic_range_stops == pytest.approx(np.log2(255 / look.read_noise), abs=0.3)
    assert measured.clipped_high_percent < 0.01
    assert measured.flat.mean() == pytest.approx(1, abs=1e-3)


def test_the_median_takes_swimming_cells_out(renderer, measured):
    swimming = measure_field([renderer.draw(0.4 * i, i, View()) for i in range(24)], 255)
    assert np.abs(swimming.flat - measured.flat).mean() < 0.01
    assert swimming.vignetting_percent == pytest.approx(measured.vignetting_percent, abs=3)


@pytest.mark.parametrize(
    ("light", "dark", "words"),
    [
        ("few", None, "pictures of the field"),
        ("dark", None, "the field is dark"),
        ("moving", None, "moves or flickers"),
        ("empty", "empty", "dark pictures are not dark"),
        ("empty", "few", "dark pictures: at least 4"),
    ],
)
def test_pictures_that_are_no_field_are_refused(renderer, light, dark, words):
    rng = np.random.default_rng(0)
    sets = {
        "few": pictures(renderer, "empty", 3),
        "dark": pictures(renderer, "dark", 8),
        "empty": pictures(renderer, "empty", 8),
        "moving": [np.roll(rng.integers(0, 255, (64, 64)), 3 * i, 1) for i in range(8)],
    }
    with pytest.raises(InputError, match=words):
        measure_field(sets[light], 255, sets[dark] if dark else ())


def test_motion_blur():
    assert motion_blur_um(2.0) == pytest.approx(0.2)
    assert motion_blur_um(10.0, 55.0) == pytest.approx(0.55)


def frames(fps_hz: float, n: int, jitter_ms: float = 0.0, lost: tuple[int, ...] = ()):
    index = np.delete(np.arange(n), list(lost))
    t_s = index / fps_hz + np.random.default_rng(0).normal(0, jitter_ms / 1e3, len(index))
    return index, np.round(t_s * 1e9).astype(np.int64), len(lost)


def test_timing_is_the_true_rate_with_lost_frames_counted():
    index, t_ns, lost = frames(49.2, 1000, 0.5, (10, 11, 500))
    found = measure_timing(index, t_ns, lost, 50.0, "device", t_ns * 1001 // 1000)
    assert found.fps_hz == pytest.approx(49.2, rel=1e-4)
    assert found.jitter_ms == pytest.approx(0.5, rel=0.1)
    assert (found.lost, found.frames) == (3, 997)
    assert found.clock_error_percent == pytest.approx(-0.1, abs=0.02)
    assert not found.alh_bcf
    assert "too few" in found.why_not


@pytest.mark.parametrize(
    ("fps_hz", "jitter_ms", "lost", "why"),
    [
        (60.0, 0.5, (), ""),
        (50.0, 0.0, (), ""),
        (60.0, 0.5, tuple(range(5, 400, 20)), "lost"),
        (60.0, 6.0, (), "scatter"),
    ],
)
def test_what_supports_alh_and_bcf(fps_hz, jitter_ms, lost, why):
    index, t_ns, n_lost = frames(fps_hz, 500, jitter_ms, lost)
    found = measure_timing(index, t_ns, n_lost, fps_hz, "device")
    assert found.alh_bcf == (not why)
    assert why in found.why_not


def test_too_few_frames_tell_no_timing():
    index, t_ns, lost = frames(50, 10)
    with pytest.raises(InputError, match="10 frames came"):
        measure_timing(index, t_ns, lost, 50.0, "host")


def test_every_bead_is_found_where_it_is(renderer):
    slide = make_slide("beads", 0.4, 20.0, 3)
    found = detect_beads(renderer.draw(0, 0, View(slide="beads", shift_px=(10.4, 3.7))), 10.0)
    true = slide.beads_um / 0.4 + [10.4, 3.7]
    inside = ((true > 8) & (true < [632, 472])).all(axis=1)
    distance = np.linalg.norm(true[inside][:, None] - found.xy_px[None], axis=2).min(axis=1)
    alone = np.linalg.norm(true[inside][:, None] - true[None], axis=2)
    alone = np.sort(alone, axis=1)[:, 1] > 14
    assert alone.sum() > 20
    assert (distance[alone] < 0.5).all()
    assert len(found.xy_px) < 1.15 * inside.sum() + 3


def test_beads_are_counted_in_the_field_less_a_rim():
    """48 beads of 4 um at 0.4 um/px: centres from 5 px of the edge on count, so that of 640 px a row 629 do."""
    y, x = np.mgrid[:480, :640]
    picture = 100 + 80 * np.exp(-((x % 80 - 40) ** 2 + (y % 80 - 40) ** 2) / (2 * 3.5**2))
    found = count_beads([picture], (0.4, 0.4), SetupOptions(chamber_depth_um=20.0, beads=(35.0, 2.5)))
    assert found.count == 48
    assert found.concentration == pytest.approx(48e-6 / (629 * 469 * 0.4**2 * 20 * 1e-12), rel=1e-9)


def test_a_field_without_beads_has_none(renderer):
    assert len(detect_beads(renderer.draw(0, 0, View(slide="empty")), 10.0).xy_px) <= 9  # its hot pixels at most
    with pytest.raises(InputError, match="expected 3 px"):
        detect_beads(np.zeros((100, 100)), 1.0)


def test_bead_counts_agree_with_the_certificate_by_poisson():
    volume_ml = 640 * 480 * 0.4**2 * 20 * 1e-12
    expected = BEADS_M_PER_ML * 1e6 * volume_ml
    counts = np.random.default_rng(0).poisson(expected, 20).tolist()
    found = compare_beads(counts, volume_ml, BEADS_M_PER_ML, 2.5)
    assert found.agrees
    assert found.interval[0] < BEADS_M_PER_ML < found.interval[1]
    assert found.factor_interval[0] < 1 < found.factor_interval[1]
    thin = compare_beads([round(0.75 * one) for one in counts], volume_ml, BEADS_M_PER_ML, 2.5)
    assert not thin.agrees
    assert thin.factor == pytest.approx(1 / 0.75, rel=0.1)
    corrected = compare_beads(
        [round(0.75 * one) for one in counts], volume_ml, BEADS_M_PER_ML, 2.5, chamber_factor=thin.factor
    )
    assert corrected.agrees
    with pytest.raises(InputError, match="is none"):
        compare_beads([3], volume_ml, 0.0, 1.0)


def test_westgards_rules():
    assert westgard([0.5, 2.1, -2.2, 1.9, 2.3, 2.4, -3.1]) == ["", "1-2s", "1-2s", "", "1-2s", "2-2s", "1-3s"]


def test_the_log_keeps_its_days(tmp_path):
    path = tmp_path / "beads.csv"
    assert read_log(path) == []
    days = [ControlDay(f"2026-11-{d:02d}", 34.0 + d, 30.0, 40.0, 35.0, 1.5, 700, "scope") for d in (1, 2)]
    for day in days:
        append_log(path, day)
    assert read_log(path) == days
    path.write_text(path.read_text() + "tomorrow,1,1,1,1,1,1,\n")
    with pytest.raises(InputError, match="line 4"):
        read_log(path)
