"""Interlaced video: finding it by measurement, telling which field came first, and separating the fields.

Many interlaced recordings are flagged progressive (the flag is lost when they are cut or converted again), so
the flag is believed only where the picture cannot answer.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Gray levels (of 255) by which a pixel has to change between frames to count as moving: above compression noise.
MOVING_ABOVE = 8
# Asymmetry of a combed picture is 2 where motion is slow and noise absent, about 1.3 on compressed real ones;
# of a progressive one 0 (|0.01| measured on real ones).
ASYMMETRY_ABOVE = 0.4
# Standard errors by which the difference has to stand out of its scatter from pair to pair.
SIGNIFICANCE_ABOVE = 4.0
PAIRS_AT_LEAST = 3
MOVING_PIXELS_AT_LEAST = 200


@dataclass(frozen=True, slots=True)
class Combing:
    """What was measured in a few consecutive frames.

    Parameters
    ----------
    asymmetry : see `measure_combing`; positive: bottom field first, negative: top field first.
    significance : the difference in standard errors over the pairs of frames.
    pairs : pairs of frames in which something moved.
    decided : whether there was enough motion to tell.
    """

    asymmetry: float
    significance: float
    pairs: int
    decided: bool

    @property
    def combed(self) -> bool:
        """Whether the two fields of a frame were taken at different times."""
        return self.decided and abs(self.asymmetry) > ASYMMETRY_ABOVE and abs(self.significance) > SIGNIFICANCE_ABOVE

    @property
    def bottom_first(self) -> bool:
        """Whether the odd lines are the earlier ones, where combed."""
        return self.asymmetry > 0


def measure_combing(images: Sequence[NDArray[Any]]) -> Combing:
    """Whether consecutive pictures are interlaced, from the times at which their even and odd lines fit.

    Lines of one parity are compared with the mean of their neighbours of the other, over moving pixels: within
    the frame (W), even lines against the previous frame's odd ones (E), and odd against the previous frame's
    even ones (O). In a progressive video both crossings span one whole interval, so E = O whatever the content,
    the noise and the motion; in an interlaced one they span half of one and one and a half. The asymmetry is
    (E - O) / ((E + O) / 2 - W), summed over pairs of frames.

    Parameters
    ----------
    images : at least two (h, w) gray pictures of one size, uint8.
    """
    sums, pairs = np.zeros(3), 0
    differences = []
    moving_pixels = 0
    for before, after in itertools.pairwise(images):
        height = after.shape[0] // 2 * 2
        now, past = after[:height].astype(np.int16), before[:height].astype(np.int16)
        moving = np.abs(now - past) > MOVING_ABOVE
        mask = (moving[0::2] | moving[1::2])[1:-1]
        count = int(mask.sum())
        if count == 0:
            continue
        within = _parity_distance(now[0::2], now[1::2], mask)
        even_past_odd = _parity_distance(now[0::2], past[1::2], mask)
        odd_past_even = _parity_distance(past[0::2], now[1::2], mask)
        sums += (within, even_past_odd, odd_past_even)
        differences.append(even_past_odd - odd_past_even)
        moving_pixels += count
        pairs += 1
    within, even_past_odd, odd_past_even = sums.tolist()
    motion = (even_past_odd + odd_past_even) / 2 - within
    scatter = float(np.std(differences, ddof=1) * np.sqrt(pairs)) if pairs > 1 else 0.0
    difference = even_past_odd - odd_past_even
    return Combing(
        asymmetry=difference / motion if motion > 0 else 0.0,
        significance=difference / max(scatter, 1e-9),
        pairs=pairs,
        decided=pairs >= PAIRS_AT_LEAST and moving_pixels >= MOVING_PIXELS_AT_LEAST and motion > 0.05 * within,
    )


def _parity_distance(even: NDArray[np.int16], odd: NDArray[np.int16], mask: NDArray[np.bool_]) -> float:
    """Sum of |line - mean of its two neighbours of the other parity|, even and odd, in half gray levels."""
    at_even = np.abs(2 * even[1:] - odd[:-1] - odd[1:])  # at lines 2, 4, ...
    at_odd = np.abs(2 * odd[:-1] - even[:-1] - even[1:])  # at lines 1, 3, ...
    return float(at_even[:-1][mask].sum(dtype=np.int64) + at_odd[1:][mask].sum(dtype=np.int64))


def separate_fields(image: NDArray[Any], bottom_first: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """The two fields of a frame in order of time, each as a picture of full height.

    A field's own lines stay where they are in the frame (even lines of the top field, odd ones of the bottom
    field), and each line between is the mean of the two around it: so a thing that does not move is at the same
    height in both. The outermost line without two neighbours repeats the nearest.

    Parameters
    ----------
    image : (h, w) or (h, w, 3), unsigned; h at least 2.
    """
    top, bottom = np.empty_like(image), np.empty_like(image)
    top[0::2], bottom[1::2] = image[0::2], image[1::2]
    even, odd = image[0::2], image[1::2]
    between = top[1::2]
    between[: len(even) - 1] = _mean(even[:-1], even[1:])
    if len(between) == len(even):
        between[-1] = even[-1]
    between = bottom[0::2]
    between[0] = odd[0]
    between[1 : len(odd)] = _mean(odd[:-1], odd[1:])
    if len(between) > len(odd):
        between[-1] = odd[-1]
    return (bottom, top) if bottom_first else (top, bottom)


def _mean(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Mean of two unsigned arrays, rounded up, in their own type (no widening: this runs on every frame)."""
    return (a | b) - ((a ^ b) >> 1)
