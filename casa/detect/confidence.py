"""Making a confidence mean what it says: of the detections at 0.7, seven in ten are sperm.

YOLOv8's scores are trained towards the overlap of box and truth and come out low; a tracker's thresholds need
probabilities. Platt scaling (two numbers on the logit) changes no order, and so no average precision.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from casa.detect.augment import LabelledImage
from casa.detect.detector import Detector, Found
from casa.errors import CasaError


def detections_on_heads(found: Found, truth_xyxy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which detections (best first) are the first whose centre lies in a true box nearest to it; (n,) bool."""
    xyxy, _, _ = found
    right = np.zeros(len(xyxy), bool)
    if not len(truth_xyxy):
        return right
    centre = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    inside = ((centre[:, None] > truth_xyxy[None, :, :2]) & (centre[:, None] < truth_xyxy[None, :, 2:])).all(axis=2)
    true_centre = (truth_xyxy[:, :2] + truth_xyxy[:, 2:]) / 2
    distance = np.where(inside, np.linalg.norm(centre[:, None] - true_centre[None], axis=2), np.inf)
    taken = np.zeros(len(truth_xyxy), bool)
    for row in range(len(xyxy)):
        nearest = int(np.argmin(np.where(taken, np.inf, distance[row])))
        if not taken[nearest] and np.isfinite(distance[row, nearest]):
            taken[nearest] = right[row] = True
    return right


def fit_confidence(detector: Detector, images: Sequence[LabelledImage]) -> tuple[float, float]:
    """Slope and offset of the logit that make confidence a probability on ``images``, by maximum likelihood.

    Raises
    ------
    CasaError : there are no detections, all are right or all wrong, or surer ones are not more often right.
    """
    scores, right = [], []
    for image, found in zip(images, detector.detect([item.image for item in images]), strict=True):
        for class_id in np.unique(found[2]):
            here = found[2] == class_id
            of_class = (found[0][here], found[1][here], found[2][here])
            scores.append(of_class[1].astype(np.float64))
            right.append(detections_on_heads(of_class, image.xyxy[image.class_id == class_id]))
    score = np.clip(np.concatenate([np.empty(0), *scores]), 1e-6, 1 - 1e-6)
    y = np.concatenate([np.empty(0, bool), *right]).astype(np.float64)
    if not len(y) or not 0 < y.mean() < 1:
        raise CasaError("confidence cannot be fitted: there are no detections, or all are right or all wrong")
    x = np.stack([np.log(score / (1 - score)), np.ones(len(score))], axis=1)
    beta = np.array([1.0, 0.0])
    for _ in range(50):  # Newton's method on a convex likelihood
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        curvature = (x * (p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, x.T @ (y - p))
        beta = beta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    if beta[0] <= 0:
        raise CasaError("confidence cannot be fitted: surer detections are not more often right; train for longer")
    return float(beta[0]), float(beta[1])
