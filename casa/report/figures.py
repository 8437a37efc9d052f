"""The figures of a report, from the recording's own: headline, WHO table, kinematics by grade, what to beware of.

Figures are taken from the recording's summary and kinematics and never computed a second way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.report import texts
from casa.report.texts import Note
from casa.statistics import Spread, effective_count, poisson_interval, spread, wilson_percent
from casa.types import (
    MOTILITY_GRADES,
    Calibration,
    FrameAccount,
    KinematicsFlag,
    KinematicsTable,
    SourceInfo,
    Summary,
)

Interval = tuple[float, float]

#: Below these a field's drift (um/s, or px/s) and the localisation jitter (px) are not worth a line.
DRIFT_SHOWN_UM_S, DRIFT_SHOWN_PX_S, JITTER_SHOWN_PX = 1.0, 2.0, 0.3
TRUSTED_FPS_HZ = 49.75  # 50 images/s, less the rounding of clocks
ENOUGH_CELLS = 200


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its 95 % interval; ``value`` is None with a ``reason`` where it cannot be known."""

    value: float | None
    interval: Interval | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Timing:
    """What the frames' own times say: analysed images per second, and how far off the usual interval one in 20 is."""

    fps_hz: float | None
    duration_s: float
    uneven_percent: float


@dataclass(frozen=True, slots=True)
class WhoRow:
    """A line of the WHO table; ``limit`` is the lower 5th centile where WHO gives one."""

    name: str
    detail: str
    figure: Figure
    unit: str
    limit: float | None
    key: str


@dataclass(frozen=True, slots=True)
class KinematicsRow:
    """Median and quartiles of each parameter over the tracks of a grade."""

    shade: str
    name: str
    n_tracks: int
    cells: tuple[Spread | None, ...]


def measure_timing(frames: dict[str, NDArray[Any]]) -> Timing:
    """Rate and evenness of the analysed frames; fields of an interlaced frame count as images of their own."""
    times = np.unique(np.asarray(frames["t_ns"], np.int64))
    duration_s = float(times[-1] - times[0]) / 1e9 if times.size else 0.0
    status = np.asarray(frames["status"]).astype(str)
    analysed = np.unique(np.asarray(frames["t_ns"], np.int64)[status == "processed"])
    steps = np.diff(analysed)
    if steps.size == 0:
        return Timing(None, duration_s, 0.0)
    usual = float(np.median(steps))
    uneven = float(np.percentile(np.abs(steps - usual), 95)) / usual * 100
    return Timing(1e9 / usual, duration_s, uneven)


def loss_reasons(frames: dict[str, NDArray[Any]], at_most: int = 2) -> tuple[str, ...]:
    """The commonest reasons of failed and dropped frames, each of at most 120 characters."""
    lost = np.isin(np.asarray(frames["status"]).astype(str), ["failed", "dropped"])
    reasons, counts = np.unique(np.asarray(frames["reason"]).astype(str)[lost], return_counts=True)
    common = [str(reason) for reason in reasons[np.argsort(-counts, kind="stable")] if reason]
    return tuple(reason if len(reason) <= 120 else reason[:119] + "…" for reason in common[:at_most])


def time_weights(kinematics: KinematicsTable) -> NDArray[np.float64]:
    """Time each track was graded for, in s (n,)."""
    return np.nansum(kinematics.time_by_grade_s, axis=1)


def graded(kinematics: KinematicsTable) -> NDArray[np.bool_]:
    """Which tracks have a grade (n,)."""
    return kinematics.motility_grade != ""


def motility_figures(
    summary: Summary | None, kinematics: KinematicsTable, calibration: Calibration | None
) -> dict[str, Figure]:
    """The summary's percentages with Wilson intervals at the effective number of tracks (see ``effective_count``)."""
    n = effective_count(time_weights(kinematics))
    figures = {}
    for key in (*MOTILITY_GRADES, "pr", "total"):
        value = summary.motility_percent.get(key) if summary else None
        if value is None or not math.isfinite(value):
            reason = (
                texts.REASON_NO_SUMMARY
                if summary is None
                else texts.REASON_NO_SCALE
                if calibration is None
                else texts.REASON_NO_TRACKS
            )
            figures[key] = Figure(None, None, reason)
        else:
            figures[key] = Figure(value, wilson_percent(value, n))
    return figures


def concentration_figure(summary: Summary | None, calibration: Calibration | None, source: SourceInfo) -> Figure:
    """The summary's concentration, with the Poisson interval of the heads one field holds.

    The heads of one field are counted over and over in its frames: the count is as sure as one frame's.
    """
    if summary is None:
        return Figure(None, None, texts.REASON_NO_SUMMARY)
    value, heads = summary.concentration_m_per_ml, summary.heads_per_frame
    if value is None:
        if calibration is None:
            return Figure(None, None, texts.REASON_NO_SCALE)
        return Figure(None, None, texts.REASON_NO_DEPTH if heads is not None else texts.REASON_NO_FRAMES)
    if heads is None:
        return Figure(value)
    low, high = poisson_interval(heads)
    if heads > 0:
        return Figure(value, (value * low / heads, value * high / heads))
    if calibration is None or not calibration.chamber_depth_um:
        return Figure(value)
    area_um2 = source.width_px * calibration.um_per_px_x * source.height_px * calibration.um_per_px_y
    one_head = 1e6 * calibration.chamber_factor / (area_um2 * calibration.chamber_depth_um)
    return Figure(value, (0.0, high * one_head))


def who_table(motility: dict[str, Figure], concentration: Figure) -> list[WhoRow]:
    """The lines of the WHO table, totals first."""
    limits = texts.WHO_LIMITS
    rows = [
        WhoRow("Concentration", "sperm per mL", concentration, "M/mL", limits["concentration"], "concentration"),
        WhoRow("Total motility", "a + b + c", motility["total"], "%", limits["total"], "total"),
        WhoRow("Progressive motility (PR)", "a + b", motility["pr"], "%", limits["pr"], "pr"),
    ]
    for letter in MOTILITY_GRADES:
        grade = texts.GRADES[letter]
        rows.append(WhoRow(f"Grade {letter}: {grade.name}", grade.limit, motility[letter], "%", None, letter))
    return rows


@dataclass(frozen=True, slots=True)
class Parameter:
    """A column of the kinematics table: ``factor`` turns the recording's unit into the shown one."""

    symbol: str
    column: str
    unit: str
    factor: float = 1.0
    needs_frame_rate: bool = False
    digits: int = 1


def parameters(calibrated: bool) -> tuple[Parameter, ...]:
    """The kinematic parameters in micrometres where the recording is calibrated, else in pixels."""
    speed, length, unit, per_s = ("um_s", "um", "µm", "µm/s") if calibrated else ("px_s", "px", "px", "px/s")
    return (
        Parameter("VCL", f"vcl_{speed}", per_s),
        Parameter("VSL", f"vsl_{speed}", per_s),
        Parameter("VAP", f"vap_{speed}", per_s),
        Parameter("LIN", "lin", "%", 100.0, digits=0),
        Parameter("STR", "str", "%", 100.0, digits=0),
        Parameter("WOB", "wob", "%", 100.0, digits=0),
        Parameter("ALH mean", f"alh_mean_{length}", unit, needs_frame_rate=True),
        Parameter("ALH max", f"alh_max_{length}", unit, needs_frame_rate=True),
        Parameter("BCF", "bcf_hz", "Hz", needs_frame_rate=True),
        Parameter("MAD", "mad_deg", "°", digits=0),
    )


def kinematics_by_grade(kinematics: KinematicsTable, columns: tuple[Parameter, ...]) -> list[KinematicsRow]:
    """One row a grade that occurs, one for ungraded tracks where they were measured, one for all."""
    grades = kinematics.motility_grade
    groups = [(letter, texts.GRADES[letter].name, grades == letter) for letter in MOTILITY_GRADES]
    groups.append(("u", texts.UNGRADED.name, grades == ""))
    groups.append(("", "all tracks", np.ones(len(kinematics), bool)))
    rows = []
    for shade, name, mask in groups:
        cells = tuple(spread(getattr(kinematics, p.column)[mask] * p.factor) for p in columns)
        if mask.any() and (shade in MOTILITY_GRADES or any(cells)):
            rows.append(KinematicsRow(shade, name, int(mask.sum()), cells))
    return rows if len(rows) > 2 else rows[-1:]


def _share_percent(kinematics: KinematicsTable, bit: int) -> float:
    return 100 * float(np.mean((kinematics.flags & bit) != 0)) if len(kinematics) else 0.0


def drift_note(summary: Summary, calibration: Calibration | None) -> Note | None:
    """A line on drift when it is worth one or was corrected."""
    if summary.drift_px_s is None:
        return None
    x, y = summary.drift_px_s
    if calibration is not None:
        speed, unit, shown = (
            math.hypot(x * calibration.um_per_px_x, y * calibration.um_per_px_y),
            "µm/s",
            DRIFT_SHOWN_UM_S,
        )
    else:
        speed, unit, shown = math.hypot(x, y), "px/s", DRIFT_SHOWN_PX_S
    if summary.drift_corrected or speed >= shown:
        return texts.drift(f"{speed:.2g} {unit}", summary.drift_corrected)
    return None


def quality_notes(
    source: SourceInfo,
    calibration: Calibration | None,
    account: FrameAccount,
    timing: Timing,
    summary: Summary | None,
    kinematics: KinematicsTable,
    n_tracks: int,
    reasons: tuple[str, ...],
    fields_separated: bool,
    analysed_on: date | None = None,
) -> list[Note]:
    """What a reader must know before trusting the figures: cautions first."""
    notes: list[Note | None] = []
    if account.processed == 0:
        notes.append(texts.nothing_analysed())
    elif n_tracks == 0:
        notes.append(texts.no_sperm(account.processed))
    if summary is None:
        notes.append(texts.no_summary())
    if calibration is None:
        notes.append(texts.uncalibrated())
    else:
        if not calibration.verified:
            notes.append(texts.unverified_calibration(calibration.name))
        if (last := calibration.valid_until) is not None and analysed_on is not None and analysed_on > last:
            notes.append(texts.old_calibration(calibration.name, calibration.measured_on, last.isoformat()))
        if calibration.chamber_depth_um is None:
            notes.append(texts.no_depth())
    if timing.fps_hz is not None and timing.fps_hz < TRUSTED_FPS_HZ:
        notes.append(texts.low_frame_rate(timing.fps_hz))
    if source.timestamps == "assumed":
        notes.append(texts.assumed_time())
    if summary is not None and "timestamps_repaired" in summary.flags:
        notes.append(texts.corrected_times())
    if timing.uneven_percent >= 20:
        notes.append(texts.uneven_time(timing.uneven_percent))
    if account.failed or account.dropped:
        notes.append(texts.lost_frames(account.failed, account.dropped, account.captured, reasons))
    if account.skipped:
        notes.append(texts.skipped_frames(account.skipped, account.captured))
    if not account.balanced:
        notes.append(texts.unbalanced_account())
    if 0 < n_tracks < ENOUGH_CELLS:
        notes.append(texts.few_cells(n_tracks))
    if (percent := _share_percent(kinematics, KinematicsFlag.SHORT)) >= 33:
        notes.append(texts.short_tracks(percent))
    if (percent := _share_percent(kinematics, KinematicsFlag.GAPS)) >= 50:
        notes.append(texts.gaps(percent))
    if (percent := _share_percent(kinematics, KinematicsFlag.BCF_NEAR_NYQUIST)) >= 10:
        notes.append(texts.beat_near_limit(percent, timing.fps_hz))
    if summary is not None:
        notes.append(drift_note(summary, calibration))
        if summary.jitter_px is not None and (summary.jitter_corrected or summary.jitter_px >= JITTER_SHOWN_PX):
            notes.append(texts.jitter(summary.jitter_px, summary.jitter_corrected))
    if source.interlaced:
        notes.append(texts.interlaced(fields_separated))
    return sorted((note for note in notes if note is not None), key=lambda note: not note.caution)
