"""The truth about a scene: which cells are in view when, their boxes, and their exact kinematics.

Definitions (WHO 2021, 4.5.1.4), each applied to the model's own path without the field's flow:
VCL = length of the path through the positions at the frames' times / time; VSL = distance between the positions at
the first and the last of these times / time; VAP = length of the path without the beat / time, in closed form; ALH =
2 A (full width; the model's beat has one amplitude, so mean and max are the same); BCF = 2 f, the rate at which a
sine of frequency f crosses its middle. The straight distance within one second gives the grade.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from casa.simulate.swimmers import MODES, Mode
from casa.types import MOTILITY_GRADES, KinematicsFlag, KinematicsTable, TrackTable

if TYPE_CHECKING:
    from casa.simulate.scene import Scene

FloatArray = NDArray[np.float64]

_GRADE_WINDOW_S = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """One stay of a swimmer in view: its track id, and the frames (k,) in which its head is in the frame."""

    track_id: int
    swimmer: int
    frames: NDArray[np.int64]


def visits(scene: Scene) -> list[Visit]:
    """All stays, numbered from 1 by the frame they begin in.

    A cell that leaves and is back within half a second keeps its id; one that went round the area gets a new one.
    """
    from casa.simulate.scene import _FORGET_S

    t_s = scene.t_ns / 1e9
    xy, lap = scene._to_view(scene.swimmers.head_um_at(t_s), t_s)
    seen = scene.in_view(xy) & ~scene.missing
    found: list[tuple[int, int, NDArray[np.int64]]] = []
    for swimmer in np.flatnonzero(seen.any(1)).tolist():
        frames = np.flatnonzero(seen[swimmer])
        apart = np.diff(t_s[frames]) > max(_FORGET_S, 1.5 / scene.config.fps_hz)
        apart |= (np.diff(lap[swimmer][frames], axis=0) != 0).any(1)
        found += [(int(run[0]), swimmer, run) for run in np.split(frames, np.flatnonzero(apart) + 1)]
    found.sort(key=lambda stay: stay[:2])
    return [Visit(number, swimmer, frames) for number, (_, swimmer, frames) in enumerate(found, start=1)]


def truth_table(scene: Scene, separate_fields: bool) -> TrackTable:
    """Boxes and ids; see `Scene.truth`."""
    c = scene.config
    fields = (0, 1) if c.interlaced and separate_fields else (0,)
    half = scene._interval_s / 2 if c.interlaced and not separate_fields else 0.0
    tables = []
    stays = visits(scene)
    for field in fields:
        # A field's own time; the picture woven of both fields shows the cell at their middle.
        t_ns = scene.t_ns + round(field * scene._interval_s * 1e9)
        t_s = t_ns / 1e9 + half
        xy = scene.positions_px(t_s)
        box = np.stack([_box_half_px(scene, t) for t in t_s], axis=1)
        for stay in stays:
            frames = stay.frames[scene.in_view(xy[stay.swimmer, stay.frames])]
            centre, reach = xy[stay.swimmer, frames], box[stay.swimmer, frames]
            low = np.maximum(centre - reach, 0.0)
            high = np.minimum(centre + reach, [c.width_px, c.height_px])
            n = len(frames)
            tables.append(
                TrackTable(
                    frame=frames,
                    field=np.full(n, field),
                    t_ns=t_ns[frames],
                    track_id=np.full(n, stay.track_id),
                    cx_px=(low + high)[:, 0] / 2,
                    cy_px=(low + high)[:, 1] / 2,
                    w_px=(high - low)[:, 0],
                    h_px=(high - low)[:, 1],
                    x_measured_px=centre[:, 0],
                    y_measured_px=centre[:, 1],
                    confidence=np.ones(n),
                    predicted=np.zeros(n, bool),
                )
            )
    if not tables:
        nothing = np.empty(0)
        return TrackTable(*[nothing] * 11, np.empty(0, bool))  # type: ignore[arg-type]
    table = TrackTable.concatenate(tables)
    return table.select(np.lexsort((table.t_ns, table.track_id)))


def _box_half_px(scene: Scene, t_s: float) -> FloatArray:
    """(n, 2) half width and height of the boxes: the turned ellipse of the head and the annotator's margin."""
    a, b = scene.swimmers.head_um.T / 2
    direction = scene.swimmers.orientation_at(t_s)
    width = np.hypot(a * np.cos(direction), b * np.sin(direction))
    height = np.hypot(a * np.sin(direction), b * np.cos(direction))
    return (np.stack([width, height], axis=1) + scene.config.look.box_margin_um) / scene.config.um_per_px


def kinematics_table(scene: Scene, stays: list[Visit] | None = None) -> KinematicsTable:
    """One row a stay of at least two frames; see the module's docstring for the definitions.

    ``stays`` : parts of the scene's visits, where the truth over shorter spans is wanted; by default all visits.
    """
    swimmers, scale = scene.swimmers, scene.config.um_per_px
    t_s = scene.t_ns / 1e9
    path, base = swimmers.head_um_at(t_s), swimmers.base_um(t_s)
    stays = [stay for stay in (visits(scene) if stays is None else stays) if len(stay.frames) > 1]
    n = len(stays)
    columns: dict[str, FloatArray] = {name: np.empty(n) for name in ("duration", "vcl", "vsl", "mad")}
    seconds = np.zeros((n, 4))
    who = np.array([stay.swimmer for stay in stays], np.int64)
    moving = swimmers.mode[who] != MODES.index(Mode.IMMOTILE)
    for row, stay in enumerate(stays):
        first, last = int(stay.frames[0]), int(stay.frames[-1])
        # Positions at the times of all frames in between, missing ones left out: what a perfect system would see.
        at = np.arange(first, last + 1)[~scene.missing[first : last + 1]]
        xy, times = path[stay.swimmer, at], t_s[at]
        steps = np.diff(xy, axis=0)
        columns["duration"][row] = times[-1] - times[0]
        columns["vcl"][row] = np.hypot(*steps.T).sum() / (times[-1] - times[0])
        columns["vsl"][row] = np.hypot(*(xy[-1] - xy[0])) / (times[-1] - times[0])
        columns["mad"][row] = _mad_deg(steps)
        seconds[row] = _time_by_grade_s(base[stay.swimmer, at], times, bool(moving[row]))
    duration, vcl, vsl = columns["duration"], columns["vcl"], columns["vsl"]
    vap = swimmers.speed_um_s[who]
    alh = np.where(moving, 2 * swimmers.amplitude_um[who], 0.0)
    bcf = np.where(moving, 2 * swimmers.beat_hz[who], 0.0)
    pictures_hz = 1 / scene._interval_s
    flags = KinematicsFlag.SHORT * (duration < _GRADE_WINDOW_S).astype(np.int64)
    flags |= KinematicsFlag.LOW_FRAME_RATE * np.int64(pictures_hz < 50)
    flags |= KinematicsFlag.BCF_NEAR_NYQUIST * (bcf > 0.25 * pictures_hz).astype(np.int64)
    return KinematicsTable(
        track_id=np.array([stay.track_id for stay in stays], np.int64),
        n_frames=np.array([len(stay.frames) for stay in stays], np.int64),
        t_start_ns=scene.t_ns[np.array([stay.frames[0] for stay in stays], np.int64)],
        duration_s=duration,
        vcl_um_s=vcl,
        vsl_um_s=vsl,
        vap_um_s=vap,
        vcl_px_s=vcl / scale,
        vsl_px_s=vsl / scale,
        vap_px_s=vap / scale,
        lin=vsl / vcl,
        str=vsl / vap,
        wob=vap / vcl,
        alh_mean_um=alh,
        alh_max_um=alh,
        alh_mean_px=alh / scale,
        alh_max_px=alh / scale,
        bcf_hz=bcf,
        mad_deg=columns["mad"],
        motility_grade=np.array(MOTILITY_GRADES)[seconds.argmax(1)].astype("U1"),
        time_by_grade_s=seconds,
        flags=flags,
    )


def _time_by_grade_s(xy_um: FloatArray, t_s: FloatArray, moving: bool) -> FloatArray:
    """(4,) seconds in grades a to d: each moment is graded by the second around it (cut to the stay).

    ``xy_um`` (n, 2) is the path without the beat, whose swing is no displacement of the cell.
    """
    seconds = np.zeros(4)
    duration = t_s[-1] - t_s[0]
    if not moving:
        seconds[3] = duration
        return seconds
    middle = (t_s[1:] + t_s[:-1]) / 2
    start = np.clip(middle - _GRADE_WINDOW_S / 2, t_s[0], max(t_s[-1] - _GRADE_WINDOW_S, t_s[0]))
    end = np.minimum(start + _GRADE_WINDOW_S, t_s[-1])
    ends = [np.stack([np.interp(t, t_s, xy_um[:, k]) for k in (0, 1)], axis=1) for t in (start, end)]
    speed = np.hypot(*(ends[1] - ends[0]).T) / (end - start)
    grade = np.where(speed >= 25, 0, np.where(speed >= 5, 1, 2))
    np.add.at(seconds, grade, np.diff(t_s))
    return seconds


def _mad_deg(steps: FloatArray) -> float:
    """Mean absolute turning angle between successive steps, degrees; NaN below two steps."""
    if len(steps) < 2:
        return float("nan")
    turn = np.diff(np.arctan2(steps[:, 1], steps[:, 0]))
    return float(np.degrees(np.abs((turn + np.pi) % (2 * np.pi) - np.pi).mean()))
