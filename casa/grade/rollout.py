"""Where a network looked: attention rollout (Abnar and Zuidema 2020) over attention to space, and pictures of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from casa.cells import Clip
from casa.grade.prepare import frame_indices

if TYPE_CHECKING:
    from torch import Tensor


def rollout(maps: Tensor, margin: int = 0) -> Tensor:
    """How [CLS] came to each patch through all layers: (b, t, n), at most 1 in each frame.

    ``maps`` (layers, b, t, 1 + n, 1 + n) are attention to space, the mean over heads, rows summing to one. Each is
    mixed evenly with the identity, for the residual path, and they are multiplied, each frame for itself. ``margin``
    patches on each side, which the network did not look at, are added as zeros.
    """
    import torch

    identity = torch.eye(maps.shape[-1], dtype=maps.dtype, device=maps.device)
    joint = (maps[0] + identity) / 2
    for layer in maps[1:]:
        joint = (layer + identity) / 2 @ joint
    cls = joint[:, :, 0, 1:]
    cls = cls / cls.amax(-1, keepdim=True)
    if not margin:
        return cls
    side = round(int(cls.shape[-1]) ** 0.5)
    return torch.nn.functional.pad(cls.unflatten(-1, (side, side)), [margin] * 4).flatten(-2)


def spread(maps: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
    """Maps (t, rows, columns) of patches as maps (t, size_px, size_px) of pixels, smoothly."""
    import cv2

    return np.stack([cv2.resize(m, (size_px, size_px), interpolation=cv2.INTER_CUBIC) for m in maps]).clip(0, 1)


def draw_attention(clip: Clip, maps: NDArray[np.float32], zoom: int = 1) -> NDArray[np.uint8]:
    """A picture (2 * h, t * w, 3) uint8 RGB: the frames that the network saw, and below them where it looked.

    ``maps`` (t, rows, columns) as ``Grader.attention`` gives them; the colours of each frame go from the patch that was
    looked at least to the one that was looked at most.
    """
    import cv2

    size = clip.images.shape[1] * zoom
    seen = clip.images[frame_indices(len(clip), len(maps))]
    gray = np.stack([cv2.resize(p, (size, size), interpolation=cv2.INTER_CUBIC) for p in seen])
    heat = (spread(_contrast(maps), size) * 255).astype(np.uint8)
    colour = np.stack([cv2.applyColorMap(h, cv2.COLORMAP_INFERNO)[..., ::-1] for h in heat])
    weight = (heat / 255.0)[..., None] * 0.65
    plain = np.repeat(gray[..., None], 3, axis=-1)
    over = (plain * (1 - weight) + colour * weight).astype(np.uint8)
    return np.concatenate([np.concatenate(list(plain), axis=1), np.concatenate(list(over), axis=1)], axis=0)


def _contrast(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each frame's map from 0 to 1; of patches that were not looked at (0) nothing is shown. An even map stays dark."""
    looked = np.where(maps > 0, maps, np.inf).min(axis=(1, 2), keepdims=True)
    least = np.where(np.isfinite(looked), looked, 0)
    span = np.maximum(maps.max(axis=(1, 2), keepdims=True) - least, 0.05)
    return ((maps - least) / span).clip(0, 1).astype(np.float32)
