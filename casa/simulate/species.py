"""Heads by species: sizes and outlines of spermatozoa seen from above, and of misshapen human ones.

A head is an ellipse that is tapered and bent: in its own frame (u forward, v across, in half axes) the point (u, v)
belongs to the head where (u, v') with ``v' = (v - bend (u^2 - 1/3) - hook max(u - .2, 0)^2) / (1 + taper u)`` lies in
the unit circle. A positive taper is broad in front (a paddle), a bend makes a sickle, a hook turns the tip aside.

Sizes after Cummins & Woodall 1985 (J Reprod Fert 75:153) and Gage & Freckleton 2003, rounded. Knows nothing else of
casa.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_LEAST_WIDTH = 0.3  # of what a taper leaves of the ellipse


@dataclass(frozen=True, slots=True)
class Species:
    """Means of one species: head (length, width) um, tail length um, and (taper, bend, hook) of the outline."""

    head_um: tuple[float, float]
    tail_um: float
    shape: tuple[float, float, float] = (0.0, 0.0, 0.0)
    share: float = 1.0


#: Whose sperm training pictures show. ``share`` is among those that are not human.
SPECIES: Mapping[str, Species] = {
    "human": Species((4.1, 2.8), 45.0),
    "bull": Species((8.6, 4.6), 55.0, (0.22, 0.0, 0.0), 1.5),
    "boar": Species((8.6, 4.5), 46.0, (0.10, 0.0, 0.0), 1.5),
    "ram": Species((8.2, 4.3), 58.0, (0.25, 0.0, 0.0)),
    "stallion": Species((6.2, 3.2), 52.0, (0.12, 0.05, 0.0), 1.2),
    "dog": Species((6.6, 3.9), 55.0, (0.12, 0.0, 0.0)),
    "rabbit": Species((8.2, 4.9), 48.0, (0.10, 0.0, 0.0), 0.7),
    "mouse": Species((8.2, 3.2), 100.0, (-0.15, 0.35, 1.3), 1.2),
    "rat": Species((12.0, 2.2), 120.0, (-0.35, 0.9, 1.2)),
}


def unbent(u: Any, v: Any, shape: Any) -> Any:
    """The v' of the module's text; ``shape`` (n, 3, ...) is (taper, bend, hook) of each head."""
    taper, bend, hook = shape[:, 0], shape[:, 1], shape[:, 2]
    aside = bend * (u * u - 1 / 3) + hook * np.square(np.maximum(u - 0.2, 0))
    return (v - aside) / np.maximum(1 + taper * u, _LEAST_WIDTH)


def outline_half_px(half_axes_px: FloatArray, shape: FloatArray, direction_rad: FloatArray) -> FloatArray:
    """(n, 4) reach of heads left, up, right and down of their centres, px, from the outline turned as they lie."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    u, v = np.cos(angle), np.sin(angle)
    taper, bend, hook = shape.T[..., None]
    v = v * np.maximum(1 + taper * u, _LEAST_WIDTH) + bend * (u * u - 1 / 3) + hook * np.square(np.maximum(u - 0.2, 0))
    along, across = u * half_axes_px[:, :1], v * half_axes_px[:, 1:]
    cos, sin = np.cos(direction_rad)[:, None], np.sin(direction_rad)[:, None]
    x, y = along * cos - across * sin, along * sin + across * cos
    return np.stack([-x.min(1), -y.min(1), x.max(1), y.max(1)], axis=1)


def sample_heads(rng: np.random.Generator, name: str, count: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sizes (n, 2) um, outlines (n, 3) and tail lengths (n,) um of ``count`` sperm of a species, with odd ones.

    One head in eight is misshapen (tapered, bent, too long), one in twenty-five too large.
    """
    species = SPECIES[name]
    size = np.array(species.head_um) * np.exp(rng.normal(0, 0.09, (count, 2)))
    shape = np.array(species.shape) * np.exp(rng.normal(0, 0.2, (count, 1))) + rng.normal(0, 0.06, (count, 3))
    # A hooked head lies on either side.
    shape[:, 1:] *= rng.choice([-1.0, 1.0], (count, 1))
    odd = rng.uniform(size=count) < 0.12
    shape += odd[:, None] * rng.normal(0, [0.25, 0.15, 0.1], (count, 3))
    size *= np.where(odd[:, None], np.exp(rng.normal(0, 0.2, (count, 2))), 1.0)
    size *= np.where(rng.uniform(size=(count, 1)) < 0.04, rng.uniform(1.3, 2.0, (count, 1)), 1.0)
    return size, shape, species.tail_um * rng.uniform(0.85, 1.1, count)
