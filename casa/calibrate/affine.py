"""The affine between moves of a stage (um) and shifts of its picture (px), by robust least squares.

shift_px = M move_um + c + d t: M the 2x2 matrix that is wanted, c the offset of the reference picture, d a drift while
it is measured. Weights are Tukey's biweight: a picture in which something else moved does not bend the fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from casa.calibrate.phase import measure_shift
from casa.errors import InputError

FloatArray = NDArray[np.float64]
Picture = NDArray[np.number]


@dataclass(frozen=True, slots=True)
class AffineFit:
    """A fit: matrix, matrix_error (2, 2) px a um; offset (2,) px; drift (2,) px/s; residuals (n, 2) px; weights."""

    matrix: FloatArray
    offset: FloatArray
    drift: FloatArray
    matrix_error: FloatArray
    residuals: FloatArray
    weights: FloatArray


def fit_affine(moves_um: FloatArray, shifts_px: FloatArray, t_s: FloatArray) -> AffineFit:
    """Robust fit of shift = M move + c + d t to (n, 2) moves and shifts at times (n,); n of at least 6.

    Raises
    ------
    InputError : too few moves, or all along one line.
    """
    n = len(moves_um)
    design = np.column_stack([moves_um, np.ones(n), t_s - t_s.mean()])
    scale = np.maximum(np.abs(design).max(axis=0), 1e-12)
    if n < 6 or np.linalg.matrix_rank(design / scale, tol=1e-6) < 4:
        raise InputError(f"{n} moves do not tell the stage's two directions apart: six or more, along x and y, do")
    weights = np.ones(n)
    for _ in range(30):
        root = np.sqrt(weights)[:, None]
        solution, *_ = np.linalg.lstsq(design / scale * root, shifts_px * root, rcond=None)
        residuals = shifts_px - design / scale @ solution
        distance = np.hypot(*residuals.T)
        spread = max(float(np.median(distance)) / 1.1774, 1e-4)  # of a two-dimensional normal
        new = np.clip(1 - (distance / (4.685 * 1.5 * spread)) ** 2, 0, None) ** 2
        if np.allclose(new, weights, atol=1e-4):
            break
        weights = new
    solution = solution / scale[:, None]
    freedom = max(float(weights.sum()) - 4, 1.0)
    variance = (weights[:, None] * residuals**2).sum(axis=0) / freedom
    covariance = np.linalg.inv(design.T @ (design * weights[:, None]))
    error = np.sqrt(np.outer(variance, np.diag(covariance)[:2]))
    return AffineFit(solution[:2].T, solution[2], solution[3], error, residuals, weights)


def fit_by_hand(pictures: list[Picture], moves_um: FloatArray) -> AffineFit:
    """The affine from pictures taken at moves (n, 2) um along x and y from the first one (its move is 0, 0).

    For stages without a motor, whose knobs have a scale: pictures and what the knobs said are all that is needed.

    Raises
    ------
    InputError : too few moves, all along one line, or pictures with nothing in common.
    """
    if len(pictures) != len(moves_um) or len(pictures) < 4:
        raise InputError(f"{len(pictures)} pictures: at least four are needed, each with its move, at two directions")
    shifts = [measure_shift(pictures[0], picture) for picture in pictures[1:]]
    px = np.array([[0.0, 0.0], *((s.dx_px, s.dy_px) for s in shifts)])
    design = np.column_stack([moves_um, np.ones(len(moves_um))])
    if np.linalg.matrix_rank(design / np.maximum(np.abs(design).max(axis=0), 1e-12), tol=1e-6) < 3:
        raise InputError("the moves lie along one line: move along x, and along y too")
    solution, *_ = np.linalg.lstsq(design, px, rcond=None)
    residuals = px - design @ solution
    variance = (residuals**2).sum(axis=0) / max(len(px) - 3, 1)
    error = np.sqrt(np.outer(variance, np.diag(np.linalg.inv(design.T @ design))[:2]))
    matrix = np.asarray(solution[:2].T, np.float64)
    return AffineFit(matrix, solution[2], np.zeros(2), error, residuals, np.ones(len(px)))
