"""What is in a sample and is no sperm: dark vesicles, round cells, bright grains; lying still or drifting.

Lengths um, times s. Knows nothing of pixels, cameras or frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

DOT, ROUND_CELL, BRIGHT = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Debris:
    """n particles: kind (n,) DOT, ROUND_CELL or BRIGHT; start_um (n, 2); velocity_um_s (n, 2); radius_um (n,);
    stretch (n,) ratio of axes; angle_rad (n,); strength (n,) factor on the look; defocus_um (n,); tremble_um (n,)
    amplitude and tremble_phase (n, 4) of the slow trembling.
    """

    kind: NDArray[np.int64]
    start_um: FloatArray
    velocity_um_s: FloatArray
    radius_um: FloatArray
    stretch: FloatArray
    angle_rad: FloatArray
    strength: FloatArray
    defocus_um: FloatArray
    tremble_um: FloatArray
    tremble_phase: FloatArray

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def moving(self) -> NDArray[np.bool_]:
        """(n,) whether a particle moves by itself; the others lie still in the fluid."""
        return np.asarray(self.velocity_um_s.any(1) | (self.tremble_um > 0))

    def positions_um(self, t_s: float) -> FloatArray:
        """(n, 2) centres at one time: start, drift, and a tremble of two incommensurate periods a coordinate."""
        turn = np.sin(2 * np.pi * t_s * np.array([0.7, 0.9]) + self.tremble_phase[:, :2])
        turn += np.sin(2 * np.pi * t_s * np.array([2.3, 1.9]) + self.tremble_phase[:, 2:])
        return self.start_um + self.velocity_um_s * t_s + self.tremble_um[:, None] * turn


def sample_debris(
    rng: np.random.Generator,
    area_um: tuple[float, float],
    dots: int,
    round_cells: int,
    bright: int,
    dot_radius_um: float,
    drifting_share: float,
    defocus_um: float,
) -> Debris:
    """Draw particles uniformly over an area; ``drifting_share`` of them move by themselves,
    ``dot_radius_um`` is the dots' median radius.
    """
    n = dots + round_cells + bright
    kind = np.repeat([DOT, ROUND_CELL, BRIGHT], [dots, round_cells, bright])
    # Vesicles: many just visible, few as large as a head. Round cells: from head-sized to leukocytes.
    radius = np.where(
        kind == DOT, np.clip(dot_radius_um * np.exp(rng.normal(0, 0.65, n)), 0.15, 2.4), rng.uniform(1.4, 4.5, n)
    )
    radius = np.where(kind == BRIGHT, rng.uniform(0.4, 2.2, n), radius)
    speed = np.where(rng.uniform(size=n) < drifting_share, rng.gamma(2.0, 3.0, n), 0.0)
    direction = rng.uniform(-np.pi, np.pi, n)
    return Debris(
        kind=kind,
        start_um=rng.uniform(0, 1, (n, 2)) * np.array(area_um),
        velocity_um_s=speed[:, None] * np.stack([np.cos(direction), np.sin(direction)], axis=1),
        radius_um=radius,
        stretch=np.where(kind == ROUND_CELL, rng.uniform(1.0, 1.25, n), 1 + rng.gamma(1.0, 0.1, n)),
        angle_rad=rng.uniform(-np.pi, np.pi, n),
        strength=np.clip(rng.normal(0.55, 0.3, n), 0.1, 1.2),
        defocus_um=np.abs(rng.normal(0, 1.2 * defocus_um + 0.3, n)),
        tremble_um=np.where((speed > 0) & (radius < 1.0), rng.uniform(0.0, 0.12, n), 0.0),
        tremble_phase=rng.uniform(0, 2 * np.pi, (n, 4)),
    )
