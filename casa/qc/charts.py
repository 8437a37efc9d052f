"""Charts of quality control as SVG: Levey-Jennings, Bland-Altman, Passing-Bablok. Shapes and dashes carry what colours
do, so that they can be printed in black and white.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from casa.calibrate.charts import Axes
from casa.qc.agreement import BlandAltman, PassingBablok
from casa.qc.evaluate import Chart, Point, Segment
from casa.qc.pairs import Pairs

_INK, _SOFT, _GRID, _BLUE, _RED, _BAND = "#1d2733", "#5b6875", "#dde3ea", "#1f6fb2", "#b3261e", "#e6eaef"
_SIZE = (900.0, 330.0)
_SQUARE = (460.0, 420.0)
#: Names of figures for people.
NAMES = {
    "concentration_m_per_ml": "Concentration", "pr_percent": "Progressive motility", "total_percent": "Total motility",
    "vcl_um_s": "VCL, median", "vsl_um_s": "VSL, median", "vap_um_s": "VAP, median", "lin_percent": "LIN, median",
    "heads_per_frame": "Heads in a frame", "fps_hz": "Frame rate", "jitter_px": "Jitter", "drift_px_s": "Drift",
}  # fmt: skip


def name_of(figure: str) -> str:
    """A figure's name for people."""
    return NAMES.get(figure, figure.replace("_", " "))


def unit_of(unit: str) -> str:
    """A unit with its micro sign."""
    return unit.replace("um", "µm")


def levey_jennings(chart: Chart) -> str:
    """Runs in order with mean and limits at 2 and 3 sd of each segment, the moving average, and what is broken.

    A ring: part of the baseline; a dot: in control; a triangle: a warning; a square: out of control. A vertical line
    with a number is a break in the series.
    """
    points = chart.points
    values = [p.value for p in points]
    limits = [s.mean + side * 3.4 * s.sd for s in chart.segments if s.mean is not None and s.sd for side in (-1, 1)]
    low, high = min(values + limits), max(values + limits)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    unit = f" ({unit_of(chart.unit)})" if chart.unit else ""
    axes = Axes(
        name_of(chart.figure), (-0.7, max(len(points), 12) - 0.3), (low - room, high + room),
        ("run", f"{name_of(chart.figure)}{unit}"), _SIZE, (False, True),
    )  # fmt: skip
    start = 0
    for number, segment in enumerate(chart.segments):
        _segment(axes, segment, start, low - room, high + room, number)
        start += len(segment.points)
    axes.path(range(len(values)), values, "#aeb8c2", 1.1)
    for i, point in enumerate(points):
        _mark(axes, i, point, points[i - 1].rules if i else ())
    every = max(1, math.ceil(len(points) / 9))
    for i in range(0, len(points), every):
        axes.body.append(axes.text(axes.px(i), _SIZE[1] - 32, points[i].run.utc[:10], colour=_SOFT, size=11))
    return axes.svg()


def _segment(axes: Axes, segment: Segment, start: int, low: float, high: float, number: int) -> None:
    """Limits of a segment, its moving average, and the line that parts it from the one before."""
    left, right = start - 0.5, start + len(segment.points) - 0.5
    if number:
        axes.line(left, low, left, high, _INK, 1.4, "2 3")
        axes.note(left, high, f" {number}", anchor="start", size=12, weight=700)
    if segment.mean is None or segment.sd is None:
        return
    for sd, dash, colour in ((0, "", _INK), (2, "7 4", _SOFT), (3, "", _RED)):
        for side in (-1, 1) if sd else (1,):
            if sd and not segment.sd:
                continue
            y = segment.mean + side * sd * segment.sd
            axes.line(left, y, right, y, colour, 1.2, dash)
            if sd and len(segment.points) > 5:
                label = f"{side * sd:+d} SD"
                axes.body.append(
                    axes.text(axes.px(left) + 3, axes.py(y) - 3, label, anchor="start", size=10, colour=_SOFT)
                )
    averaged = [(start + i, p) for i, p in enumerate(segment.points) if p.ewma_sd is not None]
    if averaged and segment.sd:
        centre, scatter = segment.mean, segment.sd
        smooth = [min(max(centre + float(p.ewma_sd or 0.0) * scatter, low), high) for _, p in averaged]
        axes.path([i for i, _ in averaged], smooth, _INK, 2.2)


def _mark(axes: Axes, i: int, point: Point, before: tuple[str, ...]) -> None:
    """A run's shape, and the rules that it breaks and the run before did not."""
    x, y = axes.px(i), axes.py(point.value)
    if point.state == "out":
        axes.body.append(f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" fill="{_RED}"/>')
    elif point.state == "warning":
        corners = f"{x:.1f},{y - 6:.1f} {x + 6:.1f},{y + 5:.1f} {x - 6:.1f},{y + 5:.1f}"
        axes.body.append(f'<polygon points="{corners}" fill="#ffffff" stroke="{_INK}" stroke-width="1.6"/>')
    else:
        ring = point.state == "baseline"
        style = f'fill="#ffffff" stroke="{_BLUE}" stroke-width="1.5"' if ring else f'fill="{_BLUE}"'
        axes.body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.6" {style}/>')
    if point.state in ("out", "warning"):
        above = (point.deviation_sd or 0.0) > 0
        told = [rule for rule in point.rules if rule not in before]
        words = " ".join(rule for rule in told if rule != "1-2s" or point.state == "warning")
        axes.body.append(
            axes.text(x, y + (-9 if above else 18) + 11 * (i % 2) * (-1 if above else 1), words, size=10, weight=600)
        )


def bland_altman_chart(pairs: Pairs, found: BlandAltman) -> str:
    """Differences over means, with bias and limits of agreement (dashed) and their intervals (shaded)."""
    mean, difference = (pairs.first + pairs.second) / 2, pairs.second - pairs.first
    limits = found.limits
    reach = [*difference.tolist(), *limits.lower_interval, *limits.upper_interval, 0.0]
    unit = f" ({unit_of(pairs.unit)})" if pairs.unit else ""
    axes = Axes(
        f"{name_of(pairs.figure) if pairs.figure in NAMES else pairs.words}: differences", _wide(mean.tolist()),
        _wide(reach), (f"mean of both{unit}", f"{pairs.second_name} − {pairs.first_name}{unit}"), _SQUARE,
    )  # fmt: skip
    left, right = _wide(mean.tolist())
    for low, high in (limits.lower_interval, limits.bias_interval, limits.upper_interval):
        axes.box(left, low, right, high, _BAND)
    axes.line(left, 0, right, 0, _SOFT, 1)
    for value, dash, words in (
        (limits.upper, "7 4", "+1.96 SD"), (limits.bias, "", "mean"), (limits.lower, "7 4", "−1.96 SD"),
    ):  # fmt: skip
        axes.line(left, value, right, value, _INK, 1.6, dash)
        axes.body.append(
            axes.text(axes.px(right) - 3, axes.py(value) - 4, f"{words} {value:.3g}", anchor="end", size=11)
        )
    axes.dots(mean.tolist(), difference.tolist(), _BLUE, 3.2)
    return axes.svg()


def passing_bablok_chart(pairs: Pairs, found: PassingBablok) -> str:
    """Second method over first: the line with its 95 % band, and the line of equality (dashed)."""
    everything = [*pairs.first.tolist(), *pairs.second.tolist()]
    low, high = _wide(everything)
    unit = f" ({unit_of(pairs.unit)})" if pairs.unit else ""
    axes = Axes(
        f"{name_of(pairs.figure) if pairs.figure in NAMES else pairs.words}: Passing-Bablok", (low, high), (low, high),
        (f"{pairs.first_name}{unit}", f"{pairs.second_name}{unit}"), _SQUARE,
    )  # fmt: skip
    if math.isfinite(found.slope_interval[1]):
        _band(axes, pairs, found, low, high)
    axes.path([low, high], [low, high], _SOFT, 1.2)
    axes.body[-1] = axes.body[-1].replace("/>", ' stroke-dasharray="6 4"/>')
    ends = _clipped(found.slope, found.intercept, low, high)
    axes.path([x for x, _ in ends], [y for _, y in ends], _INK, 2.2)
    axes.dots(pairs.first.tolist(), pairs.second.tolist(), _BLUE, 3.2)
    return axes.svg()


def _band(axes: Axes, pairs: Pairs, found: PassingBablok, low: float, high: float) -> None:
    """Between the lines of the slope's limits, each with the intercept that goes with it."""
    x = np.linspace(low, high, 60)
    lines = [
        float(np.median(pairs.second - slope * pairs.first)) + slope * x for slope in found.slope_interval
    ]  # fmt: skip
    upper, lower = np.clip(np.maximum(*lines), low, high), np.clip(np.minimum(*lines), low, high)
    corners = [*zip(x, upper, strict=True), *zip(x[::-1], lower[::-1], strict=True)]
    shape = " ".join(f"{axes.px(float(a)):.1f},{axes.py(float(b)):.1f}" for a, b in corners)
    axes.body.append(f'<polygon points="{shape}" fill="{_BAND}"/>')


def _clipped(slope: float, intercept: float, low: float, high: float) -> list[tuple[float, float]]:
    """The part of a line inside the square from low to high."""
    x = np.linspace(low, high, 400)
    y = intercept + slope * x
    inside = (y >= low) & (y <= high)
    return [(float(a), float(b)) for a, b in zip(x[inside], y[inside], strict=True)][:: max(int(inside.sum()) - 1, 1)]


def _wide(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 1.0
    return low - room, high + room
