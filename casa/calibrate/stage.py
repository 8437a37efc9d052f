"""What a motorised stage does to the picture: the affine between its um and px, backlash, repeatability, drift.

Moves of the pattern all arrive from below in x and y, so that backlash is the same in each and falls into the offset of
the fit; it is then measured by itself, arriving from either side.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from casa.calibrate.affine import AffineFit, fit_affine
from casa.calibrate.phase import measure_shift
from casa.errors import InputError

FloatArray = NDArray[np.float64]
Picture = NDArray[np.number]
#: Told after every picture: what is going on, pictures taken, pictures to take.
OnProgress = Callable[[str, int, int], None]

#: One step of the pattern, as a part of the field's smaller side: neighbouring pictures must have enough in common.
STEP = 0.3
#: The pattern in steps: out to a corner, once round a square, and back. Each picture is compared with the one before,
#: so that the square may be larger than the field: the longer the arms, the less a stop's scatter says.
_SIDE = 3
PATTERN = (
    *((-i, -i) for i in range(1, _SIDE)),
    *((i, -_SIDE) for i in range(-_SIDE, _SIDE)), *((_SIDE, i) for i in range(-_SIDE, _SIDE)),
    *((-i, _SIDE) for i in range(-_SIDE, _SIDE)), *((-_SIDE, -i) for i in range(-_SIDE, _SIDE)),
    *((i, i) for i in range(-_SIDE, 1)),
)  # fmt: skip
_REPEATS = 4
_DRIFT_PICTURES = 6
#: A move that shifts the picture by so much more or less than the other moves say was not followed, px.
_OUT_OF_LINE_PX = 8.0
#: A move that shifts the picture by less than this is not seen, px.
_SEEN_PX = 3.0


@dataclass(frozen=True, slots=True)
class StageResult:
    """What `measure_stage` found.

    um_to_px : 2x2, how far the picture shifts (px) for a stage move (um), with ``um_to_px_error``, standard errors.
    um_per_px_x, um_per_px_y : stage um for a shift by one px along the picture's x and y, by the stage's own scale.
    rotation_deg : of the stage's axes against the picture's, mirrored : whether one axis runs the other way round.
    orthogonality_deg : by how much the stage's two axes miss the right angle. backlash_um, repeatability_um : by axis
    (x, y). residual_um : sd of a stop about the fit, per axis. drift_um_s : while it was measured.
    uncertainty_percent : of the matrix' size, about 95 %. moves, residuals_um : (n, 2) of the pattern; outliers : how
    many of them the fit left aside.
    """

    um_to_px: tuple[tuple[float, float], tuple[float, float]]
    um_to_px_error: tuple[tuple[float, float], tuple[float, float]]
    um_per_px_x: float
    um_per_px_y: float
    rotation_deg: float
    mirrored: bool
    orthogonality_deg: float
    backlash_um: tuple[float, float]
    repeatability_um: tuple[float, float]
    residual_um: float
    drift_um_s: tuple[float, float]
    uncertainty_percent: float
    moves_um: FloatArray
    residuals_um: FloatArray
    outliers: int


def measure_stage(
    snap: Callable[[], Picture],
    move_to: Callable[[float, float], None],
    home_um: tuple[float, float],
    um_per_px: float | None = None,
    on_progress: OnProgress = lambda what, done, total: None,
    now: Callable[[], float] = time.monotonic,
) -> StageResult:
    """Move the stage in a pattern about ``home_um`` and measure what the picture does; ends where it began.

    Parameters
    ----------
    snap : gives a still gray picture (h, w), exposed after the call. move_to : goes to a position (um) and waits.
    um_per_px : about, to size the moves; None: found by ever larger moves. now : clock, s.

    Raises
    ------
    InputError : the stage does not move the picture, or the picture shows nothing that can be followed.
    """
    total = len(PATTERN) + 4 * _REPEATS + 3
    taken = 0

    def look(what: str) -> Picture:
        nonlocal taken
        taken += 1
        on_progress(what, min(taken, total), total)
        return snap()

    home = np.array(home_um, float)
    try:
        reference = look("reference")
        step_um = _step_um(reference, look, move_to, home, um_per_px)

        def go(offset_um: NDArray[np.floating], gap: tuple[float, float] = (-1.0, -1.0)) -> None:
            """Go to an offset from home, arriving from the side of ``gap`` (-1: from below) in x and y."""
            target = home + offset_um
            before = target + np.array(gap) * step_um * 0.1
            move_to(float(before[0]), float(before[1]))
            move_to(float(target[0]), float(target[1]))

        go(np.zeros(2))
        pictures, began_s = [look("pattern")], now()
        moves, shifts, times = [np.zeros(2)], [np.zeros(2)], [0.0]
        for place in PATTERN:
            offset = np.array(place) * step_um
            go(offset)
            times.append(now() - began_s)
            pictures.append(look("pattern"))
            shift = measure_shift(pictures[-2], pictures[-1])
            moves.append(offset)
            shifts.append(shifts[-1] + (shift.dx_px, shift.dy_px))
        moves_um, t_s = np.array(moves), np.array(times)
        fit = fit_affine(moves_um, _joined(pictures, moves_um, np.array(shifts), t_s), t_s)
        reference = pictures[-1]
        middle_s = began_s + float(t_s.mean())
        backlash, repeatability = _backlash(fit, go, lambda: look("backlash"), lambda: now() - middle_s, reference)
    finally:
        move_to(float(home[0]), float(home[1]))
    return _result(fit, moves_um, backlash, repeatability)


def _joined(pictures: list[Picture], moves_um: FloatArray, shifts: FloatArray, t_s: FloatArray) -> FloatArray:
    """Shifts (n, 2) from the first picture: those from one to the next, each in line with all others, added up.

    A wrong one would bend all that follow. Raises InputError where one stays out of line when it is measured again.
    """
    steps = np.diff(moves_um, axis=0)
    links = np.diff(shifts, axis=0)
    fit = fit_affine(steps, links, t_s[1:])
    expected = steps @ fit.matrix.T + fit.offset
    for i in np.flatnonzero(np.hypot(*(links - expected).T) > _OUT_OF_LINE_PX):
        again = measure_shift(pictures[i], pictures[i + 1], (float(expected[i, 0]), float(expected[i, 1])))
        links[i] = again.dx_px, again.dy_px
    if (np.hypot(*(links - expected).T) > _OUT_OF_LINE_PX).any():
        raise InputError(
            "some moves shift the picture unlike the others: use a slide with more still detail, keep"
            " the stage from slipping, and stay within its travel"
        )
    return np.vstack([np.zeros(2), np.cumsum(links, axis=0)])


def _step_um(
    reference: Picture,
    look: Callable[[str], Picture],
    move_to: Callable[[float, float], None],
    home: FloatArray,
    um_per_px: float | None,
) -> FloatArray:
    """(x, y) one step of the pattern, um: STEP of the field."""
    size_px = float(min(reference.shape))
    if um_per_px is not None:
        return np.full(2, STEP * size_px * um_per_px)
    move_um = 1.0
    while move_um <= 4096:
        # Twice along x and y, since the first may be eaten up by backlash.
        for factor in (1.0, 2.0):
            move_to(float(home[0] + factor * move_um), float(home[1] + factor * move_um))
        try:
            shift = measure_shift(reference, look("looking for the scale"))
        except InputError:
            break
        length_px = float(np.hypot(shift.dx_px, shift.dy_px))
        if length_px > 0.08 * size_px:
            return np.full(2, STEP * size_px / length_px * 2 * move_um * np.sqrt(2))
        move_um *= 2 if length_px > _SEEN_PX else 4
    raise InputError(
        "the picture does not follow the stage: see that it is switched on, that a slide with fine detail is in focus, "
        "and give --um-per-px where the scale is about known"
    )


def _backlash(
    fit: AffineFit,
    go: Callable[..., None],
    look: Callable[[], Picture],
    since_middle_s: Callable[[], float],
    reference: Picture,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """((x, y) um lost on a change of direction, (x, y) sd of stops reached from one side), at the home position."""
    inverse = np.linalg.inv(fit.matrix)
    home = np.zeros(2)
    places: dict[tuple[float, float], list[FloatArray]] = {}
    for _ in range(_REPEATS):
        for side in ((-1.0, -1.0), (1.0, -1.0), (-1.0, -1.0), (-1.0, 1.0)):
            go(home, side)
            t_s = since_middle_s()
            shift = measure_shift(reference, look())
            px = np.array([shift.dx_px, shift.dy_px]) - fit.drift * t_s
            places.setdefault(side, []).append(inverse @ px)
    below = np.array(places[-1.0, -1.0])
    x = float(np.median(np.array(places[1.0, -1.0])[:, 0]) - np.median(below[:, 0]))
    y = float(np.median(np.array(places[-1.0, 1.0])[:, 1]) - np.median(below[:, 1]))
    spread = below.std(axis=0, ddof=1)
    return (x, y), (float(spread[0]), float(spread[1]))


def _result(
    fit: AffineFit, moves_um: FloatArray, backlash: tuple[float, float], repeatability: tuple[float, float]
) -> StageResult:
    matrix = fit.matrix
    size = float(np.sqrt(abs(np.linalg.det(matrix))))
    if size < 1e-6 or np.abs(moves_um @ matrix.T).max() < _SEEN_PX:
        raise InputError("the picture does not follow the stage: see that it is switched on and in its range")
    inverse = np.linalg.inv(matrix)
    residuals_um = fit.residuals @ inverse.T
    kept = fit.weights > 0.05
    mirrored = bool(np.linalg.det(matrix) < 0)
    x_angle = np.rad2deg(np.arctan2(matrix[1, 0], matrix[0, 0]))
    y_angle = np.rad2deg(np.arctan2(matrix[1, 1], matrix[0, 1])) - (-90 if mirrored else 90)
    skew = float((y_angle - x_angle + 180) % 360 - 180)
    drift = inverse @ fit.drift
    rows = [(float(row[0]), float(row[1])) for row in matrix]
    errors = [(float(row[0]), float(row[1])) for row in fit.matrix_error]
    return StageResult(
        um_to_px=(rows[0], rows[1]),
        um_to_px_error=(errors[0], errors[1]),
        um_per_px_x=float(np.hypot(*inverse[:, 0])),
        um_per_px_y=float(np.hypot(*inverse[:, 1])),
        rotation_deg=float(x_angle),
        mirrored=mirrored,
        orthogonality_deg=skew,
        backlash_um=backlash,
        repeatability_um=repeatability,
        residual_um=float(np.sqrt(np.mean(residuals_um[kept] ** 2))),
        drift_um_s=(float(drift[0]), float(drift[1])),
        uncertainty_percent=200 * float(np.linalg.norm(fit.matrix_error)) / np.sqrt(2) / size,
        moves_um=moves_um,
        residuals_um=residuals_um,
        outliers=int((~kept).sum()),
    )


def measure_drift(
    snap: Callable[[], Picture],
    um_to_px: tuple[tuple[float, float], tuple[float, float]],
    seconds: float,
    on_progress: OnProgress = lambda what, done, total: None,
    now: Callable[[], float] = time.monotonic,
) -> tuple[float, float]:
    """(x, y) um/s by which the field drifts while the stage stands: a line through shifts seen over some seconds.

    Raises
    ------
    InputError : the pictures show nothing that can be followed.
    """
    reference, began = snap(), now()
    pictures: list[Picture] = []
    times: list[float] = []
    while (t_s := now() - began) < seconds or len(times) < 3:
        if t_s < seconds * (len(times) + 1) / _DRIFT_PICTURES:
            time.sleep(min(0.05, seconds / _DRIFT_PICTURES))
            continue
        pictures.append(snap())
        times.append(now() - began)
        on_progress("drift", int(min(t_s, seconds)), int(np.ceil(seconds)))
    shifts = [measure_shift(reference, picture, (0.0, 0.0)) for picture in pictures]
    px = np.array([(shift.dx_px, shift.dy_px) for shift in shifts])
    speed = np.polyfit(np.array(times), px, 1)[0]
    x, y = np.linalg.inv(np.array(um_to_px)) @ speed
    return float(x), float(y)
