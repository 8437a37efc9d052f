"""What must hold for any path: kinematics do not depend on where, in which direction, or in which unit it is seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casa.config import KinematicsConfig
from casa.kinematics import analyse_tracks
from casa.types import Calibration, KinematicsFlag, TrackTable

SPEEDS = ("vcl_um_s", "vsl_um_s", "vap_um_s", "alh_mean_um", "alh_max_um")
SHAPES = ("lin", "str", "wob", "bcf_hz", "mad_deg")


@st.composite
def paths(draw):
    """(n,) times in ms, uneven; (n, 2) positions in px; (n,) which samples were missed."""
    n = draw(st.integers(3, 120))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = rng.integers(15, 26, n) if draw(st.booleans()) else np.full(n, 20)
    t_ms = np.cumsum(steps)
    smooth = draw(st.floats(0, 1))
    step = rng.normal(0, 2, (n, 2)) * (1 - smooth) + rng.normal(0, 3, 2) * smooth
    missed = rng.random(n) < draw(st.sampled_from([0.0, 0.1, 0.4]))
    missed[[0, -1]] = False
    return t_ms, np.cumsum(step, axis=0) + 100, missed


def measure(t_ms, xy, missed, um_per_px=0.5, calibrated=True, jitter_px=0.0):
    n = len(t_ms)
    zero = np.zeros(n)
    seen = np.where(missed[:, None], np.nan, xy)
    table = TrackTable(np.arange(n), zero, t_ms * 1_000_000, zero + 1, *xy.T, zero, zero, *seen.T, zero, missed)
    scale = Calibration("test", um_per_px, um_per_px) if calibrated else None
    rows, _ = analyse_tracks(table, KinematicsConfig(jitter_px=jitter_px), scale)
    return {name: column[0] for name, column in rows.columns().items()}


@given(paths(), st.floats(0, 2 * np.pi), st.floats(-500, 500), st.booleans())
@settings(max_examples=60, deadline=None)
def test_turning_moving_and_mirroring_the_field_changes_nothing(path, angle, shift, mirrored):
    t_ms, xy, missed = path
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if mirrored:
        turn = turn @ np.diag([1, -1])
    one, two = measure(t_ms, xy, missed), measure(t_ms, xy @ turn.T + shift, missed)
    for name in SPEEDS + SHAPES:
        assert two[name] == pytest.approx(one[name], rel=1e-6, abs=1e-6, nan_ok=True), name
    assert two["flags"] == one["flags"]


@given(paths(), st.floats(0.05, 20))
@settings(max_examples=60, deadline=None)
def test_speeds_go_with_the_scale_and_shapes_do_not_know_it(path, factor):
    t_ms, xy, missed = path
    one, two = measure(t_ms, xy, missed, 0.5), measure(t_ms, xy, missed, 0.5 * factor)
    for name in SPEEDS:
        assert two[name] == pytest.approx(one[name] * factor, rel=1e-9, nan_ok=True), name
        assert two[name.replace("_um", "_px")] == pytest.approx(one[name.replace("_um", "_px")], nan_ok=True)
    for name in SHAPES:
        assert two[name] == pytest.approx(one[name], rel=1e-9, nan_ok=True), name


@given(paths())
@settings(max_examples=60, deadline=None)
def test_the_straight_line_is_the_shortest_and_the_grades_fill_no_more_than_the_time(path):
    row = measure(*path)
    assert row["vsl_um_s"] <= row["vcl_um_s"] * (1 + 1e-9)
    assert 0 <= row["lin"] <= 1 + 1e-9
    assert row["time_by_grade_s"].sum() <= row["duration_s"] + 1e-6
    assert row["n_frames"] == (~path[2]).sum()
    if np.isfinite(row["alh_mean_um"]):
        assert row["alh_mean_um"] <= row["alh_max_um"] * (1 + 1e-9)
    if np.isfinite(row["mad_deg"]):
        assert 0 <= row["mad_deg"] <= 180
    # crossings cannot come faster than samples
    if np.isfinite(row["bcf_hz"]):
        assert row["bcf_hz"] <= 1000 / np.diff(path[0]).min() + 1e-9


@given(paths())
@settings(max_examples=40, deadline=None)
def test_without_a_scale_everything_but_um_and_grades_is_the_same(path):
    one, two = measure(*path), measure(*path, calibrated=False)
    for name in ("vcl_px_s", "vsl_px_s", "vap_px_s", *SHAPES):
        assert two[name] == pytest.approx(one[name], rel=1e-9, nan_ok=True), name
    assert np.isnan(two["vcl_um_s"])
    assert two["motility_grade"] == ""
    assert two["flags"] == one["flags"] | KinematicsFlag.UNCALIBRATED


@given(paths(), st.floats(0.05, 2.0))
@settings(max_examples=40, deadline=None)
def test_taking_jitter_out_never_lengthens_a_path_by_more_than_arithmetic(path, jitter_px):
    t_ms, xy, _ = path
    seen = np.zeros(len(t_ms), bool)
    even = np.arange(len(t_ms)) * 20
    before, after = measure(even, xy, seen), measure(even, xy, seen, jitter_px=jitter_px)
    step_energy = np.square(np.diff(xy, axis=0)).sum()
    # VCL of the quieter path is bounded by the rms of the steps that were there, and VSL moves by no more than jitter
    rms = np.sqrt(step_energy / (len(xy) - 1)) * 0.5 * 50
    assert after["vcl_um_s"] <= 1.6 * max(rms, before["vcl_um_s"]) + 1e-9
    assert after["duration_s"] == before["duration_s"]
