"""How many heads keep their identity when two cross and one or both are hidden: casa beside other trackers.

    python tools/compare_crossings.py

Pairs of swimmers cross at a given angle, far from all others; for some frames about the crossing one of them, or both,
are not detected. An identity is kept if the same track covers the head shortly before and shortly after. Simulated,
nothing to download; detection noise as in tools/ablate_tracker.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np

from casa.config import TrackConfig
from casa.track import track_table
from casa.types import DetectionTable, FloatArray, TrackTable

ANGLES_DEG = (10, 30, 60, 90, 130, 170)
HIDDEN_FRAMES = (2, 4, 6, 8, 10)
FPS_HZ = 50.0
UM_PER_PX = 0.4
#: Crossings are this far apart; they last two seconds, with the crossing in the middle.
_SPACING_PX, _DURATION_S = 800.0, 2.0
#: An identity is what covers the head this long before and after the crossing, and within this of its centre.
_BESIDE_S, _COVERS_PX = 0.4, 12.0
_FINE = 10

Tracker = Callable[[DetectionTable], TrackTable]


def crossing_pairs(angle_deg: float, n: int, rng: np.random.Generator) -> FloatArray:
    """(frames, n, 2, 2) px head centres of n pairs, each about its own origin, crossing there half-way.

    Speeds 30-90 um/s, heading noise 0.3 rad/sqrt(s), beat 0.4-1.5 um at 8-20 Hz: the straighter half of what swims.
    """
    steps = round(_DURATION_S * FPS_HZ) * _FINE
    dt_s = 1 / (FPS_HZ * _FINE)
    speed = rng.uniform(30, 90, (n, 2)) / UM_PER_PX
    first = rng.uniform(0, 2 * np.pi, n)
    wander = 0.3 * np.sqrt(dt_s) * np.cumsum(rng.standard_normal((steps, n, 2)), axis=0)
    heading = np.stack([first, first + np.radians(angle_deg)], axis=1) + wander - wander[steps // 2]
    path = np.cumsum(speed[..., None] * dt_s * np.stack([np.cos(heading), np.sin(heading)], axis=-1), axis=0)
    path -= path[steps // 2]
    phase = 2 * np.pi * rng.uniform(8, 20, (n, 2)) * (np.arange(steps) * dt_s)[:, None, None]
    beat = rng.uniform(0.4, 1.5, (n, 2)) / UM_PER_PX * np.sin(phase + rng.uniform(0, 2 * np.pi, (n, 2)))
    path += beat[..., None] * np.stack([-np.sin(heading), np.cos(heading)], axis=-1)
    return path[::_FINE]


def crossing_case(
    angle_deg: float, hidden: int, both: bool, n: int, rng: np.random.Generator
) -> tuple[DetectionTable, FloatArray]:
    """Detections of n crossings at one angle, and the heads' true centres (frames, n, 2, 2)."""
    xy = crossing_pairs(angle_deg, n, rng)
    side = int(np.ceil(np.sqrt(n)))
    xy += (_SPACING_PX * (1 + np.stack([np.arange(n) % side, np.arange(n) // side], axis=1)))[None, :, None]
    frames = len(xy)
    seen = rng.random(xy.shape[:3]) > 0.02
    start = frames // 2 - hidden // 2
    seen[start : start + hidden, :, 0] = False
    if both:
        seen[start : start + hidden, :, 1] = False
    frame, pair, head = np.nonzero(seen)
    size = np.exp(rng.normal(np.log(20.0), 0.12, (n, 2, 2)))[pair, head] * np.exp(rng.normal(0, 0.08, (len(frame), 2)))
    found = xy[frame, pair, head] + rng.normal(0, 1.2, (len(frame), 2))
    table = DetectionTable(
        frame=frame,
        field=np.zeros(len(frame), np.int64),
        t_ns=np.round(frame * 1e9 / FPS_HZ).astype(np.int64),
        cx_px=found[:, 0],
        cy_px=found[:, 1],
        w_px=size[:, 0],
        h_px=size[:, 1],
        confidence=rng.beta(6, 2, len(frame)),
        class_id=np.zeros(len(frame), np.int64),
    )
    return table, xy


def identities_kept(tracks: TrackTable, xy: FloatArray) -> float:
    """Fraction of the heads that the same track covers before and after the crossing."""
    ids = []
    for frame in (len(xy) // 2 - round(_BESIDE_S * FPS_HZ), len(xy) // 2 + round(_BESIDE_S * FPS_HZ)):
        here = tracks.select(tracks.frame == frame)
        apart = np.hypot(
            here.cx_px[:, None, None] - xy[frame, None, ..., 0], here.cy_px[:, None, None] - xy[frame, None, ..., 1]
        )
        if len(here) == 0:
            return 0.0
        nearest = apart.argmin(axis=0)
        ids.append(np.where(apart.min(axis=0) <= _COVERS_PX, here.track_id[nearest], -1))
    before, after = ids
    return float(np.mean((before == after) & (before >= 0)))


def kept_by(tracker: Tracker, both: bool, n: int) -> FloatArray:
    """(angles, hidden frames) fraction of identities kept."""
    kept = np.zeros((len(ANGLES_DEG), len(HIDDEN_FRAMES)))
    for i, angle in enumerate(ANGLES_DEG):
        for j, hidden in enumerate(HIDDEN_FRAMES):
            table, xy = crossing_case(angle, hidden, both, n, np.random.default_rng([i, j, both]))
            kept[i, j] = identities_kept(tracker(table), xy)
    return kept


def trackers() -> dict[str, Tracker]:
    """Casa as shipped, casa with a heading term, and the peers that are installed."""
    from casa.bench.peers import peer_trackers

    found: dict[str, Tracker] = {"casa": track_table}
    for weight in (4.0, 12.0):
        found[f"casa, heading_weight {weight:g}"] = partial(track_table, config=TrackConfig(heading_weight=weight))
    return found | {name: peer for name, peer in peer_trackers().items() if name != "norfair"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=60, help="crossings for each angle and number of hidden frames")
    options = parser.parse_args()
    heads = [f"{angle}°" for angle in ANGLES_DEG] + [f"{hidden} frames" for hidden in HIDDEN_FRAMES] + ["all"]
    for both in (False, True):
        print(f"\n{'Both heads' if both else 'One head'} hidden\n\n| tracker | " + " | ".join(heads) + " |")
        print("|---|" + "---|" * len(heads), flush=True)
        for name, tracker in trackers().items():
            kept = kept_by(tracker, both, options.pairs)
            cells = [*kept.mean(axis=1), *kept.mean(axis=0), kept.mean()]
            print(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
