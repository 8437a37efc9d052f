"""Counting beads of a certified concentration: what the whole chain of scale, chamber depth and factor comes to.

Beads are blobs of known size, bright or dark: extremes of the Laplacian of a Gaussian of their radius (Lindeberg),
placed to a part of a px by parabolas. Nothing is learnt, so this checks the detector's concentrations by other means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_laplace, maximum_filter

from casa.errors import InputError
from casa.statistics import poisson_interval

FloatArray = NDArray[np.float64]
Picture = NDArray[np.number]

#: A blob stands out from the picture's own unrest by so many standard deviations, and by this part of a clear one.
_SIGMAS, _OF_CLEAR = 6.0, 0.3
#: A picture that scatters by less has nothing in it: every pixel would stand out.
_NO_SPREAD = 1e-3


@dataclass(frozen=True, slots=True)
class Beads:
    """Beads of one picture: xy_px (n, 2) centres; strength (n,); border_px: nearer to the edge none is counted."""

    xy_px: FloatArray
    strength: FloatArray
    border_px: float


def detect_beads(picture: Picture, diameter_px: float) -> Beads:
    """Beads of about a diameter in a gray picture (h, w).

    Raises
    ------
    InputError : the diameter is below 3 px or above a quarter of the picture.
    """
    h, w = picture.shape
    if not 3 <= diameter_px <= min(h, w) / 4:
        raise InputError(f"beads of {diameter_px:.3g} px: expected 3 px to a quarter of the picture; check the scale")
    values = np.asarray(picture, np.float64)
    sigma = diameter_px / (2 * np.sqrt(2))
    response = -gaussian_laplace(values / max(float(values.mean()), 1e-9), sigma, mode="nearest") * sigma**2
    # Beads are all bright or all dark: the stronger tail says which.
    high, low = np.quantile(response, [0.9995, 0.0005])
    if -low > high:
        response = -response
    border = diameter_px / 2
    spread = 1.4826 * float(np.median(np.abs(response - np.median(response))))
    highest = maximum_filter(response, size=2 * round(0.4 * diameter_px) + 1)
    y, x = np.nonzero((response == highest) & (response > _SIGMAS * max(spread, _NO_SPREAD)))
    strength = response[y, x]
    if len(strength):
        clear = float(np.quantile(strength, 0.9)) if len(strength) >= 5 else float(strength.max())
        kept = strength > _OF_CLEAR * clear
        y, x, strength = y[kept], x[kept], strength[kept]
    xy = np.column_stack([x, y]).astype(np.float64)
    for i in range(len(xy)):
        if 0 < x[i] < w - 1 and 0 < y[i] < h - 1:
            xy[i, 0] += _vertex(response[y[i], x[i] - 1 : x[i] + 2])
            xy[i, 1] += _vertex(response[y[i] - 1 : y[i] + 2, x[i]])
    inside = (xy >= border).all(axis=1) & (xy <= np.array([w - 1, h - 1]) - border).all(axis=1)
    return Beads(xy[inside], strength[inside], border)


def _vertex(values: FloatArray) -> float:
    a, b, c = values
    bend = a - 2 * b + c
    return float(np.clip(0.5 * (a - c) / bend, -0.5, 0.5)) if bend < 0 else 0.0


@dataclass(frozen=True, slots=True)
class BeadResult:
    """What `compare_beads` found; concentrations in M/mL, intervals of 95 %.

    count : beads in all fields. concentration and interval : counted, by the Poisson interval and what is not known of
    scale and depth. certified and certified_interval : of the certificate. agrees : whether the difference is within
    what both leave open. deviation_sd : the difference in standard deviations of it. factor and factor_interval : the
    chamber factor (Segre-Silberberg and depth together) that would make the count right.
    """

    count: int
    fields: int
    concentration: float
    interval: tuple[float, float]
    certified: float
    certified_interval: tuple[float, float]
    agrees: bool
    deviation_sd: float
    factor: float
    factor_interval: tuple[float, float]


def compare_beads(
    counts: Sequence[int],
    volume_ml: float,
    certified: float,
    certified_uncertainty: float,
    chamber_factor: float = 1.0,
    volume_uncertainty_percent: float = 0.0,
) -> BeadResult:
    """Compare bead counts of several fields with a certificate.

    Parameters
    ----------
    counts : of each field. volume_ml : of one field. certified, certified_uncertainty : M/mL, about 95 %.
    chamber_factor : multiplies the count, as in a Calibration. volume_uncertainty_percent : of scale and depth, 95 %.

    Raises
    ------
    InputError : no field, no volume, or a certificate that is none.
    """
    if not counts or not volume_ml > 0:
        raise InputError("beads: no field was counted, or its volume is not known: give pictures, scale and depth")
    if not certified > 0 or not certified_uncertainty >= 0:
        raise InputError(f"beads: a certified concentration of {certified:g} +- {certified_uncertainty:g} M/mL is none")
    total = sum(counts)
    one = chamber_factor / (volume_ml * len(counts)) / 1e6
    low, high = poisson_interval(total)
    of_volume = volume_uncertainty_percent / 100
    found = total * one
    down = float(np.hypot((total - low) * one, found * of_volume))
    up = float(np.hypot((high - total) * one, found * of_volume))
    limit = float(np.hypot(down if certified < found else up, certified_uncertainty))
    raw = found / chamber_factor
    factor = certified / raw if raw > 0 else float("nan")
    relative = float(np.hypot(max(down, up) / found, certified_uncertainty / certified)) if found > 0 else float("nan")
    return BeadResult(
        count=total,
        fields=len(counts),
        concentration=found,
        interval=(max(found - down, 0.0), found + up),
        certified=certified,
        certified_interval=(certified - certified_uncertainty, certified + certified_uncertainty),
        agrees=abs(found - certified) <= limit,
        deviation_sd=1.96 * (found - certified) / max(limit, 1e-12),
        factor=factor,
        factor_interval=(factor * (1 - relative), factor * (1 + relative)),
    )
