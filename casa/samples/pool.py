"""Figures of a sample: its fields pooled, its replicates compared.

Percentages weigh tracks by their time in view, over all fields; their intervals are Wilson's, at the effective number
of tracks. The concentration is heads over volume, over all fields; its interval is Poisson's for the heads of one
frame of each field, or wider where fields differ by more than Poisson's law lets them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from casa.errors import InputError
from casa.record import Recording
from casa.samples.replicates import MIN_CELLS, Agreement, compare_counts, compare_percentages
from casa.samples.sample import FILE, Sample, paths_of
from casa.statistics import counts_interval, effective_count, wilson_percent
from casa.types import MOTILITY_GRADES, Calibration, FloatArray, KinematicsTable, is_simulated

Interval = tuple[float, float]
#: Frame rates further apart than this part are not pooled: VCL, ALH and BCF depend on it.
_SAME_RATE = 0.05
_KEYS = (*MOTILITY_GRADES, "pr", "total")
#: What the flags of a field's summary mean for its figures; those that only tell of a correction are left out.
_DOUBTS = {
    "short": "tracks shorter than the grading window",
    "low_frame_rate": "fewer than 50 images/s, so VCL reads low and ALH and BCF are not trustworthy",
    "gaps": "moments in which a sperm was not detected",
    "bcf_near_nyquist": "beats too fast for the frame rate",
    "too_few_points": "tracks too short for VAP, ALH and BCF",
    "timestamps_repaired": "timestamps of the file that had to be repaired",
}


@dataclass(frozen=True, slots=True)
class FieldFigures:
    """What a recording gives.

    ``video`` tells what was recorded (check sum of the file, or the simulation), None where nothing does;
    ``analysed_with`` the casa and the check sum of the detector. ``seconds_by_grade`` (4,) and ``weights`` (n,), s, are
    of its graded tracks; ``volume_ml`` is of the field. ``simulated``: it was computed,
    not recorded.
    """

    path: Path
    replicate: int
    recording_id: str
    video: str | None
    analysed_with: tuple[str, str]
    fps_hz: float
    calibration: Calibration
    heads: float
    area_um2: float
    volume_ml: float | None
    seconds_by_grade: FloatArray
    weights: FloatArray
    kinematics: KinematicsTable
    flags: tuple[str, ...]
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval; None where it cannot be known."""

    value: float | None
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class Pooled:
    """Figures of a replicate, or of both: ``cells`` is the effective number of tracks (see ``effective_count``)."""

    n_fields: int
    cells: float
    heads: float
    motility_percent: dict[str, Estimate]
    concentration_m_per_ml: Estimate


@dataclass(frozen=True, slots=True)
class SampleFigures:
    """A sample's figures, and whether they can be reported.

    ``agreement`` compares the replicates by percentage (of pr, c, d) and by count; ``reasons`` say why more has to be
    counted, one line each; without any the sample is accepted. ``fields`` are in the order of the sample's file.
    """

    pooled: Pooled
    replicates: tuple[Pooled, ...]
    agreement: dict[str, Agreement]
    total_m: Estimate
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    fields: tuple[FieldFigures, ...]

    @property
    def accepted(self) -> bool:
        """Whether nothing more has to be counted."""
        return not self.reasons


def read_field(path: Path, replicate: int, open_recording: Callable[[Path], Recording] = Recording) -> FieldFigures:
    """The figures of a recording.

    ``open_recording`` may give other tracks than the file's (`casa.engine.corrected`).

    Raises
    ------
    InputError : a recording without a scale, that broke off, or of which no frame was analysed.
    """
    with open_recording(path) as recording:
        summary, calibration, source = recording.summary(), recording.calibration, recording.source
        if summary is None:
            raise InputError(f"{path}: broke off before its figures were made; record the field again")
        if calibration is None:
            raise InputError(f"{path}: has no scale, so it has no motility; analyse it with --calibration")
        if summary.heads_per_frame is None:
            raise InputError(f"{path}: no frame of it was analysed, which is not an empty field; record it again")
        rows, session, recording_id = recording.kinematics(), recording.session, recording.recording_id
    digest = (session.get("source") or {}).get("sha256")
    area_um2 = source.width_px * calibration.um_per_px_x * source.height_px * calibration.um_per_px_y
    depth_um = calibration.chamber_depth_um
    return FieldFigures(
        path=path,
        replicate=replicate,
        recording_id=recording_id,
        simulated=is_simulated(source),
        video=digest or (source.uri if is_simulated(source) and not session.get("session_id") else None),
        analysed_with=(
            str(session.get("casa_version") or "?"),
            str((session.get("model") or {}).get("sha256") or "?"),
        ),
        fps_hz=source.fps_hz,
        calibration=calibration,
        heads=summary.heads_per_frame,
        area_um2=area_um2,
        volume_ml=None if depth_um is None else area_um2 * depth_um * 1e-12 / calibration.chamber_factor,
        seconds_by_grade=np.nansum(rows.time_by_grade_s, axis=0),
        weights=np.nansum(rows.time_by_grade_s, axis=1),
        kinematics=rows,
        flags=summary.flags,
    )


def read_fields(
    folder: Path, sample: Sample, open_recording: Callable[[Path], Recording] = Recording
) -> list[FieldFigures]:
    """The figures of a sample's recordings. Raises InputError for one that is gone, or another one in its place."""
    fields = []
    for entry, path in paths_of(folder, sample):
        found = read_field(path, entry.replicate, open_recording)
        if found.recording_id != entry.recording_id:
            raise InputError(
                f"{path}: is another recording than the one that was added to {folder / FILE}; put that one back, or"
                f" `casa sample remove {folder} {entry.recording}` and add this one"
            )
        fields.append(found)
    return fields


def sample_figures(
    folder: Path, sample: Sample, open_recording: Callable[[Path], Recording] = Recording
) -> SampleFigures:
    """Read and pool the recordings of a sample.

    Raises
    ------
    InputError : no field yet, a recording that is gone, or fields of different calibrations or frame rates.
    """
    fields = read_fields(folder, sample, open_recording)
    if not fields:
        raise InputError(f"{folder}: the sample has no field yet; `casa sample add {folder} RUN.h5 --replicate 1`")
    check_alike(fields)
    by_replicate = {number: [f for f in fields if f.replicate == number] for number in (1, 2)}
    replicates = tuple(pool(group, sample.dilution) for group in by_replicate.values() if group)
    pooled = pool(fields, sample.dilution)
    agreement = _compare(replicates, by_replicate) if len(replicates) == 2 else {}
    value, interval = pooled.concentration_m_per_ml.value, pooled.concentration_m_per_ml.interval
    volume = sample.volume_ml
    total = Estimate(None)
    if volume is not None and value is not None and interval is not None:
        total = Estimate(value * volume, (interval[0] * volume, interval[1] * volume))
    reasons, notes = tuple(_why_more(replicates, agreement)), tuple(_notes(fields))
    return SampleFigures(pooled, replicates, agreement, total, reasons, notes, tuple(fields))


def _notes(fields: Sequence[FieldFigures]) -> list[str]:
    """What else to know, one line each."""
    found = {flag for f in fields for flag in f.flags}
    doubts = [words for flag, words in _DOUBTS.items() if flag in found]
    notes = [f"in at least one field: {'; '.join(doubts)}"] if doubts else []
    if not all(f.calibration.verified for f in fields):
        notes.append("the calibration was never verified against a stage micrometer")
    if len({f.analysed_with for f in fields}) > 1:
        notes.append("the fields were analysed with different versions of casa or of the detector's weights")
    return notes


def pool(fields: Sequence[FieldFigures], dilution: float = 1.0) -> Pooled:
    """The figures of fields together; ``dilution`` multiplies the concentration."""
    seconds = np.sum([f.seconds_by_grade for f in fields], axis=0)
    cells = effective_count(np.concatenate([f.weights for f in fields]))
    whole = float(seconds.sum())
    motility: dict[str, Estimate] = dict.fromkeys(_KEYS, Estimate(None))
    if whole > 0:
        a, b, c, d = (100 * float(part) / whole for part in seconds)
        for key, value in zip(_KEYS, (a, b, c, d, a + b, a + b + c), strict=True):
            motility[key] = Estimate(value, wilson_percent(value, cells))
    heads = sum(f.heads for f in fields)
    return Pooled(len(fields), cells, heads, motility, _concentration(fields, dilution))


def _concentration(fields: Sequence[FieldFigures], dilution: float) -> Estimate:
    volumes = [f.volume_ml for f in fields if f.volume_ml is not None]
    if len(volumes) < len(fields):
        return Estimate(None)
    heads, volume = sum(f.heads for f in fields), sum(volumes)
    to_m_per_ml = dilution / volume / 1e6
    low, high = counts_interval(np.array([f.heads for f in fields]), np.array(volumes))
    return Estimate(heads * to_m_per_ml, (low * to_m_per_ml, high * to_m_per_ml))


def check_alike(fields: Sequence[FieldFigures]) -> None:
    """Raise InputError unless the fields can be pooled: each another one, of one calibration and one frame rate."""
    first = fields[0]
    scale = lambda c: (c.um_per_px_x, c.um_per_px_y, c.chamber_depth_um, c.chamber_factor)  # noqa: E731
    seen: dict[str, FieldFigures] = {}
    for f in fields:
        for identity in (f.recording_id, f.video):
            if identity is not None and (known := seen.setdefault(identity, f)) is not f:
                what = "is the same recording as" if identity == f.recording_id else "was made from the same video as"
                raise InputError(
                    f"{f.path}: {what} {known.path} of replicate {known.replicate}; nothing may be counted twice"
                )
        if scale(f.calibration) != scale(first.calibration):
            raise InputError(
                f"{f.path}: calibration {f.calibration.name!r} differs from {first.calibration.name!r} of {first.path};"
                " the fields of a sample need one calibration"
            )
        if abs(f.fps_hz - first.fps_hz) > _SAME_RATE * first.fps_hz:
            raise InputError(
                f"{f.path}: {f.fps_hz:g} frames/s, and {first.path} has {first.fps_hz:g}; the fields of a sample need"
                " one frame rate, since VCL, ALH and BCF depend on it"
            )


def _compare(replicates: tuple[Pooled, ...], by_replicate: dict[int, list[FieldFigures]]) -> dict[str, Agreement]:
    one, two = replicates
    found = {}
    for key in ("pr", "c", "d"):
        first, second = one.motility_percent[key].value, two.motility_percent[key].value
        if first is not None and second is not None:
            found[key] = compare_percentages(first, second)
    # counts compare where as much was looked at: those of the replicate with more fields are brought to the other's
    first, second = (sum(f.area_um2 for f in by_replicate[number]) for number in (1, 2))
    least = min(first, second)
    found["count"] = compare_counts(one.heads * least / first, two.heads * least / second)
    return found


def _why_more(replicates: tuple[Pooled, ...], agreement: dict[str, Agreement]) -> list[str]:
    """Why the sample cannot be reported yet, one line each."""
    reasons = []
    if len(replicates) < 2:
        reasons.append("only one replicate: WHO asks for two; add the fields of a second one")
    for number, replicate in enumerate(replicates, 1):
        if replicate.cells < MIN_CELLS:
            reasons.append(
                f"replicate {number}: {replicate.cells:.0f} cells, and WHO asks for {MIN_CELLS}; record more fields"
            )
    names = {"pr": "progressive motility", "c": "non-progressive motility", "d": "immotile"}
    shown = {key: agreement[key] for key in names if key in agreement}
    if shown:
        key = max(shown, key=lambda k: shown[k].average)  # the most frequent category decides
        found = shown[key]
        if not found.accepted:
            reasons.append(
                f"{names[key]}: {found.first:.0f} and {found.second:.0f} % differ by more than chance explains"
                f" ({found.limit:.0f} points); make two new preparations and count again"
            )
    count = agreement.get("count")
    if count is not None and not count.accepted:
        reasons.append(
            f"heads counted: {count.first:.0f} and {count.second:.0f} differ by more than chance explains"
            f" ({count.limit:.0f}); mix the sample, make two new preparations and count again"
        )
    return reasons
