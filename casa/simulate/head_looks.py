"""How a rendered head looks: stained colour (Diff-Quik), stained gray, unstained gray, phase contrast.

Stains absorb: what a pixel shows is the background times exp(-density x absorption) (Beer and Lambert). Without a stain
a head is seen by its edges: a dark rim, a paler inside, a bright halo, all of which change with the focus.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

#: Styles that can be rendered.
STYLES = ("diffquik", "stained-gray", "unstained", "phase")

Plane = NDArray[np.floating]  # float32 all through


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """What covers each pixel of a crop, (h, w) float32 in [0, 1]; ``distance_um`` is signed, positive inside the head.

    ``others`` is what does not belong to this sperm: tails and heads of neighbours, debris.
    """

    head: Plane
    acrosome: Plane
    vacuole: Plane
    midpiece: Plane
    tail: Plane
    others: Plane
    distance_um: Plane


def paint(rng: np.random.Generator, style: str, cover: Coverage, um_per_px: float) -> NDArray[np.uint8]:
    """The crop as a camera gives it, (h, w) gray or (h, w, 3) RGB (Diff-Quik alone)."""
    field = _illumination(rng, cover.head.shape)
    blur_px = rng.uniform(0.08, 0.17) / um_per_px
    if style in ("diffquik", "stained-gray"):
        picture = _stained(rng, cover, field, blur_px, um_per_px, colour=style == "diffquik")
    else:
        picture = _unstained(rng, cover, field, blur_px, phase=style == "phase")
    return _camera(rng, picture)


def _illumination(rng: np.random.Generator, shape: tuple[int, int]) -> Plane:
    """About 1: a slope and a bowl, up to a tenth from side to side."""
    ys, xs = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    ys, slope, bowl = ys[:, None], rng.normal(0, 0.03, 2).astype(np.float32), np.float32(rng.normal(0, 0.02))
    smooth = 1 + slope[0] * xs + slope[1] * ys + bowl * (xs * xs + ys * ys)
    return smooth * (1 + np.float32(0.01) * _cloud(rng, shape, 6))


def _cloud(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> Plane:
    """Soft noise of sd about 1 with ``cells`` blotches a side."""
    coarse = rng.standard_normal((cells, cells), np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC).astype(np.float32, copy=False)


def _blurred(plane: Plane, sigma_px: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma_px), np.float32) if sigma_px > 0.25 else plane


def _stained(
    rng: np.random.Generator, cover: Coverage, field: Plane, blur_px: float, um_per_px: float, colour: bool
) -> Plane:
    nucleus_density = rng.uniform(0.8, 1.7)
    acrosome_density = nucleus_density * rng.uniform(0.32, 0.72)
    nucleus = cover.head - cover.acrosome
    texture = 1 + np.float32(rng.uniform(0.03, 0.1)) * _cloud(rng, cover.head.shape, 14)
    blue = (nucleus_density * nucleus + acrosome_density * cover.acrosome) * texture
    blue *= 1 - np.float32(rng.uniform(0.4, 0.8)) * cover.vacuole
    blue += rng.uniform(0.05, 0.2) * nucleus_density * np.exp(-((cover.distance_um / 0.18) ** 2))  # a fold at the rim
    outside = 1 - cover.head
    # A midpiece takes the stain of the cell's plasma: redder, and rarely as dark as the nucleus.
    red = outside * (rng.uniform(0.35, 0.8) * nucleus_density * cover.midpiece + 0.4 * nucleus_density * cover.tail)
    red += outside * rng.uniform(0.3, 0.9) * cover.others
    red += 0.02 * np.abs(_cloud(rng, cover.head.shape, 5))
    red *= rng.uniform(0.8, 1.1)
    background = rng.uniform(170, 235)
    if not colour:
        return background * field * _blurred(np.exp((blue + red) * -rng.uniform(0.5, 0.75)), blur_px)
    tint = background * (1 + rng.normal(0, 0.025, 3))
    # Absorption of red, green, blue light: methylene blue / azure about eosin's red, with the batch's spread.
    absorbed = np.array([[0.62, 0.78, 0.26], [0.22, 0.66, 0.34]]) * rng.normal(1.0, 0.12, (2, 3))
    light = np.stack([np.exp(blue * -float(b) - red * float(r)) for b, r in absorbed.T], axis=-1)
    return _blurred(light, blur_px) * tint.astype(np.float32) * field[..., None]


def _unstained(rng: np.random.Generator, cover: Coverage, field: Plane, blur_px: float, phase: bool) -> Plane:
    """Phase shift seen by interference: dark or bright by the focus, a rim, a halo."""
    distance, nucleus = cover.distance_um, cover.head - cover.acrosome
    rim_um = rng.uniform(0.15, 0.32)
    rim = np.exp(-(((distance - rim_um) / (0.8 * rim_um)) ** 2)) * (distance > -3 * rim_um)
    halo_um = rng.uniform(0.25, 0.7)
    halo = np.exp(-(((distance + 1.3 * halo_um) / halo_um) ** 2)) * (distance < 0)
    if phase:
        body, core, edge, glow = rng.uniform(25, 60), rng.uniform(5, 25), rng.uniform(0, 20), rng.uniform(8, 22)
        background = rng.uniform(95, 140)
    else:
        body, core, edge, glow = rng.uniform(2, 16), rng.uniform(2, 22), rng.uniform(14, 38), rng.uniform(2, 9)
        background = rng.uniform(105, 150)
    lit = rng.normal(0, 5.0) * cover.head * distance if not phase else 0.0  # a lens: its middle lit, or dark
    dark = body * cover.head + core * nucleus * (1 + 0.15 * _cloud(rng, cover.head.shape, 10)) + edge * rim + lit
    dark -= rng.uniform(8, 18) * cover.vacuole + glow * halo
    behind = rng.uniform(0.5, 1.0) * cover.midpiece + 0.45 * cover.tail + 0.6 * cover.others
    dark += (body + edge) * (1 - cover.head) * behind
    sign = -1.0 if phase and rng.random() < 0.5 else 1.0  # negative phase contrast: bright heads
    return background * field - np.float32(sign) * _blurred(np.asarray(dark, np.float32), 1.2 * blur_px)


def _camera(rng: np.random.Generator, picture: Plane) -> NDArray[np.uint8]:
    read, shot = rng.uniform(0.5, 2.5), rng.uniform(0.0, 0.06)
    noise = rng.standard_normal(picture.shape, np.float32)
    if rng.random() < 0.4:  # a grain, as from interpolated colours or compression
        noise = 1.6 * _blurred(noise, 0.6)
    noisy = picture + np.sqrt(np.float32(read * read) + np.float32(shot) * picture) * noise
    image = np.clip(noisy + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(65, 95))])[1]
        image = cv2.imdecode(coded, cv2.IMREAD_UNCHANGED)
    return image  # type: ignore[return-value]
