"""A whole field against its truth: which track follows which cell, and how far off its kinematics are.

The truth of a cell is taken over exactly the span in which the found track measured it, since VSL and the grade
depend on the span. This module knows tables only; where they come from is told by functions it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from casa.evaluate.boxes import centre_distance_px, rows_by_picture
from casa.types import MOTILITY_GRADES, BoolArray, FloatArray, IntArray, KinematicsTable, TrackTable

#: (track ids, first frames, last frames) of n spans -> the true kinematics over them, n rows in that order.
TruthOver = Callable[[IntArray, IntArray, IntArray], KinematicsTable]

#: A track that spends less of its frames on one cell is a mixture of cells, and has no one truth to be held to.
MIN_PURITY = 0.9
#: True VCL (um/s) that parts the bands errors are told by; below the first, errors are told in um/s.
VCL_BANDS_UM_S = (0.0, 40.0, 80.0, np.inf)
#: Below it (um/s) a cell goes nowhere, so errors of VSL and VAP are told in um/s and not as parts of nearly nothing.
PROGRESSIVE_UM_S = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class TrackMatches:
    """Which cell each found track follows.

    found_id (n,); truth_id (n,), -1 where no cell was followed for half of the frames; purity (n,) share of the
    track's frames on that cell; first_frame, last_frame (n,) of those in which the track was measured.
    """

    found_id: IntArray
    truth_id: IntArray
    purity: FloatArray
    first_frame: IntArray
    last_frame: IntArray


def match_tracks(truth: TrackTable, found: TrackTable, match_px: float) -> TrackMatches:
    """Pair heads picture by picture (least total distance, at most ``match_px``), then tracks by frames in common.

    Only measured rows of ``found`` take part.
    """
    found = found.select(~found.predicted)
    _, (truth_rows, found_rows) = rows_by_picture(truth, found)
    true_xy = np.stack([truth.x_measured_px, truth.y_measured_px], axis=1)
    found_xy = np.stack([found.x_measured_px, found.y_measured_px], axis=1)
    partner = np.full(len(found), -1, np.int64)
    for true_here, found_here in zip(truth_rows, found_rows, strict=True):
        if len(true_here) == 0 or len(found_here) == 0:
            continue
        distance = centre_distance_px(found_xy[found_here], true_xy[true_here])
        rows, columns = linear_sum_assignment(np.minimum(distance, 10 * match_px))
        near = distance[rows, columns] <= match_px
        partner[found_here[rows[near]]] = truth.track_id[true_here[columns[near]]]
    found_id, inverse, frames = np.unique(found.track_id, return_inverse=True, return_counts=True)
    truth_id, purity = np.full(len(found_id), -1, np.int64), np.zeros(len(found_id))
    pairs, common = np.unique(np.stack([inverse, partner])[:, partner >= 0], axis=1, return_counts=True)
    for (row, cell), count in zip(pairs.T.tolist(), common.tolist(), strict=True):
        share = count / frames[row]
        if share >= 0.5 and share > purity[row]:
            truth_id[row], purity[row] = cell, share
    first, last = np.full(len(found_id), np.iinfo(np.int64).max), np.full(len(found_id), -1)
    np.minimum.at(first, inverse, found.frame)
    np.maximum.at(last, inverse, found.frame)
    return TrackMatches(found_id, truth_id, purity, first, last)


def localisation_px(truth: TrackTable, found: TrackTable, matches: TrackMatches, match_px: float) -> dict[str, float]:
    """How measured centres lie about the true ones, px per axis, over the tracks that follow one cell.

    Returns
    -------
    dict : ``offset_x_px``, ``offset_y_px``, the mean; ``between_cells_px``, sd of each track's own mean about it (no
        speed suffers from it); ``within_track_px``, sd about the track's own mean; and of that ``white_px``, the
        part that is new in every frame (sd of the change from frame to frame / sqrt 2), which jitter correction
        can take out, and ``wander_px``, the rest, which looks like swimming. Rows further than ``match_px`` from
        the track's cell are on something else: they are left out, and ``astray_percent`` tells how many they are.
    """
    cell = dict(zip(matches.found_id[matches.purity >= MIN_PURITY].tolist(),
                    matches.truth_id[matches.purity >= MIN_PURITY].tolist(), strict=True))  # fmt: skip
    rows = found.select(~found.predicted & np.isin(found.track_id, list(cell)))
    place = {
        key: row
        for row, key in enumerate(zip(truth.track_id.tolist(), truth.frame.tolist(), truth.field.tolist(), strict=True))
    }
    keys = zip(rows.track_id.tolist(), rows.frame.tolist(), rows.field.tolist(), strict=True)
    at = np.array([place.get((cell[track], frame, field), -1) for track, frame, field in keys], np.int64)
    rows, at = rows.select(at >= 0), at[at >= 0]
    names = ("offset_x_px", "offset_y_px", "between_cells_px", "within_track_px", "white_px", "wander_px",
             "astray_percent")  # fmt: skip
    if len(rows) == 0:
        return dict.fromkeys(names, float("nan"))
    offset = np.stack([rows.x_measured_px - truth.x_measured_px[at], rows.y_measured_px - truth.y_measured_px[at]], 1)
    near = np.hypot(*offset.T) <= match_px
    astray_percent = 100 * float(np.mean(~near))
    rows, offset = rows.select(near), offset[near]
    order = np.lexsort((rows.t_ns, rows.track_id))
    offset, track, frame = offset[order], rows.track_id[order], rows.frame[order]
    _, inverse, count = np.unique(track, return_inverse=True, return_counts=True)
    mean = np.stack([np.bincount(inverse, offset[:, axis]) / count for axis in (0, 1)], axis=1)
    next_frame = (np.diff(track) == 0) & (np.diff(frame) <= 1)
    white = float(np.diff(offset, axis=0)[next_frame].std() / np.sqrt(2)) if next_frame.any() else float("nan")
    within = float((offset - mean[inverse]).std())
    between = float((mean[inverse] - offset.mean(axis=0)).std())
    wander = float(np.sqrt(max(within**2 - white**2, 0.0)))
    return dict(
        zip(names, (*offset.mean(axis=0).tolist(), between, within, white, wander, astray_percent), strict=True)
    )


def error_figures(found: FloatArray, true: FloatArray, weight: FloatArray, relative: bool) -> dict[str, float | int]:
    """Errors of n measurements.

    Returns
    -------
    dict : ``n``; ``mean_percent`` (weighted mean found over weighted mean true, minus 1); and per track
        ``bias``, ``median``, ``p90``: median of the signed error, median and 90th percentile of its size, in percent
        of the true value (names end in ``_percent``) or in um/s (``_um_s``).
    """
    known = np.isfinite(found) & np.isfinite(true)
    found, true, weight = found[known], true[known], weight[known]
    unit = "percent" if relative else "um_s"
    if len(found) == 0:
        return {"n": 0}
    error = 100 * (found - true) / true if relative else found - true
    figures: dict[str, float | int] = {"n": len(found)}
    if relative:
        figures["mean_percent"] = float(
            100 * (np.average(found, weights=weight) / np.average(true, weights=weight) - 1)
        )
    figures[f"bias_{unit}"] = float(np.median(error))
    figures[f"median_{unit}"] = float(np.median(np.abs(error)))
    figures[f"p90_{unit}"] = float(np.percentile(np.abs(error), 90))
    return figures


def kinematics_errors(found: KinematicsTable, true: KinematicsTable) -> dict[str, Any]:
    """Errors of VSL, VAP and VCL, row by row of two tables of the same tracks.

    VSL and VAP in percent where the true one is at least 5 um/s and in um/s below; VCL by bands of the true VCL,
    below 40 um/s in um/s.
    """
    weight = true.duration_s
    errors: dict[str, Any] = {}
    for name in ("vsl", "vap"):
        measured, exact = getattr(found, f"{name}_um_s"), getattr(true, f"{name}_um_s")
        fast = exact >= PROGRESSIVE_UM_S
        errors[name] = error_figures(measured[fast], exact[fast], weight[fast], relative=True)
        errors[f"{name}_below_5"] = error_figures(measured[~fast], exact[~fast], weight[~fast], relative=False)
    exact = true.vcl_um_s
    for low, high in pairwise(VCL_BANDS_UM_S):
        band = (exact >= low) & (exact < high)
        name = f"vcl_from_{low:g}" if np.isinf(high) else f"vcl_{low:g}_to_{high:g}"
        errors[name] = error_figures(found.vcl_um_s[band], exact[band], weight[band], relative=low > 0)
    fast = exact >= VCL_BANDS_UM_S[1]
    errors["vcl_from_40"] = error_figures(found.vcl_um_s[fast], exact[fast], weight[fast], relative=True)
    return errors


def grade_agreement(found: KinematicsTable, true: KinematicsTable) -> dict[str, Any]:
    """How much of the graded time is in the right grade, and the confusion of the grades (rows: true), seconds.

    Within a track, time of the same grade in both counts as right; the rest is spread over the other grades in
    proportion.
    """
    found_s, true_s = found.time_by_grade_s, true.time_by_grade_s
    total, true_total = found_s.sum(axis=1), true_s.sum(axis=1)
    graded = (total > 0) & (true_total > 0)
    found_s = found_s[graded]
    wanted_s = true_s[graded] * (total[graded] / true_total[graded])[:, None]
    right = np.minimum(found_s, wanted_s)
    confusion = np.diag(right.sum(axis=0))
    wrong_found, wrong_true = found_s - right, wanted_s - right
    left = wrong_true.sum(axis=1)
    share = np.divide(wrong_true, left[:, None], out=np.zeros_like(wrong_true), where=left[:, None] > 0)
    confusion += share.T @ wrong_found
    seconds = float(total[graded].sum())
    return {
        "graded_s": seconds,
        "right_percent": 100 * float(right.sum()) / seconds if seconds else float("nan"),
        "confusion_s": {
            true_grade: dict(zip(MOTILITY_GRADES, row, strict=True))
            for true_grade, row in zip(MOTILITY_GRADES, confusion.tolist(), strict=True)
        },
    }


def percent_by_grade(seconds: FloatArray) -> dict[str, float]:
    """(n, 4) seconds by grade -> percent of all graded time."""
    whole = seconds.sum()
    return {
        g: 100 * float(s) / whole if whole else float("nan")
        for g, s in zip(MOTILITY_GRADES, seconds.sum(0), strict=True)
    }


def _pick(table: KinematicsTable, track_id: IntArray) -> KinematicsTable:
    """Rows of the given tracks, in that order; every one must be there."""
    order = np.argsort(table.track_id)
    return table.select(order[np.searchsorted(table.track_id[order], track_id)])


def field_scores(
    truth: TrackTable,
    truth_over: TruthOver,
    found: TrackTable,
    kinematics: KinematicsTable,
    *,
    match_px: float,
    min_duration_s: float = 1.0,
) -> dict[str, Any]:
    """Hold found tracks and their kinematics to the truth.

    Parameters
    ----------
    truth : true tracks; ``x_measured_px`` and ``y_measured_px`` are the heads' true centres.
    truth_over : the exact kinematics over given spans.
    found, kinematics : what casa put out.
    match_px : a found head this near to a true one is that head.
    min_duration_s : errors of speeds are of tracks measured for at least this long.

    Returns
    -------
    dict : ``tracks`` (how many there are and what became of them), ``localisation`` (`localisation_px`),
        ``errors`` (`kinematics_errors`), ``grades``
        (`grade_agreement`), ``motility_percent`` of found tracks and of the truth over the same cells.
    """
    matches = match_tracks(truth, found, match_px)
    measured = np.isin(matches.found_id, kinematics.track_id)
    follows = measured & (matches.truth_id >= 0) & (matches.last_frame > matches.first_frame)
    rows = _pick(kinematics, matches.found_id[follows])
    true = truth_over(matches.truth_id[follows], matches.first_frame[follows], matches.last_frame[follows])
    pure: BoolArray = matches.purity[follows] >= MIN_PURITY
    judged = pure & (rows.duration_s >= min_duration_s)
    false_rows = _pick(kinematics, matches.found_id[measured & (matches.truth_id < 0)])
    time_s = float(kinematics.duration_s.sum())
    true_time_s = _time_in_view_s(truth)
    return {
        "tracks": {
            "true": len(np.unique(truth.track_id)),
            "found": len(matches.found_id),
            "measured": int(measured.sum()),
            "judged": int(judged.sum()),
            "of_several_cells": int((~pure).sum()),
            "of_no_cell": len(false_rows),
            "of_no_cell_time_percent": 100 * float(false_rows.duration_s.sum()) / time_s if time_s else float("nan"),
            "time_covered_percent": 100 * float(rows.duration_s.sum()) / true_time_s if true_time_s else float("nan"),
        },
        "localisation": localisation_px(truth, found, matches, match_px),
        "errors": kinematics_errors(rows.select(judged), true.select(judged)),
        "grades": grade_agreement(rows, true),
        "motility_percent": {
            "found": percent_by_grade(kinematics.time_by_grade_s),
            "true": percent_by_grade(true.time_by_grade_s),
        },
    }


def _time_in_view_s(truth: TrackTable) -> float:
    """Seconds all true tracks together were in view."""
    if len(truth) == 0:
        return 0.0
    order = np.lexsort((truth.t_ns, truth.track_id))
    same = np.diff(truth.track_id[order]) == 0
    return float(np.diff(truth.t_ns[order])[same].sum()) / 1e9
