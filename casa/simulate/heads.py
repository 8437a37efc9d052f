"""Rendered heads: crops of the HuSHeM, SCIAN and MHSMA kind with exact masks, direction, class and experts' labels.

Made, not photographed, and to be called so wherever they are used. A crop follows from ``seed`` and its number alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.errors import InputError
from casa.simulate.head_looks import STYLES, Coverage, paint
from casa.simulate.head_shapes import (
    AMORPHOUS,
    HEAD_CLASSES,
    NORMAL,
    PART_PREVALENCE,
    PYRIFORM,
    SMALL,
    TAPERED,
    HeadShape,
    draw_shape,
)
from casa.types import BoolArray, FloatArray, IntArray

#: Pixels are drawn in squares of so many finer ones.
_FINER = 3
_SHIFT = 4  # bits of fraction in OpenCV's coordinates

#: What each class is taken for by an expert who errs; rows: true class.
_TAKEN_FOR = np.zeros((5, 5))
_TAKEN_FOR[NORMAL, [TAPERED, PYRIFORM, AMORPHOUS, SMALL]] = 0.25, 0.2, 0.4, 0.15
_TAKEN_FOR[TAPERED, [NORMAL, PYRIFORM, AMORPHOUS]] = 0.25, 0.25, 0.5
_TAKEN_FOR[PYRIFORM, [NORMAL, TAPERED, AMORPHOUS]] = 0.15, 0.35, 0.5
_TAKEN_FOR[AMORPHOUS, [NORMAL, TAPERED, PYRIFORM, SMALL]] = 0.25, 0.3, 0.3, 0.15
_TAKEN_FOR[SMALL, [NORMAL, AMORPHOUS]] = 0.4, 0.6


@dataclass(frozen=True, slots=True)
class HeadPreset:
    """The kind of set: style of picture, side of a crop and its scale (px, um/px), how many classes, one man's share.

    ``error_rate`` is how often an expert errs on a head of medium severity.
    """

    style: str
    size_px: int
    um_per_px: float
    n_classes: int
    error_rate: float = 0.15


#: Sizes and scales as of the published sets; um/px of HuSHeM, SCIAN and MHSMA from the size of normal heads in them.
HEAD_PRESETS = {
    "hushem": HeadPreset("diffquik", 131, 0.085, 4, 0.1),
    "scian": HeadPreset("stained-gray", 35, 0.19, 5, 0.3),
    "mhsma": HeadPreset("unstained", 64, 0.125, 5),
    "phase": HeadPreset("phase", 64, 0.125, 5),
}


@dataclass(frozen=True, slots=True, eq=False)
class RenderedHeads:
    """Rendered crops and their truth.

    Parameters
    ----------
    images : (n, s, s) or (n, s, s, 3) RGB uint8.
    head, nucleus, acrosome : (n, s, s) bool; nucleus is the part of the head that the acrosome leaves free.
    direction_deg : (n,) where the acrosome points, atan2(dy, dx): 0 right, 90 down.
    labels : (n,) int64 into ``class_names``. severity : (n,) how clearly of its class.
    experts : (n, e) int64, what simulated experts call it.
    parts : (n, 4) int64, 1 abnormal: head, acrosome, vacuole, tail. acrosome_share : (n,) of the head's area.
    """

    images: NDArray[np.uint8]
    head: BoolArray
    nucleus: BoolArray
    acrosome: BoolArray
    direction_deg: FloatArray
    labels: IntArray
    class_names: tuple[str, ...]
    severity: FloatArray
    experts: IntArray
    parts: IntArray
    acrosome_share: FloatArray
    um_per_px: float

    def __len__(self) -> int:
        return len(self.labels)


def render_heads(
    count: int,
    preset: str | HeadPreset = "hushem",
    seed: int = 0,
    n_experts: int = 3,
    class_shares: Sequence[float] | None = None,
    first: int = 0,
) -> RenderedHeads:
    """``count`` crops, numbers ``first`` and on of the set that ``preset`` and ``seed`` name.

    Parameters
    ----------
    class_shares : of each class; None for equal ones, or for MHSMA's share of abnormal parts with that preset.

    Raises
    ------
    InputError : an unknown preset or style, or no crops asked for.
    """
    kind = _preset(preset)
    if count < 1:
        raise InputError(f"{count} heads cannot be rendered; ask for at least 1")
    shares = _shares(kind, preset, class_shares)
    shape = (count, kind.size_px, kind.size_px)
    images = np.empty((*shape, 3) if kind.style == "diffquik" else shape, np.uint8)
    masks = np.empty((3, *shape), bool)
    direction, severity, acrosome_share = (np.empty(count) for _ in range(3))
    labels, experts, parts = (np.empty((count, *more), np.int64) for more in ((), (n_experts,), (4,)))
    for k in range(count):
        rng = np.random.default_rng((seed, first + k, 4127))
        abnormal = tuple(bool(rng.random() < share) for share in PART_PREVALENCE[1:])
        head = draw_shape(rng, int(rng.choice(len(shares), p=shares)), abnormal)
        cover, direction[k] = _cover(rng, head, kind)
        images[k] = paint(rng, kind.style, cover, kind.um_per_px)
        masks[0, k], front = cover.head >= 0.5, cover.acrosome >= 0.5
        masks[1, k], masks[2, k] = masks[0, k] & ~front, masks[0, k] & front
        labels[k], severity[k], acrosome_share[k] = head.class_id, head.severity, head.acrosome_share
        parts[k], experts[k] = head.parts, _opinions(rng, head, kind, n_experts)
    names = HEAD_CLASSES[: kind.n_classes]
    truth = (direction, labels, names, severity, experts, parts, acrosome_share, kind.um_per_px)
    return RenderedHeads(images, masks[0], masks[1], masks[2], *truth)


def _preset(preset: str | HeadPreset) -> HeadPreset:
    if isinstance(preset, str):
        if preset not in HEAD_PRESETS:
            raise InputError(f"no heads called {preset!r}; known ones are {', '.join(HEAD_PRESETS)}")
        return HEAD_PRESETS[preset]
    if preset.style not in STYLES:
        raise InputError(f"no style called {preset.style!r}; known ones are {', '.join(STYLES)}")
    return preset


def _shares(kind: HeadPreset, preset: str | HeadPreset, given: Sequence[float] | None) -> FloatArray:
    if given is None and preset == "mhsma":
        bad = PART_PREVALENCE[0]
        given = [1 - bad, *[bad / (kind.n_classes - 1)] * (kind.n_classes - 1)]
    shares = np.ones(kind.n_classes) if given is None else np.asarray(given, float)
    if shares.shape != (kind.n_classes,) or not (shares >= 0).all() or shares.sum() <= 0:
        raise InputError(f"class shares must be {kind.n_classes} numbers of at least 0, not all 0; got {given}")
    return shares / shares.sum()


def _opinions(rng: np.random.Generator, head: HeadShape, kind: HeadPreset, n_experts: int) -> IntArray:
    """What each expert calls it: the truth, or with a probability that falls with severity one of its neighbours."""
    wrong = np.clip(kind.error_rate * (2.0 - 2.0 * head.severity) * rng.uniform(0.7, 1.3, n_experts), 0.0, 0.7)
    odds = _TAKEN_FOR[head.class_id, : kind.n_classes]
    others = rng.choice(kind.n_classes, n_experts, p=odds / odds.sum())
    return np.where(rng.random(n_experts) < wrong, others, head.class_id)


def _cover(rng: np.random.Generator, head: HeadShape, kind: HeadPreset) -> tuple[Coverage, float]:
    """What covers the pixels, and the head's direction in degrees."""
    side, scale = kind.size_px, _FINER / kind.um_per_px
    angle = rng.uniform(-np.pi, np.pi)
    forward = np.array([np.cos(angle), np.sin(angle)], np.float32)
    across = np.array([-forward[1], forward[0]])
    middle = _FINER * (side / 2 + rng.uniform(-0.05, 0.05, 2) * side)

    def to_fine(points_um: FloatArray) -> FloatArray:
        return middle + scale * (points_um[:, :1] * forward + points_um[:, 1:2] * across)

    shape = (side * _FINER, side * _FINER)
    whole = _filled(shape, to_fine(head.outline_um))
    vacuole = np.zeros(shape, np.uint8)
    for u, v, radius in head.vacuoles_um:
        x, y = to_fine(np.array([[u, v]]))[0]
        _disc(vacuole, x, y, radius * scale)
    midpiece, tail = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for line in head.midpieces_um:
        fine = to_fine(line)
        _line(midpiece, fine[:8], head.midpiece_width_um * scale)
        _line(tail, fine[7:], 0.35 * scale)
    others = _neighbours(rng, shape, scale, middle, np.ptp(head.outline_um[:, 0]) * scale)
    coverage = _coarse(whole, side)
    along = (np.arange(side) + 0.5 - middle[:, None] / _FINER).astype(np.float32) * np.float32(kind.um_per_px)
    u, v = (along[0] * axis[0] + (along[1] * axis[1])[:, None] for axis in (forward, across))
    ahead = (u - head.acrosome_from_um - head.acrosome_curve_per_um * v * v) / kind.um_per_px
    cover = Coverage(
        coverage,
        (coverage * np.clip(ahead + 0.5, 0, 1)).astype(np.float32),
        _coarse(vacuole, side),
        _coarse(midpiece, side),
        _coarse(tail, side),
        _coarse(others, side),
        _distance(whole, side) / np.float32(scale),
    )
    return cover, float(np.degrees(angle))


def _distance(whole: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Fine px to the rim, positive inside; of large crops to one of their own pixels."""
    step = 1 if side <= 80 else _FINER
    mask = whole if step == 1 else np.ascontiguousarray(whole[step // 2 :: step, step // 2 :: step])
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, 3) - cv2.distanceTransform(255 - mask, cv2.DIST_L2, 3)
    if step == 1:
        inside = cv2.resize(inside, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(inside * step, np.float32)


def _neighbours(
    rng: np.random.Generator, shape: tuple[int, int], scale: float, middle: FloatArray, length: float
) -> NDArray[np.uint8]:
    """Tails that pass by or across, a head that reaches in from the border, specks."""
    plane, side = np.zeros(shape, np.uint8), shape[0]
    if rng.random() < 0.35:
        start, end = (side * (0.5 + 0.75 * np.array([np.cos(a), np.sin(a)])) for a in rng.uniform(0, 2 * np.pi, 2))
        along = np.linspace(0, 1, 24)[:, None]
        normal = np.array([start[1] - end[1], end[0] - start[0]])
        wave = rng.normal(0, 0.12) * np.sin(np.pi * along * rng.uniform(1, 3))
        _line(plane, start + along * (end - start) + wave * normal, rng.uniform(0.3, 0.5) * scale)
    if rng.random() < 0.12:
        away = rng.uniform(0, 2 * np.pi)
        centre = side / 2 + side * 0.62 * np.array([np.cos(away), np.sin(away)])
        if np.hypot(*(centre - middle)) > 1.05 * length:
            points = np.array(cv2.ellipse2Poly((0, 0), (1000, 640), int(rng.integers(0, 180)), 0, 360, 12)) / 1000
            _polygon(plane, centre + points * 2.1 * scale)
    for _ in range(int(rng.integers(1, 4)) if rng.random() < 0.3 else 0):
        x, y = rng.uniform(0, side, 2)
        if np.hypot(x - middle[0], y - middle[1]) > 0.8 * length:
            _disc(plane, x, y, rng.uniform(0.1, 0.35) * scale)
    return plane


def _fixed(points: FloatArray) -> NDArray[np.int32]:
    return np.round((points - 0.5) * (1 << _SHIFT)).astype(np.int32)  # OpenCV's pixels have their middle at 0


def _polygon(plane: NDArray[np.uint8], points: FloatArray) -> None:
    cv2.fillPoly(plane, [_fixed(points)], 255, cv2.LINE_8, _SHIFT)


def _filled(shape: tuple[int, int], points: FloatArray) -> NDArray[np.uint8]:
    plane = np.zeros(shape, np.uint8)
    _polygon(plane, points)
    return plane


def _line(plane: NDArray[np.uint8], points: FloatArray, width: float) -> None:
    cv2.polylines(plane, [_fixed(points)], False, 255, max(1, round(width)), cv2.LINE_8, _SHIFT)


def _disc(plane: NDArray[np.uint8], x: float, y: float, radius: float) -> None:
    centre = _fixed(np.array([x, y]))
    cv2.circle(plane, (int(centre[0]), int(centre[1])), round(radius * (1 << _SHIFT)), 255, -1, cv2.LINE_8, _SHIFT)


def _coarse(plane: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    if not plane.any():
        return np.zeros((side, side), np.float32)
    return cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) * np.float32(1 / 255)
