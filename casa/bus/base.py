"""What all messages are made of: their base, bounded numbers and texts, and the check of pictures."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from casa.bus.array import Array

#: Nothing longer is sent or taken: a 16-bit colour picture of 3000 x 3000 px is below it.
MAX_MESSAGE_BYTES = 64 << 20

Count = Annotated[int, Meta(ge=0, le=1 << 62)]
Time = Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
Name = Annotated[str, Meta(max_length=80)]
Line = Annotated[str, Meta(max_length=500)]
Text = Annotated[str, Meta(max_length=10_000)]
FieldNumber = Annotated[int, Meta(ge=0, le=1)]


class Message(Struct, tag_field="type", frozen=True, eq=False):
    """What all messages share: ``type`` on the wire names the kind."""


def check_image(image: Array) -> None:
    """Raise ValueError unless the array is a picture."""
    if image.dtype not in ("u1", "u2"):
        raise ValueError(f"image: expected u1 or u2, got {image.dtype}")
    if len(image.shape) not in (2, 3) or (len(image.shape) == 3 and image.shape[2] != 3):
        raise ValueError(f"image: expected (h, w) or (h, w, 3), got {image.shape}")
