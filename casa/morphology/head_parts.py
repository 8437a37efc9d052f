"""What HPM tells of a head once it is found: its nucleus, its axes, which end is its front."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.morphology.coarse_masks import Mask8, Plane, dilated, filled, grown
from casa.types import FloatArray


def find_nucleus(plane: Plane, head: Mask8, tail_share: float) -> Mask8:
    """The darkest of three clusters of intensity (k-means, k = 3) in the head, in one piece; else the whole head."""
    values = np.clip(plane * 170.0, 0, 255).astype(np.uint8)
    limit = _darkest_of_three(np.bincount(values[dilated(head, 2) > 0], minlength=256))
    dark = filled((values >= limit).astype(np.uint8) & head)
    count, names, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=4)
    if count < 2:
        return head
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    nucleus = (names == largest).astype(np.uint8)
    depth = cv2.distanceTransform(nucleus, cv2.DIST_L2, 5)
    opened = grown(depth > tail_share * depth.max(), tail_share * float(depth.max())) & nucleus
    return opened if opened.sum() > 0.12 * head.sum() else head


def _darkest_of_three(counts: NDArray[np.int64]) -> int:
    """The least level of the darkest cluster: Lloyd's iteration on a histogram."""
    levels = np.arange(len(counts), dtype=np.float64)
    mass, moment = np.cumsum(counts, dtype=np.float64), np.cumsum(counts * levels)
    used = np.flatnonzero(counts)
    centres = np.array([used[0], (used[0] + used[-1]) / 2, used[-1]], np.float64)
    cuts = np.zeros(2, np.int64)
    for _ in range(30):
        cuts = np.ceil((centres[:-1] + centres[1:]) / 2).astype(np.int64)  # first level of the next cluster
        edges = np.concatenate([[-1], cuts - 1, [len(counts) - 1]])
        low, high = edges[:-1], edges[1:]
        weight = mass[high] - np.where(low < 0, 0.0, mass[low])
        total = moment[high] - np.where(low < 0, 0.0, moment[low])
        moved = np.where(weight > 0, total / np.maximum(weight, 1), centres)
        if np.abs(moved - centres).max() < 0.05:
            break
        centres = moved
    return int(cuts[1])


def moments_ellipse(mask: Mask8) -> tuple[FloatArray, FloatArray]:
    """The ellipse with the mask's second moments: half axes as vectors (2, 2), the long one first, and its centre."""
    m = cv2.moments(mask, binaryImage=True)
    centre = np.array([m["m10"], m["m01"]]) / m["m00"]
    spread = np.array([[m["mu20"], m["mu11"]], [m["mu11"], m["mu02"]]]) / m["m00"]
    values, vectors = np.linalg.eigh(spread)
    return (2 * np.sqrt(np.maximum(values, 1e-6)) * vectors).T[::-1], centre


#: Weights of what tells the head's front from its back: midpiece, nucleus, the thicker end.
_SENSE = (3.0, 2.0, 2.5)


def find_direction(
    plane: Plane, coarse: Mask8, head: Mask8, nucleus: Mask8, axes: FloatArray, centre: FloatArray
) -> tuple[FloatArray, float]:
    """Unit vector along the head's long axis, away from the midpiece, and how sure its sense is, in [0, 1]."""
    long, short = (float(np.hypot(*axis)) for axis in axes)
    axis = axes[0] / long
    behind = _midpiece(plane, coarse, head, centre, short)
    ys, xs = np.nonzero(nucleus)
    offset = float((centre - (xs.mean(), ys.mean())) @ axis) / long
    ys, xs = np.nonzero(head)
    along = ((xs - centre[0]) * axis[0] + (ys - centre[1]) * axis[1]) / long
    thicker = -float(np.mean(along**3)) * 20
    evidence = (-float(behind @ axis), float(np.clip(4 * offset, -1, 1)), float(np.clip(thicker, -1, 1)))
    score = float(np.dot(_SENSE, evidence))
    forward = axis if score >= 0 else -axis
    roundness = float(np.clip((1.35 - long / short) / 0.25, 0.0, 1.0))
    if roundness > 0 and np.hypot(*behind) > 0.3:  # the axis of a round head says little, its midpiece more
        forward = forward * (1.2 - roundness) - behind / np.hypot(*behind) * roundness
        forward = forward / np.hypot(*forward)
    return forward, float(np.tanh(abs(score)))


def _midpiece(plane: Plane, coarse: Mask8, head: Mask8, centre: FloatArray, half_width: float) -> FloatArray:
    """Where the midpiece leaves the head, seen from its centre: a vector of length up to 1, 0 where none is seen."""
    outside = cv2.distanceTransform(1 - head, cv2.DIST_L2, 5)
    ring = (outside > 0.12 * half_width) & (outside < 0.75 * half_width)
    pieces = (ring & (coarse > 0)).astype(np.uint8)
    count, names, stats, centroids = cv2.connectedComponentsWithStats(pieces, connectivity=8)
    total = np.zeros(2)
    weights = 0.0
    depth = cv2.distanceTransform(pieces, cv2.DIST_L2, 3)
    for k in range(1, count):
        if stats[k, cv2.CC_STAT_AREA] < 0.04 * half_width**2:
            continue
        here = names == k
        weight = float(depth[here].max()) ** 2 * float(plane[here].mean())  # thick and dark, as a midpiece is
        offset = centroids[k] - centre
        total += weight * offset / max(float(np.hypot(*offset)), 1e-6)
        weights += weight
    return total / weights if weights > 0 else total
