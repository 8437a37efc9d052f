"""Slides for setting a microscope up: a ruled grid, a cell-free field, counting beads, and the dark.

A slide is a still plane: its picture follows from the stage and the focus alone, and is as exact as its numbers. Drawn
in gray levels of the camera's 8 bits, before the camera's noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Image = NDArray[Any]

SLIDES = ("sample", "micrometer", "empty", "beads", "dark")
#: Distance of the lines of the grid, um, and their thickness.
PITCH_UM, _LINE_UM = 10.0, 1.4
#: Certified concentration of the beads (M/mL), its uncertainty (95 %), and the beads' diameter, um.
BEADS_M_PER_ML, BEADS_UNCERTAINTY, BEAD_UM = 35.0, 2.5, 4.0
#: Blur by defocus, px a um at 0.4 um a px, as of heads.
_BLUR = 1.1
_TILE_UM = 4000.0


@dataclass(frozen=True, slots=True, eq=False)
class Slide:
    """One kind of slide, as a particular specimen lies on the stage.

    turn_rad : of the grid. specks_um (n, 2), speck_um (n,) : places and radii of dirt. beads_um (m, 2).
    """

    kind: str
    um_per_px: float
    turn_rad: float
    specks_um: FloatArray
    speck_um: FloatArray
    beads_um: FloatArray


def make_slide(kind: str, um_per_px: float, chamber_depth_um: float, seed: int) -> Slide:
    """A slide of a kind; the same for the same seed. Beads are spread over the chamber at random (Poisson)."""
    rng = np.random.default_rng((seed, 0x511DE, SLIDES.index(kind)))
    area = _TILE_UM**2
    n = rng.poisson(area * 4e-4) if kind == "micrometer" else 0
    beads = rng.poisson(BEADS_M_PER_ML * 1e-6 * area * chamber_depth_um) if kind == "beads" else 0
    return Slide(
        kind,
        um_per_px,
        float(np.deg2rad(rng.uniform(-3, 3))),
        rng.uniform(0, _TILE_UM, (n, 2)),
        rng.uniform(0.5, 2.0, n),
        rng.uniform(0, _TILE_UM, (beads, 2)),
    )


def draw_slide(slide: Slide, background: Image, shift_px: tuple[float, float], focus_um: float) -> Image:
    """(h, w) float32 canvas of a slide through a microscope whose stage shifts the field, over an empty background."""
    if slide.kind == "dark":
        return np.zeros_like(background)
    if slide.kind in ("sample", "empty"):
        return background.copy()
    blur_px = float(np.hypot(0.7, _BLUR * 0.4 / slide.um_per_px * min(abs(focus_um), 20.0)))
    pad = int(np.ceil(3 * blur_px)) + 2
    h, w = (side + 2 * pad for side in background.shape)
    light = np.ones((h, w), np.float32)
    origin = -np.array(shift_px) - pad  # px of the slide that lies at the canvas' corner
    if slide.kind == "micrometer":
        light *= _rulings(slide, origin, (h, w))
        _stamp(light, slide, slide.specks_um, slide.speck_um, origin, 0.35)
    else:
        _stamp(light, slide, slide.beads_um, np.full(len(slide.beads_um), BEAD_UM / 2), origin, 1.9)
    light = cv2.GaussianBlur(light, (0, 0), blur_px)
    return np.ascontiguousarray(background * light[pad:-pad, pad:-pad])


def _rulings(slide: Slide, origin: FloatArray, shape: tuple[int, int]) -> Image:
    """Light that a grid of dark lines lets through."""
    x = (np.arange(shape[1]) + origin[0]) * slide.um_per_px
    y = (np.arange(shape[0]) + origin[1]) * slide.um_per_px
    cos, sin = np.cos(slide.turn_rad), np.sin(slide.turn_rad)
    lines = np.zeros(shape, np.float32)
    for across in (x[None, :] * cos + y[:, None] * sin, y[:, None] * cos - x[None, :] * sin):
        distance = np.abs((across / PITCH_UM + 0.5) % 1.0 - 0.5) * PITCH_UM
        covered = 0.5 + (_LINE_UM / 2 - distance) / slide.um_per_px
        np.maximum(lines, np.clip(covered, 0, min(1.0, _LINE_UM / slide.um_per_px)), out=lines, casting="unsafe")
    return 1 - 0.65 * lines


def _stamp(
    light: Image, slide: Slide, xy_um: FloatArray, radius_um: FloatArray, origin: FloatArray, tone: float
) -> None:
    """Discs with soft edges, at sub-pixel places; the slide repeats beyond its tile."""
    h, w = light.shape
    low = origin * slide.um_per_px
    place = (np.mod(xy_um - low + 20.0, _TILE_UM) - 20.0) / slide.um_per_px
    radius = radius_um / slide.um_per_px
    seen = ((place > -radius[:, None] - 1) & (place < np.array([w, h]) + radius[:, None] + 1)).all(axis=1)
    for (x, y), r in zip(place[seen], radius[seen], strict=True):
        reach = int(np.ceil(r)) + 1
        left, top = max(int(x) - reach, 0), max(int(y) - reach, 0)
        right, bottom = min(int(x) + reach + 2, w), min(int(y) + reach + 2, h)
        if left >= right or top >= bottom:
            continue
        distance = np.hypot(np.arange(left, right) - x, np.arange(top, bottom)[:, None] - y)
        covered = np.clip(r - distance + 0.5, 0, 1)
        light[top:bottom, left:right] *= 1 + (tone - 1) * covered
