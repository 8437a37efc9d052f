"""The inner loops of the live simulator: sprites turned and moved into place, tails as sums of spots, the sensor.

Compiled by numba. Knows nothing of scenes: positions are px, angles rad, gray in 8-bit units.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.kernels import kernel

Image = NDArray[Any]

#: Widths of the spots that are kept, px; a spot of another width is the next one's.
SIGMAS_PX = np.geomspace(0.6, 8.0, 24)
_PHASES = 4


class SpotBank:
    """Spots of each width at each fourth of a pixel: a line's profile, with its fringe, as sharpening leaves it."""

    def __init__(self, fringe: float, sharpen: float, sharpen_sigma_px: float) -> None:
        spots, starts, radii = [], [], []
        at = 0
        for sigma in SIGMAS_PX:
            wide = 2.6 * sigma + 0.5
            radius = int(np.ceil(2.0 * wide))
            for py in range(_PHASES):
                for px in range(_PHASES):
                    fine = [np.arange(-radius - 4, radius + 5) - (p + 0.5) / _PHASES for p in (px, py)]
                    spot = np.zeros((len(fine[1]), len(fine[0])))
                    for width, weight in ((sigma, 1.0), (wide, -fringe)):
                        x, y = (np.exp(-0.5 * (f / width) ** 2) for f in fine)
                        spot += weight * np.outer(y, x) / (2 * np.pi * width**2)
                    if sharpen:
                        soft = cv2.GaussianBlur(spot, (0, 0), sharpen_sigma_px)
                        spot = (1 + sharpen) * spot - sharpen * soft
                    spots.append(spot[4:-4, 4:-4].astype(np.float32).ravel())
            starts.append(at)
            radii.append(radius)
            at += _PHASES**2 * (2 * radius + 1) ** 2
        #: the spots one after the other, where each width begins, and its radius
        self.arrays = np.concatenate(spots), np.array(starts), np.array(radii)


@kernel
def stamp(
    canvas: Any, flat: Any, starts: Any, sizes: Any, xy: Any, cos: Any, sin: Any, weight: Any
) -> None:  # pragma: no cover
    """Add square sprites (one after the other in ``flat``) to a canvas, each turned about its middle, at xy (n, 2)."""
    height, width = canvas.shape
    for i in range(len(sizes)):
        size = sizes[i]
        middle = (size - 1) / 2
        turned = sin[i] != 0.0
        reach = middle + 1.0
        x0, x1 = max(0, int(np.floor(xy[i, 0] - reach))), min(width - 1, int(np.ceil(xy[i, 0] + reach)))
        y0, y1 = max(0, int(np.floor(xy[i, 1] - reach))), min(height - 1, int(np.ceil(xy[i, 1] + reach)))
        c, s = cos[i], sin[i]
        base = starts[i]
        for y in range(y0, y1 + 1):
            dy = y - xy[i, 1]
            for x in range(x0, x1 + 1):
                dx = x - xy[i, 0]
                u = dx * c + dy * s + middle
                v = dy * c - dx * s + middle
                if turned and (u < 0 or v < 0 or u > size - 1 or v > size - 1):
                    continue
                iu, iv = int(np.floor(u)), int(np.floor(v))
                if iu < 0 or iv < 0 or iu >= size - 1 or iv >= size - 1:
                    continue
                fu, fv = np.float32(u - iu), np.float32(v - iv)
                at = base + iv * size + iu
                one = np.float32(1.0)
                top = flat[at] * (one - fu) + flat[at + 1] * fu
                low = flat[at + size] * (one - fu) + flat[at + size + 1] * fu
                canvas[y, x] += weight * (top * (one - fv) + low * fv)


@kernel
def stamp_spots(
    canvas: Any, xy: Any, direction: Any, tail_px: Any, neck_px: Any, phase: Any, waves: Any, bend: Any, curve: Any,
    variety: Any, blur: Any, zoom: Any, fade: Any, weight: Any, n_points: Any, spots: Any, starts: Any, radii: Any,
    sigmas: Any,
) -> None:  # fmt: skip  # pragma: no cover
    """Add tails to a canvas: a travelling wave of the tangent's angle from the neck on, as in `Swimmers.tails_um`."""
    height, width = canvas.shape
    for i in range(len(xy)):
        step = tail_px[i] / n_points
        x = xy[i, 0] - np.cos(direction[i]) * neck_px[i]
        y = xy[i, 1] - np.sin(direction[i]) * neck_px[i]
        droplet_at = 0.05 + 1.2 * variety[i, 7]
        skipped = 0.0
        for k in range(n_points):
            along = (k + 0.5) / n_points
            bent = (curve[i, 0] + (curve[i, 1] - curve[i, 0]) * along / 2) * along
            wave = bend[i] * np.sqrt(along) * np.cos(phase[i] - waves[i] * along)
            angle = direction[i] + np.pi + bent + wave
            x += np.cos(angle) * step
            y += np.sin(angle) * step
            droplet = 0.0
            if variety[i, 7] < 0.3:
                droplet = np.exp(-(((along - droplet_at) / 0.018) ** 2))
            profile = (0.5 + 0.5 * np.exp(-along / 0.25) + 0.6 * np.exp(-along / 0.07)) * np.exp(-along / fade)
            profile += 0.8 * droplet
            spread = (0.3 + 1.2 * np.exp(-along / 0.08) + 1.6 * droplet) * zoom
            sigma = np.sqrt(blur[i] ** 2 + 0.427 * spread**2)
            amount = profile * step * (0.7 + 0.6 * variety[i, 3]) * weight + skipped
            # A wide spot stands for its neighbours too.
            if k % max(1, int(1.9 * sigma / step)) != 0:
                skipped = amount
                continue
            skipped = 0.0
            level = min(np.searchsorted(sigmas, sigma), len(sigmas) - 1)
            radius = radii[level]
            ix, iy = int(np.floor(x)), int(np.floor(y))
            x0, x1 = max(0, ix - radius), min(width - 1, ix + radius)
            y0, y1 = max(0, iy - radius), min(height - 1, iy + radius)
            size = 2 * radius + 1
            spot = int((y - iy) * 4) * 4 + int((x - ix) * 4)
            base = starts[level] + spot * size * size
            much = np.float32(amount)
            for row in range(y0, y1 + 1):
                at = base + (row - iy + radius) * size + radius - ix
                for column in range(x0, x1 + 1):
                    canvas[row, column] += much * spots[at + column]


@kernel
def expose(
    canvas: Any,
    noise: Any,
    dy: Any,
    dx: Any,
    out: Any,
    gamma: Any,
    light: Any,
    gain: Any,
    read: Any,
    shot: Any,
    white: Any,
) -> None:  # pragma: no cover
    """Turn light into numbers: noise of read-out and of photons, then gain, cut off at 0 and white."""
    height, width = canvas.shape
    least, most, half = np.float32(4.0), np.float32(255.0), np.float32(0.5)
    for y in range(height):
        row, grain, result = canvas[y], noise[y + dy], out[y]
        if gamma != 1.0:
            for x in range(width):
                row[x] = most * (min(max(row[x], least), most) / most) ** gamma
        for x in range(width):
            value = max(row[x], least) * light
            value = (value + grain[x + dx] * np.sqrt(read + shot * value)) * gain + half
            result[x] = int(min(max(value, np.float32(0.0)), white))
