"""Reads what detections are judged against: boxes by centre and size, boxes by corners, or head centres alone."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from casa.errors import InputError
from casa.tables import read_columns
from casa.types import BoolArray, DetectionTable

#: What the text in a ``label`` column stands for; any other label is no truth (debris is there to be left alone).
LABEL_CLASSES = {"s": 0, "sperm": 0, "cluster": 1, "small": 2, "pinhead": 2, "small or pinhead": 2}


@dataclass(frozen=True, slots=True)
class Truth:
    """True objects; ``has_boxes`` is False where only centres are known (sizes are then 0)."""

    table: DetectionTable
    has_boxes: bool


def _labels(path: Path) -> list[str] | None:
    """The ``label`` column, row by row, or None without one."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.reader(stream) if row]
    names = [name.strip() for name in rows[0]]
    return [row[names.index("label")].strip().lower() for row in rows[1:]] if "label" in names else None


def read_truth(path: Path, frame_size_px: tuple[int, int] | None = None) -> Truth:
    """Read true objects from a CSV (plain or .gz) with a header.

    Columns: ``frame`` and either ``cx_px, cy_px[, w_px, h_px]`` or ``x1_px, y1_px, x2_px, y2_px``; optional
    ``class_id``, ``label`` (see `LABEL_CLASSES`) and ``field``. Others (track ids, headings) are not needed.

    Parameters
    ----------
    frame_size_px : (width, height); objects whose centre lies outside the frame are left out. None keeps all.

    Raises
    ------
    InputError : the file is missing or is no such table.
    """
    columns = read_columns(path, ("frame",))
    n = len(columns["frame"])
    if {"x1_px", "y1_px", "x2_px", "y2_px"} <= columns.keys():
        cx, cy = (columns["x1_px"] + columns["x2_px"]) / 2, (columns["y1_px"] + columns["y2_px"]) / 2
        w, h, has_boxes = columns["x2_px"] - columns["x1_px"], columns["y2_px"] - columns["y1_px"], True
    elif {"cx_px", "cy_px"} <= columns.keys():
        cx, cy = columns["cx_px"], columns["cy_px"]
        has_boxes = {"w_px", "h_px"} <= columns.keys()
        w, h = (columns["w_px"], columns["h_px"]) if has_boxes else (np.zeros(n), np.zeros(n))
    else:
        raise InputError(f"{path}: expected columns cx_px, cy_px[, w_px, h_px] or x1_px, y1_px, x2_px, y2_px")
    if not all(np.isfinite(column).all() for column in (cx, cy, w, h)):
        raise InputError(f"{path}: a place or size is empty or not a finite number; fill it or remove the row")
    class_id, keep = columns.get("class_id", np.zeros(n)), np.ones(n, bool)
    labels = _labels(path)
    if labels is not None and "class_id" not in columns:
        class_id = np.array([LABEL_CLASSES.get(label, -1) for label in labels])
        keep = class_id >= 0
    if frame_size_px is not None:
        keep &= (cx >= 0) & (cx < frame_size_px[0]) & (cy >= 0) & (cy < frame_size_px[1])
    frame = columns["frame"].astype(np.int64)
    table = DetectionTable(
        frame=frame,
        field=columns.get("field", np.zeros(n)).astype(np.int64),
        t_ns=frame,  # truth is compared picture by picture, so its times are not needed
        cx_px=cx,
        cy_px=cy,
        w_px=w,
        h_px=h,
        confidence=np.ones(n),
        class_id=class_id.astype(np.int64),
    ).select(keep)
    return Truth(table, has_boxes)


def read_ignore_mask(path: Path) -> BoolArray:
    """(frames, h, w) bool from an .npz: pixels where nothing is judged.

    ``mask`` is (frames, h, w), or packed by ``numpy.packbits`` along the last axis with ``shape`` beside it.

    Raises
    ------
    InputError : the file is missing or holds no such mask.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give an .npz with a mask of (frames, height, width)")
    try:
        with np.load(path, allow_pickle=False) as data:
            mask = data["mask"]
            if "shape" in data:
                shape = tuple(int(size) for size in data["shape"])
                mask = np.unpackbits(mask, axis=-1, count=shape[-1]).reshape(shape)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: holds no mask ({' '.join(str(error).split())})") from error
    if mask.ndim != 3:
        raise InputError(f"{path}: expected a mask of (frames, height, width), got shape {mask.shape}")
    return mask.astype(bool)


def centre_in_mask(table: DetectionTable, mask: BoolArray) -> BoolArray:
    """(n,) bool: rows whose centre lies on a masked pixel of their frame; frames past the mask's end have none."""
    frames, height, width = mask.shape
    x, y = np.floor(table.cx_px).astype(np.int64), np.floor(table.cy_px).astype(np.int64)
    inside = (table.frame >= 0) & (table.frame < frames) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    result = np.zeros(len(table), bool)
    result[inside] = mask[table.frame[inside], y[inside], x[inside]]
    return result
