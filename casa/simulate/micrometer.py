"""Pictures of stage micrometers and ruled grids whose scale is known exactly, to check `casa calibrate scale` with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class MicrometerConfig:
    """A picture of rulings, and what is wrong with it.

    kind : ``grid`` (lines both ways), ``lines`` (one way, across the picture), ``ticks`` (a scale: short ticks, every
    fifth and tenth longer). um_per_px_x, um_per_px_y, rotation_deg (of the object, counter-clockwise as seen with y
    down) and pitch_um are the truth. line_um : thickness. contrast : of a line, as a fraction of the light.
    blur_px, noise : sd in px and in gray levels. uneven : largest loss of light towards a corner, as a fraction.
    dirt : blobs and scratches. dark_lines : or bright ones on a dark ground. k1 : radial distortion; a point at the
    distance r from the centre, in half diagonals, is seen at r (1 + k1 r^2).
    """

    width_px: int = 640
    height_px: int = 480
    kind: Literal["grid", "lines", "ticks"] = "grid"
    pitch_um: float = 10.0
    um_per_px_x: float = 0.4
    um_per_px_y: float = 0.4
    rotation_deg: float = 0.0
    line_um: float = 1.5
    contrast: float = 0.7
    blur_px: float = 0.8
    noise: float = 3.0
    uneven: float = 0.0
    dirt: int = 0
    dark_lines: bool = True
    k1: float = 0.0


def micrometer_image(config: MicrometerConfig, seed: int) -> NDArray[np.uint8]:
    """The picture (h, w) uint8; the same for the same configuration and seed."""
    rng = np.random.default_rng(seed)
    h, w = config.height_px, config.width_px
    x, y = np.meshgrid(np.arange(w) - (w - 1) / 2, np.arange(h) - (h - 1) / 2)
    bent = 1 - config.k1 * (x * x + y * y) / (np.hypot(w, h) / 2) ** 2
    x, y = np.asarray(x * bent, np.float64), np.asarray(y * bent, np.float64)
    across, along = _object_coordinates(config, x, y)
    offset = rng.uniform(0, config.pitch_um, 2)
    across, along = across + offset[0], along + offset[1]
    line = _lines(across, config)
    if config.kind == "grid":
        line = np.maximum(line, _lines(along, config))
    elif config.kind == "ticks":
        number = np.round(across / config.pitch_um)
        reach = np.where(number % 10 == 0, 0.42, np.where(number % 5 == 0, 0.3, 0.2)) * h * config.um_per_px_y
        line = np.where(np.abs(along - offset[1]) < reach, line, 0.0)
    light = 1.0 - config.uneven * _slope(x, y, rng)
    picture = light * (
        1.0 - config.contrast * line if config.dark_lines else 1.0 - config.contrast + config.contrast * line
    )
    picture *= _dirt(config, rng)
    if config.blur_px > 0:
        picture = cv2.GaussianBlur(picture, (0, 0), config.blur_px)
    return np.clip(picture * 200.0 + rng.normal(0, config.noise, (h, w)), 0, 255).astype(np.uint8)


def _object_coordinates(
    config: MicrometerConfig, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates in um on the micrometer, across its lines and along them."""
    turn = np.deg2rad(config.rotation_deg)
    x_um, y_um = x * config.um_per_px_x, y * config.um_per_px_y
    return x_um * np.cos(turn) + y_um * np.sin(turn), -x_um * np.sin(turn) + y_um * np.cos(turn)


def _lines(position_um: NDArray[np.float64], config: MicrometerConfig) -> NDArray[np.float64]:
    """How much of each pixel is covered by a line, 0 to 1."""
    px_um = (config.um_per_px_x + config.um_per_px_y) / 2
    distance = np.abs((position_um / config.pitch_um + 0.5) % 1.0 - 0.5) * config.pitch_um
    return np.clip(0.5 + (config.line_um / 2 - distance) / px_um, 0.0, min(1.0, config.line_um / px_um))


def _slope(x: NDArray[np.float64], y: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Loss of light: grows with the square of the distance from a place somewhere in the picture, 0 to 1."""
    h, w = x.shape
    distance2 = (x - rng.uniform(-0.3, 0.3) * w) ** 2 + (y - rng.uniform(-0.3, 0.3) * h) ** 2
    return distance2 / distance2.max()


def _dirt(config: MicrometerConfig, rng: np.random.Generator) -> NDArray[np.float64]:
    """Light left by dust and scratches, 1 where there are none."""
    h, w = config.height_px, config.width_px
    layer = np.ones((h, w), np.float64)
    for _ in range(config.dirt):
        place = (int(rng.integers(w)), int(rng.integers(h)))
        shade = float(rng.uniform(0.3, 0.9))
        if rng.random() < 0.7:
            axes = (int(rng.integers(2, 18)), int(rng.integers(2, 18)))
            cv2.ellipse(layer, place, axes, float(rng.uniform(0, 180)), 0, 360, shade, -1, cv2.LINE_AA)
        else:
            end = (place[0] + int(rng.integers(-150, 150)), place[1] + int(rng.integers(-150, 150)))
            cv2.line(layer, place, end, shade, int(rng.integers(1, 3)), cv2.LINE_AA)
    return layer


def random_micrometer(seed: int, width_px: int = 640, height_px: int = 480) -> MicrometerConfig:
    """One of the pictures a laboratory may take: pitch of 5 to 200 px, any angle, blur, noise, light and dirt."""
    rng = np.random.default_rng(seed)
    u = rng.uniform
    pitch_px = float(np.exp(u(np.log(5), np.log(200))))
    um_per_px = 10.0 / pitch_px
    return MicrometerConfig(
        width_px=width_px,
        height_px=height_px,
        kind=("grid", "lines", "ticks")[int(rng.integers(3))],
        um_per_px_x=um_per_px,
        um_per_px_y=um_per_px * float(u(0.97, 1.03)) if u() < 0.5 else um_per_px,
        rotation_deg=float(u(-90, 90)) if u() < 0.5 else float(u(-5, 5)),
        line_um=float(u(0.8, 5.0)),
        contrast=float(u(0.25, 0.9)),
        blur_px=float(u(0.3, min(2.5, pitch_px / 4))),
        noise=float(u(0, 14)),
        uneven=float(u(0, 0.6)),
        dirt=int(rng.integers(0, 30)),
        dark_lines=bool(u() < 0.7),
    )
