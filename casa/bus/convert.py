"""Between what stages give and what goes over the bus."""

from __future__ import annotations

import numpy as np

from casa.bus.array import Array, pack
from casa.bus.messages import DetectionsMessage, KinematicsMessage, TracksMessage
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
