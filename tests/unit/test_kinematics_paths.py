"""Analytic paths whose VCL, VSL, VAP, ALH and BCF are known in closed form."""

import numpy as np
import pytest

from casa.config import KinematicsConfig
from casa.kinematics import analyse_tracks
from casa.kinematics.paths import average_path, find_gaps, half_waves, turning_angles_deg
from casa.types import Calibration, KinematicsFlag, TrackTable

SCALE = Calibration("test", 0.5, 0.5, chamber_depth_um=20.0)
RATES = [50.0, 60.0, 200.0]


def table(xy_px, t_s, track_id=1, index=None, predicted=None):
    """One track as a table; ``index`` are its frame numbers."""
    n = len(t_s)
    frame = np.arange(n) if index is None else np.asarray(index)
    zero = np.zeros(n)
    predicted = zero > 0 if predicted is None else np.asarray(predicted)
    measured = np.where(predicted[:, None], np.nan, xy_px)
    return TrackTable(frame, zero, np.round(np.asarray(t_s) * 1e9), np.full(n, track_id), xy_px[:, 0], xy_px[:, 1],
                      zero + 8, zero + 8, measured[:, 0], measured[:, 1], zero + 1, predicted)  # fmt: skip


def measure(xy_um, t_s, config=None, calibration=SCALE, **more):
    """The only row of one track given in um."""
    config = config or KinematicsConfig(jitter_px=0)
    rows, _ = analyse_tracks(table(np.asarray(xy_um) / 0.5, t_s, **more), config, calibration)
    assert len(rows) == 1
    return {name: column[0] for name, column in rows.columns().items()}


def times(rate_hz, duration_s=4.0):
    return np.arange(round(duration_s * rate_hz) + 1) / rate_hz


@pytest.mark.parametrize("rate", RATES)
def test_a_straight_line_has_one_speed_and_no_beat(rate):
    t = times(rate)
    row = measure(np.stack([30 * t, 40 * t], axis=1), t)
    assert row["vcl_um_s"] == pytest.approx(50)
    assert row["vsl_um_s"] == pytest.approx(50)
    assert row["vap_um_s"] == pytest.approx(50)
    assert row["vcl_px_s"] == pytest.approx(100)
    assert (row["lin"], row["str"], row["wob"]) == pytest.approx((1, 1, 1))
    assert row["bcf_hz"] == 0
    assert np.isnan(row["alh_mean_um"])
    assert row["mad_deg"] == pytest.approx(0, abs=1e-5)
    assert row["motility_grade"] == "a"
    np.testing.assert_allclose(row["time_by_grade_s"], [4, 0, 0, 0])
    assert row["flags"] == 0


@pytest.mark.parametrize("rate", RATES)
def test_a_circle_has_the_vcl_of_its_arc_and_the_vap_of_its_averaged_circle(rate):
    t, radius, omega = times(rate, 2 * np.pi), 20.0, 2.0
    row = measure(radius * np.stack([np.cos(omega * t), np.sin(omega * t)], axis=1), t)
    chord = 2 * radius * np.sin(omega / rate / 2) * rate
    assert row["vcl_um_s"] == pytest.approx(chord, rel=1e-6)
    # a running mean over w shrinks a circle by sinc(omega w / 2)
    assert row["vap_um_s"] == pytest.approx(40 * np.sinc(omega * 0.1 / 2 / np.pi), rel=2e-3)
    assert row["vsl_um_s"] < 1
    assert row["bcf_hz"] == 0
    assert row["mad_deg"] == pytest.approx(np.degrees(omega / rate), rel=1e-6)
    assert row["motility_grade"] == "a"  # 33.7 um from start to end of each second


@pytest.mark.parametrize("rate", RATES)
def test_a_sinusoid_has_the_alh_and_bcf_of_its_wave(rate):
    """At 10 Hz the window is one whole period: the average path is the axis."""
    t, speed, amplitude, beat = times(rate), 50.0, 2.0, 10.0
    row = measure(np.stack([speed * t, amplitude * np.sin(2 * np.pi * beat * t + 0.3)], axis=1), t)
    lateral = 2 * amplitude * np.sin(np.pi * beat / rate) * rate * np.cos(np.linspace(0, 2 * np.pi, 5000))
    assert row["vcl_um_s"] == pytest.approx(np.hypot(speed, lateral).mean(), rel=0.02)
    assert row["vap_um_s"] == pytest.approx(50, rel=0.01)
    assert row["vsl_um_s"] == pytest.approx(50, rel=0.001)
    assert row["bcf_hz"] == pytest.approx(20, rel=0.03)
    # the largest of 2.5 samples a half wave falls short of the crest, that of 10 does not
    assert row["alh_mean_um"] == pytest.approx(4, rel=0.12 if rate < 100 else 0.02)
    assert row["alh_max_um"] == pytest.approx(4, rel=0.06)
    assert row["alh_mean_um"] <= row["alh_max_um"]
    near_nyquist = bool(row["flags"] & KinematicsFlag.BCF_NEAR_NYQUIST)
    assert near_nyquist == (rate / 4 < 20)


def test_a_slow_beat_is_measured_alike_at_all_frame_rates():
    rows = []
    for rate in RATES:
        t = times(rate)
        rows.append(measure(np.stack([20 * t, 3 * np.sin(2 * np.pi * 4 * t)], axis=1), t))
    for name in ("vcl_um_s", "vap_um_s", "vsl_um_s", "alh_mean_um", "bcf_hz"):
        values = [row[name] for row in rows]
        assert max(values) / min(values) < 1.04, (name, values)


@pytest.mark.parametrize(("rate", "flagged"), [(25.0, True), (49.0, True), (50.0, False), (100.0, False)])
def test_rates_below_50_are_flagged(rate, flagged):
    t = times(rate)
    row = measure(np.stack([30 * t, 0 * t], axis=1), t)
    assert bool(row["flags"] & KinematicsFlag.LOW_FRAME_RATE) == flagged


def test_irregular_times_do_not_change_speeds():
    rng = np.random.default_rng(3)
    t = np.cumsum(rng.uniform(0.01, 0.03, 300))
    row = measure(np.stack([60 * t, 0 * t], axis=1), t)
    assert row["vcl_um_s"] == pytest.approx(60)
    assert row["vap_um_s"] == pytest.approx(60)
    assert not row["flags"] & KinematicsFlag.GAPS
    wave = np.stack([60 * t, 2 * np.sin(2 * np.pi * 5 * t)], axis=1)
    even = times(50, t[-1] - t[0])
    same = measure(np.stack([60 * even, 2 * np.sin(2 * np.pi * 5 * even)], axis=1), even)
    assert measure(wave, t)["vap_um_s"] == pytest.approx(same["vap_um_s"], rel=0.02)


def test_a_gap_is_flagged_and_neither_lengthens_nor_shortens_the_path():
    t = times(50)
    xy = np.stack([40 * t, 2 * np.sin(2 * np.pi * 8 * t)], axis=1)
    whole = measure(xy, t)
    keep = np.ones(len(t), bool)
    keep[60:66] = keep[120] = False
    left_out = measure(xy[keep], t[keep], index=np.flatnonzero(keep))
    predicted = measure(np.where(keep[:, None], xy, 1e4), t, predicted=~keep)
    for row in (left_out, predicted):
        assert row["flags"] & KinematicsFlag.GAPS
        assert row["vcl_um_s"] == pytest.approx(whole["vcl_um_s"], rel=0.01)
        assert row["vap_um_s"] == pytest.approx(whole["vap_um_s"], rel=0.02)
        assert row["vsl_um_s"] == pytest.approx(whole["vsl_um_s"], rel=1e-6)
        assert row["n_frames"] == keep.sum()
    assert not whole["flags"] & KinematicsFlag.GAPS


def test_a_gap_that_was_swum_fast_counts_with_its_chord():
    t = times(50)
    x = np.where(t < 2, t, t + 60)
    keep = (t <= 2) | (t > 2.1)
    row = measure(np.stack([x, 0 * x], axis=1)[keep], t[keep], index=np.flatnonzero(keep))
    assert row["vsl_um_s"] == pytest.approx(16)
    assert row["vcl_um_s"] >= row["vsl_um_s"] * (1 - 1e-9)


def test_a_long_absence_is_neither_averaged_over_nor_graded():
    t = times(50, 10.0)
    xy = 30 * np.stack([np.cos(2 * t), np.sin(2 * t)], axis=1)
    keep = (t <= 3) | (t >= 7)
    row = measure(xy[keep], t[keep], index=np.flatnonzero(keep))
    assert row["vap_um_s"] == pytest.approx(60, rel=0.02)
    assert row["vcl_um_s"] == pytest.approx(60, rel=0.01)
    assert row["time_by_grade_s"].sum() == pytest.approx(6, abs=0.05)
    assert row["duration_s"] == pytest.approx(10)


def test_a_track_of_one_point_is_a_row_without_speeds():
    row = measure([[5.0, 6.0]], np.array([0.4]))
    assert row["n_frames"] == 1
    assert row["duration_s"] == 0
    for name in ("vcl_um_s", "vsl_um_s", "vap_um_s", "vcl_px_s", "bcf_hz", "mad_deg"):
        assert np.isnan(row[name])
    assert row["motility_grade"] == ""
    assert row["flags"] & KinematicsFlag.SHORT
    assert row["flags"] & KinematicsFlag.TOO_FEW_POINTS


def test_a_track_of_two_points_has_a_path_but_no_average_path():
    row = measure([[0.0, 0.0], [3.0, 4.0]], np.array([0.0, 0.1]))
    assert row["vcl_um_s"] == pytest.approx(50)
    assert row["vsl_um_s"] == pytest.approx(50)
    assert np.isnan(row["vap_um_s"])
    assert row["motility_grade"] == ""
    assert row["flags"] & KinematicsFlag.TOO_FEW_POINTS


def test_the_same_picture_twice_counts_once():
    t = times(50)
    xy = np.stack([40 * t, 0 * t], axis=1)
    twice = np.sort(np.concatenate([np.arange(len(t)), [20, 20, 90]]))
    row = measure(xy[twice], t[twice], index=twice)
    assert row["n_frames"] == len(t)
    assert row["vcl_um_s"] == pytest.approx(40)


def test_pixels_need_not_be_square():
    t = times(50)
    xy_px = np.stack([100 * t, 100 * t], axis=1)
    rows, _ = analyse_tracks(table(xy_px, t), KinematicsConfig(jitter_px=0), Calibration("x", 0.3, 0.4))
    assert rows.vcl_um_s[0] == pytest.approx(50)
    assert rows.vsl_um_s[0] == pytest.approx(50)
    assert rows.vap_um_s[0] == pytest.approx(50)
    assert rows.vcl_px_s[0] == pytest.approx(100 * np.sqrt(2))


def test_without_a_scale_only_pixels_are_given_and_it_says_so():
    t = times(50)
    rows, summary = analyse_tracks(table(np.stack([100 * t, 0 * t], axis=1), t), KinematicsConfig(jitter_px=0))
    assert rows.vcl_px_s[0] == pytest.approx(100)
    assert np.isnan(rows.vcl_um_s[0])
    assert np.isnan(rows.alh_max_um[0])
    assert rows.lin[0] == pytest.approx(1)
    assert rows.motility_grade[0] == ""
    assert rows.flags[0] & KinematicsFlag.UNCALIBRATED
    assert summary.concentration_m_per_ml is None
    assert summary.motility_percent["pr"] is None
    assert "uncalibrated" in summary.flags


@pytest.mark.parametrize(
    ("speed", "beat_um", "grade"),
    [(25.0, 0.0, "a"), (24.9, 1.0, "b"), (5.0, 0.5, "b"), (4.9, 0.5, "c"), (0.0, 0.6, "c"), (1.0, 0.0, "d")],
)
def test_the_limits_of_the_grades(speed, beat_um, grade):
    """A whole number of beats a second, so that the beat does not move the ends of the windows."""
    t = times(50)
    row = measure(np.stack([speed * t, beat_um * np.sin(2 * np.pi * 6 * t)], axis=1), t)
    assert row["motility_grade"] == grade


def test_a_grade_is_of_one_second_not_of_the_whole_track():
    """In a circle that closes each 3 s, VSL of the whole is nearly 0 and each second covers 28 um."""
    t = times(50, 6.0)
    row = measure(16 * np.stack([np.cos(2 * np.pi * t / 3), np.sin(2 * np.pi * t / 3)], axis=1), t)
    assert row["vsl_um_s"] < 1
    assert row["motility_grade"] == "a"


def test_time_by_grade_follows_what_the_cell_does():
    t = times(50, 6.5)
    x = np.where(t < 4, 50 * t, 200 + 10 * (t - 4))
    row = measure(np.stack([x, 0 * x], axis=1), t)
    # the last half second is graded by the second that ends with it
    np.testing.assert_allclose(row["time_by_grade_s"], [4, 2.5, 0, 0], atol=1e-6)


def test_a_window_longer_than_the_track_is_graded_from_half_a_second_on():
    for n, grade in ((20, ""), (26, "a"), (40, "a")):
        t = np.arange(n) / 50
        row = measure(np.stack([40 * t, 0 * t], axis=1), t)
        assert row["motility_grade"] == grade
        assert row["flags"] & KinematicsFlag.SHORT


def test_half_waves_count_crossings_and_whole_risers_only():
    crossings, risers = half_waves(np.array([0.5, 1.0, -2.0, -1.0, 3.0, 0.0, 1.0, -1.0]), 1e-9)
    assert crossings == 3
    assert risers.tolist() == [2.0, 3.0]


def test_turning_angles_skip_gaps_and_standing_still():
    xy = np.array([[0, 0], [1, 0], [1, 0], [1, 1], [2, 1], [3, 1]], float)
    assert turning_angles_deg(xy, np.zeros(5, bool)).tolist() == pytest.approx([90.0, 0.0])
    assert turning_angles_deg(xy, np.array([0, 0, 0, 1, 0], bool)).tolist() == []


def test_gaps_are_found_at_any_picture_step():
    every_third = np.array([0, 6, 12, 24, 30])
    assert find_gaps(every_third, every_third / 100).tolist() == [False, False, True, False]
    lost_without_numbers = np.array([0.0, 0.02, 0.04, 0.14, 0.16])
    assert find_gaps(np.arange(5), lost_without_numbers).tolist() == [False, False, True, False]


def test_the_average_path_begins_and_ends_with_the_path():
    rng = np.random.default_rng(0)
    t, xy = times(50, 1.0), rng.normal(size=(51, 2))
    mean = average_path(t, xy, 0.1)
    np.testing.assert_allclose(mean[[0, -1]], xy[[0, -1]])
    middle = 25
    # 100 ms are five steps of the polyline: two whole ones to each side, and half of the next
    weights = np.array([0.125, 0.875, 1, 1, 1, 0.875, 0.125])
    np.testing.assert_allclose(mean[middle], (weights[:, None] * xy[middle - 3 : middle + 4]).sum(0) / 5)
