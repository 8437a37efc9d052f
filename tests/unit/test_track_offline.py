"""Claims about the offline pass: what it joins, cuts, fills and smooths, and what it leaves as it was measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from filterpy.common import Q_continuous_white_noise
from filterpy.kalman import KalmanFilter

from casa.config import OfflineConfig, TrackConfig
from casa.track import track_table
from casa.track.offline import PictureTimes, refine
from casa.track.smooth import SmootherModel, smooth_path, smooth_size
from casa.types import DetectionTable, TrackTable

RATE_HZ = 50.0
FIELD = (640, 480)


def rows(track_id: int, frames: np.ndarray, xy: np.ndarray, rate_hz: float = RATE_HZ, size: float = 20.0) -> TrackTable:
    """Measured rows of one track."""
    n = len(frames)
    one, xy = np.ones(n), np.asarray(xy, float)
    return TrackTable(
        frames, np.zeros(n), np.round(frames * 1e9 / rate_hz), np.full(n, track_id), xy[:, 0], xy[:, 1], size * one,
        size * one, xy[:, 0], xy[:, 1], 0.8 * one, np.zeros(n, bool),
    )  # fmt: skip


def straight(frames: np.ndarray, start, velocity_px_s, rate_hz: float = RATE_HZ, noise_px: float = 0.8) -> np.ndarray:
    t_s = (frames / rate_hz)[:, None]
    return (
        np.array(start) + t_s * np.array(velocity_px_s) + np.random.default_rng(5).normal(0, noise_px, (len(frames), 2))
    )


def whole(*tables: TrackTable) -> TrackTable:
    return TrackTable.concatenate(list(tables))


def of_pictures(n: int, rate_hz: float = RATE_HZ) -> PictureTimes:
    frame = np.arange(n)
    return PictureTimes(frame, np.zeros(n, np.int64), np.round(frame * 1e9 / rate_hz).astype(np.int64))


@pytest.mark.parametrize("rate_hz", [10.0, 49.0, 500.0])
def test_a_track_that_goes_on_after_a_gap_is_joined_and_its_misses_filled(rate_hz: float):
    first, gap, n = round(1.2 * rate_hz), round(0.5 * rate_hz), round(3 * rate_hz)
    early, late = np.arange(first), np.arange(first + gap, n)
    online = whole(
        rows(1, early, straight(early, (100, 100), (60, 20), rate_hz), rate_hz),
        rows(2, late, straight(late, (100, 100), (60, 20), rate_hz), rate_hz),
    )
    refined = refine(online, times=of_pictures(n, rate_hz), frame_size_px=FIELD)
    assert set(refined.track_id) == {1}
    assert refined.frame.tolist() == list(range(n))
    filled = refined.select(refined.predicted)
    assert filled.frame.tolist() == list(range(first, first + gap))
    assert np.isnan(filled.x_measured_px).all()
    assert (filled.confidence == 0).all()
    true = np.stack([100 + 60 * refined.frame / rate_hz, 100 + 20 * refined.frame / rate_hz])
    assert np.abs(refined.cx_px - true[0]).max() < 2.0
    assert np.abs(refined.cy_px - true[1]).max() < 2.0


def test_measured_centres_and_confidences_are_kept_to_the_bit_and_boxes_are_nearer_to_the_truth():
    frames = np.delete(np.arange(100), [40, 41, 70])
    xy = straight(frames, (50, 200), (80, 0), noise_px=1.2)
    online = rows(7, frames, xy)
    refined = refine(online, times=of_pictures(100), frame_size_px=FIELD)
    kept = refined.select(~refined.predicted)
    for name in ("frame", "t_ns", "x_measured_px", "y_measured_px", "confidence"):
        assert np.array_equal(getattr(kept, name), getattr(online, name)), name
    error = np.hypot(kept.cx_px - 50 - 80 * frames / RATE_HZ, kept.cy_px - 200)
    assert np.sqrt((error**2).mean()) < 0.5 * np.sqrt(2) * 1.2
    assert refined.predicted.sum() == 3


def test_heads_that_do_not_fit_are_not_joined():
    early, late = np.arange(0, 60), np.arange(80, 140)
    here = rows(1, early, straight(early, (200, 200), (0, 0)))
    for other in (
        rows(2, late, straight(late, (300, 200), (0, 0))),  # elsewhere
        rows(2, late, straight(late, (200, 200), (-90, 60)) - [-144, 96]),  # comes from where none was
        rows(2, np.arange(160, 220), straight(np.arange(160, 220), (200, 200), (0, 0))),  # too late
        rows(2, late, straight(late, (205, 200), (0, 0)), size=34.0),  # another size
    ):
        assert set(refine(whole(here, other), times=of_pictures(220), frame_size_px=FIELD).track_id) == {1, 2}


def test_a_track_that_went_over_to_another_head_in_a_gap_is_cut_there():
    early, late = np.arange(0, 60), np.arange(75, 150)
    # 1 is lost and then led away to where 3 came from; 2 is what 1 would have become
    online = whole(
        rows(1, early, straight(early, (200, 200), (60, 0))),
        rows(1, late, straight(late, (300, 260), (-40, -10))),
        rows(2, late, straight(late, (200, 200), (60, 0))),
        rows(3, np.arange(0, 65), straight(np.arange(0, 65), (300, 260), (-40, -10))),
    )
    refined = refine(online, times=of_pictures(150), frame_size_px=FIELD)
    by_end = {
        track: refined.select((refined.track_id == track) & (refined.frame == 149))
        for track in np.unique(refined.track_id)
    }
    assert set(by_end) == {1, 3}
    assert by_end[1].cx_px[0] == pytest.approx(200 + 60 * 149 / RATE_HZ, abs=3)
    assert by_end[3].cx_px[0] == pytest.approx(300 - 40 * 149 / RATE_HZ, abs=3)


def test_a_piece_that_was_cut_off_gets_an_id_of_its_own():
    early, late = np.arange(0, 60), np.arange(80, 140)
    online = whole(
        rows(4, early, straight(early, (200, 200), (0, 0))), rows(4, late, straight(late, (420, 50), (0, 0)))
    )
    assert set(refine(online, times=of_pictures(140), frame_size_px=FIELD).track_id) == {4, 5}


def test_what_left_by_the_edge_does_not_come_back_as_another():
    early, late = np.arange(0, 50), np.arange(65, 130)
    leaves = rows(1, early, straight(early, (15, 200), (-10, 0)))
    enters = rows(2, late, straight(late - 65, (6, 203), (10, 0)))
    assert set(refine(whole(leaves, enters), times=of_pictures(130), frame_size_px=FIELD).track_id) == {1, 2}
    inside = [replace(t, cx_px=t.cx_px + 300, x_measured_px=t.x_measured_px + 300) for t in (leaves, enters)]
    assert set(refine(whole(*inside), times=of_pictures(130), frame_size_px=FIELD).track_id) == {1}


def test_predicted_rows_beyond_the_last_measured_one_are_dropped_and_nothing_gives_nothing():
    frames = np.arange(40)
    online = rows(1, frames, straight(frames, (100, 100), (50, 0)))
    lost = frames >= 30
    coasting = replace(
        online, predicted=lost, x_measured_px=np.where(lost, np.nan, online.x_measured_px),
        y_measured_px=np.where(lost, np.nan, online.y_measured_px),
    )  # fmt: skip
    assert refine(coasting, frame_size_px=FIELD).frame.max() == 29
    assert len(refine(coasting.select(lost))) == 0
    assert len(refine(online.select(slice(0, 0)), None)) == 0


def test_a_gap_whose_middle_is_not_known_is_left_open():
    frames = np.concatenate([np.arange(0, 8), np.arange(58, 66)])
    online = rows(1, frames, straight(frames, (100, 100), (5, 0)))
    refined = refine(online, times=of_pictures(66), frame_size_px=FIELD, offline=OfflineConfig(max_sd_of_size=0.05))
    assert len(refined) < 66
    assert (~refined.predicted).sum() == len(frames)


def noisy_field(seed: int) -> DetectionTable:
    """Twelve heads on straight ways, misses in bursts, false alarms."""
    rng = np.random.default_rng(seed)
    n, frames = 12, np.arange(150)
    start, velocity = rng.uniform(100, 380, (n, 2)), rng.normal(0, 40, (n, 2))
    xy = start[:, None] + velocity[:, None] * (frames / RATE_HZ)[None, :, None] + rng.normal(0, 1, (n, 150, 2))
    seen = np.repeat(rng.random((n, 30)) > 0.15, 5, axis=1)
    frame = np.concatenate([np.broadcast_to(frames, (n, 150))[seen], rng.integers(0, 150, 60)])
    xy = np.concatenate([xy[seen], rng.uniform(0, 480, (60, 2))])
    m = len(frame)
    size, confidence = (
        rng.normal(20, 1, (m, 2)),
        np.concatenate([rng.uniform(0.6, 1, m - 60), rng.uniform(0.1, 0.5, 60)]),
    )
    order = np.argsort(frame, kind="stable")
    return DetectionTable(
        frame, np.zeros(m), np.round(frame * 1e9 / RATE_HZ), xy[:, 0], xy[:, 1], size[:, 0], size[:, 1], confidence,
        np.zeros(m),
    ).select(order)  # fmt: skip


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e300])
def test_detections_that_are_no_boxes_change_nothing(value: float):
    good = noisy_field(3)
    bad = replace(good.select(np.arange(5)), cx_px=np.full(5, value))
    whole_table = DetectionTable.concatenate([good, bad])
    expected, found = refine(track_table(good), good), refine(track_table(whole_table), whole_table)
    for name, column in expected.columns().items():
        np.testing.assert_array_equal(column, found.columns()[name], err_msg=name)


def test_it_is_deterministic_and_does_not_depend_on_the_order_of_rows():
    found = noisy_field(3)
    online = track_table(found)
    first = refine(online, found)
    shuffled = online.select(np.random.default_rng(0).permutation(len(online)))
    again = refine(shuffled, found)
    for name, column in first.columns().items():
        assert np.array_equal(column, getattr(again, name), equal_nan=True), name
    keys = np.stack([first.track_id, first.t_ns], axis=1)
    assert len(np.unique(keys, axis=0)) == len(keys)
    assert len(np.unique(first.track_id)) <= len(np.unique(online.track_id))
    measured = online.select(~online.predicted)
    kept = first.select(~first.predicted)
    assert sorted(zip(measured.t_ns, measured.x_measured_px, strict=True)) == sorted(
        zip(kept.t_ns, kept.x_measured_px, strict=True)
    )


def test_the_smoother_of_one_model_is_filterpys():
    rng = np.random.default_rng(2)
    t_s = np.cumsum(rng.uniform(0.01, 0.05, 60))
    xy = np.cumsum(rng.normal(0, 2, (60, 2)), axis=0)
    xy[[10, 11, 30]] = np.nan
    density, variance, speed_sd = 300.0, 1.44, 100.0
    centre, spread = smooth_path(t_s, xy, (SmootherModel(density),), variance, speed_sd, 0.2)
    for axis in (0, 1):
        kalman = KalmanFilter(dim_x=2, dim_z=1)
        kalman.x = np.array([[xy[0, axis]], [0.0]])
        kalman.P = np.diag([variance, speed_sd**2])
        kalman.H, kalman.R = np.array([[1.0, 0.0]]), np.array([[variance]])
        means, covariances, fs, qs = [kalman.x.copy()], [kalman.P.copy()], [np.eye(2)], [np.zeros((2, 2))]
        for i in range(1, 60):
            dt = float(t_s[i] - t_s[i - 1])
            kalman.F = np.array([[1.0, dt], [0.0, 1.0]])
            kalman.Q = Q_continuous_white_noise(dim=2, dt=dt, spectral_density=density)
            kalman.predict()
            kalman.update(None if np.isnan(xy[i, axis]) else xy[i, axis])
            means.append(kalman.x.copy())
            covariances.append(kalman.P.copy())
            fs.append(kalman.F.copy())
            qs.append(kalman.Q.copy())
        # filterpy's step k uses F and Q of k + 1
        x, p, _, _ = kalman.rts_smoother(np.array(means), np.array(covariances), fs, qs)
        assert np.allclose(centre[:, axis], x[:, 0, 0], atol=1e-8)
        assert np.allclose(spread, p[:, 0, 0], rtol=1e-7)


def test_a_beating_head_keeps_its_beat_and_a_resting_one_is_still():
    t_s = np.arange(150) / 50
    rng = np.random.default_rng(4)
    config = TrackConfig()
    models = tuple(SmootherModel(density) for density in OfflineConfig().densities_px2_s3)
    models += (SmootherModel(config.beat_density_px2_s3, config.beat_sd_px),)
    path = np.stack([50 * t_s, 6 * np.sin(2 * np.pi * 12 * t_s)], axis=1)
    seen = path + rng.normal(0, 1, path.shape)
    centre, _ = smooth_path(t_s, seen, models, 1.44, 180.0, 0.2)
    assert np.corrcoef(centre[:, 1], path[:, 1])[0, 1] > 0.97
    still, _ = smooth_path(t_s, rng.normal(0, 1, path.shape), models, 1.44, 180.0, 0.2)
    assert still[10:-10].std() < 0.35
    size = smooth_size(t_s, np.exp(rng.normal(3.0, 0.08, (150, 2))), 0.08, 0.12)
    assert np.log(size).std() < 0.04
