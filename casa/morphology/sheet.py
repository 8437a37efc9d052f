"""Contact sheets: what HPM, and a classifier if there is one, made of each crop, to be looked over by people.

A cell shows the crop; closer, the head's outline with its direction and nucleus; the rings, turned to face right; the
crop so turned; and the heat map where there is one. Below stand its name and its measures, or why there is no head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.errors import CasaError
from casa.morphology.head_parts import moments_ellipse
from casa.morphology.pseudo_masks import HeadMask, HeadProblem

Rgb = tuple[int, int, int]
Picture = NDArray[np.uint8]

#: Sides of tiles and gaps, px; cells beside and below one another on a page.
TILE_PX, _GAP_PX, _MARGIN_PX, _TEXT_PX = 112, 3, 14, 38
CELLS_ACROSS, CELLS_DOWN = 3, 8
_AROUND = 1.9
_PAPER, _INK, _FAINT, _WARNING = (250, 250, 248), (38, 40, 46), (128, 130, 138), (176, 74, 30)
_HEAD, _NUCLEUS, _ARROW = (0, 158, 115), (204, 121, 167), (213, 94, 0)
#: Of the head and the rings about it, surest first.
_RINGS = ((0, 114, 178), (86, 180, 233), (166, 214, 240), (208, 232, 247))


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One crop of a sheet.

    Parameters
    ----------
    image : (h, w) gray or (h, w, 3) RGB, uint8 or uint16. found : its ``HeadMask``, or why there is none.
    title, detail : two lines below. heat : (h, w) in [0, 1], None without one. warn : whether ``detail`` is a warning.
    """

    image: NDArray[Any]
    found: HeadMask | HeadProblem | None
    title: str
    detail: str = ""
    heat: NDArray[np.float32] | None = None
    warn: bool = False


def write_sheets(folder: Path, cells: Sequence[Cell], caption: str) -> list[Path]:
    """Write ``sheet.png``, or ``sheet-1.png`` and on, with ``caption`` on top; returns the files.

    Raises
    ------
    CasaError : the disk refuses.
    """
    size = CELLS_ACROSS * CELLS_DOWN
    pages = [cells[start : start + size] for start in range(0, len(cells), size)]
    files = []
    for number, page in enumerate(pages, 1):
        path = folder / ("sheet.png" if len(pages) == 1 else f"sheet-{number}.png")
        which = caption if len(pages) == 1 else f"{caption}  ({number} of {len(pages)})"
        coded = cv2.imencode(".png", contact_sheet(page, which)[..., ::-1])[1]
        try:
            path.write_bytes(coded.tobytes())
        except OSError as error:
            raise CasaError(f"{path}: cannot be written ({error.strerror}); free space or choose another -o") from error
        files.append(path)
    return files


def contact_sheet(cells: Sequence[Cell], caption: str = "") -> Picture:
    """(h, w, 3) RGB uint8 page of at most ``CELLS_ACROSS`` x ``CELLS_DOWN`` cells."""
    tiles = 5 if any(cell.heat is not None for cell in cells) else 4
    wide = tiles * TILE_PX + (tiles - 1) * _GAP_PX
    high = TILE_PX + _TEXT_PX
    across = min(CELLS_ACROSS, max(1, len(cells)))
    rows = -(-len(cells) // across)
    top = 34 + 20
    page = np.empty((top + rows * (high + _MARGIN_PX), _MARGIN_PX + across * (wide + _MARGIN_PX), 3), np.uint8)
    page[:] = _PAPER
    _write(page, caption, (_MARGIN_PX, 24), _INK, 16, 600)
    heads = ["crop", "head, nucleus", "rings", "turned", "heat map"][:tiles]
    for k in range(len(cells)):
        row, column = divmod(k, across)
        left, y = _MARGIN_PX + column * (wide + _MARGIN_PX), top + row * (high + _MARGIN_PX)
        if row == 0:
            for n, head in enumerate(heads):
                _write(page, head, (left + n * (TILE_PX + _GAP_PX), top - 6), _FAINT, 11)
        _draw_cell(page, cells[k], left, y, tiles)
    return page


def _draw_cell(page: Picture, cell: Cell, left: int, top: int, tiles: int) -> None:
    shown = _stretched(cell.image)
    pictures = [_tile(shown)]
    if isinstance(cell.found, HeadMask):
        turned = np.asarray(_near(shown, cell.found, turned=True), np.uint8)
        pictures += [_outlined(shown, cell.found), _ringed(cell.found), turned]
        if cell.heat is not None:
            pictures.append(_heated(shown, cell.heat, cell.found))
    for n in range(tiles):
        x = left + n * (TILE_PX + _GAP_PX)
        page[top : top + TILE_PX, x : x + TILE_PX] = pictures[n] if n < len(pictures) else (238, 238, 235)
    wide = tiles * (TILE_PX + _GAP_PX)
    _write(page, cell.title[: wide // 7], (left, top + TILE_PX + 14), _INK, 12, 600)
    _write(page, cell.detail[: wide // 6], (left, top + TILE_PX + 30), _WARNING if cell.warn else _FAINT, 12)


def _stretched(image: NDArray[Any]) -> Picture:
    """RGB of 8 bits whose levels use the whole range: unstained crops are pale."""
    low, high = np.percentile(image, (0.5, 99.5)) if image.size else (0.0, 1.0)
    if high <= low:
        return np.full((*image.shape[:2], 3), 205, np.uint8)
    scaled = np.clip((image.astype(np.float32) - low) * (255.0 / max(float(high - low), 1.0)), 0, 255).astype(np.uint8)
    return np.repeat(scaled[..., None], 3, axis=2) if scaled.ndim == 2 else scaled


def _tile(image: Picture) -> Picture:
    """The picture on a square tile, its proportions kept."""
    scale = TILE_PX / max(image.shape[:2])
    width, height = (max(1, round(side * scale)) for side in image.shape[1::-1])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    tile = np.empty((TILE_PX, TILE_PX, 3), np.uint8)
    tile[:] = (238, 238, 235)
    top, left = (TILE_PX - height) // 2, (TILE_PX - width) // 2
    tile[top : top + height, left : left + width] = small
    return tile


def _near(image: NDArray[Any], mask: HeadMask, turned: bool, how: int = cv2.INTER_CUBIC) -> NDArray[Any]:
    """A tile of what is about the head, ``_AROUND`` times as wide as it is long, turned to face right or not."""
    (long, _), _ = moments_ellipse(mask.head.astype(np.uint8))
    scale = TILE_PX / (_AROUND * 2 * max(float(np.hypot(*long)), 2.0))
    matrix = cv2.getRotationMatrix2D(mask.centre_xy_px, mask.direction_deg if turned else 0.0, scale)
    matrix[:, 2] += (TILE_PX - 1) / 2 - np.array(mask.centre_xy_px)
    return cv2.warpAffine(image, matrix, (TILE_PX, TILE_PX), flags=how, borderMode=cv2.BORDER_REPLICATE)


def _inside(part: NDArray[Any], mask: HeadMask, turned: bool) -> Picture:
    """A mask on its tile, its outline smooth."""
    return (_near(part.astype(np.float32), mask, turned, cv2.INTER_LINEAR) > 0.5).astype(np.uint8)


def _outlined(shown: Picture, mask: HeadMask) -> Picture:
    tile = _near(shown, mask, turned=False)
    for part, colour in ((mask.nucleus, _NUCLEUS), (mask.head, _HEAD)):
        contours, _ = cv2.findContours(_inside(part, mask, False), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(tile, contours, -1, colour, 2, cv2.LINE_AA)
    angle, middle = np.radians(mask.direction_deg), np.array([TILE_PX / 2, TILE_PX / 2])
    end = middle + 0.4 * TILE_PX * np.array([np.cos(angle), np.sin(angle)])
    start = middle + 0.16 * TILE_PX * np.array([np.cos(angle), np.sin(angle)])
    (x0, y0), (x1, y1) = start, end
    cv2.arrowedLine(tile, (round(x0), round(y0)), (round(x1), round(y1)), _ARROW, 2, cv2.LINE_AA, tipLength=0.3)
    return np.asarray(tile, np.uint8)


def _ringed(mask: HeadMask) -> Picture:
    tile = np.empty((TILE_PX, TILE_PX, 3), np.uint8)
    tile[:] = (255, 255, 255)
    for layer in range(int(mask.layers.max(initial=0)), 0, -1):
        within = (mask.layers > 0) & (mask.layers <= layer)
        tile[_inside(within, mask, True) > 0] = _RINGS[min(layer, len(_RINGS)) - 1]
    return tile


def _heated(shown: Picture, heat: NDArray[np.float32], mask: HeadMask) -> Picture:
    levels = np.clip(heat * 255, 0, 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    weight = 0.25 + 0.5 * heat[..., None]
    mixed = (shown * (1 - weight) + colours * weight).astype(np.uint8)
    return np.asarray(_near(mixed, mask, turned=True), np.uint8)


def _write(page: Picture, text: str, at: tuple[int, int], colour: Rgb, size: int, weight: int = 400) -> None:
    cv2.putText(page, text, at, colour, cv2.FontFace("sans"), size, weight)  # type: ignore[call-overload]
