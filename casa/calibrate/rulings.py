"""Rulings in a picture: the direction and the spacing of parallel lines, by phase rather than by edges.

A ruling is known by its frequency vector (cycles a pixel along x and y). It is found in four steps: the directions
along which the picture changes most; the profile of the picture across each direction; the shortest spacing at which
every period of the profile holds a line (so that long ticks, missing ticks and harmonics cannot pass for the
spacing); and the frequency vector at which the picture's harmonics are strongest, to a small fraction of a cycle over
the whole picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

FloatArray = NDArray[np.float64]

MIN_PITCH_PX = 4.0
#: A ruling has at least so many periods in the picture.
MIN_PERIODS = 2.2
#: Share of the periods that must hold a line, and how strong a line is at least, by the mean one.
MIN_OCCUPANCY = 0.8
LINE_STRENGTH = 0.3
#: Share of the profile's variance that the mean period explains at least.
MIN_EXPLAINED = 0.4
#: A spacing that is not known better than this (one standard error, relative) is no ruling.
MAX_RELATIVE_ERROR = 0.004
#: The other ruling of a grid may be known this much less well: taking pixels for square instead costs more.
_OTHER_ERROR = 2.0
#: Bands along the lines in which the spacing is measured again, for its uncertainty.
_BANDS = 6
#: Energy of a grid's other ruling, by that of the first, at least.
MIN_SECOND_ENERGY = 0.1
#: What the chosen period explains, by what its double and triple explain, at least: half a period explains half.
MIN_RELATIVE_EXPLAINED = 0.6
#: Parts of the picture that know the spacing less well than this, by the best part, are left aside.
MIN_LOCAL_WEIGHT = 0.25
_STEP_PX = 0.5


@dataclass(frozen=True, slots=True)
class Ruling:
    """Parallel lines of even spacing.

    frequency : (fx, fy) cycles a px; the lines lie where fx x + fy y + phase is whole, x and y from the picture's
    centre. uncertainty : of the frequency's length, relative, one standard error. periods : in the picture.
    occupancy : share of the periods that hold a line. explained : share of the profile's variance. energy : of the
    harmonics, for comparing rulings of one picture.
    """

    frequency: tuple[float, float]
    phase: float
    uncertainty: float
    periods: float
    occupancy: float
    explained: float
    energy: float

    @property
    def pitch_px(self) -> float:
        """Spacing of the lines in px, across them."""
        return 1.0 / float(np.hypot(*self.frequency))


def find_rulings(gray: NDArray[np.uint8] | FloatArray) -> list[Ruling]:
    """The rulings of a picture (h, w): none, one (a scale) or two about at right angles (a grid), clearest first."""
    picture = flatten(gray)
    found = [ruling for angle in _directions(picture) if (ruling := _ruling_along(picture, angle)) is not None]
    # The lines of a grid make a weaker pattern along its diagonals too: the strongest ruling goes first.
    found.sort(key=lambda one: -one.energy)
    sure = [one for one in found if one.uncertainty <= MAX_RELATIVE_ERROR]
    for other in found[1:]:
        crossing = abs(_angle_between(_angle(found[0]), _angle(other)))
        strong = other.energy > MIN_SECOND_ENERGY * found[0].energy
        if crossing > np.deg2rad(75) and strong and (found[0] in sure or other in sure):
            return [found[0], other]
    return sure[:1]


def flatten(gray: NDArray[np.uint8] | FloatArray) -> FloatArray:
    """The picture without its uneven light: divided by its own blur, minus 1, and cut at four standard deviations."""
    picture = np.asarray(gray, np.float64)
    light = cv2.GaussianBlur(picture, (0, 0), min(picture.shape) / 4, borderType=cv2.BORDER_REFLECT)
    level = max(float(light.mean()), 1e-9)
    flat = picture / np.maximum(light, 0.05 * level) - 1.0
    flat -= flat.mean()
    return np.clip(flat, -4 * flat.std(), 4 * flat.std())


def _angle(ruling: Ruling) -> float:
    """Direction across the lines, rad."""
    return float(np.arctan2(ruling.frequency[1], ruling.frequency[0]))


def _angle_between(a: float, b: float) -> float:
    """Smallest angle between two directions without sense, rad."""
    return (a - b + np.pi / 2) % np.pi - np.pi / 2


def _directions(picture: FloatArray) -> list[float]:
    """Up to three directions (rad, across the lines) in which the spectrum holds most, the strongest first."""
    h, w = picture.shape
    power = np.abs(np.fft.rfft2(picture * np.outer(_window(h), _window(w)))) ** 2
    fy, fx = np.meshgrid(np.fft.fftfreq(h), np.fft.rfftfreq(w), indexing="ij")
    radius = np.hypot(fx, fy)
    used = (radius * min(h, w) >= MIN_PERIODS) & (radius <= 0.45)
    # Peaks above the ground of noise and dirt, which is about the same all around at one radius.
    ring = (radius * min(h, w)).astype(np.int64)
    ground = np.bincount(ring[used], power[used]) / np.maximum(np.bincount(ring[used]), 1)
    weight = np.where(used, np.maximum(power - 3 * ground[np.minimum(ring, len(ground) - 1)], 0.0) * radius, 0.0)
    n = 360
    place = (np.arctan2(fy, fx) % np.pi) / np.pi * n
    histogram = np.bincount(place.ravel().astype(np.int64) % n, weight.ravel(), n)
    kernel = np.exp(-0.5 * (np.arange(-12, 13) / 2.5) ** 2)
    histogram = np.convolve(np.concatenate([histogram[-12:], histogram, histogram[:12]]), kernel, "valid")
    directions: list[float] = []
    for index in np.argsort(-histogram):
        direction = (index + 0.5) / n * np.pi
        if all(abs(_angle_between(direction, other)) > np.deg2rad(20) for other in directions):
            directions.append(float(direction))
        if len(directions) == 3:
            break
    return directions


def _points(picture: FloatArray, limit: int = 310_000) -> tuple[FloatArray, FloatArray, FloatArray]:
    """x, y from the centre and value of at most ``limit`` pixels, drawn at random: an even choice beats with lines."""
    h, w = picture.shape
    chosen = np.random.default_rng(0).choice(picture.size, min(limit, picture.size), replace=False)
    return chosen % w - (w - 1) / 2, chosen // w - (h - 1) / 2, picture.ravel()[chosen]


def _profile(x: FloatArray, y: FloatArray, value: FloatArray, angle: float, step_px: float) -> tuple[FloatArray, float]:
    """Mean of the picture along lines across ``angle``, at every ``step_px``, and the first sample's place (px)."""
    u = (x * np.cos(angle) + y * np.sin(angle)) / step_px
    first = np.floor(u.min())
    u = u - first
    whole = u.astype(np.int64)
    part = u - whole
    n = int(whole.max()) + 2
    count = np.bincount(whole, 1 - part, n) + np.bincount(whole + 1, part, n)
    total = np.bincount(whole, value * (1 - part), n) + np.bincount(whole + 1, value * part, n)
    inside = np.flatnonzero(count >= 0.35 * np.median(count[count > 0]))
    low, high = inside[0], inside[-1] + 1
    return total[low:high] / np.maximum(count[low:high], 1e-9), float((first + low) * step_px)


def _sharpest_angle(x: FloatArray, y: FloatArray, value: FloatArray, angle: float) -> float:
    """The angle near ``angle`` at which the profile varies most: then it runs straight across the lines."""
    for half_deg, n, step_px, every in ((3.0, 25, 3.0, 4), (0.4, 9, 1.5, 2), (0.12, 7, 1.0, 1)):
        tried = angle + np.deg2rad(np.linspace(-half_deg, half_deg, n))
        energy = []
        for one in tried:
            profile = _profile(x[::every], y[::every], value[::every], one, step_px)[0]
            energy.append(float(np.var(profile[2:] - profile[:-2])))
        angle = float(tried[int(np.argmax(energy))])
    return angle


def _ruling_along(picture: FloatArray, angle: float) -> Ruling | None:
    """The ruling whose lines lie across ``angle`` (rad, to a few degrees), or None."""
    x, y, value = _points(picture)
    angle = _sharpest_angle(x, y, value, angle)
    profile, _ = _profile(x, y, value, angle, _STEP_PX)
    profile = profile - profile.mean()
    period = _shortest_full_period(profile)
    if period is None:
        return None
    pitch_px, occupancy, explained = period
    start = np.array([np.cos(angle), np.sin(angle)]) / pitch_px
    frequency = _strongest_frequency(picture, start)
    if frequency is None:
        return None
    error = _relative_error(picture, frequency)
    if error > _OTHER_ERROR * MAX_RELATIVE_ERROR:
        return None
    return Ruling(
        (float(frequency[0]), float(frequency[1])),
        _line_phase(picture, frequency),
        error,
        len(profile) * _STEP_PX * float(np.hypot(*frequency)),
        occupancy,
        explained,
        float((np.abs(_harmonics(picture, frequency)) ** 2).sum()),
    )


def _shortest_full_period(profile: FloatArray) -> tuple[float, float, float] | None:
    """(pitch in px, occupancy, explained share) of the shortest period that holds a line every time, or None."""
    n = len(profile)
    padding = 32
    spectrum = np.abs(np.fft.rfft(profile * np.hanning(n), padding * n)) ** 2  # by 1 / (padding n) cycles a sample
    lowest, highest = MIN_PERIODS / n, _STEP_PX / MIN_PITCH_PX
    peaks = np.flatnonzero((spectrum[1:-1] > spectrum[:-2]) & (spectrum[1:-1] >= spectrum[2:])) + 1
    frequency = peaks / (padding * n)
    peaks = peaks[(frequency >= 0.8 * lowest) & (frequency <= 2 * highest)]
    peaks = peaks[np.argsort(-spectrum[peaks])][:16]
    tried = {round(float(peak) / k) for peak in peaks for k in range(1, 13)}
    refined = sorted({_refine(spectrum, bin_, padding) for bin_ in tried if bin_ > 0}, reverse=True)
    for f in (bin_ / (padding * n) for bin_ in refined):
        if not lowest <= f <= highest:
            continue
        occupancy, explained = _fold(profile, f)
        if occupancy < MIN_OCCUPANCY or explained < MIN_EXPLAINED:
            continue
        for span in (0.12, 0.01):
            f = max(f * (1 + np.linspace(-span, span, 49)), key=lambda one: _fold(profile, one)[1])
        occupancy, explained = _fold(profile, f)
        # A half or a third of the true period folds lines onto gaps, and the double or triple explains much more.
        if all(f / k < lowest or explained >= MIN_RELATIVE_EXPLAINED * _fold(profile, f / k)[1] for k in (2, 3)):
            return _STEP_PX / f, occupancy, explained
    return None


def _refine(spectrum: FloatArray, bin_: int, padding: int) -> int:
    """The bin within half a cycle over the profile at which its harmonics are strongest."""
    tried = np.arange(max(1, bin_ - padding // 2), bin_ + padding // 2 + 1)
    n_harmonics = max(2, min(12, int(0.7 * len(spectrum) / bin_)))
    places = np.minimum(tried[:, None] * np.arange(1, n_harmonics + 1), len(spectrum) - 1)
    return int(tried[int(np.argmax(spectrum[places].sum(axis=1)))])


def _fold(profile: FloatArray, f: float) -> tuple[float, float]:
    """Share of the whole periods that hold a line, and the share of variance that the mean period explains."""
    n_periods = int(len(profile) * f)
    samples = max(6, round(1 / f))
    where = (np.arange(n_periods)[:, None] + np.arange(samples)[None, :] / samples) / f
    periods = np.interp(where, np.arange(len(profile)), profile)
    periods -= periods.mean(axis=1, keepdims=True)
    mean = periods.mean(axis=0)
    power, total = float(mean @ mean) / samples, float((periods**2).mean())
    if power <= 0 or n_periods < 2:
        return 0.0, 0.0
    # The mean period holds a share of 1 / n_periods of pure noise.
    noise = float(((periods - mean) ** 2).mean()) / (n_periods - 1)
    strength = periods @ mean / (power * samples)
    return float((strength > LINE_STRENGTH).mean()), max(power - noise, 0.0) / total


def _window(n: int) -> FloatArray:
    return np.hanning(n + 2)[1:-1]


def _harmonics(picture: FloatArray, frequency: FloatArray) -> NDArray[np.complex128]:
    """(k,) complex amplitudes of the picture's harmonics of a frequency vector, under a window; k from 1."""
    h, w = picture.shape
    length = float(np.hypot(*frequency))
    x, y = np.arange(w) - (w - 1) / 2, np.arange(h) - (h - 1) / 2
    k = np.arange(1, max(2, min(10, int(0.35 / length)) + 1))
    across, down = 2 * np.pi * frequency[0] * np.outer(k, x), 2 * np.pi * frequency[1] * np.outer(k, y)
    window = _window(h)
    # exp(-i down) @ picture in real numbers: a complex copy of the picture would cost more than the product
    rows = (np.cos(down) * window) @ picture - 1j * ((np.sin(down) * window) @ picture)
    return np.einsum("kx,kx->k", rows, np.exp(-1j * across) * _window(w))


def _strongest_frequency(picture: FloatArray, start: FloatArray) -> FloatArray | None:
    """The frequency vector near ``start`` at which the harmonics hold most energy; None where it runs away."""
    cycle = 1.0 / max(picture.shape)

    def loss(step: FloatArray) -> float:
        return -float((np.abs(_harmonics(picture, start + step * cycle)) ** 2).sum()) / scale

    scale = float((np.abs(_harmonics(picture, start)) ** 2).sum()) or 1.0
    simplex = np.array([[0.0, 0.0], [0.12, 0.0], [0.0, 0.12]])
    best = minimize(
        loss, [0.0, 0.0], method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 1e-4, "fatol": 1e-8, "maxiter": 200},
    ).x  # fmt: skip
    return None if np.hypot(*best) > 1.5 else start + best * cycle


def _line_phase(picture: FloatArray, frequency: FloatArray) -> float:
    """Phase in cycles at which fx x + fy y + phase is whole on the lines, dark or bright ones."""
    parts = _harmonics(picture, frequency)
    k = np.arange(1, len(parts) + 1)
    t = np.arange(0, 1, 1 / 512)
    wave = np.real(parts @ np.exp(2j * np.pi * np.outer(k, t)))
    return -float(t[int(np.argmax(np.abs(wave)))])


def local_length(picture: FloatArray, frequency: FloatArray) -> tuple[float, float]:
    """Length of the frequency vector (cycles a px) in a part of the picture, its direction kept, and its weight.

    The weight is how sharply the part knows its spacing; parts of one picture of the same size compare.
    """
    length = float(np.hypot(*frequency))
    direction = frequency / length
    tried = length * (1 + np.linspace(-1, 1, 9) * 0.5 / max(length * max(picture.shape), 1.0))
    energy = np.array([float((np.abs(_harmonics(picture, direction * one)) ** 2).sum()) for one in tried])
    best = int(np.clip(np.argmax(energy), 1, len(tried) - 2))
    a, b, c = energy[best - 1 : best + 2]
    bend = a - 2 * b + c
    shift = 0.5 * (a - c) / bend if bend < 0 else 0.0
    return float(tried[best] + np.clip(shift, -1, 1) * (tried[1] - tried[0])), max(-float(bend), 0.0)


def _relative_error(picture: FloatArray, frequency: FloatArray) -> float:
    """Standard error of the frequency's length, relative: from its scatter over bands along the lines."""
    along_y = abs(frequency[0]) >= abs(frequency[1])  # lines run about upright: bands are rows
    bands = np.array_split(picture, _BANDS, axis=0 if along_y else 1)
    value, weight = np.array([local_length(band, frequency) for band in bands]).T
    held = weight >= MIN_LOCAL_WEIGHT * weight.max()  # the others hold hardly a line
    if held.sum() < 2:
        return 1.0
    weight, value = weight[held] / weight[held].sum(), value[held]
    effective = 1.0 / float((weight**2).sum())
    spread = np.sqrt(float(weight @ (value - weight @ value) ** 2) / max(effective - 1.0, 1.0))
    return float(spread / np.hypot(*frequency))
