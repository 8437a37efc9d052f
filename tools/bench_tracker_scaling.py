"""CPU time of the tracker by the number of heads in view.

    python tools/bench_tracker_scaling.py

Simulated swimmers at one density (a head on 6,000 px²) in fields of growing size, 50 frames a second, with misses and,
for every fifty heads, a false alarm in each frame. CPU time of the thread in ``Tracker.update``, 50 frames to warm up.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from casa.track import Tracker
from casa.types import Detections

FPS_HZ = 50.0
_AREA_PX2 = 6000.0
_WARM_UP = 50


def swimmers(n: int, frames: int, seed: int = 0) -> list[Detections]:
    """The detections of ``frames`` frames with n heads in a torus."""
    rng = np.random.default_rng(seed)
    field = np.sqrt(n * _AREA_PX2) * np.array([1.15, 0.87])
    xy, velocity = rng.uniform(0, 1, (n, 2)) * field, rng.normal(0, 60, (n, 2))
    out = []
    for k in range(frames):
        velocity += rng.normal(0, 10, (n, 2))
        xy = (xy + velocity / FPS_HZ) % field
        seen = rng.random(n) < 0.93
        alarms = rng.uniform(0, 1, (rng.poisson(n / 50), 2)) * field
        centre = np.concatenate([xy[seen] + rng.normal(0, 1, (int(seen.sum()), 2)), alarms])
        half = rng.uniform(9, 11, centre.shape)
        confidence = np.concatenate([rng.beta(6, 2, int(seen.sum())), rng.beta(2, 3, len(alarms))])
        out.append(
            Detections(
                frame=k,
                t_ns=round(k / FPS_HZ * 1e9),
                xyxy=np.concatenate([centre - half, centre + half], axis=1).astype(np.float32),
                confidence=confidence.astype(np.float32),
                class_id=np.zeros(len(centre), np.int64),
            )
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, nargs="+", default=[50, 100, 300, 1000])
    parser.add_argument("--frames", type=int, default=300)
    options = parser.parse_args()
    print("| heads | tracks kept | median ms | mean ms | 95 % ms |\n|---|---|---|---|---|")
    for n in options.heads:
        pictures, tracker = swimmers(n, _WARM_UP + options.frames), Tracker()
        spent_ms, kept = [], []
        for d in pictures:
            start_s = time.thread_time()
            tracker.update(d)
            spent_ms.append((time.thread_time() - start_s) * 1e3)
            kept.append(len(tracker))
        spent = np.array(spent_ms[_WARM_UP:])
        print(
            f"| {n} | {np.mean(kept[_WARM_UP:]):.0f} | {np.median(spent):.2f} | {spent.mean():.2f} "
            f"| {np.quantile(spent, 0.95):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
