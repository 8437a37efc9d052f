"""The figures of a sample's report: WHO table, replicates, fields, and what to beware of in which field.

Figures are those of ``casa.samples.pool`` and of the recordings, never computed a second way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from casa.record import Recording
from casa.report import sample_texts, texts
from casa.report.document import day_of
from casa.report.figures import Figure, Timing, WhoRow, loss_reasons, measure_timing, quality_notes, who_table
from casa.report.texts import Note
from casa.samples.pool import Estimate, FieldFigures, Pooled, SampleFigures, pool
from casa.samples.sample import Sample
from casa.types import MOTILITY_GRADES, FrameAccount, KinematicsTable, SourceInfo, Summary

#: A field further from the pooled value than this many standard deviations of counting is told.
UNLIKE_SD = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class FieldRecord:
    """A field as its recording tells it: ``number`` from 1 in the order of the sample's file."""

    number: int
    figures: FieldFigures
    session: dict[str, Any]
    source: SourceInfo
    summary: Summary
    account: FrameAccount
    timing: Timing
    status: str
    notes: tuple[Note, ...]
    tracking: dict[str, int] | None

    @property
    def pooled(self) -> Pooled:
        """The field's own figures, as a sample of one field would have them."""
        return pool([self.figures])


def read_record(number: int, figures: FieldFigures, recording: Recording, reasons: bool = True) -> FieldRecord:
    """A field's session, times and cautions (with ``reasons`` of lost frames); tracks and detections are not read."""
    frames, session, source, summary = recording.frames(), recording.session, recording.source, recording.summary()
    assert summary is not None  # read_field refused it
    timing, kinematics = measure_timing(frames), figures.kinematics
    notes = quality_notes(
        source, figures.calibration, recording.account, timing, summary, kinematics, summary.n_tracks,
        loss_reasons(frames) if reasons else (), bool(np.any(frames["field"])), day_of(session.get("created_utc")),
    )  # fmt: skip
    few = texts.few_cells(0).title  # what counts is how many the replicates have
    kept = [note for note in notes if note.title != few]
    if recording.status != "complete":
        kept.insert(0, sample_texts.interrupted(texts.STATUS[recording.status][0]))
    return FieldRecord(
        number, figures, session, source, summary, recording.account, timing, recording.status, tuple(kept),
        recording.tracking,
    )  # fmt: skip


def figure_of(estimate: Estimate, reason: str = "") -> Figure:
    """An estimate of the pool as the report's figure."""
    return Figure(estimate.value, estimate.interval, reason if estimate.value is None else "")


def sample_rows(sample: Sample, figures: SampleFigures) -> list[WhoRow]:
    """The lines of the WHO table of a sample: what was measured, then the grades, then what was not measured."""
    limits, pooled = sample_texts.WHO_LIMITS, figures.pooled
    motility = {k: figure_of(e, texts.REASON_NO_TRACKS) for k, e in pooled.motility_percent.items()}
    concentration = figure_of(pooled.concentration_m_per_ml, texts.REASON_NO_DEPTH)
    total = figure_of(
        figures.total_m, sample_texts.REASON_NO_VOLUME if sample.volume_ml is None else texts.REASON_NO_DEPTH
    )
    volume = Figure(sample.volume_ml, None, sample_texts.REASON_NO_VOLUME if sample.volume_ml is None else "")
    rows = who_table(motility, concentration)

    def row(key: str, figure: Figure, unit: str) -> WhoRow:
        return WhoRow(*sample_texts.WHO_ROWS[key], figure, unit, limits[key], key)

    return [
        row("volume", volume, "mL"),
        rows[0],
        row("number", total, "M"),
        *rows[1:],
        row("vitality", Figure(None, None, sample_texts.REASON_NO_VITALITY), "%"),
        row("forms", Figure(None, None, sample_texts.REASON_NO_FORMS), "%"),
    ]


@dataclass(frozen=True, slots=True)
class ReplicateRow:
    """A figure of both replicates; the rest where the manual has a limit. ``decides``: the most frequent motility."""

    name: str
    unit: str
    values: tuple[float | None, float | None]
    difference: float | None = None
    limit: float | None = None
    accepted: bool | None = None
    decides: bool = False


def replicate_rows(figures: SampleFigures) -> list[ReplicateRow]:
    """Both replicates side by side; nothing where there is one only."""
    if len(figures.replicates) < 2:
        return []
    one, two = figures.replicates
    names = {key: sample_texts.CARDS[key][0] for key in ("pr", "total")}
    names |= {letter: sample_texts.grade_row(letter) for letter in MOTILITY_GRADES}
    shown = {k: a for k in ("pr", "c", "d") if (a := figures.agreement.get(k)) is not None}
    deciding = max(shown, key=lambda k: shown[k].average) if shown else ""
    rows = []
    for key, name in names.items():
        values = one.motility_percent[key].value, two.motility_percent[key].value
        agreement = shown.get(key)
        if agreement is None:
            rows.append(ReplicateRow(name, "%", values))
            continue
        found = agreement.difference, agreement.limit, agreement.accepted
        rows.append(ReplicateRow(name, "%", values, *found, decides=key == deciding))
    if (count := figures.agreement.get("count")) is not None:
        rows.append(
            ReplicateRow(
                sample_texts.HEADS_ROW, "", (count.first, count.second), count.difference, count.limit, count.accepted
            )
        )  # fmt: skip
    return rows


@dataclass(frozen=True, slots=True)
class FieldNote:
    """A caution with the letter that stands for it in the table of fields, and the fields it is of."""

    letter: str
    note: Note
    numbers: tuple[int, ...]


def join_notes(records: Sequence[FieldRecord], more: Sequence[tuple[Note, Sequence[int]]] = ()) -> list[FieldNote]:
    """The cautions of all fields, each once, with the fields it is of; cautions before notes, each with a letter.

    The words are those of the first field, since most hold numbers.
    """
    first: dict[str, Note] = {}
    numbers: dict[str, list[int]] = {}
    given = [(note, (record.number,)) for record in records for note in record.notes]
    for note, of in [*more, *given]:
        first.setdefault(note.title, note)
        numbers.setdefault(note.title, []).extend(of)
    joined = []
    for title in sorted(first, key=lambda t: not first[t].caution):
        of = tuple(sorted(set(numbers[title])))
        where = f" ({sample_texts.in_fields(of, len(records))})"
        note = first[title]
        words = note.text if len(of) < 2 or not _has_number(note.text) else f"Field {of[0]}: {note.text}"
        joined.append(FieldNote(_letter(len(joined)), replace(note, title=title + where, text=words), of))
    return joined


def _has_number(words: str) -> bool:
    return any(c.isdigit() for c in words)


def _letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else _letter(index // 26 - 1) + _letter(index % 26)


def unlike_fields(records: Sequence[FieldRecord], figures: SampleFigures) -> list[tuple[Note, tuple[int, ...]]]:
    """Fields whose progressive motility or density is further from the pooled one than counting explains."""
    found = []
    share = figures.pooled.motility_percent["pr"].value
    area = sum(r.figures.area_um2 for r in records)
    density = sum(r.figures.heads for r in records) / area
    motility, heads = [], []
    for r in records:
        own = r.pooled
        value = own.motility_percent["pr"].value
        if share is not None and value is not None and own.cells >= 10:
            sd = 100 * math.sqrt(max(share / 100 * (1 - share / 100), 1e-4) / own.cells)
            motility += [r.number] * (abs(value - share) > UNLIKE_SD * sd)
        expected = density * r.figures.area_um2
        heads += [r.number] * (abs(r.figures.heads - expected) > UNLIKE_SD * math.sqrt(max(expected, 1.0)))
    for kind, numbers in (("Progressive motility", motility), ("The number of heads", heads)):
        if numbers:
            found.append((sample_texts.fields_disagree(kind, numbers), tuple(numbers)))
    return found


def differing(records: Sequence[FieldRecord]) -> list[tuple[Note, tuple[int, ...]]]:
    """A caution where programs, weights or settings differ between fields."""
    parts = {
        "version of casa": lambda s: s.get("casa_version"),
        "detector": lambda s: (s.get("model") or {}).get("sha256"),
        "settings": lambda s: {k: (s.get("config") or {}).get(k) for k in ("detect", "track", "kinematics")},
        "tracks (some are corrected by hand)": lambda s: s.get("tracks"),
    }
    what = [name for name, told in parts.items() if any(told(r.session) != told(records[0].session) for r in records)]
    return [(sample_texts.analysed_differently(what), tuple(r.number for r in records))] if what else []


def all_kinematics(records: Sequence[FieldRecord]) -> KinematicsTable:
    """The kinematics of all fields, one below the other; track ids are of each field's own."""
    return KinematicsTable.concatenate([r.figures.kinematics for r in records])
