"""How far one picture is shifted against another, to a few hundredths of a px, by the phase of their spectra.

First the whole pictures, to whole px, by phase correlation; then the parts that both show, by the cross-correlation of
their windowed spectra computed densely about its peak (matrix Fourier transform, Guizar-Sicairos et al. 2008). The
window itself does not move with the scene and pulls the result towards the cut: so the second part is shifted by what
was found (in its spectrum) and measured again until nothing is left.

Sensor dirt and uneven light stay where they are when the scene moves. They are taken off by what the pictures have
below a few cycles a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import fft
from numpy.typing import NDArray
from scipy.fft import next_fast_len, prev_fast_len
from scipy.ndimage import gaussian_filter

from casa.errors import InputError

FloatArray = NDArray[np.float64]

#: Frequencies (cycles a px) up to which the phase is trusted: beyond, cameras and compressors add their own.
_CUT = 0.35
#: The cross-power is divided by its size to this power: 1 is phase correlation, 0 plain correlation.
_WHITENING = 0.7
#: Detail of this size and less is used, px (sd of the blur that is taken off).
_DETAIL_PX = 12.0
#: Detail is cut off at so many (robust) standard deviations.
_STICKS_OUT = 8.0
#: A smaller part in common says nothing, px.
MIN_OVERLAP_PX = 48
#: Without such a peak, pictures must be this much alike once they lie on each other.
MIN_LIKENESS = 0.4
_TURNS = 4
#: A peak this near to the expected shift is the shift.
_NEAR_PX = 5.0
#: A peak of the phase correlation stands out where it is so much higher than the seventh, which is chance's.
_LEAD = 2.0
#: Pictures that are this much alike differ by their shift alone.
_ALL_STILL = 0.93
#: So much of what both pictures show is compared, px to a side.
_ENOUGH_PX = 432


@dataclass(frozen=True, slots=True)
class Shift:
    """Where the scene of a picture went: what was at (x, y) is at (x + dx_px, y + dy_px) in the other one.

    likeness : correlation of the parts in common once they lie on each other, -1 to 1. overlap : their share of the
    picture.
    """

    dx_px: float
    dy_px: float
    likeness: float
    overlap: float


def measure_shift(
    before: NDArray[np.number], after: NDArray[np.number], expected_px: tuple[float, float] | None = None
) -> Shift:
    """Shift of ``after`` against ``before``, two gray pictures (h, w) of the same size.

    ``expected_px`` : (dx, dy) to a few px, where it is known: it decides between peaks.

    Raises
    ------
    InputError : sizes differ, a picture has no structure, or the two do not show the same scene.
    """
    if before.shape != after.shape or before.ndim != 2:
        raise InputError(f"pictures of {before.shape} and {after.shape} px: a shift needs two gray ones of one size")
    if min(before.shape) < MIN_OVERLAP_PX:
        raise InputError(f"pictures of {before.shape[1]}x{before.shape[0]} px are too small to measure a shift in")
    first, second = _detail(before), _detail(after)
    if min(float(first.std()), float(second.std())) < 1e-9:
        raise InputError("a picture is empty: there is nothing in it that could be seen to move; put a slide in focus")
    best: Shift | None = None
    if expected_px is not None:
        best = _refine(first, second, round(expected_px[0]), round(expected_px[1]))
        if best is not None and best.likeness > 0.4:
            return _polished(before, after, best)
    clearest = 0.0
    for dx, dy, lead in _whole_px(first, second):
        found = _refine(first, second, dx, dy)
        if found is not None and lead > _LEAD and _is_near(found, expected_px):
            return _polished(before, after, found)
        # What moves by itself makes a peak as well: the shift is the one that is high, and alike.
        if found is not None and lead * found.likeness > clearest and (lead > _LEAD or found.likeness >= MIN_LIKENESS):
            best, clearest = found, lead * found.likeness
    if clearest == 0.0:
        best = None
    if best is None:
        raise InputError(
            "two pictures do not show the same scene: use smaller moves, a still slide with fine detail, and good focus"
        )
    return _polished(before, after, best)


def _is_near(shift: Shift, expected_px: tuple[float, float] | None) -> bool:
    """Whether a shift is the expected one, to a few px."""
    return expected_px is not None and bool(
        np.hypot(shift.dx_px - expected_px[0], shift.dy_px - expected_px[1]) < _NEAR_PX
    )


def _polished(before: NDArray[np.number], after: NDArray[np.number], rough: Shift) -> Shift:
    """The shift by all that the pictures hold, where nothing in them moved by itself: cutting off costs a little."""
    if rough.likeness < _ALL_STILL:
        return rough
    whole = _refine(_detail(before, cut=False), _detail(after, cut=False), round(rough.dx_px), round(rough.dy_px))
    return whole if whole is not None and whole.likeness >= _ALL_STILL else rough


def _detail(picture: NDArray[np.number], cut: bool = True) -> FloatArray:
    """The picture without what is larger than a few dozen px; what sticks out is cut off, as bright swimmers do."""
    values = np.asarray(picture, np.float32)
    detail = values - gaussian_filter(values, _DETAIL_PX, mode="nearest", truncate=3)
    if not cut:
        return np.asarray(detail, np.float64)
    limit = _STICKS_OUT * 1.4826 * float(np.median(np.abs(detail - np.median(detail))))
    return np.asarray(np.clip(detail, -limit, limit) if limit > 0 else detail, np.float64)


def _window(shape: tuple[int, ...]) -> FloatArray:
    h, w = shape
    return np.outer(np.hanning(h + 2)[1:-1], np.hanning(w + 2)[1:-1])


def _frequencies(shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """(h,), (w // 2 + 1,) cycles a px of a half spectrum."""
    return np.asarray(fft.fftfreq(shape[0]), np.float64), np.asarray(fft.rfftfreq(shape[1]), np.float64)


def _whitened(cross: NDArray[np.complex128], power: float) -> NDArray[np.complex128]:
    size = np.abs(cross)
    return cross / np.maximum(size, 1e-3 * float(size.mean()) + 1e-30) ** power


def _whole_px(first: FloatArray, second: FloatArray) -> list[tuple[int, int, float]]:
    """(dx, dy, lead) of six likely shifts in whole px: the likeliest first, and how far it stands out from chance.

    Nothing wraps around, since half of what is transformed is zeros.
    """
    # At half the size: to find the peak needs no more.
    first, second = (_halved(picture) for picture in (first, second))
    h, w = first.shape
    shape = (int(next_fast_len(2 * h, True) or 0), int(next_fast_len(2 * w, True) or 0))
    window = _window(first.shape) ** 0.5
    spectra = [fft.rfft2(picture * window, shape) for picture in (first, second)]
    cross = _whitened(spectra[0].conj() * spectra[1], 1.0)
    fy, fx = _frequencies(shape)
    cross *= np.exp(-0.5 * (fy[:, None] ** 2 + fx[None, :] ** 2) / 0.24**2)
    surface = np.asarray(fft.irfft2(cross, shape))
    shifts, heights = [], []
    for _ in range(7):
        y, x = np.unravel_index(int(np.argmax(surface)), surface.shape)
        dy, dx = (int(v) if v < n / 2 else int(v) - n for v, n in ((y, shape[0]), (x, shape[1])))
        shifts.append((2 * dx, 2 * dy))
        heights.append(float(surface[y, x]))
        rows = np.arange(y - 3, y + 4) % shape[0]
        surface[np.ix_(rows, np.arange(x - 3, x + 4) % shape[1])] = -np.inf
    # What moves by itself makes peaks too, but lower ones: the last of them is what chance makes.
    return [(*shift, height / heights[-1]) for shift, height in zip(shifts[:-1], heights, strict=False)]


def _halved(picture: FloatArray) -> FloatArray:
    h, w = (side // 2 for side in picture.shape)
    return picture[: 2 * h, : 2 * w].reshape(h, 2, w, 2).mean(axis=(1, 3))


def _refine(first: FloatArray, second: FloatArray, dx: int, dy: int) -> Shift | None:
    """The shift near (dx, dy) whole px, from the parts in common; None where they are too small or it runs away."""
    h, w = first.shape
    height, width = h - abs(dy), w - abs(dx)
    if min(height, width) < MIN_OVERLAP_PX:
        return None
    # The middle of what both show is enough, in sizes that transform fast.
    rows, columns = (int(prev_fast_len(min(side, _ENOUGH_PX), True) or side) for side in (height, width))
    top, left = max(0, -dy) + (height - rows) // 2, max(0, -dx) + (width - columns) // 2
    a = first[top : top + rows, left : left + columns]
    b = second[top + dy : top + dy + rows, left + dx : left + dx + columns]
    window = _window(a.shape)
    fy, fx = _frequencies(a.shape)
    inside = np.hypot(fy[:, None], fx[None, :]) <= _CUT
    of_a = np.where(inside, fft.rfft2(a * window), 0)
    of_b = fft.rfft2(b)
    x = y = 0.0
    moved = b
    for turn in range(_TURNS):
        cross = _whitened(of_a.conj() * fft.rfft2(moved * window), _WHITENING)
        step_x, step_y = _peak(np.where(inside, cross, 0), fy, fx, 2.0 if turn == 0 else 0.6)
        x, y = x + step_x, y + step_y
        if max(abs(x), abs(y)) > 2.5:
            return None
        turned = of_b * np.exp(2j * np.pi * (fy[:, None] * y + fx[None, :] * x))
        moved = np.asarray(fft.irfft2(turned, a.shape))
        if max(abs(step_x), abs(step_y)) < 1e-3:
            break
    weights = window / window.sum()
    one, other = a - float((weights * a).sum()), moved - float((weights * moved).sum())
    norm = float(np.sqrt((weights * one**2).sum() * (weights * other**2).sum()))
    likeness = float((weights * one * other).sum()) / norm if norm > 0 else 0.0
    return Shift(dx + x, dy + y, likeness, height * width / (h * w))


def _peak(cross: NDArray[np.complex128], fy: FloatArray, fx: FloatArray, reach_px: float) -> tuple[float, float]:
    """Where the correlation of a half spectrum is largest within ``reach_px``, px: ever finer, then a parabola."""
    x = y = 0.0
    # The half spectrum stands for both halves: all columns but the first count twice.
    double = np.where(np.arange(len(fx)) == 0, 1.0, 2.0)
    step = reach_px / 8
    while True:
        across, down = x + step * np.arange(-8, 9), y + step * np.arange(-8, 9)
        left = np.exp(2j * np.pi * np.outer(down, fy)) @ cross
        surface = np.real((left * double) @ np.exp(2j * np.pi * np.outer(fx, across)))
        row, column = np.unravel_index(int(np.argmax(surface)), surface.shape)
        x, y = float(across[column]), float(down[row])
        if step < 0.02:
            return x + _vertex(surface[row], int(column)) * step, y + _vertex(surface[:, column], int(row)) * step
        step /= 6


def _vertex(values: FloatArray, at: int) -> float:
    """Vertex of the parabola through three neighbours, in steps from the middle one; 0 at the border."""
    if not 0 < at < len(values) - 1:
        return 0.0
    a, b, c = values[at - 1 : at + 2]
    bend = a - 2 * b + c
    return float(np.clip(0.5 * (a - c) / bend, -1, 1)) if bend < 0 else 0.0
