"""Sections of a sample's report that not every sample has: sub-populations, expert grades, forms of heads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from casa.cells import EXPERT_GRADES, MorphologyTable
from casa.kinematics.subpopulations import MIN_TRACKS, Subpopulations, find_subpopulations
from casa.report import sample_texts, texts
from casa.report.figures import Parameter, parameters
from casa.report.grades import by_track, interval, share_bars, was_on
from casa.report.morphology import Heads, heads_from
from casa.report.paths import Path as TrackPath
from casa.report.paths import Scale, origin_plot, reach_of
from casa.report.sample_charts import group_scatter, mark_key
from casa.report.sample_fields import Field
from casa.report.sample_pictures import FieldPicture
from casa.statistics import Spread, spread, wilson_percent
from casa.types import KinematicsTable

#: Paths drawn of each group.
_PATHS = 14
_SHOWN = ("VCL", "VSL", "LIN", "STR", "ALH mean", "BCF")


@dataclass(frozen=True, slots=True, eq=False)
class GroupRow:
    """A sub-population: its mark, words, tracks, share of the motile, spreads, tracks by grade, and some paths."""

    key: Markup
    number: int
    name: str
    n_tracks: int
    percent: float
    interval: tuple[float, float] | None
    cells: tuple[Spread | None, ...]
    grades: str
    plot: Markup | None
    n_paths: int


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """The section on sub-populations; without ``rows`` the words say why there are none."""

    words: str
    rows: tuple[GroupRow, ...] = ()
    columns: tuple[Parameter, ...] = ()
    scatter: Markup | None = None


def groups_of(tables: Sequence[KinematicsTable], pictures: Sequence[FieldPicture], scale: Scale) -> Groups:
    """The sub-populations of the tracks of all fields (``tables``, ``pictures`` by field)."""
    table = KinematicsTable.concatenate(list(tables))
    field = np.repeat(np.arange(len(tables)), [len(t) for t in tables])
    found = find_subpopulations(table)
    if found.n_groups == 0:
        return Groups(sample_texts.too_few_for_groups(MIN_TRACKS))
    if found.n_groups == 1:
        return Groups(sample_texts.one_population(found.n_tracks))
    columns = tuple(p for p in parameters(True) if p.symbol in _SHOWN)
    drawn = [_paths_of(k, found, field, table, pictures) for k in range(found.n_groups)]
    reach = reach_of([path for paths in drawn for path in paths], scale)
    rows = tuple(
        _group_row(k, found, table, columns, origin_plot(paths, scale, reach)) for k, paths in enumerate(drawn)
    )
    grouped = found.label >= 0
    scatter = group_scatter(
        table.vcl_um_s[grouped], 100 * table.lin[grouped], found.label[grouped], ("VCL", "LIN"), ("µm/s", "%")
    )
    words = sample_texts.subpopulations_found(found.n_groups, found.n_tracks, found.features, found.agreement)
    return Groups(words, rows, columns, scatter)


def _group_row(
    k: int, found: Subpopulations, table: KinematicsTable, columns: tuple[Parameter, ...],
    plot: tuple[Markup, int] | None,
) -> GroupRow:  # fmt: skip
    mine = found.label == k
    n = int(mine.sum())
    cells = tuple(spread(getattr(table, p.column)[mine] * p.factor) for p in columns)
    grades = [(g, 100 * float(np.mean(table.motility_grade[mine] == g))) for g in "abc"]
    return GroupRow(
        key=mark_key(k),
        number=k + 1,
        name=sample_texts.group_name(*(float(np.median(c[mine])) for c in (table.vcl_um_s, table.vsl_um_s, table.lin))),
        n_tracks=n,
        percent=100 * n / found.n_tracks,
        interval=wilson_percent(100 * n / found.n_tracks, found.n_tracks),
        cells=cells,
        grades=", ".join(f"{g}\u00a0{share:.0f}\u00a0%" for g, share in grades if share >= 0.5),
        plot=plot[0] if plot else None,
        n_paths=plot[1] if plot else 0,
    )


def _paths_of(
    k: int, found: Subpopulations, field: np.ndarray, table: KinematicsTable, pictures: Sequence[FieldPicture]
) -> list[TrackPath]:
    """Paths of a group among those seen near the pictures for a second, evenly over its speeds."""
    seen = {(number, path.track_id): path for number, picture in enumerate(pictures) for path in picture.paths}
    rows = np.flatnonzero(found.label == k)
    rows = rows[np.argsort(table.vsl_um_s[rows], kind="stable")]
    paths = [seen[key] for row in rows if (key := (int(field[row]), int(table.track_id[row]))) in seen]
    paths = [path for path in paths if np.ptp(path.t_s) >= 1.0]
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), _PATHS)).round().astype(int))
    return [paths[i] for i in chosen.tolist()]


@dataclass(frozen=True, slots=True, eq=False)
class SampleGrades:
    """Expert grades of the whole sample: rows of grade, share, interval, and the share in each replicate, all in %."""

    network: str
    trained_on: str
    n_tracks: int
    n_clips: int
    n_fields: int
    bars: Markup
    rows: tuple[tuple[str, float, float, float, tuple[float | None, ...]], ...]


def _named(told: dict[str, Any]) -> tuple[str, str]:
    """Name of a network, and what it was trained on."""
    return " ".join(str(told[key]) for key in ("name", "network") if told.get(key)) or "unknown", str(
        told.get("trained_on") or "unknown"
    )


def _one_network(models: Sequence[dict[str, Any]]) -> bool:
    return len({(model.get("sha256"), model.get("name")) for model in models}) == 1


def grades_of_sample(fields: Sequence[Field]) -> SampleGrades | str:
    """Grades of fields together; a sentence where there are none to pool."""
    graded = [(f.replicate, f.record.session.get("grade_model") or {}, f.grades) for f in fields if len(f.grades)]
    if not graded:
        return not_graded(fields) or sample_texts.NO_GRADES
    if not _one_network([model for _, model, _ in graded]):
        return sample_texts.MIXED_GRADERS
    means = [(replicate, by_track(table)[1]) for replicate, _, table in graded]
    mean = np.concatenate([m for _, m in means])
    low, high = interval(mean)
    overall = mean.mean(axis=0)
    by_replicate = []
    for number in sorted({f.replicate for f in fields}):
        own = [m for replicate, m in means if replicate == number]
        by_replicate.append(100 * np.concatenate(own).mean(axis=0) if own else None)
    rows = tuple(
        (grade, 100 * float(overall[k]), 100 * float(low[k]), 100 * float(high[k]),
         tuple(None if share is None else float(share[k]) for share in by_replicate))
        for k, grade in enumerate(EXPERT_GRADES)
    )  # fmt: skip
    network, trained_on = _named(graded[0][1])
    bars = share_bars(overall, (low, high), 420.0, 150.0)
    n_clips = sum(len(table) for _, _, table in graded)
    return SampleGrades(network, trained_on, len(mean), n_clips, len(graded), bars, rows)


def heads_of_sample(fields: Sequence[Field]) -> Heads | str:
    """Heads of fields together, one a track; a sentence where there are none to pool."""
    examined = [
        (f.record.session.get("morphology_model") or {}, f.heads, f.examining or {}) for f in fields if len(f.heads)
    ]
    if not examined:
        return not_examined(fields) or sample_texts.NO_MORPHOLOGY
    models = [model for model, _, _ in examined]
    if not _one_network(models) or len({table.class_names for _, table, _ in examined}) > 1:
        return sample_texts.MIXED_MORPHOLOGY
    tracks = MorphologyTable.concatenate([table.by_track() for _, table, _ in examined])
    outside = dict.fromkeys(words for model in models for words in model.get("outside") or ())
    counts = _added(n for _, _, n in examined)
    return heads_from(tracks, sum(len(table) for _, table, _ in examined), models[0] | {"outside": outside}, counts)


def not_graded(fields: Sequence[Field]) -> str:
    """In which fields grading was on and gave nothing, and why; "" where there is none."""
    empty = [f for f in fields if was_on(f.record.session, "grade") and not len(f.grades)]
    return _nothing("graded", empty, [f.grading for f in empty], len(fields))


def not_examined(fields: Sequence[Field]) -> str:
    """In which fields morphology was on and gave nothing, and why; "" where there is none."""
    empty = [f for f in fields if was_on(f.record.session, "morphology") and not len(f.heads)]
    return _nothing("examined", empty, [f.examining for f in empty], len(fields))


def _nothing(done: str, empty: Sequence[Field], counts: Sequence[dict[str, Any] | None], n_fields: int) -> str:
    if not empty:
        return ""
    counted = None if any(of is None for of in counts) else _added(of for of in counts if of is not None)
    words = texts.none_words(done, sum(f.record.summary.n_tracks for f in empty), counted)
    return sample_texts.of_fields([f.record.number for f in empty], n_fields, words)


def _added(counts: Iterable[dict[str, Any]]) -> Counter[str]:
    """What became of the clips of several fields."""
    total: Counter[str] = Counter()
    for of in counts:
        total.update({name: value for name, value in of.items() if isinstance(value, int)})
    return total
