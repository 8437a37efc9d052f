"""The head of one sperm, painted: its crop with what decided over it, its classes as bars, its measures; or why not.

Knows ``MorphologyFigures`` and arrays, no feed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PySide6 import QtGui, QtWidgets
from PySide6.QtCore import QPointF, QRectF, Qt

from casa.cells import STRICT_ELLIPTICITY
from casa.viewer import palette
from casa.viewer.canvas import image_of
from casa.viewer.cell_charts import heat_over
from casa.viewer.charts import font, paint_nothing
from casa.viewer.feed import MorphologyFigures

_NOTHING = "no morphology in this session"
_ROW, _LINE, _GAP, _SIDE = 17, 16, 8, 96
BAR = "#5fc3ff"
_FAINT_BAR = "#4a5b6b"


class HeadPicture(QtWidgets.QWidget):
    """A head with what decided over it, its chances by class, its measures, and what speaks against believing them."""

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumHeight(_SIDE)
        self.setAccessibleName("Head morphology")
        self._figures: MorphologyFigures | None = None
        self._nothing = _NOTHING
        self._pictures: list[QtGui.QImage] = []
        self._arrays: list[NDArray[np.uint8]] = []

    def set_figures(self, figures: MorphologyFigures | None, nothing: str = _NOTHING) -> None:
        """What is known of a head; ``nothing`` is said without."""
        if figures is self._figures and nothing == self._nothing:
            return
        self._figures, self._nothing = figures, nothing
        self._arrays, self._pictures = [], []
        if figures is not None and figures.head is not None:
            self._arrays.append(np.ascontiguousarray(figures.head))
            if figures.heat is not None:
                self._arrays.append(heat_over(figures.head, figures.heat))
        self._pictures = [image_of(array) for array in self._arrays]
        self.setAccessibleDescription(said_of(figures) or nothing)
        self.setToolTip(_tip(figures))
        self.setMinimumHeight(self._needed(figures))
        self.update()

    @staticmethod
    def _needed(figures: MorphologyFigures | None) -> int:
        if figures is None or figures.reason:
            return 2 * _ROW
        rows = list(_rows(figures))
        headings = len({part for part, _, _ in rows if part})
        lines = 2 + bool(unsure(figures)) + 2 * bool(figures.outside)
        return max(_SIDE, (len(rows) + headings) * _ROW + lines * _LINE)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: D102
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QtGui.QPainter.RenderHint.SmoothPixmapTransform)
        figures = self._figures
        if figures is None or figures.reason:
            paint_nothing(painter, self, self._nothing if figures is None else f"no class: {figures.reason}")
            return
        n = max(len(self._pictures), 1)
        side = min(float(_SIDE), (self.width() * 0.5 - 4 * n) / n) if self._pictures else 0.0
        for number, picture in enumerate(self._pictures):
            painter.drawImage(QRectF(number * (side + 4), 2, side, side), picture)
        left = len(self._pictures) * (side + 4) + (_GAP if self._pictures else 0)
        bottom = max(self._bars(painter, left, figures), side + 4)
        self._foot(painter, bottom, figures)

    def _bars(self, painter: QtGui.QPainter, left: float, figures: MorphologyFigures) -> float:
        """Bars of the classes from the top; gives where they end."""
        rows = list(_rows(figures))
        painter.setFont(font(self, 12, True))
        names = [name for _, name, _ in rows]
        wide = max((painter.fontMetrics().horizontalAdvance(name) for name in names), default=0) + 6
        y, before = 2.0, ""
        for part, name, chance in rows:
            if part != before:
                painter.setFont(font(self, 11, True))
                painter.setPen(QtGui.QColor(palette.SOFT))
                painter.drawText(QRectF(left, y, self.width() - left, _ROW), int(Qt.AlignmentFlag.AlignVCenter), part)
                y, before = y + _ROW, part
            best = chance >= max(figures.abstain_below, *(p for of, _, p in rows if of == part))
            painter.setFont(font(self, 12, best))
            painter.setPen(QtGui.QColor(palette.TEXT if best else palette.SOFT))
            painter.drawText(QRectF(left, y, wide + 4, _ROW), int(Qt.AlignmentFlag.AlignVCenter), name)
            room = max(self.width() - left - wide - 46, 10.0)
            box = QRectF(left + wide + 4, y + 4, max(room * chance, 1.0), _ROW - 8)
            painter.fillRect(box, QtGui.QColor(BAR if best and not figures.outside else _FAINT_BAR))
            painter.drawText(QRectF(self.width() - 40, y, 40, _ROW),
                             int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight),
                             f"{100 * chance:.0f} %")  # fmt: skip
            y += _ROW
        return y

    def _foot(self, painter: QtGui.QPainter, y: float, figures: MorphologyFigures) -> None:
        painter.setFont(font(self, 11))
        if words := measured(figures):
            painter.setPen(QtGui.QColor(palette.SOFT))
            painter.drawText(QPointF(0, y + 12), words)
            y += _LINE
        if words := unsure(figures):
            painter.setPen(QtGui.QColor(palette.TEXT))
            painter.drawText(QPointF(0, y + 12), words)
            y += _LINE
        if figures.outside:
            painter.setPen(QtGui.QColor(palette.WARN))
            box = QRectF(0, y, self.width(), max(self.height() - y, 2 * _LINE))
            how = int(Qt.TextFlag.TextWordWrap | Qt.AlignmentFlag.AlignTop)
            painter.drawText(box, how, f"A guess: {figures.outside[0]}" + (" …" if figures.outside[1:] else ""))


def _rows(figures: MorphologyFigures) -> Iterator[tuple[str, str, float]]:
    """(part, class, chance): part "" where there is one; of networks that tell no more, chances of being normal."""
    for name, chance in figures.classes.items():
        part, _, bare = name.rpartition(":")
        yield part, bare, chance
    if not figures.classes:
        for part, chance in figures.normal.items():
            yield "", f"{part} normal", chance


def unsure(figures: MorphologyFigures) -> str:
    """Of which parts no class is likely enough, in a line; "" where each has one."""
    rows = list(_rows(figures))
    parts = dict.fromkeys(part for part, _, _ in rows)
    none = [part for part in parts if max(p for of, _, p in rows if of == part) < figures.abstain_below]
    if not none:
        return ""
    return f"No class{' of ' + ', '.join(none) if none[0] else ''}: none reaches {100 * figures.abstain_below:.0f} %"


def measured(figures: MorphologyFigures) -> str:
    """Measures of the head in a line; "" where nothing was measured."""
    m = figures.measures
    said = []
    if "length_um" in m and "width_um" in m:
        said.append(f"{m['length_um']:.1f} × {m['width_um']:.1f} µm")
    if "ellipticity" in m:
        low, high = STRICT_ELLIPTICITY
        within = low <= m["ellipticity"] <= high
        said.append(f"L/W {m['ellipticity']:.2f}" + ("" if within else f" (not {low:g}–{high:g})"))
    if "acrosome_share" in m:
        said.append(f"acrosome {100 * m['acrosome_share']:.0f} %")
    if figures.n_crops:
        said.append(f"{figures.n_crops} crop{'s' if figures.n_crops > 1 else ''}")
    return " · ".join(said)


def said_of(figures: MorphologyFigures | None) -> str:
    """All of it in words."""
    if figures is None:
        return ""
    if figures.reason:
        return f"no class: {figures.reason}"
    chances = ", ".join(f"{part} {name} {100 * p:.0f} %".strip() for part, name, p in _rows(figures))
    guess = f"; a guess: {'; '.join(figures.outside)}" if figures.outside else ""
    said = [chances, unsure(figures), measured(figures)]
    return "; ".join(words for words in said if words) + guess


def _tip(figures: MorphologyFigures | None) -> str:
    if figures is None or figures.reason:
        return ""
    lines = [f"By the network {figures.note}; means over the track's sharpest crops." if figures.note else ""]
    if figures.heat is not None:
        lines.append("The second picture shows what decided: clear where nothing did, yellow where most did.")
    lines += [f"Outside of what the network knows: {reason}." for reason in figures.outside]
    return "\n".join(line for line in lines if line)
