"""Heads as a recording keeps them: a row, the crop in one PNG, and what decided over it in another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.cells import HeadExam
from casa.record.png import decode_png, encode_png
from casa.record.schema import head_row


def head_payload(exam: HeadExam) -> bytes:
    """The journal's record of a head: its row, its crop, its heat map. Raises ValueError where it has another form."""
    if len(exam.row) != 1:
        raise ValueError(f"morphology: one row at a time, got {len(exam.row)}")
    crop = b"" if exam.crop is None else encode_png(exam.crop)
    heat = b"" if exam.heat is None or not crop else encode_png(exam.heat)
    return head_row(exam.row, len(crop), len(heat)).tobytes() + crop + heat


def head_pictures(data: bytes, n_crop: int) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """The crop and the heat map of their bytes. Raises ValueError where these are damaged."""
    return decode_png(data[:n_crop]), decode_png(data[n_crop:]) if len(data) > n_crop else None
