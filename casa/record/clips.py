"""Clips as a recording keeps them: the pictures of each below each other in one PNG, attention maps in another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.cells import Clip
from casa.record.png import decode_png, encode_png
from casa.record.schema import clip_row


@dataclass(frozen=True, slots=True, eq=False)
class KeptClip:
    """A graded clip that is kept, and what the network looked at.

    ``attention`` (n, h, h) uint8 is a map for each picture that the network was given: n of the clip's, evenly spaced.
    """

    clip: Clip
    attention: NDArray[np.uint8] | None = None


def clip_payload(kept: KeptClip) -> bytes:
    """The journal's record of a clip: its row, its pictures, its maps. Raises ValueError where it has another form."""
    clip, attention = kept.clip, kept.attention
    if attention is not None and (attention.ndim != 3 or attention.shape[1] != attention.shape[2]):
        raise ValueError(f"clip {clip.clip_id}: attention maps are (n, h, h), got {attention.shape}")
    png = encode_png(clip.images.reshape(-1, clip.images.shape[2]))
    maps = b"" if attention is None or not attention.size else encode_png(attention.reshape(-1, attention.shape[2]))
    return clip_row(clip, len(png), len(maps)).tobytes() + png + maps


def kept_clip(row: Any, data: bytes) -> KeptClip:
    """A clip from its row and the bytes of its pictures and maps. Raises ValueError where these are damaged."""
    n_png = int(row["length"])
    images = _stack(decode_png(data[:n_png]))
    maps = _stack(decode_png(data[n_png:])) if row["map_length"] else None
    scale = float(row["um_per_px"])
    clip = Clip(
        int(row["clip_id"]), int(row["track_id"]), row["frames"], row["t_ns"], images, row["centre_xy_px"],
        row["score"], row["flags"], None if np.isnan(scale) else scale,
    )  # fmt: skip
    return KeptClip(clip, maps)


def _stack(image: NDArray[Any]) -> NDArray[np.uint8]:
    """(n * s, s) as (n, s, s)."""
    return image.reshape(-1, image.shape[1], image.shape[1])
