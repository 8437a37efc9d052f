"""Measures of heads from their masks, against the WHO's strict limits; lengths in um when calibrated, else in px.

Length and width are of the ellipse with the mask's second moments (plus the pixel's own), which noise at the rim moves
least. Limits: WHO manual, 6th ed. 2021, section 2.4.8 and Table 2.6 (stained sperm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np

from casa.cells import STRICT_ACROSOME_SHARE, STRICT_ELLIPTICITY
from casa.errors import InputError
from casa.morphology.head_parts import moments_ellipse
from casa.morphology.pseudo_masks import HeadMask
from casa.types import BoolArray, FloatArray, _check_column, _Table

#: Of a normal stained head, um: median length and width.
STRICT_LENGTH_UM, STRICT_WIDTH_UM = 4.1, 2.8


@dataclass(frozen=True, slots=True, eq=False)
class MorphometryTable(_Table):
    """Measures of n heads, float64 each; NaN where there was no head, and in ``*_um*`` where nothing is calibrated.

    Parameters
    ----------
    length_px, width_px : of the ellipse. area_px2, perimeter_px : of the mask; the perimeter by its contour.
    ellipticity : length / width. elongation : (length - width) / (length + width).
    regularity : pi length width / (4 area); 1 for an ellipse.
    acrosome_share : of the head's area, as far as its stain tells it from the nucleus; NaN where it does not.
    """

    length_px: FloatArray
    width_px: FloatArray
    area_px2: FloatArray
    perimeter_px: FloatArray
    length_um: FloatArray
    width_um: FloatArray
    area_um2: FloatArray
    perimeter_um: FloatArray
    ellipticity: FloatArray
    elongation: FloatArray
    regularity: FloatArray
    acrosome_share: FloatArray

    def __post_init__(self) -> None:
        n = len(np.asarray(self.length_px))
        for f in fields(self):
            _check_column(self, f.name, np.float64, (n,))

    @property
    def ellipticity_normal(self) -> BoolArray:
        """(n,) whether length / width is within the strict limits; False of NaN."""
        return _within(self.ellipticity, STRICT_ELLIPTICITY)

    @property
    def acrosome_normal(self) -> BoolArray:
        """(n,) whether the acrosome's share is within the strict limits; False of NaN."""
        return _within(self.acrosome_share, STRICT_ACROSOME_SHARE)


def _within(values: FloatArray, limits: tuple[float, float]) -> BoolArray:
    return (values >= limits[0]) & (values <= limits[1])


def measure_heads(masks: Sequence[Any], um_per_px: float | None = None) -> MorphometryTable:
    """Measures of each ``HeadMask``; what is none (None, a ``HeadProblem``) becomes a row of NaN.

    Raises
    ------
    InputError : a scale that is not a positive number.
    """
    if um_per_px is not None and not (np.isfinite(um_per_px) and um_per_px > 0):
        raise InputError(f"the scale must be a positive number of um a pixel, got {um_per_px}")
    names = [f.name for f in fields(MorphometryTable)]
    rows = [_measure(mask, um_per_px) if isinstance(mask, HeadMask) else {} for mask in masks]
    return MorphometryTable(**{name: np.array([row.get(name, np.nan) for row in rows], np.float64) for name in names})


def _measure(mask: HeadMask, um_per_px: float | None) -> dict[str, float]:
    head = mask.head.astype(np.uint8)
    (long, short), _ = moments_ellipse(head)
    # A pixel's own moments (1/12 px^2 each way) are not in those of its middle.
    length, width = (2 * float(np.sqrt(axis @ axis + 4 / 12)) for axis in (long, short))
    area = float(head.sum())
    perimeter = _perimeter(head)
    nucleus, acrosome = float(mask.nucleus.sum()), float(mask.acrosome.sum())
    stained = not (mask.relief or mask.bright)  # a stain is darker than what is around it
    told_apart = stained and 0.1 * area < nucleus < 0.97 * area
    row = {
        "length_px": length,
        "width_px": width,
        "area_px2": area,
        "perimeter_px": perimeter,
        "ellipticity": length / width,
        "elongation": (length - width) / (length + width),
        "regularity": np.pi * length * width / (4 * area),
        "acrosome_share": acrosome / area if told_apart else np.nan,
    }
    if um_per_px is not None:
        lengths = {f"{name}_um": row[f"{name}_px"] * um_per_px for name in ("length", "width", "perimeter")}
        row |= lengths | {"area_um2": area * um_per_px**2}
    return row


def _perimeter(head: Any) -> float:
    """Length of the outline through the pixels' edges, smoothed over the steps of the grid; px."""
    contours, _ = cv2.findContours(head, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = max(contours, key=len)[:, 0, :].astype(np.float64)
    if len(points) < 6:
        return float(cv2.arcLength(points.astype(np.float32)[:, None], True))
    window = max(3, len(points) // 24 | 1)
    wrapped = np.concatenate([points[-(window // 2) :], points, points[: window // 2]])
    smooth = np.stack([np.convolve(wrapped[:, k], np.ones(window) / window, "valid") for k in range(2)], axis=1)
    through_middles = float(np.hypot(*np.diff(smooth, axis=0, append=smooth[:1]).T).sum())
    return through_middles + np.pi  # the outline lies half a pixel outside of the border pixels' middles
