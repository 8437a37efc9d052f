"""What holds of the tracker whatever it is given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casa.errors import InputError
from casa.track import Tracker
from casa.types import Detections, Tracks

FEW = settings(max_examples=15, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


def scene(seed: int, frames: int = 25, offset: tuple[float, float] = (0.0, 0.0)) -> list[Detections]:
    """Cells that wander, miss and come back among false alarms, at uneven times."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    xy, velocity = rng.uniform(0, 200, (n, 2)), rng.normal(0, 80, (n, 2))
    t_ns, out = 0, []
    for k in range(frames):
        step_ns = int(rng.integers(5_000_000, 40_000_000))
        t_ns += step_ns
        velocity += rng.normal(0, 20, (n, 2))
        xy = xy + velocity * step_ns / 1e9
        seen = rng.random(n) < 0.85
        alarms = rng.uniform(0, 200, (rng.poisson(0.7), 2))
        centre = np.concatenate([xy[seen] + rng.normal(0, 1, (seen.sum(), 2)), alarms]) + offset
        half = rng.uniform(7, 12, centre.shape)
        confidence = np.concatenate([rng.beta(6, 2, seen.sum()), rng.beta(2, 3, len(alarms))])
        out.append(
            Detections(
                frame=k,
                t_ns=t_ns,
                xyxy=np.concatenate([centre - half, centre + half], axis=1).astype(np.float32),
                confidence=confidence.astype(np.float32),
                class_id=np.zeros(len(centre), np.int64),
            )
        )
    return out


def run(pictures: list[Detections]) -> list[Tracks]:
    tracker = Tracker()
    return [tracker.update(d) for d in pictures]


@FEW
@given(SEEDS)
def test_ids_are_unique_in_a_frame_rise_from_1_and_never_return(seed: int):
    tracker = Tracker()
    seen: set[int] = set()
    ended: list[int] = []
    for d in scene(seed, 40):
        out = tracker.update(d)
        ids = out.track_id.tolist()
        assert len(set(ids)) == len(ids)
        assert not set(ids) & set(ended)
        new = sorted(set(ids) - seen)
        assert new == list(range(len(seen) + 1, len(seen) + 1 + len(new)))
        seen |= set(ids)
        ended += out.ended_ids.tolist()
    ended += tracker.finish().tolist()
    assert sorted(ended) == sorted(seen)


@FEW
@given(SEEDS)
def test_a_row_is_either_measured_at_a_detection_of_the_frame_or_predicted(seed: int):
    pictures = scene(seed)
    for d, out in zip(pictures, run(pictures), strict=True):
        centres = (d.xyxy[:, :2].astype(float) + d.xyxy[:, 2:]) / 2
        measured = [tuple(xy) for xy in out.measured_xy_px[~out.predicted]]
        assert len(set(measured)) == len(measured)
        assert set(measured) <= {tuple(xy) for xy in centres}
        assert np.isnan(out.measured_xy_px[out.predicted]).all()
        assert (out.confidence[out.predicted] == 0).all()
        assert (out.confidence[~out.predicted] > 0).all()
        assert np.isfinite(out.xyxy).all()
        assert (out.xyxy[:, 2:] > out.xyxy[:, :2]).all()


@FEW
@given(SEEDS, st.integers(1, 24))
def test_what_is_put_out_does_not_depend_on_later_frames(seed: int, cut: int):
    pictures = scene(seed)
    for early, whole in zip(run(pictures[:cut]), run(pictures), strict=False):
        np.testing.assert_array_equal(early.track_id, whole.track_id)
        np.testing.assert_array_equal(early.xyxy, whole.xyxy)


@FEW
@given(SEEDS, SEEDS)
def test_the_order_of_detections_changes_nothing(seed: int, order_seed: int):
    rng = np.random.default_rng(order_seed)
    pictures = scene(seed)
    shuffled = [d[rng.permutation(len(d))] for d in pictures]
    for one, other in zip(run(pictures), run(shuffled), strict=True):
        np.testing.assert_array_equal(one.track_id, other.track_id)
        np.testing.assert_allclose(one.xyxy, other.xyxy, atol=1e-3)


@FEW
@given(SEEDS)
def test_moving_the_field_moves_the_tracks_and_changes_nothing_else(seed: int):
    # a power of two, so that float32 boxes move without rounding
    offset = (1024.0, 512.0)
    for here, there in zip(run(scene(seed)), run(scene(seed, offset=offset)), strict=True):
        np.testing.assert_array_equal(here.track_id, there.track_id)
        np.testing.assert_array_equal(here.predicted, there.predicted)
        np.testing.assert_allclose(here.xyxy + np.tile(offset, 2), there.xyxy, atol=0.02)
        np.testing.assert_allclose(here.velocity_px_s, there.velocity_px_s, atol=0.5)


@FEW
@given(SEEDS, st.sampled_from([0.2, 5.0]))
def test_numbers_stay_finite_in_a_storm_of_false_alarms(seed: int, dt_s: float):
    rng = np.random.default_rng(seed)
    tracker = Tracker()
    for k in range(10):
        centre = rng.uniform(-1e4, 1e4, (20, 2))
        out = tracker.update(
            Detections(
                frame=k,
                t_ns=round(k * dt_s * 1e9),
                xyxy=np.concatenate([centre - 10, centre + 10], axis=1).astype(np.float32),
                confidence=rng.random(20).astype(np.float32),
                class_id=np.zeros(20, np.int64),
            )
        )
        assert np.isfinite(out.xyxy).all()
        assert np.isfinite(out.velocity_px_s).all()


BAD = [np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0, 1e-30]


@FEW
@given(SEEDS, st.booleans())
def test_bad_boxes_are_counted_one_by_one_and_change_nothing(seed: int, sized: bool):
    rng = np.random.default_rng(seed)
    size = (200, 200) if sized else None
    clean, dirty = Tracker(frame_size_px=size), Tracker(frame_size_px=size)
    n_bad = 0
    for d in scene(seed):
        k = int(rng.integers(0, 6))
        bad = rng.uniform(0, 200, (k, 4)).astype(np.float32)
        bad[np.arange(k), rng.integers(0, 4, k)] = np.array([np.nan, np.inf, -np.inf], np.float32)[
            rng.integers(0, 3, k)
        ]
        n_bad += k
        order = rng.permutation(len(d) + k)
        mixed = Detections(
            frame=d.frame,
            t_ns=d.t_ns,
            xyxy=np.concatenate([d.xyxy, bad])[order],
            confidence=np.concatenate([d.confidence, rng.random(k).astype(np.float32)])[order],
            class_id=np.zeros(len(order), np.int64),
        )
        one, other = clean.update(d), dirty.update(mixed)
        np.testing.assert_array_equal(one.track_id, other.track_id)
        np.testing.assert_allclose(one.xyxy, other.xyxy, atol=1e-3)
    assert dirty.counters.bad_boxes == n_bad
    assert dirty.counters.boxes_outside == clean.counters.boxes_outside


@FEW
@given(SEEDS)
def test_any_numbers_at_all_give_finite_tracks_or_none(seed: int):
    rng = np.random.default_rng(seed)
    tracker = Tracker()
    for k in range(12):
        n = int(rng.integers(0, 12))
        xyxy = rng.uniform(-300, 300, (n, 4))
        odd = rng.random((n, 4)) < 0.15
        xyxy[odd] = rng.choice(BAD, int(odd.sum()))
        confidence = np.where(rng.random(n) < 0.2, rng.choice([np.nan, -1.0, 2.0, np.inf], n), rng.random(n))
        with np.errstate(over="ignore"):
            boxes = xyxy.astype(np.float32)
        out = tracker.update(Detections(k, k * 20_000_000, boxes, confidence.astype(np.float32), np.zeros(n, np.int64)))
        assert np.isfinite(out.velocity_px_s).all()
        assert not np.isnan(out.xyxy).any()
        assert len(set(out.track_id.tolist())) == len(out)


@FEW
@given(SEEDS, st.lists(st.integers(0, 24), min_size=1, max_size=8))
def test_frames_out_of_order_are_refused_and_leave_no_trace(seed: int, repeated: list[int]):
    pictures = scene(seed)
    clean, disturbed = Tracker(), Tracker()
    refused = 0
    for k, d in enumerate(pictures):
        one, other = clean.update(d), disturbed.update(d)
        np.testing.assert_array_equal(one.track_id, other.track_id)
        np.testing.assert_array_equal(one.xyxy, other.xyxy)
        if k in repeated:
            for late in {k, max(k - 3, 0)}:
                with pytest.raises(InputError, match="is not later than the last frame's"):
                    disturbed.update(pictures[late])
                refused += 1
    assert disturbed.counters.refused_frames == refused
    assert disturbed.counters.frames == clean.counters.frames == len(pictures)
