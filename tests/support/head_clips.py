"""Clips of rendered heads, sharp and blurred, for what looks at heads in clips."""

from __future__ import annotations

import cv2
import numpy as np

from casa.cells import Clip
from casa.simulate.heads import HeadPreset, render_heads

SCALE_UM_PER_PX = 0.2


def clip_of(blur: tuple[float, ...], flags: tuple[int, ...] | None = None, um_per_px: float | None = SCALE_UM_PER_PX):
    """A head of phase contrast in the middle of pictures of 150 px, each blurred by so many px."""
    kind = HeadPreset("phase", 45, SCALE_UM_PER_PX, 5)
    head = render_heads(1, kind, seed=4, class_shares=(1, 0, 0, 0, 0))
    background = int(np.median(head.images[0][:4]))
    picture = np.full((150, 150), background, np.uint8)
    picture[52:97, 52:97] = head.images[0]
    images = [cv2.GaussianBlur(picture, (0, 0), sigma) if sigma else picture for sigma in blur]
    n = len(images)
    clip = Clip(
        1, 7, np.arange(n), np.arange(n) * 66_000_000, np.stack(images), np.full((n, 2), 100.0), np.ones(n, np.float32),
        np.array(flags or (0,) * n), um_per_px,
    )  # fmt: skip
    return clip, float(head.direction_deg[0])
