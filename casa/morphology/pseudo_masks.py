"""Hierarchical pseudo-masks of heads (HPM), without training: masks, direction, rings that are less and less sure.

The method of Zhang et al. 2022, section 2.1, made to work on stained and unstained, dark and bright heads of 24 px and
up; docs/decisions/013-pseudo-masks.md says where it goes beyond the paper, and why. Knows crops and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.morphology.coarse_masks import (
    Mask8,
    Plane,
    coarse_mask,
    contrast,
    denoised,
    dilated,
    eroded,
    filled,
    grown,
    polarity,
)
from casa.morphology.head_parts import find_direction, find_nucleus, moments_ellipse
from casa.morphology.relief import Outline, is_relief, relief_outline
from casa.types import BoolArray, FloatArray


class HeadProblem(StrEnum):
    """Why no mask is given for a crop."""

    WRONG_SIZE = "wrong size"  # no picture, or one with a side below 24 or above 1024 px
    ONE_VALUE = "one value"  # nothing in it differs from the rest
    NO_HEAD = "no head"  # nothing of a head's size stands out
    TWO_HEADS = "two heads"  # which one is meant cannot be told
    CUT_OFF = "cut off"  # the head reaches out of the crop


@dataclass(frozen=True, slots=True)
class HpmOptions:
    """What the method may be told; lengths are shares of the head's half width or of the crop's side.

    Parameters
    ----------
    layers : h of the paper: M_0 and h - 1 dilations of it, one pixel each (1 for clean, 2 for small noisy crops).
    denoise_template_px, denoise_search_px : windows of the non-local means (odd).
    denoise_strength : its h, in standard deviations of the background.
    threshold : of the coarse mask, as a share of the head's contrast; noise_threshold : the least, in standard
        deviations of the denoised background.
    tail_share : what is thinner than this share of the head's half width is tail or midpiece.
    acrosome_excess : the acrosome may be higher than the nucleus by this factor before it is eroded.
    """

    layers: int = 2
    denoise_template_px: int = 5
    denoise_search_px: int = 9
    denoise_strength: float = 1.2
    threshold: float = 0.26
    noise_threshold: float = 5.0
    tail_share: float = 0.44
    acrosome_excess: float = 1.25


@dataclass(frozen=True, slots=True, eq=False)
class HeadMask:
    """What HPM found in a crop of (h, w) px.

    Parameters
    ----------
    head : (h, w) bool, M_0: the head without midpiece and tail.
    nucleus : (h, w) bool, its darkest part; whole : (h, w) bool, the coarse mask m_1, with what hangs on the head.
    layers : (h, w) uint8: 0 background, 1 the head (M_0), 2 and up the rings about it, each less sure.
    direction_deg : where the head points, atan2(dy, dx): 0 right, 90 down; sure : how clearly, in [0, 1].
    centre_xy_px : of the head. bright : whether the head is brighter than the background.
    relief : whether it was seen in relief, unstained: its darkest part is then no nucleus to measure by.
    """

    head: BoolArray
    nucleus: BoolArray
    whole: BoolArray
    layers: NDArray[np.uint8]
    direction_deg: float
    sure: float
    centre_xy_px: tuple[float, float]
    bright: bool
    relief: bool = False

    @property
    def acrosome(self) -> BoolArray:
        """(h, w) bool: the part of the head in front of its nucleus' middle that is not nucleus."""
        angle = np.radians(self.direction_deg)
        ys, xs = np.nonzero(self.nucleus)
        along_x, along_y = np.cos(angle), np.sin(angle)
        grid_y, grid_x = np.ogrid[: self.head.shape[0], : self.head.shape[1]]
        ahead = (grid_x - xs.mean()) * along_x + (grid_y - ys.mean()) * along_y > 0
        return self.head & ~self.nucleus & ahead

    def aligned(self, image: NDArray[Any], linear: bool = True) -> NDArray[Any]:
        """``image`` of the crop's size turned about the head's centre to face right; masks want ``linear=False``."""
        matrix = cv2.getRotationMatrix2D(self.centre_xy_px, self.direction_deg, 1.0)
        how = cv2.INTER_LINEAR if linear else cv2.INTER_NEAREST
        given = image.astype(np.uint8) if image.dtype == bool else image
        turned = cv2.warpAffine(given, matrix, image.shape[1::-1], flags=how, borderMode=cv2.BORDER_REPLICATE)
        return turned.astype(image.dtype, copy=False)


def pseudo_mask(image: NDArray[Any], options: HpmOptions | None = None) -> HeadMask | None:
    """``find_head``, with None in place of the reason why there is no mask."""
    found = find_head(image, options)
    return found if isinstance(found, HeadMask) else None


def pseudo_masks(images: Iterable[NDArray[Any]], options: HpmOptions | None = None) -> list[HeadMask | HeadProblem]:
    """``find_head`` of each crop; none of them can break off the batch."""
    return [find_head(image, options) for image in images]


def oriented_crop(image: NDArray[Any], mask: HeadMask, size_px: int, scale: float = 1.0) -> NDArray[Any]:
    """(size, size[, 3]) crop about the head's centre, facing right, magnified by ``scale``; dtype as given."""
    matrix = cv2.getRotationMatrix2D(mask.centre_xy_px, mask.direction_deg, scale)
    matrix[:, 2] += (size_px - 1) / 2 - np.array(mask.centre_xy_px)
    flags = cv2.INTER_LINEAR if scale >= 0.7 else cv2.INTER_AREA
    return cv2.warpAffine(image, matrix, (size_px, size_px), flags=flags, borderMode=cv2.BORDER_REPLICATE)


#: Sides in px that are taken; larger ones than the working side are reduced, small ones doubled after denoising.
_LEAST_SIDE, _GREATEST_SIDE, _WORKING_SIDE, _SMALL_SIDE = 24, 1024, 160, 50


def find_head(image: NDArray[Any], options: HpmOptions | None = None) -> HeadMask | HeadProblem:
    """The head in a crop, or why there is none to be told of; never raises on a picture's content.

    Parameters
    ----------
    image : (h, w) gray or (h, w, 3) RGB, uint8 or uint16 (or any real numbers), one head about the middle.
    """
    options = options or HpmOptions()
    sides = image.shape[:2]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        return HeadProblem.WRONG_SIZE
    if min(sides) < _LEAST_SIDE or max(sides) > _GREATEST_SIDE:
        return HeadProblem.WRONG_SIZE
    picture = image.astype(np.float32)
    reduced = _WORKING_SIDE / max(sides)
    if max(sides) <= _SMALL_SIDE:
        found = _find(picture, options, 2)
        return found if isinstance(found, HeadProblem) else _resized(found, sides)
    if reduced < 1:
        small = cv2.resize(picture, None, fx=reduced, fy=reduced, interpolation=cv2.INTER_AREA)
        found = _find(np.asarray(small, np.float32), options)
        return found if isinstance(found, HeadProblem) else _resized(found, sides)
    return _find(picture, options)


def _resized(mask: HeadMask, sides: tuple[int, ...]) -> HeadMask:
    height, width = sides
    factor_x, factor_y = width / mask.head.shape[1], height / mask.head.shape[0]

    how = cv2.INTER_AREA if factor_x < 1 else cv2.INTER_LINEAR

    def resized(plane: NDArray[Any]) -> NDArray[Any]:
        return cv2.resize(plane.astype(np.float32), (width, height), interpolation=how) >= 0.5

    x, y = mask.centre_xy_px
    centre = ((x + 0.5) * factor_x - 0.5, (y + 0.5) * factor_y - 0.5)
    head, nucleus, whole = (resized(plane) for plane in (mask.head, mask.nucleus, mask.whole))
    surest = 1 + np.arange(int(mask.layers.max(initial=1)))
    layers = np.zeros(head.shape, np.uint8)
    for layer in surest[::-1]:
        layers[resized((mask.layers > 0) & (mask.layers <= layer))] = layer
    layers[head] = 1
    return HeadMask(
        head, nucleus & head, whole, layers, mask.direction_deg, mask.sure, centre, mask.bright, mask.relief
    )


def _find(picture: Plane, options: HpmOptions, finer: int = 1) -> HeadMask | HeadProblem:
    plane = contrast(picture)
    if plane is None:
        return HeadProblem.ONE_VALUE
    plane, noise = denoised(plane, options.denoise_strength, options.denoise_template_px, options.denoise_search_px)
    if finer > 1:
        plane = np.asarray(cv2.resize(plane, None, fx=finer, fy=finer, interpolation=cv2.INTER_CUBIC), np.float32)
    plane, bright = polarity(plane)
    outlined = relief_outline(plane) if is_relief(plane, picture.ndim == 3) else None
    if outlined is not None:
        plane, bright = outlined.plane, bright != outlined.inverted
    coarse = coarse_mask(plane, max(options.threshold, options.noise_threshold * noise))
    if coarse is None:
        return HeadProblem.NO_HEAD
    head = _head(plane, coarse, options.tail_share) if outlined is None else _outlined(outlined, noise)
    if isinstance(head, HeadProblem):
        return head
    nucleus = find_nucleus(plane, head, options.tail_share)
    axes, centre = moments_ellipse(head)
    forward, sure = find_direction(plane, coarse, head, nucleus, axes, centre)
    core = _fused(head, nucleus, forward, centre, options.acrosome_excess) if outlined is None else head
    beyond = np.abs(plane) if outlined is not None else plane
    faint = (beyond > max(_FAINT * options.threshold, 0.8 * options.noise_threshold * noise)).astype(np.uint8)
    layers = _hierarchy(core, coarse | faint, options.layers)
    _, centre = moments_ellipse(core)
    return HeadMask(
        core > 0,
        (nucleus & core) > 0,
        (coarse | head) > 0,
        layers,
        float(np.degrees(np.arctan2(forward[1], forward[0]))),
        sure,
        (float(centre[0]), float(centre[1])),
        bright,
        outlined is not None,
    )


# Step 2: without tail and midpiece; the nucleus; the direction


#: A small head is hardly wider than its blurred midpiece: factors on the tail's share, tried until it is off.
_TAIL_FACTORS = (1.0, 1.32, 1.64)
_LEAST_RIM = 0.2  # mean contrast of a rim seen in relief, in contrasts of the head
_LONGEST = 3.3  # length over width of a head; what is longer has its midpiece on


def _head(plane: Plane, coarse: Mask8, tail_share: float) -> Mask8 | HeadProblem:
    """The head without midpiece and tail, its rim sharpened, or what is wrong with it."""
    problem = HeadProblem.NO_HEAD
    for factor in _TAIL_FACTORS:
        head = _without_tail(coarse, factor * tail_share)
        if isinstance(head, HeadProblem):
            return head
        head = _sharpened(plane, head, factor * tail_share)
        problem = _check(head)
        if problem is None:
            return head
        if problem is HeadProblem.NO_HEAD:
            break
    return problem


def _outlined(outline: Outline, noise: float) -> Mask8 | HeadProblem:
    if outline.contrast < max(_LEAST_RIM, 4.0 * noise):
        return HeadProblem.NO_HEAD
    return _check(outline.mask) or outline.mask


def _without_tail(coarse: Mask8, tail_share: float) -> Mask8 | HeadProblem:
    """The head about the crop's middle: what is thicker than a share of its half width, grown back by that much."""
    depth = cv2.distanceTransform(coarse, cv2.DIST_L2, 5)
    height, width = coarse.shape
    ys = (np.arange(height, dtype=np.float32) / (height - 1) - 0.5)[:, None]
    xs = np.arange(width, dtype=np.float32) / (width - 1) - 0.5
    weighted = depth * np.exp(-(xs * xs + ys * ys) * 8.0)
    seed = np.unravel_index(int(weighted.argmax()), weighted.shape)
    half_width = float(depth[seed])
    if half_width < max(2.0, 0.035 * min(height, width)):
        return HeadProblem.NO_HEAD
    thick = (depth > tail_share * half_width).astype(np.uint8)
    count, names, stats, _ = cv2.connectedComponentsWithStats(thick, connectivity=8)
    mine = int(names[seed])
    for other in range(1, count):
        if other == mine or _touches_border(stats[other], coarse.shape, round(tail_share * half_width) + 1):
            continue
        deepest = float(depth[names == other].max())
        if deepest > 0.7 * half_width and stats[other, cv2.CC_STAT_AREA] > 0.4 * stats[mine, cv2.CC_STAT_AREA]:
            return HeadProblem.TWO_HEADS
    return grown(names == mine, tail_share * half_width) & coarse


def _touches_border(stat: NDArray[np.int32], shape: tuple[int, ...], within: int) -> bool:
    left, top, wide, high = stat[:4]
    return bool(left <= within or top <= within or left + wide >= shape[1] - within or top + high >= shape[0] - within)


def _sharpened(plane: Plane, head: Mask8, tail_share: float) -> Mask8:
    """The head with its rim at half of the contrast just inside it: the edges of nucleus and acrosome differ."""
    inner = eroded(head, 1)
    sigma = max(1.0, 0.035 * min(plane.shape))
    weight = cv2.GaussianBlur(inner.astype(np.float32), (0, 0), sigma)
    level = cv2.GaussianBlur(plane * inner, (0, 0), sigma) / np.maximum(weight, 1e-4)
    near = dilated(head, 1)
    rim = near & (plane > 0.5 * np.maximum(level, 0.1)).astype(np.uint8)
    sharp = filled(rim | eroded(head, max(1, round(2 * sigma))))
    opened = _without_tail(sharp, tail_share)
    return head if isinstance(opened, HeadProblem) else opened


def _check(head: Mask8) -> HeadProblem | None:
    area = int(head.sum())
    if area < 0.008 * head.size or area < 20:
        return HeadProblem.NO_HEAD
    if area > 0.7 * head.size:
        return HeadProblem.CUT_OFF
    cut = max(int(side.sum()) for side in (head[0], head[-1], head[:, 0], head[:, -1]))
    (long, short), _ = moments_ellipse(head)
    if cut > 0.35 * np.sqrt(area) or np.hypot(*long) > _LONGEST * np.hypot(*short):
        return HeadProblem.CUT_OFF
    return None


# Steps 3 and 4: fusion with the acrosome, and the hierarchy


#: The rings reach to where the contrast is this share of the coarse mask's.
_FAINT = 0.45
#: How far behind the nucleus the head may reach, and how deep its front may be eroded, in heights of the nucleus.
_BEHIND, _ERODED = 0.12, 0.08


def _fused(head: Mask8, nucleus: Mask8, forward: FloatArray, centre: FloatArray, excess: float) -> Mask8:
    """M_0: what is not behind the nucleus, its front half eroded to about the nucleus' height, if little does it."""
    grid_y, grid_x = np.ogrid[: head.shape[0], : head.shape[1]]
    along = (grid_x - centre[0]) * forward[0] + (grid_y - centre[1]) * forward[1]
    height, limit = _height(nucleus, forward), 0.6 * _height(head, forward)
    if height < limit:  # only a part of the nucleus stood out: it sets no measure
        return head
    kept = head & (along >= along[nucleus > 0].min() - _BEHIND * height).astype(np.uint8)
    front = (along > 0).astype(np.uint8)
    depth = cv2.distanceTransform(kept, cv2.DIST_L2, 5)
    for level in range(1 + round(_ERODED * height)):
        eroded = front & (depth > level).astype(np.uint8)
        if _height(eroded, forward) <= excess * height:
            return filled(eroded | (kept & ~front & 1) | nucleus)
    return kept


def _height(mask: Mask8, forward: FloatArray) -> float:
    ys, xs = np.nonzero(mask)
    if not len(xs):
        return 0.0
    across = xs * -forward[1] + ys * forward[0]
    return float(across.max() - across.min()) + 1.0


def _hierarchy(core: Mask8, coarse: Mask8, layers: int) -> NDArray[np.uint8]:
    """(h, w) uint8: 1 for M_0, i + 1 for what the i-th dilation adds, all within the coarse mask and its faint rim."""
    out, mask = core.copy(), core
    for k in range(2, layers + 1):
        grown = dilated(mask, 1) & coarse
        out[(grown > 0) & (out == 0)] = k
        mask = grown | core
    return out
