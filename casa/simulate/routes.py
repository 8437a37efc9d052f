"""Real label tables as routes: where heads lay in a frame of a real recording, where they went, how large they were.

Tables are those of `visem_tracking_labels` (VISEM-Tracking, CC BY 4.0) or any tracks table of whole frames. Their
boxes are interpolated between key frames: good for places, headings and densities, not for the beat of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from casa.errors import InputError
from casa.types import TrackTable

FloatArray = NDArray[np.float64]

#: Scale of VISEM's pictures as its authors give it (x400 on a camera of 640x480), about.
ROUTE_UM_PER_PX = 0.4
ROUTE_SIZE_UM = (640 * ROUTE_UM_PER_PX, 480 * ROUTE_UM_PER_PX)
_ROUTE_FPS_HZ = 49.0
_STEP_FRAMES = 6  # a velocity is taken over: the key frames' distance


@dataclass(frozen=True, slots=True)
class RouteFrame:
    """Heads of one real frame: xy_um (n, 2), velocity_um_s (n, 2), size (n,) as a factor on the recording's median."""

    xy_um: FloatArray
    velocity_um_s: FloatArray
    size: FloatArray


class Routes:
    """Recordings to draw frames from; each recording is drawn as often as any other."""

    def __init__(self, tables: list[TrackTable]) -> None:
        if not tables:
            raise InputError("routes: expected at least one label table, got none")
        self._recordings = [_Recording(table) for table in tables]

    def __len__(self) -> int:
        return len(self._recordings)

    def sample(self, rng: np.random.Generator, area_um: tuple[float, float]) -> RouteFrame:
        """A frame of a recording, mirrored and moved at random and repeated as needed to fill an area (w, h), um."""
        recording = self._recordings[int(rng.integers(len(self._recordings)))]
        xy, velocity, size = recording.frame(int(rng.integers(recording.n_frames)))
        mirror, tile = rng.choice([-1.0, 1.0], 2), np.array(ROUTE_SIZE_UM)
        xy, velocity = xy * mirror, velocity * mirror
        if rng.uniform() < 0.5:
            xy, velocity, tile = xy[:, ::-1], velocity[:, ::-1], tile[::-1]
        xy = np.mod(xy + rng.uniform(0, tile, 2), tile)
        counts = np.ceil(np.array(area_um) / tile).astype(int)
        shifts = np.stack(np.meshgrid(*(np.arange(n) for n in counts)), axis=-1).reshape(-1, 2) * tile
        tiled = (xy[None] + shifts[:, None]).reshape(-1, 2)
        inside = (tiled < area_um).all(1)
        repeated = np.tile(velocity, (len(shifts), 1))[inside]
        return RouteFrame(tiled[inside], repeated, np.tile(size, len(shifts))[inside])


class _Recording:
    """One table, sorted by frame, with velocities."""

    def __init__(self, table: TrackTable) -> None:
        table = table.select(np.lexsort((table.frame, table.track_id)))
        if not len(table) or not np.isfinite(table.cx_px).all() or not (table.w_px > 0).all():
            raise InputError("routes: a label table is empty, or has rows without a place or size")
        xy = np.stack([table.cx_px, table.cy_px], axis=1) * ROUTE_UM_PER_PX
        row = np.arange(len(table))
        ends = np.searchsorted(table.track_id, table.track_id, side="right") - 1
        starts = np.searchsorted(table.track_id, table.track_id, side="left")
        after, before = np.minimum(row + _STEP_FRAMES // 2, ends), np.maximum(row - _STEP_FRAMES // 2, starts)
        seconds = np.maximum(table.frame[after] - table.frame[before], 1) / _ROUTE_FPS_HZ
        velocity = (xy[after] - xy[before]) / seconds[:, None]
        extent = np.sqrt(table.w_px * table.h_px)
        order = np.argsort(table.frame, kind="stable")
        self._xy, self._velocity = xy[order], velocity[order]
        self._size = (np.clip(extent / np.median(extent), 0.6, 1.7))[order]
        self._start = np.searchsorted(table.frame[order], np.arange(int(table.frame.max()) + 2))
        self.n_frames = int(table.frame.max()) + 1

    def frame(self, index: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Places, velocities and sizes in one frame; may be of no heads."""
        rows = slice(int(self._start[index]), int(self._start[index + 1]))
        return self._xy[rows], self._velocity[rows], self._size[rows]


def read_routes(folder: Path) -> Routes:
    """All tables ``*.csv.gz`` (or ``*.csv``) of a folder, in order of their names.

    Raises
    ------
    InputError : the folder has none, or one of them is no tracks table.
    """
    from casa.tables import read_tracks

    paths = sorted([*folder.glob("*.csv.gz"), *folder.glob("*.csv")])
    if not paths:
        raise InputError(f"{folder}: has no label tables (*.csv.gz); give the folder of visem_tracking_labels")
    return Routes([read_tracks(path, fps_hz=_ROUTE_FPS_HZ) for path in paths])
