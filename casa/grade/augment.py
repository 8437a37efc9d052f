"""Changes to clips that keep their grade: turns, mirrors, light, small shifts, the same for all frames of a clip.

What an expert judges (form, beat and path) stays as it is: frames keep their order and spacing, nothing is scaled or
blurred.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from casa.config import Fraction, NonNegative, Section


class AugmentConfig(Section):
    """How strongly the clips trained on are changed; all zeros and false: not at all."""

    flips: bool = Field(default=True, description="mirror left-right or up-down, each at even odds")
    turns: bool = Field(default=True, description="turn by a right angle, each at the same odds")
    gain: Fraction = Field(default=0.2, description="largest change of contrast about the clip's mean, as a share")
    offset: NonNegative = Field(default=0.2, description="largest change of brightness, in sd of the input (0.225)")
    shift_px: Annotated[int, Field(ge=0)] = Field(default=2, description="largest shift per axis, network's px")


def augment(pictures: Tensor, config: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """Changed copies of ``pictures``, (n, t, s, s) normalised gray; each clip is changed in its own way.

    A shift repeats the edge: the part that comes into view has never been seen.
    """
    n, _, size, _ = pictures.shape
    gain = rng.uniform(-config.gain, config.gain, n).astype(np.float32)
    offset = rng.uniform(-config.offset, config.offset, n).astype(np.float32)
    mirrored = rng.integers(2, size=(n, 2), dtype=np.int64) * config.flips
    quarters = rng.integers(4, size=n) * config.turns
    shifts = rng.integers(-config.shift_px, config.shift_px + 1, size=(n, 2))
    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    factors = torch.from_numpy(1 + gain).to(pictures).view(n, 1, 1, 1)
    changed = (pictures - mean) * factors + mean + torch.from_numpy(offset).to(pictures).view(n, 1, 1, 1)
    out = torch.empty_like(changed)
    steps = torch.arange(size, device=pictures.device)
    for index in range(n):
        clip = changed[index]
        axes = [axis for axis, mirror in zip((-2, -1), mirrored[index], strict=True) if mirror]
        clip = torch.rot90(clip.flip(axes) if axes else clip, int(quarters[index]), (-2, -1))
        rows, columns = ((steps - int(by)).clamp(0, size - 1) for by in shifts[index])
        out[index] = clip[:, rows][:, :, columns]
    return out
