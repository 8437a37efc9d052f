"""What of a clip a network looks at: a whole picture or its middle, gray levels alone or what changes in time besides.

Every network can be given the same look, so that a comparison is of what they make of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Look:
    """Size and number of a clip's pictures as a network takes them, and what of them it uses."""

    size_px: int = 224
    frames: int = 16
    crop_px: int = 0  # of a picture only the middle is looked at, where the head is; 0: all of it
    motion: bool = False  # two of the three equal channels become what changes in time

    @property
    def seen_px(self) -> int:
        """Size of what is looked at."""
        return self.crop_px or self.size_px

    def seen(self, clips: Tensor) -> Tensor:
        """What of clips (b, 3, t, h, w) is looked at, (b, 3, t, seen_px, seen_px)."""
        size = self.seen_px
        first = (int(clips.shape[-1]) - size) // 2  # of pictures that were cut to the middle before, still the middle
        clips = clips[..., first : first + size, first : first + size]
        return with_motion(clips) if self.motion else clips


#: By how much changes in time are enlarged to be about as large as gray levels.
MOTION_GAIN = 4.0


def with_motion(clips: Tensor) -> Tensor:
    """Gray clips (b, 3, t, h, w) with, in the second and third channel, how much each pixel differs from the frame
    before (the first: from the next) and from its mean over the clip: a beating tail and a rolling head light up.
    """
    gray = clips[:, 0]
    before = torch.cat([gray[:, 1:2], gray[:, :-1]], dim=1)
    changes = torch.stack([gray - before, gray - gray.mean(1, keepdim=True)], dim=1).abs()
    return torch.cat([gray[:, None], MOTION_GAIN * changes], dim=1)
