"""The scale of a picture, from a stage micrometer or a ruled grid of known pitch.

A line pattern of pitch P seen with s_x and s_y um a px has the frequency f = (cos a s_x, sin a s_y) / P, so that
(f_x / s_x)^2 + (f_y / s_y)^2 = 1 / P^2 whatever its direction a: linear in 1 / s_x^2 and 1 / s_y^2. The two rulings f
and g of a grid, at right angles on the slide, add f_x g_x / s_x^2 + f_y g_y / s_y^2 = 0. So a grid gives both scales at
any angle, and so do two pictures of a scale that was turned; one alone gives one scale, and pixels are taken to be
square.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.calibrate.rulings import MIN_LOCAL_WEIGHT, Ruling, find_rulings, flatten, local_length
from casa.errors import CasaError, InputError

#: No stage micrometer is surer than this, in per cent: the manufacturer's tolerance is of this order.
MIN_UNCERTAINTY_PERCENT = 0.05
#: A part of the picture must show so many periods to tell its own spacing.
_LOCAL_PERIODS = 3.0
_PARTS = 3


@dataclass(frozen=True, slots=True)
class ScaleResult:
    """What `measure_scale` found.

    um_per_px_x, um_per_px_y : scale. uncertainty_percent : of either, about 95 %. rotation_deg : of the rulings against
    the picture's axes, -45 to 45, positive from x towards y. square_pixels : True where one direction alone was
    measured and the other was taken to be the same. skew_deg : by how much two rulings of a grid miss the right angle,
    and distortion_percent : largest deviation of a part's spacing from the whole picture's; None where not measured.
    """

    um_per_px_x: float
    um_per_px_y: float
    uncertainty_percent: float
    rotation_deg: float
    square_pixels: bool
    skew_deg: float | None
    distortion_percent: float | None
    rulings: tuple[tuple[Ruling, ...], ...]
    width_px: int
    height_px: int


def read_picture(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """A picture file as gray (h, w), 8 or 16 bit. Raises InputError where it is none."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a picture of a stage micrometer")
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if picture is None or picture.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: cannot be read as a picture; give PNG, TIFF, JPEG or BMP of 8 or 16 bit")
    return picture  # type: ignore[return-value]


def measure_scale(pictures: Sequence[NDArray[np.uint8] | NDArray[np.uint16]], pitch_um: float) -> ScaleResult:
    """The scale from one picture of a grid or a scale, or from two of a scale turned by about 90 degrees between them.

    Parameters
    ----------
    pictures : one or two, (h, w), of one size. pitch_um : distance of neighbouring lines, centre to centre.

    Raises
    ------
    InputError : no rulings are found, the pictures differ in size, or two pictures show the same direction.
    """
    if not (np.isfinite(pitch_um) and pitch_um > 0):
        raise InputError(f"--pitch-um {pitch_um:g}: expected the distance of two neighbouring lines, in um, above 0")
    if len({picture.shape for picture in pictures}) != 1:
        raise InputError("the pictures differ in size; take both with the same camera settings")
    found = [tuple(find_rulings(np.asarray(picture, np.float64))) for picture in pictures]
    for number, of_picture in enumerate(found, start=1):
        if not of_picture:
            which = f"picture {number}: " if len(found) > 1 else ""
            raise InputError(
                f"{which}no rulings were found; give a picture in focus with at least three evenly spaced lines"
            )
    rulings = [ruling for of_picture in found for ruling in of_picture]
    height_px, width_px = pictures[0].shape
    frequencies = np.array([ruling.frequency for ruling in rulings])
    pairs, start = [], 0
    for of_picture in found:
        if len(of_picture) == 2:
            pairs.append((start, start + 1))
        start += len(of_picture)
    if len(pictures) == 2 and not pairs and not _differ(frequencies):
        raise InputError("both pictures show lines of about the same direction; turn the micrometer by 90 degrees")
    s_x, s_y = _solve(frequencies, pairs, pitch_um)
    errors = np.array([ruling.uncertainty for ruling in rulings])
    error = max(MIN_UNCERTAINTY_PERCENT, 2e2 * _propagated(frequencies, errors, pairs, pitch_um, (s_x, s_y)))
    first = frequencies[0] * pitch_um / np.array([s_x, s_y])
    grid = next((one for one in found if len(one) == 2), None)
    skew = None
    if grid is not None:
        a, b = (np.array(one.frequency) / np.array([s_x, s_y]) for one in grid)
        skew = float(np.rad2deg(np.arcsin(np.clip(a @ b / np.hypot(*a) / np.hypot(*b), -1, 1))))
    deviations = [
        _distortion(np.asarray(picture, np.float64), ruling)
        for picture, of_picture in zip(pictures, found, strict=True)
        for ruling in of_picture
    ]
    measured = [one for one in deviations if one is not None]
    return ScaleResult(
        um_per_px_x=s_x,
        um_per_px_y=s_y,
        uncertainty_percent=error,
        rotation_deg=(float(np.rad2deg(np.arctan2(first[1], first[0]))) + 45) % 90 - 45,
        square_pixels=not pairs and not _differ(frequencies),
        skew_deg=skew,
        distortion_percent=max(measured) if measured else None,
        rulings=tuple(found),
        width_px=width_px,
        height_px=height_px,
    )


def _differ(frequencies: NDArray[np.float64]) -> bool:
    """Whether rulings of several pictures lie in directions different enough to tell the two scales apart."""
    unit = frequencies / np.hypot(frequencies[:, 0], frequencies[:, 1])[:, None]
    return bool(np.ptp(unit[:, 0] ** 2) > 0.5)  # the scales are solved from the squares of the components


def _solve(frequencies: NDArray[np.float64], pairs: Sequence[tuple[int, int]], pitch_um: float) -> tuple[float, float]:
    """(s_x, s_y) um a px from the rulings' frequencies; ``pairs`` are those that are at right angles on the slide."""
    if not pairs and not _differ(frequencies):
        scale = float(np.mean(np.hypot(frequencies[:, 0], frequencies[:, 1]))) * pitch_um
        return scale, scale
    right_angles = [frequencies[a] * frequencies[b] for a, b in pairs]
    equations = np.vstack([frequencies**2, *right_angles])
    wanted = np.concatenate([np.full(len(frequencies), pitch_um**-2.0), np.zeros(len(right_angles))])
    inverse, *_ = np.linalg.lstsq(equations, wanted, rcond=None)
    if (inverse <= 0).any():
        raise InputError("the rulings fit no scale; give a picture in focus, with the micrometer lying flat")
    return float(inverse[0] ** -0.5), float(inverse[1] ** -0.5)


def _propagated(
    frequencies: NDArray[np.float64],
    errors: NDArray[np.float64],
    pairs: Sequence[tuple[int, int]],
    pitch_um: float,
    scale: tuple[float, float],
) -> float:
    """Relative standard error of the scale from those of the frequencies, the larger of x and y."""
    total = np.zeros(2)
    for number, error in enumerate(errors):
        moved = frequencies.copy()
        moved[number] *= 1 + error
        total += (np.array(_solve(moved, pairs, pitch_um)) / np.array(scale) - 1) ** 2
    return float(np.sqrt(total.max()))


def _distortion(picture: NDArray[np.float64], ruling: Ruling) -> float | None:
    """Largest deviation of the spacing in a part (a ninth) of the picture from the whole picture's, in per cent."""
    frequency = np.array(ruling.frequency)
    flat = flatten(picture)
    parts = [part for row in np.array_split(flat, _PARTS, axis=0) for part in np.array_split(row, _PARTS, axis=1)]
    if min(parts[0].shape) * float(np.hypot(*frequency)) < _LOCAL_PERIODS:
        return None
    length, weight = np.array([local_length(part, frequency) for part in parts]).T
    held = weight >= MIN_LOCAL_WEIGHT * weight.max()
    return float(np.abs(length[held] / np.hypot(*frequency) - 1).max() * 100)


def draw_rulings(picture: NDArray[np.uint8] | NDArray[np.uint16], rulings: Sequence[Ruling]) -> NDArray[np.uint8]:
    """The picture (h, w, 3) RGB with every line that was found drawn on it."""
    white = 255.0 / max(float(picture.max()), 1.0) if picture.dtype == np.uint16 else 1.0
    canvas = np.repeat((picture * white).astype(np.uint8)[..., None], 3, axis=2)
    height, width = picture.shape
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    reach = float(np.hypot(width, height))
    for ruling, colour in zip(rulings, ((230, 90, 20), (20, 120, 230)), strict=False):
        frequency = np.array(ruling.frequency)
        length = float(np.hypot(*frequency))
        unit = frequency / length
        along = np.array([-unit[1], unit[0]]) * reach
        n = int(reach / 2 * length) + 1
        for number in range(-n, n + 1):
            point = centre + unit * (number - ruling.phase) / length
            a, b = ((point + end) * 16 for end in (along, -along))
            cv2.line(canvas, (round(a[0]), round(a[1])), (round(b[0]), round(b[1])), colour, 1, cv2.LINE_AA, 4)
    return canvas


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write an RGB picture; the name's ending says how. Raises CasaError where that fails."""
    try:
        written = cv2.imwrite(str(path), picture[..., ::-1])
    except cv2.error:
        written = False
    if not written:
        raise CasaError(f"{path}: cannot be written; give a name that ends in .png, in a folder that exists")
