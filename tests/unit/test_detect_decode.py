import time

import numpy as np
import plain_decode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casa.detect.decode import decode, nms


def random_boxes(rng: np.random.Generator, n: int, field_px: float = 200.0) -> tuple[np.ndarray, np.ndarray]:
    low = rng.uniform(0, field_px, (n, 2))
    xyxy = np.concatenate([low, low + rng.uniform(1, 40, (n, 2))], axis=1).astype(np.float32)
    # Scores on a coarse grid would tie, and the order of ties is nobody's promise.
    return xyxy, rng.permutation(np.linspace(0.01, 0.99, n)).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 700), st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]))
def test_nms_keeps_what_torchvision_keeps(seed: int, n: int, iou: float):
    torch = pytest.importorskip("torch")
    from torchvision.ops import nms as reference

    xyxy, confidence = random_boxes(np.random.default_rng(seed), n)
    expected = reference(torch.from_numpy(xyxy), torch.from_numpy(confidence), iou).numpy()
    assert nms(xyxy, confidence, iou).tolist() == expected.tolist()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 300))
def test_nms_by_class_is_nms_of_each_class(seed: int, n: int):
    rng = np.random.default_rng(seed)
    xyxy, confidence = random_boxes(rng, n, field_px=80.0)
    class_id = rng.integers(0, 3, n)
    each = [np.flatnonzero(class_id == k) for k in range(3)]
    expected = sorted(int(i) for rows in each for i in rows[nms(xyxy[rows], confidence[rows], 0.4)])
    assert sorted(nms(xyxy, confidence, 0.4, class_id).tolist()) == expected


def test_nms_of_nothing_is_nothing():
    assert len(nms(np.empty((0, 4), np.float32), np.empty(0, np.float32), 0.5)) == 0


def test_boxes_without_area_overlap_nothing():
    point = np.array([[5, 5, 5, 5], [5, 5, 5, 5]], np.float32)
    assert nms(point, np.array([0.9, 0.8], np.float32), 0.5).tolist() == [0, 1]


def test_nms_of_5000_candidates_is_not_a_matrix_of_25_million():
    xyxy, confidence = random_boxes(np.random.default_rng(0), 5000, field_px=1500.0)
    nms(xyxy, confidence, 0.5)
    started = time.process_time()
    kept = nms(xyxy, confidence, 0.5)
    assert len(kept) > 3000
    assert time.process_time() - started < 2.0  # 0.3 s on a free core; the matrix alone takes longer


def one_hot_distances(rows: int, columns: int, bins: int, reach_cells: tuple[int, int, int, int]) -> np.ndarray:
    distances = np.full((rows, columns, 4, bins), -30, np.float32)
    for side, cells in enumerate(reach_cells):
        distances[..., side, cells] = 30
    return distances.reshape(rows, columns, 4 * bins)


def test_a_cell_decodes_to_its_centre_and_its_four_reaches():
    logits = np.full((6, 9, 1), -20, np.float32)
    logits[4, 7, 0] = 0.0
    xyxy, confidence, class_id = decode(one_hot_distances(6, 9, 8, (1, 2, 3, 4)), logits, 8, 0.25)
    np.testing.assert_allclose(xyxy, [[(7.5 - 1) * 8, (4.5 - 2) * 8, (7.5 + 3) * 8, (4.5 + 4) * 8]], atol=1e-4)
    np.testing.assert_allclose(confidence, [0.5])
    assert class_id.tolist() == [0]


def test_a_distribution_decodes_to_its_mean():
    distances = np.zeros((1, 1, 4 * 8), np.float32)  # uniform over 0..7
    xyxy, _, _ = decode(distances, np.full((1, 1, 1), 3, np.float32), 8, 0.5)
    np.testing.assert_allclose(xyxy, [[4 - 28, 4 - 28, 4 + 28, 4 + 28]], atol=1e-4)


@pytest.mark.parametrize("confidence", [0.0, 0.05, 0.5, 0.9, 1.0])
def test_the_threshold_is_on_the_confidence_and_the_best_come_first(confidence: float):
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (20, 30, 2)).astype(np.float32)
    _, scores, class_id = decode(rng.normal(size=(20, 30, 16)).astype(np.float32), logits, 8, confidence)
    everywhere = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert len(scores) == (everywhere.max(axis=2) >= confidence).sum()
    assert (np.diff(scores) <= 0).all()
    best = np.argsort(-everywhere.max(axis=2).ravel())[: len(scores)]
    assert class_id.tolist() == everywhere.reshape(-1, 2)[best].argmax(axis=1).tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from([4, 8, 16]), st.floats(0.0, 1.0))
def test_the_loops_give_what_plain_numpy_gives(seed: int, n_classes: int, bins: int, confidence: float):
    rng = np.random.default_rng(seed)
    logits = rng.normal(-2, 3, (11, 13, n_classes)).astype(np.float32)
    if seed % 3 == 0:
        logits = np.round(logits)  # equal scores keep the order of their cells
    distances = rng.normal(0, 2, (11, 13, 4 * bins)).astype(np.float32)
    xyxy, scores, class_id = decode(distances, logits, 8, confidence)
    plain_xyxy, plain_scores, plain_class_id = plain_decode.decode(distances, logits, 8, confidence)
    np.testing.assert_allclose(xyxy, plain_xyxy, atol=1e-3)
    np.testing.assert_array_equal(scores, plain_scores)
    np.testing.assert_array_equal(class_id, plain_class_id)
    for iou in (0.2, 0.6):
        for classes in (None, class_id):
            np.testing.assert_array_equal(
                nms(plain_xyxy, scores, iou, classes), plain_decode.nms(plain_xyxy, scores, iou, classes)
            )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (4, 6, 1)])
def test_a_score_that_is_no_number_is_not_no_sperm(bad: float, place: tuple[int, int, int]):
    logits = np.full((5, 7, 2), -20, np.float32)
    logits[place] = bad
    with pytest.raises(FloatingPointError, match="no finite number"):
        decode(np.zeros((5, 7, 16), np.float32), logits, 8, 0.5)


def test_a_box_that_is_no_number_is_not_one_either():
    logits, distances = np.full((5, 7, 1), -20, np.float32), np.zeros((5, 7, 16), np.float32)
    logits[2, 2], distances[1, 1], distances[2, 2, 5] = 3, np.nan, np.nan
    with pytest.raises(FloatingPointError, match="no finite number"):
        decode(distances, logits, 8, 0.5)
    logits[2, 2] = -20
    assert len(decode(distances, logits, 8, 0.5)[0]) == 0


def test_maps_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ValueError, match="expected distances"):
        decode(np.zeros((5, 6, 16), np.float32), np.zeros((5, 7, 1), np.float32), 8, 0.5)
