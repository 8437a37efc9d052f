"""Charts of one sperm, painted: its clip as it plays, and shares of expert grades. Its head is in ``head_chart``.

Knows numbers and arrays, no feed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import QPointF, QRectF, Qt

from casa.cells import EXPERT_GRADES
from casa.viewer import palette
from casa.viewer.canvas import image_of
from casa.viewer.charts import font, paint_nothing
from casa.viewer.feed import CLIP_FPS

#: One colour from strong to weak, as the grades are in order; the letters tell them apart.
_EXPERT_COLOURS = ("#5fc3ff", "#6fb4e0", "#7fa3bf", "#8a94a3", "#8d8a91")


class GradeBars(QtWidgets.QWidget):
    """Shares of expert grades A to E as bars, with what each part of the network says as marks on them."""

    #: Height of the letters below the bars, and of the line that explains the marks.
    LETTERS, LEGEND = 20, 15

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumHeight(112)
        self._shares: NDArray[np.float64] | None = None
        self._parts: NDArray[np.float64] | None = None
        self._nothing = "not graded by a network"
        self.setToolTip("Bars: the mean. Marks: the network's parts, which look at the whole clip, at single\n"
                        "pictures (space) and at their course (time). Where they differ, it is less sure.")  # fmt: skip

    def set_shares(
        self,
        shares: NDArray[np.float64] | None,
        nothing: str = "not graded by a network",
        parts: NDArray[np.float64] | None = None,
    ) -> None:
        """(5,) adding up to 1, or None; ``parts`` (3, 5) of the whole, of space and of time, NaN where missing."""
        self._shares, self._nothing = shares, nothing
        self._parts = parts if shares is not None and parts is not None and np.isfinite(parts).any() else None
        said = (
            ""
            if shares is None
            else ", ".join(f"{g} {100 * v:.0f} %" for g, v in zip(EXPERT_GRADES, shares, strict=True))
        )
        self.setAccessibleDescription(said or nothing)
        self.update()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: D102
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        if self._shares is None:
            paint_nothing(painter, self, self._nothing)
            return
        below = self.LETTERS + (self.LEGEND if self._parts is not None else 0)
        column, base = self.width() / 5, self.height() - below
        tall = base - 18
        for number, share in enumerate(self._shares.tolist()):
            bar = QRectF(number * column + column * 0.16, base - tall * share, column * 0.68, tall * share)
            painter.fillRect(bar, QtGui.QColor(_EXPERT_COLOURS[number]))
            top = bar.y()
            if self._parts is not None:
                for part, value in enumerate(self._parts[:, number].tolist()):
                    if np.isfinite(value):
                        at = QPointF(bar.x() + bar.width() * (0.2 + 0.3 * part), base - tall * value)
                        self._mark(painter, part, at)
                        top = min(top, at.y() - 3)
            painter.setPen(QtGui.QColor(palette.TEXT))
            painter.setFont(font(self, 11))
            painter.drawText(QRectF(number * column, top - 17, column, 15), int(Qt.AlignmentFlag.AlignCenter),
                             f"{100 * share:.0f} %")  # fmt: skip
            painter.setFont(font(self, 12, True))
            painter.drawText(QRectF(number * column, base + 2, column, 17), int(Qt.AlignmentFlag.AlignCenter),
                             EXPERT_GRADES[number])  # fmt: skip
        painter.setPen(QtGui.QColor(palette.LINE))
        painter.drawLine(QPointF(0, base), QPointF(self.width(), base))
        if self._parts is not None:
            self._paint_legend(painter)

    def _paint_legend(self, painter: QtGui.QPainter) -> None:
        painter.setFont(font(self, 11))
        names = ("whole", "space", "time")
        wide = [painter.fontMetrics().horizontalAdvance(name) + 22 for name in names]
        x, y = max((self.width() - sum(wide)) / 2, 0.0), self.height() - self.LEGEND / 2
        for part, name in enumerate(names):
            self._mark(painter, part, QPointF(x + 5, y))
            painter.setPen(QtGui.QColor(palette.SOFT))
            painter.drawText(QRectF(x + 12, y - 8, wide[part], 16), int(Qt.AlignmentFlag.AlignVCenter), name)
            x += wide[part]

    @staticmethod
    def _mark(painter: QtGui.QPainter, part: int, at: QPointF) -> None:
        """A disc, a square or a triangle: told apart without a colour."""
        painter.setPen(QtGui.QPen(QtGui.QColor(palette.CASING), 1.2))
        painter.setBrush(QtGui.QColor("#ffffff"))
        x, y = at.x(), at.y()
        if part == 0:
            painter.drawEllipse(at, 3.2, 3.2)
        elif part == 1:
            painter.drawRect(QRectF(x - 2.8, y - 2.8, 5.6, 5.6))
        else:
            corners = [QPointF(x - 3.6, y + 2.8), QPointF(x + 3.6, y + 2.8), QPointF(x, y - 3.6)]
            painter.drawPolygon(QtGui.QPolygonF(corners))
        painter.setBrush(Qt.BrushStyle.NoBrush)


class ClipPlayer(QtWidgets.QWidget):
    """A clip, played over and over at its own rate, with where the network looked over it where that is known."""

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumSize(96, 96)
        self.setAccessibleName("Clip")
        self.show_attention = True
        self._clip: Sequence[NDArray[np.uint8]] = ()
        self._attention: NDArray[np.uint8] | None = None
        self._pictures: list[NDArray[np.uint8]] = []
        self._at = 0
        self._timer = QtCore.QTimer(self)
        self._timer.setInterval(round(1000 / CLIP_FPS))
        self._timer.timeout.connect(self._next)

    @property
    def n_pictures(self) -> int:
        """How many pictures are played."""
        return len(self._pictures)

    def picture_now(self) -> NDArray[np.uint8]:
        """The picture that is shown."""
        return self._pictures[self._at]

    def set_clip(self, clip: Sequence[NDArray[np.uint8]], attention: NDArray[np.uint8] | None) -> None:
        """(h, w) pictures, and maps (n, s, s) of n of them, evenly spaced; the same ones go on playing."""
        same = _same(clip, self._clip)
        if same and _same(attention, self._attention):
            return
        self._clip, self._attention = clip, attention
        self._make()
        if not same:
            self._at = 0
        self.update()

    def toggle_attention(self) -> None:
        """Show or hide where the network looked."""
        self.show_attention = not self.show_attention
        self._make()
        self.update()

    def _make(self) -> None:
        maps = self._attention if self.show_attention else None
        self._pictures = [np.ascontiguousarray(picture) for picture in self._clip]
        if maps is not None and len(maps) and self._pictures:
            seen = np.linspace(0, len(self._clip) - 1, len(maps)).astype(np.int64)
            of = np.abs(seen[None] - np.arange(len(self._clip))[:, None]).argmin(axis=1)
            self._pictures = [heat_over(p, spread(maps[k], p.shape)) for p, k in zip(self._pictures, of, strict=True)]

    def _next(self) -> None:
        if self._pictures:
            self._at = (self._at + 1) % len(self._pictures)
            self.update()

    def showEvent(self, event: QtGui.QShowEvent) -> None:  # noqa: D102
        self._timer.start()

    def hideEvent(self, event: QtGui.QHideEvent) -> None:  # noqa: D102
        self._timer.stop()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: D102
        painter = QtGui.QPainter(self)
        if not self._pictures:
            paint_nothing(painter, self, "its clip is not kept")
            return
        painter.setRenderHint(QtGui.QPainter.RenderHint.SmoothPixmapTransform)
        side = min(self.width(), self.height())
        painter.drawImage(QRectF((self.width() - side) / 2, 0, side, side), image_of(self._pictures[self._at]))


def _same(one: Any, other: Any) -> bool:
    """Whether two sequences of pictures are the same."""
    if one is other:
        return True
    if one is None or other is None or len(one) != len(other):
        return False
    return all(a is b or np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def heat_over(head: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(h, w, 3): a head with its heat map, from none over orange to bright yellow; ``heat`` (any size) in [0, 1]."""
    height, width = head.shape[:2]
    rows = np.arange(height) * heat.shape[0] // height
    columns = np.arange(width) * heat.shape[1] // width
    weight = np.clip(heat[rows][:, columns], 0, 1)[..., None]
    colour = np.concatenate([np.full_like(weight, 255), 90 + 165 * weight, 20 + 60 * weight], axis=2)
    gray = head if head.ndim == 3 else np.repeat(head[..., None], 3, axis=2)
    return (gray * (1 - 0.65 * weight) + colour * 0.65 * weight).astype(np.uint8)


def spread(attention: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A map (s, s) of patches over a picture of ``shape``, smoothly; its least is 0 and its most 1."""
    maps = attention.astype(np.float32)
    low, high = float(maps.min()), float(maps.max())
    maps = (maps - low) / max(high - low, 1e-6)
    rows, columns = ((np.arange(n) + 0.5) * s / n - 0.5 for n, s in zip(shape[:2], maps.shape, strict=True))
    across = np.stack([np.interp(columns, np.arange(maps.shape[1]), row) for row in maps])
    return np.stack([np.interp(rows, np.arange(len(maps)), column) for column in across.T], axis=1).astype(np.float32)
