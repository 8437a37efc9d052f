"""Score pseudo-masks on rendered heads, and time them on one core: IoU, direction, abstentions, crops a second.

    python tools/score_pseudo_masks.py [--count 400] [--seed 20261]

Times are of the process's own CPU clock, beside non-local means alone with the usual windows in the same run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np

from casa.morphology.pseudo_masks import HeadMask, pseudo_masks
from casa.simulate.heads import HEAD_PRESETS, render_heads


def per_second(work: Callable[[], object], count: int, runs: int = 5) -> float:
    """Median of ``runs``, by the process's CPU time."""
    rates = []
    for _ in range(runs):
        start = time.process_time()
        work()
        rates.append(count / (time.process_time() - start))
    return float(np.median(rates))


def score(preset: str, count: int, seed: int) -> str:
    """One line for a preset."""
    heads = render_heads(count, preset, seed)
    iou, error = [], []
    for k, found in enumerate(pseudo_masks(heads.images)):
        if not isinstance(found, HeadMask):
            continue
        truth = heads.head[k]
        iou.append((found.head & truth).sum() / (found.head | truth).sum())
        error.append(abs((found.direction_deg - heads.direction_deg[k] + 180) % 360 - 180))
    few = heads.images[:60]
    gray = np.ascontiguousarray(few[0] if few.ndim == 3 else few[0, ..., 1])
    rate = per_second(lambda: pseudo_masks(few), len(few))
    alone = per_second(lambda: [cv2.fastNlMeansDenoising(gray, None, 10, 7, 21) for _ in range(20)], 20)
    return (
        f"{preset:7} {heads.images.shape[1]:4} px  IoU mean {np.mean(iou):.3f} median {np.median(iou):.3f} "
        f">= .9: {np.mean(np.array(iou) >= 0.9):.1%}  within 15 deg {np.mean(np.array(error) <= 15):.1%}  "
        f"abstained {count - len(iou)} of {count}  {rate:.0f}/s (denoising 7/21 alone {alone:.0f}/s)"
    )


def main() -> None:
    """Score every preset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=20261)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    for preset in HEAD_PRESETS:
        print(score(preset, given.count, given.seed), flush=True)


if __name__ == "__main__":
    main()
