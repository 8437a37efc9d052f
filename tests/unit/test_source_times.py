"""Timestamps become times: exact, from 0, strictly rising, and never quietly wrong."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casa.errors import CasaError
from casa.sources.timeline import Timeline, exact_rate

MS = Fraction(1, 1000)


def placed(ticks: list[int | None], use_timestamps: bool = True) -> tuple[list[float], int]:
    timeline: Timeline[int] = Timeline("a.mkv", MS, Fraction(20, 1000), use_timestamps)
    items = list(timeline.place((tick, number) for number, tick in enumerate(ticks)))
    assert [payload for _, payload in items] == list(range(len(ticks)))
    return [t_ns / 1e6 for t_ns, _ in items], timeline.corrected


def test_good_timestamps_are_kept_and_start_at_0():
    assert placed([1000, 1020, 1041, 1100]) == ([0, 20, 41, 100], 0)


def test_times_are_exact_where_floats_are_not():
    timeline: Timeline[None] = Timeline("a.mp4", Fraction(1, 90_000), Fraction(1001, 30_000), True)
    last = 3003 * 10_000_000
    *_, (t_ns, _) = timeline.place([(0, None), (3003, None), (last, None)])
    assert t_ns == round(Fraction(last, 90_000) * 10**9)
    assert exact_rate(29.97) == Fraction(2997, 100)


@pytest.mark.parametrize(
    ("ticks", "times"),
    [
        ([0, 20, 20, 60], [0, 20, 40, 60]),  # a repeat where one frame's time is missing
        ([0, 20, 20, 40, 60], [0, 20, 30, 40, 60]),  # a repeat where none is
        ([0, 20, 10, 60, 80], [0, 20, 40, 60, 80]),
        ([0, 20, None, 60], [0, 20, 40, 60]),
        ([0, 20, 20, 20, 80], [0, 20, 40, 60, 80]),
        ([0, 20, 40, 40], [0, 20, 40, 60]),  # nothing after it to go by
    ],
)
def test_a_stutter_is_interpolated_between_its_good_neighbours(ticks, times):
    assert placed(ticks)[0] == times


def test_absent_times_at_the_start_count_back_from_the_first_good_one():
    assert placed([None, None, 40, 60]) == ([0, 20, 40, 60], 2)


def test_a_restarted_clock_runs_on():
    ticks = [20 * i for i in range(100)]
    times, corrected = placed(ticks + ticks[:40])
    assert times == [20 * i for i in range(140)]
    assert corrected == 1


def test_too_many_wrong_timestamps_are_an_error():
    with pytest.raises(CasaError, match="give the true frame rate with --fps"):
        placed([i // 2 * 20 for i in range(60)])


def test_numbered_frames_need_no_timestamps():
    assert placed([None, 7, 7], use_timestamps=False) == ([0, 20, 40], 0)


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=80),
    st.lists(st.tuples(st.integers(0, 79), st.one_of(st.none(), st.integers(-500, 5000))), max_size=6),
)
def test_whatever_comes_times_rise_and_nothing_is_lost(steps, faults):
    ticks: list[int | None] = [sum(steps[:i]) for i in range(len(steps))]
    for place, value in faults:
        if place < len(ticks):
            ticks[place] = value
    try:
        times, _ = placed(ticks)
    except CasaError:
        return
    assert times[0] == 0
    assert all(before < after for before, after in pairwise(times))
