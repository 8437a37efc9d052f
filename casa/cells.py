"""What is known of single sperm besides their path: the clip that follows one, and what was found in it.

Conventions as in ``casa.types``; this module knows nothing else of casa.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from casa.types import BoolArray, Float32Array, FloatArray, IntArray, _check_column, _Table

#: Frames of a clip, their size and their spacing in time (Fujii et al. 2023, section 3).
CLIP_FRAMES, CLIP_SIZE_PX, CLIP_RATE_HZ = 16, 150, 15.0
#: Grades that experts give to a sperm, best first (Fujii et al. 2023, section 3).
EXPERT_GRADES = ("A", "B", "C", "D", "E")
#: Length over width of a normal stained head, and the share of it that a normal acrosome covers (WHO manual, 6th ed.
#: 2021, section 2.4.8 and Table 2.6).
STRICT_ELLIPTICITY = (1.5, 2.0)
STRICT_ACROSOME_SHARE = (0.4, 0.7)
#: What is said of a track's head is the mean over so many of its sharpest crops.
BEST_CROPS = 8
#: No network tells more classes apart.
MAX_CLASSES = 16
#: The reason given where a network's answer for a clip is no number: that clip's failure, and nothing of its sperm.
NO_NUMBERS = "the network gave no finite numbers"
#: Measures of ``MorphologyTable``.
HEAD_MEASURES = ("length_um", "width_um", "area_um2", "ellipticity", "elongation", "acrosome_share")


class ClipFlag:
    """Bits of ``Clip.flags``, one value a frame: why a picture is to be taken with care."""

    BORDER = 1  # a part of it lies outside the field and was filled in
    PREDICTED = 2  # the track was missed: the template alone found the head, or its path was bridged
    CROSSING = 4  # another head was near enough to be taken for this one
    LOST = 8  # the template matched badly: the picture is where the track was, not where the template was found
    REPEATED = 16  # no frame was near enough in time: the nearest one stands in


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A sperm, followed: pictures about its head, evenly spaced in time.

    Parameters
    ----------
    clip_id : from 1, unique in a session. track_id : of the track it follows.
    frames, t_ns : (n,) int64, of the source's frames.
    images : (n, h, w) uint8, gray; the head is at the middle.
    centre_xy_px : (n, 2) float64, where in the frame the middle of each picture is.
    score : (n,) float32, normalised cross-correlation with the template, in [-1, 1].
    flags : (n,) int64, bits of ``ClipFlag``.
    um_per_px : scale of ``images``; None where uncalibrated.
    """

    clip_id: int
    track_id: int
    frames: IntArray
    t_ns: IntArray
    images: NDArray[np.uint8]
    centre_xy_px: FloatArray
    score: Float32Array
    flags: IntArray
    um_per_px: float | None = None

    def __post_init__(self) -> None:
        n = len(np.asarray(self.frames))
        _check_column(self, "frames", np.int64, (n,))
        _check_column(self, "t_ns", np.int64, (n,))
        _check_column(self, "images", np.uint8, (n, None, None))
        _check_column(self, "centre_xy_px", np.float64, (n, 2))
        _check_column(self, "score", np.float32, (n,))
        _check_column(self, "flags", np.int64, (n,))

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True, slots=True, eq=False)
class GradeTable(_Table):
    """Distributions over the expert grades A to E, one row a graded clip.

    ``distribution`` (n, 5) is the mean of the three parts ``part_global``, ``part_spatial``, ``part_temporal`` (n, 5)
    (Fujii et al. 2023, Eq. 20); parts are NaN of networks that have none. ``frame`` and ``t_ns`` are of the clip's
    last picture, ``clip_flags`` the bits of its pictures or-ed together.
    """

    clip_id: IntArray
    track_id: IntArray
    frame: IntArray
    t_ns: IntArray
    distribution: FloatArray
    part_global: FloatArray
    part_spatial: FloatArray
    part_temporal: FloatArray
    clip_flags: IntArray

    def __post_init__(self) -> None:
        n = len(np.asarray(self.clip_id))
        for f in fields(self):
            whole = f.name in ("clip_id", "track_id", "frame", "t_ns", "clip_flags")
            _check_column(self, f.name, np.int64 if whole else np.float64, (n,) if whole else (n, 5))

    @classmethod
    def empty(cls) -> Self:
        """No rows."""
        columns: dict[str, Any] = {f.name: np.empty(0) for f in fields(cls)}
        for name in ("distribution", "part_global", "part_spatial", "part_temporal"):
            columns[name] = np.empty((0, 5))
        return cls(**columns)


@dataclass(frozen=True, slots=True, eq=False)
class MorphologyTable(_Table):
    """Forms of heads, one row a clip that was examined; ``by_track`` makes it one row a track.

    Parameters
    ----------
    clip_id, track_id, frame, t_ns : (n,) int64; of the clip's last picture.
    n_crops : (n,) int64, sharp crops of the head that the row is the mean of; 0 where it says nothing.
    reason : (n,) str, why there is no crop ("out of focus", "two heads", …); "" where there is one.
    in_domain : (n,) bool, whether the network has learnt from pictures of such a scale, stain and light.
    distribution : (n, k) float64, probabilities of ``class_names``, each part's adding up to 1; NaN without crops.
    edge_share : (n,) float64, width of the sharpest crop's edge over the head's width: small is in focus.
    length_um, width_um, area_um2, ellipticity, elongation, acrosome_share : (n,) float64, as in
        ``casa.morphology.morphometry``; NaN without crops, in um where uncalibrated, and where it cannot be told.
    class_names : k names, "part:class" where there are several parts; no column.
    """

    clip_id: IntArray
    track_id: IntArray
    frame: IntArray
    t_ns: IntArray
    n_crops: IntArray
    reason: NDArray[np.str_]
    in_domain: BoolArray
    distribution: FloatArray
    edge_share: FloatArray
    length_um: FloatArray
    width_um: FloatArray
    area_um2: FloatArray
    ellipticity: FloatArray
    elongation: FloatArray
    acrosome_share: FloatArray
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(np.asarray(self.clip_id))
        for name in ("clip_id", "track_id", "frame", "t_ns", "n_crops"):
            _check_column(self, name, np.int64, (n,))
        _check_column(self, "reason", np.str_, (n,))
        _check_column(self, "in_domain", np.bool_, (n,))
        _check_column(self, "distribution", np.float64, (n, len(self.class_names)))
        for name in ("edge_share", *HEAD_MEASURES):
            _check_column(self, name, np.float64, (n,))

    @classmethod
    def empty(cls, class_names: tuple[str, ...] = ()) -> Self:
        """No rows."""
        columns: dict[str, Any] = {f.name: np.empty(0) for f in fields(cls) if f.name != "class_names"}
        columns |= {"distribution": np.empty((0, len(class_names))), "reason": np.empty(0, "U1")}
        return cls(**columns, class_names=class_names)

    def columns(self) -> dict[str, NDArray[Any]]:
        """The columns by name, in order."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "class_names"}

    def select(self, rows: Any) -> Self:
        """Rows chosen by a mask, slice or index array."""
        return replace(self, **{name: column[rows] for name, column in self.columns().items()})

    @classmethod
    def concatenate(cls, tables: list[Self]) -> Self:
        """The rows of all tables in order; at least one is needed. Raises ValueError where their classes differ."""
        if len({table.class_names for table in tables}) != 1:
            raise ValueError("MorphologyTable: tables of different classes cannot be joined")
        columns = {name: np.concatenate([getattr(t, name) for t in tables]) for name in tables[0].columns()}
        return replace(tables[0], **columns)

    @property
    def parts(self) -> dict[str, slice]:
        """Columns of ``distribution`` by part: those of one part alone are called "class"."""
        names = [name.rpartition(":")[0] or "class" for name in self.class_names]
        return {part: slice(names.index(part), names.index(part) + names.count(part)) for part in dict.fromkeys(names)}

    def decided(self, at_least: float = 0.0) -> dict[str, NDArray[np.str_]]:
        """For each part, (n,) the likeliest class; "" without crops, and where none is as likely as ``at_least``."""
        out = {}
        for part, columns in self.parts.items():
            chances = np.nan_to_num(self.distribution[:, columns], nan=-1.0)
            names = np.array([name.rpartition(":")[2] for name in self.class_names[columns]])
            sure = (chances.max(axis=1, initial=-1.0) >= at_least) & (self.n_crops > 0)
            out[part] = np.where(sure, names[chances.argmax(axis=1)], "") if len(self) else np.empty(0, names.dtype)
        return out

    def by_track(self) -> Self:
        """One row a track, by its id: the mean over its ``BEST_CROPS`` sharpest crops, as far as clips can be parted.

        ``clip_id``, ``frame``, ``t_ns`` and ``edge_share`` are of its sharpest clip. A track without a crop keeps the
        commonest of its reasons.
        """
        order = np.lexsort((self.edge_share, self.n_crops == 0, self.track_id))  # the sharpest of each track first
        groups = np.split(order, np.flatnonzero(np.diff(self.track_id[order])) + 1) if len(self) else []
        rows = [self._of_track(group) for group in groups]
        return type(self).concatenate(rows) if rows else self.select(slice(0, 0))

    def _of_track(self, rows: IntArray) -> Self:
        """One row of several of a track, the sharpest first."""
        first = self.select(rows[:1])
        if not self.n_crops[rows[0]]:
            reasons, counts = np.unique(self.reason[rows], return_counts=True)
            return replace(first, reason=reasons[[counts.argmax()]])
        rows = rows[self.n_crops[rows] > 0]
        before = np.cumsum(self.n_crops[rows]) - self.n_crops[rows]
        used = rows[before < BEST_CROPS]
        weight = self.n_crops[used].astype(np.float64)
        measures = {name: _mean(getattr(self, name)[used], weight)[None] for name in HEAD_MEASURES}
        return replace(
            first,
            n_crops=np.array([int(weight.sum())]),
            in_domain=self.in_domain[used].all(keepdims=True),
            distribution=(weight @ self.distribution[used] / weight.sum())[None],
            **measures,
        )


def _mean(values: FloatArray, weight: FloatArray) -> FloatArray:
    """The weighted mean of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    total = weight[known].sum()
    return np.asarray(values[known] @ weight[known] / total if total else np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class HeadExam:
    """What was found of the head in a clip: one row, and pictures of its sharpest crop.

    Parameters
    ----------
    row : a table of one row.
    crop : (s, s) uint8 gray, facing right; None where there is none, or it is not kept.
    heat : (s, s) uint8, what in it spoke for its class; None where it was not asked for.
    """

    row: MorphologyTable
    crop: NDArray[np.uint8] | None = None
    heat: NDArray[np.uint8] | None = None
