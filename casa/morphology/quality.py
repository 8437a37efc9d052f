"""How good a crop is as a picture: focus, contrast, noise, clipping. What is too poor is not to be classed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.types import BoolArray, FloatArray, _check_column, _Table

#: A value this many robust standard deviations from the set's median is an outlier.
OUTLIER_SD = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class QualityTable(_Table):
    """Of n crops, float64.

    Parameters
    ----------
    edge_px : width of the sharpest edges (contrast over the steepest slope): small is in focus.
    contrast : spread of the levels, from the 2nd to the 98th percentile, as a share of white.
    noise : sd of the noise as a share of the contrast.
    clipped : share of pixels that are black or white.
    """

    edge_px: FloatArray
    contrast: FloatArray
    noise: FloatArray
    clipped: FloatArray

    def __post_init__(self) -> None:
        n = len(np.asarray(self.edge_px))
        for f in fields(self):
            _check_column(self, f.name, np.float64, (n,))


def picture_quality(images: Iterable[NDArray[Any]]) -> QualityTable:
    """Measures of each crop: (h, w) gray or (h, w, 3) RGB, uint8 or uint16."""
    rows = [_quality(image) for image in images]
    return QualityTable(*(np.array([row[k] for row in rows], np.float64) for k in range(4)))


def _quality(image: NDArray[Any]) -> tuple[float, float, float, float]:
    white = 255.0 if image.dtype == np.uint8 else 65535.0
    gray = np.asarray(image, np.float32) / np.float32(white)
    if gray.ndim == 3:
        gray = np.asarray(cv2.cvtColor(gray, cv2.COLOR_RGB2GRAY), np.float32)
    low, high = np.percentile(gray, (2, 98))
    contrast = float(high - low)
    clipped = float(np.mean((gray <= 0) | (gray >= 1)))
    if contrast <= 0:
        return np.inf, 0.0, np.nan, clipped
    smooth = cv2.GaussianBlur(gray, (0, 0), 0.8)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    steepest = float(np.percentile(np.hypot(across, down), 99)) / 8  # a Sobel kernel's gain
    # Differences of second order leave of smooth shapes nothing, of white noise sqrt(6) sd.
    noise = 1.48 * float(np.median(np.abs(gray[:, 2:] - 2 * gray[:, 1:-1] + gray[:, :-2]))) / np.sqrt(6)
    return contrast / max(steepest, 1e-6), contrast, noise / contrast, clipped


def outliers(values: FloatArray, above: bool, below: bool) -> BoolArray:
    """Which values lie far from the others: over ``OUTLIER_SD`` robust deviations of the logarithm from the median."""
    logs = np.log(np.maximum(values, 1e-9))
    known = np.isfinite(logs)
    if known.sum() < 8:
        return np.zeros(len(values), bool)
    middle = np.median(logs[known])
    spread = max(1.48 * float(np.median(np.abs(logs[known] - middle))), 0.05)
    away = np.where(np.isnan(logs), 0.0, (logs - middle) / spread)
    return ((away > OUTLIER_SD) & above) | ((away < -OUTLIER_SD) & below)
