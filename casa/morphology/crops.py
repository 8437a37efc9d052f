"""Crops as the networks take them: turned to face right by HPM, with its rings and one label a part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.errors import InputError
from casa.morphology.pseudo_masks import HeadMask, pseudo_mask
from casa.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    import torch

    from casa.morphology.datasets import HeadImages

#: Value of ``Crops.rings`` where HPM found no head: nothing is taught there.
NOT_KNOWN = 255


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """Head crops that face right, and what is said of them.

    Parameters
    ----------
    images : (n, s, s) or (n, s, s, 3) RGB uint8.
    rings : (n, s, s) uint8, HPM's hierarchy: 0 background, 1 head, 2 and up unsure; ``NOT_KNOWN`` without a mask.
    labels : (n, p) int64, what most experts say of each of p parts. second : (n, p) what the others say, -1: nobody.
    found : (n,) bool, whether HPM found a head.
    """

    images: NDArray[np.uint8]
    rings: NDArray[np.uint8]
    labels: IntArray
    second: IntArray
    found: BoolArray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which: Any) -> Crops:
        return replace(self, **{name: getattr(self, name)[which] for name in self.__dataclass_fields__})


def prepare(heads: HeadImages, size_px: int, labels: IntArray | None = None, scale: float = 1.0) -> Crops:
    """Turn each crop to face right about its head's centre; those without a clear head stay as they are.

    Parameters
    ----------
    labels : (n, p) of several parts, in place of those of ``heads``. scale : magnification.
    """
    images, rings, found = [], [], []
    for image in heads.images:
        mask = pseudo_mask(image)
        crop, ring = face_right(image, mask, size_px, scale)
        images.append(crop)
        rings.append(ring)
        found.append(mask is not None)
    first = heads.labels[:, None] if labels is None else labels
    second = np.full(first.shape, -1, np.int64)
    if labels is None and heads.experts is not None:
        second[:, 0] = minority(heads.experts, heads.labels, len(heads.class_names))
    return Crops(np.stack(images), np.stack(rings), first.astype(np.int64), second, np.array(found, bool))


def view_matrix(shape: tuple[int, ...], mask: HeadMask | None, size_px: int, scale: float) -> FloatArray:
    """(2, 3) affine map from a crop of ``shape`` (h, w, …) to its view, turned about its head where there is one."""
    if mask is None:
        centre, degrees = ((shape[1] - 1) / 2, (shape[0] - 1) / 2), 0.0
    else:
        centre, degrees = mask.centre_xy_px, mask.direction_deg
    matrix = cv2.getRotationMatrix2D(centre, degrees, scale)
    matrix[:, 2] += (size_px - 1) / 2 - np.array(centre)
    return np.asarray(matrix, np.float64)


def face_right(
    image: NDArray[np.uint8], mask: HeadMask | None, size_px: int, scale: float = 1.0
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A crop facing right, (size, size[, 3]), and its rings; as it is, and ``NOT_KNOWN``, without a mask."""
    matrix = view_matrix(image.shape, mask, size_px, scale)
    flags = cv2.INTER_LINEAR if scale >= 0.7 else cv2.INTER_AREA
    if scale < 0.7:  # warpAffine samples single pixels: blur what lies between them first
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.4 / scale), np.uint8)
    crop = cv2.warpAffine(image, matrix, (size_px, size_px), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    if mask is None:
        return np.asarray(crop, np.uint8), np.full((size_px, size_px), NOT_KNOWN, np.uint8)
    rings = cv2.warpAffine(mask.layers, matrix, (size_px, size_px), flags=cv2.INTER_NEAREST)
    return np.asarray(crop, np.uint8), np.asarray(rings, np.uint8)


def minority(experts: IntArray, labels: IntArray, n_classes: int) -> IntArray:
    """(n,) what most of the experts say who do not share ``labels``; -1 where all do."""
    votes = (experts[:, :, None] == np.arange(n_classes)).sum(axis=1)
    rows = np.flatnonzero(labels >= 0)
    votes[rows, labels[rows]] = 0
    return np.where(votes.max(axis=1, initial=0) > 0, votes.argmax(axis=1), -1).astype(np.int64)


def to_tensor(images: NDArray[np.uint8], channels: int) -> torch.Tensor:
    """(n, c, s, s) float32 of mean 0 and sd 1 in each crop, channels last; gray is repeated, colour averaged.

    Raises
    ------
    InputError : not crops of one size.
    """
    import torch

    if images.ndim not in (3, 4) or images.dtype != np.uint8 or (images.ndim == 4 and images.shape[3] != 3):
        raise InputError(f"crops of shape {images.shape} and {images.dtype}: expected (n, s, s) or (n, s, s, 3) uint8")
    x = torch.from_numpy(np.ascontiguousarray(images)).float()
    x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
    x = x - x.mean((1, 2, 3), keepdim=True)
    x = x / (x.std((1, 2, 3), keepdim=True) + 2.0)  # 2 gray levels: noise alone is not blown up
    if x.shape[1] != channels:
        x = x.mean(1, keepdim=True) if channels == 1 else x.expand(-1, channels, -1, -1)
    return x.contiguous(memory_format=torch.channels_last)
