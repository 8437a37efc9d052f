"""The picture with boxes, ids and trails over it: one widget that paints all of it in one go.

Nothing is an object of its own: boxes and lines go to Qt as arrays, labels are drawn from small pictures of letters
that are kept. Zoom with the wheel, move by dragging, click on a sperm.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyqtgraph.Qt.internals import PrimitiveArray
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import QLineF, QPointF, QRectF, Qt

from casa.viewer import palette
from casa.viewer.feed import Condition, FeedState, View
from casa.viewer.palette import SHADE_COLOURS, SHADES

#: Trails fade in so many steps.
_AGES = 3
_LABEL_PX = 12
_DRAG_PX = 5
_NEAR_PX = 14
MAX_ZOOM = 40.0


def image_of(array: NDArray[np.uint8]) -> QtGui.QImage:
    """A QImage that shares an (h, w) or (h, w, 3) array's memory: keep the array while it is used."""
    array = np.ascontiguousarray(array)
    height, width = array.shape[:2]
    kind = QtGui.QImage.Format.Format_Grayscale8 if array.ndim == 2 else QtGui.QImage.Format.Format_RGB888
    return QtGui.QImage(array.data, width, height, array.strides[0], kind)


class Canvas(QtWidgets.QWidget):
    """Shows one View at a time.

    Signals
    -------
    picked(int) : a sperm was clicked on; -1 where there is none. paired(int) : with Ctrl held.
    """

    picked = QtCore.Signal(int)
    paired = QtCore.Signal(int)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMouseTracking(True)
        self.setMinimumSize(320, 240)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setAccessibleName("Picture of the field")
        self.show_boxes = self.show_ids = self.show_trails = True
        self.show_grades = True
        self.selected = self.second = -1
        self.um_per_px: float | None = None
        self.smooth = True
        self.follow = False
        self.paint_times = deque[float](maxlen=120)
        self.paint_ms = deque[float](maxlen=120)
        self._view: View | None = None
        self._picture: tuple[Any, NDArray[np.uint8], QtGui.QImage] | None = None
        self._condition = Condition(FeedState.LOADING)
        self._zoom, self._centre = 1.0, QPointF()
        self._size = (0, 0)
        self._hover = -1
        self._pressed: QPointF | None = None
        self._dragged = False
        self._labels: dict[Any, QtGui.QPixmap] = {}
        self._places: dict[int, int] = {}
        self._stale_since: float | None = None
        self._lines, self._rects = PrimitiveArray(QLineF, 4), PrimitiveArray(QRectF, 4)
        self._pens = {
            (shade, age): self._pen(SHADE_COLOURS[shade], 1.5, (255, 175, 95)[age])
            for shade in SHADES
            for age in range(_AGES)
        }
        self._box_pens = {
            (kind, seen): self._pen(SHADE_COLOURS[shade], 2, 255, style)
            for kind, shade in enumerate(SHADES)
            for seen, style in ((True, Qt.PenStyle.SolidLine), (False, Qt.PenStyle.DotLine))
        }
        self._box_casing = self._pen(palette.CASING, 4, 150)
        self._casing = self._pen(palette.CASING, 3.4, 120)
        self._thick_casing = self._pen(palette.CASING, 3.6, 175)

    @staticmethod
    def _pen(colour: str, width: float, alpha: int = 255, style: Qt.PenStyle = Qt.PenStyle.SolidLine) -> QtGui.QPen:
        tint = QtGui.QColor(colour)
        tint.setAlpha(alpha)
        return QtGui.QPen(tint, width, style, Qt.PenCapStyle.FlatCap, Qt.PenJoinStyle.RoundJoin)

    # -- what is shown ------------------------------------------------------------------------------------------

    def show_view(self, view: View | None, condition: Condition) -> None:
        """Show a moment (or, without one, the feed's condition); repaints only where something changed."""
        if view is self._view and condition == self._condition and not self._waits_for_picture():
            return
        self._condition = condition
        if view is not None and (view.width_px, view.height_px) != self._size:
            self._size = (view.width_px, view.height_px)
            self.fit()
        if view is not None and view.image is not None:
            if self._picture is None or self._picture[0] != view.image_key or self._picture[1] is not view.image:
                self._picture = (view.image_key, view.image, image_of(view.image))
        elif view is not None and not view.stale:
            self._picture = None
        late = view is not None and view.stale
        self._stale_since = (self._stale_since or time.monotonic()) if late else None
        self._view = view
        if self.follow and view is not None and (row := self._row(self.selected)) is not None:
            self._centre = QPointF(*((view.box[row, :2] + view.box[row, 2:]) / 2).tolist())
        self.update()

    def _waits_for_picture(self) -> bool:
        return self._stale_since is not None and time.monotonic() - self._stale_since < 1.0

    def _row(self, track_id: int) -> int | None:
        if self._view is None or track_id < 0:
            return None
        rows = np.flatnonzero(self._view.track_id == track_id)
        return int(rows[0]) if len(rows) else None

    # -- where things are ---------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Show the whole picture."""
        self._zoom, self._centre = 1.0, QPointF(self._size[0] / 2, self._size[1] / 2)
        self.follow = False
        self.update()

    def zoom_by(self, factor: float, around: QPointF | None = None) -> None:
        """Magnify around a point of the widget; its middle where none is given."""
        at = around if around is not None else QPointF(self.width() / 2, self.height() / 2)
        before = self.to_picture(at)
        self._zoom = float(np.clip(self._zoom * factor, 1.0, MAX_ZOOM))
        after = self.to_picture(at)
        self._centre += before - after
        if self._zoom == 1.0:
            self._centre = QPointF(self._size[0] / 2, self._size[1] / 2)
        self.update()

    def zoom_to(self, x_px: float, y_px: float) -> None:
        """Magnify a place of the picture."""
        self._zoom, self._centre = max(self._zoom, 4.0), QPointF(x_px, y_px)
        self.update()

    @property
    def scale(self) -> float:
        """Widget pixels a picture pixel."""
        width, height = max(self._size[0], 1), max(self._size[1], 1)
        return min(self.width() / width, self.height() / height) * self._zoom

    def to_picture(self, at: QPointF) -> QPointF:
        """Widget -> picture pixels."""
        middle = QPointF(self.width() / 2, self.height() / 2)
        return (at - middle) / self.scale + self._centre

    def _origin(self) -> tuple[float, float]:
        s = self.scale
        return self.width() / 2 - self._centre.x() * s, self.height() / 2 - self._centre.y() * s

    def at(self, position: QPointF) -> int:
        """The id of the track at a place of the widget; -1 where there is none."""
        view = self._view
        if view is None or not len(view.track_id):
            return -1
        place = self.to_picture(position)
        xy = np.array([place.x(), place.y()])
        centre = (view.box[:, :2] + view.box[:, 2:]) / 2
        distance = np.hypot(*(centre - xy).T)
        inside = ((view.box[:, :2] <= xy) & (xy <= view.box[:, 2:])).all(axis=1)
        distance[inside] *= 0.01
        nearest = int(np.argmin(distance))
        return int(view.track_id[nearest]) if distance[nearest] * self.scale <= _NEAR_PX else -1

    # -- events -------------------------------------------------------------------------------------------------

    def wheelEvent(self, event: QtGui.QWheelEvent) -> None:  # noqa: D102
        self.zoom_by(1.0015 ** event.angleDelta().y(), event.position())
        self.follow = False

    def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:  # noqa: D102
        self._pressed, self._dragged = event.position(), False

    def mouseMoveEvent(self, event: QtGui.QMouseEvent) -> None:  # noqa: D102
        if self._pressed is not None:
            moved = event.position() - self._pressed
            if self._dragged or moved.manhattanLength() > _DRAG_PX:
                self._dragged = True
                if self._zoom > 1.0:
                    self._centre -= moved / self.scale
                    self._pressed, self.follow = event.position(), False
                    self.update()
            return
        hover = self.at(event.position())
        if hover != self._hover:
            self._hover = hover
            self.setCursor(Qt.CursorShape.PointingHandCursor if hover >= 0 else Qt.CursorShape.ArrowCursor)
            self.update()

    def mouseReleaseEvent(self, event: QtGui.QMouseEvent) -> None:  # noqa: D102
        pressed, self._pressed = self._pressed, None
        if pressed is None or self._dragged:
            return
        track = self.at(event.position())
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier and track >= 0:
            self.paired.emit(track)
        else:
            self.picked.emit(track)

    def mouseDoubleClickEvent(self, event: QtGui.QMouseEvent) -> None:  # noqa: D102
        place = self.to_picture(event.position())
        self.zoom_to(place.x(), place.y())

    def leaveEvent(self, event: QtCore.QEvent) -> None:  # noqa: D102
        self._hover = -1
        self.update()

    def sizeHint(self) -> QtCore.QSize:  # noqa: D102
        return QtCore.QSize(860, 640)

    # -- painting -----------------------------------------------------------------------------------------------

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:  # noqa: D102
        begun = time.perf_counter()
        painter = QtGui.QPainter(self)
        painter.fillRect(self.rect(), QtGui.QColor(palette.GROUND))
        if self._view is not None and self._condition.state is not FeedState.FAILED:
            self._paint_picture(painter)
            (x, y), s = self._origin(), self.scale
            painter.setClipRect(QRectF(x, y, self._size[0] * s, self._size[1] * s))
            self.paint_overlay(painter, self._view, s, (x, y), self.devicePixelRatioF())
            painter.setClipping(False)
            self._paint_scale_bar(painter)
            self._paint_note(painter, self._view.note)
        if self._condition.state is not FeedState.READY:
            self._paint_condition(painter)
        painter.end()
        now = time.perf_counter()
        self.paint_times.append(now)
        self.paint_ms.append((now - begun) * 1e3)

    def _paint_picture(self, painter: QtGui.QPainter) -> None:
        (x, y), s = self._origin(), self.scale
        target = QRectF(x, y, self._size[0] * s, self._size[1] * s)
        if self._picture is None:
            painter.fillRect(target, QtGui.QColor("#1a222b"))
            painter.setPen(self._pen(palette.LINE, 1))
            painter.drawRect(target)
            return
        image = self._picture[2]
        shown = target.intersected(QRectF(self.rect()))
        per_px = image.width() / max(self._size[0], 1)
        source = QRectF((shown.x() - x) / s, (shown.y() - y) / s, shown.width() / s, shown.height() / s)
        source = QRectF(*(v * per_px for v in (source.x(), source.y(), source.width(), source.height())))
        painter.setRenderHint(QtGui.QPainter.RenderHint.SmoothPixmapTransform, self.smooth and s < 6)
        painter.drawImage(shown, image, source)
        if self._stale_since is not None and time.monotonic() - self._stale_since > 0.2:
            painter.fillRect(shown, QtGui.QColor(14, 19, 25, 150))

    def paint_overlay(
        self, painter: QtGui.QPainter, view: View, s: float, origin: tuple[float, float], ratio: float
    ) -> None:
        """Trails, boxes and labels of a view; ``s`` painter pixels a picture pixel, ``ratio`` of the device."""
        offset = np.array([*origin, *origin])
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing, True)
        shade = view.shade if self.show_grades else np.full_like(view.shade, palette.UNGRADED)
        if self.show_trails and len(view.trail):
            self._paint_trails(painter, view, view.trail * s + offset)
        box = view.box * s + offset
        chosen = np.isin(view.track_id, [self.selected, self.second, self._hover])
        if self.show_boxes:
            self._paint_boxes(painter, box, shade, view.measured, ~chosen)
        for row in np.flatnonzero(chosen).tolist():
            self._paint_chosen(painter, QRectF(*box[row, :2].tolist(), *(box[row, 2:] - box[row, :2]).tolist()),
                               SHADES[shade[row]], int(view.track_id[row]))  # fmt: skip
        if self.show_ids:
            self._paint_labels(
                painter, view, box, shade, chosen, (*origin, self._size[0] * s, self._size[1] * s), ratio
            )

    def _paint_trails(self, painter: QtGui.QPainter, view: View, lines: NDArray[Any]) -> None:
        band = np.minimum((view.trail_age * _AGES).astype(np.int64), _AGES - 1)
        self._draw_lines(painter, lines[band == 0], self._casing)
        shade = view.trail_shade if self.show_grades else np.full_like(view.trail_shade, palette.UNGRADED)
        group = shade.astype(np.int64) * _AGES + (_AGES - 1 - band)
        for number in np.unique(group).tolist():
            which, fresh = divmod(number, _AGES)
            self._draw_lines(painter, lines[group == number], self._pens[SHADES[which], _AGES - 1 - fresh])

    def _draw_lines(self, painter: QtGui.QPainter, lines: NDArray[Any], pen: QtGui.QPen) -> None:
        self._lines.resize(len(lines))
        self._lines.ndarray()[:] = lines
        painter.setPen(pen)
        draw: Any = painter.drawLines  # takes a pointer and a count, which its stub does not say
        draw(*self._lines.drawargs())

    def _paint_boxes(
        self,
        painter: QtGui.QPainter,
        box: NDArray[Any],
        shade: NDArray[np.uint8],
        measured: NDArray[np.bool_],
        shown: NDArray[np.bool_],
    ) -> None:
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing, False)  # level and upright lines need none
        self._draw_rects(painter, box[shown], self._box_casing)
        for kind in np.unique(shade[shown]).tolist():
            for seen in (True, False):
                rows = shown & (shade == kind) & (measured == seen)
                if rows.any():
                    self._draw_rects(painter, box[rows], self._box_pens[kind, seen])
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing, True)

    def _draw_rects(self, painter: QtGui.QPainter, box: NDArray[Any], pen: QtGui.QPen) -> None:
        self._rects.resize(len(box))
        rects = self._rects.ndarray()
        rects[:, :2], rects[:, 2:] = box[:, :2], box[:, 2:] - box[:, :2]
        painter.setPen(pen)
        draw: Any = painter.drawRects
        draw(*self._rects.drawargs())

    def _paint_chosen(self, painter: QtGui.QPainter, box: QRectF, shade: str, track_id: int) -> None:
        painter.setBrush(Qt.BrushStyle.NoBrush)
        if track_id == self._hover and track_id not in (self.selected, self.second):
            painter.setPen(self._thick_casing)
            painter.drawRect(box)
            painter.setPen(self._pen(SHADE_COLOURS[shade], 2.4))
            painter.drawRect(box)
            return
        around = box.adjusted(-5, -5, 5, 5)
        painter.setPen(self._pen(palette.CASING, 6, 200))
        painter.drawRoundedRect(around, 4, 4)
        style = Qt.PenStyle.SolidLine if track_id == self.selected else Qt.PenStyle.DashLine
        painter.setPen(self._pen("#ffffff", 2.4, 255, style))
        painter.drawRoundedRect(around, 4, 4)
        painter.setPen(self._pen(SHADE_COLOURS[shade], 1.6))
        painter.drawRect(box)

    def _paint_labels(
        self,
        painter: QtGui.QPainter,
        view: View,
        box: NDArray[Any],
        shade: NDArray[np.uint8],
        chosen: NDArray[np.bool_],
        field: tuple[float, float, float, float],
        ratio: float,
    ) -> None:
        """Each number beside its box, at the corner it had before unless another number is there now."""
        x0, y0, wide, tall = field
        taken = np.empty((len(box), 4))
        places: dict[int, int] = {}
        for row, (left, top, right, bottom) in enumerate(box.tolist()):
            letter, track = SHADES[shade[row]], int(view.track_id[row])
            words = f"{track} {letter}" if letter in "abcd" else str(track)
            label = self._label(words, letter, bool(chosen[row]), ratio)
            w, h = label.width() / ratio, label.height() / ratio
            corners = ((right + 1, top - 5), (right + 1, bottom - h + 5), (left - w - 1, top - 5),
                       (left - w - 1, bottom - h + 5))  # fmt: skip
            before = self._places.get(track, 0)
            place = before
            for turn in range(len(corners)):
                at = (before + turn) % len(corners)
                x, y = corners[at]
                clash = (taken[:row, 0] < x + w - 3) & (taken[:row, 2] > x + 3)
                clash &= (taken[:row, 1] < y + h - 5) & (taken[:row, 3] > y + 5)
                if x0 <= x <= x0 + wide - w and not clash.any():
                    place = at
                    break
            x, y = corners[place]
            x, y = min(max(x, x0), x0 + wide - w), min(max(y, y0 - 2), y0 + tall - h + 2)
            taken[row] = x, y, x + w, y + h
            places[track] = place
            painter.drawPixmap(QPointF(round(x), round(y)), label)
        self._places = places

    def _label(self, words: str, shade: str, strong: bool, ratio: float) -> QtGui.QPixmap:
        key = (words, shade, strong, ratio)
        found = self._labels.get(key)
        if found is not None:
            return found
        if len(self._labels) > 2000:
            self._labels.clear()
        font = QtGui.QFont(self.font())
        font.setPixelSize(_LABEL_PX + (2 if strong else 0))
        font.setWeight(QtGui.QFont.Weight.Bold if strong else QtGui.QFont.Weight.DemiBold)
        metrics = QtGui.QFontMetricsF(font)
        width, height = int(metrics.horizontalAdvance(words)) + 6, int(metrics.height()) + 2
        pixmap = QtGui.QPixmap(round(width * ratio), round(height * ratio))
        pixmap.setDevicePixelRatio(ratio)
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QtGui.QPainter(pixmap)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        path = QtGui.QPainterPath()
        path.addText(QPointF(3, metrics.ascent() + 1), font, words)
        painter.strokePath(path, self._pen(palette.CASING, 3.2, 215))
        painter.fillPath(path, QtGui.QColor("#ffffff" if strong else SHADE_COLOURS[shade]))
        painter.end()
        self._labels[key] = pixmap
        return pixmap

    def _paint_scale_bar(self, painter: QtGui.QPainter) -> None:
        if not self._size[0]:
            return
        per_px, unit = (self.um_per_px, "µm") if self.um_per_px else (1.0, "px")
        wanted = 110 / self.scale * per_px
        step = 10.0 ** np.floor(np.log10(max(wanted, 1e-6)))
        length = float(step * max(k for k in (1, 2, 5) if k * step <= wanted))
        wide = length / per_px * self.scale
        x, y = self._corner()
        text = f"{length:g} {unit}"
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing, True)
        font = QtGui.QFont(self.font())
        font.setPixelSize(12)
        painter.setFont(font)
        tall = painter.fontMetrics().height()
        back = QRectF(x, y - tall - 14, wide + 20, tall + 14)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QtGui.QColor(14, 19, 25, 165))
        painter.drawRoundedRect(back, 5, 5)
        painter.setPen(self._pen("#ffffff", 2.5))
        painter.drawLine(QPointF(x + 10, y - 7), QPointF(x + 10 + wide, y - 7))
        painter.drawText(back.adjusted(0, 2, 0, -10), int(Qt.AlignmentFlag.AlignCenter), text)

    def _corner(self) -> tuple[float, float]:
        """The lower left corner of what is seen of the picture, with a margin."""
        (x, y), s = self._origin(), self.scale
        return max(x, 0.0) + 10, min(y + self._size[1] * s, float(self.height())) - 10

    def _paint_note(self, painter: QtGui.QPainter, note: str) -> None:
        if not note:
            return
        font = QtGui.QFont(self.font())
        font.setPixelSize(13)
        painter.setFont(font)
        text = painter.fontMetrics().elidedText(note, Qt.TextElideMode.ElideRight, self.width() - 80)
        wide = painter.fontMetrics().horizontalAdvance(text)
        back = QRectF((self.width() - wide) / 2 - 14, 12, wide + 28, 30)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QtGui.QColor(14, 19, 25, 215))
        painter.drawRoundedRect(back, 6, 6)
        painter.setPen(QtGui.QColor(palette.WARN))
        painter.drawText(back, int(Qt.AlignmentFlag.AlignCenter), text)

    def _paint_condition(self, painter: QtGui.QPainter) -> None:
        condition = self._condition
        wide = min(560, self.width() - 40)
        title, body = QtGui.QFont(self.font()), QtGui.QFont(self.font())
        title.setPixelSize(19)
        title.setWeight(QtGui.QFont.Weight.DemiBold)
        body.setPixelSize(14)
        flags = int(Qt.AlignmentFlag.AlignHCenter | Qt.TextFlag.TextWrapAnywhere if len(condition.text) > 400 else
                    Qt.AlignmentFlag.AlignHCenter | Qt.TextFlag.TextWordWrap)  # fmt: skip
        inner = QRectF(0, 0, wide - 56, 1000)
        first = QtGui.QFontMetricsF(title).boundingRect(inner, flags, condition.title)
        second = QtGui.QFontMetricsF(body).boundingRect(inner, flags, condition.text)
        tall = first.height() + second.height() + 60
        card = QRectF((self.width() - wide) / 2, (self.height() - tall) / 2, wide, tall)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing, True)
        failed = condition.state is FeedState.FAILED
        painter.setPen(self._pen(palette.ALARM if failed else palette.LINE, 1.2))
        painter.setBrush(QtGui.QColor(21, 28, 36, 240))
        painter.drawRoundedRect(card, 8, 8)
        painter.setFont(title)
        painter.setPen(QtGui.QColor(palette.ALARM if failed else palette.TEXT))
        at = QRectF(card.x() + 28, card.y() + 24, wide - 56, first.height())
        painter.drawText(at, flags, condition.title)
        painter.setFont(body)
        painter.setPen(QtGui.QColor(palette.SOFT))
        painter.drawText(QRectF(at.x(), at.bottom() + 12, at.width(), second.height() + 4), flags, condition.text)
