"""What every grading network gives, and what it is told of itself: the interface that training and grading share.

A network takes clips (b, 3, t, h, w) float32 as ``casa.grade.prepare`` makes them, and gives a ``Prediction``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

#: Grades A to E: what each head gives.
N_GRADES = 5


class Prediction(NamedTuple):
    """Logits (b, 5) of each head, and what they were made from; None where the network has no such head.

    ``features`` are v^g, v^s, v^t (b, d) of Eq. 8 and 11, in this order and without those that are missing: the
    diversity loss (Eq. 18) is of their pairs. ``selected`` (b, t, k) int64 are the patches of each frame that were
    selected, best first.
    """

    global_: Tensor | None
    spatial: Tensor | None = None
    temporal: Tensor | None = None
    features: tuple[Tensor, ...] = ()
    selected: Tensor | None = None

    @property
    def parts(self) -> list[Tensor]:
        """The logits that there are: each has a loss of its own (Eq. 13)."""
        return [part for part in (self.global_, self.spatial, self.temporal) if part is not None]

    @property
    def distribution(self) -> Tensor:
        """The grade distribution (b, 5): the mean of the parts' distributions (Eq. 20)."""
        return torch.stack([part.softmax(-1) for part in self.parts]).mean(0)


class Network(nn.Module):
    """A module that knows which network it is; ``config`` is a frozen dataclass with ``size_px`` and ``frames``."""

    name: str
    size: str
    variant: str
    config: Any

    if TYPE_CHECKING:

        def __call__(self, clips: Tensor) -> Prediction:
            """Clips (b, 3, frames, size_px, size_px)."""
            ...
