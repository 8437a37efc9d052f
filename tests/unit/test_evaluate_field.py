"""Found tracks paired with cells, and errors of speeds and grades, on fields whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from casa.bench.field import truth_over
from casa.config import KinematicsConfig
from casa.evaluate.field import error_figures, field_scores, grade_agreement, localisation_px, match_tracks
from casa.kinematics import analyse_tracks
from casa.simulate.scene import Scene, SceneConfig
from casa.types import KinematicsTable, TrackTable


def track_table(rows: list[tuple[int, int, float, float]], predicted: tuple[int, ...] = ()) -> TrackTable:
    """Rows of frame, track id, x, y; the rows numbered in ``predicted`` were not measured."""
    data = np.array(rows, dtype=float).reshape(-1, 4)
    n = len(data)
    guessed = np.isin(np.arange(n), predicted)
    return TrackTable(
        frame=data[:, 0], field=np.zeros(n), t_ns=data[:, 0] * 20_000_000, track_id=data[:, 1], cx_px=data[:, 2],
        cy_px=data[:, 3], w_px=np.full(n, 12.0), h_px=np.full(n, 12.0),
        x_measured_px=np.where(guessed, np.nan, data[:, 2]), y_measured_px=np.where(guessed, np.nan, data[:, 3]),
        confidence=np.ones(n), predicted=guessed,
    )  # fmt: skip


TWO_CELLS = track_table([(f, cell, 100.0 * cell, 50.0 + f) for f in range(20) for cell in (1, 2)])


def test_a_track_belongs_to_the_cell_it_follows_longest():
    rows = [(f, 7, 100.0 + 1, 50.0 + f) for f in range(15)] + [(f, 7, 200.0, 50.0 + f) for f in range(15, 20)]
    rows += [(f, 8, 200.0, 49.0 + f) for f in range(15)]
    rows += [(f, 9, 400.0, 400.0) for f in range(20)]
    matches = match_tracks(TWO_CELLS, track_table(rows), match_px=5)
    assert matches.found_id.tolist() == [7, 8, 9]
    assert matches.truth_id.tolist() == [1, 2, -1]
    np.testing.assert_allclose(matches.purity, [0.75, 1.0, 0.0])
    assert (matches.first_frame.tolist(), matches.last_frame.tolist()) == ([0, 0, 0], [19, 14, 19])


def test_predicted_rows_take_no_part_and_two_tracks_do_not_share_a_head():
    rows = [(f, 1, 100.0, 50.0 + f) for f in range(10)]
    assert match_tracks(TWO_CELLS, track_table(rows, predicted=(8, 9)), 5).last_frame.tolist() == [7]
    doubled = rows + [(f, 2, 104.0, 50.0 + f) for f in range(10)]
    assert match_tracks(TWO_CELLS, track_table(doubled), 5).truth_id.tolist() == [1, -1]
    assert len(match_tracks(TWO_CELLS, track_table([]), 5).found_id) == 0


def test_error_figures_of_known_numbers():
    found, true = np.array([110.0, 95.0, 100.0, np.nan]), np.full(4, 100.0)
    figures = error_figures(found, true, np.array([1.0, 1.0, 2.0, 9.0]), relative=True)
    assert figures["n"] == 3
    assert figures["mean_percent"] == pytest.approx(1.25)
    assert figures["bias_percent"] == pytest.approx(0.0)
    assert figures["median_percent"] == pytest.approx(5.0)
    assert error_figures(found, true, np.ones(4), relative=False)["median_um_s"] == pytest.approx(5.0)
    assert error_figures(found[3:], true[3:], np.ones(1), relative=True) == {"n": 0}


def test_localisation_is_parted_into_what_jitter_correction_can_and_cannot_take_out():
    random = np.random.default_rng(2)
    rows = [(f, cell, 1000.0 * cell, 50.0 + f) for f in range(400) for cell in range(1, 9)]
    truth = track_table(rows)
    cell = truth.track_id
    swing = 1.5 * np.sin(2 * np.pi * truth.frame / 100.0)
    x = truth.cx_px + 0.8 + np.where(cell % 2, 0.5, -0.5) + swing + random.normal(0, 0.4, len(cell))
    x[:40] += 100
    y = truth.cy_px + random.normal(0, 0.4, len(cell))
    found = TrackTable(**(truth.columns() | {"x_measured_px": x, "y_measured_px": y}))
    figures = localisation_px(truth, found, match_tracks(truth, found, 7.5), 7.5)
    assert figures["offset_x_px"] == pytest.approx(0.8, abs=0.05)
    assert figures["between_cells_px"] == pytest.approx(0.5 / np.sqrt(2), abs=0.03)
    assert figures["white_px"] == pytest.approx(0.4, abs=0.03)
    assert figures["wander_px"] == pytest.approx(1.5 / 2, abs=0.05)  # of a sine in one of two axes
    assert figures["astray_percent"] == pytest.approx(100 * 40 / 3200)


def small_scene(**changes: object) -> Scene:
    return Scene(SceneConfig(width_px=300, height_px=240, n_frames=150, cells_per_frame=8.0, dots=0, **changes), 3)  # type: ignore[arg-type]


def measured(scene: Scene, tracks: TrackTable) -> KinematicsTable:
    return analyse_tracks(tracks, KinematicsConfig(jitter_px=0.0), scene.calibration())[0]


def scores_of(scene: Scene, tracks: TrackTable, kinematics: KinematicsTable) -> dict:
    return field_scores(scene.truth(), truth_over(scene), tracks, kinematics, match_px=7.5)


def test_true_tracks_have_the_true_kinematics():
    scene = small_scene()
    truth = scene.truth()
    scores = scores_of(scene, truth, measured(scene, truth))
    assert scores["tracks"]["judged"] >= 4
    assert scores["tracks"]["of_no_cell"] == scores["tracks"]["of_several_cells"] == 0
    assert scores["tracks"]["time_covered_percent"] > 80
    assert scores["errors"]["vsl"]["median_percent"] < 0.5
    assert scores["errors"]["vap"]["median_percent"] < 5
    assert scores["errors"]["vcl_from_40"]["median_percent"] < 0.5
    assert scores["grades"]["right_percent"] > 95


def test_tracks_cut_in_two_are_judged_over_their_own_span():
    scene = small_scene()
    truth = scene.truth()
    halves = TrackTable(**(truth.columns() | {"track_id": 2 * truth.track_id + (truth.frame >= 75)}))
    scores = scores_of(scene, halves, measured(scene, halves))
    assert scores["tracks"]["found"] > scores["tracks"]["true"]
    assert scores["errors"]["vsl"]["median_percent"] < 0.5


def test_a_wrong_scale_shows_as_an_error_of_all_speeds():
    scene = small_scene()
    truth = scene.truth()
    right = measured(scene, truth)
    wrong = KinematicsTable(
        **(right.columns() | {name: getattr(right, name) * 1.1 for name in ("vcl_um_s", "vsl_um_s", "vap_um_s")})
    )
    errors = scores_of(scene, truth, wrong)["errors"]
    assert errors["vsl"]["mean_percent"] == pytest.approx(10, abs=0.5)
    assert errors["vcl_from_40"]["bias_percent"] == pytest.approx(10, abs=0.5)


def test_debris_counts_as_a_track_of_no_cell():
    scene = small_scene()
    truth = scene.truth()
    still = track_table([(f, 999, 2.0, 2.0) for f in range(150)])
    both = TrackTable.concatenate([truth, still])
    scores = scores_of(scene, both, measured(scene, both))
    assert scores["tracks"]["of_no_cell"] == 1
    assert scores["tracks"]["of_no_cell_time_percent"] > 3
    assert scores["motility_percent"]["found"]["d"] > scores["motility_percent"]["true"]["d"]


def with_grades(seconds: list[list[float]]) -> KinematicsTable:
    scene = small_scene()
    rows = measured(scene, scene.truth()).select(slice(0, len(seconds)))
    return KinematicsTable(**(rows.columns() | {"time_by_grade_s": np.array(seconds)}))


def test_grades_agree_by_the_time_they_share():
    true = with_grades([[2, 0, 0, 0], [0, 2, 0, 2], [0, 0, 0, 4]])
    found = with_grades([[2, 0, 0, 0], [0, 3, 0, 1], [0, 0, 2, 0]])
    agreement = grade_agreement(found, true)
    assert agreement["graded_s"] == pytest.approx(8)
    assert agreement["right_percent"] == pytest.approx(100 * (2 + 3 + 0) / 8)
    assert agreement["confusion_s"]["d"] == pytest.approx({"a": 0, "b": 1, "c": 2, "d": 1})
    assert np.isnan(grade_agreement(with_grades([[0, 0, 0, 0]]), with_grades([[1, 0, 0, 0]]))["right_percent"])
