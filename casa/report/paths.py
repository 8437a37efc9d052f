"""Track plots as inline SVG: all paths in the field, and all paths of one second from one origin.

Paths are drawn in tenths of a pixel as whole numbers and thinned to a fixed number of points, so that a
recording of any length makes a page of about the same size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from casa.report.charts import line, svg, text
from casa.statistics import nice_step
from casa.types import TrackTable

MAX_TRACKS = 200
DENSE = 90
MAX_POINTS = 60_000


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """One track's measured path.

    x_px, y_px (n,) float64, NaN where the sperm was missed; t_s (n,) from the recording's first frame; ``shade``
    is its grade or "u"; ``words`` is what a pointer on it shows.
    """

    track_id: int
    t_s: NDArray[np.float64]
    x_px: NDArray[np.float64]
    y_px: NDArray[np.float64]
    shade: str
    words: str


@dataclass(frozen=True, slots=True)
class Scale:
    """What one pixel is: micrometres along x and y, or 1 and 1 with the unit px."""

    x: float
    y: float
    unit: str


def split_tracks(table: TrackTable) -> tuple[TrackTable, NDArray[np.int64], NDArray[np.int64]]:
    """The rows sorted by track and time, with the ids and where each one's rows start (n_tracks + 1,)."""
    order = np.lexsort((table.t_ns, table.track_id))
    table = table.select(order)
    ids, starts = np.unique(table.track_id, return_index=True)
    return table, ids, np.append(starts, len(table))


def choose_paths(table: TrackTable, shades: Mapping[int, str], words: Mapping[int, str]) -> tuple[list[Path], int]:
    """At most MAX_TRACKS paths spread evenly over all tracks, thinned to MAX_POINTS; and how many tracks there are."""
    if len(table) == 0:
        return [], 0
    first_ns = int(table.t_ns.min())
    table, ids, starts = split_tracks(table)
    chosen = np.unique(np.linspace(0, len(ids) - 1, min(len(ids), MAX_TRACKS)).round().astype(np.int64))
    points = int((starts[chosen + 1] - starts[chosen]).sum())
    stride = max(1, -(-points // MAX_POINTS))
    paths = []
    for k in chosen.tolist():
        rows = np.arange(int(starts[k]), int(starts[k + 1]))
        if stride > 1:
            rows = np.unique(np.append(rows[::stride], rows[-1]))
        track_id = int(ids[k])
        paths.append(
            Path(
                track_id,
                (table.t_ns[rows] - first_ns) / 1e9,
                table.x_measured_px[rows],
                table.y_measured_px[rows],
                shades.get(track_id, "u"),
                words.get(track_id, f"track {track_id}, not measured"),
            )
        )
    return paths, len(ids)


def path_data(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """SVG path commands in whole tenths of a unit; a gap (NaN) lifts the pen."""
    parts: list[str] = []
    px = py = 0
    down = False
    for fx, fy in zip((x * 10).tolist(), (y * 10).tolist(), strict=True):
        if fx != fx or fy != fy:
            down = False
            continue
        ix, iy = round(fx), round(fy)
        if not down:
            parts.append(f"M{ix} {iy}")
            down = True
        elif (ix, iy) != (px, py):
            parts.append(f"l{ix - px} {iy - py}")
        px, py = ix, iy
    return "".join(parts)


def track_marks(paths: Iterable[Path], size: float) -> list[str]:
    """The paths of progressive and non-progressive sperm with a dot at the end; a cross where one is immotile."""
    body = []
    for path in sorted(paths, key=lambda p: "dcuba".index(p.shade) if p.shade in "dcuba" else 0):
        seen = np.isfinite(path.x_px) & np.isfinite(path.y_px)
        if not seen.any():
            continue
        title = f"<title>{escape(path.words)}</title>"
        drawn = f'<path d="{path_data(path.x_px, path.y_px)}" class="track t-{path.shade}"/>'
        if path.shade == "d":
            x, y, r = round(path.x_px[seen].mean() * 10), round(path.y_px[seen].mean() * 10), round(size * 5)
            mark = f'<path d="M{x - r} {y - r}l{2 * r} {2 * r}m0-{2 * r}l-{2 * r} {2 * r}" class="cross"/>'
        else:
            last = int(np.flatnonzero(seen)[-1])
            x, y = round(path.x_px[last] * 10), round(path.y_px[last] * 10)
            mark = f'<circle cx="{x}" cy="{y}" r="{size * 4:.0f}" class="end e-{path.shade}"/>'
        body.append(f"<g>{title}{drawn}{mark}</g>")
    return body


def _mark_size(n_paths: int) -> float:
    return 0.6 if n_paths > DENSE else 1.0


def scale_bar(x: float, y: float, span: float, per_unit: float, unit: str, size: float) -> str:
    """A bar of a round length, about a sixth of ``span``, ending at ``x``; ``per_unit`` is drawing units a ``unit``."""
    length = nice_step(span / per_unit / 2, 3)
    long = length * per_unit
    return line(x - long, y, x, y, "scale") + (
        f'<text x="{x - long / 2:.1f}" y="{y - 0.5 * size:.1f}" class="scale-text" font-size="{size:.1f}" '
        f'text-anchor="middle">{length:g} {escape(unit)}</text>'
    )


def field_plot(paths: list[Path], width_px: int, height_px: int, scale: Scale) -> Markup:
    """All paths where they were in the field, with a scale bar below the field's edge."""
    width, height = width_px * 10.0, height_px * 10.0
    size = width_px / 640 * 10
    foot = size * 24
    body = [f'<rect x="0" y="0" width="{width:g}" height="{height:g}" class="field"/>']
    body += [f'<svg x="0" y="0" width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}">']
    body += [*track_marks(paths, width_px / 64 * _mark_size(len(paths))), "</svg>"]
    body.append(scale_bar(width - size * 2, height + foot * 0.75, width, 10 / scale.x, scale.unit, size * 13))
    said = f"Paths of {len(paths)} sperm in a field of {width_px} by {height_px} pixels, coloured and dashed by grade"
    return svg(width, height + foot, body, said, "field-plot" + " dense" * (len(paths) > DENSE))


def one_second(path: Path, scale: Scale) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The first second of a path from its first point, in the unit of ``scale``; None when it was seen for less."""
    seen = np.isfinite(path.x_px) & np.isfinite(path.y_px)
    t, x, y = path.t_s[seen], path.x_px[seen], path.y_px[seen]
    if t.size < 2 or t[-1] - t[0] < 0.97:
        return None
    inside = t <= t[0] + 1.0 + 1e-9
    return (x[inside] - x[0]) * scale.x, (y[inside] - y[0]) * scale.y


def reach_of(paths: Sequence[Path], scale: Scale) -> float:
    """How far from its start a second of almost every path leads; 0 without any path of a second."""
    reach = [float(np.hypot(*piece).max()) for path in paths if (piece := one_second(path, scale)) is not None]
    return float(np.percentile(reach, 98)) if reach else 0.0


def origin_plot(paths: Sequence[Path], scale: Scale, reach: float | None = None) -> tuple[Markup, int] | None:
    """Each path's first second from one origin, inside the circles that part the grades; None without any.

    WHO 2021 grades by the distance from start to end within one second, so a path's end lies inside or outside
    of the 5 and 25 um circles as its sperm is non-progressive, slow or rapid. ``reach`` is what the plot is to hold, by
    default ``reach_of`` these paths; plots that share it can be compared.
    """
    pieces = [(path, piece) for path in paths if (piece := one_second(path, scale)) is not None]
    if not pieces:
        return None
    calibrated = scale.unit != "px"
    radius = max((reach_of(paths, scale) if reach is None else reach) * 1.06, 30.0 if calibrated else 5.0)
    half = 2000.0
    unit = half / radius
    step = max(nice_step(radius, 3), 50.0) if calibrated else nice_step(radius, 3)
    rings = ([5.0, 25.0] if calibrated else []) + np.arange(step, radius * 0.97, step).tolist()
    body = [f'<circle cx="0" cy="0" r="{half:g}" class="field"/>']
    moved = [
        Path(path.track_id, path.t_s[:0], x * unit / 10, y * unit / 10, path.shade, path.words)
        for path, (x, y) in pieces
    ]
    marks = [
        mark.replace(' class="cross"', ' class="cross small"')
        for mark in track_marks(moved, 10 * _mark_size(len(moved)))
    ]
    body += ['<clipPath id="origin-clip"><circle cx="0" cy="0" r="2000"/></clipPath><g clip-path="url(#origin-clip)">']
    body += [*marks, "</g>"]
    for ring in sorted(rings):
        limit = calibrated and ring in (5.0, 25.0)
        body.append(f'<circle cx="0" cy="0" r="{ring * unit:.0f}" class="{"ring limit-ring" if limit else "ring"}"/>')
    for ring in sorted(rings):
        body.append(text(0, -ring * unit - 30, f"{ring:g} {scale.unit}", "ring-text", "middle"))
    said = f"The first second of {len(pieces)} paths drawn from one origin" + (
        ", with circles at 5 and 25 micrometres" if calibrated else ""
    )
    inner = f'<g transform="translate({half + 40:g} {half + 160:g})">{"".join(body)}</g>'
    return svg(2 * half + 80, 2 * half + 200, [inner], said, "origin-plot" + " dense" * (len(pieces) > DENSE)), len(
        pieces
    )
