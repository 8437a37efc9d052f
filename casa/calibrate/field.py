"""What camera and light do over the field: flat field, vignetting, dark frame, bad pixels, noise, range, blur."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter, median_filter

from casa.errors import InputError

FloatArray = NDArray[np.float64]
Picture = NDArray[np.number]

#: How fast a head is taken to swim for the blur of its exposure, um/s.
SWIMMER_UM_S = 100.0
#: Fewer pictures do not take swimming cells out of the field.
MIN_FRAMES = 8
#: A pixel that is off by more than this many standard deviations of its neighbourhood's is hot or dead.
_BAD_SIGMA = 8.0
#: A dark picture is darker than this part of white; a lit one brighter than _LIT.
_DARK, _LIT = 0.15, 0.02
#: Gray levels away from black and white that count as cut off.
_CUT_LEVELS = 1
#: No camera is noisier than this part of white.
_UNREST = 0.08


@dataclass(frozen=True, slots=True)
class FieldResult:
    """What `measure_field` found.

    flat (h, w) float32: light at each pixel by the mean, without dirt and noise. dark (h, w) float32 or None: gray
    level without light. vignetting_percent : how much darker the darkest corner is than the brightest part;
    unevenness_percent : sd of the flat field. bad_pixels (n, 2) int64: x, y of hot and dead pixels.
    level : mean gray level, as a fraction of white. clipped_low_percent, clipped_high_percent : of pixels cut off.
    noise_levels : sd from frame to frame, gray levels. read_noise_levels, electrons_per_level : by photon transfer;
    None where the pictures do not tell. dynamic_range_stops : from the noise in the dark up to white, in powers of two.
    still_percent : of pixels that did not change beyond noise, i.e. without swimmers. frames : how many pictures.
    """

    flat: NDArray[np.float32]
    dark: NDArray[np.float32] | None
    vignetting_percent: float
    unevenness_percent: float
    bad_pixels: NDArray[np.int64]
    level: float
    clipped_low_percent: float
    clipped_high_percent: float
    noise_levels: float
    read_noise_levels: float | None
    electrons_per_level: float | None
    dynamic_range_stops: float
    still_percent: float
    frames: int


def measure_field(
    pictures: Sequence[Picture],
    white_level: int,
    dark: Sequence[Picture] = (),
    brighter: Sequence[Sequence[Picture]] = (),
) -> FieldResult:
    """Light and camera from pictures (h, w) of a cell-free field, or many of a field in which cells swim.

    Parameters
    ----------
    pictures : at least `MIN_FRAMES`, of one exposure; the median over time takes out what moves. dark : without light,
    four or more; brighter : more series of the same field at other exposures, for the photon transfer curve.

    Raises
    ------
    InputError : too few pictures, different sizes, or pictures that are dark, white or moving.
    """
    if len(pictures) < MIN_FRAMES:
        raise InputError(f"{len(pictures)} pictures of the field: {MIN_FRAMES} are needed, more where cells swim")
    if len({picture.shape for picture in (*pictures, *dark)}) != 1 or pictures[0].ndim != 2:
        raise InputError("pictures of the field differ in size; take all with the same camera settings")
    stack = np.stack([np.asarray(picture) for picture in pictures])
    median = np.median(stack, axis=0).astype(np.float64)
    level = float(median.mean()) / white_level
    if level < _LIT:
        raise InputError(f"the field is dark (mean {100 * level:.1f} % of white): switch the lamp on, or expose longer")
    dark_frame, dark_noise, hot = _dark(dark, white_level)
    noise = _temporal_noise(stack)
    still = _still_percent(stack, noise)
    if still < 40 or noise > _UNREST * white_level:
        raise InputError(
            f"the picture moves or flickers ({100 - still:.0f} % of it, by {noise:.0f} levels): "
            "take a cell-free field and a still stage"
        )
    light = median - (0.0 if dark_frame is None else dark_frame)
    smooth = _without_dirt(light)
    flat = smooth / smooth.mean()
    bad = _bad_pixels(median) if dark_frame is None else hot
    read, electrons = _photon_transfer([stack, *(np.stack(list(one)) for one in brighter)], dark_frame, dark_noise)
    low, high = _CUT_LEVELS, white_level - _CUT_LEVELS
    floor = dark_noise if dark_noise is not None else read if read is not None else noise
    return FieldResult(
        flat=flat.astype(np.float32),
        dark=None if dark_frame is None else dark_frame.astype(np.float32),
        vignetting_percent=vignetting_percent(flat),
        unevenness_percent=100 * float(flat.std()),
        bad_pixels=bad,
        level=level,
        clipped_low_percent=100 * float((stack <= low).mean()),
        clipped_high_percent=100 * float((stack >= high).mean()),
        noise_levels=noise,
        read_noise_levels=dark_noise if dark_noise is not None else read,
        electrons_per_level=electrons,
        dynamic_range_stops=float(np.log2(white_level / max(floor, 0.3))),
        still_percent=still,
        frames=len(pictures),
    )


def vignetting_percent(flat: NDArray[np.floating]) -> float:
    """How much darker the darkest corner (an eighth of each side) is than the brightest such part of a flat field."""
    h, w = flat.shape
    a, b = max(h // 8, 1), max(w // 8, 1)
    corners = [flat[:a, :b], flat[:a, -b:], flat[-a:, :b], flat[-a:, -b:]]
    parts = [flat[y : y + a, x : x + b].mean() for y in range(0, h - a + 1, a) for x in range(0, w - b + 1, b)]
    return 100 * (1 - float(min(corner.mean() for corner in corners)) / float(max(parts)))


def motion_blur_um(exposure_ms: float, speed_um_s: float = SWIMMER_UM_S) -> float:
    """How far a head that swims at a speed moves during one exposure, um."""
    return speed_um_s * exposure_ms / 1000


def _without_dirt(light: FloatArray) -> FloatArray:
    """The light without detail: cells, dirt and bad pixels are cut off at their neighbourhood's median first."""
    h, w = light.shape
    size = max(min(h, w) // 24, 3)
    coarse = light[: h - h % size, : w - w % size].reshape(h // size, size, w // size, size)
    coarse = np.median(coarse, axis=(1, 3))
    coarse = np.asarray(gaussian_filter(median_filter(coarse, 3, mode="nearest"), 1.0, mode="nearest"), np.float64)
    n_rows, n_columns = h // size, w // size
    y = np.clip((np.arange(h) + 0.5) / size - 0.5, 0, n_rows - 1)
    x = np.clip((np.arange(w) + 0.5) / size - 0.5, 0, n_columns - 1)
    rows = np.stack([np.interp(y, np.arange(n_rows), column) for column in coarse.T], axis=1)
    return np.maximum(np.stack([np.interp(x, np.arange(n_columns), row) for row in rows]), 1e-6)


def _dark(dark: Sequence[Picture], white_level: int) -> tuple[FloatArray | None, float | None, NDArray[np.int64]]:
    """(dark frame, its noise from frame to frame, hot pixels); (None, None, none) without dark pictures."""
    if not dark:
        return None, None, np.empty((0, 2), np.int64)
    if len(dark) < 4:
        raise InputError(f"{len(dark)} dark pictures: at least 4 are needed")
    stack = np.stack([np.asarray(picture, np.float64) for picture in dark])
    frame = stack.mean(axis=0)
    if float(np.median(frame)) > _DARK * white_level:
        raise InputError(
            f"the dark pictures are not dark (median {100 * float(np.median(frame)) / white_level:.0f} % of white): "
            "switch the lamp off or cover the camera"
        )
    # Noise that is cut off at black cannot be told.
    noise = _temporal_noise(stack) if float((stack <= 0).mean()) < 0.05 else None
    return frame, noise, _outliers(frame - np.median(frame))


def _bad_pixels(median: FloatArray) -> NDArray[np.int64]:
    """(n, 2) x, y of single pixels that stand out, alone, from their neighbours: optics make nothing that small."""
    step = median - median_filter(median, 3, mode="nearest")
    around = np.ones((3, 3), bool)
    around[1, 1] = False
    alone = np.abs(step) > 3 * maximum_filter(np.abs(step), footprint=around, mode="nearest")
    return _outliers(np.where(alone, step, 0.0), 1.4826 * float(np.median(np.abs(step))))


def _outliers(values: FloatArray, spread: float | None = None) -> NDArray[np.int64]:
    if spread is None:
        spread = 1.4826 * float(np.median(np.abs(values - np.median(values))))
    # Whole gray levels can make the median deviation 0.
    limit = _BAD_SIGMA * max(spread, 0.3)
    y, x = np.nonzero(np.abs(values - np.median(values)) > limit)
    return np.column_stack([x, y]).astype(np.int64)


def _temporal_noise(stack: NDArray[np.number]) -> float:
    """Noise from frame to frame (sd), gray levels: the median over pixels, from differences, so drifts do not count."""
    difference = np.diff(stack.astype(np.float32), axis=0)
    return float(np.sqrt(np.median((difference**2).mean(axis=0)) / 2) / _root_median_chi2(difference.shape[0]))


def _root_median_chi2(n: int) -> float:
    """Root of the median of a mean of n squares of unit normals (Wilson and Hilferty)."""
    return float((1 - 2 / (9 * max(n, 1))) ** 1.5)


def _still_percent(stack: NDArray[np.number], noise: float) -> float:
    difference = stack.astype(np.float32) - np.median(stack, axis=0).astype(np.float32)
    moving = np.sqrt((difference**2).mean(axis=0)) > 3 * max(noise, 0.3)
    return 100 * float(1 - moving.mean())


def _photon_transfer(
    series: Sequence[NDArray[np.number]], dark_frame: FloatArray | None, dark_noise: float | None
) -> tuple[float | None, float | None]:
    """(read noise in gray levels, electrons a gray level) from variance against mean over series and brightness.

    Janesick: variance = read noise^2 + mean / k, k electrons a level. None where means differ by less than a third.
    """
    means, variances = [], []
    for stack in series:
        values = stack.astype(np.float32)
        mean = values.mean(axis=0) - (0.0 if dark_frame is None else dark_frame)
        variance = (np.diff(values, axis=0) ** 2).mean(axis=0) / 2
        edges = np.quantile(mean, np.linspace(0.02, 0.98, 9))
        for low, high in pairwise(edges.tolist()):
            chosen = (mean >= low) & (mean <= high)
            if chosen.sum() >= 200:
                means.append(float(mean[chosen].mean()))
                variances.append(float(np.median(variance[chosen])) / _root_median_chi2(len(values) - 1) ** 2)
    if dark_noise is not None:
        means.append(0.0)
        variances.append(dark_noise**2)
    if len(means) < 4 or max(means) < 1.33 * max(min(means), 1e-9):
        return None, None
    slope, start = np.polyfit(means, np.array(variances) - 1 / 12, 1)  # less the variance of rounding
    if slope <= 0:
        return None, None
    return float(np.sqrt(max(start, 0.0))), float(1 / slope)
