"""The cells of a training picture: single sperm, pinheads, clusters of heads that touch, tails without heads.

Places come from a real recording's frame or are uniform; sizes and outlines from the species. Lengths um, times s.
Knows swimmers, species and routes; nothing of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from casa.simulate.routes import RouteFrame
from casa.simulate.species import sample_heads
from casa.simulate.swimmers import MODES, Mode, Swimmers, sample_swimmers

FloatArray = NDArray[np.float64]

#: Classes as VISEM-Tracking numbers them.
SPERM, CLUSTER, SMALL = 0, 1, 2
_HEADLESS_SHARE = 0.03
_ASTRAY_UM_S = 5.0  # slower heads of a route point anywhere


@dataclass(frozen=True, slots=True)
class Population:
    """n cells: swimmers; place_um (n, 2) head centres at time 0; shape (n, 3) outlines; small, headless (n,) bool;
    cluster (n,) int64 number of the cluster a cell is in, -1 for none.
    """

    swimmers: Swimmers
    place_um: FloatArray
    shape: FloatArray
    small: NDArray[np.bool_]
    headless: NDArray[np.bool_]
    cluster: NDArray[np.int64]

    def head_um_at(self, t_s: float) -> FloatArray:
        """(n, 2) head centres at one time."""
        if not len(self.place_um):
            return self.place_um
        path = self.swimmers.head_um_at(np.array([0.0, t_s]))
        return self.place_um + path[:, 1] - path[:, 0]


def sample_population(
    rng: np.random.Generator,
    area_um: tuple[float, float],
    count: int,
    species: str,
    defocus_um: float,
    *,
    pinhead_share: float,
    touching_share: float,
    clusters: int,
    route: RouteFrame | None = None,
) -> Population:
    """Draw the cells within an area.

    Parameters
    ----------
    count : single cells, where no ``route`` gives their places. clusters : groups of 4 to 12 heads, added to them.
    pinhead_share : of single cells with small heads. touching_share : of single cells moved to touch another.
    """
    place = rng.uniform(0, 1, (count, 2)) * area_um if route is None else route.xy_um
    singles = len(place)
    sizes = [int(n) for n in rng.integers(4, 13, clusters)]
    cluster = np.concatenate([np.full(singles, -1), np.repeat(np.arange(clusters), sizes)]).astype(np.int64)
    n = len(cluster)
    mix = rng.dirichlet(np.ones(len(MODES)))
    modes = [MODES[k] for k in rng.choice(len(MODES), n, p=mix)]
    for row in range(singles, n):
        modes[row] = Mode.IMMOTILE if rng.uniform() < 0.6 else Mode.NON_PROGRESSIVE
    seed = np.random.SeedSequence(int(rng.integers(1 << 60)))
    swimmers = sample_swimmers(seed.spawn(n), modes, area_um, 0.1, 0.02, defocus_um)
    head, shape, tail = sample_heads(rng, species, n)
    heading, speed, focus = swimmers.heading_rad, swimmers.speed_um_s, swimmers.focus_um
    if route is not None:
        along = np.hypot(*route.velocity_um_s.T)
        goes = np.flatnonzero(along > _ASTRAY_UM_S)
        turn = np.arctan2(route.velocity_um_s[goes, 1], route.velocity_um_s[goes, 0]) - heading[goes, 0]
        heading = heading.copy()
        heading[goes] += turn[:, None]
        speed = speed.copy()
        speed[:singles] = np.minimum(along, 150.0)
        head[:singles] *= np.sqrt(route.size)[:, None]
    small = (rng.uniform(size=n) < pinhead_share) & (cluster < 0)
    head[small] *= rng.uniform(0.3, 0.6, (int(small.sum()), 1))
    place = _touching(rng, place, head[:singles], touching_share) if singles else place.reshape(0, 2)
    grouped, groups_focus = _clusters(rng, area_um, sizes, head[singles:], defocus_um)
    if len(grouped):
        focus = focus.copy()
        focus[singles:, 0] = groups_focus + rng.normal(0, 0.4, len(grouped))
    swimmers = replace(
        swimmers,
        head_um=head,
        tail_um=tail,
        wavelength_um=0.65 * tail * rng.uniform(0.85, 1.2, n),
        heading_rad=heading,
        speed_um_s=speed,
        focus_um=focus,
        # A clump as bright as the sum of its heads would outshine the picture.
        vigour=np.where(cluster < 0, 1.0, 0.6) * swimmers.vigour,
    )
    return Population(
        swimmers=swimmers,
        place_um=np.concatenate([place, grouped]),
        shape=shape,
        small=small,
        headless=(rng.uniform(size=n) < _HEADLESS_SHARE) & (cluster < 0) & ~small,
        cluster=cluster,
    )


def _touching(rng: np.random.Generator, place: FloatArray, head_um: FloatArray, share: float) -> FloatArray:
    """Places with some of the cells moved beside another, about a head's width to a head's length away."""
    place = place.copy()
    for row in np.flatnonzero(rng.uniform(size=len(place)) < share):
        other = int(rng.integers(len(place)))
        if other != row:
            angle = rng.uniform(0, 2 * np.pi)
            away = rng.uniform(0.9, 1.4) * (head_um[row].mean() + head_um[other].mean()) / 2
            place[row] = place[other] + away * np.array([np.cos(angle), np.sin(angle)])
    return place


def _clusters(
    rng: np.random.Generator, area_um: tuple[float, float], sizes: list[int], head_um: FloatArray, defocus_um: float
) -> tuple[FloatArray, FloatArray]:
    """Places (k, 2) of the heads of clumps, each beside one that is there already, and each clump's height (k,)."""
    places: list[FloatArray] = []
    heights: list[float] = []
    row = 0
    for size in sizes:
        start = rng.uniform(0, 1, 2) * area_um
        height = float(rng.normal(0, defocus_um))
        members = [start]
        for k in range(1, size):
            beside = members[int(rng.integers(len(members)))]
            angle = rng.uniform(0, 2 * np.pi)
            away = rng.uniform(0.6, 1.0) * head_um[row + k].mean()
            members.append(beside + away * np.array([np.cos(angle), np.sin(angle)]))
        places += members
        heights += [height] * size
        row += size
    return np.array(places).reshape(-1, 2), np.array(heights)
