"""From the head's raw maps to boxes: DFL decoding of the cells above the threshold, and greedy NMS.

Shared by all backends. Plain loops, compiled (docs/decisions/007-numba.md); tests/support/plain_decode.py is the same
in NumPy.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from casa.kernels import kernel

#: More cells than this above the threshold are not sperm but a network gone wrong: the best are kept.
MAX_CANDIDATES = 5000

_TINY = np.finfo(np.float32).tiny


def decode(
    distances: NDArray[np.float32], logits: NDArray[np.float32], stride_px: int, confidence: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Boxes of the cells whose best class is at least ``confidence``, best first.

    Parameters
    ----------
    distances : (rows, columns, 4 * bins), logits over the distance in cells to left, top, right, bottom
        (Distribution Focal Loss, arXiv:2006.04388).
    logits : (rows, columns, classes).

    Returns
    -------
    xyxy (n, 4) float32 in network px, confidence (n,) float32, class_id (n,) int64.

    Raises
    ------
    FloatingPointError : a logit, or a box, is no finite number.
    """
    rows, columns, n_classes = logits.shape
    if distances.shape[:2] != (rows, columns) or distances.shape[2] % 4:
        raise ValueError(f"expected distances of ({rows}, {columns}, 4 * bins), got {distances.shape}")
    cells, best, class_id = _cells_above(logits.reshape(-1, n_classes), _as_logit(confidence))
    order = np.argsort(-best, kind="stable")[:MAX_CANDIDATES]
    xyxy, score, finite = _boxes_of(distances.reshape(rows * columns, -1), cells, best, order, columns, stride_px)
    if not finite:
        raise FloatingPointError("the network's output holds what is no finite number")
    return xyxy, score, class_id[order]


def nms(
    xyxy: NDArray[np.float32],
    confidence: NDArray[np.float32],
    iou: float,
    class_id: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Indices of the boxes that greedy non-maximum suppression keeps, best first.

    A box goes if it overlaps a kept, better one by more than ``iou``; of the same class only, where
    ``class_id`` is given.
    """
    order = np.argsort(-confidence, kind="stable")
    classes = np.zeros(len(order), np.int64) if class_id is None else class_id
    return _suppress(xyxy, classes, order, np.float32(iou))


def warm_up() -> None:
    """Compile, or load, the loops."""
    distances, logits = np.zeros((1, 2, 8), np.float32), np.zeros((1, 2, 1), np.float32)
    xyxy, confidence, class_id = decode(distances, logits, 8, 0.5)
    nms(xyxy, confidence, 0.5, class_id)


def _as_logit(confidence: float) -> np.float32:
    """The least float32 logit of at least this confidence: so the sigmoid is taken of a few cells instead of all."""
    if confidence <= 0 or confidence >= 1:
        return np.float32(np.inf if confidence >= 1 else -np.inf)
    exact = math.log(confidence / (1 - confidence))
    rounded = np.float32(exact)
    return rounded if rounded >= exact else np.nextafter(rounded, np.float32(np.inf))


@kernel
def _cells_above(
    logits: NDArray[np.float32], bound: np.float32
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Cells of (cells, classes) whose best class reaches ``bound``, its logit and its number; NaN counts as +inf."""
    n_cells, n_classes = logits.shape
    count = 0
    for cell in range(n_cells):
        for k in range(n_classes):
            count += not logits[cell, k] < bound
    cells, best, class_id = np.empty(count, np.int64), np.empty(count, np.float32), np.empty(count, np.int64)
    count = 0
    for cell in range(n_cells):
        for k in range(n_classes):
            value = logits[cell, k]
            if value < bound:
                continue
            if value != value:
                value = np.float32(np.inf)
            if count and cells[count - 1] == cell:
                if value > best[count - 1]:
                    best[count - 1], class_id[count - 1] = value, k
            else:
                cells[count], best[count], class_id[count] = cell, value, k
                count += 1
    return cells[:count], best[:count], class_id[:count]


@kernel
def _boxes_of(
    distances: NDArray[np.float32],
    cells: NDArray[np.int64],
    best: NDArray[np.float32],
    order: NDArray[np.int64],
    columns: int,
    stride_px: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32], bool]:
    """(n, 4) boxes and (n,) confidence of cells in ``order``, and whether all are finite.

    Each side lies at the mean of its softmax over the bins (arXiv:2006.04388, eq. 3).
    """
    bins = distances.shape[1] // 4
    xyxy, score = np.empty((len(order), 4), np.float32), np.empty(len(order), np.float32)
    finite = True
    for i in range(len(order)):
        cell = cells[order[i]]
        score[i] = 1.0 / (1.0 + math.exp(-np.float64(best[order[i]])))
        if not best[order[i]] < np.inf:
            finite = False
        row, column = cell // columns, cell % columns
        for side in range(4):
            first = side * bins
            top = distances[cell, first]
            for k in range(1, bins):
                top = max(top, distances[cell, first + k])
            total, moment = np.float32(0), np.float32(0)
            for k in range(bins):
                weight = math.exp(distances[cell, first + k] - top)
                total += weight
                moment += weight * np.float32(k)
            centre = np.float32(row if side % 2 else column) + np.float32(0.5)
            reach = moment / total
            if not reach < np.inf:  # NaN is not less either
                finite = False
            xyxy[i, side] = (centre - reach if side < 2 else centre + reach) * np.float32(stride_px)
    return xyxy, score, finite


@kernel
def _suppress(
    xyxy: NDArray[np.float32], class_id: NDArray[np.int64], order: NDArray[np.int64], iou: np.float32
) -> NDArray[np.int64]:
    """The boxes that no kept one before them in ``order`` overlaps; boxes without area overlap nothing."""
    kept = np.empty(len(order), np.int64)
    n_kept = 0
    for i in order:
        left, top, right, bottom = xyxy[i, 0], xyxy[i, 1], xyxy[i, 2], xyxy[i, 3]
        area = (right - left) * (bottom - top)
        free = True
        for k in range(n_kept):
            j = kept[k]
            width = min(right, xyxy[j, 2]) - max(left, xyxy[j, 0])
            height = min(bottom, xyxy[j, 3]) - max(top, xyxy[j, 1])
            if width <= 0 or height <= 0 or class_id[i] != class_id[j]:
                continue
            overlap = width * height
            union = (xyxy[j, 2] - xyxy[j, 0]) * (xyxy[j, 3] - xyxy[j, 1]) + area - overlap
            if overlap / max(union, _TINY) > iou:
                free = False
                break
        if free:
            kept[n_kept] = i
            n_kept += 1
    return kept[:n_kept]
