"""What a sample's report shows and judges of each field's picture: overlay, sharpness, doubtful heads, paths about it.

Of a recording's tracks only those near the time of one picture are read: a field of any length costs the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.record import Recording
from casa.report import sample_texts
from casa.report.paths import Path as TrackPath
from casa.report.paths import Scale, choose_paths
from casa.report.picture import Overlay, nearest_rows, overlay, to_eight_bit
from casa.report.texts import Note
from casa.types import TrackTable

#: Pictures that are decoded of a field; the middle one is shown.
_LOOKED_AT = 3
_REACH_S = 1.25
_HEAD_PX = 12  # half the side of the patch in which a head's sharpness is measured
#: A field with less than this part of the median field's fine detail is told.
SHARP_ENOUGH = 0.6
#: Immotile objects less sure than nine in ten motile sperm are 10 % by chance; from this part, and so many, it is told.
DOUBTFUL_SHARE, DOUBTFUL_LEAST, _MOTILE_LEAST = 0.3, 5, 20


@dataclass(frozen=True, slots=True, eq=False)
class FieldPicture:
    """A field's picture, and what was seen near its time.

    Parameters
    ----------
    shown : the picture with boxes; None where the recording keeps none.
    sharpness : median over heads of the fine detail about each, 0 to 1; None without a picture or heads.
    confidence : mean confidence of the detector by track, of tracks near the picture's time.
    paths : of these tracks, within ``_REACH_S`` of the picture.
    """

    shown: Overlay | None
    sharpness: float | None
    confidence: dict[int, float]
    paths: tuple[TrackPath, ...]


def read_picture(
    recording: Recording,
    frames: Mapping[str, NDArray[np.int64]],
    shades: Mapping[int, str],
    words: Mapping[int, str],
    scale: Scale,
) -> FieldPicture:
    """The middle picture of a field; ``frames`` as the recording gives them, ``shades`` and ``words`` by track."""
    pictures = recording.pictures(at_most=_LOOKED_AT)
    times = frames["t_ns"]
    if pictures:
        index, t_ns, image = pictures[len(pictures) // 2]
    elif len(times):
        index, t_ns, image = 0, int(np.median(times)), None
    else:
        return FieldPicture(None, None, {}, ())
    near = np.flatnonzero(np.abs(times - t_ns) <= round(_REACH_S * 1e9))
    numbers = frames["frame"][near]
    table = recording.tracks(slice(int(numbers.min()), int(numbers.max()) + 1) if len(near) else slice(0, 0))
    paths, _ = choose_paths(table, shades, words)
    confidence = _mean_confidence(table)
    if image is None:
        return FieldPicture(None, None, confidence, tuple(paths))
    shown = overlay(image, index, t_ns, table, shades, scale, int(times.min()), numbered=False)
    return FieldPicture(shown, _sharpness(image, table.select(nearest_rows(table, t_ns))), confidence, tuple(paths))


def _mean_confidence(table: TrackTable) -> dict[int, float]:
    seen = table.select(~table.predicted)
    ids, which, counts = np.unique(seen.track_id, return_inverse=True, return_counts=True)
    means = np.bincount(which, seen.confidence, minlength=len(ids)) / np.maximum(counts, 1)
    return dict(zip(ids.tolist(), means.tolist(), strict=True))


def _sharpness(image: NDArray, heads: TrackTable) -> float | None:
    """Median over heads of detail of 1 to 2.5 px beside all detail, in a patch about each; light plays no part."""
    gray = to_eight_bit(image if image.ndim == 2 else image.mean(axis=2)).astype(np.float32)
    soft = cv2.GaussianBlur(gray, (0, 0), 1.0)
    fine = soft - cv2.GaussianBlur(gray, (0, 0), 2.3)
    found = []
    for x, y in zip(heads.cx_px.tolist(), heads.cy_px.tolist(), strict=True):
        rows, columns = (slice(max(round(v) - _HEAD_PX, 0), max(round(v) + _HEAD_PX, 0)) for v in (y, x))
        patch = soft[rows, columns]
        if patch.size and (whole := float(patch.var())) > 0:
            found.append(float(fine[rows, columns].var()) / whole)
    return float(np.median(found)) if found else None


def focus_notes(pictures: Sequence[FieldPicture]) -> list[tuple[Note, tuple[int, ...]]]:
    """A caution for each field that is less sharp than the sample's others; ``pictures`` in the order of fields."""
    known = {number: p.sharpness for number, p in enumerate(pictures, 1) if p.sharpness is not None}
    if len(known) < 3:
        return []
    usual = float(np.median(list(known.values())))
    worst = {number: value / usual for number, value in known.items() if value < SHARP_ENOUGH * usual}
    if not worst:
        return []
    return [(sample_texts.less_sharp(100 * min(worst.values())), tuple(worst))]


def debris_notes(
    pictures: Sequence[FieldPicture], shades: Sequence[Mapping[int, str]]
) -> list[tuple[Note, tuple[int, ...]]]:
    """A caution where the detector doubts many immotile objects; ``shades``: the grade of each track, by field."""
    motile, still = [], []
    for number, (picture, shade) in enumerate(zip(pictures, shades, strict=True), 1):
        for track, sure in picture.confidence.items():
            grade = shade.get(track, "u")
            if grade in ("a", "b", "c"):
                motile.append(sure)
            elif grade == "d":
                still.append((number, sure))
    if len(motile) < _MOTILE_LEAST or not still:
        return []
    limit = float(np.percentile(motile, 10))
    doubtful = [number for number, sure in still if sure < limit]
    if len(doubtful) < max(DOUBTFUL_LEAST, DOUBTFUL_SHARE * len(still)):
        return []
    return [(sample_texts.doubtful_heads(len(doubtful), len(still)), tuple(sorted(set(doubtful))))]
