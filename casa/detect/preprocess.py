"""From a source's picture to what the network takes: gray, uint8, sides a multiple of the network's stride.

Nothing is resized unless asked for: a head keeps its pixels. ``Geometry`` takes boxes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.errors import InputError


@dataclass(frozen=True, slots=True)
class Geometry:
    """How network pixels lie on the picture: ``scale`` network px a picture px, and the picture's size."""

    scale: float
    width_px: int
    height_px: int

    def to_picture(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (n, 4) in network px as boxes in picture px, cut at the picture's border."""
        boxes = xyxy / np.float32(self.scale)
        np.maximum(boxes, 0, out=boxes)
        return np.minimum(boxes, np.array([self.width_px, self.height_px] * 2, np.float32), out=boxes)

    def to_network(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (n, 4) in picture px as boxes in network px."""
        return xyxy * np.float32(self.scale)


def to_gray(image: NDArray[Any], white_level: int) -> NDArray[np.uint8]:
    """(h, w) or (h, w, 3) RGB, uint8 or uint16, as (h, w) uint8.

    A uint16 picture is divided so that ``white_level`` becomes 255; what is brighter stays at 255.

    Raises
    ------
    InputError : another shape or dtype, or a picture without pixels.
    """
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or 0 in image.shape:
        raise InputError(f"the detector takes pictures of (h, w) or (h, w, 3), got {image.shape}")
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(np.minimum(image, np.uint16(white_level)), alpha=255.0 / white_level)
    elif image.dtype != np.uint8:
        raise InputError(f"the detector takes pictures of uint8 or uint16, got {image.dtype}")
    if image.ndim == 3:
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    return image


def prepare(
    image: NDArray[Any], multiple_px: int, scale: float = 1.0, white_level: int = 65535
) -> tuple[NDArray[np.uint8], Geometry]:
    """The network's input (h', w') uint8, contiguous, and the geometry that takes its boxes back.

    Right and bottom are filled up to a multiple of ``multiple_px`` by repeating the border, which makes no
    edge that could look like something.
    """
    gray = to_gray(image, white_level)
    height, width = gray.shape
    if scale != 1.0:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    right, bottom = -gray.shape[1] % multiple_px, -gray.shape[0] % multiple_px
    if right or bottom:
        gray = cv2.copyMakeBorder(gray, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(gray, np.uint8), Geometry(scale, width, height)
