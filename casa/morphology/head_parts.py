"""What HPM tells of a head once it is found: its nucleus, its axes, which end is its front."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.kernels import kernel
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


@kernel
def _darkest_of_three(counts: NDArray[np.int64]) -> int:
    """The least level of the darkest cluster: Lloyd's iteration on a histogram."""
    first, last = 0, len(counts) - 1
    while first < last and counts[first] == 0:
        first += 1
    while last > first and counts[last] == 0:
        last -= 1
    centres = np.array([first, (first + last) / 2.0, last])
    cut = last
    for _ in range(30):
        low, cut = int(np.ceil((centres[0] + centres[1]) / 2)), int(np.ceil((centres[1] + centres[2]) / 2))
        total, moment = np.zeros(3), np.zeros(3)
        for level in range(first, last + 1):
            cluster = 0 if level < low else (1 if level < cut else 2)
            total[cluster] += counts[level]
            moment[cluster] += counts[level] * level
        moved = 0.0
        for cluster in range(3):
            if total[cluster] > 0:
                centre = moment[cluster] / total[cluster]
                moved = max(moved, abs(centre - centres[cluster]))
                centres[cluster] = centre
        if moved < 0.05:
            break
    return cut


def moments_ellipse(mask: Mask8) -> tuple[FloatArray, FloatArray]:
    """The ellipse with the mask's second moments: half axes as vectors (2, 2), the long one first, and its centre."""
    m = cv2.moments(mask, binaryImage=True)
    area = m["m00"]
    xx, xy, yy = m["mu20"] / area, m["mu11"] / area, m["mu02"] / area
    angle = 0.5 * math.atan2(2 * xy, xx - yy)
    spread, middle = math.hypot((xx - yy) / 2, xy), (xx + yy) / 2
    cos, sin = math.cos(angle), math.sin(angle)
    long, short = (2 * math.sqrt(max(value, 1e-6)) for value in (middle + spread, middle - spread))
    return np.array([[long * cos, long * sin], [-short * sin, short * cos]]), np.array([m["m10"], m["m01"]]) / area


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
