"""What the tracker does with misses, gaps, bad input and tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from casa.cli.track import track as track_command
from casa.config import TrackConfig
from casa.errors import InputError
from casa.graph.stage import Stage
from casa.tables import read_tracks, write_detections
from casa.track import Tracker, TrackerCounters, TrackStage, track_table
from casa.track.associate import _solve_dense, _solve_sparse, assign
from casa.track.cost import pair_costs
from casa.track.population import TRACK, settings_of
from casa.types import Detections, DetectionTable, Tracks


def detections(
    frame: int, t_s: float, xy: object, confidence: float = 0.9, size: float = 20.0, class_id: int = 0
) -> Detections:
    centre = np.asarray(xy, float).reshape(-1, 2)
    n = len(centre)
    return Detections(
        frame=frame,
        t_ns=round(t_s * 1e9),
        xyxy=np.concatenate([centre - size / 2, centre + size / 2], axis=1).astype(np.float32),
        confidence=np.full(n, confidence, np.float32),
        class_id=np.full(n, class_id),
    )


def swim(tracker: Tracker, frames: range, fps_hz: float = 50.0, speed_px_s: float = 100.0) -> list[Tracks]:
    """One cell along x from (100, 100)."""
    return [tracker.update(detections(k, k / fps_hz, [100 + speed_px_s * k / fps_hz, 100])) for k in frames]


def test_a_track_is_put_out_from_its_second_detection_with_id_1():
    first, second = swim(Tracker(), range(2))
    assert len(first) == 0
    assert second.track_id.tolist() == [1]
    assert not second.predicted[0]
    np.testing.assert_allclose(second.measured_xy_px, [[102, 100]], atol=1e-4)


@pytest.mark.parametrize("fps_hz", [10.0, 49.0, 200.0, 500.0])
def test_speed_is_right_at_every_frame_rate(fps_hz: float):
    out = swim(Tracker(), range(round(fps_hz * 2)), fps_hz)
    assert {int(i) for t in out for i in t.track_id} == {1}
    np.testing.assert_allclose(out[-1].velocity_px_s, [[100, 0]], atol=3.0)


def test_speed_is_right_when_the_frame_interval_is_not_constant():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.choice([0.01, 0.02, 0.06], 150))
    tracker = Tracker()
    out = [tracker.update(detections(k, t, [50 + 200 * t, 80])) for k, t in enumerate(times)]
    assert {int(i) for t in out for i in t.track_id} == {1}
    np.testing.assert_allclose(out[-1].velocity_px_s, [[200, 0]], atol=6.0)


def test_a_short_miss_is_bridged_by_predicted_boxes_on_the_way():
    tracker = Tracker()
    swim(tracker, range(30))
    for k in range(30, 34):
        out = tracker.update(Detections.empty(k, round(k / 50 * 1e9)))
        assert out.track_id.tolist() == [1]
        assert out.predicted.all()
        assert np.isnan(out.measured_xy_px).all()
        assert out.confidence[0] == 0
        centre = (out.xyxy[0, :2] + out.xyxy[0, 2:]) / 2
        np.testing.assert_allclose(centre, [100 + 2 * k, 100], atol=2.0)
    assert swim(tracker, range(34, 35))[0].track_id.tolist() == [1]


def test_a_lost_track_is_kept_without_being_put_out_and_taken_up_again():
    tracker = Tracker()
    for k in range(50):
        tracker.update(detections(k, k / 50, [100, 100]))
    shown = [len(tracker.update(Detections.empty(k, round(k / 50 * 1e9)))) for k in range(50, 80)]
    assert shown[0] == 1
    assert shown[-1] == 0
    assert tracker.update(detections(80, 1.6, [101, 100])).track_id.tolist() == [1]


def test_a_track_missed_for_too_long_ends_once_and_its_id_is_not_used_again():
    tracker = Tracker()
    swim(tracker, range(30))
    ended = [i for k in range(30, 130) for i in tracker.update(Detections.empty(k, round(k / 50 * 1e9))).ended_ids]
    assert ended == [1]
    assert len(tracker) == 0
    again = swim(tracker, range(130, 133))
    assert again[-1].track_id.tolist() == [2]
    assert tracker.finish().tolist() == [2]
    assert tracker.finish().tolist() == []


def test_a_gap_longer_than_any_track_survives_starts_afresh():
    tracker = Tracker()
    swim(tracker, range(30))
    out = tracker.update(detections(5000, 100.0, [158, 100]))
    assert out.ended_ids.tolist() == [1]
    assert tracker.counters.restarts == 1
    assert len(out) == 0


def test_none_for_a_minute_is_a_minute_without_tracks():
    tracker = Tracker()
    swim(tracker, range(10))
    rows = [len(tracker.update(Detections.empty(k, round(k / 50 * 1e9)))) for k in range(10, 3010)]
    assert max(rows) <= 1
    assert rows[-1] == 0
    assert len(tracker) == 0


@pytest.mark.parametrize("t_s", [0.58, 0.5, -1.0])
def test_time_that_stands_still_or_runs_back_is_refused_and_harms_nothing(t_s: float):
    tracker, untouched = Tracker(), Tracker()
    swim(tracker, range(30))
    swim(untouched, range(30))
    with pytest.raises(InputError, match=r"frame 30: its time .* is not later"):
        tracker.update(detections(30, t_s, [160, 100]))
    assert tracker.counters.refused_frames == 1
    after, expected = swim(tracker, range(31, 32))[0], swim(untouched, range(31, 32))[0]
    np.testing.assert_array_equal(after.velocity_px_s, expected.velocity_px_s)
    np.testing.assert_array_equal(after.xyxy, expected.xyxy)


def test_boxes_that_are_none_are_counted_and_left_out():
    tracker = Tracker()
    for k in range(5):
        good = detections(k, k / 50, [100, 100])
        bad = np.array([[np.nan, 0, 1, 1], [0, 0, np.inf, 1], [5, 5, 5, 9], [9, 9, 5, 5]], np.float32)
        out = tracker.update(
            Detections(
                frame=k,
                t_ns=good.t_ns,
                xyxy=np.concatenate([good.xyxy, bad]),
                confidence=np.array([0.9, 0.9, 0.9, 0.9, 0.9], np.float32),
                class_id=np.zeros(5, np.int64),
            )
        )
    assert out.track_id.tolist() == [1]
    assert tracker.counters.bad_boxes == 20


def test_nan_confidence_is_no_detection():
    tracker = Tracker()
    for k in range(4):
        out = tracker.update(detections(k, k / 50, [100, 100], confidence=np.nan))
    assert len(out) == 0
    assert tracker.counters.bad_boxes == 4


def test_detections_far_outside_the_frame_are_tracked_like_others():
    tracker = Tracker()
    for k in range(4):
        out = tracker.update(detections(k, k / 50, [[-5000.0, 1e6], [100, 100]]))
    assert len(out) == 2


def test_only_configured_classes_are_tracked():
    def count(config: TrackConfig) -> int:
        tracker = Tracker(config)
        for k in range(4):
            out = tracker.update(detections(k, k / 50, [100, 100], class_id=2))
        return len(out)

    assert count(TrackConfig()) == 0
    assert count(TrackConfig(classes=(0, 2))) == 1


def test_low_confidence_detections_keep_a_track_but_start_none():
    tracker = Tracker()
    for k in range(20):
        assert len(tracker.update(detections(k, k / 50, [300, 300], confidence=0.3))) == 0
    swim(tracker, range(20, 40))
    out = tracker.update(detections(40, 0.8, [180, 100], confidence=0.3))
    assert out.track_id.tolist() == [1]
    assert not out.predicted[0]


def test_two_cells_that_cross_keep_their_ids():
    rng = np.random.default_rng(1)
    tracker = Tracker()
    by_height = []
    for k in range(100):
        x = 100 + 2 * k
        out = tracker.update(detections(k, k / 50, rng.normal([[x, 100 + k], [x, 200 - k]], 0.5)))
        if k in (10, 99):
            assert out.track_id.size == 2
            by_height.append(out.track_id[np.argsort(out.measured_xy_px[:, 1])].tolist())
    assert by_height[1] == by_height[0][::-1]


@pytest.mark.parametrize("field_px", [(640, 480), (4000, 3000)])
def test_five_thousand_detections_in_a_frame_take_no_seconds(field_px: tuple[int, int]):
    import time

    rng = np.random.default_rng(0)
    tracker = Tracker()
    swim(tracker, range(4))  # compiled by then
    xy = rng.uniform(0, 1, (5000, 2)) * field_px
    start_s = time.thread_time()
    for k in range(4, 8):
        xy += rng.normal(0, 1, xy.shape)
        out = tracker.update(detections(k, k / 50, xy))
    assert time.thread_time() - start_s < 4.0
    assert len(out) > 2000


def test_a_track_that_leaves_the_field_is_not_put_out_beyond_its_edge():
    inside, unknown = Tracker(frame_size_px=(200, 200)), Tracker()
    shown = []
    for tracker in (inside, unknown):
        rows = []
        for k in range(60):
            x = 100 + 150 * k / 50
            found = detections(k, k / 50, [x, 100]) if x < 200 else Detections.empty(k, round(k / 50 * 1e9))
            rows.append(tracker.update(found))
        beyond = [t.frame for t in rows if len(t) and (t.xyxy[0, 0] + t.xyxy[0, 2]) / 2 > 200]
        shown.append(len(beyond))
        ended = [t.frame for t in rows if len(t.ended_ids)]
        if tracker is inside:
            assert 34 <= ended[0] <= 42
            assert len(inside) == 0
    assert shown[0] == 0
    assert shown[1] > 5


def test_a_head_born_at_the_border_is_a_track():
    tracker = Tracker(frame_size_px=(200, 200))
    out = [tracker.update(detections(k, k / 50, [198 - 2 * k, 3])) for k in range(10)]
    assert [len(t) for t in out] == [0] + [1] * 9


def test_boxes_outside_the_field_are_counted_and_left_out():
    tracker = Tracker(frame_size_px=(640, 480))
    for k in range(4):
        out = tracker.update(detections(k, k / 50, [[-5.0, 100], [100, 481], [1e6, 100], [100, 100], [0, 480]]))
    assert len(out) == 2
    assert tracker.counters.boxes_outside == 12
    assert tracker.counters.bad_boxes == 0


def test_gaps_in_frame_numbers_are_counted_and_time_decides():
    tracker = Tracker()
    for k in range(20):
        out = tracker.update(detections(3 * k, k / 50, [100 + 2 * k, 100]))
    assert tracker.counters.missing_frames == 38
    assert tracker.counters.misnumbered_frames == 0
    np.testing.assert_allclose(out.velocity_px_s, [[100, 0]], atol=5.0)


def test_frames_that_are_skipped_on_purpose_are_not_missing():
    tracker = Tracker(every_nth=3)
    for number in (0, 3, 6, 12, 15):  # 9 was lost
        tracker.update(detections(number, number / 50, [100, 100]))
    assert tracker.counters.missing_frames == 1


def test_frame_numbers_that_repeat_while_time_goes_on_are_counted():
    tracker = Tracker()
    for k in range(10):
        out = tracker.update(detections([0, 1, 2, 2, 3, 1, 2, 3, 4, 5][k], k / 50, [100 + 2 * k, 100]))
    assert tracker.counters.misnumbered_frames == 2
    assert out.track_id.tolist() == [1]


def test_the_two_fields_of_a_frame_are_two_pictures():
    tracker = Tracker()
    for k in range(10):
        found = detections(k // 2, k / 50, [100 + 2 * k, 100])
        out = tracker.update(Detections(found.frame, found.t_ns, found.xyxy, found.confidence, found.class_id, k % 2))
    assert out.track_id.tolist() == [1]
    assert (tracker.counters.misnumbered_frames, tracker.counters.missing_frames) == (0, 0)


@pytest.mark.parametrize("fps_hz", [10.0, 25.0, 50.0, 100.0, 250.0, 500.0])
def test_identities_hold_from_10_to_500_frames_a_second(fps_hz: float):
    # ten swimmers on circles and lines of their own, 60 px apart, seen with jitter and some misses for three seconds
    rng = np.random.default_rng(7)
    n = 10
    speed, rate = rng.uniform(40, 110, n), rng.uniform(0.5, 2.5, n) * rng.choice([-1, 1], n)
    origin, phase = 60 + 120 * np.stack([np.arange(n) % 4, np.arange(n) // 4], 1), rng.uniform(0, 2 * np.pi, n)
    tracker = Tracker()
    ids: list[set[int]] = [set() for _ in range(n)]
    covered = total = 0
    for k in range(round(3 * fps_hz)):
        t = k / fps_hz
        radius = (np.minimum(speed / np.abs(rate), 25.0))[:, None]
        angle = rate * t + phase
        xy = origin + radius * np.stack([np.cos(angle), np.sin(angle)], 1)
        seen = rng.random(n) > 0.05
        out = tracker.update(detections(k, t, xy[seen] + rng.normal(0, 1.0, (int(seen.sum()), 2))))
        if t < 0.5:
            continue
        centre = (out.xyxy[:, :2] + out.xyxy[:, 2:]) / 2
        for i in range(n):
            total += 1
            apart = np.hypot(*(centre - xy[i]).T)
            if len(apart) and apart.min() < 8:
                covered += 1
                ids[i].add(int(out.track_id[apart.argmin()]))
    assert [len(of_one) for of_one in ids] == [1] * n
    assert len(set.union(*ids)) == n
    assert covered >= 0.97 * total
    assert tracker.counters.tracks == n


@pytest.mark.parametrize("scale_px", [1.0, 30.0, 300.0])
@pytest.mark.parametrize("iou_weight", [0.0, 4.0])
def test_pairs_and_costs_are_those_of_comparing_all(scale_px: float, iou_weight: float):
    from scipy.stats import chi2, multivariate_t

    rng = np.random.default_rng(2)
    n, m = 40, 60
    c = TrackConfig(iou_weight=iou_weight, gate_d2=float(chi2.ppf(0.999, 2)))
    tracks = np.zeros(n, TRACK)
    tracks["log_w"], tracks["log_h"] = rng.normal(3, 0.1, (2, n))
    tracks["miss_rate"], tracks["size_variance"] = rng.random(n), rng.uniform(0.01, 0.1, n)
    mean, xy = rng.normal(0, scale_px, (n, 2)), rng.normal(0, scale_px, (m, 2))
    spread = rng.normal(0, 8, (n, 2, 2))
    cov = spread @ spread.transpose(0, 2, 1)
    covariance = np.stack([cov[:, 0, 0], cov[:, 0, 1], cov[:, 1, 1]], axis=1)
    log_size, confidence = rng.normal(3, 0.1, (m, 2)), rng.uniform(0.1, 1, m)
    by_x = np.argsort(xy[:, 0], kind="stable")
    track, detection, cost = pair_costs(tracks, mean, covariance, xy, log_size, confidence, by_x, settings_of(c))
    expected = {}
    nu, r = c.cost_tail, c.measurement_sd_px**2
    for i in range(n):
        s = cov[i] + r * np.eye(2)
        density = multivariate_t(mean[i], s, df=nu)
        for j in range(m):
            d2 = (xy[j] - mean[i]) @ np.linalg.solve(s, xy[j] - mean[i])
            if d2 > c.gate_d2 or np.abs(xy[j] - mean[i]).max() > c.max_reach_px:
                continue
            # -2 log density of Student's t, less the constant of a certain track hit in its centre
            total = -2 * density.logpdf(xy[j]) - 2 * np.log(2 * np.pi * r)
            sizes = np.exp([[tracks["log_w"][i], tracks["log_h"][i]], log_size[j]])
            total += (
                c.size_weight
                * np.sum(np.log(sizes[0] / sizes[1]) ** 2)
                / (2 * c.size_noise**2 + tracks["size_variance"][i])
            )
            total += c.miss_weight * tracks["miss_rate"][i] - c.confidence_weight * np.log(confidence[j])
            low = np.maximum(mean[i] - sizes[0] / 2, xy[j] - sizes[1] / 2)
            high = np.minimum(mean[i] + sizes[0] / 2, xy[j] + sizes[1] / 2)
            common = np.maximum(high - low, 0).prod()
            expected[i, j] = total + iou_weight * (1 - common / (sizes.prod(axis=1).sum() - common))
    found = dict(zip(zip(track.tolist(), detection.tolist(), strict=True), cost.tolist(), strict=True))
    assert len(found) == len(track)
    assert set(found) == set(expected)
    assert list(found) == sorted(found, key=lambda pair: pair[0])
    np.testing.assert_allclose([found[pair] for pair in expected], list(expected.values()), rtol=1e-7, atol=1e-7)


def test_sparse_and_dense_assignment_reach_the_same_cost_as_scipy():
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(4)
    for _ in range(20):
        n, m = rng.integers(1, 40, 2)
        near = rng.random((n, m)) < 0.3
        near[0, 0] = True
        cost = rng.normal(5, 6, (n, m))
        limit = 8.0
        padded = np.zeros((n + m, n + m))
        padded[:n, :m] = np.where(near & (cost <= limit), cost - limit, 1e6)
        rows, columns = linear_sum_assignment(padded)
        best = padded[rows, columns].sum()
        track, detection = np.nonzero(near)
        solvers = [lambda *a: assign(*a, n, m)]  # noqa: B023
        solvers += [_solve_dense, _solve_sparse]
        for solve in solvers:
            t, d = solve(track, detection, cost[near], limit)
            assert len(set(t.tolist())) == len(t)
            assert len(set(d.tolist())) == len(d)
            assert near[t, d].all()
            assert (cost[t, d] - limit).sum() == pytest.approx(best, abs=1e-9)


def test_the_stage_gives_one_item_for_each_and_starts_afresh_when_opened():
    stage: Stage[Detections, Tracks] = TrackStage()
    for _ in range(2):
        stage.open()
        out = [t for k in range(5) for t in stage.process(detections(k, k / 50, [100, 100]))]
        assert [t.frame for t in out] == list(range(5))
        assert out[-1].track_id.tolist() == [1]
        assert list(stage.flush()) == []
        stage.close()


def table(frames: list[int], t_s: list[float] | None = None, xy: object = (100.0, 100.0)) -> DetectionTable:
    n = len(frames)
    times = np.array(frames) / 50 if t_s is None else np.array(t_s)
    return DetectionTable(
        frame=frames,
        field=np.zeros(n),
        t_ns=np.round(times * 1e9),
        cx_px=np.full(n, xy[0]),
        cy_px=np.full(n, xy[1]),
        w_px=np.full(n, 20.0),
        h_px=np.full(n, 20.0),
        confidence=np.full(n, 0.9),
        class_id=np.zeros(n),
    )


def test_frames_missing_from_a_table_still_pass():
    counters = TrackerCounters()
    tracks = track_table(table([*range(10), *range(13, 20)]), counters=counters)
    assert counters.frames == 20
    assert tracks.frame.tolist() == list(range(1, 20))
    assert tracks.frame[tracks.predicted].tolist() == [10, 11, 12]
    np.testing.assert_array_equal(np.isnan(tracks.x_measured_px), tracks.predicted)
    assert tracks.t_ns[tracks.frame == 11].tolist() == [220_000_000]


def test_a_table_gives_what_the_stage_gives():
    rng = np.random.default_rng(0)
    frames = np.repeat(np.arange(30), 3)
    n = len(frames)
    whole = DetectionTable(
        frame=frames,
        field=np.zeros(n),
        t_ns=frames * 20_000_000,
        cx_px=np.tile([100.0, 200, 300], 30) + rng.normal(0, 1, n),
        cy_px=np.tile([100.0, 200, 300], 30) + rng.normal(0, 1, n),
        w_px=np.full(n, 20.0),
        h_px=np.full(n, 18.0),
        confidence=rng.uniform(0.3, 1, n),
        class_id=np.zeros(n),
    )
    shuffled = whole.select(rng.permutation(n))
    first, second = track_table(whole), track_table(shuffled)
    assert len(first) > 60
    for name, column in first.columns().items():
        np.testing.assert_array_equal(column, second.columns()[name], err_msg=name)


def test_an_empty_table_has_no_tracks():
    assert len(track_table(table([]))) == 0


@pytest.mark.parametrize(
    ("frames", "t_s", "message"),
    [
        ([0, 1, 2], [0.0, 0.02, 0.02], "frames 1 and 2 have the same time"),
        ([0, 1, 1], [0.0, 0.02, 0.03], "frame 1 at 0.030000 s comes after frame 1"),
        ([5, 4, 6], [0.0, 0.02, 0.04], "frame 4 at 0.020000 s comes after frame 5"),
        ([0, 1, 10_000_000], [0.0, 0.02, 0.04], "frame 10000000 comes 0.020000 s after frame 1: no camera"),
    ],
)
def test_times_that_contradict_the_frames_of_a_table_are_refused(frames: list[int], t_s: list[float], message: str):
    with pytest.raises(InputError, match=message):
        track_table(table(frames, t_s))


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(track_command)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(a) for a in arguments])


def test_the_command_writes_csv_and_mot_and_says_what_it_did(tmp_path: Path, run):
    found = tmp_path / "detections.csv"
    write_detections(found, table([*range(10), *range(12, 20)]))
    out = tmp_path / "tracks.csv"
    result = run(found, "-o", out, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["frames"] == 20
    assert said["tracks"] == 1
    assert said["predicted_boxes"] == 2
    tracks = read_tracks(out)
    assert tracks.track_id.tolist() == [1] * said["boxes"]
    assert tracks.predicted.sum() == 2
    mot = tmp_path / "tracks.txt"
    assert run(found, "-o", mot).exit_code == 0
    assert mot.read_text().splitlines()[0].startswith("2,1,90.000,90.000,20.000,20.000,")


def test_the_command_tells_of_detections_that_it_left_out(tmp_path: Path, run):
    found, out = tmp_path / "detections.csv", tmp_path / "tracks.csv"
    rows = [f"{k},90,90,20,20,0.9" for k in range(10)] + ["3,200,90,20,20,0.9", "4,90,90,0,20,0.9"]
    found.write_text("\n".join(["frame,cx_px,cy_px,w_px,h_px,confidence", *rows, ""]))
    call = found, "-o", out, "--fps", 50, "--frame-size", "100x100", "--force"
    said = json.loads(run(*call, "--json").stdout)
    assert (said["detections"], said["bad_boxes"], said["boxes_outside"], said["tracks"]) == (12, 1, 1, 1)
    text = run(*call).stdout
    assert "1 of 12 detections were no boxes" in text
    assert "1 of 12 detections had their centre outside 100x100 px" in text


def test_the_command_refuses_what_exists_and_what_has_no_time(tmp_path: Path, run):
    found, out = tmp_path / "detections.csv", tmp_path / "tracks.csv"
    found.write_text("frame,cx_px,cy_px,w_px,h_px,confidence\n0,1,1,5,5,0.9\n")
    refused = run(found, "-o", out)
    assert isinstance(refused.exception, InputError)
    assert "give --fps" in str(refused.exception)
    assert run(found, "-o", out, "--fps", 50).exit_code == 0
    assert isinstance(run(found, "-o", out, "--fps", 50).exception, InputError)
    assert run(found, "-o", out, "--fps", 50, "--force").exit_code == 0
