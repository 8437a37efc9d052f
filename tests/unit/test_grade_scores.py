"""Scores of grade distributions: the paper's measures, their intervals, and the folds they are taken on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import distance as scipy_distance
from sklearn.metrics import balanced_accuracy_score

from casa.errors import InputError
from casa.grade.folds import grouped_folds, inner_split
from casa.grade.scores import (
    SCORES,
    balanced_accuracy,
    bootstrap_intervals,
    grades_by_votes,
    js_divergences,
    kruskal_wallis,
    paired_difference,
    prior,
    scores,
    share_of_way,
)

JENSEN_SHANNON: Any = scipy_distance.jensenshannon  # its stub does not know axis


def panel(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet([2, 4, 6, 1, 0.5], n)


def test_grades_are_ranked_from_the_most_votes_down():
    # An ascending sort of indices, as in the authors' program, would call D the first grade here.
    votes = np.array([[10, 25, 4, 1, 0], [0, 0, 20, 20, 0]]) / 40
    assert grades_by_votes(votes).tolist() == [[1, 0, 2, 3, 4], [2, 3, 0, 1, 4]]


def test_balanced_accuracy_is_sklearns():
    rng = np.random.default_rng(0)
    true, found = rng.integers(4, size=200), rng.integers(5, size=200)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected = balanced_accuracy_score(true, found)
    assert balanced_accuracy(found, true) == pytest.approx(expected)


def test_guessing_the_commonest_grade_is_no_better_than_chance():
    true = np.array([2] * 90 + [0] * 10)
    assert balanced_accuracy(np.full(100, 2), true) == 0.5


def test_divergence_is_scipys():
    found, true = panel(20, 1), panel(20, 2)
    true[0] = [0, 0, 1, 0, 0]
    np.testing.assert_allclose(js_divergences(found, true), JENSEN_SHANNON(found, true, axis=1) ** 2)


def test_perfect_predictions_score_perfectly():
    true = panel(50, 3)
    found = scores(true, true)
    assert found["mse"] == 0
    assert found["js"] == 0
    assert all(found[name] == 1 for name in SCORES[2:])


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (np.full((3, 5), 0.2), "3 predicted distributions, 2 true ones"),
        (np.full((2, 4), 0.25), r"expected \(clips, 5\) with at least one clip, got \(2, 4\)"),
        (np.array([[0.2] * 5, [np.nan] * 5]), "distribution of clip 2"),
        (np.array([[0.2] * 5, [0.5] * 5]), "distribution of clip 2"),
        (np.empty((0, 5)), "at least one clip"),
    ],
)
def test_what_is_no_distribution_is_refused(found: np.ndarray, message: str):
    with pytest.raises(InputError, match=message):
        scores(found, np.full((2, 5), 0.2))


def test_intervals_hold_the_score_and_shrink_with_more_clips():
    few, many = (bootstrap_intervals(panel(n, 4), panel(n, 5), n_samples=200) for n in (40, 640))
    of_all = scores(panel(640, 4), panel(640, 5))
    for name in SCORES:
        assert many[name][0] <= of_all[name] <= many[name][1]
    assert np.diff(many["mse"]) < 0.5 * np.diff(few["mse"])


def test_intervals_of_several_runs_are_of_their_mean():
    true, runs = panel(60, 6), [panel(60, 7), panel(60, 8)]
    low, high = bootstrap_intervals(runs, true, n_samples=200)["mse"]
    assert low < np.mean([scores(run, true)["mse"] for run in runs]) < high


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(9)
    held = []
    for _ in range(200):
        _, low, high = paired_difference(rng.normal(0.3, 1, 80), np.zeros(80), n_samples=400)
        held.append(low < 0.3 < high)
    assert 0.88 < np.mean(held) < 0.99


def test_the_way_from_prior_to_a_fresh_panel():
    true = panel(100, 10)
    np.testing.assert_allclose(prior(true), true.mean(axis=0))
    assert share_of_way(0.02, prior_mse=0.02, floor_mse=0.004) == 0
    assert share_of_way(0.004, prior_mse=0.02, floor_mse=0.004) == 1


def test_kruskal_wallis_tells_models_apart_and_only_those():
    same = [1.0, 1.1, 1.2, 1.3, 1.4]
    result = kruskal_wallis({"a": same, "b": [2.0, 2.1, 2.2, 2.3, 2.4], "c": same})
    assert result.p < 0.05
    assert result.pairs["a", "b"] < 0.05 < result.pairs["a", "c"]
    assert kruskal_wallis({"a": [1.0, 1.0], "b": [1.0, 1.0]}).p == 1
    with pytest.raises(InputError, match="two models or more"):
        kruskal_wallis({"a": [1.0, 2.0]})


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(0, 1000))
def test_folds_part_clips_and_keep_groups_whole(n_folds: int, seed: int):
    rng = np.random.default_rng(seed)
    grades, groups = rng.integers(5, size=90), rng.integers(30, size=90)
    folds = grouped_folds(grades, groups, n_folds, seed)
    assert sorted(np.concatenate([fold.test for fold in folds]).tolist()) == list(range(90))
    for fold in folds:
        assert sorted([*fold.train, *fold.test]) == list(range(90))
        assert not set(groups[fold.train]) & set(groups[fold.test])


def test_folds_have_their_share_of_each_grade():
    grades = np.repeat(np.arange(5), [45, 194, 356, 9, 11])  # the paper's Table 1
    for fold in grouped_folds(grades, np.arange(615), 5, seed=0):
        assert len(fold.test) == 123
        counts = np.bincount(grades[fold.test], minlength=5)
        assert (np.abs(counts - [9, 38.8, 71.2, 1.8, 2.2]) <= 1).all()


def test_more_folds_than_groups_are_refused():
    with pytest.raises(InputError, match="5 folds of 3 groups"):
        grouped_folds(np.zeros(9, int), np.repeat([0, 1, 2], 3), 5, seed=0)


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 0.5))
def test_what_chooses_an_epoch_is_apart_from_what_is_learned(seed: int, share: float):
    groups = np.repeat(np.arange(40), 3)
    train = np.arange(30, 120)
    learned, aside = inner_split(train, groups, share, seed)
    assert sorted([*learned, *aside]) == train.tolist()
    assert not set(groups[learned]) & set(groups[aside])
    assert share * 90 <= len(aside) <= share * 90 + 3


def test_one_group_cannot_be_split():
    with pytest.raises(InputError, match="one group"):
        inner_split(np.arange(5), np.zeros(5, int), 0.2, seed=0)
