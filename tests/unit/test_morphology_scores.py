"""Figures of classified heads against scikit-learn and by hand; temperatures, thresholds, costs; ensembles; folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from casa.errors import InputError
from casa.morphology.deep_features import FeatureClassifier, fit_features
from casa.morphology.ensemble import Groups, mean_of, two_stage
from casa.morphology.judge import common_classes, relabelled, stratified_folds
from casa.morphology.probabilities import decide, fit_temperature, fit_threshold, negative_log_likelihood, softmax
from casa.morphology.scores import classification_scores, paired_gain, reliability

NAMES = ("normal", "tapered", "pyriform")


def made_up(n: int = 200, seed: int = 0, sharp: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the truth, times ``sharp``; and labels drawn from that truth."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, 3))
    p = softmax(logits)
    labels = np.array([rng.choice(3, p=row) for row in p])
    return logits * sharp, labels


def test_figures_are_those_of_scikit_learn() -> None:
    logits, labels = made_up()
    p = softmax(logits)
    said = p.argmax(axis=1)
    found = classification_scores(p, labels, NAMES)
    assert found["accuracy"] == pytest.approx(100 * metrics.accuracy_score(labels, said))
    assert found["balanced_accuracy"] == pytest.approx(100 * metrics.balanced_accuracy_score(labels, said))
    assert found["f1"] == pytest.approx(100 * metrics.f1_score(labels, said, average="macro"))
    assert found["precision"] == pytest.approx(100 * metrics.precision_score(labels, said, average="macro"))
    assert found["confusion"] == metrics.confusion_matrix(labels, said).tolist()
    low, high = found["accuracy_95"]
    assert low < found["accuracy"] < high


def test_what_was_abstained_from_or_not_labelled_is_counted_and_judged_by_no_other_figure() -> None:
    p = np.array([[0.9, 0.1], [0.55, 0.45], [0.2, 0.8], [0.6, 0.4]])
    labels = np.array([0, 1, 1, -1])
    found = classification_scores(p, labels, ("a", "b"), decide(p, abstain_below=0.6))
    assert (found["n"], found["abstained"], found["accuracy"]) == (2, 1, 100.0)
    nobody = classification_scores(p, labels, ("a", "b"), decide(p, abstain_below=0.95))
    assert (nobody["n"], nobody["accuracy"], nobody["accuracy_95"]) == (0, None, None)


def test_a_crop_without_a_head_says_nothing_about_calibration() -> None:
    logits, labels = made_up(50)
    p = softmax(logits)
    said = p.argmax(axis=1)
    with_blank = classification_scores(np.vstack([p, [[np.nan] * 3]]), np.append(labels, 0), NAMES, np.append(said, -1))
    assert with_blank == classification_scores(p, labels, NAMES, said) | {"abstained": 1}
    assert classification_scores(np.full((1, 3), np.nan), np.zeros(1, int), NAMES, np.array([-1]))["ece"] is None


def test_a_class_never_decided_on_has_no_precision_and_counts_as_nothing() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2]])
    found = classification_scores(p, np.array([0, 1]), ("a", "b"))
    assert found["per_class"]["b"]["precision"] is None
    assert found["precision"] == pytest.approx(25.0)
    assert found["balanced_accuracy"] == 50.0


def test_without_labels_there_is_nothing_to_judge_by() -> None:
    with pytest.raises(InputError, match="no crop has a label"):
        classification_scores(np.ones((2, 2)) / 2, np.array([-1, -1]), ("a", "b"))


def test_calibration_error_by_hand() -> None:
    p = np.array([[0.95, 0.05]] * 10 + [[0.3, 0.7]] * 10)
    labels = np.array([0] * 8 + [1] * 2 + [1] * 7 + [0] * 3)
    found = reliability(p, labels)
    assert found["ece"] == pytest.approx(100 * (0.5 * 0.15 + 0.5 * 0.0))
    assert [row["n"] for row in found["reliability"]] == [10, 10]


def test_the_temperature_that_was_taken_away_is_found_again() -> None:
    logits, labels = made_up(4000, sharp=3.0)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(3.0, rel=0.1)
    assert negative_log_likelihood(logits, labels, temperature) < negative_log_likelihood(logits, labels)
    assert fit_temperature(logits[:0], labels[:0]) == 1.0


@given(st.lists(st.lists(st.floats(-20, 20), min_size=3, max_size=3), min_size=1, max_size=8), st.floats(0.1, 10))
@settings(max_examples=50, deadline=None)
def test_probabilities_add_up_and_keep_their_order_at_any_temperature(
    rows: list[list[float]], temperature: float
) -> None:
    logits = np.array(rows)
    p = softmax(logits, temperature)
    assert p.sum(axis=1) == pytest.approx(np.ones(len(rows)))
    best = np.take_along_axis(p, logits.argmax(axis=1)[:, None], 1)[:, 0]
    assert (best >= p.max(axis=1) - 1e-12).all()


def test_thresholds_move_a_decision_and_costs_weigh_it() -> None:
    p = np.array([[0.7, 0.3], [0.9, 0.1]])
    assert decide(p).tolist() == [0, 0]
    assert decide(p, thresholds=np.array([0.8, 0.2])).tolist() == [1, 0]
    missed_is_worse = np.array([[0.0, 1.0], [5.0, 0.0]])
    assert decide(p, costs=missed_is_worse).tolist() == [1, 0]
    with pytest.raises(InputError, match="thresholds or costs"):
        decide(p, np.ones(2), np.ones((2, 2)))
    with pytest.raises(InputError, match="2 x 2"):
        decide(p, costs=np.ones((3, 3)))


def test_threshold_moving_serves_its_aim() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(2000) < 0.1).astype(np.int64)
    p = 1 / (1 + np.exp(-(rng.normal(0, 1, 2000) + 2.5 * labels - 3.2)))
    threshold = fit_threshold(p, labels)

    def balanced(at: float) -> float:
        return float(metrics.balanced_accuracy_score(labels, p >= at))

    assert balanced(threshold) > balanced(0.5) + 0.1
    assert balanced(threshold) == pytest.approx(max(balanced(t) for t in np.unique(p)), abs=1e-9)
    with pytest.raises(InputError, match="both classes"):
        fit_threshold(p, np.zeros(2000, np.int64))


def test_the_gain_over_pairs_has_students_interval() -> None:
    found = paired_gain([1.0, 2.0, 3.0, 2.0, 2.0])
    assert found["mean"] == 2.0
    assert (found["low"], found["high"]) == pytest.approx((2 - 0.878, 2 + 0.878), abs=1e-3)
    assert paired_gain([1.0])["low"] is None


# Ensembles


def test_two_stages_multiply_and_hard_ones_trust_the_splitter() -> None:
    groups = Groups(((0,), (1, 2)))
    images = np.zeros((2, 4, 4), np.uint8)
    splitter = lambda x: np.tile([0.4, 0.6], (len(x), 1))  # noqa: E731
    specialist = lambda x: np.tile([0.75, 0.25], (len(x), 1))  # noqa: E731
    p = two_stage(splitter, [None, specialist], groups)(images)
    assert p == pytest.approx(np.tile([0.4, 0.45, 0.15], (2, 1)))
    hard = two_stage(splitter, [None, specialist], groups, hard=True)(images)
    assert hard == pytest.approx(np.tile([0.0, 0.75, 0.25], (2, 1)))
    with pytest.raises(InputError, match="group 1 of 2 classes has no specialist"):
        two_stage(splitter, [None, None], groups)


def test_labels_of_the_two_stages() -> None:
    groups = Groups(((0, 3), (1, 2)))
    labels = np.array([0, 1, 2, 3, -1])
    assert groups.group_labels(labels).tolist() == [0, 1, 1, 0, -1]
    assert groups.inner_labels(labels, 0).tolist() == [0, -1, -1, 1, -1]
    with pytest.raises(InputError, match="exactly one group"):
        Groups(((0, 1), (1, 2)))


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    one, other = (lambda x: np.full((len(x), 2), 0.2)), (lambda x: np.full((len(x), 2), 0.6))
    assert mean_of([one, other])(np.zeros((1, 4, 4), np.uint8)) == pytest.approx(np.full((1, 2), 0.4))
    with pytest.raises(InputError):
        mean_of([])


# Deep features


def test_support_vector_machines_kept_as_arrays_decide_as_scikit_learns(tmp_path: Path) -> None:
    from sklearn.decomposition import PCA
    from sklearn.svm import SVC

    rng = np.random.default_rng(1)
    centres = rng.normal(0, 2, (3, 20))
    labels = rng.integers(0, 3, 120)
    features = centres[labels] + rng.normal(0, 1.5, (120, 20))
    fitted = fit_features(features, labels, 3, components=8)
    fitted.save(tmp_path / "svm.npz")
    again = FeatureClassifier.load(tmp_path / "svm.npz")
    unseen_labels = rng.integers(0, 3, 60)
    unseen = centres[unseen_labels] + rng.normal(0, 1.5, (60, 20))

    scaled = (features - features.mean(0)) / (features.std(0) + 1e-9)
    pca = PCA(8, svd_solver="full").fit(scaled)
    z = pca.transform(scaled)
    rest = pca.transform((unseen - features.mean(0)) / (features.std(0) + 1e-9))
    for k in range(3):
        machine = SVC(C=10.0, gamma=1 / (8 * z.var()), class_weight="balanced").fit(z, labels == k)
        assert again.decision(unseen)[:, k] == pytest.approx(machine.decision_function(rest), abs=1e-6)
    p = again.probabilities(unseen)
    assert p.sum(axis=1) == pytest.approx(np.ones(60))
    assert (p.argmax(axis=1) == unseen_labels).mean() > 0.8


def test_a_file_that_is_no_feature_classifier_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a feature classifier"):
        FeatureClassifier.load(tmp_path / "x.npz")
    with pytest.raises(InputError, match="class 1 has 1 labelled"):
        fit_features(np.zeros((3, 2)), np.array([0, 0, 1]), 2)


# Folds and sets


def test_folds_spread_classes_evenly_and_keep_groups_together() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    folds = stratified_folds(labels, 5, 0)
    for fold in range(5):
        assert np.bincount(labels[folds == fold]).tolist() == [10, 6, 4]
    groups = [f"man {k // 4}" for k in range(100)]
    grouped = stratified_folds(labels, 5, 0, groups)
    for group in set(groups):
        assert len({int(grouped[k]) for k in range(100) if groups[k] == group}) == 1
    with pytest.raises(InputError, match="rarest class"):
        stratified_folds(np.array([0, 0, 0, 1]), 3, 0)


def test_sets_are_compared_on_the_classes_they_share() -> None:
    shared = common_classes([("normal", "tapered", "small"), ("tapered", "normal")])
    assert shared == ("normal", "tapered")
    assert relabelled(np.array([0, 1, -1]), ("tapered", "normal"), shared).tolist() == [1, 0, -1]
    with pytest.raises(InputError, match="share 1 classes"):
        common_classes([("normal", "x"), ("normal", "y")])
