"""Small charts, painted: the motility bar, velocity histograms, a path, a strip of pictures.

The histogram and the path are pyqtgraph's; the others are drawn here. Knows numbers and arrays, no feed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import QPointF, QRectF, Qt

from casa.viewer import palette
from casa.viewer.canvas import image_of
from casa.viewer.palette import SHADE_COLOURS, SHADES


def font(widget: QtWidgets.QWidget, pixels: int, strong: bool = False) -> QtGui.QFont:
    """The widget's font in another size."""
    made = QtGui.QFont(widget.font())
    made.setPixelSize(pixels)
    made.setWeight(QtGui.QFont.Weight.DemiBold if strong else QtGui.QFont.Weight.Normal)
    return made


def hatch(shade: str) -> QtGui.QBrush:
    """The fill of a grade: plain for a, the others with a pattern besides their colour, as in the report."""
    styles = {
        "b": Qt.BrushStyle.BDiagPattern,
        "c": Qt.BrushStyle.Dense4Pattern,
        "d": Qt.BrushStyle.FDiagPattern,
    }
    return QtGui.QBrush(QtGui.QColor(SHADE_COLOURS[shade]), styles.get(shade, Qt.BrushStyle.SolidPattern))


class MotilityBar(QtWidgets.QWidget):
    """One bar of 100 %, parted into grades a to d, with letters and percentages below."""

    def __init__(self) -> None:
        super().__init__()
        self._percent: Mapping[str, float | None] = {}
        self.setFixedHeight(56)
        self.setAccessibleName("Motility by grade")

    def set_percent(self, percent: Mapping[str, float | None]) -> None:
        """Percentages by letter; None or missing where not graded."""
        if dict(percent) != self._percent:
            self._percent = dict(percent)
            known = [f"{k} {v:.0f} %" for k, v in percent.items() if v is not None]
            self.setAccessibleDescription(", ".join(known) or "not graded")
            self.update()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: D102
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        known = {grade: value for grade in "abcd" if (value := self._percent.get(grade)) is not None}
        bar = QRectF(0.5, 0.5, self.width() - 1, 22)
        if not known:
            painter.setPen(QtGui.QColor(palette.LINE))
            painter.drawRoundedRect(bar, 3, 3)
            painter.setFont(font(self, 12))
            painter.setPen(QtGui.QColor(palette.SOFT))
            painter.drawText(bar, int(Qt.AlignmentFlag.AlignCenter), "not graded")
            return
        x = bar.x()
        for grade, value in known.items():
            part = QRectF(x, bar.y(), bar.width() * value / 100, bar.height())
            x += part.width()
            if part.width() < 0.5:
                continue
            painter.setPen(Qt.PenStyle.NoPen)
            tint = QtGui.QColor(SHADE_COLOURS[grade])
            tint.setAlpha(255 if grade == "a" else 70)
            painter.fillRect(part, tint)
            painter.fillRect(part, hatch(grade))
            painter.setPen(QtGui.QPen(QtGui.QColor(palette.PANEL), 1.5))
            painter.drawLine(part.topRight(), part.bottomRight())
        column = self.width() / 4
        for number, grade in enumerate("abcd"):
            cell = QRectF(number * column, 28, column, 24)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.fillRect(QRectF(cell.x(), cell.y() + 4, 11, 11), hatch(grade))
            painter.setPen(QtGui.QColor(SHADE_COLOURS[grade]))
            painter.drawRect(QRectF(cell.x() + 0.5, cell.y() + 4.5, 10, 10))
            painter.setFont(font(self, 13, True))
            painter.setPen(QtGui.QColor(palette.TEXT))
            painter.drawText(
                cell.adjusted(18, -2, 0, 0), int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter),
                f"{grade}  {known.get(grade, 0.0):.0f} %",
            )  # fmt: skip


class Histogram(pg.PlotWidget):
    """Tracks by one velocity, stacked by grade, with the median and the chosen sperm's own value."""

    def __init__(self) -> None:
        super().__init__(background=palette.PANEL)
        self.setMinimumHeight(110)
        plot: Any = self.getPlotItem()
        plot.setMenuEnabled(False)
        plot.hideButtons()
        plot.setMouseEnabled(False, False)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        for name in ("left", "bottom"):
            axis = plot.getAxis(name)
            axis.setPen(pg.mkPen(palette.LINE))
            axis.setTextPen(pg.mkPen(palette.SOFT))
            axis.setStyle(tickLength=-4, tickFont=font(self, 11))
        plot.getAxis("left").setWidth(30)
        plot.getAxis("bottom").setHeight(22)
        self._bars = []
        for shade in SHADES:
            tint = QtGui.QColor(SHADE_COLOURS[shade])
            tint.setAlpha(255 if shade in "a" else 215)
            bars = pg.BarGraphItem(x=[], height=[], width=1, brush=tint, pen=pg.mkPen(palette.PANEL, width=0.6))
            self.addItem(bars)
            self._bars.append(bars)
        self._median = pg.InfiniteLine(pen=pg.mkPen("#ffffff", width=1.4, style=Qt.PenStyle.DashLine))
        self._own = pg.InfiniteLine(pen=pg.mkPen("#ffffff", width=2))
        for line in (self._median, self._own):
            line.setVisible(False)
            self.addItem(line)
        self._key: Any = None

    def set_values(self, values: NDArray[np.float64], shade: NDArray[np.uint8], own: float | None) -> None:
        """Speeds (n,) and shades (n,) of all tracks; ``own`` is the chosen sperm's."""
        finite = np.isfinite(values)
        values, shade = values[finite], shade[finite]
        self._own.setVisible(own is not None and bool(np.isfinite(own)))
        if own is not None and np.isfinite(own):
            self._own.setValue(own)
        key = (len(values), float(values.sum()), int(shade.sum()))
        if key == self._key:
            return
        self._key = key
        self._median.setVisible(bool(len(values)))
        if not len(values):
            for bars in self._bars:
                bars.setOpts(x=[], height=[], width=1)
            return
        top = float(np.percentile(values, 99)) if len(values) >= 50 else float(values.max())
        step = nice_step(max(top, 1e-9) * 1.02, 20)
        n_bins = max(int(np.ceil(max(top, 1e-9) * 1.001 / step)), 4)
        which = np.minimum((values / step).astype(np.int64), n_bins - 1)
        base = np.zeros(n_bins)
        centre = (np.arange(n_bins) + 0.5) * step
        for number, bars in enumerate(self._bars):
            counts = np.bincount(which[shade == number], minlength=n_bins).astype(float)
            shown = counts > 0
            bars.setOpts(x=centre[shown], y0=base[shown], height=counts[shown], width=step)
            base += counts
        self._median.setValue(float(np.median(values)))
        plot: Any = self.getPlotItem()
        plot.setXRange(0, n_bins * step, padding=0.01)
        plot.setYRange(0, max(base.max() * 1.08, 1), padding=0)


class PathPlot(pg.PlotWidget):
    """A sperm's path, the present place marked, one length the same in x and y; y grows downwards as in the picture."""

    def __init__(self) -> None:
        super().__init__(background=palette.PANEL)
        plot: Any = self.getPlotItem()
        plot.setMenuEnabled(False)
        plot.hideButtons()
        plot.hideAxis("left")
        plot.hideAxis("bottom")
        plot.setMouseEnabled(False, False)
        plot.setAspectLocked(True)
        plot.invertY(True)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAccessibleName("Path")
        self._line = pg.PlotCurveItem(pen=pg.mkPen(SHADE_COLOURS["u"], width=1.6), antialias=True)
        self._past = pg.PlotCurveItem(pen=pg.mkPen(SHADE_COLOURS["u"], width=2.2), antialias=True)
        self._start = pg.ScatterPlotItem(size=7, pen=pg.mkPen(palette.SOFT, width=1.4), brush=None)
        self._here = pg.ScatterPlotItem(size=9, pen=pg.mkPen(palette.CASING), brush="#ffffff")
        for item in (self._line, self._past, self._start, self._here):
            self.addItem(item)
        self._bar = QtCore.QLineF()
        self._scale = (1.0, "px")
        self._key: Any = None

    def set_path(self, path: NDArray[Any], here: int, shade: str, scale: tuple[float, str]) -> None:
        """(n, 2) px, the present row, the grade's letter, and what a pixel is (length, unit)."""
        self._scale = scale
        path = path.astype(np.float64)  # pyqtgraph's limits overflow float32
        key = (len(path), shade, float(path[0, 0]) if len(path) else 0.0, float(path[-1, 1]) if len(path) else 0.0)
        if key != self._key:
            self._key = key
            tint = QtGui.QColor(SHADE_COLOURS[shade])
            self._past.setPen(pg.mkPen(tint, width=2.0))
            tint.setAlpha(110)
            self._line.setPen(pg.mkPen(tint, width=1.4))
            self._line.setData(path[:, 0], path[:, 1])
            self._start.setData([path[0, 0]], [path[0, 1]])
            low, high = path.min(axis=0), path.max(axis=0)
            room = max(float((high - low).max()) * 0.08, 4.0)
            plot: Any = self.getPlotItem()
            plot.setRange(xRange=(low[0] - room, high[0] + room), yRange=(low[1] - room, high[1] + room), padding=0)
        self._past.setData(path[: here + 1, 0], path[: here + 1, 1])
        self._here.setData([path[here, 0]], [path[here, 1]])

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: D102
        super().paintEvent(event)
        per_px = self.getViewBox().viewPixelSize()[0] if self.getViewBox().width() else 0
        if not per_px:
            return
        length, unit = self._scale
        wanted = 60 * per_px * length
        step = 10.0 ** np.floor(np.log10(max(wanted, 1e-9)))
        value = float(step * max(k for k in (1, 2, 5) if k * step <= wanted))
        wide = value / length / per_px
        painter = QtGui.QPainter(self.viewport())
        y = self.height() - 6
        painter.setPen(QtGui.QPen(QtGui.QColor(palette.SOFT), 2))
        painter.drawLine(QPointF(6, y), QPointF(6 + wide, y))
        painter.setFont(font(self, 11))
        painter.drawText(QPointF(6, y - 5), f"{value:g} {unit}")
        painter.end()


def paint_nothing(painter: QtGui.QPainter, widget: QtWidgets.QWidget, words: str) -> None:
    """A quiet frame with a line in it."""
    painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
    painter.setPen(QtGui.QPen(QtGui.QColor(palette.LINE), 1, Qt.PenStyle.DashLine))
    painter.drawRoundedRect(QRectF(widget.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 4, 4)
    painter.setPen(QtGui.QColor(palette.SOFT))
    painter.setFont(font(widget, 12))
    painter.drawText(widget.rect().adjusted(6, 0, -6, 0),
                     int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap), words)  # fmt: skip


class ClipStrip(QtWidgets.QWidget):
    """Pictures cut around a track, in two rows of eight, the present one framed."""

    COLUMNS, ROWS, GAP = 8, 2, 3

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Clip: sixteen pictures about the head")
        self._clip: Sequence[NDArray[np.uint8] | None] = ()
        self._here = -1
        self._nothing = ""
        self._follow_width()

    def set_clip(self, clip: Sequence[NDArray[np.uint8] | None], here: int, nothing: str) -> None:
        """Square pictures, None for those still to come; ``nothing`` is said where there are none at all."""
        self._clip, self._here, self._nothing = clip, here, nothing
        self.update()

    def _follow_width(self) -> None:
        cell = min((self.width() - self.GAP * (self.COLUMNS - 1)) / self.COLUMNS, 72)
        self.setFixedHeight(max(int(cell * self.ROWS + self.GAP), 60))

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:  # noqa: D102
        self._follow_width()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: D102
        painter = QtGui.QPainter(self)
        if not self._clip:
            paint_nothing(painter, self, self._nothing)
            return
        painter.setRenderHint(QtGui.QPainter.RenderHint.SmoothPixmapTransform)
        cell = (self.height() - self.GAP) / self.ROWS
        for number in range(self.COLUMNS * self.ROWS):
            row, column = divmod(number, self.COLUMNS)
            place = QRectF(column * (cell + self.GAP), row * (cell + self.GAP), cell, cell)
            picture = self._clip[number] if number < len(self._clip) else None
            if picture is None:
                painter.fillRect(place, QtGui.QColor(palette.RAISED if number < len(self._clip) else palette.GROUND))
            else:
                painter.drawImage(place, image_of(picture))
            if number == self._here:
                painter.setPen(QtGui.QPen(QtGui.QColor("#ffffff"), 2))
                painter.drawRect(place.adjusted(1, 1, -1, -1))


def nice_step(span: float, about: int) -> float:
    """A step of 1, 2 or 5 times a power of ten that divides ``span`` into about so many."""
    raw = max(span, 1e-12) / about
    power = 10.0 ** np.floor(np.log10(raw))
    return float(power * min((k for k in (1, 2, 5, 10)), key=lambda k: abs(k * power - raw)))
