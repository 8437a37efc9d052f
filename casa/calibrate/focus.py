"""Focus: several measures of sharpness along z, the one with the sharpest single peak chosen, and an autofocus on it.

Which measure works depends on the sample: halos of phase contrast do not fade with defocus, so that plain contrast and
gradients can be flat, or peak beside the focus. So all are computed from each picture, and the curves decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, laplace

from casa.errors import InputError

FloatArray = NDArray[np.float64]
Picture = NDArray[np.number]
OnProgress = Callable[[str, int, int], None]

#: How much of its way up and down a curve goes only once: below, it has several peaks.
MIN_UNIMODALITY = 0.75
#: A curve that falls by less than this part of its peak shows no focus.
MIN_CONTRAST = 0.12


def sharpness_measures(picture: Picture) -> dict[str, float]:
    """Measures of sharpness of a gray picture (h, w), by name; each is larger the sharper it is, and free of exposure.

    laplacian : energy of the Laplacian of the picture under a blur of 1 px (Nayar); laplacian_fine : of 0.7 px.
    tenengrad : energy of the gradient. brenner : of differences two px apart. band : of detail of 1 to 2.5 px.
    variance : of gray levels. All but the last are taken without the 0.1 % brightest and darkest px.
    """
    values = np.asarray(picture, np.float64)
    values = values / max(float(values.mean()), 1e-9)
    soft = gaussian_filter(values, 1.0, truncate=3)
    dy, dx = np.gradient(soft)
    return {
        "laplacian": _energy(laplace(soft)),
        "laplacian_fine": _energy(laplace(gaussian_filter(values, 0.7, truncate=3))),
        "tenengrad": _energy(np.hypot(dx, dy)),
        "brenner": _energy(np.hypot(soft[2:, 1:-1] - soft[:-2, 1:-1], soft[1:-1, 2:] - soft[1:-1, :-2])),
        "band": _energy(soft - gaussian_filter(soft, 2.3, truncate=3)),
        "variance": float(values.var()),
    }


def _energy(values: FloatArray) -> float:
    size = np.abs(values)
    return float(np.mean(np.minimum(size, np.quantile(size, 0.999)) ** 2))


@dataclass(frozen=True, slots=True)
class FocusCurve:
    """Sharpness along the focus.

    z_um (n,) ascending; measures : name -> (n,) sharpness; measure : the name chosen. best_um : of its peak.
    half_width_um : of the peak at half its height. unimodality, contrast : of the chosen one, 0 to 1. inside : whether
    the peak is inside of the range, and not at its end.
    """

    z_um: FloatArray
    measures: Mapping[str, FloatArray]
    measure: str
    best_um: float
    half_width_um: float
    unimodality: float
    contrast: float
    inside: bool


def focus_curve(z_um: FloatArray, measures: Mapping[str, FloatArray]) -> FocusCurve:
    """Choose the measure whose curve has the sharpest single peak; z (n,) in any order, n of at least 5.

    Raises
    ------
    InputError : too few heights, or no measure has one clear peak.
    """
    if len(z_um) < 5:
        raise InputError(f"{len(z_um)} heights are too few for a focus curve; give at least 5")
    order = np.argsort(z_um, kind="stable")
    z = np.asarray(z_um, float)[order]
    best: tuple[float, str, float, float, float] | None = None
    for name, values in measures.items():
        v = np.asarray(values, float)[order]
        contrast = float((v.max() - v.min()) / v.max()) if v.max() > 0 else 0.0
        unimodality = _unimodality(v)
        width = _half_width(z, v)
        score = unimodality**2 * contrast / np.sqrt(width)
        if contrast >= MIN_CONTRAST and unimodality >= MIN_UNIMODALITY and (best is None or score > best[0]):
            best = score, name, unimodality, contrast, width
    if best is None:
        raise InputError(
            "no focus was found: sharpness has no single peak along z; use a slide with fine detail, more light, "
            "or a wider range"
        )
    _, name, unimodality, contrast, width = best
    v = np.asarray(measures[name], float)[order]
    peak = int(np.argmax(v))
    curves = {key: np.asarray(value, float)[order] for key, value in measures.items()}
    inside = 0 < peak < len(z) - 1
    return FocusCurve(z, curves, name, _peak_um(z, v, width), width, unimodality, contrast, inside)


def _unimodality(v: FloatArray) -> float:
    """How much of all its ups and downs a curve needs to go up once and down once; 1: not more than that."""
    way = float(np.abs(np.diff(v)).sum())
    return (2 * float(v.max()) - float(v[0]) - float(v[-1])) / way if way > 0 else 0.0


def _half_width(z: FloatArray, v: FloatArray) -> float:
    """Half width of the peak at half its height above the lowest value, um; at least half the smallest step."""
    half = (float(v.max()) + float(v.min())) / 2
    peak = int(np.argmax(v))
    sides = []
    for step in (-1, 1):
        at = peak
        while 0 <= at + step < len(v) and v[at + step] > half:
            at += step
        beyond = at + step
        if 0 <= beyond < len(v):
            part = (v[at] - half) / max(v[at] - v[beyond], 1e-30)
            sides.append(abs(z[at] + part * (z[beyond] - z[at]) - z[peak]))
    return max(float(np.mean(sides)) if sides else float(np.ptp(z)), 0.5 * float(np.diff(z).min(initial=1.0)), 1e-6)


def _peak_um(z: FloatArray, v: FloatArray, half_width_um: float) -> float:
    """Vertex of a parabola through the upper part of the peak: the points within its half width, at least three."""
    peak = int(np.argmax(v))
    near = np.abs(z - z[peak]) <= half_width_um * 1.001
    if near.sum() < 3:
        near = np.isin(np.arange(len(z)), np.clip([peak - 1, peak, peak + 1], 0, len(z) - 1))
    if near.sum() < 3:
        return float(z[peak])
    a, b, _ = np.polyfit(z[near] - z[peak], v[near], 2)
    if a >= 0:
        return float(z[peak])
    return float(np.clip(z[peak] - b / (2 * a), z[near].min(), z[near].max()))


@dataclass(frozen=True, slots=True)
class FocusResult:
    """What `autofocus` came to: the focus (um of the drive), from how many pictures, and the whole curve.

    uncertainty_um : about 95 %, from how well the points about the peak fit a parabola.
    """

    focus_um: float
    uncertainty_um: float
    pictures: int
    curve: FocusCurve


def autofocus(
    snap: Callable[[], Picture],
    move_to: Callable[[float], None],
    start_um: float,
    range_um: float = 20.0,
    step_um: float = 0.7,
    max_pictures: int = 25,
    below_um: float = 5.0,
    on_progress: OnProgress = lambda what, done, total: None,
) -> FocusResult:
    """Find the focus within ``range_um`` either side of ``start_um``, and go there.

    From coarse to fine: nine heights over the range (moved on where the peak is at its end), then about the peak at
    ever smaller steps down to ``step_um``. Each series, and the way to the focus, begins ``below_um`` under its lowest
    height, so that the slack of a drive is taken up. The focus is the vertex of a parabola.

    Raises
    ------
    InputError : there is no peak in the range; the drive is back at its start then.
    """
    z: list[float] = []
    seen: list[dict[str, float]] = []

    def look(heights: NDArray[np.floating]) -> FocusCurve | None:
        """Take pictures at heights that were not seen yet; the curve so far, None where it has no peak."""
        new = [h for h in np.sort(heights).tolist() if all(abs(h - one) >= 0.2 * step_um for one in z)]
        for number, height in enumerate(new[: max_pictures - len(z)]):
            if not number:
                move_to(height - below_um)
            move_to(height)
            z.append(height)
            seen.append(sharpness_measures(snap()))
            on_progress("autofocus", len(z), max_pictures)
        return _curve(z, seen)

    try:
        spacing = 2 * range_um / 8
        curve = look(start_um + spacing * np.arange(-4, 5))
        if curve is not None and not curve.inside:
            side = 1.0 if curve.best_um > start_um else -1.0
            curve = look(start_um + side * (range_um + spacing * np.arange(1, 4)))
        while curve is not None and spacing > step_um and len(z) < max_pictures:
            spacing = max(spacing / 2.5, 0.99 * step_um)
            middle = curve.best_um
            curve = look(middle + spacing * np.array([-2, -1, 0, 1, 2])) or curve
        if curve is None or not curve.inside:
            raise InputError(
                f"no focus was found within {range_um:g} um of {start_um:g} um: bring a slide with fine detail roughly "
                "into focus by hand first, or search a wider range"
            )
    except BaseException:
        move_to(start_um)
        raise
    move_to(curve.best_um - below_um)
    move_to(curve.best_um)
    return FocusResult(curve.best_um, _uncertainty_um(curve), len(z), curve)


def _curve(z: list[float], seen: list[dict[str, float]]) -> FocusCurve | None:
    measures = {name: np.array([one[name] for one in seen]) for name in seen[0]}
    try:
        return focus_curve(np.array(z), measures)
    except InputError:
        return None


def _uncertainty_um(curve: FocusCurve) -> float:
    """Twice the standard error of the vertex, from the scatter about the parabola."""
    v = curve.measures[curve.measure]
    near = np.abs(curve.z_um - curve.best_um) <= curve.half_width_um
    if near.sum() < 5:
        return curve.half_width_um / 2
    z = curve.z_um[near] - curve.best_um
    parts, residuals, *_ = np.polyfit(z, v[near], 2, full=True)
    spread = float(np.sqrt(residuals[0] / (near.sum() - 3))) if len(residuals) else 0.0
    slope_error = spread / np.sqrt(float((z**2).sum()))
    return 2 * float(slope_error / max(2 * abs(parts[0]), 1e-12))


@dataclass(frozen=True, slots=True)
class TiltResult:
    """Focus over the field: best_um (rows, columns) of the parts, NaN where a part shows no peak.

    tilt_um_x, tilt_um_y : how much higher the focus is at the right than at the left edge, and at the bottom than at
    the top; curvature_um : how far the middle lies from the corners' mean, after that.
    """

    best_um: FloatArray
    tilt_um_x: float
    tilt_um_y: float
    curvature_um: float


def measure_tilt(z_um: FloatArray, pictures: list[Picture], measure: str = "laplacian", parts: int = 3) -> TiltResult:
    """Tilt and curvature of the focal surface from pictures at heights (n,), in ``parts`` x ``parts`` parts.

    Raises
    ------
    InputError : fewer than 5 heights, or too few parts of the picture that show a focus.
    """
    if len(z_um) != len(pictures) or len(z_um) < 5:
        raise InputError(f"{len(pictures)} pictures at {len(z_um)} heights: a focus map needs at least 5, one of each")
    order = np.argsort(z_um)
    z = np.asarray(z_um, float)[order]
    h, w = pictures[0].shape
    best = np.full((parts, parts), np.nan)
    for row in range(parts):
        for column in range(parts):
            rows = slice(row * h // parts, (row + 1) * h // parts)
            columns = slice(column * w // parts, (column + 1) * w // parts)
            v = np.array([sharpness_measures(pictures[i][rows, columns])[measure] for i in order])
            peak = int(np.argmax(v))
            if 0 < peak < len(z) - 1 and (v.max() - v.min()) / v.max() > MIN_CONTRAST:
                best[row, column] = _peak_um(z, v, _half_width(z, v))
    known = np.isfinite(best)
    if known.sum() < 4 or known.any(axis=0).sum() < 2 or known.any(axis=1).sum() < 2:
        raise InputError("too few parts of the picture show a focus of their own; use a slide with detail everywhere")
    y, x = np.meshgrid(np.linspace(-0.5, 0.5, parts), np.linspace(-0.5, 0.5, parts), indexing="ij")
    # Parts are seen at their middles, so the outer ones are not at the field's edges.
    x, y = x * (parts - 1) / parts, y * (parts - 1) / parts
    r2 = x**2 + y**2
    columns_ = [np.ones(known.sum()), x[known], y[known]] + ([r2[known]] if known.sum() >= 6 else [])
    solution, *_ = np.linalg.lstsq(np.column_stack(columns_), best[known], rcond=None)
    curvature = float(-solution[3] * 0.5) if len(solution) > 3 else 0.0
    return TiltResult(best, float(solution[1]), float(solution[2]), curvature)
