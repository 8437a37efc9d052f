"""A simulated recording: pictures and truth that belong together, and follow from the seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from casa.errors import InputError
from casa.simulate.look import BRIGHTFIELD
from casa.simulate.scene import PRESETS, Scene, SceneConfig, simulate
from casa.simulate.swimmers import MODES, Mode
from casa.types import Frame, KinematicsFlag, MissingFrame

SMALL = SceneConfig(name="small", width_px=320, height_px=240, n_frames=60, cells_per_frame=12.0, dots=60)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return simulate(SMALL, 7)


def test_the_same_seed_gives_the_same_pictures_and_truth_in_any_order(scene):
    again = simulate(SMALL, 7)
    later = again.frame(31)
    assert isinstance(later, Frame)
    for index in (3, 31):
        assert_array_equal(scene.frame(index).image, again.frame(index).image)
    for one, other in zip(scene.truth().columns().values(), again.truth().columns().values(), strict=True):
        assert_array_equal(one, other)
    assert (scene.frame(3).image != simulate(SMALL, 8).frame(3).image).any()


def test_a_longer_recording_begins_as_a_shorter_one():
    short, long = (simulate(replace(SMALL, time_jitter_s=0.002, missing_share=0.1), 7, n) for n in (10, 40))
    assert_array_equal(short.t_ns, long.t_ns[:10])
    assert_array_equal(short.missing, long.missing[:10])
    assert_array_equal(short.frame(9).image, long.frame(9).image)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_draws_frames_of_its_size(preset):
    scene = simulate(preset, 1, n_frames=3)
    frame = scene.frame(0)
    assert isinstance(frame, Frame)
    assert frame.image.shape == (scene.config.height_px, scene.config.width_px, 3)
    assert frame.image.dtype == np.uint8
    assert (frame.index, frame.t_ns) == (0, 0)


def test_an_unknown_preset_and_impossible_scenes_are_refused():
    with pytest.raises(InputError, match="choose one of default"):
        simulate("nothing-like-it")
    with pytest.raises(InputError, match="fps_hz"):
        SceneConfig(fps_hz=0)
    with pytest.raises(InputError, match="missing_share"):
        SceneConfig(missing_share=1.0)
    with pytest.raises(InputError, match="mix"):
        SceneConfig(mix={Mode.SLOW: 0.0})


@pytest.mark.parametrize(("look", "sign"), [(PRESETS["default"].look, 1), (BRIGHTFIELD, -1)])
def test_boxes_surround_heads(look, sign):
    look = replace(look, tail=(0.0, 0.0, 0.0))
    scene = simulate(replace(SMALL, look=look, defocus_um=0.2, dots=0, round_cells=0, bright_grains=0), 3)
    truth, inside = scene.truth(), []
    luma = scene.frame(20).image.mean(-1)
    away = np.full(luma.shape, True)
    for row in np.flatnonzero(truth.frame == 20):
        x, y = truth.x_measured_px[row], truth.y_measured_px[row]
        left, top = int(truth.cx_px[row] - truth.w_px[row] / 2), int(truth.cy_px[row] - truth.h_px[row] / 2)
        right, bottom = int(truth.cx_px[row] + truth.w_px[row] / 2), int(truth.cy_px[row] + truth.h_px[row] / 2)
        assert left <= x <= right + 1
        assert top <= y <= bottom + 1
        if 5 < x < 315 and 5 < y < 235:
            inside.append(luma[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].mean())
        away[max(top - 8, 0) : bottom + 9, max(left - 8, 0) : right + 9] = False
    outside = luma[away]
    assert len(inside) >= 5
    assert (sign * (np.array(inside) - np.median(outside)) > 30).all()
    # Nothing as strong as a head is left outside the boxes.
    assert (sign * (outside - np.median(outside))).max() < 25


def test_the_brightest_point_of_a_lone_head_is_at_its_true_centre():
    mix = {Mode.IMMOTILE: 1.0}
    config = replace(SMALL, cells_per_frame=5.0, mix=mix, defocus_um=0.1, dots=0, round_cells=0, bright_grains=0)
    config = replace(config, look=replace(config.look, core_offset=0.0, halo=(0.0, 0.0, 0.0)))
    offsets = []
    for seed in range(4):
        scene = simulate(config, seed)
        truth, luma = scene.truth(), scene.frame(0).image.mean(-1)
        rows = np.flatnonzero(truth.frame == 0)
        for row in rows:
            x, y = truth.x_measured_px[row], truth.y_measured_px[row]
            others = np.hypot(truth.x_measured_px[rows] - x, truth.y_measured_px[rows] - y)
            if 12 < x < 308 and 12 < y < 228 and np.sort(others)[1:2].min(initial=99) > 40:
                left, top = round(x) - 8, round(y) - 8
                patch = np.maximum(luma[top : top + 17, left : left + 17] - 100, 0)
                yy, xx = np.mgrid[top : top + 17, left : left + 17]
                offsets.append([(patch * xx).sum() / patch.sum() - x, (patch * yy).sum() / patch.sum() - y])
    assert len(offsets) >= 6
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.5
    assert np.abs(offsets).max() < 2.0


def test_cells_come_and_go_but_the_concentration_stays():
    config = replace(SMALL, n_frames=400, fps_hz=20.0, cells_per_frame=20.0, mix={Mode.PROGRESSIVE: 1.0})
    scene = simulate(config, 2)
    truth = scene.truth()
    per_frame = np.bincount(truth.frame, minlength=400)
    assert len(np.unique(truth.track_id)) > 2 * per_frame.mean()
    assert per_frame[:100].mean() == pytest.approx(20, rel=0.25)
    assert per_frame[-100:].mean() == pytest.approx(20, rel=0.25)
    volume_ml = 320 * 240 * 0.4**2 * 20 * 1e-12
    assert scene.concentration_truth() == pytest.approx(per_frame.mean() / volume_ml / 1e6)
    calibration = scene.calibration()
    assert (calibration.um_per_px_x, calibration.chamber_depth_um) == (0.4, 20.0)


def test_a_track_is_one_unbroken_path_in_view(scene):
    truth = scene.truth()
    for track in np.unique(truth.track_id):
        rows = truth.select(truth.track_id == track)
        assert (np.diff(rows.t_ns) > 0).all()
        step = np.hypot(np.diff(rows.x_measured_px), np.diff(rows.y_measured_px))
        assert (step < 250 / 0.4 * np.diff(rows.t_ns) / 1e9).all()
        assert ((rows.x_measured_px >= 0) & (rows.x_measured_px < 320)).all()


def test_kinematics_truth_equals_the_definitions_computed_on_a_dense_path(scene):
    """VCL, VSL from the truth table's own centres; VAP, ALH, BCF from a path sampled at 10 kHz."""
    truth, kinematics = scene.truth(), scene.kinematics_truth()
    modes = scene.track_modes()
    assert len(kinematics) > 8
    for row in range(len(kinematics)):
        track = truth.select(truth.track_id == kinematics.track_id[row])
        if len(track) != track.frame[-1] - track.frame[0] + 1:
            continue  # out of view in between: the table has not the whole path
        xy = np.stack([track.x_measured_px, track.y_measured_px], axis=1)
        span = (track.t_ns[-1] - track.t_ns[0]) / 1e9
        assert kinematics.vcl_px_s[row] == pytest.approx(np.linalg.norm(np.diff(xy, axis=0), axis=1).sum() / span)
        assert kinematics.vsl_px_s[row] == pytest.approx(np.linalg.norm(xy[-1] - xy[0]) / span)
        assert kinematics.duration_s[row] == pytest.approx(span)
        swimmer = int(np.argmin(np.linalg.norm(scene.positions_px(track.t_ns[:1] / 1e9)[:, 0] - xy[0], axis=1)))
        assert modes[int(kinematics.track_id[row])] is MODES[scene.swimmers.mode[swimmer]]
        t_s = np.arange(track.t_ns[0] / 1e9, track.t_ns[-1] / 1e9, 1e-4)
        if len(t_s) < 1000:
            continue
        base, head = scene.swimmers.base_um(t_s)[swimmer], scene.swimmers.head_um_at(t_s)[swimmer]
        length = np.linalg.norm(np.diff(base, axis=0), axis=1).sum()
        assert kinematics.vap_um_s[row] == pytest.approx(length / (t_s[-1] - t_s[0]), rel=1e-4)
        if modes[int(kinematics.track_id[row])] is not Mode.IMMOTILE and span > 0.5:
            tangent = np.gradient(base, axis=0)
            side = np.sign(tangent[:, 0] * (head - base)[:, 1] - tangent[:, 1] * (head - base)[:, 0])
            assert kinematics.bcf_hz[row] == pytest.approx((np.diff(side) != 0).sum() / span, abs=2.2 / span)
            assert kinematics.alh_max_um[row] == pytest.approx(2 * np.linalg.norm(head - base, axis=1).max(), rel=1e-3)
    assert_allclose(kinematics.lin, kinematics.str * kinematics.wob)
    assert_allclose(kinematics.time_by_grade_s.sum(1), kinematics.duration_s)


def test_grades_of_the_truth_follow_the_distance_within_a_second():
    config = replace(SMALL, n_frames=100, cells_per_frame=25.0)
    scene = simulate(config, 11)
    kinematics, modes = scene.kinematics_truth(), scene.track_modes()
    by_mode = {mode: set() for mode in Mode}
    for track, grade, flags in zip(kinematics.track_id, kinematics.motility_grade, kinematics.flags, strict=True):
        if not flags & KinematicsFlag.SHORT:
            by_mode[modes[int(track)]].add(str(grade))
    assert by_mode[Mode.PROGRESSIVE] == {"a"}
    assert by_mode[Mode.SLOW] <= {"a", "b"}
    assert by_mode[Mode.NON_PROGRESSIVE] <= {"c", "b"}
    assert by_mode[Mode.IMMOTILE] == {"d"}


def test_drift_moves_every_cell_alike_and_is_no_part_of_the_kinematics():
    mix = {Mode.IMMOTILE: 1.0}
    scene = simulate(replace(SMALL, n_frames=50, mix=mix, drift_um_s=(8.0, 0.0)), 4)
    truth, kinematics = scene.truth(), scene.kinematics_truth()
    track = truth.select(truth.track_id == kinematics.track_id[np.argmax(kinematics.n_frames)])
    seconds = (track.t_ns[-1] - track.t_ns[0]) / 1e9
    moved_um = (track.x_measured_px[-1] - track.x_measured_px[0]) * 0.4
    assert moved_um / seconds == pytest.approx(8.0, abs=1.0)
    assert (kinematics.vcl_um_s < 1.2).all()


def test_interlacing_shows_two_times_in_the_rows_of_one_frame():
    mix = {Mode.PROGRESSIVE: 1.0}
    woven = replace(SMALL, fps_hz=25.0, n_frames=4, interlaced=True, mix=mix)
    quiet = replace(woven.look, read_noise=0.0, shot_noise=0.0, chroma_noise=0.0, jpeg_quality=0, sharpen=0.0)
    woven = replace(woven, look=quiet)
    # The same swimmers seen by a progressive camera of twice the rate: its frames are the fields.
    scene, fields = simulate(woven, 5), simulate(replace(woven, fps_hz=50.0, n_frames=8, interlaced=False), 5)
    picture = scene.frame(1).image.astype(int)
    first, second = (fields.frame(k).image.astype(int) for k in (2, 3))
    assert_array_equal(picture[0::2], first[0::2])
    assert_array_equal(picture[1::2], second[1::2])
    assert np.abs(first - second).max() > 60
    by_field = scene.truth(separate_fields=True)
    one = fields.truth()
    for field, frame in ((0, 2), (1, 3)):
        rows = by_field.select((by_field.frame == 1) & (by_field.field == field))
        assert rows.t_ns[0] == one.t_ns[one.frame == frame][0]
        assert_allclose(np.sort(rows.x_measured_px), np.sort(one.x_measured_px[one.frame == frame]))


def test_jittered_times_and_missing_frames_are_there_and_the_truth_knows():
    scene = simulate(replace(SMALL, n_frames=200, time_jitter_s=0.002, missing_share=0.1), 6)
    steps = np.diff(scene.t_ns) / 1e9
    assert (steps > 0).all()
    assert 0.001 < steps.std() < 0.006
    assert 8 <= scene.missing.sum() <= 40
    lost = int(np.flatnonzero(scene.missing)[0])
    item = scene.frame(lost)
    assert isinstance(item, MissingFrame)
    assert (item.index, item.t_ns) == (lost, scene.t_ns[lost])
    truth = scene.truth()
    assert not np.isin(truth.frame, np.flatnonzero(scene.missing)).any()
    assert_array_equal(truth.t_ns, scene.t_ns[truth.frame])
    # Positions are those of the true times, not of the nominal ones.
    row = len(truth) // 2
    there = scene.positions_px(truth.t_ns[row : row + 1] / 1e9)[:, 0]
    assert np.linalg.norm(there - [truth.x_measured_px[row], truth.y_measured_px[row]], axis=1).min() < 1e-9


def test_an_empty_field_has_no_boxes_but_debris_to_look_at():
    scene = simulate("empty", 0, n_frames=2)
    assert len(scene.truth()) == len(scene.kinematics_truth()) == 0
    assert scene.concentration_truth() == 0
    assert scene.frame(0).image.min() < 40
