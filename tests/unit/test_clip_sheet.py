"""Contact sheets: a row a clip, flags in their colours, at most twelve rows a sheet."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from casa.cells import Clip, ClipFlag
from casa.clips.sheet import contact_sheets, write_sheets

LOST_RGB = (213, 94, 0)


def clip(number: int, flags: int = 0) -> Clip:
    return Clip(
        number, 1, np.arange(16), np.arange(16) * 66_666_667, np.full((16, 150, 150), 77, np.uint8),
        np.zeros((16, 2)), np.full(16, 0.9, np.float32), np.where(np.arange(16) == 5, flags, 0), 0.4,
    )  # fmt: skip


def count(image: np.ndarray, rgb: tuple[int, int, int]) -> int:
    return int((image == np.array(rgb)).all(-1).sum())


def test_a_row_a_clip_and_twelve_rows_a_sheet():
    sheets = list(contact_sheets([clip(k) for k in range(1, 31)], 30))
    assert [count(sheet, (77, 77, 77)) // count(sheets[-1], (77, 77, 77)) for sheet in sheets] == [2, 2, 1]
    assert len({sheet.shape[1] for sheet in sheets}) == 1


def test_flags_are_marked_in_their_colour():
    (plain,) = contact_sheets([clip(1)], 1)
    (lost,) = contact_sheets([clip(1, ClipFlag.LOST)], 1)
    (both,) = contact_sheets([clip(1, ClipFlag.LOST | ClipFlag.BORDER)], 1)
    marked, shared = (count(sheet, LOST_RGB) - count(plain, LOST_RGB) for sheet in (lost, both))
    assert marked > 300
    assert marked / 3 < shared < marked * 2 / 3


def test_a_note_is_written_beside_its_clip():
    (plain,) = contact_sheets([clip(1), clip(2)], 2)
    (noted,) = contact_sheets([clip(1), clip(2)], 2, {2: "C .62"})
    y, x = np.nonzero((plain != noted).any(-1))
    assert y.min() > plain.shape[0] // 2
    assert x.max() < 200


def test_sheets_replace_older_ones(tmp_path: Path):
    assert len(write_sheets(tmp_path, [clip(k) for k in range(1, 14)], 13)) == 2
    (path,) = write_sheets(tmp_path, [clip(1)], 1)
    assert sorted(tmp_path.iterdir()) == [path]
    assert cv2.imread(str(path)) is not None
