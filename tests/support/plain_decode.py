"""Decoding and NMS of the detector in plain NumPy: what ``casa.detect.decode`` is held against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: More cells than this above the threshold are not sperm but a network gone wrong: the best are kept.
MAX_CANDIDATES = 5000
_BLOCK = 128


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
    """
    rows, columns, n_classes = logits.shape
    flat = logits.reshape(-1, n_classes)
    best = flat[:, 0] if n_classes == 1 else flat.max(axis=1)
    # The threshold is compared as a logit: the sigmoid is then taken of a few hundred cells instead of all.
    bound = np.log(confidence / (1 - confidence)) if 0 < confidence < 1 else (-np.inf if confidence <= 0 else np.inf)
    cells = np.flatnonzero(best >= bound)
    cells = cells[np.argsort(-best[cells], kind="stable")[:MAX_CANDIDATES]]
    class_id = np.zeros(len(cells), np.int64) if n_classes == 1 else flat[cells].argmax(axis=1)
    bins = distances.shape[2] // 4
    x = distances.reshape(rows * columns, 4, bins)[cells]
    x = np.exp(x - x.max(axis=2, keepdims=True))
    reach = (x @ np.arange(bins, dtype=np.float32)) / x.sum(axis=2)
    centre = np.stack([cells % columns, cells // columns], axis=1).astype(np.float32) + np.float32(0.5)
    xyxy = np.concatenate([centre - reach[:, :2], centre + reach[:, 2:]], axis=1) * np.float32(stride_px)
    score = 1.0 / (1.0 + np.exp(-best[cells].astype(np.float64)))
    return xyxy.astype(np.float32, copy=False), score.astype(np.float32), class_id


def iou_matrix(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of every box of ``a`` (n, 4) with every box of ``b`` (m, 4): (n, m)."""
    overlap = np.minimum(a[:, None, 2], b[None, :, 2])
    overlap -= np.maximum(a[:, None, 0], b[None, :, 0])
    height = np.minimum(a[:, None, 3], b[None, :, 3])
    height -= np.maximum(a[:, None, 1], b[None, :, 1])
    # In place where it can be: this runs on every frame, and half of its time is memory.
    np.maximum(overlap, 0, out=overlap)
    np.maximum(height, 0, out=height)
    overlap *= height
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    union = np.add(area_a[:, None], area_b[None, :], out=height)
    union -= overlap
    np.maximum(union, np.finfo(np.float32).tiny, out=union)  # boxes without area overlap nothing
    overlap /= union
    return overlap


def nms(
    xyxy: NDArray[np.float32],
    confidence: NDArray[np.float32],
    iou: float,
    class_id: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Indices of the boxes that greedy non-maximum suppression keeps, best first.

    A box goes if it overlaps a kept, better one by more than ``iou``; of the same class only, where
    ``class_id`` is given. Boxes are taken in blocks: a block is first held against all kept boxes, then
    against itself, where "kept" is the one solution of kept[j] = no i < j with kept[i] and overlap[i, j],
    reached in as many rounds as the longest chain of overlaps.
    """
    order = np.argsort(-confidence, kind="stable")
    boxes = xyxy[order]
    classes = None if class_id is None else class_id[order]
    kept = np.empty(0, np.int64)
    for start in range(0, len(order), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(order)))
        if len(kept):
            over = iou_matrix(boxes[kept], boxes[block]) > iou
            if classes is not None:
                over &= classes[kept][:, None] == classes[block][None, :]
            block = block[~over.any(axis=0)]
        over = np.triu(iou_matrix(boxes[block], boxes[block]) > iou, 1)
        if classes is not None:
            over &= classes[block][:, None] == classes[block][None, :]
        alive = ~over.any(axis=0)
        while True:
            now = ~over[alive].any(axis=0)
            if (now == alive).all():
                break
            alive = now
        kept = np.concatenate([kept, block[alive]])
    return order[kept]
