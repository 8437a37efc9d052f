"""What is known of single sperm besides their path: the clip that follows one, and what was found in it.

Conventions as in ``casa.types``; this module knows nothing else of casa.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from casa.types import Float32Array, FloatArray, IntArray, _check_column, _Table

#: Frames of a clip, their size and their spacing in time (Fujii et al. 2023, section 3).
CLIP_FRAMES, CLIP_SIZE_PX, CLIP_RATE_HZ = 16, 150, 15.0
#: Grades that experts give to a sperm, best first (Fujii et al. 2023, section 3).
EXPERT_GRADES = ("A", "B", "C", "D", "E")


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
