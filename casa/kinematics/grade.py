"""WHO motility grades (WHO 2021, 2.4.6.1) by windows of one second.

a: >= 25 um from start to end within one second; b: 5 to < 25; c: < 5; d: immotile, no active tail movement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from casa.kinematics.order import median
from casa.kinematics.paths import step_lengths
from casa.types import MOTILITY_GRADES, FloatArray

RAPID_UM_S = 25.0
PROGRESSIVE_UM_S = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What parts the grades: the window, and below which VAP and VCL together a head counts as still."""

    window_s: float
    min_duration_s: float
    immotile_vap_um_s: float
    immotile_vcl_um_s: float


def window_edges(t_s: FloatArray, window_s: float, whole_track: bool) -> list[tuple[int, int, float]]:
    """The grading windows of a path: (first sample, last sample, seconds they stand for).

    Windows follow each other from the first sample, each ending at the sample nearest to its length. What is left at
    a track's end is graded by the window that ends there, reaching back into the one before, and stands for the
    time that was left. A path shorter than one window is one window, or none with ``whole_track`` False.
    """
    edges: list[tuple[int, int, float]] = []
    first, n = 0, len(t_s)
    half_step = median(t_s[1:] - t_s[:-1]) / 2 if n > 1 else 0.0
    while True:
        last = int(np.searchsorted(t_s, t_s[first] + window_s - half_step))
        if last >= n or last <= first:
            break
        if last + 1 < n and abs(t_s[last + 1] - t_s[first] - window_s) < abs(t_s[last] - t_s[first] - window_s):
            last += 1
        edges.append((first, last, float(t_s[last] - t_s[first])))
        first = last
    left_s = float(t_s[-1] - t_s[first])
    if whole_track and left_s > 0:
        back = int(np.searchsorted(t_s, t_s[-1] - window_s + half_step, side="right")) - 1 if edges else 0
        edges.append((max(back, 0), n - 1, left_s))
    return edges


def time_by_grade(
    t_s: FloatArray,
    path_um: FloatArray,
    quiet_um: FloatArray,
    quiet_mean_um: FloatArray,
    edges: list[tuple[int, int, float]],
    limits: Limits,
) -> FloatArray:
    """(4,) seconds spent in grades a, b, c, d.

    Parameters
    ----------
    path_um : (n, 2) the path that is measured. quiet_um, quiet_mean_um : (n, 2) the path without jitter and its
        average path: whether the tail moves must not be read from the noise of the localisation.
    edges : of ``window_edges``.
    """
    seconds = np.zeros(4)
    along = np.concatenate([[0.0], np.cumsum(step_lengths(quiet_um))])
    along_mean = np.concatenate([[0.0], np.cumsum(step_lengths(quiet_mean_um))])
    for first, last, stands_for_s in edges:
        took_s = float(t_s[last] - t_s[first])
        if took_s < limits.min_duration_s:
            continue
        speed = float(np.hypot(*(path_um[last] - path_um[first]))) / took_s
        if speed >= RAPID_UM_S:
            grade = 0
        elif speed >= PROGRESSIVE_UM_S:
            grade = 1
        else:
            vcl = (along[last] - along[first]) / took_s
            vap = (along_mean[last] - along_mean[first]) / took_s
            grade = 3 if vap < limits.immotile_vap_um_s and vcl < limits.immotile_vcl_um_s else 2
        seconds[grade] += stands_for_s
    return seconds


def main_grade(seconds: FloatArray) -> str:
    """The grade most time was spent in ("" where none; of equal ones the faster)."""
    return MOTILITY_GRADES[int(np.argmax(seconds))] if seconds.sum() > 0 else ""


def motility_percent(seconds: FloatArray) -> dict[str, float | None]:
    """Percentages of graded time in a, b, c, d, pr (a + b) and total (a + b + c); None where nothing was graded."""
    whole = float(seconds.sum())
    if whole <= 0:
        return dict.fromkeys((*MOTILITY_GRADES, "pr", "total"))
    a, b, c, d = (100 * float(part) / whole for part in seconds)
    return {"a": a, "b": b, "c": c, "d": d, "pr": a + b, "total": a + b + c}
