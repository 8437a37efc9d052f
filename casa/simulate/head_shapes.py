"""Shapes of rendered heads: outlines, acrosomes, vacuoles and midpieces of the HuSHeM and SCIAN classes, in um.

A head lies in its own frame: u forward (towards the acrosome), v across, origin at its middle. Sizes are spread about
the WHO's stained normal head, 4.1 x 2.8 um (6th ed., 2021, Table 2.6 and section 2.4.8).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Classes of SCIAN; HuSHeM has the first four.
HEAD_CLASSES = ("normal", "tapered", "pyriform", "amorphous", "small")
NORMAL, TAPERED, PYRIFORM, AMORPHOUS, SMALL = range(5)
#: Parts that MHSMA labels, each normal (0) or abnormal (1).
PART_NAMES = ("head", "acrosome", "vacuole", "tail")
#: How often each part is abnormal among MHSMA's crops.
PART_PREVALENCE = (0.27, 0.30, 0.16, 0.04)
_N_POINTS = 72
_THETA = np.arange(_N_POINTS) * (2 * np.pi / _N_POINTS)


@dataclass(frozen=True, slots=True, eq=False)
class HeadShape:
    """One head with what hangs on it.

    Parameters
    ----------
    class_id : index into ``HEAD_CLASSES``.
    severity : how clearly it is of its class, in [0, 1]; experts disagree on heads near 0.
    outline_um : (72, 2) closed polygon (u, v).
    acrosome_from_um : u at the midline where the acrosome begins; acrosome_curve_per_um bends its border with v^2.
    acrosome_share : of the head's area that is in front of that border.
    vacuoles_um : (k, 3) u, v and radius.
    midpieces_um : polylines (m, 2) from the neck backwards; none, one or two.
    midpiece_width_um : its width.
    parts : (4,) 0 normal or 1 abnormal, of ``PART_NAMES``.
    """

    class_id: int
    severity: float
    outline_um: NDArray[np.float64]
    acrosome_from_um: float
    acrosome_curve_per_um: float
    acrosome_share: float
    vacuoles_um: NDArray[np.float64]
    midpieces_um: tuple[NDArray[np.float64], ...]
    midpiece_width_um: float
    parts: tuple[int, int, int, int]


def draw_shape(rng: np.random.Generator, class_id: int, abnormal: tuple[bool, ...] = (False,) * 3) -> HeadShape:
    """A head of class ``class_id``; ``abnormal``: whether acrosome, vacuoles and tail are to be abnormal."""
    severity = float(rng.beta(2.0, 1.3))
    outline = _outline(rng, class_id, severity)
    length = np.ptp(outline[:, 0])
    share = _acrosome_share(rng, abnormal[0])
    curve = float(rng.normal(0.0, 0.06))
    start = _start_of_share(outline, share, curve)
    neck = outline[_N_POINTS // 2] + (0.0, 0.06 * length * rng.normal() * (2.0 if class_id == AMORPHOUS else 0.7))
    return HeadShape(
        class_id,
        severity,
        outline,
        start,
        curve,
        share,
        _vacuoles(rng, outline, abnormal[1]),
        _midpieces(rng, neck, abnormal[2]),
        float(rng.uniform(0.45, 0.75)),
        (int(class_id != NORMAL), *(int(part) for part in abnormal)),  # type: ignore[arg-type]
    )


def _outline(rng: np.random.Generator, class_id: int, severity: float) -> NDArray[np.float64]:
    """(72, 2) um; the first point is the tip of the acrosome, the middle one the neck."""
    t = np.cos(_THETA)
    length, ratio, profile = rng.normal(4.3, 0.28), rng.uniform(1.5, 1.85), 1.0 + rng.normal(0.04, 0.04) * t
    if class_id == TAPERED:
        length, ratio = rng.uniform(4.3, 5.6), 1.95 + 0.9 * severity
        profile = 1.0 + (0.15 + 0.3 * severity) * t
    elif class_id == PYRIFORM:
        length, ratio = rng.uniform(4.3, 5.5), rng.uniform(1.55, 2.0)
        neck = 1.0 / (1.0 + np.exp((t + rng.uniform(0.0, 0.25)) / 0.16))
        profile = 1.0 - (0.3 + 0.32 * severity) * neck
    elif class_id == AMORPHOUS:
        length, ratio = rng.uniform(3.4, 5.4), rng.uniform(1.1, 2.1)
        profile = 1.0 + rng.normal(0.0, 0.15) * t
    elif class_id == SMALL:
        length = 3.1 - 0.9 * severity + rng.normal(0.0, 0.1)
    u, v = 0.5 * length * t, 0.5 * length / ratio * np.sin(_THETA) * profile
    wobble = 0.008 + (0.03 + 0.04 * severity if class_id == AMORPHOUS else 0.0)
    factor, bend = np.ones(_N_POINTS), rng.normal(0.0, 0.008 + 0.03 * (class_id == AMORPHOUS))
    for order in range(2, 6):
        factor += wobble * rng.normal() / np.sqrt(order - 1) * np.cos(order * _THETA + rng.uniform(0, 2 * np.pi))
    points = np.stack([u * factor, v * factor + bend * u * u], axis=1)
    return points - (points.max(axis=0) + points.min(axis=0)) / 2


def _acrosome_share(rng: np.random.Generator, abnormal: bool) -> float:
    """Share of the head's area: 40 to 70 % is normal (WHO 2021, 2.4.8)."""
    if not abnormal:
        return float(rng.uniform(0.42, 0.68))
    return float(rng.choice([0.0, rng.uniform(0.05, 0.3), rng.uniform(0.78, 0.95)], p=[0.3, 0.4, 0.3]))


def _start_of_share(outline: NDArray[np.float64], share: float, curve: float) -> float:
    """The border that leaves ``share`` of the outline's area in front of it."""
    half = _N_POINTS // 2
    upper, lower = outline[: half + 1][::-1], np.concatenate([outline[half:], outline[:1]])
    grid = np.linspace(outline[half, 0], outline[0, 0], 60)
    width = np.interp(grid, upper[:, 0], upper[:, 1]) - np.interp(grid, lower[:, 0], lower[:, 1])
    behind = np.cumsum(np.maximum(width, 0.0))
    start = float(np.interp(1.0 - share, behind / behind[-1], grid))
    # A border u = start + curve v^2 lies, on average over the width, curve w^2 / 12 further on.
    return start - curve * float(np.interp(start, grid, width)) ** 2 / 12


def _vacuoles(rng: np.random.Generator, outline: NDArray[np.float64], abnormal: bool) -> NDArray[np.float64]:
    """(k, 3) u, v, radius: up to two small ones are normal, more, or above a fifth of the head, are not."""
    half = np.ptp(outline, axis=0) / 2
    if abnormal:
        count, radius = (int(rng.integers(3, 6)), (0.2, 0.32)) if rng.random() < 0.6 else (1, (0.5, 0.6))
    else:
        count, radius = int(rng.choice([0, 1, 2], p=[0.7, 0.2, 0.1])), (0.12, 0.22)
    if not count:
        return np.empty((0, 3))
    angle, reach = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.uniform(0, 0.3, count))
    centres = np.stack([np.cos(angle), np.sin(angle)], axis=1) * reach[:, None] * half
    return np.column_stack([centres, rng.uniform(*radius, count) * half[1] / 1.4])


def _midpieces(rng: np.random.Generator, neck: NDArray[np.float64], abnormal: bool) -> tuple[NDArray[np.float64], ...]:
    """Midpiece and what follows of the tail, 14 um long: out of any crop."""
    kind = rng.choice(["absent", "double", "bent"]) if abnormal else "normal"
    if kind == "absent":
        return ()
    angles = [rng.normal(0.0, 0.16)]
    if kind == "bent":
        angles = [rng.choice([-1, 1]) * rng.uniform(0.9, 1.6)]
    elif kind == "double":
        angles = [rng.uniform(0.25, 0.6), -rng.uniform(0.25, 0.6)]
    steps = np.linspace(0.0, 14.0, 24)
    lines = []
    for angle in angles:
        heading = np.pi + angle + rng.normal(0.0, 0.05) * steps + 0.12 * np.sin(steps / 2.5 + rng.uniform(0, 6))
        heading -= heading[0] - np.pi - angle
        step = np.diff(steps, prepend=0.0)[:, None]
        line = neck + np.cumsum(step * np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0)
        line[:, 0] += 0.15  # it begins inside the head
        lines.append(line)
    return tuple(lines)
