"""The report's arithmetic and drawings, against figures worked out elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from casa.report.charts import SHADES, bin_values
from casa.report.document import significant
from casa.report.figures import measure_timing
from casa.report.paths import MAX_POINTS, MAX_TRACKS, Path, Scale, choose_paths, one_second, origin_plot, path_data
from casa.report.picture import _label_place, choose_picture, jpeg_data_uri, to_eight_bit
from casa.report.provenance import frames_group
from casa.statistics import effective_count, nice_step, poisson_interval, wilson_percent
from casa.types import FrameAccount, TrackTable


def table_of(frame: np.ndarray, track_id: np.ndarray, x: np.ndarray, fps_hz: float = 50.0) -> TrackTable:
    n = len(frame)
    one = np.ones(n)
    t_ns = np.round(frame / fps_hz * 1e9).astype(np.int64)
    return TrackTable(frame, 0 * frame, t_ns, track_id, x, one, 8 * one, 8 * one, x, one, one, np.zeros(n, bool))


@pytest.mark.parametrize(
    ("percent", "n", "low", "high"),
    [
        (50, 100, 40.38, 59.62),
        (0, 20, 0.0, 16.11),
        (20, 40, 10.50, 34.76),
    ],  # Wilson 1927, as R's prop.test without correction
)
def test_wilson_agrees_with_published_values(percent, n, low, high):
    interval = wilson_percent(percent, n)
    assert interval == pytest.approx((low, high), abs=0.01)


def test_poisson_agrees_with_published_values():
    # Garwood 1936, table for counts 0, 10 and 100
    assert poisson_interval(0) == pytest.approx((0.0, 3.689), abs=1e-3)
    assert poisson_interval(10) == pytest.approx((4.795, 18.390), abs=1e-3)
    assert poisson_interval(100) == pytest.approx((81.364, 121.627), abs=1e-3)


def test_effective_count_is_the_count_for_equal_weights_and_less_otherwise():
    assert effective_count(np.full(7, 0.3)) == pytest.approx(7)
    assert effective_count(np.array([1.0, 1.0, 10.0])) == pytest.approx(144 / 102)
    assert effective_count(np.empty(0)) == 0
    assert wilson_percent(50.0, effective_count(np.empty(0))) is None


@pytest.mark.parametrize(("span", "about", "step"), [(100, 10, 10), (37, 5, 10), (0.9, 3, 0.5), (1, 4, 0.5), (0, 4, 1)])
def test_steps_are_round(span, about, step):
    assert nice_step(span, about) == pytest.approx(step)


@pytest.mark.parametrize(
    ("value", "words"), [(37.29, "37.3"), (0.01234, "0.0123"), (1234.6, "1,235"), (0, "0"), (5, "5.00")]
)
def test_numbers_have_three_digits(value, words):
    assert significant(value) == words


def test_a_histogram_holds_every_finite_value_once():
    rng = np.random.default_rng(1)
    values = np.append(rng.gamma(3, 12, 300), [np.nan, 5000.0])
    shades = rng.choice(np.array(SHADES), values.size)
    bins = bin_values(values, shades)
    assert bins is not None
    assert bins.counts.sum() == 301
    assert bins.open_end
    assert bins.step * bins.counts.shape[1] < 500
    for row, kind in zip(bins.counts, SHADES, strict=True):
        assert row.sum() == (np.isfinite(values) & (shades == kind)).sum()
    assert bin_values(np.array([np.nan]), np.array(["a"])) is None


def test_path_data_lifts_the_pen_at_a_gap():
    x = np.array([1.0, 2.0, np.nan, 4.0, 4.0, 5.0])
    assert path_data(x, np.array([1.0, 1.0, np.nan, 3.0, 3.0, 2.5])) == "M10 10l10 0M40 30l10 -5"


def test_paths_are_thinned_to_a_bound_and_keep_their_ends():
    n_tracks, n_rows = MAX_TRACKS * 3, 400
    frame = np.tile(np.arange(n_rows), n_tracks)
    ids = np.repeat(np.arange(n_tracks), n_rows)
    paths, n_seen = choose_paths(table_of(frame, ids, frame * 1.0), {}, {})
    assert n_seen == n_tracks
    assert len(paths) == MAX_TRACKS
    assert sum(len(path.x_px) for path in paths) <= MAX_POINTS + 2 * MAX_TRACKS
    assert all(path.x_px[0] == 0 and path.x_px[-1] == n_rows - 1 for path in paths)
    assert {paths[0].track_id, paths[-1].track_id} == {0, n_tracks - 1}


def test_the_first_second_is_one_second_in_micrometres():
    t = np.arange(0, 2.0001, 0.02)
    path = Path(1, t, 100 + 40 * t, 50 - 10 * t, "a", "")
    piece = one_second(path, Scale(0.5, 0.25, "µm"))
    assert piece is not None
    assert (piece[0][-1], piece[1][-1]) == pytest.approx((20.0, -2.5))
    assert one_second(Path(1, t[:20], t[:20], t[:20], "a", ""), Scale(1, 1, "µm")) is None


def test_the_origin_plot_marks_the_limits_of_the_grades_only_where_there_is_a_scale():
    t = np.arange(0, 1.5, 0.02)
    paths = [Path(1, t, 60 * t, 0 * t, "a", "")]
    calibrated, pixels = origin_plot(paths, Scale(0.5, 0.5, "µm")), origin_plot(paths, Scale(1, 1, "px"))
    assert calibrated is not None
    assert pixels is not None
    assert calibrated[0].count("limit-ring") == 2
    assert "limit-ring" not in pixels[0]


def test_timing_is_measured_from_analysed_frames_only():
    t_ns = np.round(np.arange(101) * 1e9 / 50).astype(np.int64)
    status = np.where(np.arange(101) % 2 == 0, "processed", "skipped")
    timing = measure_timing({"t_ns": t_ns, "status": status})
    assert timing.fps_hz == pytest.approx(25)
    assert timing.duration_s == pytest.approx(2.0)
    assert timing.uneven_percent == pytest.approx(0, abs=1e-6)
    shaken = t_ns + np.where(np.arange(101) % 8 == 0, 8_000_000, 0)
    assert measure_timing({"t_ns": shaken, "status": status}).uneven_percent > 15


def test_the_picture_with_most_tracks_is_chosen():
    frame = np.concatenate([np.arange(100), np.arange(50, 100)])
    ids = np.repeat([1, 2], [100, 50])
    table = table_of(frame, ids, frame * 1.0)
    assert choose_picture([0, 500_000_000, 1_500_000_000], table) == 2
    assert choose_picture([0], table_of(np.empty(0, int), np.empty(0, int), np.empty(0))) == 0


def test_labels_of_crowded_boxes_do_not_cover_each_other():
    taken: list[tuple[float, float, float, float]] = []
    for shift in (0.0, 10.0, 25.0):
        _label_place((3000 + shift, 3000.0, 200.0, 200.0), 4, 1.0, (6400.0, 4800.0), taken)
    _label_place((6250.0, 0.0, 200.0, 200.0), 4, 1.0, (6400.0, 4800.0), taken)
    for i, (x, y, w, h) in enumerate(taken):
        assert x >= 0
        assert y >= 0
        assert x + w <= 6400
        for bx, by, bw, bh in taken[:i]:
            assert x + w < bx or bx + bw < x or y + h < by or by + bh < y


def test_deep_gray_pictures_are_stretched_and_encoded():
    image = np.linspace(1000, 3000, 64 * 48).reshape(48, 64).astype(np.uint16)
    eight = to_eight_bit(image)
    assert (eight.min(), eight.max()) == (0, 255)
    import base64

    import cv2

    data = base64.b64decode(jpeg_data_uri(image).split(",")[1])
    back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert back is not None
    assert np.abs(back.astype(int) - eight.astype(int)).mean() < 3


def test_what_tracking_left_out_is_told_with_the_frames():
    def told(tracking: dict[str, int] | None) -> list[str]:
        items = frames_group(FrameAccount(5, 5), None, tracking).items
        return [item.value for item in items if "tracking" in item.label]

    assert told(None) == ["not known"]
    assert told({"frames": 5, "bad_boxes": 0}) == ["nothing"]
    assert told({"frames": 5, "bad_boxes": 1200, "refused_frames": 2}) == [
        "1,200 detections that were no boxes, 2 frames refused for their time"
    ]
