"""Small charts as inline SVG: the motility bar, the reference strip, velocity histograms.

Colours and hatches are classes that the template's style sheet and shared ``<defs>`` define (``fill-a`` …),
so that a chart reads in black and white. Knows numbers and words only, nothing of recordings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from casa.statistics import nice_step

#: Order of the shades of a chart: WHO grades, then what was not graded.
SHADES = ("a", "b", "c", "d", "u")


def svg(width: float, height: float, body: Sequence[str], title: str, css: str = "") -> Markup:
    """An SVG element with a text alternative; its size is the view box, in CSS px at full width."""
    return Markup(
        f'<svg class="{escape(css)}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}" '
        f'preserveAspectRatio="xMidYMid meet">{"".join(body)}</svg>'
    )


def text(x: float, y: float, words: str, css: str = "", anchor: str = "start") -> str:
    """A line of text, escaped."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


def shade(x: float, y: float, width: float, height: float, kind: str) -> str:
    """A rectangle in the shade of a grade."""
    box = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {box} class="shade" fill="url(#fill-{kind})"/>'


def motility_bar(percent: Mapping[str, float | None]) -> Markup:
    """One bar of 100 %, parted into grades a to d, each with its letter and percentage."""
    width, bar_top, bar_height = 940.0, 20.0, 34.0
    body, x = [], 0.0
    known = {grade: value for grade in SHADES[:4] if (value := percent.get(grade)) is not None}
    for grade, value in known.items():
        part = width * value / 100
        body.append(shade(x, bar_top, part, bar_height, grade))
        if part >= 34:
            body.append(
                f'<rect x="{x + part / 2 - 15:.1f}" y="{bar_top + 7:.1f}" width="30" height="20" rx="3" class="tag"/>'
            )
            body.append(text(x + part / 2, bar_top + 22, grade, "bar-letter", "middle"))
        if part >= 26:
            body.append(text(x + part / 2, bar_top - 6, f"{value:.0f} %", "tick", "middle"))
        x += part
    progressive_percent = sum(known.get(grade, 0.0) for grade in "ab")
    named = (("progressive (PR)", progressive_percent), ("total motility", progressive_percent + known.get("c", 0.0)))
    for level, (words, value) in enumerate(named):
        end, y = max(width * value / 100 - 0.5, 0.5), bar_top + bar_height + 11 + 21 * level
        body.append(f'<path d="M0.5 {y - 5:.1f}v10M0.5 {y:.1f}H{end:.1f}m0-5v10" class="bracket"/>')
        words = f"{words} {value:.0f} %"
        if end < width - 170:
            body.append(text(end + 8, y + 4.5, words, "tick"))
        else:
            body.append(text(end - 10, y + 4.5, words, "tick on-line", "end"))
    said = ", ".join(f"grade {grade} {value:.0f} %" for grade, value in known.items())
    return svg(width, bar_top + bar_height + 42, body, f"Share of time by motility grade: {said}", "motility")


def reference_strip(value: float, interval: tuple[float, float] | None, limit: float, top: float, unit: str) -> Markup:
    """A value with its interval on an axis from 0 to ``top``, beside a reference limit."""
    width, height, mid, axis = 252.0, 26.0, 13.0, 186.0
    scale = axis / top

    def at(v: float) -> float:
        return 14 + min(max(v, 0.0), top) * scale

    body = [
        f'<rect x="14" y="{mid - 5:.1f}" width="{at(limit) - 14:.1f}" height="10" class="below"/>',
        f'<rect x="14" y="{mid - 5:.1f}" width="{axis:.1f}" height="10" class="axis-box"/>',
        line(at(limit), mid - 11, at(limit), mid + 11, "limit"),
        text(9, mid + 4, "0", "end-label", "end"),
        text(18 + axis, mid + 4, f"{top:g} {unit}", "end-label"),
    ]
    said = f"{value:.3g}, reference limit {limit:g}, axis 0 to {top:g} {unit}"
    if interval:
        low, high = at(interval[0]), at(interval[1])
        body.append(f'<path d="M{low:.1f} {mid - 5:.1f}v10M{low:.1f} {mid:.1f}H{high:.1f}m0-5v10" class="whisker"/>')
        said += f", 95 % interval {interval[0]:.3g} to {interval[1]:.3g}"
    body.append(f'<circle cx="{at(value):.1f}" cy="{mid:.1f}" r="4.5" class="dot"/>')
    return svg(width, height, body, said, "strip")


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts (n_shades, n_bins) over equal bins from 0; the last bin also holds what lies beyond when ``open_end``."""

    step: float
    counts: NDArray[np.int64]
    open_end: bool


def bin_values(values: NDArray[np.float64], shades: NDArray[np.str_], about: int = 22) -> Histogram | None:
    """Histogram of the finite values by shade; None where there are none.

    The axis ends at the 99th percentile, so that one wrong track cannot squeeze all the others into one bin.
    """
    finite = np.isfinite(values)
    values, shades = values[finite], shades[finite]
    if values.size == 0:
        return None
    top = float(np.percentile(values, 99)) if values.size >= 50 else float(values.max())
    step = nice_step(max(top, 1e-9) * 1.02, about)
    n_bins = max(int(np.ceil(max(top, 1e-9) * 1.001 / step)), 4)
    index = np.minimum((values / step).astype(np.int64), n_bins - 1)
    counts = np.stack([np.bincount(index[shades == kind], minlength=n_bins) for kind in SHADES])
    return Histogram(step, counts, bool((values >= step * n_bins).any()))


def histogram(name: str, unit: str, values: NDArray[np.float64], shades: NDArray[np.str_]) -> Markup | None:
    """A histogram stacked by shade, with the median marked; None where no value is finite."""
    bins = bin_values(values, shades)
    if bins is None:
        return None
    median = float(np.median(values[np.isfinite(values)]))
    width, height, left, right, top, bottom = 320.0, 218.0, 36.0, 14.0, 22.0, 40.0
    n_bins = bins.counts.shape[1]
    end = n_bins * bins.step
    tallest = int(bins.counts.sum(axis=0).max())
    y_step = max(nice_step(tallest, 4), 1.0)
    y_top = y_step * int(np.ceil(tallest / y_step))
    x_scale, y_scale = (width - left - right) / end, (height - top - bottom) / y_top
    base = height - bottom
    body = []
    for tick in np.arange(0, y_top + y_step / 2, y_step):
        y = base - tick * y_scale
        body.append(line(left, y, width - right, y, "grid"))
        body.append(text(left - 5, y + 4, f"{tick:g}", "tick", "end"))
    for column in range(n_bins):
        y = base
        for kind, count in zip(SHADES, bins.counts[:, column], strict=True):
            if count:
                y -= count * y_scale
                body.append(shade(left + column * bins.step * x_scale, y, bins.step * x_scale, count * y_scale, kind))
    body.append(line(left, base, width - right, base, "axis"))
    x_step = nice_step(end, 6)
    for tick in np.arange(0, end + x_step * 1e-6, x_step):
        x = left + tick * x_scale
        body.append(line(x, base, x, base + 4, "axis"))
        body.append(text(x, base + 16, f"{tick:g}", "tick", "middle"))
    if bins.open_end:
        body.append(text(width - right, top + 10, "last bar: and above", "tick", "end"))
    x = left + min(median, end) * x_scale
    body.append(line(x, top - 4, x, base, "median"))
    near_end = median > 0.7 * end
    body.append(
        text(
            x - 5 if near_end else x + 5, top - 8, f"median {median:.3g}", "tick strong", "end" if near_end else "start"
        )
    )
    body.append(text((left + width - right) / 2, height - 6, f"{name} ({unit})", "label", "middle"))
    counted = int(np.isfinite(values).sum())
    said = f"Histogram of {name} of {counted} tracks, 0 to {end:g} {unit}, median {median:.3g} {unit}"
    return svg(width, height, body, said, "histogram")
