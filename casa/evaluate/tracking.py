"""Scores of tracks against true tracks: HOTA, CLEAR MOT and IDF1, computed by TrackEval.

TrackEval's metric classes are fed directly (boxes with IoU similarity, as its MotChallenge2DBox does), so no
files are written. This module knows casa's types and nothing of the tracker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from casa.errors import InputError
from casa.evaluate.boxes import box_iou, rows_by_picture, table_boxes
from casa.types import TrackTable

#: Scores that are means over the videos when several are put together; the others are sums.
MEAN_SCORES = ("hota", "deta", "assa", "loca", "mota", "motp", "idf1", "idp", "idr", "recall", "precision")
SUMMED_SCORES = ("idsw", "frag", "fp", "fn", "tp", "mostly_tracked", "mostly_lost", "gt_ids", "found_ids",
                 "gt_boxes", "found_boxes", "frames")  # fmt: skip


def _check_one_box_a_picture(name: str, table: TrackTable) -> None:
    keys = np.stack([table.frame, table.field, table.track_id], axis=1)
    unique, count = np.unique(keys, axis=0, return_counts=True)
    if len(unique) != len(keys):
        frame, field, track = unique[int(np.argmax(count > 1))]
        raise InputError(f"{name}: track {track} is twice in frame {frame} field {field}; a track has one box a frame")


def _trackeval_data(truth: TrackTable, found: TrackTable) -> dict[str, Any]:
    """The dict TrackEval's ``eval_sequence`` takes: contiguous ids and similarities, picture by picture."""
    keys, (truth_rows, found_rows) = rows_by_picture(truth, found)
    truth_names, truth_ids = np.unique(truth.track_id, return_inverse=True)
    found_names, found_ids = np.unique(found.track_id, return_inverse=True)
    truth_boxes, found_boxes = table_boxes(truth), table_boxes(found)
    return {
        "num_timesteps": len(keys),
        "num_gt_ids": len(truth_names),
        "num_tracker_ids": len(found_names),
        "num_gt_dets": len(truth),
        "num_tracker_dets": len(found),
        "gt_ids": [truth_ids[rows] for rows in truth_rows],
        "tracker_ids": [found_ids[rows] for rows in found_rows],
        "similarity_scores": [
            box_iou(truth_boxes[t], found_boxes[f]) for t, f in zip(truth_rows, found_rows, strict=True)
        ],
    }


def tracking_scores(truth: TrackTable, found: TrackTable) -> dict[str, float | int]:
    """Score tracks against true tracks over every picture that occurs in either table.

    Cut both tables to the frames to be judged first (`casa.evaluate.boxes.frames_between`). All rows of
    ``found`` count, predicted ones too.

    Returns
    -------
    dict : ``hota``, ``deta``, ``assa``, ``loca`` (means over the IoU thresholds .05 … .95; Luiten et al. 2021),
        ``mota``, ``motp``, ``recall``, ``precision``, ``idsw``, ``frag``, ``tp``, ``fp``, ``fn``,
        ``mostly_tracked``, ``mostly_lost`` (CLEAR, IoU >= .5), ``idf1``, ``idp``, ``idr`` (IoU >= .5),
        ``ids_per_gt`` (tracks put out per true track, NaN without truth), ``gt_ids``, ``found_ids``,
        ``gt_boxes``, ``found_boxes``, ``frames``.

    Raises
    ------
    InputError : a track has two boxes in one picture.
    """
    from trackeval.metrics import CLEAR, HOTA, Identity

    _check_one_box_a_picture("truth", truth)
    _check_one_box_a_picture("found", found)
    data = _trackeval_data(truth, found)
    quiet = {"PRINT_CONFIG": False}
    hota = HOTA().eval_sequence(data)
    clear = CLEAR(dict(quiet)).eval_sequence(data)
    identity = Identity(dict(quiet)).eval_sequence(data)
    return {
        "hota": float(np.mean(hota["HOTA"])),
        "deta": float(np.mean(hota["DetA"])),
        "assa": float(np.mean(hota["AssA"])),
        "loca": float(np.mean(hota["LocA"])),
        "mota": float(clear["MOTA"]),
        "motp": float(clear["MOTP"]),
        "recall": float(clear["CLR_Re"]),
        "precision": float(clear["CLR_Pr"]),
        "idsw": int(clear["IDSW"]),
        "frag": int(clear["Frag"]),
        "tp": int(clear["CLR_TP"]),
        "fp": int(clear["CLR_FP"]),
        "fn": int(clear["CLR_FN"]),
        "mostly_tracked": int(clear["MT"]),
        "mostly_lost": int(clear["ML"]),
        "idf1": float(identity["IDF1"]),
        "idp": float(identity["IDP"]),
        "idr": float(identity["IDR"]),
        "ids_per_gt": data["num_tracker_ids"] / data["num_gt_ids"] if data["num_gt_ids"] else float("nan"),
        "gt_ids": data["num_gt_ids"],
        "found_ids": data["num_tracker_ids"],
        "gt_boxes": data["num_gt_dets"],
        "found_boxes": data["num_tracker_dets"],
        "frames": data["num_timesteps"],
    }


def combine_scores(by_video: Mapping[str, Mapping[str, float | int]]) -> dict[str, float | int]:
    """Scores of several videos as one: means of ratios (every video counts the same), sums of counts.

    ``ids_per_gt`` is that of the sums.
    """
    if not by_video:
        raise InputError("no videos to combine scores of")
    combined: dict[str, float | int] = {}
    for name in MEAN_SCORES:
        combined[name] = float(np.mean([scores[name] for scores in by_video.values()]))
    for name in SUMMED_SCORES:
        combined[name] = int(sum(scores[name] for scores in by_video.values()))
    gt_ids = combined["gt_ids"]
    combined["ids_per_gt"] = combined["found_ids"] / gt_ids if gt_ids else float("nan")
    return combined
