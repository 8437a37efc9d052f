"""Head crops out of the clip that follows a sperm: its sharpest pictures in which the head is alone and whole.

Focus is judged on the head itself. What is too small or too blurred to be classed gives no crop but a reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.cells import Clip, ClipFlag
from casa.errors import InputError
from casa.morphology.morphometry import STRICT_LENGTH_UM, measure_heads
from casa.morphology.pseudo_masks import HeadMask, HeadProblem, HpmOptions, find_head, oriented_crop
from casa.types import IntArray

#: Pictures of a clip that show something else than the head, or not all of it.
_UNFIT = ClipFlag.BORDER | ClipFlag.CROSSING | ClipFlag.LOST | ClipFlag.REPEATED


class NoCrop(StrEnum):
    """Why a clip gives no crop."""

    FLAGGED = "no picture shows the head alone"
    NO_HEAD = "no head found"
    TWO_HEADS = "two heads"
    CUT_OFF = "head cut off"
    TOO_SMALL = "head too small"
    OUT_OF_FOCUS = "out of focus"


_WHY = {HeadProblem.TWO_HEADS: NoCrop.TWO_HEADS, HeadProblem.CUT_OFF: NoCrop.CUT_OFF}


@dataclass(frozen=True, slots=True)
class CropOptions:
    """What makes a crop.

    Parameters
    ----------
    crops : at most so many of a clip, the sharpest. tries : pictures looked at, the sharpest first.
    crop_um : side of what is cut out where calibrated; else ``crop_heads`` times the head's length as found in the
        picture's middle. size_px : side of the crop given.
    least_length_px : a shorter head shows no shape. most_edge_share : the edge of a head in focus is at most this share
        of its width.
    """

    crops: int = 4
    tries: int = 8
    crop_um: float = 8.0
    crop_heads: float = 2.0
    size_px: int = 64
    least_length_px: float = 9.0
    most_edge_share: float = 0.42


@dataclass(frozen=True, slots=True, eq=False)
class ClipCrops:
    """The best crops of a clip, the sharpest first.

    Parameters
    ----------
    images : (n, size, size) uint8, facing right. cuts : the squares that they were turned from; masks : of these.
    index : (n,) int64, which pictures of the clip. edge_share : (n,) width of the head's edge over the head's width.
    um_per_px, cut_um_per_px : scale of ``images`` and of ``cuts``; None where uncalibrated.
    """

    images: NDArray[np.uint8]
    cuts: tuple[NDArray[np.uint8], ...]
    masks: tuple[HeadMask, ...]
    index: IntArray
    edge_share: NDArray[np.float64]
    um_per_px: float | None
    cut_um_per_px: float | None


def crops_of_clip(clip: Clip, options: CropOptions | None = None, hpm: HpmOptions | None = None) -> ClipCrops | NoCrop:
    """The sharpest crops of a clip that show its head alone, whole and in focus; or what most often speaks against it.

    Raises
    ------
    InputError : a clip without pictures.
    """
    options = options or CropOptions()
    if not len(clip):
        raise InputError(f"clip {clip.clip_id}: no pictures in it")
    usable = np.flatnonzero((clip.flags & _UNFIT) == 0)
    if not len(usable):
        return NoCrop.FLAGGED
    side = _side_px(clip, options)
    sharpness = np.array([_sharpness(_middle(clip.images[k], side)) for k in usable])
    found: list[tuple[float, int, HeadMask, NDArray[np.uint8]]] = []
    against: Counter[NoCrop] = Counter()
    for k in usable[np.argsort(-sharpness)][: max(options.tries, options.crops)]:
        cut = _middle(clip.images[k], side)
        larger = max(1, round(options.size_px / len(cut)))
        if larger > 1:  # a head of a dozen pixels: masks want more of them
            cut = np.asarray(cv2.resize(cut, None, fx=larger, fy=larger, interpolation=cv2.INTER_CUBIC), np.uint8)
        mask = find_head(cut, hpm)
        if not isinstance(mask, HeadMask):
            against[_WHY.get(mask, NoCrop.NO_HEAD)] += 1
            continue
        length, width = _size_px(mask)
        if length / larger < options.least_length_px:
            against[NoCrop.TOO_SMALL] += 1
            continue
        edge = _edge_px(cut, mask) / width
        if edge > options.most_edge_share:
            against[NoCrop.OUT_OF_FOCUS] += 1
            continue
        found.append((edge, int(k), mask, cut))
        if len(found) == options.crops:
            break
    if not found:
        return against.most_common(1)[0][0]
    found.sort(key=lambda item: item[0])
    scale = options.size_px / len(found[0][3])
    images = np.stack([oriented_crop(cut, mask, options.size_px, scale) for _, _, mask, cut in found])
    um_per_px = None if clip.um_per_px is None else clip.um_per_px * side / options.size_px
    return ClipCrops(
        images,
        tuple(cut for _, _, _, cut in found),
        tuple(mask for _, _, mask, _ in found),
        np.array([k for _, k, _, _ in found], np.int64),
        np.array([edge for edge, _, _, _ in found]),
        um_per_px,
        None if um_per_px is None else um_per_px * scale,
    )


def _side_px(clip: Clip, options: CropOptions) -> int:
    """Side of the square about the middle of the clip's pictures that holds the head."""
    height, width = clip.images.shape[1:]
    if clip.um_per_px is not None:
        side = options.crop_um / clip.um_per_px
    else:
        whole = find_head(clip.images[int(np.argmax(clip.score))])
        length = _size_px(whole)[0] if isinstance(whole, HeadMask) else min(height, width) / (2 * STRICT_LENGTH_UM)
        side = options.crop_heads * length
    return int(np.clip(2 * round(side / 2), 24, min(height, width)))


def _middle(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = image.shape
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def _sharpness(image: NDArray[np.uint8]) -> float:
    """Steepest slopes over the contrast; a first order in which to look."""
    gray = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 0.8)
    slope = np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
    return float(np.percentile(slope, 98) / max(float(np.ptp(gray)), 1.0))


def _size_px(mask: HeadMask) -> tuple[float, float]:
    """Length and width of the ellipse with the head's moments."""
    table = measure_heads([mask])
    return float(table.length_px[0]), float(table.width_px[0])


def _edge_px(image: NDArray[np.uint8], mask: HeadMask) -> float:
    """Width of the head's edge: the contrast of head and surroundings over the steepest slope at the rim."""
    gray = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 0.6)
    head = mask.head.astype(np.uint8)
    inside, outside = (cv2.distanceTransform(part, cv2.DIST_L2, 5) for part in (head, 1 - head))
    reach = float(inside.max())
    contrast = float(np.ptp(np.percentile(gray[outside <= 0.8 * reach], (5, 95))))
    rim = inside + outside <= max(2.0, 0.35 * reach)
    slope = np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)) / 8
    return contrast / max(float(np.percentile(slope[rim], 90)), 1e-6)
