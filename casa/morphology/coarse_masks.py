"""What HPM's steps share: a crop's contrast, denoised; its coarse mask; masks dilated, eroded, filled.

All planes are float32 with the head positive and about 1, all masks uint8 of 0 and 1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.types import BoolArray, FloatArray

Plane = NDArray[np.float32]
Mask8 = NDArray[np.uint8]


def contrast(picture: Plane) -> Plane | None:
    """How much darker than the background each pixel is, along the colour in which the head differs most."""
    border = _border(picture.shape)
    if picture.ndim == 3:
        background = np.median(picture[border], axis=0)
        darker = background.astype(np.float32) - picture
        strength = np.abs(darker).sum(axis=2)
        strongest = strength >= np.partition(strength.ravel(), -strength.size // 12)[-strength.size // 12]
        colour = darker[strongest].mean(axis=0)
        norm = float(np.linalg.norm(colour))
        if norm == 0:
            return None
        plane = np.asarray(cv2.transform(darker, (colour / norm)[None]), np.float32)
    else:
        plane = middle_of(picture[border]) - picture
    if not np.isfinite(plane).all() or float(np.ptp(plane)) == 0:
        return None
    return plane - _slope(plane, border)


@lru_cache(maxsize=64)
def _border(shape: tuple[int, ...]) -> BoolArray:
    """(h, w) which pixels are near the border; read-only."""
    width = max(2, min(shape[:2]) // 12)
    border = np.ones(shape[:2], bool)
    border[width:-width, width:-width] = False
    border.setflags(write=False)
    return border


@lru_cache(maxsize=64)
def _terms(shape: tuple[int, int]) -> FloatArray:
    """(n, 3) of a plane through the border's pixels; read-only."""
    ys, xs = np.nonzero(_border(shape))
    terms = np.column_stack([np.ones(len(xs)), xs / shape[1] - 0.5, ys / shape[0] - 0.5])
    terms.setflags(write=False)
    return terms


def middle_of(values: NDArray[Any]) -> float:
    """The median (the upper one of an even number), of an array that is not empty."""
    half = values.size // 2
    return float(np.partition(values.ravel(), half)[half])


def _slope(plane: Plane, border: BoolArray) -> Plane:
    """The background as a plane through the border's pixels, what stands out of them (tails) left aside."""
    height, width = plane.shape
    terms, values = _terms((height, width)), plane[border].astype(np.float64)
    weights, factors = np.ones(len(values)), np.zeros(3)
    for _ in range(3):
        some = terms * weights[:, None]
        factors = np.linalg.solve(some.T @ terms + 1e-6 * np.eye(3), some.T @ values)
        rest = np.abs(values - terms @ factors)
        weights = (rest <= 2.5 * middle_of(rest) + 1e-6).astype(np.float64)
    across = (factors[1] * (np.arange(width) / width - 0.5)).astype(np.float32)
    down = (factors[0] + factors[2] * (np.arange(height) / height - 0.5)).astype(np.float32)
    return across + down[:, None]


def denoised(plane: Plane, strength: float, template_px: int, search_px: int) -> tuple[Plane, float]:
    """Non-local means on 8 bits; returns the plane in units of its strongest contrast, and the background's sd."""
    top = float(max(np.partition(np.abs(plane).ravel(), -plane.size // 50)[-plane.size // 50], 1e-6))
    scaled = np.clip(plane * (100.0 / top) + 127.5, 0, 255).astype(np.uint8)
    border = _border(plane.shape)
    steps = np.diff(scaled.astype(np.int16), axis=1)[border[:, 1:]]
    # Half of all neighbours differ by less than 0.95 sd of the noise, whatever tail lies between some of them.
    sd = middle_of(np.abs(steps)) / 0.95
    strength = float(np.clip(strength * sd, 2.0, 30.0))
    clean = cv2.fastNlMeansDenoising(scaled, None, strength, template_px, search_px)
    out = (clean.astype(np.float32) - np.float32(127.5)) * np.float32(0.01)
    values = out[border]
    middle = middle_of(values)
    return out - middle, max(1.48 * middle_of(np.abs(values - middle)), 0.004)


def polarity(plane: Plane) -> tuple[Plane, bool]:
    """The plane with the head positive, and whether it is brighter than the background.

    Unstained heads have a dark rim, and sometimes a paler inside than the background: dark is taken unless what is
    bright about the middle is clearly stronger.
    """
    height, width = plane.shape
    middle = plane[height // 5 : height - height // 5, width // 5 : width - width // 5].ravel()
    rank = max(1, middle.size // 25)
    dark = float(np.partition(middle, -rank)[-rank])
    light = -float(np.partition(middle, rank)[rank])
    bright = light > 1.35 * max(dark, 0.0)
    strongest = max(light if bright else dark, 1e-6)
    return (-plane if bright else plane) / np.float32(strongest), bright


def coarse_mask(plane: Plane, level: float) -> Mask8 | None:
    """m_1: what stands out, holes filled (a pale inside is part of the head)."""
    if level > 0.8:
        return None
    out = (plane > level).astype(np.uint8)
    radius = max(1, round(min(plane.shape) / 32))
    closed = eroded(dilated(out, radius), radius)
    return filled(np.asarray(out | (filled(closed) & ~closed & 1), np.uint8))


def filled(mask: Mask8) -> Mask8:
    """The mask with its holes; such as a loop of crossing tails, larger than an eighth of the crop, stay."""
    _, names, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    height, width = mask.shape
    left, top, wide, high, area = stats.T
    inside = (left > 0) & (top > 0) & (left + wide < width) & (top + high < height) & (area < mask.size / 8)
    inside[0] = False
    if not inside.any():
        return mask
    return mask | inside[names].astype(np.uint8)


def disc(radius: int) -> Mask8:
    """A disc to dilate or erode with."""
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), np.uint8)


def dilated(mask: Mask8, radius: int) -> Mask8:
    """The mask, wider by ``radius`` px."""
    return np.asarray(cv2.dilate(mask, disc(radius)), np.uint8)


def eroded(mask: Mask8, radius: int) -> Mask8:
    """The mask, narrower by ``radius`` px."""
    return np.asarray(cv2.erode(mask, disc(radius)), np.uint8)


def grown(mask: NDArray[Any], by_px: float) -> Mask8:
    """The mask dilated by a disc of any radius."""
    return (cv2.distanceTransform(1 - mask.astype(np.uint8), cv2.DIST_L2, 5) <= by_px).astype(np.uint8)
