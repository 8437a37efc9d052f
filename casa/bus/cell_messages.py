"""Messages on single sperm (clips, grades, morphology), and those between the engine and its graders."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from casa.bus.array import Array
from casa.bus.base import Count, Line, Message, Name, Time, check_image
from casa.cells import HEAD_MEASURES, MAX_CLASSES

#: No clip has more pixels: 64 pictures of 256 x 256 px.
MAX_CLIP_PIXELS = 1 << 22


class ClipMessage(Message, tag="clip", frozen=True, eq=False, kw_only=True):
    """A sperm, followed: columns of ``casa.cells.Clip``, and where a network looked.

    ``attention`` (k, s, s) u1, a map for each picture that the network was given: k of the clip's, evenly spaced.
    """

    clip_id: Count
    track_id: Count
    frames: Array
    t_ns: Array
    images: Array
    centre_xy_px: Array
    score: Array
    flags: Array
    um_per_px: float | None = None
    attention: Array | None = None

    def __post_init__(self) -> None:
        n = self.frames.shape[0]
        self.frames.check("frames", ("i8",), (n,))
        self.t_ns.check("t_ns", ("i8",), (n,))
        self.images.check("images", ("u1",), (n, None, None))
        self.centre_xy_px.check("centre_xy_px", ("f8",), (n, 2))
        self.score.check("score", ("f4",), (n,))
        self.flags.check("flags", ("i8",), (n,))
        if n == 0 or self.images.numpy().size > MAX_CLIP_PIXELS:
            raise ValueError(f"images: {self.images.shape} are no clip")
        check_attention(self.attention)


class GradesMessage(Message, tag="grades", frozen=True, eq=False, kw_only=True):
    """What a panel of experts would say of a clip: ``distribution`` (5,) f8 over the grades A to E.

    ``parts`` (3, 5) f8 are those of the whole, of space and of time, NaN of networks without. ``frame``, ``t_ns`` and
    ``clip_flags`` as in ``casa.cells.GradeTable``; ``attention`` as in ClipMessage, where it was asked for.
    """

    clip_id: Count
    track_id: Count
    distribution: Array
    model: Name
    frame: Count = 0
    t_ns: Time = 0
    clip_flags: Count = 0
    parts: Array | None = None
    attention: Array | None = None

    def __post_init__(self) -> None:
        self.distribution.check("distribution", ("f8",), (5,))
        shares = self.distribution.numpy().tolist()
        if not all(share >= 0 for share in shares) or not abs(sum(shares) - 1) < 1e-3:
            raise ValueError("distribution: shares do not add up to 1")
        if self.parts is not None:
            self.parts.check("parts", ("f8",), (3, 5))
        check_attention(self.attention)


class MorphologyMessage(Message, tag="morphology", frozen=True, eq=False, kw_only=True):
    """The form of a sperm's head: of a clip, or (in a ``TrackReply``) of all its clips so far.

    ``normal``: probability that each part is normal, where the network tells; ``classes``: of all classes
    ("part:class" where there are several parts), each part's adding up to 1, empty where there is no crop, and then
    ``reason`` says why. ``n_crops``, ``in_domain``, ``edge_share``, ``measures`` as in ``casa.cells.MorphologyTable``;
    what is not known is left out. ``crop`` faces right, (h, w) or (h, w, 3); ``heat_map`` (h, w) u1 shows what decided.
    """

    track_id: Count
    frame: Count
    normal: Annotated[dict[Name, float], Meta(max_length=MAX_CLASSES)] = field(default_factory=dict)
    crop: Array | None = None
    heat_map: Array | None = None
    model: Name = ""
    clip_id: Count = 0
    t_ns: Time = 0
    n_crops: Count = 0
    reason: Name = ""
    in_domain: bool = False
    classes: Annotated[dict[Name, float], Meta(max_length=MAX_CLASSES)] = field(default_factory=dict)
    edge_share: float | None = None
    measures: Annotated[dict[Name, float], Meta(max_length=32)] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.crop is not None:
            check_image(self.crop)
        if self.heat_map is not None:
            self.heat_map.check("heat_map", ("u1",), (None, None))
        if self.n_crops and self.reason:
            raise ValueError("morphology: crops, and a reason why there are none")
        sums: dict[str, float] = {}
        for name, chance in self.classes.items():
            part = name.rpartition(":")[0]
            sums[part] = sums.get(part, 0.0) + (chance if chance >= 0 else math.inf)
        if not all(abs(total - 1) < 1e-3 for total in sums.values()):
            raise ValueError("morphology: chances of a part do not add up to 1")
        if not all(math.isfinite(self.measures.get(name, 0.0)) for name in HEAD_MEASURES):
            raise ValueError("morphology: measures that are no numbers")


class GradingMetrics(Struct, frozen=True, kw_only=True):
    """The graders' work: clips ``taken`` = graded + superseded + left_out + failed + waiting + under_way.

    ``superseded``: a newer clip of the same track took its place; ``left_out``: for want of room or time.
    ``tracks`` were graded at least once. ``abstained``: of the clips whose heads were examined (they are ``graded``
    then), those in which there was none to be classed, by reason.
    """

    taken: Count = 0
    graded: Count = 0
    superseded: Count = 0
    left_out: Count = 0
    failed: Count = 0
    waiting: Count = 0
    under_way: Count = 0
    tracks: Count = 0
    graders: Count = 0
    busy_share: float = 0.0
    model: Name = ""
    abstained: dict[Name, Count] = field(default_factory=dict)


#: What is done with clips: expert grades are given, or heads examined.
Task = Literal["grade", "morphology"]


class GraderJoin(Message, tag="grader_join", frozen=True, eq=False, kw_only=True):
    """A grader is there; ``model`` is its network, ``task`` what it does with clips."""

    name: Name
    pid: Count
    model: Name
    task: Task = "grade"


class GraderReady(Message, tag="grader_ready", frozen=True, eq=False, kw_only=True):
    """The grader's heartbeat: it can be given ``room`` clips now, 0 while it is busy or rests.

    ``busy_share``: CPU time since it joined over wall time, of one core.
    """

    room: Annotated[int, Meta(ge=0, le=256)]
    busy_share: float = 0.0


class Work(Message, tag="work", frozen=True, eq=False, kw_only=True):
    """A clip to grade, or whose head to examine; ``attention``: with maps of where the network looked."""

    clip: ClipMessage
    attention: bool = False


class Hurry(Message, tag="hurry", frozen=True, eq=False, kw_only=True):
    """Nothing is captured any more: grade what is left without resting."""


class GradeFailed(Message, tag="grade_failed", frozen=True, eq=False, kw_only=True):
    """A clip cannot be graded, or its head not be examined, by this grader or any."""

    clip_id: Count
    reason: Line


class GraderLeave(Message, tag="grader_leave", frozen=True, eq=False, kw_only=True):
    """The grader goes: what it has not graded is somebody else's."""

    note: Line = ""


def check_attention(maps: Array | None) -> None:
    """Raise ValueError unless there are no maps, or (n, s, s) of them."""
    if maps is not None:
        maps.check("attention", ("u1",), (None, None, None))
        if not 0 < math.prod(maps.shape) <= MAX_CLIP_PIXELS or maps.shape[1] != maps.shape[2]:
            raise ValueError(f"attention: {maps.shape} are no maps")
