"""The report's section on expert grades: the mean distribution over tracks, and some clips with theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from casa.cells import EXPERT_GRADES, GradeTable
from casa.record import Recording
from casa.record.clips import KeptClip
from casa.report import texts
from casa.report.charts import line, svg, text
from casa.report.picture import jpeg_data_uri
from casa.types import FloatArray

#: Clips of the sheet, from the best graded to the worst; of each so many pictures of this size (px).
SHEET_CLIPS, SHEET_PICTURES, PICTURE_PX = 8, 6, 96
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True, eq=False)
class SheetClip:
    """A clip of the sheet: its pictures and maps as a data URI, and its distribution."""

    track_id: int
    picture: str
    has_maps: bool
    bars: Markup


@dataclass(frozen=True, slots=True, eq=False)
class Grades:
    """What the section shows."""

    n_tracks: int
    n_clips: int
    bars: Markup
    rows: tuple[tuple[str, float, float, float], ...]  # grade, mean share, interval, all in %
    clips: tuple[SheetClip, ...]
    network: str
    trained_on: str
    counts: dict[str, int]


def grades_of(recording: Recording) -> Grades | None:
    """The section's figures; None where nothing was graded."""
    grades = recording.grades()
    if not len(grades):
        return None
    tracks, mean = by_track(grades)
    low, high = interval(mean)
    overall = mean.mean(axis=0)
    told = recording.session.get("grade_model") or {}
    named = " ".join(str(told[key]) for key in ("name", "network") if told.get(key))
    return Grades(
        n_tracks=len(tracks),
        n_clips=len(grades),
        bars=share_bars(overall, (low, high), 420.0, 150.0),
        rows=tuple(zip(EXPERT_GRADES, *((100 * v).tolist() for v in (overall, low, high)), strict=True)),
        clips=_sheet(recording, dict(zip(tracks.tolist(), mean, strict=True)), grades),
        network=named or "unknown",
        trained_on=str(told.get("trained_on") or "unknown"),
        counts=recording.grading or {},
    )


def nothing_graded(recording: Recording, n_tracks: int) -> str:
    """Why no track was graded, in a sentence; "" where some were, or grading was off."""
    if len(recording.grades()) or not was_on(recording.session, "grade"):
        return ""
    return texts.none_words("graded", n_tracks, recording.grading)


def was_on(session: Mapping[str, Any], network: str) -> bool:
    """Whether a session had a network on: "grade" or "morphology", as its configuration says."""
    return bool(((session.get("config") or {}).get(network) or {}).get("enabled"))


def by_track(grades: GradeTable) -> tuple[NDArray[np.int64], FloatArray]:
    """Track ids (n,) and the mean distribution (n, 5) over each one's clips, so that long tracks count no more."""
    tracks, which, counts = np.unique(grades.track_id, return_inverse=True, return_counts=True)
    sums = np.zeros((len(tracks), 5))
    np.add.at(sums, which, grades.distribution)
    return tracks, sums / counts[:, None]


def interval(mean: FloatArray) -> tuple[FloatArray, FloatArray]:
    """95 % interval of the mean over tracks (n, 5): percentiles of the means of resampled tracks."""
    rng = np.random.default_rng(0)
    means = [mean[rng.integers(0, len(mean), len(mean))].mean(axis=0) for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return low, high


def share_bars(
    shares: FloatArray, spread: tuple[FloatArray, FloatArray] | None, width: float, height: float, small: bool = False
) -> Markup:
    """Bars of the shares (5,) of grades A to E, with intervals where given."""
    column, top, base = width / 5, 20.0, height - 20.0
    scale = (base - top) / max(float(shares.max()), float(spread[1].max()) if spread else 0.0, 0.5)
    body = []
    for k, share in enumerate(shares.tolist()):
        x, tall = k * column + column * 0.18, share * scale
        box = f'x="{x:.1f}" y="{base - tall:.1f}" width="{column * 0.64:.1f}" height="{tall:.1f}"'
        body.append(f'<rect {box} class="grade-bar"/>')
        above = base - tall
        if spread:
            a, b, middle = base - spread[0][k] * scale, base - spread[1][k] * scale, x + column * 0.32
            body.append(f'<path d="M{middle - 5:.1f} {a:.1f}h10m-5 0V{b:.1f}m-5 0h10" class="whisker"/>')
            above = b
        body.append(text(x + column * 0.32, above - 5, f"{100 * share:.0f} %", "tick", "middle"))
        body.append(text(x + column * 0.32, base + 15, EXPERT_GRADES[k], "label", "middle"))
    body.append(line(0, base, width, base, "axis"))
    said = ", ".join(f"{grade} {100 * share:.0f} %" for grade, share in zip(EXPERT_GRADES, shares, strict=True))
    return svg(width, height, body, f"Shares of expert grades: {said}", "grade-bars small" if small else "grade-bars")


def _sheet(recording: Recording, mean_of: dict[int, FloatArray], grades: GradeTable) -> tuple[SheetClip, ...]:
    """Some of the clips that are kept, evenly from the best graded to the worst."""
    tracks = recording.clip_tracks
    known = [number for number, track in enumerate(tracks.tolist()) if track in mean_of]
    known.sort(key=lambda number: (float(mean_of[int(tracks[number])] @ np.arange(5)), number))
    if len(known) > SHEET_CLIPS:
        known = [known[k] for k in np.linspace(0, len(known) - 1, SHEET_CLIPS).round().astype(int)]
    row_of = {int(key): row for row, key in enumerate(grades.clip_id.tolist())}
    shown = []
    for kept in recording.clips(known):
        row = row_of.get(kept.clip.clip_id)
        shares = mean_of[kept.clip.track_id] if row is None else grades.distribution[row]
        bars = share_bars(shares, None, 200.0, 96.0, small=True)
        uri = jpeg_data_uri(_strip(kept))
        shown.append(SheetClip(kept.clip.track_id, uri, kept.attention is not None, bars))
    return tuple(shown)


def _strip(kept: KeptClip) -> NDArray[np.uint8]:
    """(h, w, 3): some pictures of a clip side by side, and below them the same with where the network looked."""
    images, maps = kept.clip.images, kept.attention
    n = len(images) if maps is None else len(maps)
    chosen = np.linspace(0, n - 1, SHEET_PICTURES).round().astype(int)
    of_clip = np.linspace(0, len(images) - 1, n).astype(int)[chosen]
    size = (PICTURE_PX, PICTURE_PX)
    small = [cv2.resize(images[k], size, interpolation=cv2.INTER_AREA) for k in of_clip]
    plain = [cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB) for picture in small]
    rows = [np.concatenate(plain, axis=1)]
    if maps is not None:
        over = [heat_over(picture, maps[k]) for picture, k in zip(plain, chosen, strict=True)]
        rows.append(np.concatenate(over, axis=1))
    return np.concatenate(rows, axis=0).astype(np.uint8)


def heat_over(picture: NDArray[Any], attention: NDArray[np.uint8]) -> NDArray[Any]:
    """A picture with a map over it: the least of it clear, the most orange to yellow."""
    size = (picture.shape[1], picture.shape[0])
    heat = cv2.resize(attention.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    weight = ((heat - heat.min()) / max(float(heat.max() - heat.min()), 1e-6))[..., None]
    colour = np.concatenate([np.full_like(weight, 255), 90 + 165 * weight, 20 + 60 * weight], axis=2)
    return picture * (1 - 0.6 * weight) + colour * 0.6 * weight
