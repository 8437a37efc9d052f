"""Pictures of a calibration: the focus curve, the flat field, frame intervals, the Levey-Jennings chart, as SVG files.

A chart stands by itself: it has its own styles, a white ground, and a text alternative.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from casa.calibrate.control import REJECTING, ControlDay, westgard
from casa.calibrate.field import FieldResult
from casa.calibrate.focus import FocusCurve
from casa.calibrate.stage import StageResult
from casa.calibrate.timing import TimingResult
from casa.errors import CasaError
from casa.statistics import nice_step

_INK, _SOFT, _GRID = "#1d2733", "#5b6875", "#dde3ea"
_BLUE, _ORANGE, _GRAY = "#1f6fb2", "#d4691e", "#aeb8c2"
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 18.0, 42.0, 50.0


class Axes:
    """Two linear axes in a picture of ``width`` x ``height`` px, with ticks, and what is drawn on them."""

    def __init__(
        self, title: str, x: tuple[float, float], y: tuple[float, float], labels: tuple[str, str], size=(640.0, 360.0),
        ticks: tuple[bool, bool] = (True, True),
    ) -> None:  # fmt: skip
        self._size, self._title, self._x, self._y = size, title, x, y
        width, height = size
        self.body: list[str] = [
            self.text(_LEFT, 24, title, anchor="start", size=15, weight=600),
            self.text((_LEFT + width - _RIGHT) / 2, height - 12, labels[0]),
            f'<text transform="translate(16 {(_TOP + height - _BOTTOM) / 2:.0f}) rotate(-90)" font-size="13" '
            f'fill="{_INK}" text-anchor="middle">{escape(labels[1])}</text>',
        ]
        for (low, high), horizontal, wanted in ((x, True, ticks[0]), (y, False, ticks[1])):
            low, high = min(low, high), max(low, high)
            step = nice_step(high - low, 7 if horizontal else 5)
            for value in np.arange(np.ceil(low / step - 1e-9) * step, high + step * 1e-6, step) if wanted else ():
                label = f"{0.0 if abs(value) < step * 1e-6 else value:.6g}"
                if horizontal:
                    self.line(value, y[0], value, y[1], _GRID)
                    self.body.append(self.text(self.px(value), height - _BOTTOM + 18, label, colour=_SOFT))
                else:
                    self.line(x[0], value, x[1], value, _GRID)
                    self.body.append(self.text(_LEFT - 7, self.py(value) + 4, label, anchor="end", colour=_SOFT))

    def px(self, x: float) -> float:
        """Across the picture, px."""
        return _LEFT + (x - self._x[0]) / (self._x[1] - self._x[0]) * (self._size[0] - _LEFT - _RIGHT)

    def py(self, y: float) -> float:
        """Down the picture, px."""
        return self._size[1] - _BOTTOM - (y - self._y[0]) / (self._y[1] - self._y[0]) * (self._size[1] - _TOP - _BOTTOM)

    @staticmethod
    def text(x: float, y: float, words: str, *, anchor="middle", size=13, colour=_INK, weight=400) -> str:
        """A text at a place in the picture, px; escaped."""
        style = f'font-size="{size}" font-weight="{weight}" fill="{colour}" text-anchor="{anchor}"'
        return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'

    def note(self, x: float, y: float, words: str, **style: object) -> None:
        """Words at a place on the axes."""
        self.body.append(self.text(self.px(x), self.py(y), words, **style))  # type: ignore[arg-type]

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1, dash: str = "") -> None:
        """A straight line between two places."""
        ends = f'x1="{self.px(x1):.1f}" y1="{self.py(y1):.1f}" x2="{self.px(x2):.1f}" y2="{self.py(y2):.1f}"'
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.body.append(f'<line {ends} stroke="{colour}" stroke-width="{width}"{dashes}/>')

    def path(self, x: Sequence[float], y: Sequence[float], colour: str, width: float = 2) -> None:
        """A line through places."""
        points = " ".join(f"{self.px(a):.1f},{self.py(b):.1f}" for a, b in zip(x, y, strict=True))
        self.body.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"/>')

    def dots(self, x: Sequence[float], y: Sequence[float], colour: str, radius: float = 4) -> None:
        """A dot at each place."""
        for a, b in zip(x, y, strict=True):
            self.body.append(f'<circle cx="{self.px(a):.1f}" cy="{self.py(b):.1f}" r="{radius}" fill="{colour}"/>')

    def box(self, x1: float, y1: float, x2: float, y2: float, colour: str) -> None:
        """A filled rectangle between two places."""
        left, top = min(self.px(x1), self.px(x2)), min(self.py(y1), self.py(y2))
        width, height = abs(self.px(x2) - self.px(x1)), abs(self.py(y2) - self.py(y1))
        place = f'x="{left:.1f}" y="{top:.1f}" width="{width:.2f}" height="{height:.2f}"'
        self.body.append(f'<rect {place} fill="{colour}"/>')

    def svg(self) -> str:
        """The picture."""
        width, height = self._size
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
            f'height="{height:g}" role="img" aria-label="{escape(self._title)}" font-family="Helvetica, Arial, '
            f'sans-serif"><rect width="{width:g}" height="{height:g}" fill="#ffffff"/>{"".join(self.body)}</svg>\n'
        )


def focus_chart(curve: FocusCurve) -> str:
    """All measures along z, each from its lowest to its highest value; the chosen one in colour, with its peak."""
    z = curve.z_um
    axes = Axes(
        f"Focus at {curve.best_um:.2f} µm, by {curve.measure.replace('_', ' ')}",
        _widened(z), (0.0, 1.08), ("focus drive (µm)", "sharpness, of its range"),
    )  # fmt: skip
    for name, values in sorted(curve.measures.items(), key=lambda item: item[0] == curve.measure):
        scaled = (values - values.min()) / max(float(np.ptp(values)), 1e-30)
        chosen = name == curve.measure
        axes.path(z.tolist(), scaled.tolist(), _BLUE if chosen else _GRAY, 2.2 if chosen else 1)
        if chosen:
            axes.dots(z.tolist(), scaled.tolist(), _BLUE)
    axes.line(curve.best_um, 0, curve.best_um, 1.08, _ORANGE, 1.6, "6 4")
    return axes.svg()


def timing_chart(timing: TimingResult) -> str:
    """Histogram of the intervals between frames, with the nominal one marked."""
    values = timing.intervals_ms
    nominal = 1000 / timing.nominal_hz
    low, high = min(float(values.min()), nominal), max(float(np.quantile(values, 0.999)), nominal)
    half = max(high - low, 0.02 * nominal) * 0.15
    low, high = low - half, high + half
    counts, edges = np.histogram(np.clip(values, low, high), 48, (low, high))
    title = (
        f"{timing.fps_hz:.4g} images/s, jitter {max(timing.jitter_ms, 0.001):.2g} ms, "
        f"{timing.lost} of {timing.frames + timing.lost} frames lost"
    )
    axes = Axes(title, (low, high), (0.0, 1.08 * float(counts.max())), ("interval between frames (ms)", "frames"))
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            axes.box(left, 0, right, float(count), _BLUE)
    axes.line(nominal, 0, nominal, 1.08 * float(counts.max()), _ORANGE, 1.6, "6 4")
    axes.note(nominal, 1.02 * float(counts.max()), f" nominal {nominal:.4g} ms", anchor="start", colour=_ORANGE)
    return axes.svg()


def flat_chart(field: FieldResult) -> str:
    """The flat field as a map of parts, in per cent of the mean light, with bad pixels as rings."""
    h, w = field.flat.shape
    rows, columns = 24, round(24 * w / h)
    parts = np.array([[p.mean() for p in np.array_split(r, columns, axis=1)] for r in np.array_split(field.flat, rows)])
    title = f"Light over the field: {field.vignetting_percent:.1f} % vignetting, {len(field.bad_pixels)} bad pixels"
    height = 520.0 * h / w + _TOP + _BOTTOM
    axes = Axes(title, (0.0, float(w)), (float(h), 0.0), ("x (px)", "y (px)"), (520.0 + _LEFT + _RIGHT, height))
    span = max(float(np.abs(parts - 1).max()), 0.01)
    for row in range(rows):
        for column in range(columns):
            box = (column * w / columns, row * h / rows, (column + 1) * w / columns + 0.6, (row + 1) * h / rows + 0.6)
            axes.box(*box, _tone(float(parts[row, column] - 1) / span))
    for x, y in field.bad_pixels[:200]:
        place = f'cx="{axes.px(float(x)):.1f}" cy="{axes.py(float(y)):.1f}"'
        axes.body.append(f'<circle {place} r="5" fill="none" stroke="{_INK}" stroke-width="1.4"/>')
    for y, x, words in ((0, 0, "tl"), (0, -1, "tr"), (-1, 0, "bl"), (-1, -1, "br")):
        value = f"{100 * float(parts[y, x]):.1f} %"
        anchor = "start" if words[1] == "l" else "end"
        axes.note(8 if x == 0 else w - 8, 24 if y == 0 else h - 10, value, anchor=anchor)
    return axes.svg()


def stage_chart(stage: StageResult) -> str:
    """Where the stage stopped beside where it was told to, by the fit: moves, and residuals drawn larger."""
    moves, residuals = stage.moves_um, stage.residuals_um
    reach = 1.25 * float(np.abs(moves).max())
    gain = 0.2 * reach / max(float(np.abs(residuals).max()), 1e-9)
    gain = 10.0 ** np.floor(np.log10(gain))
    title = f"Stage: stops within {stage.residual_um:.3f} µm, drawn × {gain:g}"
    axes = Axes(title, (-reach, reach), (-reach, reach), ("x (µm)", "y (µm)"), (500.0, 500.0))
    for (x, y), (dx, dy) in zip(moves, residuals, strict=True):
        axes.line(x, y, x + gain * dx, y + gain * dy, _ORANGE, 2)
    axes.dots(moves[:, 0].tolist(), moves[:, 1].tolist(), _BLUE, 3)
    return axes.svg()


def control_chart(days: Sequence[ControlDay]) -> str:
    """Levey-Jennings: each day's deviation from the certified value in sd, with Westgard's limits at 1, 2 and 3."""
    values = np.array([day.deviation_sd for day in days])
    reach = max(4.2, 1.15 * float(np.abs(values).max(initial=0)))
    labels = ("", "deviation from the certified value (sd)")
    axes = Axes("Bead counts, day by day", (-0.6, len(days) - 0.4), (-reach, reach), labels, ticks=(False, True))
    for sd, colour, dash in ((0, _INK, ""), (2, _ORANGE, "6 4"), (3, "#b3261e", "")):
        for side in (-1, 1) if sd else (1,):
            axes.line(-0.6, side * sd, len(days) - 0.4, side * sd, colour, 1.3, dash)
    axes.path(list(range(len(days))), values.tolist(), _GRAY, 1.2)
    every = max(1, int(np.ceil(len(days) / 8)))
    for i, (day, rule) in enumerate(zip(days, westgard(values.tolist()), strict=True)):
        colour = "#b3261e" if rule in REJECTING else _ORANGE if rule else _BLUE
        axes.dots([i], [float(values[i])], colour)
        if rule:
            axes.note(i, float(values[i]) + (0.35 if values[i] > 0 else -0.65), rule, colour=colour)
        if i % every == 0:
            axes.body.append(axes.text(axes.px(i), 360 - _BOTTOM + 18, day.date, colour=_SOFT, size=12))
    return axes.svg()


def write_chart(path: Path, svg: str) -> None:
    """Write a chart. CasaError: it cannot be written."""
    try:
        path.write_text(svg, encoding="utf-8")
    except OSError as error:
        raise CasaError(f"{path}: cannot be written ({error.strerror or error})") from error


def _widened(values: NDArray[np.float64]) -> tuple[float, float]:
    more = max(0.04 * float(np.ptp(values)), 1e-6)
    return float(values.min()) - more, float(values.max()) + more


def _tone(value: float) -> str:
    """Blue where darker than the mean, orange where brighter, -1 to 1."""
    end = np.array([31, 111, 178]) if value < 0 else np.array([240, 160, 70])
    red, green, blue = (np.array([250, 250, 248]) + (end - np.array([250, 250, 248])) * min(abs(value), 1)).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"
