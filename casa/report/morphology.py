"""The report's section on heads: classes over tracks, what was not classed and why, measures, the sharpest crops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from casa.cells import STRICT_ACROSOME_SHARE, STRICT_ELLIPTICITY, MorphologyTable
from casa.record import Recording
from casa.report import texts
from casa.report.charts import line, svg, text
from casa.report.grades import heat_over, was_on
from casa.report.picture import jpeg_data_uri
from casa.statistics import Spread, spread, wilson_percent
from casa.types import FloatArray

#: Heads of the sheet, the sharpest; side of each picture, px.
SHEET_HEADS, PICTURE_PX = 12, 128


@dataclass(frozen=True, slots=True, eq=False)
class ClassRow:
    """A class: tracks for which it is the likeliest, their share of those classed with its interval (in %)."""

    name: str
    n: int
    percent: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class PartRows:
    """What is said of one part ("class" where the network judges the head as a whole): bars and rows."""

    name: str
    n_classed: int
    n_unsure: int
    bars: Markup
    rows: tuple[ClassRow, ...]


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure over tracks, and the share (%) of them within the strict limits, where there are any."""

    name: str
    unit: str
    digits: int
    spread: Spread
    limits: tuple[float, float] | None
    within: float | None


@dataclass(frozen=True, slots=True)
class SheetHead:
    """A head of the sheet: its crop, and beside it with what decided."""

    track_id: int
    picture: str
    has_heat: bool
    said: str


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """What the section shows. ``abstained``: tracks without a class by reason, most first; clips in ``counts``."""

    n_tracks: int
    n_clips: int
    parts: tuple[PartRows, ...]
    abstained: tuple[tuple[str, int], ...]
    measures: tuple[Measure, ...]
    sheet: tuple[SheetHead, ...]
    network: str
    trained_on: str
    outside: tuple[str, ...]
    counts: dict[str, int]

    @property
    def n_seen(self) -> int:
        """Tracks of which a head was seen well enough."""
        return self.n_tracks - sum(n for _, n in self.abstained)


def heads_of(recording: Recording) -> Heads | None:
    """The section's figures; None where no head was examined."""
    clips = recording.morphology()
    if not len(clips):
        return None
    told, tracks = recording.session.get("morphology_model") or {}, clips.by_track()
    heads = heads_from(tracks, len(clips), told, recording.examining or {})
    return replace(heads, sheet=_sheet(recording, tracks, _decided(tracks, told)))


def nothing_examined(recording: Recording, n_tracks: int) -> str:
    """Why no head was examined, in a sentence; "" where some were, or morphology was off."""
    if len(recording.morphology()) or not was_on(recording.session, "morphology"):
        return ""
    return texts.none_words("examined", n_tracks, recording.examining)


def heads_from(tracks: MorphologyTable, n_clips: int, told: Mapping[str, Any], counts: Mapping[str, Any]) -> Heads:
    """The section's figures without pictures, of a table with a row a track; ``told`` is of the network."""
    decided, seen = _decided(tracks, told), tracks.n_crops > 0
    outside = tuple(map(str, told.get("outside") or ()))
    if not outside and not tracks.in_domain[seen].all():
        outside = ("what they should be like is not recorded",)
    return Heads(
        n_tracks=len(tracks),
        n_clips=n_clips,
        parts=tuple(_part(name, tracks, words, seen) for name, words in decided.items()) if seen.any() else (),
        abstained=tuple(Counter(tracks.reason[~seen].tolist()).most_common()),
        measures=_measures(tracks),
        sheet=(),
        network=str(told.get("name") or "unknown"),
        trained_on=str(told.get("trained_on") or "unknown"),
        outside=outside,
        counts={name: n for name, n in counts.items() if isinstance(n, int)},
    )


def _decided(tracks: MorphologyTable, told: Mapping[str, Any]) -> dict[str, NDArray[np.str_]]:
    return tracks.decided(float(told.get("abstain_below") or 0.0))


def _part(name: str, tracks: MorphologyTable, decided: NDArray[np.str_], seen: NDArray[np.bool_]) -> PartRows:
    classes = [word.rpartition(":")[2] for word in tracks.class_names[tracks.parts[name]]]
    counts = Counter(decided[seen].tolist())
    n_unsure = counts.pop("", 0)
    n = sum(counts.values())
    rows = []
    for word in classes:
        percent = 100 * counts[word] / n if n else 0.0
        low, high = wilson_percent(percent, n) or (0.0, 100.0)
        rows.append(ClassRow(word, counts[word], percent, low, high))
    return PartRows(name, n, n_unsure, class_bars(rows, f"Classes of {n} heads"), tuple(rows))


def class_bars(rows: list[ClassRow], title: str) -> Markup:
    """Horizontal bars of shares (%) with their intervals."""
    row, left, width = 24.0, 110.0, 560.0
    scale = (width - left - 60) / 100
    body = []
    for k, item in enumerate(rows):
        y = k * row
        body.append(text(left - 8, y + 16, item.name, "label", "end"))
        box = f'x="{left}" y="{y + 4:.1f}" width="{item.percent * scale:.1f}" height="{row - 9:.1f}"'
        body.append(f'<rect {box} class="grade-bar"/>')
        a, b, middle = left + item.low * scale, left + item.high * scale, y + row / 2
        body.append(f'<path d="M{a:.1f} {middle - 4:.1f}v8m0 -4H{b:.1f}m0 -4v8" class="whisker"/>')
        body.append(text(b + 7, y + 16, f"{item.percent:.0f} %", "tick"))
    body.append(line(left, 0, left, len(rows) * row, "axis"))
    said = ", ".join(f"{item.name} {item.percent:.0f} %" for item in rows)
    return svg(width, len(rows) * row + 2, body, f"{title}: {said}", "class-bars")


def _measures(tracks: MorphologyTable) -> tuple[Measure, ...]:
    """What is known of the measures; those of which nothing is known are left out."""
    low, high = STRICT_ACROSOME_SHARE
    wanted = (
        ("head length", "µm", 1, tracks.length_um, None),
        ("head width", "µm", 1, tracks.width_um, None),
        ("head area", "µm²", 1, tracks.area_um2, None),
        ("length / width", "", 2, tracks.ellipticity, STRICT_ELLIPTICITY),
        ("elongation", "", 2, tracks.elongation, None),
        ("acrosome", "% of the head", 0, 100 * tracks.acrosome_share, (100 * low, 100 * high)),
    )
    found = []
    for name, unit, digits, values, limits in wanted:
        if (of := spread(values)) is not None:
            found.append(Measure(name, unit, digits, of, limits, None if limits is None else _within(values, limits)))
    return tuple(found)


def _within(values: FloatArray, limits: tuple[float, ...]) -> float:
    known = values[np.isfinite(values)]
    return float(100 * np.mean((known >= limits[0]) & (known <= limits[1])))


def _sheet(
    recording: Recording, tracks: MorphologyTable, decided: dict[str, NDArray[np.str_]]
) -> tuple[SheetHead, ...]:
    """The sharpest heads whose crops are kept."""
    pictures = recording.head_pictures(tracks.clip_id[np.argsort(tracks.edge_share)][: 4 * SHEET_HEADS].tolist())
    rows = [row for row in np.argsort(tracks.edge_share).tolist() if int(tracks.clip_id[row]) in pictures]
    shown = []
    for row in rows[:SHEET_HEADS]:
        crop, heat = pictures[int(tracks.clip_id[row])]
        said = _said(tracks, row, decided)
        shown.append(SheetHead(int(tracks.track_id[row]), jpeg_data_uri(_pair(crop, heat)), heat is not None, said))
    return tuple(shown)


def _said(tracks: MorphologyTable, row: int, decided: dict[str, NDArray[np.str_]]) -> str:
    words = []
    for part, names in decided.items():
        chance = float(tracks.distribution[row, tracks.parts[part]].max())
        name = f"{names[row]} {100 * chance:.0f} %" if names[row] else "unsure"
        words.append(name if len(decided) == 1 else f"{part} {name}")
    return ", ".join(words)


def _pair(crop: NDArray[np.uint8], heat: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """(h, w, 3): a crop, and beside it the same with what decided."""
    large = np.asarray(cv2.resize(crop, (PICTURE_PX, PICTURE_PX), interpolation=cv2.INTER_CUBIC), np.uint8)
    plain = np.asarray(cv2.cvtColor(large, cv2.COLOR_GRAY2RGB), np.uint8)
    return plain if heat is None else np.concatenate([plain, heat_over(plain, heat).astype(np.uint8)], axis=1)
