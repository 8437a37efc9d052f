"""What else a microscope shows, and a detector must leave: cells, crystals, bubbles, fibres, dust, scratches, text.

Each painter adds to a float picture in 8-bit intensity. Things of the sample have sizes in um and the contrast of the
sample; things of the optics and the camera have sizes in px. Everything is drawn from the generator that is given.
Knows nothing of swimmers, looks or boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# cv2 gives arrays of any type, so the checker is told no more than that.
Image = NDArray[Any]

_LARGEST_PX = 190  # half side of what is painted at once


@dataclass(frozen=True, slots=True)
class Canvas:
    """A picture (h, w, 3) float32 that is painted on, um a px, and the contrast of heads in it (8-bit units)."""

    image: Image
    um_per_px: float
    contrast: float

    def add(self, centre_px: NDArray[np.float64], layer: Image, tint: NDArray[np.float64]) -> None:
        """Add a square layer (p, p) of intensities about a point, cut at the border; tint (3,) by colour."""
        half = layer.shape[0] // 2
        left, top = (np.floor(centre_px).astype(int) - half).tolist()
        height, width = self.image.shape[:2]
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + len(layer), width), min(top + len(layer), height)
        if x0 < x1 and y0 < y1:
            part = layer[y0 - top : y1 - top, x0 - left : x1 - left]
            self.image[y0:y1, x0:x1] += part[..., None] * tint.astype(np.float32)


def add_clutter(rng: np.random.Generator, canvas: Canvas, amount: float) -> None:
    """Paint a random choice of everything there is; ``amount`` 1 is a dirty picture, 0 an empty one."""
    height, width = canvas.image.shape[:2]
    for often, most, painter in _PAINTERS:
        if rng.uniform() < often * amount:
            for _ in range(int(rng.integers(1, most + 1))):
                layer = painter(rng, canvas)
                tint = 1 + rng.normal(0, 0.06, 3)
                canvas.add(rng.uniform(0, [width, height]), layer, tint)
    if rng.uniform() < 0.05 * amount:
        _text(rng, canvas.image)
    if rng.uniform() < 0.05 * amount:
        _field_stop(rng, canvas.image)


def _grid(reach_px: float) -> tuple[Image, Image, Image]:
    """x, y and radius (p, p) about the middle of a square that reaches so far."""
    half = int(np.clip(np.ceil(reach_px), 3, _LARGEST_PX))
    axis = np.arange(-half, half + 1, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y, np.sqrt(x * x + y * y)


def _disc(r: Image, radius: float, soft: float) -> Image:
    return 1 / (1 + np.exp(np.clip((r - radius) / max(soft, 0.3), -20, 20)))


def _shell(r: Image, radius: float, width: float) -> Image:
    return np.exp(-(((r - radius) / max(width, 0.5)) ** 2))


def _grains(rng: np.random.Generator, like: Image, inside: Image, count: int, sigma_px: float) -> Image:
    """Granules of random depth within a shape: points, blurred; about 1 where they are densest."""
    half = like.shape[0] // 2
    layer = np.zeros_like(like)
    places = rng.integers(0, 2 * half + 1, (count, 2))
    layer[places[:, 1], places[:, 0]] = rng.normal(0.4, 1.0, count)
    layer = cv2.GaussianBlur(layer, (0, 0), max(sigma_px, 0.6)) * (2 * np.pi * max(sigma_px, 0.6) ** 2)
    return layer * inside


def _round_cell(rng: np.random.Generator, canvas: Canvas) -> Image:
    """Leucocyte or immature germ cell: a soft disc with a rim, granules, and a nucleus in up to three lobes."""
    radius = float(rng.uniform(2.4, 7.5)) / canvas.um_per_px
    soft = float(rng.uniform(0.25, 0.9)) / canvas.um_per_px
    x, y, r = _grid(radius * 1.3 + 5 * soft)
    wobble = 1 + 0.06 * np.cos(2 * np.arctan2(y, x) + rng.uniform(0, 6)) + 0.04 * np.cos(3 * np.arctan2(y, x))
    r = r * wobble
    body = _disc(r, radius, soft)
    layer = rng.normal(-0.1, 0.18) * body + rng.choice([-1, 1], p=[0.6, 0.4]) * rng.uniform(0.2, 0.8) * _shell(
        r, radius, soft * 1.2
    )
    layer += rng.uniform(0, 0.4) * _shell(r, radius + 2.2 * soft, 1.6 * soft)
    layer += rng.uniform(0, 0.5) * _grains(rng, layer, body, int(4 * radius) + 4, 0.35 / canvas.um_per_px)
    for _ in range(int(rng.integers(0, 4))):
        dx, dy = rng.uniform(-0.45, 0.45, 2) * radius
        lobe = float(rng.uniform(0.25, 0.5)) * radius
        layer += rng.normal(-0.2, 0.25) * _disc(np.hypot(x - dx, y - dy), lobe, soft)
    return layer * canvas.contrast


def _epithelial_cell(rng: np.random.Generator, canvas: Canvas) -> Image:
    """A flat polygon of 25 to 60 um with a thin edge, folds and a nucleus."""
    radius = min(float(rng.uniform(12, 30)) / canvas.um_per_px, 0.8 * _LARGEST_PX)
    x, _, r = _grid(radius * 1.25)
    half = x.shape[0] // 2
    corners = _polygon(rng, radius, int(rng.integers(5, 9))) + half
    mask = np.zeros(x.shape, np.uint8)
    cv2.fillPoly(mask, [corners.astype(np.int32)], 255, cv2.LINE_AA)
    lines = np.zeros(x.shape, np.uint8)
    cv2.polylines(lines, [corners.astype(np.int32)], True, 255, int(rng.integers(1, 4)), cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 5))):
        ends = (rng.uniform(-0.7, 0.7, (2, 2)) * radius + half).astype(int).tolist()
        start, end = ((x0, y0) for x0, y0 in ends)
        cv2.line(lines, start, end, 140, 1, cv2.LINE_AA)
    blur = float(rng.uniform(0.6, 2.5))
    inside = cv2.GaussianBlur(mask, (0, 0), blur).astype(np.float32) / 255
    edge = cv2.GaussianBlur(lines, (0, 0), blur).astype(np.float32) / 255
    layer = rng.normal(0, 0.12) * inside + rng.choice([-1, 1]) * rng.uniform(0.2, 0.9) * edge
    layer += rng.uniform(0, 0.3) * _grains(rng, layer, inside, int(3 * radius), 0.4 / canvas.um_per_px)
    layer += rng.normal(-0.15, 0.2) * _disc(r, 4.0 / canvas.um_per_px, 0.5 / canvas.um_per_px)
    return layer * canvas.contrast


def _polygon(rng: np.random.Generator, radius: float, count: int) -> NDArray[np.float64]:
    angle = np.sort(rng.uniform(0, 2 * np.pi, count))
    reach = radius * rng.uniform(0.6, 1.0, count)
    return np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=1)


def _crystal(rng: np.random.Generator, canvas: Canvas) -> Image:
    """A grain with corners, needle or plate, refractile: one side bright, the other dark."""
    radius = float(np.exp(rng.uniform(np.log(0.7), np.log(6.0)))) / canvas.um_per_px
    x, y, _ = _grid(radius * 1.5 + 4)
    half = x.shape[0] // 2
    corners = _polygon(rng, radius, int(rng.integers(3, 7))) * [1, rng.uniform(0.2, 1.0)]
    turn = rng.uniform(0, np.pi)
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    mask = np.zeros(x.shape, np.uint8)
    cv2.fillPoly(mask, [((corners @ spin + half) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    blur = float(rng.uniform(0.5, 1.2)) * max(0.35 / canvas.um_per_px, 0.7)
    face = cv2.GaussianBlur(mask, (0, 0), blur).astype(np.float32) / 255
    edge = np.abs(face - cv2.GaussianBlur(face, (0, 0), 1.6 * blur))
    side = rng.uniform(0, 2 * np.pi)
    relief = (np.cos(side) * x + np.sin(side) * y) / radius
    layer = rng.normal(0, 0.5) * face + rng.uniform(-2.5, 0.5) * edge + rng.uniform(0, 0.8) * relief * face
    return layer * canvas.contrast


def _bubble(rng: np.random.Generator, canvas: Canvas) -> Image:
    """Air or oil: a thick dark rim, a bright middle, and a thin bright ring outside."""
    radius = min(float(np.exp(rng.uniform(np.log(0.9), np.log(40.0)))) / canvas.um_per_px, 0.7 * _LARGEST_PX)
    thick = radius * float(rng.uniform(0.12, 0.4)) + 0.5
    soft = max(0.3 / canvas.um_per_px, 0.7) * float(rng.uniform(0.6, 1.5))
    _, _, r = _grid(radius * 1.3 + 5 * soft)
    rim = _disc(r, radius, soft) - _disc(r, radius - thick, soft)
    layer = -rng.uniform(0.5, 1.5) * rim + rng.uniform(0, 0.7) * _disc(r, radius - thick, soft)
    layer += rng.uniform(0, 0.6) * _shell(r, radius + 2 * soft, 1.2 * soft)
    return layer * canvas.contrast * rng.choice([1, -0.6], p=[0.85, 0.15])


def _curve(rng: np.random.Generator, length: float, points: int, wander: float) -> NDArray[np.float64]:
    """(points, 2) a random smooth curve about its own middle."""
    turn = np.cumsum(rng.normal(0, wander / np.sqrt(points), points)) + rng.uniform(0, 2 * np.pi)
    steps = np.stack([np.cos(turn), np.sin(turn)], axis=1) * (length / points)
    curve = np.cumsum(steps, axis=0)
    return curve - (curve.max(0) + curve.min(0)) / 2


def _fibre(rng: np.random.Generator, canvas: Canvas) -> Image:
    """A fibre or strand of mucus: two edges and what is between them."""
    length = float(rng.uniform(60, 360))
    width = max(1, round(float(np.exp(rng.uniform(np.log(0.6), np.log(5.0)))) / canvas.um_per_px))
    curve = _curve(rng, length, 40, float(rng.uniform(0.2, 3.0)))
    x, _, _ = _grid(float(np.abs(curve).max()) + width + 4)
    mask = np.zeros(x.shape, np.uint8)
    line = ((curve + x.shape[0] // 2) * 16).astype(np.int32)
    cv2.polylines(mask, [line], False, 255, min(width, 30), cv2.LINE_AA, 4)
    face = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.6, 2.5))).astype(np.float32) / 255
    edge = face - cv2.GaussianBlur(face, (0, 0), 0.5 * width + 1)
    return (rng.normal(0, 0.4) * face - rng.uniform(0.2, 1.2) * edge) * canvas.contrast


def _scratch(rng: np.random.Generator, canvas: Canvas) -> Image:
    """Fine straight lines, as on a slide wiped dry."""
    x, _, _ = _grid(float(rng.uniform(30, _LARGEST_PX)))
    half = x.shape[0] // 2
    mask = np.zeros(x.shape, np.uint8)
    turn = rng.uniform(0, np.pi)
    for shift in rng.uniform(-12, 12, int(rng.integers(1, 4))):
        way = np.array([np.cos(turn), np.sin(turn)])
        side = np.array([-way[1], way[0]]) * shift + half
        ends = [tuple(int(c) for c in (side + sign * way * half)) for sign in (-1, 1)]
        cv2.line(mask, ends[0], ends[1], int(rng.integers(80, 256)), 1, cv2.LINE_AA)
    layer = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.5, 1.5))).astype(np.float32) / 255
    return layer * (rng.choice([-1, 1]) * rng.uniform(0.2, 1.2) * canvas.contrast)


def _dust_ring(rng: np.random.Generator, canvas: Canvas) -> Image:
    """Dust on a lens or on the sensor's window, far out of focus: faint concentric rings, or a soft dark spot."""
    radius = float(np.exp(rng.uniform(np.log(4), np.log(45))))
    _, _, r = _grid(radius * 1.6 + 4)
    rings = np.cos(np.pi * (r / radius) ** 2 * rng.uniform(1, 3) + rng.uniform(0, 6)) * np.exp(-((r / radius) ** 4))
    spot = np.exp(-((r / radius) ** 2))
    return (rings * rng.uniform(0.05, 0.3) - spot * rng.uniform(0, 0.4)) * (canvas.contrast * rng.uniform(0.2, 1.0))


def _loose_piece(rng: np.random.Generator, canvas: Canvas) -> Image:
    """A tail without its head, or a scrap of one: a thin curve that fades to both ends."""
    length = min(float(rng.uniform(8, 50)) / canvas.um_per_px, 1.6 * _LARGEST_PX)
    curve = _curve(rng, length, 60, float(rng.uniform(0.3, 4.0)))
    x, _, _ = _grid(float(np.abs(curve).max()) + 5)
    layer = np.zeros(x.shape, np.float32)
    half = x.shape[0] // 2
    fade = np.sin(np.pi * np.linspace(0.05, 0.95, len(curve) - 1)) ** rng.uniform(0.2, 1.5)
    for start, end, depth in zip(curve[:-1] + half, curve[1:] + half, fade.tolist(), strict=True):
        cv2.line(layer, (int(start[0]), int(start[1])), (int(end[0]), int(end[1])), float(depth), 1)
    sigma = max(0.4 / canvas.um_per_px, 0.7) * float(rng.uniform(0.7, 1.6))
    line = cv2.GaussianBlur(layer, (0, 0), sigma) * (2.0 * sigma)
    fringe = cv2.GaussianBlur(layer, (0, 0), 2.6 * sigma) * (2.0 * sigma)
    return (0.6 * fringe - line) * (canvas.contrast * rng.uniform(0.1, 0.6))


def _text(rng: np.random.Generator, image: Image) -> None:
    """A burnt-in time, title or scale bar."""
    height, width = image.shape[:2]
    ink = np.zeros((height, width), np.uint8)
    words = "".join(rng.choice(list("0123456789:/. umxABCHz"), int(rng.integers(4, 18))))
    place = (int(rng.uniform(0, 0.7) * width), int(rng.choice([0.06, 0.97]) * height))
    font = int(rng.choice([cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_PLAIN, cv2.FONT_HERSHEY_DUPLEX]))
    cv2.putText(ink, words, place, font, float(rng.uniform(0.4, 1.1)), 255, int(rng.integers(1, 3)))
    if rng.uniform() < 0.5:
        start = (int(rng.uniform(0.5, 0.8) * width), int(rng.uniform(0.9, 0.97) * height))
        cv2.line(ink, start, (start[0] + int(rng.uniform(30, 110)), start[1]), 255, int(rng.integers(1, 5)))
    image[ink > 127] = float(rng.choice([255.0, 0.0, 230.0]))


def _field_stop(rng: np.random.Generator, image: Image) -> None:
    """The round edge of the field diaphragm, dark outside."""
    height, width = image.shape[:2]
    radius = float(rng.uniform(0.5, 0.65)) * float(np.hypot(width, height))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    centre = np.array([width, height]) * rng.uniform(0.4, 0.6, 2)
    r = np.hypot(x - np.float32(centre[0]), y - np.float32(centre[1]))
    image *= (0.1 + 0.9 * _disc(r, radius, float(rng.uniform(1, 12))))[..., None].astype(np.float32)


#: How often each is in a dirty picture, at most how many, and what paints it.
_PAINTERS: tuple[tuple[float, int, Callable[[np.random.Generator, Canvas], Image]], ...] = (
    (0.40, 6, _round_cell),
    (0.08, 2, _epithelial_cell),
    (0.40, 10, _crystal),
    (0.22, 6, _bubble),
    (0.10, 2, _fibre),
    (0.10, 3, _scratch),
    (0.30, 6, _dust_ring),
    (0.45, 8, _loose_piece),
)
