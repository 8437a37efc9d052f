"""Between what stages give and what goes over the bus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from casa.bus.array import Array, pack
from casa.bus.messages import (
    ClipMessage,
    DetectionsMessage,
    GradesMessage,
    KinematicsMessage,
    MorphologyMessage,
    TracksMessage,
)
from casa.cells import HEAD_MEASURES, Clip, GradeTable, HeadExam, MorphologyTable
from casa.types import MOTILITY_GRADES, Detections, KinematicsTable, Tracks


def detections_message(d: Detections) -> DetectionsMessage:
    """Detections for the bus."""
    return DetectionsMessage(
        frame=d.frame,
        field=d.field,
        t_ns=d.t_ns,
        xyxy=pack(d.xyxy),
        confidence=pack(d.confidence),
        class_id=pack(d.class_id),
    )


def detections_of(m: DetectionsMessage) -> Detections:
    """Detections from the bus."""
    return Detections(m.frame, m.t_ns, m.xyxy.numpy(), m.confidence.numpy(), m.class_id.numpy(), m.field)


def tracks_message(t: Tracks) -> TracksMessage:
    """Tracks for the bus."""
    return TracksMessage(
        frame=t.frame,
        field=t.field,
        t_ns=t.t_ns,
        track_id=pack(t.track_id),
        xyxy=pack(t.xyxy),
        measured_xy_px=pack(t.measured_xy_px),
        confidence=pack(t.confidence),
        predicted=pack(t.predicted),
        velocity_px_s=pack(t.velocity_px_s),
        ended_ids=pack(t.ended_ids),
    )


def tracks_of(m: TracksMessage) -> Tracks:
    """Tracks from the bus."""
    return Tracks(
        m.frame,
        m.t_ns,
        m.track_id.numpy(),
        m.xyxy.numpy(),
        m.measured_xy_px.numpy(),
        m.confidence.numpy(),
        m.predicted.numpy(),
        m.velocity_px_s.numpy(),
        m.ended_ids.numpy(),
        m.field,
    )


def kinematics_message(k: KinematicsTable) -> KinematicsMessage:
    """Rows of kinematics for the bus."""
    columns: dict[str, Array] = {name: pack(column) for name, column in k.columns().items() if name != "motility_grade"}
    letters = np.array([ord(grade) if grade else 0 for grade in k.motility_grade.tolist()], np.uint8)
    return KinematicsMessage(columns=columns, grade=pack(letters))


def kinematics_of(m: KinematicsMessage) -> KinematicsTable:
    """Rows of kinematics from the bus. Raises ValueError where columns are missing, or a grade is none."""
    grades = [chr(code) if code else "" for code in m.grade.numpy().tolist()]
    if not set(grades) <= {*MOTILITY_GRADES, ""}:
        raise ValueError(f"motility grades: expected a to d, got {sorted(set(grades))}")
    names = set(KinematicsTable.__dataclass_fields__) - {"motility_grade"}
    if missing := names - set(m.columns):
        raise ValueError(f"kinematics without {', '.join(sorted(missing))}")
    columns = {name: m.columns[name].numpy() for name in names}
    return KinematicsTable(**columns, motility_grade=np.array(grades, "U1"))


def clip_message(clip: Clip, attention: NDArray[np.uint8] | None = None) -> ClipMessage:
    """A clip for the bus, with its attention maps (n, s, s) where there are any."""
    columns = {name: pack(getattr(clip, name)) for name in ("frames", "t_ns", "images", "centre_xy_px", "score",
                                                            "flags")}  # fmt: skip
    maps = None if attention is None else pack(attention)
    return ClipMessage(
        clip_id=clip.clip_id, track_id=clip.track_id, um_per_px=clip.um_per_px, attention=maps, **columns
    )


def clip_of(m: ClipMessage) -> tuple[Clip, NDArray[np.uint8] | None]:
    """A clip from the bus, with its attention maps."""
    clip = Clip(
        clip_id=m.clip_id,
        track_id=m.track_id,
        frames=m.frames.numpy(),
        t_ns=m.t_ns.numpy(),
        images=m.images.numpy(),
        centre_xy_px=m.centre_xy_px.numpy(),
        score=m.score.numpy(),
        flags=m.flags.numpy(),
        um_per_px=m.um_per_px,
    )
    return clip, maps_of(m)


def maps_of(m: ClipMessage | GradesMessage) -> NDArray[np.uint8] | None:
    """The attention maps (n, s, s) uint8 of a message; None where it has none."""
    return None if m.attention is None else m.attention.numpy()


def grades_message(g: GradeTable, row: int, model: str, attention: NDArray[np.uint8] | None = None) -> GradesMessage:
    """One row of grades for the bus."""
    return GradesMessage(
        clip_id=int(g.clip_id[row]),
        track_id=int(g.track_id[row]),
        distribution=pack(g.distribution[row]),
        model=model[:80],
        frame=int(g.frame[row]),
        t_ns=int(g.t_ns[row]),
        clip_flags=int(g.clip_flags[row]),
        parts=pack(np.stack([g.part_global[row], g.part_spatial[row], g.part_temporal[row]])),
        attention=None if attention is None else pack(attention),
    )


def grades_of(m: GradesMessage) -> GradeTable:
    """Grades from the bus, one row."""
    parts = np.full((3, 5), np.nan) if m.parts is None else m.parts.numpy()
    return GradeTable(
        clip_id=np.array([m.clip_id]),
        track_id=np.array([m.track_id]),
        frame=np.array([m.frame]),
        t_ns=np.array([m.t_ns]),
        distribution=m.distribution.numpy()[None],
        part_global=parts[:1],
        part_spatial=parts[1:2],
        part_temporal=parts[2:],
        clip_flags=np.array([m.clip_flags]),
    )


def morphology_message(exam: HeadExam, model: str) -> MorphologyMessage:
    """What was found of a head, for the bus."""
    row = exam.row
    measures = {name: float(getattr(row, name)[0]) for name in HEAD_MEASURES}
    edge = float(row.edge_share[0])
    classes = dict(zip(row.class_names, row.distribution[0].tolist(), strict=True)) if row.n_crops[0] else {}
    return MorphologyMessage(
        track_id=int(row.track_id[0]),
        frame=int(row.frame[0]),
        normal={name.rpartition(":")[0] or "class": p for name, p in classes.items() if is_normal(name)},
        crop=None if exam.crop is None else pack(exam.crop),
        heat_map=None if exam.heat is None else pack(exam.heat),
        model=model[:80],
        clip_id=int(row.clip_id[0]),
        t_ns=int(row.t_ns[0]),
        n_crops=int(row.n_crops[0]),
        reason=str(row.reason[0])[:80],
        in_domain=bool(row.in_domain[0]),
        classes=classes,
        edge_share=edge if np.isfinite(edge) else None,
        measures={name: value for name, value in measures.items() if np.isfinite(value)},
    )


def is_normal(class_name: str) -> bool:
    """Whether it is the class of what is normal, of whichever part."""
    return class_name.rpartition(":")[2] == "normal"


def exam_of(m: MorphologyMessage, class_names: tuple[str, ...]) -> HeadExam:
    """What was found of a head, from the bus.

    Raises ValueError where its classes are not ``class_names``, those of the session's network.
    """
    if m.n_crops and set(m.classes) != set(class_names):
        raise ValueError(f"morphology: classes {', '.join(m.classes)}; the session has {', '.join(class_names)}")
    row = MorphologyTable(
        clip_id=np.array([m.clip_id]),
        track_id=np.array([m.track_id]),
        frame=np.array([m.frame]),
        t_ns=np.array([m.t_ns]),
        n_crops=np.array([m.n_crops]),
        reason=np.array([m.reason]),
        in_domain=np.array([m.in_domain]),
        distribution=np.array([[m.classes.get(name, np.nan) for name in class_names]]),
        edge_share=np.array([np.nan if m.edge_share is None else m.edge_share]),
        **{name: np.array([m.measures.get(name, np.nan)]) for name in HEAD_MEASURES},
        class_names=class_names,
    )
    crop, heat = (None if part is None else part.numpy() for part in (m.crop, m.heat_map))
    return HeadExam(row, crop, heat)
