"""Simulated swimmers move as their constants say, exactly, at any time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose

from casa.simulate.swimmers import HEADING_STEP_S, Mode, beat_averaged_vcl_um_s, sample_swimmers

INTERVAL_S = 1 / 50
DURATION_S = 4.0


def swimmers(mode, count=12, seed=5, duration_s=DURATION_S):
    seeds = np.random.SeedSequence(seed).spawn(count)
    return sample_swimmers(seeds, [mode] * count, (300.0, 200.0), duration_s, INTERVAL_S, 0.5)


def dense_base_um(group, row, t_s):
    """The average path by Runge-Kutta on the heading, interpolated: nothing of the closed form is used."""
    knots = np.arange(group.heading_rad.shape[1]) * HEADING_STEP_S
    xs, position = [group.start_um[row].copy()], group.start_um[row].copy()
    for t0, t1 in pairwise(t_s):
        heading = np.interp([t0, (t0 + t1) / 2, t1], knots, group.heading_rad[row])
        slope = group.speed_um_s[row] * np.stack([np.cos(heading), np.sin(heading)], axis=1)
        position = position + (t1 - t0) / 6 * (slope[0] + 4 * slope[1] + slope[2])
        xs.append(position)
    return np.array(xs)


@pytest.mark.parametrize("mode", list(Mode))
def test_the_average_path_is_the_integral_of_speed_along_the_heading(mode):
    group = swimmers(mode, 3)
    t_s = np.arange(0, DURATION_S, 0.001)
    for row in range(3):
        assert_allclose(group.base_um(t_s)[row], dense_base_um(group, row, t_s), atol=1e-6)


def test_the_beat_swings_across_the_heading_with_its_amplitude_and_frequency():
    group = swimmers(Mode.PROGRESSIVE, 4)
    t_s = np.arange(0, DURATION_S, 0.0005)
    offset = group.beat_um(t_s)
    heading = np.stack([group.heading_at(t) for t in t_s], axis=1)
    along = offset[..., 0] * np.cos(heading) + offset[..., 1] * np.sin(heading)
    across = -offset[..., 0] * np.sin(heading) + offset[..., 1] * np.cos(heading)
    assert_allclose(along, 0, atol=1e-12)
    assert_allclose(np.abs(across).max(1), group.amplitude_um, rtol=1e-3)
    crossings = (np.diff(np.sign(across), axis=1) != 0).sum(1) / DURATION_S
    assert_allclose(crossings, 2 * group.beat_hz, atol=0.5)


@pytest.mark.parametrize(
    ("mode", "low", "high"),
    [(Mode.PROGRESSIVE, 50, 115), (Mode.SLOW, 16, 42), (Mode.NON_PROGRESSIVE, 8, 32), (Mode.HYPERACTIVE, 120, 225)],
)
def test_vcl_seen_at_the_frame_rate_lies_in_the_band_of_the_mode(mode, low, high):
    group = swimmers(mode, 40, duration_s=2.0)
    path = group.head_um_at(np.arange(0, 2.0, INTERVAL_S))
    vcl = np.linalg.norm(np.diff(path, axis=1), axis=-1).mean(1) / INTERVAL_S
    assert low < vcl.min()
    assert vcl.max() < high


def test_the_beat_averaged_vcl_is_what_a_straight_swimmer_shows():
    group = swimmers(Mode.PROGRESSIVE, 30, duration_s=20.0)
    straight = replace(group, heading_rad=np.zeros_like(group.heading_rad))
    path = straight.head_um_at(np.arange(0, 20.0, INTERVAL_S))
    seen = np.linalg.norm(np.diff(path, axis=1), axis=-1).mean(1) / INTERVAL_S
    expected = beat_averaged_vcl_um_s(group.speed_um_s, group.amplitude_um, group.beat_hz, INTERVAL_S)
    assert_allclose(seen, expected, rtol=0.005)
    naive = np.hypot(
        group.speed_um_s, 2 * group.amplitude_um * np.sin(np.pi * group.beat_hz * INTERVAL_S) / INTERVAL_S / 2**0.5
    )
    assert (naive > expected).all()


def test_immotile_cells_stay_where_they_are_and_do_not_beat():
    group = swimmers(Mode.IMMOTILE)
    t_s = np.arange(0, DURATION_S, INTERVAL_S)
    path = group.head_um_at(t_s)
    assert np.linalg.norm(path - path[:, :1], axis=-1).max() < 3.0
    assert (np.linalg.norm(np.diff(path, axis=1), axis=-1).mean(1) / INTERVAL_S <= 1.2).all()
    tails = [group.tails_um(t, 20) - group.tails_um(t, 20)[:, :1] for t in (0.0, 0.1)]
    lengths = [np.linalg.norm(np.diff(tail, axis=1), axis=-1).sum(1) for tail in tails]
    assert_allclose(lengths[0], lengths[1], rtol=1e-6)
    assert (group.bend_rad == 0).all()


def test_circular_swimmers_turn_steadily_and_come_round():
    group = swimmers(Mode.CIRCULAR, 20, duration_s=6.0)
    turned = group.heading_rad[:, -1] - group.heading_rad[:, 0]
    radius = group.speed_um_s * 6.0 / np.abs(turned)
    assert ((radius > 12) & (radius < 80)).all()
    assert {-1, 1} == set(np.sign(turned).astype(int))


def test_a_tail_is_as_long_as_it_should_be_and_starts_behind_the_head():
    group = swimmers(Mode.PROGRESSIVE)
    tails = group.tails_um(1.234, 400)
    length = np.linalg.norm(np.diff(tails, axis=1), axis=-1).sum(1)
    assert_allclose(length, group.tail_um, rtol=0.005)
    forward = np.stack([np.cos(group.orientation_at(1.234)), np.sin(group.orientation_at(1.234))], axis=1)
    assert_allclose((tails[:, 0] * forward).sum(1), -group.head_um[:, 0] / 2, atol=0.2)


def test_each_swimmer_has_its_own_stream_and_a_longer_path_begins_as_a_shorter_one():
    seeds = np.random.SeedSequence(9).spawn(4)
    modes = [Mode.PROGRESSIVE, Mode.SLOW, Mode.CIRCULAR, Mode.IMMOTILE]
    all_four = sample_swimmers(seeds, modes, (300.0, 200.0), 3.0, INTERVAL_S, 0.5)
    two = sample_swimmers(seeds[1:3], modes[1:3], (300.0, 200.0), 1.0, INTERVAL_S, 0.5)
    t_s = np.arange(0, 1.0, INTERVAL_S)
    np.testing.assert_array_equal(all_four.head_um_at(t_s)[1:3], two.head_um_at(t_s))


@pytest.mark.parametrize("rate_hz", [1.0, 10.0, 17.0])
def test_a_slow_camera_sees_swimmers_of_the_same_beat(rate_hz):
    seeds = np.random.SeedSequence(5).spawn(12)
    group = sample_swimmers(seeds, [Mode.PROGRESSIVE] * 12, (300.0, 200.0), DURATION_S, 1 / rate_hz, 0.5)
    assert np.all((group.beat_hz >= 8) & (group.beat_hz <= 22))
    assert np.all(group.speed_um_s > 0)
