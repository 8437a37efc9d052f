"""Pictures of a scene fast enough for a camera of its own clock: gray, through a moving stage and any focus.

Everything that `casa.simulate.render` draws is a sum, and so is what its sharpening makes of it. Heads and particles
are therefore drawn once by the renderer itself, as sprites for a height and a stage of the roll, then turned and moved
to where they are; tails are sums of spots. Only the camera's compression and colours are left out.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.simulate.debris import Debris
from casa.simulate.render import _PAD, Heads, _debris_patches
from casa.simulate.scene import Scene
from casa.simulate.slides import Slide, draw_slide, make_slide
from casa.simulate.spots import SIGMAS_PX, SpotBank, expose, stamp, stamp_spots
from casa.simulate.swimmers import HEADING_STEP_S

FloatArray = NDArray[np.float64]
Image = NDArray[Any]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_FLASHES = 5  # stages of the roll that heads are drawn at
_SPRITES = 6000
_SOFT = 5  # px around a sprite for the sharpening
#: Heads that move by more than this during the exposure are drawn more than once, um.
_FASTEST_UM_S = 150.0


@dataclass(frozen=True, slots=True)
class View:
    """How the microscope stands at a frame: shift of the field (px), focus over the sample (um), camera settings.

    ``light`` is the exposure as a multiple of the one at which pictures are as the preset says; ``gain`` multiplies
    what comes off the sensor, noise too. ``slide`` : what lies on the stage, one of `casa.simulate.slides.SLIDES`.
    """

    shift_px: tuple[float, float] = (0.0, 0.0)
    focus_um: float = 0.0
    exposure_s: float = 0.002
    light: float = 1.0
    gain: float = 1.0
    slide: str = "sample"


class SpritePool:
    """Square sprites one after the other in ``flat``; number i begins at ``starts[i]`` and is ``sizes[i]`` px wide."""

    def __init__(self) -> None:
        self.flat = np.empty(0, np.float32)
        self.starts, self.sizes = np.empty(0, np.int64), np.empty(0, np.int64)
        self._used = 0

    def add(self, sprites: list[Image]) -> int:
        """Keep some more; gives the number of the first of them."""
        first = len(self.sizes)
        sizes = np.array([sprite.shape[0] for sprite in sprites], np.int64)
        ends = self._used + np.cumsum(sizes**2)
        if ends[-1] > len(self.flat):
            self.flat = np.concatenate([self.flat[: self._used], np.empty(2 * int(ends[-1]) - self._used, np.float32)])
        for end, sprite in zip(ends.tolist(), sprites, strict=True):
            self.flat[end - sprite.size : end] = sprite.ravel()
        self.starts = np.concatenate([self.starts, ends - sizes**2])
        self.sizes = np.concatenate([self.sizes, sizes])
        self._used = int(ends[-1])
        return first


class LiveRenderer:
    """Draws one scene at any time; ``white_level`` is the largest gray level (255 gives uint8, more gives uint16).

    A scene's time runs to its end and then back, so that nothing ever jumps.
    """

    def __init__(self, scene: Scene, white_level: int, vignetting: float = 0.0, hot_pixels: int = 0) -> None:
        self._scene, self._white = scene, white_level
        config, renderer = scene.config, scene._renderer
        self._look, self._zoom, self._scale = config.look, renderer.zoom, config.um_per_px
        self._shape = (config.height_px, config.width_px)
        self._background = np.ascontiguousarray(renderer._background @ _LUMA, np.float32)
        self._vignette = _vignette(self._shape, vignetting) if vignetting else None
        self._hot = _hot_pixels(scene.seed, self._shape, hot_pixels) if hot_pixels else None
        self._slide: tuple[object, Image] | None = None
        self._slides: dict[str, Slide] = {}
        self._end_s = max(float(scene.t_ns[-1]) / 1e9, 1e-3)
        self._paths = _paths(scene)
        rng = np.random.default_rng((scene.seed, 0x11FE))
        self._noise = [_grain(rng, self._look.noise_sigma, self._shape) for _ in range(2)]
        self._heads = SpritePool()
        self._head_numbers: dict[tuple[int, int, int], int] = {}
        self._tail_points = max(8, int(np.ceil(46 / self._scale / (1.8 * max(self._look.tail_blur * self._zoom, 0.6)))))
        self._spots = SpotBank(self._look.tail_fringe, self._look.sharpen, 1.2 * max(self._zoom, 0.6))
        moving = scene.debris.moving
        self._moving_rows, self._still_rows = np.flatnonzero(moving), np.flatnonzero(~moving)
        self._moving = Debris(**{f.name: getattr(scene.debris, f.name)[moving] for f in fields(Debris)})
        self._debris: tuple[float, SpritePool] | None = None
        self._still: tuple[object, Image] | None = None

    def scene_time_s(self, t_s: float) -> float:
        """The scene's own time at a time of the camera: to and fro between its beginning and its end."""
        lap, within = divmod(t_s, self._end_s)
        return within if int(lap) % 2 == 0 else self._end_s - within

    def draw(self, t_s: float, number: int, view: View) -> NDArray[Any]:
        """(h, w) picture of a moment of the camera's time; its noise follows from ``number``."""
        canvas = self._sample(t_s, view) if view.slide == "sample" else self._other_slide(view)
        if self._vignette is not None:
            canvas *= self._vignette
        rng = np.random.default_rng((self._scene.seed, number))
        noise = self._noise[number % len(self._noise)]
        dy, dx = (int(v) for v in rng.integers(0, 65, 2))
        out = np.empty(self._shape, np.uint8 if self._white <= 255 else np.uint16)
        look = self._look
        expose(
            canvas, noise, dy, dx, out, np.float32(look.gamma), np.float32(0.0 if view.slide == "dark" else view.light),
            np.float32(view.gain * self._white / 255), np.float32(look.read_noise**2), np.float32(look.shot_noise),
            np.float32(self._white),
        )  # fmt: skip
        if self._hot is not None:
            out[self._hot] = self._white
        out.flags.writeable = False
        return out

    def _sample(self, t_s: float, view: View) -> Image:
        canvas = self._background_and_debris(t_s, view)
        steps = int(np.clip(np.ceil(_FASTEST_UM_S * view.exposure_s / self._scale), 1, 8))
        for step in range(steps):
            at_s = t_s + ((step + 0.5) / steps - 0.5) * view.exposure_s
            self._add_cells(canvas, self.scene_time_s(max(at_s, 0.0)), view, 1.0 / steps)
        return canvas

    def _other_slide(self, view: View) -> Image:
        key = (view.slide, view.shift_px, view.focus_um)
        if self._slide is None or self._slide[0] != key:
            if view.slide not in self._slides:
                depth_um = self._scene.config.chamber_depth_um
                self._slides[view.slide] = make_slide(view.slide, self._scale, depth_um, self._scene.seed)
            self._slide = key, draw_slide(self._slides[view.slide], self._background, view.shift_px, view.focus_um)
        return self._slide[1].copy()

    def cells(self, t_s: float, view: View) -> tuple[FloatArray, FloatArray]:
        """Truth at a time of the camera: (n, 2) head centres of all swimmers, px, and (n,) defocus, um."""
        t_s = self.scene_time_s(t_s)
        return self._to_view(self._positions_um(t_s), t_s, view), self._scene.swimmers.defocus_um(t_s) + view.focus_um

    # where things are

    def _positions_um(self, t_s: float) -> FloatArray:
        s = self._scene.swimmers
        k = int(np.clip(int(t_s / HEADING_STEP_S), 0, s.heading_rad.shape[1] - 2))
        tau = t_s - k * HEADING_STEP_S
        start = s.heading_rad[:, k]
        rate = (s.heading_rad[:, k + 1] - start) / HEADING_STEP_S
        half_turn = rate * tau / 2
        chord = s.speed_um_s * tau * np.sinc(half_turn / np.pi)
        beat = s.amplitude_um * np.sin(2 * np.pi * s.beat_hz * t_s + s.beat_phase_rad)
        now = start + rate * tau
        return np.stack(
            [
                self._paths[:, k, 0] + chord * np.cos(start + half_turn) - beat * np.sin(now),
                self._paths[:, k, 1] + chord * np.sin(start + half_turn) + beat * np.cos(now),
            ],
            axis=1,
        )

    def _to_view(self, um: FloatArray, t_s: float, view: View) -> FloatArray:
        scene = self._scene
        moved = t_s * np.array(scene.config.drift_um_s) + np.array(view.shift_px) * self._scale
        return (np.mod(um + moved, scene._area_um) - scene._margin_um) / self._scale

    # what is drawn

    def _background_and_debris(self, t_s: float, view: View) -> Image:
        scene = self._scene
        at = self.scene_time_s(t_s)
        flows = any(scene.config.drift_um_s)
        key = (view.shift_px, view.focus_um)
        if self._debris is None or self._debris[0] != view.focus_um:
            self._debris = view.focus_um, self._debris_sprites(view.focus_um)
        sprites = self._debris[1]
        if flows or self._still is None or self._still[0] != key:
            layer = self._background.copy()
            xy = self._to_view(scene.debris.start_um[self._still_rows], at, view)
            self._stamp(layer, sprites, self._still_rows, xy)
            self._still = key, layer
        canvas = self._still[1].copy()
        xy = self._to_view(self._moving.positions_um(at), at, view)
        self._stamp(canvas, sprites, self._moving_rows, xy)
        return canvas

    def _add_cells(self, canvas: Image, t_s: float, view: View, weight: float) -> None:
        s = self._scene.swimmers
        if not len(s):
            return
        xy = self._to_view(self._positions_um(t_s), t_s, view)
        height, width = self._shape
        reach = 60 / self._scale
        rows = np.flatnonzero(((xy > -reach) & (xy < np.array([width, height]) + reach)).all(1))
        if not len(rows):
            return
        direction = s.orientation_at(t_s)[rows]
        defocus = s.defocus_um(t_s)[rows] + view.focus_um
        sprites = self._head_sprites(rows, s.flash(t_s)[rows], np.abs(defocus))
        self._stamp(canvas, self._heads, sprites, xy[rows], np.cos(direction), np.sin(direction), weight)
        look, zoom = self._look, max(self._zoom, 0.6)
        blur = np.hypot(look.tail_blur * zoom, 0.8 * np.abs(defocus) * self._zoom)
        tail_weight = 2.5 * look.tail_blur * weight * float(np.dot(look.tail, _LUMA)) / 2.2 * 3
        stamp_spots(
            canvas, xy[rows], direction, s.tail_um[rows] / self._scale, s.head_um[rows, 0] / (2 * self._scale),
            2 * np.pi * s.beat_hz[rows] * t_s + s.beat_phase_rad[rows],
            2 * np.pi * s.tail_um[rows] / s.wavelength_um[rows], s.bend_rad[rows],
            s.curvature_per_um[rows] * s.tail_um[rows, None], s.variety[rows], blur, zoom, look.tail_fade, tail_weight,
            self._tail_points, *self._spots.arrays, SIGMAS_PX,
        )  # fmt: skip

    def _stamp(
        self,
        canvas: Image,
        pool: SpritePool,
        numbers: NDArray[np.int64],
        xy: FloatArray,
        cos: FloatArray | None = None,
        sin: FloatArray | None = None,
        weight: float = 1.0,
    ) -> None:
        n = len(numbers)
        cos, sin = (np.ones(n) if cos is None else cos), (np.zeros(n) if sin is None else sin)
        stamp(canvas, pool.flat, pool.starts[numbers], pool.sizes[numbers], xy, cos, sin, np.float32(weight))

    def _sharpened(self, image: Image) -> Image:
        if not self._look.sharpen:
            return image
        soft = cv2.GaussianBlur(image, (0, 0), 1.2 * max(self._zoom, 0.6))
        return cv2.addWeighted(image, 1 + self._look.sharpen, soft, -self._look.sharpen, 0)

    def _head_sprites(self, rows: NDArray[np.int64], flash: FloatArray, defocus: FloatArray) -> NDArray[np.int64]:
        """The number of each head's sprite (pointing right) for the nearest stage of its roll and height."""
        flashes = np.rint(flash * (_FLASHES - 1)).astype(int)
        # Finer near the focal plane, where a tenth of a um shows.
        heights = np.rint(20 * np.log1p(np.minimum(defocus, 60.0) / 2)).astype(int)
        keys = list(zip(rows.tolist(), flashes.tolist(), heights.tolist(), strict=True))
        if len(self._heads.sizes) > _SPRITES:
            self._heads, self._head_numbers = SpritePool(), {}
        new = list(dict.fromkeys(key for key in keys if key not in self._head_numbers))
        if new:
            first = self._heads.add(self._draw_heads(np.array(new)))
            self._head_numbers.update((key, first + i) for i, key in enumerate(new))
        return np.array([self._head_numbers[key] for key in keys])

    def _draw_heads(self, keys: NDArray[np.int64]) -> list[Image]:
        s, n = self._scene.swimmers, len(keys)
        rows, size = keys[:, 0], 2 * (_PAD - 2 + _SOFT) + 1
        across = int(np.ceil(np.sqrt(n)))
        place = np.stack([np.arange(n) % across, np.arange(n) // across], axis=1)
        renderer = copy(self._scene._renderer)
        renderer.size = (int(place[-1, 1] + 1) * size, across * size)
        image = np.zeros((renderer.size[0] + 2 * _PAD, renderer.size[1] + 2 * _PAD, 3), np.float32)
        renderer._add_heads(
            image,
            Heads(
                centre_px=(place * size + size // 2).astype(np.float64),
                half_axes_px=s.head_um[rows] / (2 * self._scale),
                direction_rad=np.zeros(n),
                tails_px=np.zeros((n, 0, 2)),
                defocus_um=2 * np.expm1(keys[:, 2] / 20),
                flash=keys[:, 1] / (_FLASHES - 1),
                vigour=s.vigour[rows],
                variety=s.variety[rows],
            ),
        )
        gray = self._sharpened(np.ascontiguousarray(image[_PAD:-_PAD, _PAD:-_PAD] @ _LUMA))
        cells = [gray[y * size : (y + 1) * size, x * size : (x + 1) * size] for x, y in place.tolist()]
        return [_trimmed(cell) for cell in cells]

    def _debris_sprites(self, focus_um: float) -> SpritePool:
        """A sprite of each particle for a focus; particles lie above and below the focal plane in turn."""
        debris, zoom = self._scene.debris, self._zoom
        n = len(debris)
        side = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
        defocus = np.abs(side * debris.defocus_um + focus_um)
        radius = debris.radius_um / self._scale
        blur = np.hypot(0.95 * max(zoom, 0.5), zoom * np.minimum(defocus, 8.0))
        reach = np.minimum(np.ceil(radius * debris.stretch + 4.0 * blur + 1), _PAD - 2).astype(int)
        tone = np.float32(np.dot(self._look.dot, _LUMA))
        sprites: list[Image] = [np.zeros((1, 1), np.float32)] * n
        for size in np.unique(reach):
            rows = np.flatnonzero(reach == size)
            grid = np.arange(-size, size + 1, dtype=np.float32)
            x = np.broadcast_to(grid[None, None, :], (len(rows), len(grid), len(grid)))
            y = np.broadcast_to(grid[None, :, None], x.shape)
            patches = _debris_patches(self._look, debris, rows, x, y, radius[rows], blur[rows]) * tone
            for row, patch in zip(rows, patches, strict=True):
                sprites[row] = self._sharpened(np.pad(patch.astype(np.float32), _SOFT))
        pool = SpritePool()
        pool.add(sprites)
        return pool


def _vignette(shape: tuple[int, int], loss: float) -> Image:
    """(h, w) light left by the optics: 1 in the middle, 1 - loss in the corners."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    return (1 - loss * (x * x + y * y) / 2).astype(np.float32)


def _hot_pixels(seed: int, shape: tuple[int, int], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of pixels that are always bright."""
    chosen = np.random.default_rng((seed, 0x407)).choice(shape[0] * shape[1], count, replace=False)
    return chosen // shape[1], chosen % shape[1]


def _trimmed(sprite: Image) -> Image:
    """The middle of a square sprite, without the border that holds next to nothing."""
    middle = sprite.shape[0] // 2
    rows = np.abs(np.arange(sprite.shape[0]) - middle)
    seen = np.abs(sprite) > 0.25
    used = int(max((rows[seen.any(1)].max() if seen.any() else 1), (rows[seen.any(0)].max() if seen.any() else 1)))
    cut = slice(middle - used, middle + used + 1)
    return np.ascontiguousarray(sprite[cut, cut])


def _paths(scene: Scene) -> FloatArray:
    """(n, k, 2) where each swimmer's average path is at the knots of its heading, um."""
    s = scene.swimmers
    start = s.heading_rad[:, :-1]
    half_turn = np.diff(s.heading_rad, axis=1) / 2
    chord = s.speed_um_s[:, None] * HEADING_STEP_S * np.sinc(half_turn / np.pi)
    paths = np.zeros((*s.heading_rad.shape, 2))
    np.cumsum(chord * np.cos(start + half_turn), axis=1, out=paths[:, 1:, 0])
    np.cumsum(chord * np.sin(start + half_turn), axis=1, out=paths[:, 1:, 1])
    return paths + s.start_um[:, None]


def _grain(rng: np.random.Generator, sigma_px: float, shape: tuple[int, int]) -> Image:
    """Noise of unit variance, larger than the frame by 64 px."""
    plane = rng.standard_normal((shape[0] + 64, shape[1] + 64), np.float32)
    if sigma_px > 0:
        plane = cv2.GaussianBlur(plane, (0, 0), sigma_px)
    return (plane * np.float32(0.97 / plane.std())).astype(np.float32)
