"""Contact sheets of clips: a row a clip, its flags in colour under each picture, to be looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.cells import CLIP_FRAMES, CLIP_RATE_HZ, Clip
from casa.clips.folder import FLAGS
from casa.errors import CasaError

ROWS_PER_SHEET = 12
_PICTURE_PX, _GAP_PX, _BAR_PX, _MARGIN_PX = 104, 4, 5, 24
_LABEL_PX, _HEADER_PX = 172, 78
_ROW_PX = _PICTURE_PX + 2 * _BAR_PX + 12
_PAPER, _INK, _FAINT = (255, 255, 255), (40, 38, 35), (140, 136, 130)
#: RGB of each flag, told apart by those who see red and green alike (Okabe & Ito 2008).
_COLOURS = {
    "border": (86, 180, 233),
    "predicted": (240, 200, 40),
    "crossing": (204, 121, 167),
    "lost": (213, 94, 0),
    "repeated": (0, 0, 0),
}

Image = NDArray[np.uint8]


def contact_sheets(
    clips: Iterable[Clip], total: int, notes: Mapping[int, str] | None = None, kind: str = "clips"
) -> Iterator[Image]:
    """Sheets (h, w, 3) RGB of up to 12 of ``total`` clips each; ``notes`` are put beside a clip by its id.

    ``kind`` is what the title calls the clips: ``simulated clips`` where nobody is to take them for real ones.
    """
    pages = -(-total // ROWS_PER_SHEET)
    left = iter(clips)
    for number, page in enumerate(iter(lambda: list(islice(left, ROWS_PER_SHEET)), []), start=1):
        yield _sheet(page, notes or {}, f"{total} {kind}" + (f", sheet {number} of {pages}" if pages > 1 else ""))


def write_sheets(
    folder: Path, clips: Iterable[Clip], total: int, notes: Mapping[int, str] | None = None, kind: str = "clips"
) -> list[Path]:
    """Write ``sheet-01.png`` and so on (see ``contact_sheets``), and remove older ones; gives their paths.

    Raises
    ------
    CasaError : they cannot be written.
    """
    paths = []
    try:
        for old in folder.glob("sheet-*.png"):
            old.unlink()
        for number, sheet in enumerate(contact_sheets(clips, total, notes, kind), start=1):
            paths.append(folder / f"sheet-{number:02d}.png")
            paths[-1].write_bytes(cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
    except OSError as error:
        raise CasaError(f"{folder}: the contact sheet cannot be written ({error.strerror or error})") from error
    return paths


def _sheet(clips: Sequence[Clip], notes: Mapping[int, str], title: str) -> Image:
    width = 2 * _MARGIN_PX + _LABEL_PX + CLIP_FRAMES * (_PICTURE_PX + _GAP_PX)
    sheet = np.full((_HEADER_PX + len(clips) * _ROW_PX + _MARGIN_PX, width, 3), _PAPER, np.uint8)
    x = _text(sheet, title, _MARGIN_PX, 36, 19, weight=600) + 48
    for name, colour in _COLOURS.items():
        cv2.rectangle(sheet, (x, 28), (x + 22, 27 + _BAR_PX), colour, -1)
        x = _text(sheet, name, x + 30, 35, 14) + 26
    for k in range(0, CLIP_FRAMES, 3):
        _text(sheet, f"{k / CLIP_RATE_HZ:.1f} s", _left(k), _HEADER_PX - 8, 12, _FAINT)
    for row, clip in enumerate(clips):
        top = _HEADER_PX + row * _ROW_PX
        _label(sheet, clip, top, notes.get(clip.clip_id))
        for k in range(len(clip)):
            _picture(sheet, clip, k, _left(k), top)
    return sheet


def _left(picture: int) -> int:
    return _MARGIN_PX + _LABEL_PX + picture * (_PICTURE_PX + _GAP_PX)


def _label(sheet: Image, clip: Clip, top: int, note: str | None) -> None:
    known = clip.score[np.isfinite(clip.score)]
    lines = [
        f"track {clip.track_id}",
        f"from {clip.t_ns[0] / 1e9:.2f} s",
        f"match {np.median(known):.2f}, least {known.min():.2f}" if len(known) else "",
        "" if clip.um_per_px is None else f"{clip.um_per_px:.3g} µm/px",
    ]
    y = top + 18
    _text(sheet, f"clip {clip.clip_id}", _MARGIN_PX, y, 16, weight=600)
    for line in filter(None, lines):
        y += 18
        _text(sheet, line, _MARGIN_PX, y, 13, _FAINT)
    if note:
        _text(sheet, note, _MARGIN_PX, y + 19, 13)


def _picture(sheet: Image, clip: Clip, k: int, left: int, top: int) -> None:
    size = (_PICTURE_PX, _PICTURE_PX)
    small = cv2.resize(clip.images[k], size, interpolation=cv2.INTER_AREA)
    bottom, right, middle = top + _PICTURE_PX, left + _PICTURE_PX, _PICTURE_PX // 2
    sheet[top:bottom, left:right] = small[..., None]
    for start, end in (((middle, 0), (middle, 4)), ((0, middle), (4, middle))):  # where the head is to be
        cv2.line(sheet, (left + start[0], top + start[1]), (left + end[0], top + end[1]), (255, 255, 255))
    raised = [_COLOURS[name] for name, bit in FLAGS.items() if clip.flags[k] & bit]
    for place, colour in enumerate(raised):
        x0, x1 = (left + _PICTURE_PX * part // len(raised) for part in (place, place + 1))
        cv2.rectangle(sheet, (x0, bottom + 2), (x1 - 1, bottom + 1 + _BAR_PX), colour, -1)


def _text(
    sheet: Image, text: str, x: int, y: int, size: int, colour: tuple[int, int, int] = _INK, weight: int = 400
) -> int:
    """Write from (x, y), the baseline; gives where the text ends."""
    end, _ = cv2.putText(sheet, text, (x, y), colour, cv2.FontFace("sans"), size, weight)
    return int(end[0])
