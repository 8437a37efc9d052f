"""Overlap and distance between boxes, and rows grouped by picture: what every score starts from."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from casa.types import (
    Detections,
    DetectionTable,
    FloatArray,
    IntArray,
    TrackTable,
    boxes_to_centre_size,
    centre_size_to_boxes,
)

Table = TypeVar("Table", DetectionTable, TrackTable)


def table_boxes(table: DetectionTable | TrackTable) -> FloatArray:
    """(n, 4) float64 left/top/right/bottom of a table's rows, px."""
    return centre_size_to_boxes(np.stack([table.cx_px, table.cy_px, table.w_px, table.h_px], axis=1))


def table_centres(table: DetectionTable | TrackTable) -> FloatArray:
    """(n, 2) float64 centres of a table's rows, px."""
    return np.stack([table.cx_px, table.cy_px], axis=1)


def box_iou(first: FloatArray, second: FloatArray) -> FloatArray:
    """(m, 4) and (n, 4) left/top/right/bottom -> (m, n) intersection over union; 0 where both areas are 0."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    intersection = np.prod(np.clip(high - low, 0.0, None), axis=2)
    area_first = np.prod(first[:, 2:] - first[:, :2], axis=1)
    area_second = np.prod(second[:, 2:] - second[:, :2], axis=1)
    union = area_first[:, None] + area_second[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def centre_distance_px(first: FloatArray, second: FloatArray) -> FloatArray:
    """(m, 2) and (n, 2) centres -> (m, n) Euclidean distance, px."""
    return np.hypot(first[:, None, 0] - second[None, :, 0], first[:, None, 1] - second[None, :, 1])


def rows_by_picture(*tables: DetectionTable | TrackTable) -> tuple[IntArray, list[list[IntArray]]]:
    """Rows of each table by picture, a picture being a frame and a field.

    Returns
    -------
    keys : (p, 2) int64, frame and field of every picture that occurs in any of the tables, in order.
    rows : for each table, p arrays of row numbers, each in the table's own order.
    """
    stacked = [np.stack([table.frame, table.field], axis=1) for table in tables]
    keys, inverse = np.unique(np.concatenate(stacked), axis=0, return_inverse=True)
    rows, start = [], 0
    for pairs in stacked:
        picture = inverse.reshape(-1)[start : start + len(pairs)]
        start += len(pairs)
        order = np.argsort(picture, kind="stable")
        ends = np.searchsorted(picture[order], np.arange(len(keys) + 1))
        rows.append([order[ends[i] : ends[i + 1]] for i in range(len(keys))])
    return keys, rows


def frames_between(table: Table, first: int | None = None, stop: int | None = None) -> Table:
    """Rows of frames ``first`` to ``stop`` - 1, as in a Python slice; None is open."""
    keep = np.ones(len(table), bool)
    if first is not None:
        keep &= table.frame >= first
    if stop is not None:
        keep &= table.frame < stop
    return table.select(keep)


def first_fields(found: Table, truth: DetectionTable | TrackTable) -> Table:
    """``found`` without second fields, where ``truth`` knows whole frames only.

    A separated field is a picture of its own, half a frame interval away; truth that was drawn on whole frames has
    nothing to say of the second one.
    """
    return found if (truth.field > 0).any() else found.select(found.field == 0)


def table_from_detections(found: list[Detections]) -> DetectionTable:
    """The detections of many pictures as one table, in the given order."""
    counts = [len(detections) for detections in found]

    def column(name: str) -> IntArray:
        return np.repeat(np.array([getattr(detections, name) for detections in found], np.int64), counts)

    xyxy = np.concatenate([np.empty((0, 4)), *(detections.xyxy for detections in found)]).astype(np.float64)
    cx, cy, w, h = boxes_to_centre_size(xyxy).T
    return DetectionTable(
        frame=column("frame"),
        field=column("field"),
        t_ns=column("t_ns"),
        cx_px=cx,
        cy_px=cy,
        w_px=w,
        h_px=h,
        confidence=np.concatenate([np.empty(0), *(d.confidence.astype(np.float64) for d in found)]),
        class_id=np.concatenate([np.empty(0, np.int64), *(detections.class_id for detections in found)]),
    )
