"""Charts of a sample's report as inline SVG: fields beside each other, and sub-populations. Numbers and words only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from casa.report.charts import line, svg, text
from casa.statistics import nice_step
from casa.types import FloatArray, IntArray

#: Points drawn of a scatter plot at most, spread evenly over all.
MAX_POINTS = 1500


@dataclass(frozen=True, slots=True)
class Dot:
    """A field's figure: its number, replicate, value and interval."""

    number: int
    replicate: int
    value: float | None
    interval: tuple[float, float] | None


def mark(group: int, x: float, y: float, r: float) -> str:
    """The mark of a group: shapes that part without colour."""
    match group % 6:
        case 0:
            drawn = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"/>'
        case 1:
            drawn = f'<rect x="{x - r:.1f}" y="{y - r:.1f}" width="{2 * r:.1f}" height="{2 * r:.1f}"/>'
        case 2:
            drawn = f'<path d="M{x:.1f} {y - 1.25 * r:.1f}l{1.15 * r:.1f} {2 * r:.1f}h{-2.3 * r:.1f}z"/>'
        case 3:
            drawn = f'<path d="M{x:.1f} {y - 1.4 * r:.1f}l{1.4 * r:.1f} {1.4 * r:.1f}l{-1.4 * r:.1f} {1.4 * r:.1f}'
            drawn += f'l{-1.4 * r:.1f} {-1.4 * r:.1f}z"/>'
        case 4:
            drawn = (
                f'<path d="M{x - r:.1f} {y - r:.1f}l{2 * r:.1f} {2 * r:.1f}m0 {-2 * r:.1f}l{-2 * r:.1f} {2 * r:.1f}"/>'
            )
        case _:
            drawn = f'<path d="M{x:.1f} {y - 1.3 * r:.1f}v{2.6 * r:.1f}M{x - 1.3 * r:.1f} {y:.1f}h{2.6 * r:.1f}"/>'
    return f'<g class="mark-{group % 6}">{drawn}</g>'


def field_dots(
    name: str, unit: str, dots: Sequence[Dot], pooled: float | None, top: float | None = None
) -> Markup | None:
    """A figure of each field with its interval, and the pooled value as a line; None where no field has one."""
    known = [dot for dot in dots if dot.value is not None]
    if not known or pooled is None:
        return None
    width, height, left, right, above, below = 460.0, 200.0, 42.0, 12.0, 24.0, 36.0
    reached = max(max(dot.interval[1] if dot.interval else dot.value or 0.0 for dot in known), pooled)
    step = nice_step(top or reached, 4)
    end = top or step * max(np.ceil(reached / step), 1)
    base, per_unit = height - below, (height - above - below) / end
    column = (width - left - right) / max(len(dots), 1)
    body = []
    for tick in np.arange(0, end + step / 2, step):
        body.append(line(left, base - tick * per_unit, width - right, base - tick * per_unit, "grid"))
        body.append(text(left - 6, base - tick * per_unit + 4, f"{tick:g}", "tick", "end"))
    y = base - pooled * per_unit
    body.append(line(left, y, width - right, y, "median"))
    for place, dot in enumerate(dots):
        x = left + (place + 0.5) * column
        body.append(text(x, base + 15, str(dot.number), "tick", "middle"))
        if dot.value is None:
            body.append(text(x, base - 5, "?", "tick", "middle"))
            continue
        if dot.interval:
            low, high = (base - min(v, end) * per_unit for v in dot.interval)
            body.append(f'<path d="M{x - 4:.1f} {low:.1f}h8m-4 0V{high:.1f}m-4 0h8" class="whisker"/>')
        shape = (
            mark(0, x, base - dot.value * per_unit, 4.2)
            if dot.replicate == 1
            else mark(1, x, base - dot.value * per_unit, 4)
        )
        body.append(shape)
    body.append(line(left, base, width - right, base, "axis"))
    body.append(text(left - 36, 12, f"{name} ({unit})", "label"))
    body.append(text((left + width - right) / 2, height - 4, "field", "tick", "middle"))
    said = ", ".join(f"field {d.number} {d.value:.3g}" for d in known)
    return svg(width, height, body, f"{name} by field in {unit}: {said}; pooled {pooled:.3g}", "field-dots")


def group_scatter(
    x: FloatArray, y: FloatArray, label: IntArray, names: tuple[str, str], units: tuple[str, str]
) -> Markup:
    """Tracks (n,) by two parameters, each with the mark of its group ``label`` (n,), which begin at 0."""
    width, height, left, right, above, below = 460.0, 300.0, 46.0, 12.0, 12.0, 42.0
    shown = np.arange(len(x))
    if len(shown) > MAX_POINTS:
        shown = np.unique(np.linspace(0, len(x) - 1, MAX_POINTS).round().astype(int))
    ends, steps = [], []
    for values in (x, y):
        reached = float(np.percentile(values, 99.5)) * 1.03
        steps.append(nice_step(reached, 6))
        ends.append(steps[-1] * np.ceil(reached / steps[-1]))
    base = height - below
    across, up = (width - left - right) / ends[0], (base - above) / ends[1]
    body = []
    for tick in np.arange(0, ends[1] + steps[1] / 2, steps[1]):
        body.append(line(left, base - tick * up, width - right, base - tick * up, "grid"))
        body.append(text(left - 6, base - tick * up + 4, f"{tick:g}", "tick", "end"))
    for tick in np.arange(0, ends[0] + steps[0] / 2, steps[0]):
        body.append(line(left + tick * across, base, left + tick * across, base + 4, "axis"))
        body.append(text(left + tick * across, base + 16, f"{tick:g}", "tick", "middle"))
    body.append(line(left, base, width - right, base, "axis"))
    size = 3.2 if len(shown) < 400 else 2.4
    for i in shown.tolist():
        place = left + min(float(x[i]), ends[0]) * across, base - min(float(y[i]), ends[1]) * up
        body.append(mark(int(label[i]), *place, size))
    body.append(text((left + width - right) / 2, height - 6, f"{names[0]} ({units[0]})", "label", "middle"))
    body.append(
        f'<text transform="translate(11 {(above + base) / 2:.1f}) rotate(-90)" class="label" text-anchor="middle">'
        f"{names[1]} ({units[1]})</text>"
    )
    said = f"{names[1]} over {names[0]} of {len(shown)} tracks, by sub-population"
    return svg(width, height, body, said, "group-scatter")


def mark_key(group: int) -> Markup:
    """The mark of a group for a legend or a table."""
    return Markup(f'<svg class="mark-key" viewBox="0 0 16 16" aria-hidden="true">{mark(group, 8, 8, 4.6)}</svg>')
