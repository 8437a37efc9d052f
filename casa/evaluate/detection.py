"""Scores of detections against true boxes (AP as COCO defines it) or against true head centres.

One matching serves both: detections in order of confidence each take the unmatched truth most similar to
them, similarity being IoU or minus the distance. The COCO figures agree with pycocotools to rounding; unlike
there, up to 1000 detections a picture count, since a field can hold more than 100 heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from casa.evaluate.boxes import box_iou, centre_distance_px, rows_by_picture, table_boxes, table_centres
from casa.types import BoolArray, DetectionTable, FloatArray, IntArray

#: IoU thresholds of COCO's AP50-95, made as pycocotools makes them.
COCO_IOU = np.linspace(0.5, 0.95, 10)
_RECALL_POINTS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Detections in order of falling confidence, and what each was matched to.

    confidence (n,) float64; true_positive (t, n) bool by threshold; ignored (t, n) bool: neither right nor
    wrong; truth_row (n,) int64: the row of the truth matched at the first threshold, -1 for none; found_row
    (n,) int64; n_truth: true objects that count.
    """

    confidence: FloatArray
    true_positive: BoolArray
    ignored: BoolArray
    truth_row: IntArray
    found_row: IntArray
    n_truth: int


def match_picture(similarity: FloatArray, thresholds: FloatArray, truth_ignored: BoolArray) -> IntArray:
    """Greedy matching in one picture, at all thresholds at once.

    Parameters
    ----------
    similarity : (m, n), m detections in order of falling confidence, n true objects.
    thresholds : (t,); a match needs at least this similarity.
    truth_ignored : (n,) bool; such truth is only matched by what matches nothing else.

    Returns
    -------
    (t, m) int64, the column matched, -1 for none. Of equally similar truth the last is taken, as pycocotools does.
    """
    n_found, n_truth = similarity.shape
    matched = np.full((len(thresholds), n_found), -1, np.int64)
    if n_truth == 0:
        return matched
    free = np.ones((len(thresholds), n_truth), bool)
    levels = np.arange(len(thresholds))
    # Reversed columns make argmax, which finds the first of equals, find the last one.
    backwards = similarity[:, ::-1]
    for row in np.flatnonzero(similarity.max(axis=1) >= thresholds.min()):
        for group in (~truth_ignored, truth_ignored):
            open_columns = free & group & (similarity[row] >= thresholds[:, None]) & (matched[:, row] < 0)[:, None]
            candidates = np.where(open_columns[:, ::-1], backwards[row], -np.inf)
            column = n_truth - 1 - np.argmax(candidates, axis=1)
            hit = open_columns[levels, column]
            matched[hit, row] = column[hit]
            free[levels[hit], column[hit]] = False
    return matched


def _match_tables(
    truth: DetectionTable,
    found: DetectionTable,
    thresholds: FloatArray,
    match_px: float | None,
    truth_ignored: BoolArray,
    found_ignored: BoolArray,
    max_detections: int,
) -> Matches:
    _, (truth_rows, found_rows) = rows_by_picture(truth, found)
    if match_px is None:
        truth_places, found_places, similarity_of = table_boxes(truth), table_boxes(found), box_iou
    else:
        truth_places, found_places = table_centres(truth), table_centres(found)

        def similarity_of(first: FloatArray, second: FloatArray) -> FloatArray:
            return -centre_distance_px(first, second)

    rows_out: list[IntArray] = [np.empty(0, np.int64)]
    positive: list[BoolArray] = [np.empty((len(thresholds), 0), bool)]
    ignored: list[BoolArray] = [np.empty((len(thresholds), 0), bool)]
    partner: list[IntArray] = [np.empty(0, np.int64)]
    for truth_here, found_here in zip(truth_rows, found_rows, strict=True):
        if len(found_here) == 0:
            continue
        order = found_here[np.argsort(-found.confidence[found_here], kind="stable")][:max_detections]
        similarity = similarity_of(found_places[order], truth_places[truth_here])
        matched = match_picture(similarity, thresholds, truth_ignored[truth_here])
        hit = matched >= 0
        hit_ignored = np.zeros_like(hit)
        if len(truth_here):
            hit_ignored = hit & truth_ignored[truth_here][matched]
            partner.append(np.where(matched[0] >= 0, truth_here[matched[0]], -1))
        else:
            partner.append(np.full(len(order), -1, np.int64))
        rows_out.append(order)
        positive.append(hit & ~hit_ignored)
        ignored.append(hit_ignored | (~hit & found_ignored[order]))
    rows = np.concatenate(rows_out)
    order = np.argsort(-found.confidence[rows], kind="stable")
    return Matches(
        confidence=found.confidence[rows][order],
        true_positive=np.concatenate(positive, axis=1)[:, order],
        ignored=np.concatenate(ignored, axis=1)[:, order],
        truth_row=np.concatenate(partner)[order],
        found_row=rows[order],
        n_truth=int(np.count_nonzero(~truth_ignored)),
    )


def average_precision(matches: Matches) -> FloatArray:
    """(t,) average precision by threshold: COCO's mean of the precision envelope at 101 recalls; NaN without truth."""
    if matches.n_truth == 0:
        return np.full(len(matches.true_positive), np.nan)
    result = np.zeros(len(matches.true_positive))
    false_positive = ~matches.true_positive & ~matches.ignored
    right = np.cumsum(matches.true_positive, axis=1, dtype=np.float64)
    wrong = np.cumsum(false_positive, axis=1, dtype=np.float64)
    recall = right / matches.n_truth
    precision = right / (right + wrong + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    for level in range(len(result)):
        at = np.searchsorted(recall[level], _RECALL_POINTS, side="left")
        reached = at < recall.shape[1]
        result[level] = envelope[level][at[reached]].sum() / len(_RECALL_POINTS)
    return result


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _operating_point(matches: Matches, confidence: float | None) -> dict[str, float | int]:
    """Precision, recall and F1 at a confidence, at the first threshold; at the best F1 where None is given."""
    right = np.concatenate([[0], np.cumsum(matches.true_positive[0])])
    taken = np.concatenate([[0], np.cumsum(~matches.ignored[0])])
    if confidence is None:
        # Detections of equal confidence stand or fall together: only the last of each run is a choice.
        ends = np.flatnonzero(np.append(np.diff(matches.confidence) != 0, [True] * (len(matches.confidence) > 0))) + 1
        f1 = 2 * right[ends] / np.maximum(taken[ends] + matches.n_truth, 1)
        count = int(ends[np.argmax(f1)]) if len(ends) and f1.max() > 0 else 0
        confidence = float(matches.confidence[count - 1]) if count else float("nan")
    else:
        count = int(np.count_nonzero(matches.confidence >= confidence))
    tp, found = int(right[count]), int(taken[count])
    return {
        "confidence": confidence,
        "precision": _ratio(tp, found),
        "recall": _ratio(tp, matches.n_truth),
        "f1": _ratio(2 * tp, found + matches.n_truth),
        "tp": tp,
        "fp": found - tp,
        "fn": matches.n_truth - tp,
    }


def _localisation_px(truth: DetectionTable, found: DetectionTable, matches: Matches) -> dict[str, float]:
    """Offsets of matched centres (found - true), px: mean in x and y, and the standard deviation per axis about it."""
    hit = matches.true_positive[0]
    if not hit.any():
        return {"offset_x_px": float("nan"), "offset_y_px": float("nan"), "jitter_px": float("nan")}
    offset = table_centres(found)[matches.found_row[hit]] - table_centres(truth)[matches.truth_row[hit]]
    return {
        "offset_x_px": float(offset[:, 0].mean()),
        "offset_y_px": float(offset[:, 1].mean()),
        "jitter_px": float(np.sqrt(offset.var(axis=0).mean())),
    }


def detection_scores(
    truth: DetectionTable,
    found: DetectionTable,
    *,
    class_ids: list[int] | None = None,
    confidence: float | None = None,
    match_px: float | None = None,
    ignored: tuple[BoolArray, BoolArray] | None = None,
    max_detections: int = 1000,
) -> dict[str, Any]:
    """Score detections, class by class, over every picture that occurs in either table.

    Cut both tables to the frames to be judged first (`casa.evaluate.boxes.frames_between`).

    Parameters
    ----------
    class_ids : classes to score; None: those of the truth and of what was found.
    confidence : also give precision, recall and F1 at this confidence.
    match_px : match centres at most this far apart instead of boxes by IoU, for truth without boxes. AP is then
        ``ap`` at this distance, and ``ap50`` and ``ap50_95`` are missing.
    ignored : (len(truth),) and (len(found),) bool masks: truth that need not be found, and detections that are not
        false where they match nothing.
    max_detections : the most confident of a picture's detections that count.

    Returns
    -------
    dict : ``ap50``, ``ap50_95``, ``ap75`` (COCO; IoU), or ``ap`` (distance); ``precision``, ``recall``, ``f1``,
        ``confidence``, ``tp``, ``fp``, ``fn`` at the best F1 (IoU >= .5, or within ``match_px``); ``at_confidence``
        the same at the given confidence; ``offset_x_px``, ``offset_y_px``, ``jitter_px`` of matched centres;
        ``per_class`` {class id: all of these}. At the top are the one class's figures, or with several classes
        the means over those that have truth (counts: sums). NaN where there is nothing to score.
    """
    if class_ids is None:
        class_ids = sorted({*truth.class_id.tolist(), *found.class_id.tolist()})
    thresholds = COCO_IOU if match_px is None else np.array([-match_px])
    ignored = ignored or (np.zeros(len(truth), bool), np.zeros(len(found), bool))
    per_class: dict[int, dict[str, Any]] = {}
    for class_id in class_ids:
        true_here, found_here = truth.class_id == class_id, found.class_id == class_id
        true_table, found_table = truth.select(true_here), found.select(found_here)
        matches = _match_tables(
            true_table, found_table, thresholds, match_px, ignored[0][true_here], ignored[1][found_here], max_detections
        )
        ap = average_precision(matches)
        scores: dict[str, Any] = (
            {"ap50": float(ap[0]), "ap50_95": float(ap.mean()), "ap75": float(ap[5])}
            if match_px is None
            else {"ap": float(ap[0])}
        )
        scores |= _operating_point(matches, None)
        if confidence is not None:
            scores["at_confidence"] = _operating_point(matches, confidence)
        scores |= _localisation_px(true_table, found_table, matches)
        scores |= {"truth_boxes": matches.n_truth, "found_boxes": len(found_table)}
        per_class[class_id] = scores
    pictures = len(rows_by_picture(truth, found)[0])
    has_truth = [scores["truth_boxes"] > 0 for scores in per_class.values()]
    return {**_over_classes(list(per_class.values()), has_truth), "frames": pictures, "per_class": per_class}


def _over_classes(classes: list[dict[str, Any]], has_truth: list[bool]) -> dict[str, Any]:
    if len(classes) == 1:
        return dict(classes[0])
    overall: dict[str, Any] = {}
    for name, value in (classes[0] if classes else {}).items():
        if isinstance(value, dict):
            overall[name] = _over_classes([scores[name] for scores in classes], has_truth)
        elif isinstance(value, int):
            overall[name] = sum(scores[name] for scores in classes)
        elif name != "confidence":
            judged = [scores[name] for scores, judge in zip(classes, has_truth, strict=True) if judge]
            overall[name] = float(np.mean(judged)) if judged else float("nan")
    return overall
