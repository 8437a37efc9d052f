"""Kinematics held to true kinematics of the same tracks: errors of the speeds, and agreement of the grades."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from casa.errors import InputError
from casa.evaluate.field import error_figures, grade_agreement, kinematics_errors
from casa.tables import read_columns, read_text_column
from casa.types import MOTILITY_GRADES, KinematicsTable

_REQUIRED = ("track_id", "duration_s", "vcl_um_s", "vsl_um_s", "vap_um_s")
#: Columns of a kinematics CSV that other programs may leave out.
_OPTIONAL = ("lin", "str", "wob", "alh_mean_um", "alh_max_um", "bcf_hz", "mad_deg", "vcl_px_s", "vsl_px_s", "vap_px_s",
             "alh_mean_px", "alh_max_px")  # fmt: skip


def read_kinematics(path: Path) -> KinematicsTable:
    """Read a kinematics CSV (plain or .gz), sorted by track; columns it lacks are NaN, 0 or "".

    Without times by grade (``time_a_s`` …) a track's whole time counts for its ``motility_grade``.

    Raises
    ------
    InputError : the file is missing, is no such table, or has a track twice or an unknown grade.
    """
    columns = read_columns(path, ("track_id",))
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise InputError(f"{path}: column {', '.join(missing)} is missing; expected a table of casa kinematics")
    n = len(columns["track_id"])
    if len(np.unique(columns["track_id"])) != n:
        raise InputError(f"{path}: a track has more than one row; expected one row a track")
    grade = read_text_column(path, "motility_grade")
    grade = np.full(n, "") if grade is None else grade
    unknown = sorted(set(grade.tolist()) - {"", *MOTILITY_GRADES})
    if unknown:
        raise InputError(
            f"{path}: motility_grade {unknown[0]!r}: expected one of {', '.join(MOTILITY_GRADES)}, or empty"
        )
    seconds = np.stack([columns.get(f"time_{g}_s", np.full(n, np.nan)) for g in MOTILITY_GRADES], axis=1)
    whole = np.stack([np.where(grade == g, columns["duration_s"], 0.0) for g in MOTILITY_GRADES], axis=1)
    nothing = np.full(n, np.nan)
    table = KinematicsTable(
        track_id=columns["track_id"].astype(np.int64),
        n_frames=np.nan_to_num(columns.get("n_frames", nothing)).astype(np.int64),
        t_start_ns=np.nan_to_num(columns.get("t_start_s", nothing) * 1e9).astype(np.int64),
        duration_s=columns["duration_s"],
        vcl_um_s=columns["vcl_um_s"],
        vsl_um_s=columns["vsl_um_s"],
        vap_um_s=columns["vap_um_s"],
        motility_grade=grade,
        time_by_grade_s=np.where(np.isnan(seconds).any(axis=1, keepdims=True), whole, seconds),
        flags=np.nan_to_num(columns.get("flags", nothing)).astype(np.int64),
        **{name: columns.get(name, nothing) for name in _OPTIONAL},
    )
    return table.select(np.argsort(table.track_id, kind="stable"))


def kinematics_scores(truth: KinematicsTable, found: KinematicsTable, min_duration_s: float = 0.0) -> dict[str, Any]:
    """Hold kinematics to the truth of the same tracks, matched by ``track_id``.

    Parameters
    ----------
    truth, found : one row a track, any order. min_duration_s : tracks seen for less in truth are left out.

    Returns
    -------
    dict : ``tracks`` (true, found, compared), ``errors`` (``kinematics_errors``, and ALH and BCF of tracks with a true
        VAP of at least 5 um/s), ``vcl``, ``vsl``, ``vap`` (largest and mean relative error in percent), ``grades``
        (``same_percent`` of the tracks' main grades, and ``grade_agreement`` of time).

    Raises
    ------
    InputError : no track is in both, or the speeds of one are not in um/s.
    """
    for name, table in (("truth", truth), ("found", found)):
        if len(table) and np.isnan(table.vcl_um_s).all():
            raise InputError(f"the {name} table has no speeds in um/s; measure it with a scale (--um-per-px)")
    long = truth.select(truth.duration_s >= min_duration_s)
    both, true_at, found_at = np.intersect1d(long.track_id, found.track_id, return_indices=True)
    if not len(both):
        raise InputError("no track of the truth is in the found table; track ids must be the same in both")
    true, other = long.select(true_at), found.select(found_at)
    moves = true.vap_um_s >= 5.0
    errors = kinematics_errors(other, true)
    for name in ("alh_mean_um", "bcf_hz"):
        exact = getattr(true, name)
        known = moves & (exact > 0)
        errors[name] = error_figures(getattr(other, name)[known], exact[known], true.duration_s[known], relative=True)
    graded = (true.motility_grade != "") & (other.motility_grade != "")
    same = true.motility_grade[graded] == other.motility_grade[graded]
    return {
        "tracks": {"true": len(long), "found": len(found), "compared": len(both)},
        **{name: _relative_error(getattr(other, f"{name}_um_s"), getattr(true, f"{name}_um_s"))
           for name in ("vcl", "vsl", "vap")},
        "errors": errors,
        "grades": {
            "tracks": len(same),
            "same_percent": 100 * float(same.mean()) if len(same) else float("nan"),
            **grade_agreement(other, true),
        },
    }  # fmt: skip


def _relative_error(found: np.ndarray, true: np.ndarray) -> dict[str, float | int]:
    """Relative error of the tracks whose true speed is above 0, percent of it."""
    known = np.isfinite(found) & np.isfinite(true) & (true > 0)
    if not known.any():
        return {"n": 0}
    error = 100 * np.abs(found[known] / true[known] - 1)
    return {"n": int(known.sum()), "mean_percent": float(error.mean()), "max_percent": float(error.max())}
