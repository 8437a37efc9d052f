"""Draws swimmers and debris as a camera behind a microscope would see them.

All drawing is in float32 px with antialiasing by construction: tails are splatted with bilinear weights and then
blurred by the optics, heads and debris are smooth functions sampled at the pixels. The camera then adds noise,
colour blotches and compression. The noise of a frame follows from its seed and number only, so that frames can be
drawn in any order. Knows swimmers, debris and looks; nothing of sources or tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.simulate.debris import ROUND_CELL, Debris
from casa.simulate.look import Look
from casa.simulate.species import unbent

# cv2 gives arrays of any type, so the checker is told no more than that.
Image = NDArray[Any]
FloatArray = NDArray[np.float64]

_PAD = 48  # px drawn beyond the frame on each side, so that objects need no clipping
_REFERENCE_UM_PER_PX = 0.4


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """What is to be drawn of n cells at one time, in px and rad; see `Swimmers` for flash, vigour and variety.

    centre_px (n, 2); half_axes_px (n, 2); direction_rad (n,); tails_px (n, k, 2) absolute; defocus_um (n,).
    shape (n, 3) bends each head's ellipse as `casa.simulate.species` says; tone (n, 3) factors on body, ring and
    core, as they change through the focus. Without them heads are ellipses, dark or bright at any height.
    """

    centre_px: FloatArray
    half_axes_px: FloatArray
    direction_rad: FloatArray
    tails_px: FloatArray
    defocus_um: FloatArray
    flash: FloatArray
    vigour: FloatArray
    variety: FloatArray
    shape: FloatArray | None = None
    tone: FloatArray | None = None

    def select(self, rows: NDArray[Any]) -> Heads:
        """Some of the cells."""
        columns: dict[str, Any] = {}
        for f in fields(self):
            values = getattr(self, f.name)
            columns[f.name] = values if values is None else values[rows]
        return Heads(**columns)


class Renderer:
    """Draws one scene; holds what does not change from frame to frame (illumination, noise)."""

    def __init__(
        self, look: Look, width_px: int, height_px: int, um_per_px: float, n_frames: int, seed: np.random.SeedSequence
    ) -> None:
        self.look = look
        self.size = (height_px, width_px)
        self.zoom = _REFERENCE_UM_PER_PX / um_per_px
        self.um_per_px = um_per_px
        rng = np.random.default_rng(seed)
        self._key = int(rng.integers(1 << 62))
        self._background = _illumination(rng, look, height_px, width_px)
        self._noise = _noise_planes(rng, look, height_px, width_px, min(n_frames, 3))
        self._blotches = _blotch_planes(rng, look, height_px, width_px, min(n_frames, 4))

    def draw(self, heads: Heads, debris_layers: Sequence[Image]) -> Image:
        """(h, w, 3) float32 image of the optics, before the camera's noise; layers as `draw_debris` gives them."""
        height, width = self.size
        image = np.zeros((height + 2 * _PAD, width + 2 * _PAD, 3), np.float32)
        self._add_heads(image, heads)
        tails = self._draw_tails(heads)
        image = image[_PAD:-_PAD, _PAD:-_PAD] + self._background
        for layer, colour in ((tails, self.look.tail), *((layer, self.look.dot) for layer in debris_layers)):
            if layer is not None:
                image += layer[_PAD:-_PAD, _PAD:-_PAD, None] * np.array(colour, np.float32)
        return image

    def expose(self, image: Image, frame: int) -> NDArray[np.uint8]:
        """What the camera puts out: (h, w, 3) uint8 RGB with noise, blotches, gamma, and compression."""
        out = np.clip(self.develop(image, frame) + 0.5, 0, 255).astype(np.uint8)
        return compressed(out, self.look.jpeg_quality) if self.look.jpeg_quality else out

    def develop(self, image: Image, frame: int) -> Image:
        """What the sensor sees: (h, w, 3) float32 in 8-bit units, with all but rounding and compression."""
        look = self.look
        rng = np.random.default_rng((self._key, frame))
        if look.sharpen:
            soft = cv2.GaussianBlur(image, (0, 0), 1.2 * max(self.zoom, 0.6))
            image = cv2.addWeighted(image, 1 + look.sharpen, soft, -look.sharpen, 0)
        image = np.clip(image, 4, 255)
        if look.gamma != 1.0:
            image = 255 * (image / 255) ** np.float32(look.gamma)
        height, width = self.size
        plane = self._noise[rng.integers(len(self._noise))]
        dy, dx = rng.integers(0, [plane.shape[0] - height + 1, plane.shape[1] - width + 1])
        sd = cv2.sqrt(np.float32(look.read_noise**2) + np.float32(look.shot_noise) * image[..., 1])
        image += plane[dy : dy + height, dx : dx + width] * sd[..., None]
        # Blotches last as long as a compressor keeps its background, then fade into the next ones.
        slow = frame / 24
        mix = slow % 1
        first, second = (self._blotches[(int(slow) + k) % len(self._blotches)] for k in (0, 1))
        image += cv2.addWeighted(first, 1 - mix, second, mix, 0)
        if look.saturation != 1.0:
            gray = image @ np.array([0.299, 0.587, 0.114], np.float32)
            image = gray[..., None] + (image - gray[..., None]) * np.float32(look.saturation)
        return image

    def _draw_tails(self, heads: Heads) -> Image | None:
        """Layer of lines, 1 at a tail's middle, with a fringe below 0: a narrow blur of points less a wide one."""
        n, k, _ = heads.tails_px.shape
        if not n:
            return None
        look, zoom = self.look, self.zoom
        along = (np.arange(k) + 0.5) / k
        # Midpiece first (thick and dark, tapering), then a tail that thins out; some carry a droplet.
        droplet = (heads.variety[:, 7] < 0.3)[:, None] * np.exp(
            -(((along - 0.05 - 1.2 * heads.variety[:, 7:8]) / 0.018) ** 2)
        )
        profile = 0.5 + 0.5 * np.exp(-along / 0.25) + 0.6 * np.exp(-along / 0.07)
        profile = profile * np.exp(-along / look.tail_fade) + 0.8 * droplet
        spread = (0.3 + 1.2 * np.exp(-along / 0.08) + 1.6 * droplet) * max(zoom, 0.6)
        steps = np.diff(heads.tails_px, axis=1, append=2 * heads.tails_px[:, -1:] - heads.tails_px[:, -2:-1])
        spacing = np.linalg.norm(steps, axis=-1)
        across = np.stack([-steps[..., 1], steps[..., 0]], axis=-1) / np.maximum(spacing, 1e-6)[..., None]
        strands = np.array([-0.8, 0.0, 0.8])
        points = heads.tails_px[:, None] + strands[:, None, None] * (spread[..., None] * across)[:, None]
        weights = (profile * spacing * (0.7 + 0.6 * heads.variety[:, 3:4]) / 2.2)[:, None] * np.ones((1, 3, 1))
        blur = np.abs(heads.defocus_um)
        shape = (self.size[0] + 2 * _PAD, self.size[1] + 2 * _PAD)
        lines = np.zeros(shape, np.float32)
        for low, high, extra in ((0.0, 1.0, 0.0), (1.0, 2.5, 1.3), (2.5, np.inf, 3.0)):
            rows = (blur >= low) & (blur < high)
            if not rows.any():
                continue
            layer = _splat(shape, points[rows].reshape(-1, 2) + _PAD, weights[rows].ravel())
            sigma = float(np.hypot(look.tail_blur * max(zoom, 0.6), extra * zoom))
            narrow = cv2.GaussianBlur(layer, (0, 0), sigma)
            wide = cv2.GaussianBlur(layer, (0, 0), 2.6 * sigma + 0.5)
            # 2.5 sigma is the width of the profile: makes the amplitude that of a line's middle.
            peak = 2.5 * look.tail_blur
            lines += cv2.addWeighted(narrow, peak, wide, -peak * look.tail_fringe, 0)
        return lines

    def _add_heads(self, image: Image, heads: Heads) -> None:
        reach = _PAD - 2
        height, width = self.size
        near = ((heads.centre_px > -reach) & (heads.centre_px < np.array([width, height]) + reach)).all(1)
        if not near.any():
            return
        heads = heads.select(np.asarray(near))
        look, zoom = self.look, self.zoom
        optics = max(zoom, 0.5)
        axes = heads.half_axes_px.astype(np.float32)
        blur = np.abs(heads.defocus_um).astype(np.float32) * np.float32(1.1 * zoom)
        reach = int(np.ceil(min(_PAD - 2, 3.2 * look.halo_sigma * zoom + axes.max())))
        corner, x, y = _patches(heads.centre_px, reach)
        cos, sin = (f(heads.direction_rad).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
        flash = heads.flash.astype(np.float32)
        shine = (heads.vigour * (1 - look.flash + look.flash * flash)).astype(np.float32)[:, None, None]
        # Seen edge-on a rolling head is narrow and bright; seen from above it is broad.
        a, b = axes[:, 0, None, None], (axes[:, 1] * (1 - 0.3 * flash))[:, None, None]
        middle = np.sqrt(a * b)
        spread = np.sqrt(1 + (blur / np.sqrt(axes.prod(1))) ** 2)[:, None, None]
        fade = 1 / spread**2
        variety = heads.variety.astype(np.float32)[..., None, None]
        offset = np.float32(look.core_offset) + (variety[:, 0] - 0.5) * np.float32(0.6)
        su = a * np.float32(look.core_size[0]) * spread * (0.6 + 0.7 * variety[:, 1])
        sv = b * np.float32(look.core_size[1]) * spread * (0.75 + 0.5 * variety[:, 8])
        cap_weight = np.clip(1.6 * variety[:, 2] - 0.3, 0, 1) * fade
        # A tilted head has its dark rim on one side.
        side = 2 * np.pi * variety[:, 5]
        rim_cos, rim_sin = np.cos(side), np.sin(side)
        rim_weight = (0.3 + 0.9 * variety[:, 4]) * fade
        # What colour the fringes have depends on the height over the focal plane.
        hue = 2 * np.pi * variety[:, 6]
        shift_x, shift_y = (np.float32(look.chroma_shift * zoom) * f(hue) for f in (np.cos, np.sin))
        distance = np.hypot(x, y)
        halo_width = np.float32(look.halo_sigma * zoom) * spread
        halo = np.exp(-np.maximum(distance - middle, 0) / halo_width) * (0.42 + 0.56 * shine)
        halo *= np.clip((reach - distance) / (0.4 * reach), 0, 1)
        soft = np.float32(look.edge * optics) * spread
        width = np.float32(look.ring_width * optics) * spread
        shape = None if heads.shape is None else heads.shape.astype(np.float32)[..., None, None]
        tone = np.ones((len(axes), 3)) if heads.tone is None else heads.tone
        of_body, of_ring, of_core = tone.T.astype(np.float32)[..., None, None]
        patch = np.empty((*x.shape, 3), np.float32)
        for channel, shift in enumerate((-1.0, 0.0, 1.0)):
            dx, dy = x - np.float32(shift) * shift_x, y - np.float32(shift) * shift_y
            u = (dx * cos + dy * sin) / a
            v = (dy * cos - dx * sin) / b
            if shape is not None:
                v = unbent(u, v, shape)
            r = np.sqrt(u * u + v * v)
            body = 1 / (1 + np.exp(np.clip((r - 1) * middle / soft, -20, 20)))
            lit = rim_weight * (0.6 + 0.7 * (u * rim_cos + v * rim_sin) / np.maximum(r, 0.3))
            ring = np.exp(-(((r - np.float32(look.ring_radius)) * middle / width) ** 2)) * lit
            wide = np.float32(look.core_spread[channel])
            core = np.exp(-0.5 / wide**2 * (((u - offset) * a / su) ** 2 + (v * b / sv) ** 2))
            cap = np.exp(-(((u - 0.85) / 0.35) ** 2) - (v / 0.7) ** 2) * cap_weight
            patch[..., channel] = (
                np.float32(look.body[channel]) * body * (fade * of_body)
                + np.float32(look.ring[channel]) * ring * of_ring
                + np.float32(look.core[channel]) * core * (shine * fade * of_core)
                + np.float32(look.cap[channel]) * cap
                + np.float32(look.halo[channel]) * halo
            )
        _stamp(image, corner, patch)

    def draw_debris(self, debris: Debris, centre_px: FloatArray, rows: NDArray[np.bool_]) -> Image:
        """Layer (padded h, w) of particles in units of ``look.dot``, for `draw`; ``rows`` (n,) chooses them."""
        look, zoom = self.look, self.zoom
        height, width = self.size
        layer = np.zeros((height + 2 * _PAD, width + 2 * _PAD), np.float32)
        radius = debris.radius_um / self.um_per_px
        blur = np.hypot(0.95 * max(zoom, 0.5), 1.0 * zoom * debris.defocus_um)
        inside = ((centre_px > -_PAD) & (centre_px < np.array([width, height]) + _PAD)).all(1)
        reach = np.minimum(np.ceil(radius * debris.stretch + 4.0 * blur + 1), _PAD - 2)
        order = np.flatnonzero(inside & rows)
        order = order[np.argsort(reach[order], kind="stable")]
        for chosen in np.array_split(order, min(8, len(order) or 1)):
            if len(chosen):
                corner, x, y = _patches(centre_px[chosen], int(reach[chosen].max()))
                _stamp(layer, corner, _debris_patches(look, debris, chosen, x, y, radius[chosen], blur[chosen]))
        return layer


def compressed(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """(h, w, 3) RGB as JPEG of this quality leaves it."""
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


def _debris_patches(
    look: Look, debris: Debris, rows: NDArray[np.int64], x: Image, y: Image, radius: FloatArray, blur: FloatArray
) -> Image:
    cos, sin = (f(debris.angle_rad[rows]).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    u, v = x * cos + y * sin, (-x * sin + y * cos) * debris.stretch[rows].astype(np.float32)[:, None, None]
    r = np.sqrt(u * u + v * v)
    size, soft = radius.astype(np.float32)[:, None, None], blur.astype(np.float32)[:, None, None]
    # A disc smaller than the blur is a spot whose depth falls with its area.
    depth = np.minimum(1, (size / (0.9 * soft)) ** 1.2)
    disc = depth / (1 + np.exp(np.clip((r - size) / (0.55 * soft), -20, 20)))
    ring = np.exp(-(((r - size - 1.9 * soft) / (1.1 * soft)) ** 2)) * np.float32(look.dot_ring) * depth
    kind = debris.kind[rows]
    # A round cell is a shell more than a disc; a bright grain is a dot turned inside out.
    tone = np.array([1.0, look.round_cell[1] / look.dot[1], -1.6])[kind]
    strength = (debris.strength[rows] * tone).astype(np.float32)[:, None, None]
    shell = np.exp(-(((r - size) / (0.9 * soft + 0.4)) ** 2))
    is_round = (kind == ROUND_CELL)[:, None, None]
    return np.where(is_round, 0.45 * disc + 0.8 * shell - ring, disc - ring) * strength


def _illumination(rng: np.random.Generator, look: Look, height: int, width: int) -> Image:
    """(h, w, 3) background: a slope, a vignette and faint large patches."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    slope = rng.normal(0, 0.5, 2)
    centre = rng.uniform(-0.4, 0.4, 2)
    light = slope[0] * x + slope[1] * y - 0.6 * ((x - centre[0]) ** 2 + (y - centre[1]) ** 2)
    patches = cv2.resize(rng.normal(0, 1, (6, 8)), (width, height), interpolation=cv2.INTER_CUBIC)
    light = light + 0.35 * patches
    light = (light - light.mean()) / np.abs(light - light.mean()).max()
    return ((1 + look.uneven * light)[..., None] * np.array(look.background)).astype(np.float32)


def _noise_planes(rng: np.random.Generator, look: Look, height: int, width: int, count: int) -> list[Image]:
    """Unit-variance grain, larger than the frame, so that a random crop is new to the eye."""
    planes = []
    for _ in range(count):
        plane = rng.standard_normal((height + 64, width + 64, 3), np.float32)
        plane = 0.35 * plane + plane.mean(-1, keepdims=True) * np.float32(np.sqrt(3))
        if look.noise_sigma > 0:
            plane = cv2.GaussianBlur(plane, (0, 0), look.noise_sigma)
        planes.append((plane / plane.std()).astype(np.float32))
    return planes


def _blotch_planes(rng: np.random.Generator, look: Look, height: int, width: int, count: int) -> list[Image]:
    """Colour blotches of 8 to 16 px: what is left of chroma after a compressor."""
    planes = []
    for _ in range(count):
        coarse = rng.standard_normal((height // 12 + 1, width // 12 + 1, 3), np.float32)
        coarse -= coarse.mean(-1, keepdims=True) * np.float32(0.8)
        planes.append(
            cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(look.chroma_noise)
        )
    return planes


def _splat(shape: tuple[int, int], points: FloatArray, weights: FloatArray) -> Image:
    """Add weighted points to an empty layer, each over its four neighbours."""
    height, width = shape
    keep = (points[:, 0] > 0) & (points[:, 1] > 0) & (points[:, 0] < width - 2) & (points[:, 1] < height - 2)
    points, weights = points[keep], weights[keep]
    base = np.floor(points).astype(np.int64)
    fx, fy = (points - base).T
    flat = base[:, 1] * width + base[:, 0]
    index = np.concatenate([flat, flat + 1, flat + width, flat + width + 1])
    share = np.concatenate([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy]) * np.tile(weights, 4)
    return np.bincount(index, share, height * width).reshape(height, width).astype(np.float32)


def _patches(centre_px: FloatArray, reach: int) -> tuple[NDArray[np.int64], Image, Image]:
    """Top-left corners (in the padded image) and offsets x, y (n, p, p) of pixels from each centre."""
    base = np.floor(centre_px).astype(np.int64)
    grid = np.arange(-reach, reach + 1)
    fraction = (centre_px - base).astype(np.float32)
    shape = (len(centre_px), len(grid), len(grid))
    x = np.broadcast_to(grid.astype(np.float32)[None, None, :] - fraction[:, 0, None, None], shape)
    y = np.broadcast_to(grid.astype(np.float32)[None, :, None] - fraction[:, 1, None, None], shape)
    return base - reach + _PAD, x, y


def _stamp(image: Image, corner: NDArray[np.int64], patch: Image) -> None:
    """Add each patch at its corner, cut at the padded image's border."""
    height, width = image.shape[:2]
    size = patch.shape[1]
    for (left, top), values in zip(corner.tolist(), patch, strict=True):
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + size, width), min(top + size, height)
        if x0 < x1 and y0 < y1:
            image[y0:y1, x0:x1] += values[y0 - top : y1 - top, x0 - left : x1 - left]
