"""The outline of heads that no threshold encloses: unstained ones, seen in relief, dark and bright side by side.

The head's rim is where, seen from its inside, dark turns to bright all around: the closed path about the middle along
which the plane falls most, found exactly by dynamic programming in polar coordinates stretched to the head's ellipse.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.kernels import kernel
from casa.morphology.coarse_masks import Mask8, Plane
from casa.morphology.head_parts import moments_ellipse
from casa.types import FloatArray

#: Rays, and steps along each, between these multiples of the ellipse that the search starts from.
_RAYS, _STEPS, _NEAREST, _FARTHEST = 64, 48, 0.4, 1.75
#: Cost of a path's distance from the ellipse, and of each step it makes to or fro, in contrasts of a head.
_AWAY, _STEP = 0.5, 0.1
#: A fall of the plane by this much counts half; what is dark outside of the path counts against it by so much.
_HALF_FALL, _OUTSIDE = 0.25, 2.5
#: How bright its brightest 4 % must be for a crop to be in relief (colour ones are mostly stained), and how much more a
#: bright head must stand out than a dark one.
_LEAST_LIGHT, _LEAST_LIGHT_IN_COLOUR, _BRIGHT_BY = 0.12, 0.3, 1.8
_BAND = 4  # steps
_OFF = 10.0  # cost of where no rim can be
_COS, _SIN = (f(np.arange(_RAYS) * (2 * np.pi / _RAYS)) for f in (np.cos, np.sin))
_RHO = np.linspace(_NEAREST, _FARTHEST, _STEPS)


def is_relief(plane: Plane, colour: bool) -> bool:
    """Whether bright and dark stand side by side about the middle of a crop, as they do in no stained one."""
    height, width = plane.shape
    middle = plane[height // 5 : height - height // 5, width // 5 : width - width // 5].ravel()
    rank = max(1, middle.size // 25)
    return -float(np.partition(middle, rank)[rank]) > (_LEAST_LIGHT_IN_COLOUR if colour else _LEAST_LIGHT)


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """A head's mask and its rim's mean ``contrast``; ``plane`` has the head positive, ``inverted`` if not as given."""

    mask: Mask8
    contrast: float
    plane: Plane
    inverted: bool


def relief_outline(plane: Plane) -> Outline | None:
    """The head's outline, dark on bright or bright on dark, whichever stands out more; None without anything."""
    start = _blob(plane)
    if start is None:
        return None
    (long, short), centre = moments_ellipse(start)
    dark, bright = (_outline(signed, centre, long, short) for signed in (plane, -plane))
    inverted = bright[1] > _BRIGHT_BY * dark[1]
    signed = -plane if inverted else plane
    (long, short), centre = moments_ellipse(bright[0] if inverted else dark[0])
    mask, contrast = _outline(signed, centre, long, short)  # about the head found, in place of about the blob
    return Outline(mask, contrast, signed, inverted)


def _blob(plane: Plane) -> Mask8 | None:
    """Roughly where the head is: what differs from the background either way, smoothed to the size of a rim."""
    side = min(plane.shape)
    energy = cv2.GaussianBlur(np.minimum(np.abs(plane), 0.35), (0, 0), 0.055 * side)
    height, width = plane.shape
    ys = (np.arange(height, dtype=np.float32) / (height - 1) - 0.5)[:, None]
    xs = np.arange(width, dtype=np.float32) / (width - 1) - 0.5
    near = energy * np.exp(-(xs * xs + ys * ys) * 6.0)
    seed = np.unravel_index(int(near.argmax()), near.shape)
    if energy[seed] <= 0:
        return None
    depth = cv2.distanceTransform((energy > 0.45 * energy[seed]).astype(np.uint8), cv2.DIST_L2, 3)
    _, names = cv2.connectedComponents((depth > 0.5 * depth[seed]).astype(np.uint8))
    core = names == names[seed] if names[seed] else depth >= depth.max()
    return (cv2.distanceTransform(1 - core.astype(np.uint8), cv2.DIST_L2, 3) <= 0.5 * depth[seed]).astype(np.uint8)


def _outline(plane: Plane, centre: FloatArray, long: FloatArray, short: FloatArray) -> tuple[Mask8, float]:
    if np.hypot(*short) < 0.45 * np.hypot(*long):  # two sides of a rim may look like a thinner head
        short = short * (0.45 * np.hypot(*long) / np.hypot(*short))
    rays = long[:, None] * _COS + short[:, None] * _SIN  # (2, rays)
    xs, ys = (centre[k] + rays[k][:, None] * _RHO for k in range(2))
    polar = cv2.remap(
        plane, xs.astype(np.float32), ys.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    path, contrast = _rim(np.asarray(polar, np.float32))
    rho = _RHO[path]
    points = np.stack([centre[k] + rays[k] * rho for k in range(2)], axis=1)
    mask = np.zeros(plane.shape, np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    return mask, contrast


@kernel
def _rim(polar: NDArray[np.float32]) -> tuple[NDArray[np.int64], float]:
    """The path (rays,) through ``polar`` (rays, steps) along which it falls most, and how much it falls on average."""
    rays, steps = polar.shape
    spacing = (_FARTHEST - _NEAREST) / (steps - 1)
    apart = max(1, round(0.11 / spacing))
    fall, cost = np.zeros((rays, steps)), np.full((rays, steps), _OFF)
    for ray in range(rays):
        outside = 0.0  # how dark it is beyond a step
        for j in range(steps - 1, apart - 1, -1):
            if j < steps - apart:
                here = float(polar[ray, j - apart]) - float(polar[ray, j + apart])
                away = _NEAREST + j * spacing - 1
                fall[ray, j] = here
                cost[ray, j] = _AWAY * away * away + _OUTSIDE * outside * spacing - here / (abs(here) + _HALF_FALL)
            outside += min(max(float(polar[ray, j]), 0.0), 0.5)
    path = _cheapest_path(cost, _STEP)
    cost[:] = _OFF
    for ray in range(rays):  # the steepest place close by is the rim
        first, last = max(0, path[ray] - _BAND), min(steps, path[ray] + _BAND + 1)
        steepest = max(fall[ray, first:last].max(), 0.05)
        for j in range(first, last):
            cost[ray, j] = -fall[ray, j] / steepest
    path = _cheapest_path(cost, _STEP)
    contrast = 0.0
    for ray in range(rays):
        contrast += fall[ray, path[ray]] / rays
    return path, contrast


@kernel
def _cheapest_path(cost: NDArray[np.float64], step_cost: float) -> NDArray[np.int64]:
    """The closed path through (rays, steps), at most one step to or fro from ray to ray, with the least cost."""
    rays, steps = cost.shape
    best, chosen = np.inf, np.zeros(rays, np.int64)
    total, came = np.empty((rays, steps)), np.zeros((rays, steps), np.int64)
    start = -1
    for _ in range(2):  # free ends first; then closed at where the free path was half way round
        for k in range(rays):
            ray = k if start < 0 else (k + rays // 2) % rays
            for j in range(steps):
                if k == 0:
                    total[0, j] = cost[ray, j] if start < 0 or j == start else np.inf
                    continue
                least, source = np.inf, j
                for i in range(max(0, j - 1), min(steps, j + 2)):
                    here = total[k - 1, i] + (step_cost if i != j else 0.0)
                    if here < least:
                        least, source = here, i
                total[k, j], came[k, j] = least + cost[ray, j], source
        end, best = 0, np.inf
        for j in range(steps):
            if total[rays - 1, j] < best and (start < 0 or abs(j - start) <= 1):
                end, best = j, total[rays - 1, j]
        for k in range(rays - 1, -1, -1):
            chosen[k if start < 0 else (k + rays // 2) % rays] = end
            end = came[k, end]
        start = chosen[rays // 2]
    return chosen
