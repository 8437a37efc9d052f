"""The overlay: a stored picture of the field with boxes, ids and paths drawn over it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from casa.errors import CasaError
from casa.report.charts import svg
from casa.report.paths import Scale, path_data, scale_bar
from casa.types import TrackTable

MAX_WIDTH_PX = 1280
#: A track is boxed where it was put out this near in time: the first frames of a track come before it is confirmed.
NEAR_S = 0.12
REACH_S = 1.0
#: Height of a label's letters in tenths of a pixel of a picture of 640 px.
LETTER = 88.0

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Overlay:
    """The drawing, with what its caption says."""

    drawing: Markup
    frame: int
    time_s: float
    n_boxes: int


def to_eight_bit(image: NDArray[Any]) -> NDArray[np.uint8]:
    """An 8-bit picture; deeper ones are stretched from their 0.5th to their 99.5th percentile."""
    if image.dtype == np.uint8:
        return image
    low, high = np.percentile(image, [0.5, 99.5])
    return np.clip((image.astype(np.float64) - low) * (255 / max(float(high - low), 1e-9)), 0, 255).astype(np.uint8)


def jpeg_data_uri(image: NDArray[Any]) -> str:
    """A JPEG of at most MAX_WIDTH_PX as a ``data:`` address; ``image`` is (h, w) gray or (h, w, 3) RGB."""
    import cv2

    image = to_eight_bit(image)
    height, width = image.shape[:2]
    if width > MAX_WIDTH_PX:
        size = (MAX_WIDTH_PX, max(1, round(height * MAX_WIDTH_PX / width)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    if image.ndim == 3:
        image = np.ascontiguousarray(image[:, :, ::-1])
    done, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 84])
    if not done:
        raise CasaError(f"the field's picture of {width}x{height} px could not be encoded as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(coded.tobytes()).decode("ascii")


def choose_picture(times_ns: Sequence[int], table: TrackTable) -> int:
    """Which picture shows most tracks: the one with most rows within NEAR_S of its time, the first of equals."""
    rows = np.sort(table.t_ns)
    near = round(NEAR_S * 1e9)
    counts = [np.searchsorted(rows, t + near, "right") - np.searchsorted(rows, t - near) for t in times_ns]
    return int(np.argmax(counts))


def nearest_rows(table: TrackTable, t_ns: int) -> NDArray[np.int64]:
    """For each track put out near ``t_ns``, the row of ``table`` nearest to it."""
    rows = np.flatnonzero(np.abs(table.t_ns - t_ns) <= round(NEAR_S * 1e9))
    rows = rows[np.lexsort((np.abs(table.t_ns[rows] - t_ns), table.track_id[rows]))]
    return rows[np.unique(table.track_id[rows], return_index=True)[1]]


def _label_place(
    box: Box, n_letters: int, size: float, field: tuple[float, float], taken: list[Box]
) -> tuple[float, float]:
    """Where a box's label starts (baseline): the first of four places beside it that is in the field and free.

    Adds the place to ``taken``. When all are taken the first one in the field is used.
    """
    left, top, width, height = box
    long, tall, gap = n_letters * size * LETTER * 0.6, size * LETTER, size * 15
    right, low = left + width + gap, top + height
    corners = [(right, top), (right, low - tall), (left - gap - long, top), (left - gap - long, low - tall)]
    corners += [(left, top - tall - gap), (left, low + gap)]
    inside = [(x, min(max(y, 0.0), field[1] - tall)) for x, y in corners if 0 <= x <= field[0] - long]
    free = [
        (x, y)
        for x, y in inside
        if all(x + long < bx or bx + bw < x or y + tall < by or by + bh < y for bx, by, bw, bh in taken)
    ]
    x, y = (free or inside or [(max(field[0] - long, 0.0), max(top, 0.0))])[0]
    taken.append((x, y, long, tall))
    return x, y + 0.82 * tall


def overlay(
    image: NDArray[Any],
    index: int,
    t_ns: int,
    table: TrackTable,
    shades: Mapping[int, str],
    scale: Scale,
    start_ns: int,
    numbered: bool = True,
) -> Overlay:
    """The picture with every track near it: box, id and grade letter, and its path within a second of the picture.

    Not ``numbered`` it is to be shown small: grade letters alone, and larger.
    """
    height, width = image.shape[:2]
    near = table.select(np.abs(table.t_ns - t_ns) <= round(REACH_S * 1e9))
    near = near.select(np.argsort(near.t_ns, kind="stable"))
    boxed = nearest_rows(near, t_ns)
    size = width / 640 * (1.0 if numbered else 1.7)
    body = [
        f'<image href="{jpeg_data_uri(image)}" x="0" y="0" width="{width * 10}" height="{height * 10}" '
        'preserveAspectRatio="none"/>'
    ]
    labels: list[str] = []
    taken: list[Box] = []
    for row in boxed:
        track_id = int(near.track_id[row])
        kind = shades.get(track_id, "u")
        mine = near.track_id == track_id
        d = path_data(near.x_measured_px[mine], near.y_measured_px[mine])
        left, top = near.cx_px[row] - near.w_px[row] / 2, near.cy_px[row] - near.h_px[row] / 2
        drawn_box = (
            f'x="{left * 10:.0f}" y="{top * 10:.0f}" width="{near.w_px[row] * 10:.0f}" '
            f'height="{near.h_px[row] * 10:.0f}" rx="{size * 20:.0f}"'
        )
        body.append(f'<path d="{d}" class="casing"/><path d="{d}" class="on-{kind}"/>')
        body.append(f'<rect {drawn_box} class="casing"/><rect {drawn_box} class="on-{kind}"/>')
        letter = kind if kind != "u" else ""
        words = f"{track_id} {letter}".strip() if numbered else letter
        box = (float(left) * 10, float(top) * 10, float(near.w_px[row]) * 10, float(near.h_px[row]) * 10)
        x, y = _label_place(box, len(words), size, (width * 10, height * 10), taken)
        if not words:
            continue
        labels.append(
            f'<text x="{x:.0f}" y="{y:.0f}" class="id" font-size="{size * LETTER:.0f}">{escape(words)}</text>'
        )
    body += labels
    foot = size * 240
    body.append(
        scale_bar(width * 10 - size * 20, height * 10 + foot * 0.8, width * 10, 10 / scale.x, scale.unit, size * 100)
    )
    said = f"Picture of the field, frame {index}, with {len(boxed)} tracked sperm boxed" + " and numbered" * numbered
    drawing = svg(width * 10, height * 10 + foot, body, said, "overlay")
    return Overlay(drawing, index, (t_ns - start_ns) / 1e9, len(boxed))
