"""What the window is shown from: one Protocol for recordings and running sessions. Knows no Qt.

A feed does its reading, decoding and computing in threads of its own. Every method returns at once with the newest
there is, so that the window never waits for a disk, a decoder or the engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from casa.types import Calibration, IntArray, Summary

CLIP_FRAMES = 16
#: Pictures a second of a clip, as the grading networks get it.
CLIP_FPS = 15.0


class FeedState(StrEnum):
    """How a feed is."""

    LOADING = "loading"
    READY = "ready"
    WAITING = "waiting"  # connected, or trying to be, but nothing comes
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Condition:
    """A feed's state in words: a short title, a sentence, and what one can do."""

    state: FeedState
    title: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One moment, ready to be drawn.

    Parameters
    ----------
    step : number of the moment, from 0; frame, field, t_s : which picture it is, t_s from the session's beginning.
    image : (h, w) or (h, w, 3) uint8, or None; ``image_key`` changes with it. ``stale`` : it is of another moment.
    track_id, box, measured, shade : (n,) int64, (n, 4) float32 px, (n,) bool, (n,) uint8 into palette.SHADES.
    trail : (m, 4) float32, line segments x0, y0, x1, y1; trail_shade, trail_age : (m,) uint8, float32 in [0, 1].
    note : one line where the moment itself has something to say (the frame was dropped, …).
    """

    step: int
    frame: int
    field: int
    t_s: float
    width_px: int
    height_px: int
    image: NDArray[np.uint8] | None
    image_key: Any
    stale: bool
    track_id: IntArray
    box: NDArray[np.float32]
    measured: NDArray[np.bool_]
    shade: NDArray[np.uint8]
    trail: NDArray[np.float32]
    trail_shade: NDArray[np.uint8]
    trail_age: NDArray[np.float32]
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class FieldFigures:
    """The figures of the whole field.

    in_view, so_far : (6,) int64 by palette.SHADES. vcl, vsl, vap : (n,) of all measured tracks, in ``unit``, with
    their ``shade`` (n,). ``facts`` : further lines (name, value), e.g. frames dropped.
    """

    summary: Summary | None
    in_view: NDArray[np.int64]
    so_far: NDArray[np.int64]
    speeds: Mapping[str, NDArray[np.float64]]
    shade: NDArray[np.uint8]
    unit: str
    calibration: Calibration | None
    captured: int = 0
    lost: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class SpermFigures:
    """What is known of one track.

    path : (n, 2) float32 px with ``path_t_s`` (n,) and ``here``, the row of the current moment. kinematics : by
    column name of KinematicsTable, NaN where unknown; empty while there is none. clip : up to CLIP_FRAMES square
    uint8 pictures (None while one is not there) and ``clip_here``, which of them is the current moment's.
    grades : (5,) shares of expert grades A to E, or None; grade_parts : (3, 5) by the network's parts (whole, space,
    time), NaN where it has none. graded_clip : the pictures that were graded, () where they are not kept; attention :
    (n, s, s) uint8, where the network looked in n of them, evenly spaced, or None. morphology : or None.
    """

    track_id: int
    shade: int
    first_s: float
    last_s: float
    path: NDArray[np.float32]
    path_t_s: NDArray[np.float64]
    here: int
    kinematics: Mapping[str, float]
    flags: int
    time_by_grade_s: NDArray[np.float64] | None
    clip: list[NDArray[np.uint8] | None] = field(default_factory=list)
    clip_here: int = -1
    grades: NDArray[np.float64] | None = None
    grade_parts: NDArray[np.float64] | None = None
    graded_clip: Sequence[NDArray[np.uint8]] = ()
    attention: NDArray[np.uint8] | None = None
    morphology: MorphologyFigures | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MorphologyFigures:
    """The form of a head: the probability that each part is normal, its picture, and what decided, in [0, 1].

    ``classes``: probabilities by class ("part:class" where there are several parts), {} where ``reason`` says why there
    are none. ``measures`` by column of MorphologyTable, what is known of them. ``outside``: why the network does not
    know such pictures, so that its classes are a guess; () where it does. A part of which no class is as likely as
    ``abstain_below`` has none.
    """

    normal: Mapping[str, float]
    head: NDArray[np.uint8] | None
    heat: NDArray[np.float32] | None
    note: str = ""
    classes: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)
    n_crops: int = 0
    outside: tuple[str, ...] = ()
    abstain_below: float = 0.0


class Feed(Protocol):
    """A session to look at, live or recorded."""

    #: Whether there is a play head to move.
    can_seek: bool
    #: Whether tracks can be corrected.
    can_correct: bool
    #: What is looked at, for the window's title.
    name: str

    def condition(self) -> Condition:
        """Whether there is anything to see, in words."""
        ...

    def view(self, now_s: float) -> View | None:
        """The newest moment; the same object while nothing has changed. ``now_s`` : a monotonic clock."""
        ...

    def figures(self) -> FieldFigures | None:
        """Figures of the field."""
        ...

    def sperm(self, track_id: int, with_clip: bool = True) -> SpermFigures | None:
        """What is known of a track; None where there is none of that id."""
        ...

    def mark(self, note: str) -> str:
        """Mark the present moment; what was done, in a line. Raises CasaError."""
        ...

    def news(self) -> list[tuple[str, bool]]:
        """Lines to say that have come since the last call, and whether each is a warning."""
        ...

    @property
    def um_per_px(self) -> float | None:
        """The scale; None where it is not calibrated (or not known yet)."""
        ...

    @property
    def rate_text(self) -> str:
        """How the engine keeps up, in a few words; "" where there is none."""
        ...

    def nothing(self) -> tuple[str, str]:
        """What is said of a sperm without grades, and of one without morphology; see ``without_networks``."""
        ...

    def about(self) -> dict[str, Any]:
        """Where this comes from, ready for JSON: for snapshots."""
        ...

    def close(self) -> None:
        """End threads, processes and connections."""
        ...


def without_networks(session: Mapping[str, Any], yet: bool) -> tuple[str, str]:
    """What is said of a sperm without grades, and of one without morphology; "" where the other network alone was on.

    Parameters
    ----------
    session : what it says of itself, with its configuration. yet : whether it goes on, so that they may still come.
    """
    config = session.get("config") or {}
    on = [bool((config.get(name) or {}).get("enabled")) for name in ("grade", "morphology")]
    if not any(on):
        return "Not graded by a network", "no morphology in this session"
    over = "No clip of it was graded by the network", "its head was not examined"
    grade, head = ("Not graded by the network yet", "its head not examined yet") if yet else over
    return grade if on[0] else "", head if on[1] else ""


def segments(
    xy: NDArray[np.float32], starts: IntArray, ends: IntArray
) -> tuple[NDArray[np.float32], IntArray, NDArray[np.float32]]:
    """Ranges of rows of a path as line segments.

    Parameters
    ----------
    xy : (n, 2). starts, ends : (k,) each range's first row and last row (not past it).

    Returns
    -------
    lines (m, 4) float32; which (m,) range each belongs to; age (m,) float32, 0 at the range's end, 1 at its start.
    """
    counts = np.maximum(ends - starts, 0)
    which = np.repeat(np.arange(len(starts)), counts)
    offset = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    begin = starts[which] + offset
    lines = np.concatenate([xy[begin], xy[begin + 1]], axis=1) if len(begin) else np.empty((0, 4), np.float32)
    age = 1 - (offset + 1) / np.maximum(counts[which], 1)
    return lines.astype(np.float32, copy=False), which, age.astype(np.float32)


def cut_clip(image: NDArray[np.uint8], x_px: float, y_px: float, side_px: int) -> NDArray[np.uint8]:
    """(side, side) or (side, side, 3) around a point; what lies outside of the picture is black."""
    half = side_px // 2
    left, top = round(x_px) - half, round(y_px) - half
    out = np.zeros((side_px, side_px, *image.shape[2:]), np.uint8)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + side_px, image.shape[1]), min(top + side_px, image.shape[0])
    if x1 > x0 and y1 > y0:
        out[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return out
